//! The start, stop and status scripts that guides to LVS print, with this program on the PATH as `ipvsadm`.

use std::net::SocketAddr;

use shunt_tests::topology::arms::{Arms, ROUTER, Running};
use shunt_tests::topology::frames::{Packet, Transport, at};
use shunt_tests::topology::shell::Shell;
use shunt_tests::topology::wait_for;

const VIP: &str = "192.0.2.10:80";

/// As such scripts look.
const SCRIPT: &str = r#"#!/bin/sh
# description: start and stop of an LVS director
VIP=192.0.2.10
RIP1=10.1.0.11
RIP2=10.1.0.12

case "$1" in
start)
    echo "starting LVS"
    ipvsadm -C
    ipvsadm -A -t $VIP:80 -s wrr -p 3
    ipvsadm -a -t $VIP:80 -r $RIP1:80 -g -w 1
    ipvsadm -a -t $VIP:80 -r $RIP2:80 -g -w 3
    ipvsadm --set 30 5 60
    ;;
stop)
    echo "stopping LVS"
    ipvsadm -C
    ;;
save)
    ipvsadm-save -n
    ;;
status)
    if ipvsadm -ln | grep -q "^TCP *$VIP:80"; then
        echo "LVS is running"
        ipvsadm -ln
    else
        echo "LVS is stopped"
        exit 3
    fi
    ;;
*)
    echo "usage: $0 {start|stop|status}"
    exit 1
esac
"#;

const FILE: &str = "[[service]]\nname = \"dns\"\nlisten = \"192.0.2.10:53\"\nprotocol = \"udp\"\nreal = [{ address = \"10.1.0.13\" }]\n";

fn connect(arms: &Arms, running: &Running, number: u8) -> u8 {
    let client = SocketAddr::from(([198, 51, 100, number], 40_000));
    let packet = Packet::new(Transport::Tcp("S"), [ROUTER, running.front], client, at(VIP));
    arms.front.send(&packet.bytes());
    arms.back.expect("a client's packet at a real server", |frame| {
        let packet = Packet::read(frame)?;
        (packet.source == client).then_some(packet.to[5])
    })
}

#[test]
fn scripts_of_lvs_guides_run() {
    let arms = Arms::new();
    let running = arms.start(FILE);
    let machine = Shell::of(&arms.lab);
    let script = arms.lab.write("lvs.sh", SCRIPT);
    let script = script.to_str().expect("a path");

    assert_eq!(machine.sh(&[script, "status"]).out, "LVS is stopped\n");
    let said = machine.sh(&[script, "start"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "starting LVS\n", ""));
    running.director.wait_resolved();
    let met: Vec<u8> = (1..=4).map(|number| connect(&arms, &running, number)).collect();
    let of_second = met.iter().filter(|&&real| real == 12).count();
    assert_eq!(of_second, 3, "by weight: {met:?}");

    let said = machine.sh(&[script, "status"]);
    let want = "LVS is running\n\
                IP Virtual Server version 1.2.1 (size=4096)\n\
                Prot LocalAddress:Port Scheduler Flags\n  \
                -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n\
                TCP  192.0.2.10:80 wrr persistent 3\n  \
                -> 10.1.0.11:80                 Route   1      1          0         \n  \
                -> 10.1.0.12:80                 Route   3      3          0         \n";
    assert_eq!((said.code, said.out.as_str()), (Some(0), want), "{said:?}");
    assert_eq!(machine.sh(&["-c", "ipvsadm -L --timeout"]).out, "Timeout (tcp tcpfin udp): 30 5 60\n");
    assert_eq!(machine.sh(&["-c", "ipvsadm -lnc | grep -c SYN_RECV"]).out, "4\n");
    // A template for each client, and one that is extended while its connection lives.
    assert_eq!(machine.sh(&["-c", "ipvsadm -lnc | grep -c 'NONE .*:0 '"]).out, "4\n");
    let line = |name: &str, conns, packets, bytes| {
        format!("{name:<33} {conns:>8} {packets:>8}        0 {bytes:>8}        0\n")
    };
    // A service keeps what its real servers counted, and one that returns to its connections goes on where it was.
    let service = line("TCP  192.0.2.10:80", 4, 4, 200);
    let (first, second) = (line("  -> 10.1.0.11:80", 1, 1, 50), line("  -> 10.1.0.12:80", 3, 3, 150));
    let stats = "ipvsadm -Ln --stats -t 192.0.2.10:80 | tail -n +3";
    let removed = format!("ipvsadm -d -t {VIP} -r 10.1.0.12; {stats}");
    assert_eq!(machine.sh(&["-c", &removed]).out, format!("{service}{first}"));
    let returned = format!("ipvsadm -a -t {VIP} -r 10.1.0.12 -g -w 3; {stats}");
    assert_eq!(machine.sh(&["-c", &returned]).out, format!("{service}{first}{second}"));
    let stats = machine.sh(&["-c", "ipvsadm -Ln --stats; ipvsadm -Z; ipvsadm -Ln --stats"]).out;
    let lines: Vec<&str> = stats.lines().filter(|line| line.contains("10.1.0.12:80")).collect();
    let zeroed = line("  -> 10.1.0.12:80", 0, 0, 0);
    assert_eq!(lines, [second.trim_end_matches('\n'), zeroed.trim_end_matches('\n')]);

    // Rules that were saved bring it back.
    let rules = machine.sh(&[script, "save"]).out;
    arms.lab.write("rules", &rules);
    let rules_file = arms.lab.path("rules");
    assert_eq!(machine.sh(&[script, "stop"]).out, "stopping LVS\n");
    assert_eq!(machine.sh(&["-c", "ipvsadm -Sn"]).out, "");
    let said = machine.sh(&["-c", &format!("ipvsadm-restore < {}", rules_file.display())]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert_eq!(machine.sh(&[script, "save"]).out, rules);
    assert_eq!(machine.sh(&[script, "stop"]).out, "stopping LVS\n");
    assert_eq!(machine.sh(&[script, "status"]).code, Some(3));
    running.director.settled();
}

#[test]
fn a_firewall_mark_of_the_file_leads_to_a_service_of_ipvsadm() {
    let arms = Arms::new();
    let mark = "[[mark]]\nmark = 7\nto = \"192.0.2.0/24\"\nprotocol = \"tcp\"\nport = 80\n";
    let running = arms.start(&format!("{mark}{FILE}"));
    let machine = Shell::of(&arms.lab);
    let said = machine.sh(&["-c", "ipvsadm -A -f 7 -s rr -p 60; ipvsadm -a -f 7 -r 10.1.0.12 -g -w 5"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    running.director.wait_resolved();
    assert_eq!(machine.sh(&["-c", "ipvsadm -A -f 7 -6 -s rr -p 60"]).err, "");
    assert_eq!(connect(&arms, &running, 1), 12);
    let said = machine
        .sh(&["-c", "ipvsadm -Ln -f 7; ipvsadm -Sn | grep -e '-f'; ipvsadm -lnc | sort -r | tail -n 2"]);
    let want = "Prot LocalAddress:Port Scheduler Flags\n  \
                -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n\
                FWM  7 rr persistent 60\n  \
                -> 10.1.0.12:0                  Route   5      1          0         \n\
                -A -f 7 -s rr -p 60\n\
                -a -f 7 -r 10.1.0.12:0 -g -w 5\n\
                -A -f 7 -6 -s rr -p 60\n";
    let rest = said.out.strip_prefix(want).unwrap_or_else(|| panic!("{}", said.out));
    let template = |line: &&str| {
        line.starts_with("IP  ")
            && line.ends_with("NONE        198.51.100.1:0     0.0.0.7:0          10.1.0.12:0")
    };
    assert!(rest.lines().any(|line| template(&line)), "{rest}");
    assert_eq!(machine.sh(&["-c", "ipvsadm -C; ipvsadm -Sn"]).out, "");
}

#[test]
fn the_file_holds_again_after_a_reload() {
    let arms = Arms::new();
    let running = arms.start(FILE);
    let machine = Shell::of(&arms.lab);
    let status = || running.director.status();
    assert_eq!(status().not_in_file, Vec::<String>::new());
    let before = status().generation;
    let said = machine.sh(&[
        "-c",
        "ipvsadm -A -t 192.0.2.10:80 -s rr; ipvsadm -e -u 192.0.2.10:53 -r 10.1.0.13:53 -g -w 7",
    ]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert_eq!(status().generation, before + 2);
    let changed = [
        "~ service \"dns\", real 10.1.0.13:53: weight 1 -> 7",
        "+ service \"tcp-192.0.2.10:80\": tcp 192.0.2.10:80 rr, 0 real servers",
    ];
    assert_eq!(status().not_in_file, changed);
    let told = running.director.command(&arms.lab, &["status"]).out;
    assert!(told.contains("changed by ipvsadm and not in the file"), "{told}");

    let said = running.director.command(&arms.lab, &["reload"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("2 changes by ipvsadm were not in the file"), "{said:?}");
    assert!(
        said.out.contains("weight 7 -> 1") && said.out.contains("- service \"tcp-192.0.2.10:80\""),
        "{said:?}"
    );
    assert_eq!(status().not_in_file, Vec::<String>::new());
    assert_eq!(
        machine.sh(&["-c", "ipvsadm -Sn"]).out,
        "-A -u 192.0.2.10:53 -s wlc\n-a -u 192.0.2.10:53 -r 10.1.0.13:53 -g -w 1\n"
    );
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let arms = Arms::new();
    let running = arms.start(FILE);
    let machine = Shell::of(&arms.lab);
    let rules = || machine.sh(&["-c", "ipvsadm -Sn"]).out;
    let before = (rules(), running.director.status().generation);
    for (command, code, told) in [
        ("-A -t 192.0.2.2:80", 255, "a VIP that is an own address"),
        ("-a -u 192.0.2.10:53 -r 198.51.100.7 -g", 255, "a dr real server behind a router"),
        ("-A -u 192.0.2.10:5060 -p --pe sip", 255, "this director cannot do that yet"),
        ("-a -u 192.0.2.10:53 -r 10.1.0.13", 255, "Destination already exists\n"),
        ("-D -t 192.0.2.10:53", 255, "No such service\n"),
        ("-Ln -t 192.0.2.10:53", 1, "No such service\n"),
        ("--start-daemon master", 255, "does not synchronise its state yet"),
    ] {
        let said = machine.sh(&["-c", &format!("ipvsadm {command}")]);
        assert!(said.code == Some(code) && said.err.contains(told), "{command}: {said:?}");
        assert_eq!((rules(), running.director.status().generation), before, "{command}");
    }
    // Of several only those that cannot be.
    let input = "-A -t 192.0.2.10:80\n-A -t 192.0.2.2:80\n-a -t 192.0.2.10:80 -r 10.1.0.11 -m\n";
    arms.lab.write("rules", input);
    let said = machine.sh(&["-c", &format!("ipvsadm -R < {}", arms.lab.path("rules").display())]);
    assert!(said.code == Some(0) && said.err.contains("own address"), "{said:?}");
    let want =
        "-A -t 192.0.2.10:80 -s wlc\n-a -t 192.0.2.10:80 -r 10.1.0.11:80 -m -w 1\n".to_owned() + &before.0;
    assert_eq!(rules(), want);
}

/// A list is as long as the table, and packets pass while it is written.
#[test]
fn many_connections_are_listed_while_packets_pass() {
    const MANY: u32 = 30_000;
    let mut arms = Arms::new();
    arms.runtime = "connections = 65536".to_owned();
    let service = "[[service]]\nname = \"dns\"\nlisten = \"192.0.2.10:53\"\nprotocol = \"udp\"\nreal = [{ address = \"10.1.0.11\" }]\n";
    let running = arms.start(service);
    let (machine, director) = (Shell::of(&arms.lab), &running.director);
    let send = |number: u32| {
        let [_, high, low, last] = number.to_be_bytes();
        let client = SocketAddr::from(([198, 51, high, low], 1024 + u16::from(last)));
        let macs = [ROUTER, running.front];
        arms.front.send(&Packet::new(Transport::Udp, macs, client, at("192.0.2.10:53")).bytes());
        client
    };
    // A director that waits for its CPU loses packets at the interface: what is missing is sent again.
    wait_for("all connections", || {
        for number in 0..MANY {
            send(number);
            if number % 256 == 255 {
                // Asking takes long enough for the interface's buffer to empty.
                let _ = director.status();
            }
        }
        let there = director.settled().workers[0].connections;
        if there == u64::from(MANY) { Ok(()) } else { Err(format!("{there} of {MANY}")) }
    });
    std::thread::scope(|scope| {
        let list = scope.spawn(|| machine.sh(&["-c", "ipvsadm -lnc | wc -l"]));
        let mut passed = 0;
        while !list.is_finished() || passed == 0 {
            let client = send(7);
            arms.back.expect("a packet while connections are listed", |frame| {
                Packet::read(frame).filter(|packet| packet.source == client)
            });
            passed += 1;
        }
        let listed = list.join().expect("a list").out;
        assert_eq!(listed.trim().parse(), Ok(MANY + 2), "{passed} packets passed meanwhile");
    });
}

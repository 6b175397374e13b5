//! `scripts/real-server.sh`: a host becomes a real server for DR and TUN, and is afterwards what it was before.

use std::process::Command;

use shunt_tests::topology::frames::{arp, ip};
use shunt_tests::topology::place::Place;
use shunt_tests::topology::wire::Wire;
use shunt_tests::topology::{Lab, Said};

const ASKER: [u8; 6] = [2, 0, 0, 0, 0, 0x77];
const BROADCAST: [u8; 6] = [0xff; 6];
const RIP: &str = "10.1.0.11";
const VIP: &str = "192.0.2.10";

struct Host {
    lab: Lab,
    place: Place,
    wire: Wire,
}

impl Host {
    fn new() -> Self {
        let (lab, place) = (Lab::new(), Place::new());
        place.cable(&lab, ["asker", "eth0"]);
        place.ip("address add 10.1.0.11/24 dev eth0\naddress add 2001:db8:1::11/64 dev eth0 nodad");
        let wire = Wire::open("asker");
        Self { lab, place, wire }
    }

    /// Runs a program in the host's namespace.
    fn run(&self, program: &str, words: &[&str]) -> Said {
        let mut command = Command::new(program);
        command.args(words);
        self.place.run(move || {
            let output = command.output().expect("the program");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
        })
    }

    fn script(&self, command: &str, words: &[&str]) -> Said {
        let state = self.lab.path("state").display().to_string();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/real-server.sh");
        self.run(script, &[&[command, "--state", &state], words].concat())
    }

    fn done(&self, command: &str, words: &[&str]) -> String {
        let said = self.script(command, words);
        assert_eq!(said.code, Some(0), "{command} {words:?}: {}{}", said.out, said.err);
        said.out
    }

    /// All that the script may change.
    fn facts(&self) -> String {
        let line = "ip -o address show | awk '{ print $2, $4 }'; ip -o link show | awk '{ print $2, $3 }'
            grep -H . /proc/sys/net/ipv4/conf/*/arp_ignore /proc/sys/net/ipv4/conf/*/arp_announce /proc/sys/net/ipv4/conf/*/rp_filter";
        self.run("sh", &["-c", line]).out
    }

    /// Whether the host answers ARP for the VIP. It is asked for its own address afterwards, for which it answers in any case.
    fn answers_for_the_vip(&self) -> bool {
        for address in [VIP, RIP] {
            self.wire.send(&arp(1, [ASKER, BROADCAST], (ASKER, ip("10.1.0.77")), ([0; 6], ip(address))));
        }
        let mut answered = false;
        self.wire.expect("an answer for the host's own address", |frame| {
            let answer = frame.get(20..22) == Some(&[0, 2]) && frame[..6] == ASKER;
            answered |= answer && frame[28..32] == [192, 0, 2, 10];
            (answer && frame[28..32] == [10, 1, 0, 11]).then_some(())
        });
        answered
    }
}

#[test]
fn a_host_is_silent_about_the_vip_until_stop_puts_all_back() {
    let host = Host::new();
    host.run("sysctl", &["-qw", "net.ipv4.conf.all.arp_announce=1"]);
    let before = host.facts();
    host.place.ip("address add 192.0.2.10/32 dev lo");
    assert!(host.answers_for_the_vip(), "this is what the script is for");
    host.place.ip("address del 192.0.2.10/32 dev lo");

    assert_eq!(host.script("status", &[VIP]).code, Some(1));
    for _ in 0..2 {
        host.done("start", &[VIP, "2001:DB8:F:0::10"]);
        assert!(!host.answers_for_the_vip());
    }
    host.done("start", &["192.0.2.11"]);
    let status = host.done("status", &[]);
    assert_eq!(status.matches("  ok    ").count(), 5, "{status}");
    host.done("stop", &["2001:db8:f::10", "192.0.2.11"]);
    host.done("status", &[VIP]);
    assert_eq!(host.script("status", &["192.0.2.11"]).code, Some(1));
    host.run("sysctl", &["-qw", "net.ipv4.conf.all.arp_ignore=0"]);
    let status = host.script("status", &[VIP]);
    assert_eq!(status.code, Some(1), "{}", status.out);
    assert!(status.out.contains("FAIL  eth0 does not answer ARP for it"), "{}", status.out);
    host.done("start", &[VIP]);
    for _ in 0..2 {
        host.done("stop", &[]);
        assert_eq!(host.facts(), before);
    }
}

#[test]
fn what_others_have_set_is_left_alone() {
    let host = Host::new();
    host.place.ip("address add 192.0.2.11/32 dev lo");
    let before = host.facts();
    host.done("start", &[VIP, "192.0.2.11"]);
    host.run("sysctl", &["-qw", "net.ipv4.conf.all.arp_announce=1"]);
    let said = host.done("stop", &[]);
    assert!(said.contains("net/ipv4/conf/all/arp_announce is 1 now"), "{said}");
    host.run("sysctl", &["-qw", "net.ipv4.conf.all.arp_announce=0"]);
    assert_eq!(host.facts(), before, "the VIP that was there stays");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_changed() {
    let host = Host::new();
    host.place.ip("address add 192.0.2.12/24 dev lo");
    let before = host.facts();
    for (words, code, told) in [
        (&[RIP][..], 1, "ip address del 10.1.0.11/24 dev eth0"),
        (&[VIP, "192.0.2.12"], 1, "ip address del 192.0.2.12/24 dev lo"),
        (&["192.0.2.0/24"], 2, "leave the length out"),
        (&["192.0.2"], 2, "'192.0.2' is no IPv4 or IPv6 address"),
        (&["2001:db8::g"], 2, "'2001:db8::g' is no IPv4 or IPv6 address"),
        (&["fe80::10"], 2, "'fe80::10' cannot be a VIP"),
        (&["224.0.0.18"], 2, "'224.0.0.18' cannot be a VIP"),
        (&["--tunnel", "vxlan", VIP], 2, "ipip, gre and gue:PORT are known"),
        (&["--tunnel", "ipip", "--decapsulate", "/nowhere/decapsulate", VIP], 2, "there is no such program"),
        (&[], 2, "start takes at least one VIP"),
    ] {
        let said = host.script("start", words);
        assert_eq!(said.code, Some(code), "{words:?}: {}{}", said.out, said.err);
        assert!(said.err.contains(told), "{words:?}: {}", said.err);
        assert_eq!(said.err.lines().count(), 1, "{words:?}: {}", said.err);
        assert_eq!(host.facts(), before, "{words:?}");
    }
    host.run("sysctl", &["-qw", "net.ipv4.conf.eth0.arp_ignore=3"]);
    let said = host.script("start", &[VIP]);
    assert!(said.err.contains("sysctl -w net.ipv4.conf.eth0.arp_ignore=1"), "{}", said.err);
    assert_eq!(said.code, Some(1));
}

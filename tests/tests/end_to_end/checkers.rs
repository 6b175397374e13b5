//! What keepalived's checkers make of faulty real servers, and what shunt does that reads the same file: both ask the same servers, which
//! are well, ill, and well again.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shunt::api::Status;
use shunt::api::status::RealState;
use shunt_tests::topology::checkers::Checkers;
use shunt_tests::topology::director::Director;
use shunt_tests::topology::place::Place;
use shunt_tests::topology::{Lab, wait_for};

const REALS: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 100);
const SHUNT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const KEEPALIVED: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 50);
/// The port of the first case.
const PORT: u16 = 20_000;
/// What `retry` of all checkers is.
const RETRY: usize = 2;
/// Longer than a timeout and `delay_before_retry` of all checkers, shorter than their `delay_loop`.
const RETRIED: Duration = Duration::from_millis(2_000);

/// How a real server speaks while it is well, and while it is ill.
#[derive(Clone, Copy)]
enum Speaks {
    /// The answer to a request over TCP.
    Web([&'static str; 2]),
    /// The greeting of a mail server.
    Mail([&'static str; 2]),
    /// The answer to a datagram; an empty one is none.
    Datagram([&'static str; 2]),
    /// The code in a DNS answer.
    Dns([u8; 2]),
    /// It does not: what is asked is a file, with the number 0 or 6.
    File,
}
use Speaks::{Datagram, Dns, Mail, Web};

/// A checker, its real server, and the weights that this one has while well and while ill; none: it is taken out.
type Case = (&'static str, Speaks, [Option<u32>; 2]);

const OUT: [Option<u32>; 2] = [Some(9), None];
const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall well\n";
const ILL: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall ill\n";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\nall well\n";

/// `TIMES` are those of all checkers, `FILE` is the file with the number, `SCRIPT` ends with it.
const CASES: &[Case] = &[
    ("HTTP_GET {\nurl {\npath /a\n}\nTIMES\n}", Web([OK, BUSY]), OUT),
    (
        "HTTP_GET {\nurl {\npath /b\nstatus_code 200-204 404\n}\nTIMES\n}",
        Web(["HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 205 Reset\r\n\r\n"]),
        OUT,
    ),
    ("HTTP_GET {\nurl {\npath /c?d=1\nregex \"w[e]ll\"\n}\nTIMES\n}", Web([OK, ILL]), OUT),
    (
        "HTTP_GET {\nurl {\npath /\nregex \"^HTTP/1.1 200 OK..Conn\"\nregex_options dotall\n}\nTIMES\n}",
        Web([OK, BUSY]),
        OUT,
    ),
    (
        "HTTP_GET {\nurl {\npath /\nregex \"one.two\"\n}\nTIMES\n}",
        Web(["HTTP/1.1 200 OK\r\n\r\none two", "HTTP/1.1 200 OK\r\n\r\none\ntwo"]),
        OUT,
    ),
    (
        "HTTP_GET {\nurl {\npath /\nregex \"^TWO.three\"\nregex_options caseless multiline dotall\n}\nTIMES\n}",
        Web(["HTTP/1.1 200 OK\r\n\r\none\ntwo\nthree", "HTTP/1.1 200 OK\r\n\r\none two\nthree"]),
        OUT,
    ),
    ("HTTP_GET {\nurl {\npath /\nregex \"ill\"\nregex_no_match\n}\nTIMES\n}", Web([OK, ILL]), OUT),
    (
        "HTTP_GET {\nurl {\npath /\nregex \"well\"\nregex_min_offset 30\nregex_max_offset 42\n}\nTIMES\n}",
        Web([
            "HTTP/1.1 200 OK\r\n\r\nwell, quite well",
            "HTTP/1.1 200 OK\r\n\r\nwell, and no more, but as good as well",
        ]),
        OUT,
    ),
    ("HTTP_GET {\nurl {\npath /\ndigest 36059628abb220b1e7c5b5095d3b96f5\n}\nTIMES\n}", Web([OK, ILL]), OUT),
    ("HTTP_GET {\nurl {\npath /\nvirtualhost a.example.org\n}\nTIMES\n}", Web([OK, BUSY]), OUT),
    (
        "HTTP_GET {\nurl {\npath /\n}\nvirtualhost b.example.org\nhttp_protocol 1.1\nTIMES\n}",
        Web([OK, ""]),
        OUT,
    ),
    ("SMTP_CHECK {\nhelo_name director.example.org\nTIMES\n}", Mail(["220 here\r\n", "421 busy\r\n"]), OUT),
    ("DNS_CHECK {\ntype MX\nname www.example.org\nTIMES\n}", Dns([0, 2]), OUT),
    ("DNS_CHECK {\nTIMES\n}", Dns([0, 3]), OUT),
    ("UDP_CHECK {\npayload 01 02 a\nrequire_reply 6f xB\nTIMES\n}", Datagram(["ok!", "no!"]), OUT),
    ("UDP_CHECK {\npayload 0102\nrequire_reply 6f6b21\nTIMES\n}", Datagram(["ok", "of"]), OUT),
    ("UDP_CHECK {\nrequire_reply\nTIMES\n}", Datagram(["ok", ""]), OUT),
    ("MISC_CHECK {\nmisc_path SCRIPT\nTIMES\n}", Speaks::File, OUT),
    ("MISC_CHECK {\nmisc_path SCRIPT\nmisc_dynamic\nTIMES\n}", Speaks::File, [Some(9), Some(4)]),
    ("FILE_CHECK {\ntrack_file number\nweight 2\n}", Speaks::File, [Some(9), Some(21)]),
    ("FILE_CHECK {\ntrack_file number\nweight 0\n}", Speaks::File, OUT),
];

/// A virtual server for each case.
fn keepalived_conf(file: &Path, script: &Path) -> String {
    let mut text = format!(
        "global_defs {{\nscript_user root\nenable_script_security\n}}\ntrack_file number {{\nfile \"{}\"\nweight 1\n}}\n",
        file.display()
    );
    for ((checker, speaks, _), port) in CASES.iter().zip(PORT..) {
        let protocol = if matches!(speaks, Datagram(_) | Dns(_)) { "UDP" } else { "TCP" };
        let times = "connect_timeout 0.5\nretry 2\ndelay_before_retry 0.5";
        let checker = checker.replace("TIMES", times).replace("SCRIPT", &script.display().to_string());
        text += &format!(
            "virtual_server 192.0.2.10 {port} {{\ndelay_loop 3\nwarmup 0\nlvs_sched rr\nlvs_method NAT\nprotocol {protocol}\n\
             real_server {REALS} {port} {{\nweight 9\n{checker}\n}}\n}}\n"
        );
    }
    text
}

/// What a real server heard.
#[derive(Clone, Debug)]
struct Heard {
    port: u16,
    from: IpAddr,
    at: Instant,
    while_ill: bool,
    /// Of HTTP the path and the host, of DNS all but the identifier.
    what: String,
}

/// All real servers: whether they are ill, and what they heard.
#[derive(Clone, Default)]
struct Servers {
    ill: Arc<AtomicBool>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Servers {
    /// Starts the one of a case in the calling thread's namespace.
    fn start(&self, port: u16, speaks: Speaks) {
        let this = self.clone();
        match speaks {
            Web(answers) => serve(port, move |stream| this.web(port, answers, stream)),
            Mail(greetings) => serve(port, move |stream| this.mail(port, greetings, stream)),
            Datagram(answers) => answer(port, move |asked, from| {
                let ill = this.note(port, from, format!("{asked:02x?}"));
                answers[usize::from(ill)].into()
            }),
            Dns(codes) => answer(port, move |asked, from| {
                let ill = this.note(port, from, format!("{:02x?}", &asked[2..]));
                let mut answer = asked.to_vec();
                answer[2] |= 0x80;
                answer[3] |= codes[usize::from(ill)];
                answer
            }),
            Speaks::File => {}
        }
    }

    /// Notes what was heard; whether the real server is ill.
    fn note(&self, port: u16, from: IpAddr, what: String) -> bool {
        let while_ill = self.ill.load(Ordering::Relaxed);
        self.heard.lock().unwrap().push(Heard { port, from, at: Instant::now(), while_ill, what });
        while_ill
    }

    fn web(&self, port: u16, answers: [&str; 2], mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let mut what = lines.next().unwrap_or(Ok(String::new()))?.replace("HTTP/1.0", "HTTP/1.1");
        for line in lines {
            let line = line?.to_lowercase();
            if line.is_empty() {
                break;
            }
            what +=
                line.strip_prefix("host: ").map(|host| format!(" of {host}")).as_deref().unwrap_or_default();
        }
        let ill = self.note(port, stream.peer_addr()?.ip(), what);
        stream.write_all(answers[usize::from(ill)].as_bytes())
    }

    fn mail(&self, port: u16, greetings: [&str; 2], mut stream: TcpStream) -> std::io::Result<()> {
        let ill = self.note(port, stream.peer_addr()?.ip(), "open".to_owned());
        stream.write_all(greetings[usize::from(ill)].as_bytes())?;
        for line in BufReader::new(stream.try_clone()?).lines() {
            let line = line?;
            if !ill {
                self.note(port, stream.peer_addr()?.ip(), line.clone());
            }
            stream.write_all(if line == "QUIT" { b"221 bye\r\n" } else { b"250 yes\r\n" })?;
        }
        Ok(())
    }

    /// What somebody said to the real server of a port, each thing once, in order.
    fn said(&self, from: Ipv4Addr, port: u16) -> Vec<String> {
        let mut all = Vec::new();
        for heard in
            self.heard.lock().unwrap().iter().filter(|heard| heard.from == from && heard.port == port)
        {
            if !all.contains(&heard.what) {
                all.push(heard.what.clone());
            }
        }
        all
    }

    /// How long after each other somebody asked the ill real server of a port.
    fn gaps(&self, from: Ipv4Addr, port: u16) -> Vec<Duration> {
        let heard = self.heard.lock().unwrap();
        let ill = heard.iter().filter(|heard| heard.from == from && heard.port == port && heard.while_ill);
        let times: Vec<Instant> = ill.map(|heard| heard.at).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

fn serve(port: u16, mut each: impl FnMut(TcpStream) -> std::io::Result<()> + Send + 'static) {
    let listener = TcpListener::bind((REALS, port)).expect("a listener");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // One that hangs up is over; nobody is asked twice at once.
            let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
            let _ = each(stream);
        }
    });
}

fn answer(port: u16, mut each: impl FnMut(&[u8], IpAddr) -> Vec<u8> + Send + 'static) {
    let socket = UdpSocket::bind((REALS, port)).expect("a socket");
    std::thread::spawn(move || {
        let mut datagram = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut datagram) {
            let answer = each(&datagram[..length], from.ip());
            if !answer.is_empty() {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
}

/// The weight that the real server of a port has in shunt; none while it is down.
fn weight(status: &Status, listen: &str) -> Option<u32> {
    let service = status.services.iter().find(|service| service.listen == listen).expect("its service");
    let real = &service.reals[0];
    (real.state == RealState::Up).then_some(real.weight)
}

/// The director's own file: its NICs, and where the rest stands.
fn configuration(lab: &Lab, keepalived: &Path) -> String {
    format!(
        "{}\n[[nic]]\nname = \"front\"\ndevice = \"af_packet:front\"\naddresses = [\"192.0.2.2/24\"]\n\
         [[nic]]\nname = \"back\"\ndevice = \"af_packet:back\"\naddresses = [\"{SHUNT}/24\"]\n[import]\nkeepalived = \"{}\"\n",
        lab.runtime(1, "connections = 4096"),
        keepalived.display()
    )
}

#[test]
fn checks_say_what_keepaliveds_checkers_say() {
    let (lab, hub, place) = (Lab::new(), Place::new(), Place::new());
    lab.cable(["front", "f0"], 1);
    hub.ip("link set lo up\nlink add link0 type bridge mcast_snooping 0\nlink set link0 up");
    hub.cable(&lab, ["back", "port0"]);
    place.cable_to(&hub, "eth0", "port1");
    hub.ip(&format!(
        "link set port0 master link0\nlink set port1 master link0\naddr add {REALS}/24 dev link0"
    ));
    place.ip(&format!("addr add {KEEPALIVED}/24 dev eth0"));

    let file = lab.write("number", "0\n");
    let script = lab.write("script", &format!("#!/bin/sh\nread number < {}\nexit $number\n", file.display()));
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let text = lab.write("keepalived.conf", &keepalived_conf(&file, &script));
    let servers = Servers::default();
    for ((_, speaks, _), port) in CASES.iter().zip(PORT..) {
        let (servers, speaks) = (servers.clone(), *speaks);
        hub.run(move || servers.start(port, speaks));
    }
    let checkers = Checkers::start(&lab, &place, &text);
    let director = Director::start(&lab, &configuration(&lab, &text));

    for (phase, ill) in [false, true, false].into_iter().enumerate() {
        servers.ill.store(ill, Ordering::Relaxed);
        std::fs::write(&file, if ill { "6\n" } else { "0\n" }).unwrap();
        wait_for(&format!("the weights of phase {phase}"), || {
            let status = director.status();
            let mut different = String::new();
            for ((checker, speaks, weights), port) in CASES.iter().zip(PORT..) {
                let listen = format!("192.0.2.10:{port}");
                let found = [checkers.weight(&listen), weight(&status, &listen)];
                let wanted = weights[usize::from(ill)];
                let asked = [KEEPALIVED, SHUNT].map(|who| !servers.said(who, port).is_empty());
                if found != [wanted; 2] || (!matches!(speaks, Speaks::File) && asked != [true; 2]) {
                    different +=
                        &format!("{checker}: wanted {wanted:?}, keepalived and shunt have {found:?}\n");
                }
            }
            if different.is_empty() { Ok(()) } else { Err(different) }
        });
    }
    for ((checker, speaks, _), port) in CASES.iter().zip(PORT..) {
        let [theirs, ours] = [KEEPALIVED, SHUNT].map(|who| servers.said(who, port));
        assert_eq!(theirs, ours, "{checker}");
        for who in [KEEPALIVED, SHUNT].into_iter().filter(|_| !matches!(speaks, Speaks::File)) {
            let gaps = servers.gaps(who, port);
            // One that was under way when the server fell ill may stand before them.
            let retried = gaps.iter().filter(|gap| **gap < RETRIED).count();
            // keepalived's mail checker tries again while it is down, too.
            let enough = if matches!(speaks, Mail(_)) { retried >= RETRY } else { retried == RETRY };
            assert!(enough, "{checker}, {who}: {gaps:?}");
        }
    }
}

//! What the director itself lacks is no verdict about a real server: every kind of check, with descriptors, ports and CPU time used up.
//!
//! One test, since limits are those of the whole process.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use shunt::health::Lacks;
use shunt::health::check::{Tools, run};
use shunt::health::scripts::Scripts;
use shunt::kernel::ServiceWays;
use shunt_dataplane::id::Protocol;
use shunt_model::health::kind::{CheckKind, Compare, Http, Pattern, Process, QueryType, Tls, Udp};
use shunt_model::health::{Check, Failure, Lack, RealKey, Success};
use shunt_model::script::Script;
use tokio::runtime::Runtime;

fn check(kind: CheckKind, to: SocketAddr, timeout: Duration) -> Check {
    Check {
        kind,
        to,
        way: None,
        from: None,
        interval: Duration::from_secs(6),
        timeout,
        retry_interval: None,
        warmup: Duration::ZERO,
        fall: 1,
        rise: 1,
        reentry: Duration::ZERO,
        alpha: false,
    }
}

fn http(tls: bool) -> CheckKind {
    let tls = tls.then_some(Tls { name: None, verify: true, ca: None });
    CheckKind::Http(Http { path: "/".into(), host: None, status: vec![200..=399], body: None, tls })
}

/// A check of every kind.
fn kinds(file: &std::path::Path) -> Vec<CheckKind> {
    let script = Script { command: vec!["/bin/true".into()], user: None };
    let as_user = Script { user: Some("nobody".into()), ..script.clone() };
    let process = |compare| {
        let command = vec!["/sbin/init".to_owned()];
        CheckKind::Process(Process { command, compare, quorum: 1, quorum_max: None })
    };
    vec![
        CheckKind::Tcp,
        http(false),
        http(true),
        CheckKind::Smtp { helo: None },
        CheckKind::Dns { name: "example.org".into(), query: QueryType(1) },
        CheckKind::Ping,
        CheckKind::Udp(Udp { payload: b"x".to_vec(), max_reply: 255, ..Udp::default() }),
        CheckKind::Script { script, dynamic: false },
        CheckKind::Script { script: as_user, dynamic: false },
        CheckKind::Send { send: "x".into(), expect: Pattern::literal("y") },
        CheckKind::File { path: file.to_owned(), factor: None, missing: None },
        CheckKind::File { path: file.to_owned(), factor: Some(1), missing: Some(0) },
        process(Compare::Name),
        process(Compare::Command),
    ]
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn ask(runtime: &Runtime, tools: &Tools, check: &Check) -> Result<Success, Failure> {
    let listen = SocketAddr::from(([192, 0, 2, 10], 80));
    let key = RealKey { listen, protocol: Protocol::Tcp, address: check.to };
    runtime.block_on(run(Some(&key), check, tools))
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn what_the_director_lacks_is_no_verdict() {
    let lacks = Arc::new(Lacks::default());
    let tools = Tools::new(Scripts::start().unwrap(), ServiceWays::default(), lacks.clone());
    without_descriptors(&tools, &lacks);
    without_ports(&tools);
    without_time(&tools);
}

/// EMFILE, for every kind of check; with descriptors again it is as before.
fn without_descriptors(tools: &Tools, lacks: &Lacks) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    std::fs::write(&file, "up").unwrap();
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = server.local_addr().unwrap();
    let runtime = runtime();
    let tcp = check(CheckKind::Tcp, to, LONG);
    assert_eq!(ask(&runtime, tools, &tcp), Ok(Success::Up));
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 256.min(hard), hard).unwrap();
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    let kinds = kinds(&file);
    let results: Vec<_> =
        kinds.iter().map(|kind| ask(&runtime, tools, &check(kind.clone(), to, LONG))).collect();
    drop(taken);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    let lack = Err(Failure::Lack(Lack::Descriptors));
    for (kind, result) in kinds.iter().zip(&results) {
        // Scripts are started by another process, which has descriptors of its own.
        assert!(*result == lack || matches!(kind, CheckKind::Script { .. }), "{kind:?}: {result:?}");
    }
    assert_eq!(lacks.count(), results.iter().filter(|result| **result == lack).count() as u64);
    assert_eq!(ask(&runtime, tools, &tcp), Ok(Success::Up));
}

/// No port of its own is left, and an address of its own is not there.
fn without_ports(tools: &Tools) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40001").unwrap();
            let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 80)).unwrap();
            let to = server.local_addr().unwrap();
            let runtime = runtime();
            let tcp = check(CheckKind::Tcp, to, LONG);
            assert_eq!(ask(&runtime, tools, &tcp), Ok(Success::Up));
            let mut taken = Vec::new();
            while let Ok(stream) = TcpStream::connect(to) {
                taken.push(stream);
            }
            assert_eq!(ask(&runtime, tools, &tcp), Err(Failure::Lack(Lack::Ports)));
            drop(taken);
            let absent = Check { from: Some((Ipv4Addr::new(192, 0, 2, 77), 0).into()), ..tcp };
            assert_eq!(ask(&runtime, tools, &absent), Err(Failure::Lack(Lack::Ports)));
            // What the other end says is a verdict.
            drop(server);
            assert_eq!(ask(&runtime, tools, &Check { from: None, ..absent }), Err(Failure::Refused));
        });
    });
}

/// The thread is off its CPU for most of the timeout; when it is there a silent server is a silent server.
fn without_time(tools: &Tools) {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = server.local_addr().unwrap();
    let send = CheckKind::Send { send: "x".into(), expect: Pattern::literal("y") };
    let runtime = runtime();
    let ask = |timeout: Duration, held_up: Duration| {
        let check = check(send.clone(), to, timeout);
        runtime.block_on(async {
            tokio::select! {
                biased;
                result = async {
                    let held_up = async {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        std::thread::sleep(held_up);
                    };
                    tokio::join!(run(None, &check, tools), held_up).0
                } => result,
                () = tools.keep_time() => unreachable!(),
            }
        })
    };
    let timeout = Duration::from_millis(1000);
    assert_eq!(ask(timeout, Duration::from_millis(950)), Err(Failure::Lack(Lack::Time)));
    // This machine may be busy itself: some time it is not.
    let silent = (0..20).any(|_| ask(timeout, Duration::ZERO) == Err(Failure::NoAnswer(timeout)));
    assert!(silent, "a silent server is never told");
}

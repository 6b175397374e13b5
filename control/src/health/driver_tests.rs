//! The thread at work, with real sockets on loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use shunt_dataplane::id::Protocol;
use shunt_model::health::{Check, CheckKind};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn check(kind: CheckKind, to: SocketAddr) -> Check {
    Check {
        kind,
        to,
        way: None,
        from: None,
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(5),
        retry_interval: None,
        warmup: Duration::ZERO,
        fall: 2,
        rise: 2,
        reentry: Duration::ZERO,
        alpha: false,
    }
}

fn target(to: SocketAddr) -> Target {
    let listen = SocketAddr::from(([192, 0, 2, 10], 80));
    Target {
        key: RealKey { listen, protocol: Protocol::Tcp, address: to },
        checks: vec![Arc::new(check(CheckKind::Tcp, to))],
        passive: None,
        slow_start: Duration::ZERO,
        group: None,
    }
}

fn start(namespace: Option<Namespace>) -> (Health, Receiver<Change>) {
    let (sender, changes) = mpsc::channel();
    let health = Health::start(namespace, ServiceWays::default(), Arc::default(), move |changes| {
        changes.into_iter().for_each(|change| drop(sender.send(change)))
    })
    .unwrap();
    (health, changes)
}

#[test]
fn death_and_return_are_noticed() {
    let (health, changes) = start(None);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    health.set_targets(vec![target(to), target(other.local_addr().unwrap())]);
    drop(listener);
    let change = changes.recv_timeout(PATIENCE).unwrap();
    assert_eq!((change.key.address, change.verdict.up), (to, false));
    assert_eq!(change.reason, "connection refused (2 times in a row)");
    let listed = health.list();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed.iter().filter(|listed| listed.verdict.up).count(), 1);

    // The same target under another beat is still down.
    let mut slower = target(to);
    Arc::make_mut(&mut slower.checks[0]).interval += Duration::from_millis(10);
    health.set_targets(vec![slower]);
    assert!(!health.list()[0].verdict.up);

    let _again = TcpListener::bind(to).unwrap();
    let change = changes.recv_timeout(PATIENCE).unwrap();
    assert_eq!((change.key.address, change.verdict.up), (to, true));
}

#[test]
fn checks_run_in_their_namespace() {
    let namespace = Namespace::new().unwrap();
    // Loopback is down in a new namespace: what listens here cannot be reached from there.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (health, changes) = start(Some(namespace));
    health.set_targets(vec![target(listener.local_addr().unwrap())]);
    let change = changes.recv_timeout(PATIENCE).unwrap();
    assert!(change.reason.contains("network is unreachable"), "{change}");
}

#[test]
fn dropping_it_ends_checks_that_hang() {
    let (health, _changes) = start(None);
    // A server whose backlog is full: SYNs are dropped.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let to = listener.local_addr().unwrap().as_socket().unwrap();
    let _first = std::net::TcpStream::connect(to).unwrap();
    let mut hanging = target(to);
    Arc::make_mut(&mut hanging.checks[0]).timeout = Duration::from_secs(3_600);
    health.set_targets(vec![hanging]);
    assert_eq!(health.list().len(), 1);
    drop(health);
}

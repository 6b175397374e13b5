//! Checks against servers on loopback that behave in every way.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::thread;

use super::*;

fn ask(kind: CheckKind, to: SocketAddr, timeout: Duration) -> Result<(), Failure> {
    let check = Check { kind, to, interval: Duration::from_secs(6), timeout, fall: 1, rise: 1 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(&check))
}

fn http() -> CheckKind {
    CheckKind::Http { path: "/health?deep=1".into(), host: "www.example.com".into(), status: vec![200..=399] }
}

/// A server for one connection: reads a request, sends these pieces, and closes unless told to hold on.
fn serve(pieces: &[&'static [u8]], hold: bool) -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let pieces = pieces.to_vec();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).unwrap();
        for piece in pieces {
            let _ = stream.write_all(piece);
        }
        if hold {
            // Until the client gives up.
            let _ = stream.read(&mut request[length..]);
        }
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (to, server)
}

fn answer(pieces: &[&'static [u8]], hold: bool, timeout: Duration) -> Result<(), Failure> {
    let (to, server) = serve(pieces, hold);
    let result = ask(http(), to, timeout);
    server.join().unwrap();
    result
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

#[test]
fn tcp_opens_or_is_refused() {
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        assert_eq!(ask(CheckKind::Tcp, to, LONG), Ok(()));
        drop(listener);
        for kind in [CheckKind::Tcp, http()] {
            let refused = ask(kind, to, LONG).unwrap_err();
            assert_eq!(refused.to_string(), "connection refused");
        }
    }
}

#[test]
fn a_full_backlog_is_a_timeout() {
    // One connection fits besides the one being opened, then SYNs are dropped.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let to = listener.local_addr().unwrap().as_socket().unwrap();
    let _first = std::net::TcpStream::connect(to).unwrap();
    let result = ask(CheckKind::Tcp, to, SHORT);
    assert_eq!(result.unwrap_err().to_string(), "timeout after 100ms, no connection");
}

#[test]
fn http_succeeds_and_says_what_it_should() {
    let (to, server) = serve(&[b"HTTP/1.1 204 No Content\r\n\r\n"], false);
    assert_eq!(ask(http(), to, LONG), Ok(()));
    let request = server.join().unwrap().to_lowercase();
    assert!(request.starts_with("get /health?deep=1 http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nhost: www.example.com\r\n"), "{request}");
    assert!(request.contains("\r\nconnection: close\r\n"), "{request}");
    // The head is enough; the body may hang.
    assert_eq!(answer(&[b"HTTP/1.1 301 Moved\r\ncontent-length: 1000000\r\n\r\nab"], true, LONG), Ok(()));
    assert_eq!(answer(&[b"HTTP/1.0 200 OK\r\n", b"a: b\r\n", b"\r\n"], false, LONG), Ok(()));
}

#[test]
fn another_status_is_named() {
    let failure = answer(&[b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"], false, LONG).unwrap_err();
    assert_eq!(failure.to_string(), "HTTP status 503, wanted 200-399");
    let failure = Failure::Status { got: 200, wanted: vec![204..=204, 301..=302] };
    assert_eq!(failure.to_string(), "HTTP status 200, wanted 204, 301-302");
}

#[test]
fn a_slow_head_is_a_timeout() {
    for piece in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nx: y\r\n"] {
        let failure = answer(&[piece], true, SHORT).unwrap_err();
        assert_eq!(failure.to_string(), "timeout after 100ms, no answer");
    }
}

#[test]
fn garbage_is_named() {
    for garbage in [&b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..], &[0xff; 200], b"HTTP/9.9 200 OK\r\n\r\n"] {
        let failure = answer(&[garbage], true, LONG).unwrap_err();
        assert!(failure.to_string().starts_with("not an HTTP answer: "), "{failure}");
    }
}

#[test]
fn an_endless_head_is_not_read_to_its_end() {
    const LINE: &[u8] = &[b'x'; 4096];
    let mut pieces = vec![&b"HTTP/1.1 200 OK\r\na: "[..]];
    pieces.resize(100, LINE);
    let failure = answer(&pieces, false, LONG).unwrap_err();
    assert!(failure.to_string().starts_with("not an HTTP answer: "), "{failure}");
}

#[test]
fn a_closed_connection_is_named() {
    for piece in [&b""[..], b"HTTP/1.1 200"] {
        let failure = answer(&[piece], false, LONG).unwrap_err();
        assert!(failure.to_string().starts_with("connection lost before an answer: "), "{failure}");
    }
}

#[test]
fn a_path_that_cannot_be_asked_for_is_named() {
    let (to, _server) = serve(&[], false);
    let kind = CheckKind::Http { path: "/a b".into(), host: String::new(), status: vec![200..=299] };
    let failure = ask(kind, to, LONG).unwrap_err();
    assert!(failure.to_string().starts_with("no such request can be made: "), "{failure}");
}

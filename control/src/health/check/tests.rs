//! Checks against servers on loopback that behave in every way.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::thread;

use shunt_model::health::kind::{Body, Http, Pattern, QueryType, Search, Udp};
use shunt_model::script::Script;
use shunt_model::secret::Secret;
use socket2::{Domain, Socket, Type};

use super::*;

fn ask(kind: CheckKind, to: SocketAddr, timeout: Duration) -> Result<(), Failure> {
    ask_fully(kind, to, timeout).map(|_success| ())
}

fn ask_fully(kind: CheckKind, to: SocketAddr, timeout: Duration) -> Result<Success, Failure> {
    let check = Check {
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
    };
    let listen = SocketAddr::from(([192, 0, 2, 10], 80));
    let key = RealKey { listen, protocol: shunt_dataplane::id::Protocol::Tcp, address: to };
    let tools = Tools::new(Scripts::start().unwrap(), ServiceWays::default(), Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(Some(&key), &check, &tools))
}

fn http() -> CheckKind {
    CheckKind::Http(asked())
}

fn asked() -> Http {
    Http {
        path: "/health?deep=1".into(),
        host: Some("www.example.com".into()),
        status: vec![200..=399],
        body: None,
        tls: None,
    }
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
        // Taken by one that does not listen: nobody else gets the port, not the check itself either.
        let closed = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        closed.bind(&SocketAddr::new(address, 0).into()).unwrap();
        let to = closed.local_addr().unwrap().as_socket().unwrap();
        for kind in [CheckKind::Tcp, http()] {
            let refused = ask(kind, to, LONG).unwrap_err();
            assert_eq!(refused.to_string(), "connection refused");
        }
    }
}

/// Its port is free at once: the server hears a reset, not a goodbye that the port has to remember for a minute.
#[test]
fn a_check_that_is_over_leaves_no_time_wait() {
    let send = CheckKind::Send { send: Secret::default(), expect: Pattern::literal("220") };
    let smtp = CheckKind::Smtp { helo: None };
    for (kind, says) in [
        (CheckKind::Tcp, &[][..]),
        (http(), &[&b"HTTP/1.1 204 No Content\r\n\r\n"[..]]),
        (smtp, &[b"220 \r\n", b"250 \r\n", b"221 \r\n"]),
        (send, &[b"220 \r\n"]),
    ] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let says = says.to_vec();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for piece in says {
                let _ = stream.write_all(piece);
            }
            stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind())
        });
        assert_eq!(ask(kind.clone(), to, LONG), Ok(()));
        assert_eq!(server.join().unwrap(), Err(io::ErrorKind::ConnectionReset), "{kind}");
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
    let request = server.join().unwrap();
    assert!(
        request.starts_with("GET /health?deep=1 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: shunt/"),
        "{request}"
    );
    assert!(request.ends_with("\r\nConnection: close\r\n\r\n"), "{request}");
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
    for garbage in [&b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..], &[0xff; 200], b"HTTP/1.1 20 OK\r\n\r\n"] {
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
    let kind = CheckKind::Http(Http { path: "/a b".into(), host: None, ..asked() });
    let failure = ask(kind, to, LONG).unwrap_err();
    assert!(failure.to_string().starts_with("no such request can be made: "), "{failure}");
}

#[test]
fn a_body_is_held_against_digest_or_pattern() {
    const ANSWER: &[u8] =
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nall\r\n6\r\n well\n\r\n0\r\n\r\n";
    let ask_for = |body| {
        let (to, server) = serve(&[ANSWER], false);
        let result = ask(CheckKind::Http(Http { body: Some(body), ..asked() }), to, LONG);
        server.join().unwrap();
        result.map_err(|failure| failure.to_string())
    };
    // printf 'all well\n' | md5sum
    let right = u128::from_str_radix("36059628abb220b1e7c5b5095d3b96f5", 16).unwrap().to_be_bytes();
    assert_eq!(ask_for(Body::Digest(right)), Ok(()));
    let digest = [0x5a; 16];
    let wrong = ask_for(Body::Digest(digest)).unwrap_err();
    assert_eq!(
        wrong,
        format!("the body has the digest 36059628abb220b1e7c5b5095d3b96f5, wanted {}", "5a".repeat(16))
    );
    assert_eq!(ask_for(Body::Matches(Pattern::regex("^all +well\n$").unwrap())), Ok(()));
    assert_eq!(
        ask_for(Body::Matches(Pattern::literal("ill"))),
        Err("answer \"all well\", wanted \"ill\"".into())
    );
    // The head of an interim answer is no part of it.
    let search = |pattern, begins, without| {
        let search = Search { pattern: Pattern::regex(pattern).unwrap(), begins, without };
        ask_for(Body::Answer(search))
    };
    let answer = |pattern| search(pattern, 0..=usize::MAX, false);
    assert_eq!(answer("^HTTP/1.1 200 OK\r\ntransfer-.*\r\n\r\nall well\n$"), Ok(()));
    assert_eq!(
        answer("(?-s)Encoding.*well"),
        Err("answer \"all well\", wanted /(?-s)Encoding.*well/ in head or body".into())
    );
    // "HTTP/1.1 200 OK": the second 1 is its eighth byte, an l comes later.
    assert_eq!(search("1", 6..=7, false), Ok(()));
    assert_eq!(
        search("1", 5..=usize::MAX, true).unwrap_err(),
        "answer \"all well\", wanted no /1/ in head or body from byte 5"
    );
    assert_eq!(search("1", 8..=usize::MAX, true), Ok(()));
    assert_eq!(
        search("l", 0..=7, false).unwrap_err(),
        "answer \"all well\", wanted /l/ in head or body from byte 0 to 7"
    );
    assert_eq!(search("l", 0..=7, true), Ok(()));
    assert_eq!(search("l", 1 << 20..=usize::MAX, true), Ok(()));
}

/// Servers whose connection ends in another way than RFC 9112 has it, and bodies that go on and on.
#[test]
fn what_came_counts_however_the_connection_ends() {
    const WELL: &[u8] = b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nall well\n";
    const SHORT_BODY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\nall well\n";
    const CHUNKS: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nall well\n\r\n";
    #[derive(Clone, Copy, Debug)]
    enum End {
        Closes,
        Resets,
        /// Its request unread: the kernel resets it.
        Unasked,
        Holds,
        GoesOn,
    }
    let well = || Some(Body::Matches(Pattern::regex("w[e]ll.").unwrap()));
    let digest = || Some(Body::Digest(0x3605_9628_abb2_20b1_e7c5_b509_5d3b_96f5_u128.to_be_bytes()));
    let without = |text| {
        let search = Search { pattern: Pattern::literal(text), begins: 0..=usize::MAX, without: true };
        Some(Body::Answer(search))
    };
    let middle = "connection lost before an answer: the server closed it in the middle of one";
    let reset = "connection lost before an answer: connection reset by peer";
    for (answer, end, body, words) in [
        (WELL, End::Resets, well(), None),
        (WELL, End::Resets, digest(), None),
        (WELL, End::Resets, without("ill"), None),
        (WELL, End::Unasked, well(), None),
        (WELL, End::Unasked, digest(), None),
        (WELL, End::Unasked, None, None),
        (&WELL[..20], End::Resets, well(), Some(reset)),
        (SHORT_BODY, End::Closes, well(), None),
        (SHORT_BODY, End::Resets, digest(), None),
        (SHORT_BODY, End::Closes, without("ill"), Some(middle)),
        (CHUNKS, End::Closes, well(), None),
        (CHUNKS, End::Closes, Some(Body::Matches(Pattern::literal("ill"))), Some(middle)),
        (CHUNKS, End::Resets, without("ill"), Some(reset)),
        (SHORT_BODY, End::Holds, Some(Body::Matches(Pattern::literal("all"))), None),
        (WELL, End::GoesOn, well(), None),
        (WELL, End::GoesOn, without("all"), Some("answer \"all well")),
    ] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            if !matches!(end, End::Unasked) {
                let _ = stream.read(&mut request).unwrap();
            }
            stream.write_all(answer).unwrap();
            match end {
                End::Closes => {}
                End::Unasked => {
                    // What is unread when it closes makes the difference.
                    let _ = stream.peek(&mut request);
                }
                End::Resets => SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
                End::Holds => while stream.read(&mut request).is_ok_and(|length| length > 0) {},
                End::GoesOn => while stream.write_all(&[b'x'; 4096]).is_ok() {},
            }
        });
        let case = format!("{:?} {end:?} {body:?}", String::from_utf8_lossy(answer));
        let result = ask(CheckKind::Http(Http { body, ..asked() }), to, LONG);
        server.join().unwrap();
        match words {
            None => assert_eq!(result, Ok(()), "{case}"),
            Some(words) => assert!(result.unwrap_err().to_string().starts_with(words), "{case}"),
        }
    }
}

#[test]
fn a_failure_names_the_url() {
    let kind = http();
    let status = Failure::Status { got: 503, wanted: vec![200..=299] };
    assert_eq!(
        kind.failure(&status),
        "GET /health?deep=1 of www.example.com: HTTP status 503, wanted 200-299"
    );
    let host = Http { host: None, path: "/".into(), ..asked() };
    assert_eq!(
        CheckKind::Http(host).failure(&Failure::NoAnswer(SHORT)),
        "GET /: timeout after 100ms, no answer"
    );
    assert_eq!(kind.failure(&Failure::Refused), "connection refused");
    assert_eq!(CheckKind::Tcp.failure(&Failure::Closed("x".into())), "connection lost before an answer: x");
}

#[test]
fn something_is_said_and_something_comes() {
    let send = |send: &str, expect| CheckKind::Send { send: Secret::new(send.into()), expect };
    let (to, server) = serve(&[b"+PO", b"NG\r\n"], true);
    assert_eq!(ask(send("PING\r\n", Pattern::literal("+PONG")), to, LONG), Ok(()));
    assert_eq!(server.join().unwrap(), "PING\r\n");
    let (to, _server) = serve(&[b"-ERR\r\n"], false);
    let failure = ask(send("PING\r\n", Pattern::regex("^.PONG").unwrap()), to, LONG).unwrap_err();
    assert_eq!(failure.to_string(), "answer \"-ERR\", wanted /^.PONG/");
    let (to, _server) = serve(&[b"-ERR\r\n"], true);
    let failure = ask(send("PING\r\n", Pattern::literal("+PONG")), to, SHORT).unwrap_err();
    assert_eq!(failure.to_string(), "timeout after 100ms, no answer");
}

/// A server that answers each datagram with this.
fn answer_datagrams(answer: &'static [u8]) -> (SocketAddr, thread::JoinHandle<Vec<u8>>) {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = socket.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut asked = vec![0; 2048];
        let (length, from) = socket.recv_from(&mut asked).unwrap();
        socket.send_to(answer, from).unwrap();
        asked.truncate(length);
        asked
    });
    (to, server)
}

#[test]
fn a_datagram_is_refused_or_answered() {
    let silent = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = silent.local_addr().unwrap();
    let any = Udp { payload: b"hello".to_vec(), max_reply: 10, ..Udp::default() };
    let wanted =
        Udp { require_reply: true, min_reply: 2, expect: Some(Pattern::literal("ok")), ..any.clone() };
    assert_eq!(ask(CheckKind::Udp(any.clone()), to, SHORT), Ok(()));
    let failure = ask(CheckKind::Udp(wanted.clone()), to, SHORT).unwrap_err();
    assert_eq!(failure.to_string(), "timeout after 100ms, no answer");
    drop(silent);
    for kind in [any, wanted.clone()] {
        assert_eq!(ask(CheckKind::Udp(kind), to, LONG), Err(Failure::Refused));
    }
    for (answer, words) in [
        (&b"all ok"[..], Ok(())),
        (b"not", Err("answer \"not\", wanted \"ok\"")),
        (b"o", Err("answer of 1 bytes, wanted 2 to 10")),
        (b"ok, but much", Err("answer of 12 bytes, wanted 2 to 10")),
    ] {
        let (to, server) = answer_datagrams(answer);
        let got = ask(CheckKind::Udp(wanted.clone()), to, LONG).map_err(|failure| failure.to_string());
        assert_eq!(got, words.map_err(str::to_owned));
        assert_eq!(server.join().unwrap(), b"hello");
    }
}

#[test]
fn a_dns_server_that_answers_nonsense_is_named() {
    let kind = || CheckKind::Dns { name: "example.org".into(), query: QueryType(1) };
    let (to, _server) = answer_datagrams(b"x");
    assert_eq!(ask(kind(), to, LONG).unwrap_err().to_string(), "not a DNS answer: it is too short");
    // Somebody else's answer is not ours.
    let (to, _server) = answer_datagrams(&[0; 20]);
    assert_eq!(ask(kind(), to, SHORT), Err(Failure::NoAnswer(SHORT)));
}

#[test]
fn loopback_answers_pings() {
    for to in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        assert_eq!(ask(CheckKind::Ping, SocketAddr::new(to, 0), LONG), Ok(()), "{to}");
    }
    let nobody = SocketAddr::from(([240, 0, 0, 1], 0));
    assert!(ask(CheckKind::Ping, nobody, SHORT).is_err());
}

#[test]
fn scripts_and_files_speak() {
    let nowhere = SocketAddr::from(([10, 0, 0, 1], 80));
    let script = |text: &str, dynamic, time| {
        let command = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
        let script = Script { command, user: Some("nobody".to_owned()) };
        ask_fully(CheckKind::Script { script, dynamic }, nowhere, time)
    };
    assert_eq!(script("test $SHUNT_REAL:$SHUNT_REAL_PORT = 10.0.0.1:80", false, LONG), Ok(Success::Up));
    assert_eq!(script("test $(id -un) = nobody", false, LONG), Ok(Success::Up));
    assert_eq!(script("exit 12", true, LONG), Ok(Success::Weight(10)));
    assert_eq!(script("exit 1", true, LONG).unwrap_err().to_string(), "script ended with code 1");
    let failure = script("sleep 3600", false, SHORT).unwrap_err();
    assert_eq!(failure.to_string(), "timeout after 100ms, script killed");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let file =
        || ask_fully(CheckKind::File { path: path.clone(), factor: None, missing: None }, nowhere, LONG);
    assert_eq!(file().unwrap_err().to_string(), "file cannot be read: no such file or directory");
    std::fs::write(&path, "12\n").unwrap();
    assert_eq!(file(), Ok(Success::Weight(12)));
}

#[test]
fn a_check_comes_from_where_it_should() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut check = Check {
        kind: CheckKind::Tcp,
        to: listener.local_addr().unwrap(),
        way: None,
        from: Some(SocketAddr::from(([127, 0, 0, 9], 0))),
        interval: LONG,
        timeout: LONG,
        retry_interval: None,
        warmup: Duration::ZERO,
        fall: 1,
        rise: 1,
        reentry: Duration::ZERO,
        alpha: false,
    };
    let key = RealKey { listen: check.to, protocol: shunt_dataplane::id::Protocol::Tcp, address: check.to };
    let tools = Tools::new(Scripts::start().unwrap(), ServiceWays::default(), Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(run(Some(&key), &check, &tools)), Ok(Success::Up));
    assert_eq!(listener.accept().unwrap().1.ip(), IpAddr::from([127, 0, 0, 9]));
    check.from = Some(SocketAddr::from(([192, 0, 2, 77], 0)));
    let failure = runtime.block_on(run(Some(&key), &check, &tools)).unwrap_err();
    assert_eq!(failure, Failure::Lack(Lack::Ports), "the director's own address is not there");
}

#[test]
fn a_file_system_that_hangs_takes_so_many_threads_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let tools = Tools::new(Scripts::start().unwrap(), ServiceWays::default(), Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Opening a pipe that nobody writes hangs.
    runtime.block_on(async {
        let asked = async || {
            let after = Duration::from_millis(10);
            let deadline = Deadline { at: tokio::time::Instant::now() + after, after };
            let place = place(&tools.files, deadline).await?;
            deadline.answer(file::run(&path, None, None, place)).await
        };
        for _ in 0..FILES_READING_MAX {
            assert!(matches!(asked().await, Err(Failure::NoAnswer(_))));
        }
        // Those beyond are not to blame.
        for _ in 0..4 {
            assert_eq!(asked().await, Err(Failure::Lack(Lack::Places)));
        }
    });
    assert_eq!(tools.files.available_permits(), 0);
    runtime.shutdown_background();
    // Lets the readers go.
    drop(std::fs::OpenOptions::new().write(true).open(&path).unwrap());
}

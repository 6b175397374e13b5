//! The thread at work: scripts, a mail server, a web server and a listener.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use shunt_model::notify::{Mail, Url, Webhook, What};
use tokio::sync::broadcast::error::RecvError;

use super::*;

fn event(what: What, text: &str) -> Event {
    super::super::event(what, "web", Some("10.0.0.1:80".into()), text)
}

fn shell(line: String) -> Script {
    Script { command: vec!["/bin/sh".into(), "-c".into(), line], user: None }
}

/// Takes one mail and gives back what the client said.
fn mail_server(listener: &TcpListener) -> Vec<String> {
    let (stream, _) = listener.accept().unwrap();
    let mut answers = stream.try_clone().unwrap();
    let mut say = |text: &str| answers.write_all(text.as_bytes()).unwrap();
    say("220 here\r\n");
    let (mut said, mut in_data) = (Vec::new(), false);
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        match line.as_str() {
            "." => {
                in_data = false;
                say("250 taken\r\n");
            }
            _ if in_data => {}
            "DATA" => {
                in_data = true;
                say("354 go on\r\n");
            }
            "QUIT" => say("221 bye\r\n"),
            line if line.starts_with("EHLO") => say("250-here\r\n250 8BITMIME\r\n"),
            _ => say("250 ok\r\n"),
        }
        said.push(line);
    }
    said
}

/// Takes one request and gives back what it is.
fn web_server(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while !request.ends_with(b"]}") {
        let length = stream.read(&mut piece).unwrap();
        request.extend(&piece[..length]);
    }
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    String::from_utf8(request).unwrap()
}

#[test]
fn everybody_is_told() {
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let [mail_port, web_port] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let mail = Mail {
        server: mail_port.to_string(),
        helo: Some("director.example.org".into()),
        from: "shunt@example.org".into(),
        to: vec!["operators@example.org".into()],
        gather: Duration::ZERO,
        interval: Duration::from_secs(3600),
        timeout: Duration::from_secs(20),
        events: Some(vec![What::RealDown, What::RealUp]),
    };
    let url = Url::parse(&format!("http://{web_port}/hook?a=b")).unwrap();
    let webhook = Webhook { url, verify: true, ca: None, timeout: Duration::from_secs(20) };
    let notifier = Notifier::start(Settings { mail: Some(mail), webhook: Some(webhook) }).unwrap();
    let mut events = notifier.listen(None).events;
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("written");
    let line = |word: &str| shell(format!("echo {word} $SHUNT_EVENT $SHUNT_REAL >> {}", written.display()));

    let [mail, web] = listeners;
    // No mail is about this one.
    notifier.tell(event(What::QuorumDown, "it is lost"), Vec::new());
    assert!(web_server(&web).contains("quorum_down"));
    assert_eq!(events.blocking_recv().unwrap().text, "it is lost");
    notifier.tell(event(What::RealDown, "it is down"), vec![line("one"), line("two")]);
    let posted = web_server(&web);
    assert!(posted.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{posted}");
    assert!(
        posted.contains(r#""what":"real_down","service":"web","real":"10.0.0.1:80","text":"it is down"}]}"#),
        "{posted}"
    );
    let said = mail_server(&mail);
    assert_eq!(
        said[..4],
        [
            "EHLO director.example.org",
            "MAIL FROM:<shunt@example.org>",
            "RCPT TO:<operators@example.org>",
            "DATA"
        ]
    );
    assert!(said.iter().any(|line| line.ends_with("real_down: it is down")), "{said:?}");
    assert_eq!(events.blocking_recv().unwrap().text, "it is down");

    // The second mail waits for the hour, but not when the director stops; its scripts end in order.
    notifier.tell(event(What::RealUp, "it is up"), vec![line("three")]);
    assert!(web_server(&web).contains("it is up"));
    let last = std::thread::spawn(move || mail_server(&mail));
    drop(notifier);
    assert!(last.join().unwrap().iter().any(|line| line.ends_with("real_up: it is up")));
    let written = std::fs::read_to_string(written).unwrap();
    assert_eq!(written, "one real_down 10.0.0.1:80\ntwo real_down 10.0.0.1:80\nthree real_up 10.0.0.1:80\n");
}

#[test]
fn nobody_waits_for_what_hangs() {
    // A mail server and a web server that never answer, and a script that hangs.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = silent.local_addr().unwrap();
    let timeout = Duration::from_secs(3600);
    let mail = Mail {
        server: at.to_string(),
        helo: None,
        from: "a".into(),
        to: vec!["b".into()],
        gather: Duration::ZERO,
        interval: Duration::ZERO,
        timeout,
        events: None,
    };
    let url = Url::parse(&format!("http://{at}/")).unwrap();
    let webhook = Webhook { url, verify: true, ca: None, timeout };
    let notifier = Notifier::start(Settings { mail: Some(mail), webhook: Some(webhook) }).unwrap();
    let mut events = notifier.listen(None).events;
    let begin = Instant::now();
    let count = 3 * TOLD_MAX as u64;
    for _ in 0..count {
        notifier.tell(event(What::RealDown, "x"), vec![shell("sleep 3600".into())]);
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    // Who listens is not kept waiting either, and is told what it missed; more may be missed meanwhile.
    let heard = loop {
        match events.blocking_recv() {
            Err(RecvError::Lagged(_)) => continue,
            heard => break heard,
        }
    };
    assert!(heard.is_ok(), "{heard:?}");
    let Report { told, lost, .. } = loop {
        let report = notifier.report();
        if report.told + report.lost >= count {
            break report;
        }
        std::thread::yield_now();
    };
    assert!(lost > 0 && told > 0, "{told} told, {lost} lost");
    drop(TcpStream::connect(at));
    let begin = Instant::now();
    drop(notifier);
    assert!(begin.elapsed() < STOP_PATIENCE * 2, "{:?}", begin.elapsed());
}

//! Clients that take places and do nothing with them keep nobody else out, and hold up no end.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shunt::api::{CLIENTS_MAX, LISTENERS_MAX, LISTINGS_MAX};

use super::{Api, Paper, paper};

/// Longer than any of this takes, and shorter than the times after which clients are ended that do nothing.
const LONG: Duration = Duration::from_secs(20);

/// A client that has said this much.
fn client(director: &Api, said: &str) -> UnixStream {
    let mut stream = UnixStream::connect(director.socket()).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(said.as_bytes()).unwrap();
    stream
}

fn ask(director: &Api, request: &str) -> UnixStream {
    client(director, &format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n"))
}

/// The head of an answer.
fn head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Operators' commands are answered.
fn commands_are_answered(director: &Api) {
    for command in [&["status"][..], &["drops"], &["reload"], &["explain", "tcp", "1.2.3.4:5", "6.7.8.9:80"]]
    {
        let answer = director.shunt(command);
        assert_eq!(answer.code, 0, "{command:?}: {}", answer.error);
    }
}

/// The director ends although these are there.
fn ends(director: &mut Api) {
    let began = Instant::now();
    assert_eq!(director.shunt(&["stop"]).code, 0);
    director.thread.take().unwrap().join().unwrap();
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
}

#[test]
fn clients_that_ask_nothing_keep_nobody_out() {
    let mut director = Api::plain();
    let mut idle = Vec::new();
    for number in 0..2 * CLIENTS_MAX {
        let said = ["", "GET /v1/status HTTP/1.1\r\nhost:", "GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n"];
        idle.push(client(&director, said[number % 3]));
        if number % 64 == 0 {
            commands_are_answered(&director);
        }
    }
    commands_are_answered(&director);
    ends(&mut director);
}

#[test]
fn half_a_body_keeps_nobody_out() {
    let mut director = Api::plain();
    let half = "POST /v1/ipvsadm HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n[";
    let clients: Vec<_> = (0..2 * CLIENTS_MAX / 3).map(|_| client(&director, half)).collect();
    commands_are_answered(&director);
    ends(&mut director);
    drop(clients);
}

#[test]
fn listeners_keep_no_command_out_and_one_too_many_is_told() {
    let mut director = Api::plain();
    let mut listeners: Vec<_> = (0..LISTENERS_MAX).map(|_| ask(&director, "GET /v1/events")).collect();
    assert!(listeners.iter_mut().all(|listener| head(listener).starts_with("HTTP/1.1 200")));
    commands_are_answered(&director);
    let refused = director.shunt(&["events"]);
    assert_eq!(refused.code, 1);
    let want = "listeners to events: all 32 places are taken: other requests have places of their own: end some of them (`shunt events`)\n";
    assert_eq!(refused.error, want);
    // A place is free as soon as its listener has gone.
    drop(listeners.pop());
    let began = Instant::now();
    let free = || head(&mut ask(&director, "GET /v1/events")).starts_with("HTTP/1.1 200");
    while !free() {
        assert!(began.elapsed() < LONG, "the place is not free");
    }
    ends(&mut director);
    drop(listeners);
}

#[test]
fn readers_that_do_not_read_keep_no_command_out() {
    let mut director = Api::start(|stop| Paper { connections: 1_000_000, ..paper(stop) });
    let readers: Vec<_> = (0..LISTINGS_MAX)
        .map(|_| {
            let mut reader = ask(&director, "GET /v1/connections");
            assert!(head(&mut reader).starts_with("HTTP/1.1 200"));
            reader
        })
        .collect();
    commands_are_answered(&director);
    assert!(
        director.shunt(&["connections"]).error.starts_with("listings of connections: all 8 places are taken")
    );
    ends(&mut director);
    drop(readers);
}

#[test]
fn what_was_given_up_is_not_done_later() {
    let (reloads, hang) = (Arc::<AtomicU32>::default(), Arc::default());
    let director = {
        let (reloads, hang) = (Arc::clone(&reloads), Arc::clone(&hang));
        Api::start(|stop| Paper { reloads, hang, ..paper(stop) })
    };
    let hangs = hang.lock().unwrap();
    let asked = ask(&director, "GET /v1/explain?protocol=tcp&source=1.2.3.4:5&destination=6.7.8.9:80");
    // The API hangs now, or will before it reads these.
    let given_up = [ask(&director, "POST /v1/reload"), ask(&director, "POST /v1/stop")];
    std::thread::sleep(Duration::from_millis(100));
    drop(given_up);
    drop(hangs);
    assert_eq!(director.shunt(&["status"]).code, 0);
    assert_eq!(reloads.load(Ordering::Relaxed), 0);
    drop(asked);
    assert_eq!(director.shunt(&["reload"]).code, 0);
    assert_eq!(reloads.load(Ordering::Relaxed), 1);
}

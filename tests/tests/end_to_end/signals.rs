//! Signals: none ends a director but those that should, from its first moment on.

use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shunt_tests::topology::arms::Arms;
use shunt_tests::topology::director::Director;
use shunt_tests::topology::{Lab, PATIENCE, wait_for};

const SERVICE: &str = r#"
[[service]]
name = "web"
listen = "192.0.2.10:80"
protocol = "tcp"
real = [{ address = "10.1.0.11:80" }]
"#;

/// The kernel's word for which signals a process handles (proc(5)).
fn handles(pid: u32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
    u64::from_str_radix(caught.trim(), 16).unwrap_or_default() & (1 << (signal as u64 - 1)) != 0
}

/// A director at the first moment that it handles signals: it has not read its configuration yet.
fn at_its_beginning() -> (Lab, Director) {
    let lab = Lab::new();
    lab.cable(["back", "b0"], 1);
    let configuration = lab.runtime(1, "connections = 4096")
        + "[[nic]]\nname = \"back\"\ndevice = \"af_packet:back\"\naddresses = [\"10.1.0.1/24\"]\n"
        + SERVICE;
    let director = Director::spawn(&lab, &configuration);
    wait_for("signals that are handled", || {
        handles(director.pid(), Signal::SIGXFSZ).then_some(()).ok_or("not yet")
    });
    (lab, director)
}

#[test]
fn signals_during_the_start_wait_for_its_end() {
    let (_lab, director) = at_its_beginning();
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGPIPE] {
        director.signal(signal);
    }
    let director = director.answering();
    director.wait_logged("reload: no change generation=1 by=SIGHUP");
    director.wait_logged("SIGUSR1: it came 1 times and does nothing: ");
    director.signal(Signal::SIGQUIT);
    assert_eq!(director.ended().code(), Some(0));
}

#[test]
fn an_end_during_the_start_is_clean() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let (lab, director) = at_its_beginning();
        director.signal(signal);
        let began = Instant::now();
        assert_eq!(director.ended().code(), Some(0), "{signal}");
        assert!(began.elapsed() < PATIENCE / 2, "{signal}: {:?}", began.elapsed());
        assert!(!lab.socket().exists());
    }
}

#[test]
fn no_signal_without_a_meaning_ends_a_director() {
    let arms = Arms::new();
    let director = arms.start_unresolved(SERVICE).director;
    let terminal = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGSTOP, Signal::SIGKILL];
    let end = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGXCPU];
    // What a fault of the program's own causes.
    let fault = [
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGABRT,
        Signal::SIGTRAP,
        Signal::SIGSYS,
    ];
    for signal in Signal::iterator() {
        if !terminal.contains(&signal) && !end.contains(&signal) && !fault.contains(&signal) {
            director.signal(signal);
        }
    }
    let (first, last) = (nix::libc::SIGRTMIN(), nix::libc::SIGRTMAX());
    for number in [first, last] {
        let done = std::process::Command::new("kill")
            .args([format!("-{number}"), director.pid().to_string()])
            .status();
        assert!(done.unwrap().success());
    }
    for words in
        ["SIGUSR2: it came 1 times", "SIGALRM: it came 1 times", &format!("signal {last}: it came 1 times")]
    {
        director.wait_logged(words);
    }
    assert_eq!(director.status().pid, director.pid());
    director.signal(Signal::SIGXCPU);
    assert_eq!(director.ended().code(), Some(0));
}

#[test]
fn many_hangups_are_a_few_reloads() {
    let arms = Arms::new();
    let director = arms.start_unresolved(SERVICE).director;
    for _ in 0..500 {
        kill(Pid::from_raw(director.pid() as i32), Signal::SIGHUP).unwrap();
    }
    // One more, whose coming shows that those before are done.
    director.wait_logged("reload: no change");
    director.rewrite(&director_file(&director).replace("10.1.0.11:80", "10.1.0.12:80"));
    director.signal(Signal::SIGHUP);
    director.wait_logged("10.1.0.12:80");
    let reloads = director.log().matches("reload: no change").count();
    assert!((1..=10).contains(&reloads), "{reloads}");
    assert_eq!(director.status().pid, director.pid());
}

fn director_file(director: &Director) -> String {
    std::fs::read_to_string(&director.file).unwrap()
}

//! A thread that hangs or panics: what is told of it, who takes over, and how the director ends. Nothing hangs with it.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use shunt_tests::topology::Lab;
use shunt_tests::topology::director::Director;
use shunt_tests::topology::frozen::Frozen;

use super::link::Link;
use super::{SLOW, role, wait_for_role};

/// How a director ends that is to be started anew.
const HANGS: Option<i32> = Some(3);
/// How long a command may take, whatever hangs.
const COMMAND_MAX: Duration = Duration::from_secs(10);

/// The better director, and its partner.
struct Pair {
    link: Link,
    /// The partner's folder.
    _beside: Lab,
    master: Director,
    backup: Director,
}

impl Pair {
    fn new(variables: &[(&str, &str)]) -> Self {
        let link = Link::new("192.0.2.10");
        let beside = link.lab.beside();
        let backup = link.director(&beside, "two", 3, &format!("{SLOW}\npriority = 100"));
        let one = link.configuration(&link.lab, "one", 2, &format!("{SLOW}\npriority = 200"));
        // Two workers, so that one is left.
        let (_, rest) = one.split_once("[[nic]]").unwrap();
        let two = format!("{}[[nic]]{rest}", link.lab.runtime(2, "connections = 4096"));
        let master = Director::spawn_with(&link.lab, &two, variables).answering();
        Self { link, _beside: beside, master, backup }
    }

    fn ready(self) -> Self {
        wait_for_role(&self.master, "master");
        wait_for_role(&self.backup, "backup");
        self
    }
}

/// The partner has it, and was told so or heard nothing.
fn taken_over(link: &Link, backup: &Director, told: bool) {
    let status = wait_for_role(backup, "master");
    let reason = if told { "gave up (priority 0)" } else { "fell silent" };
    assert_eq!(status.vrrp[0].reason, format!("the master 192.0.2.2 {reason}"));
    link.pause(Instant::now());
}

/// A command ends in time; its exit code.
fn in_time(pair: &Pair, words: &[&str]) -> Option<i32> {
    let began = Instant::now();
    let said = pair.master.command(&pair.link.lab, words);
    assert!(began.elapsed() < COMMAND_MAX, "{words:?}: {:?}", began.elapsed());
    said.code
}

/// A thread that is frozen is told of, and the director ends when it does not come back; `told` says whether it can give the VIPs up.
fn frozen(name: &str, told: bool) {
    let pair = Pair::new(&[]).ready();
    let frozen = Frozen::new(pair.master.pid(), name);
    let late =
        pair.master.wait_until("a late thread", |status| status.late.iter().any(|late| late.name == name));
    assert!(
        late.advice.iter().any(|line| line.contains(&format!("thread {name} has not gone on"))),
        "{:?}",
        late.advice
    );
    pair.master.wait_logged(&format!("thread {name} has not gone on for "));
    let Pair { link, _beside, master, backup } = pair;
    assert_eq!(master.ended_with(&frozen).code(), HANGS);
    taken_over(&link, &backup, told);
}

#[test]
fn a_worker_that_hangs_is_given_up() {
    frozen("worker 1", true);
}

#[test]
fn adverts_end_with_the_worker_that_sends_them() {
    frozen("worker 0", false);
}

#[test]
fn a_control_loop_that_hangs_is_told_and_the_partner_has_the_vips() {
    frozen("shunt-neighbours", false);
}

#[test]
#[ignore = "takes half a minute"]
fn a_core_that_hangs_is_given_up() {
    frozen("shunt-core", true);
}

#[test]
#[ignore = "takes half a minute"]
fn health_checks_that_hang_are_given_up() {
    frozen("shunt-health", true);
}

#[test]
#[ignore = "takes half a minute"]
fn tracking_that_hangs_is_given_up() {
    frozen("shunt-tracking", true);
}

/// Nobody answers then; the watcher ends it all the same.
#[test]
#[ignore = "takes half a minute"]
fn a_main_thread_that_hangs_is_given_up() {
    let pair = Pair::new(&[]).ready();
    let frozen = Frozen::new(pair.master.pid(), "main");
    pair.master.wait_logged("thread main has not gone on for ");
    let Pair { link, _beside, master, backup } = pair;
    assert_eq!(master.ended_with(&frozen).code(), HANGS);
    let status = wait_for_role(&backup, "master");
    assert_eq!(status.vrrp[0].reason, "the master 192.0.2.2 gave up (priority 0)");
    link.pause(Instant::now());
}

/// Those that only tell others are told of, and come back.
#[test]
#[ignore = "takes some seconds for each thread"]
fn who_tells_others_may_hang_and_come_back() {
    let pair = Pair::new(&[]).ready();
    for name in ["shunt-notify", "shunt-scripts"] {
        let frozen = Frozen::new(pair.master.pid(), name);
        pair.master.wait_logged(&format!("thread {name} has not gone on for "));
        assert_eq!(in_time(&pair, &["status"]), Some(0));
        drop(frozen);
        pair.master.wait_logged(&format!("thread {name} goes on again"));
    }
    assert_eq!(role(&pair.master.status()), "master");
}

/// Commands and the end of a director whose thread hangs.
fn commands_with(name: &str) {
    let pair = Pair::new(&[]).ready();
    let frozen = Frozen::new(pair.master.pid(), name);
    for command in [
        &["status"][..],
        &["drops"],
        &["neighbours"],
        &["connections"],
        &["explain", "tcp", "1.2.3.4:5", "192.0.2.10:80"],
    ] {
        in_time(&pair, command);
    }
    assert_eq!(in_time(&pair, &["status"]), Some(0));
    pair.master.signal(Signal::SIGTERM);
    let told = name != "shunt-neighbours";
    taken_over(&pair.link, &pair.backup, told);
    let Pair { master, .. } = pair;
    assert_eq!(master.ended_with(&frozen).code(), HANGS);
}

#[test]
fn commands_are_answered_while_health_checks_hang() {
    commands_with("shunt-health");
}

#[test]
#[ignore = "takes some seconds for each thread"]
fn commands_are_answered_while_the_core_hangs() {
    commands_with("shunt-core");
}

/// A panic anywhere ends the director, and its partner hears of it.
fn panics(name: &str) {
    let fault = format!("{name}:4");
    let pair = Pair::new(&[("SHUNT_FAULT", &fault)]);
    pair.master.wait_logged("the fault that was asked for");
    let Pair { master, backup, _beside, .. } = pair;
    let log = master.log();
    assert_eq!(master.ended().code(), HANGS, "{log}");
    wait_for_role(&backup, "master");
}

#[test]
fn a_worker_that_panics_ends_the_director() {
    panics("worker 1");
}

#[test]
#[ignore = "the same for each thread"]
fn whoever_panics_ends_the_director() {
    for name in [
        "worker 0",
        "shunt-neighbours",
        "shunt-core",
        "shunt-health",
        "shunt-tracking",
        "shunt-notify",
        "shunt-scripts",
        "main",
    ] {
        panics(name);
    }
}

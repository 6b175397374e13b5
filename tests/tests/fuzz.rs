//! What fuzzing has found: saved inputs, changed for a while, and each find under its name.

use std::time::Duration;

use shunt_tests::fuzz::{self, change};

/// How long saved inputs are changed, all targets at once.
const TIME: Duration = Duration::from_secs(30);
/// The same changes in each run, so that a failure is of what was changed here; scripts/fuzz.sh looks for new ones.
const SEED: u64 = 1;

#[test]
fn thirty_seconds_of_changed_inputs() {
    let run = |target: &'static fuzz::Target| {
        let saved = fuzz::read(&fuzz::corpus(target.name)).unwrap();
        assert!(!saved.is_empty(), "{}", target.name);
        move || (target.name, change::run(target, &saved, SEED, TIME))
    };
    let threads: Vec<_> = fuzz::TARGETS.iter().map(|target| std::thread::spawn(run(target))).collect();
    let done: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
    for result in done {
        let (name, inputs) = result.expect("a target that takes everything");
        println!("{name}: {inputs} inputs");
    }
}

/// The destinations of a firewall mark's service are told apart by their ports whatever their method, as in the kernel.
#[test]
fn ports_of_a_marks_destinations() {
    fuzz::ipvsadm::rules(b"-A -f 7 -s rr\n-a -f 7 -r 10.1.0.13:1 -g\n-a -f 7 -r 10.1.0.13 -g\n");
}

/// An address that no host has is no firewall mark.
#[test]
fn a_vip_that_looks_like_a_mark() {
    fuzz::ipvsadm::command_lines(
        b"-A -t 10 -s rr -p 21\n-A -t 10 -s rr -p 21\n-A -u [10::]:0 -p 5\n-A -f 10\n",
    );
}

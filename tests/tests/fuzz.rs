//! What fuzzing has found: saved inputs, changed for a while, and each find under its name.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shunt_tests::fuzz::{self, change};

/// How long saved inputs are changed, all targets at once.
const TIME: Duration = Duration::from_secs(30);

#[test]
fn thirty_seconds_of_changed_inputs() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_nanos() as u64;
    let run = |target: &'static fuzz::Target| {
        let saved = fuzz::read(&fuzz::corpus(target.name)).unwrap();
        assert!(!saved.is_empty(), "{}", target.name);
        move || (target.name, change::run(target, &saved, seed, TIME))
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

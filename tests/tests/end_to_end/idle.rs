//! An idle director sleeps; a busy one polls always.

use std::time::{Duration, Instant};

use shunt_tests::topology::arms::{Arms, Running};
use shunt_tests::topology::threads::cpu;

const SERVICE: &str = r#"
[[service]]
name = "web4"
listen = "192.0.2.10:80"
protocol = "tcp"
forward = "dr"
real = [{ address = "10.1.0.11:80" }]
"#;
/// How long the director is looked at.
const WINDOW: Duration = Duration::from_secs(2);

/// Cores that the director uses while nothing happens: (used, used or waited for), as parts of one.
fn use_when_idle(idle: &str) -> (f64, f64) {
    let mut arms = Arms::new();
    arms.runtime = format!("connections = 4096\nidle = \"{idle}\"");
    let Running { director, .. } = arms.start(SERVICE);
    let (begin, before) = (Instant::now(), cpu(director.pid(), ""));
    // A measurement: nothing to wait for but time.
    std::thread::sleep(WINDOW);
    let (after, time) = (cpu(director.pid(), ""), begin.elapsed());
    let (ran, waited) =
        ((after.0 - before.0).div_duration_f64(time), (after.1 - before.1).div_duration_f64(time));
    (ran, ran + waited)
}

#[test]
fn adaptive_director_does_not_burn_a_core() {
    let (used, wanted) = use_when_idle("adaptive");
    assert!(used < 0.1, "{used:.2} of a core used, {wanted:.2} wanted");
}

#[test]
fn busy_director_polls_always() {
    let (used, wanted) = use_when_idle("busy");
    assert!(wanted > 0.9, "{used:.2} of a core used, {wanted:.2} wanted");
}

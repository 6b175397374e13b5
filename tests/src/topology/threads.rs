//! What the threads of a process got of the CPUs: `schedstat` of proc(5).

use std::time::Duration;

/// Time of all threads together whose names begin with this: that they ran, and that they waited for a CPU although they could have run.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn cpu(pid: u32, name: &str) -> (Duration, Duration) {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the threads of the process");
    let of = |task: std::fs::DirEntry| {
        let comm = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
        let times = (Duration::from_nanos(numbers.next()?), Duration::from_nanos(numbers.next()?));
        comm.starts_with(name).then_some(times)
    };
    let add = |sum: (Duration, Duration), one: (Duration, Duration)| (sum.0 + one.0, sum.1 + one.1);
    tasks.flatten().filter_map(of).fold((Duration::ZERO, Duration::ZERO), add)
}

/// Time that this machine's host took from it: `steal` of proc(5), of all CPUs together.
///
/// # Panics
/// When the system does not count it.
#[must_use]
pub fn stolen() -> Duration {
    let text = std::fs::read_to_string("/proc/stat").expect("the system's counters");
    let words = text.lines().next().and_then(|line| line.split_whitespace().nth(8));
    let ticks: u64 = words.and_then(|word| word.parse().ok()).expect("a count of ticks");
    // USER_HZ is 100 wherever DPDK runs.
    Duration::from_millis(10 * ticks)
}

//! What a silent thread does, as the system says (proc(5), `/proc/self/task/TID/stat`).

use super::judge::Doing;

/// What was read of a thread last: its CPU time, in the system's ticks.
pub(super) type CpuTime = u64;

/// What the thread does now, and its CPU time; `before` is the latter as it was a turn ago.
pub(super) fn at(id: i32, before: Option<CpuTime>) -> (Doing, Option<CpuTime>) {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).unwrap_or_default();
    read(&stat, before)
}

fn read(stat: &str, before: Option<CpuTime>) -> (Doing, Option<CpuTime>) {
    // The name is in brackets and may have some in it.
    let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let state = fields.next();
    // Fields 14 and 15 of all; the state is the third.
    let mut times = fields.skip(10).map_while(|field| field.parse::<CpuTime>().ok());
    let time = times.next().zip(times.next()).map(|(user, system)| user + system);
    let doing = match state {
        Some("R") if before.is_some() && before == time => Doing::Starves,
        Some("R") => Doing::Runs,
        Some("t" | "T") => Doing::Stopped,
        Some("D") => Doing::System,
        Some("S" | "I") => Doing::Waits,
        _ => Doing::Unknown,
    };
    (doing, time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_system_are_read() {
        let line = |state| format!("12 (worker ) 1/1) {state} 1 2 3 0 -1 4 5 6 7 8 40 2 9 9 20 0 1 0");
        assert_eq!(read(&line("R"), None), (Doing::Runs, Some(42)));
        assert_eq!(read(&line("R"), Some(41)), (Doing::Runs, Some(42)));
        assert_eq!(read(&line("R"), Some(42)), (Doing::Starves, Some(42)));
        assert_eq!(read(&line("t"), Some(42)).0, Doing::Stopped);
        assert_eq!(read("", None), (Doing::Unknown, None));
        let me = nix::unistd::gettid().as_raw();
        assert_eq!(at(me, None).0, Doing::Runs);
    }
}

//! The memory that a configuration takes, beside what the machine has: a table that does not fit is found here, and not by the kernel's
//! out-of-memory killer after a long start.

use std::fmt;

use shunt_dataplane::forward::Capacity;

use crate::Runtime;

/// Bytes of memory that a process may have, at most, as far as the system tells.
#[must_use]
pub fn available() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10;
    Some(of_cgroup().map_or(free, |left| left.min(free)))
}

/// What the cgroup (version 2) of this process and those above it leave it.
fn of_cgroup() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?.trim_start_matches('/').to_owned();
    let mut folder = std::path::Path::new("/sys/fs/cgroup").join(path);
    let mut least = None;
    while folder.starts_with("/sys/fs/cgroup") {
        let number = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
        if let Some(most) = number("memory.max") {
            let left = most.saturating_sub(number("memory.current").unwrap_or(0));
            least = Some(least.map_or(left, |least: u64| least.min(left)));
        }
        if !folder.pop() {
            break;
        }
    }
    least
}

/// The memory that a configuration takes at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Bytes of the connection tables of all workers.
    pub tables: u64,
    workers: usize,
    connections: u32,
}

impl Needed {
    /// Of a configuration.
    #[must_use]
    pub fn of(runtime: &Runtime) -> Self {
        let (workers, connections) = (runtime.workers.len(), runtime.connections);
        let each = Capacity { v4: connections, v6: connections }.bytes();
        Self { tables: each * workers as u64, workers, connections }
    }

    /// What is wrong where it does not fit beside packets that take so many bytes, what holds, and what to do.
    #[must_use]
    pub fn too_much(&self, packets: u64, available: Option<u64>) -> Option<(String, String, String)> {
        let available = available.filter(|available| self.tables + packets > *available)?;
        let each = self.tables / self.workers.max(1) as u64 / u64::from(self.connections.max(1)).max(1);
        let fit = available.saturating_sub(packets) / self.workers.max(1) as u64 / each.max(1);
        let beside = match packets {
            0 => String::new(),
            packets => format!("; packets take {} in ordinary pages", Size(packets)),
        };
        let advice = match fit {
            0 => "name fewer workers, or add memory".to_owned(),
            fit => format!("set connections to {fit} at most, name fewer workers, or add memory"),
        };
        Some((format!("{self}{beside}"), format!("{} are available here", Size(available)), advice))
    }
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tables, workers, connections } = self;
        let tables = Size(*tables);
        write!(
            f,
            "connection tables take {tables}: {connections} connections of each family for each of {workers} workers"
        )
    }
}

/// Bytes, for people.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = self.0 as f64 / f64::from(1 << 20);
        if mebibytes < 1.0 {
            write!(f, "{} KiB", self.0 >> 10)
        } else if mebibytes < 1024.0 {
            write!(f, "{mebibytes:.0} MiB")
        } else {
            write!(f, "{:.1} GiB", mebibytes / 1024.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        let needed = Needed { tables: 2 * 120 * 1_000_000, workers: 2, connections: 1_000_000 };
        assert_eq!(needed.too_much(0, None), None);
        assert_eq!(needed.too_much(0, Some(needed.tables)), None);
        let (wrong, holds, advice) = needed.too_much(0, Some(120_000_000)).unwrap();
        assert_eq!(
            wrong,
            "connection tables take 229 MiB: 1000000 connections of each family for each of 2 workers"
        );
        assert_eq!(holds, "114 MiB are available here");
        assert!(advice.starts_with("set connections to 500000 at most"), "{advice}");
        // Packets in ordinary pages come out of the same memory.
        let (wrong, _, advice) = needed.too_much(60_000_000, Some(needed.tables)).unwrap();
        assert!(wrong.ends_with("2 workers; packets take 57 MiB in ordinary pages"), "{wrong}");
        assert!(advice.starts_with("set connections to 750000 at most"), "{advice}");
        let (_, _, advice) = needed.too_much(needed.tables, Some(1_000_000)).unwrap();
        assert_eq!(advice, "name fewer workers, or add memory");
    }

    #[test]
    fn this_machine_tells_what_it_has() {
        assert!(available().is_some_and(|bytes| bytes > 0));
        assert_eq!(
            [3 << 30, 3 << 20, 3 << 10, 0].map(|bytes| Size(bytes).to_string()),
            ["3.0 GiB", "3 MiB", "3 KiB", "0 KiB"]
        );
    }
}

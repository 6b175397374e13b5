//! The floor by DPDK's own program: `dpdk-testpmd` swaps MACs of packets that go round in a ring, or that `net_null` makes.

use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::BenchError;
use super::measure::{Effort, Spread};

/// The program, looked for in `PATH`.
const PROGRAM: &str = "dpdk-testpmd";
/// Packet memory in MiB.
const MEBIBYTES: &str = "256";
/// It is killed when it takes longer than it should by this much.
const PATIENCE: Duration = Duration::from_secs(20);
/// The shortest repetition: it answers commands slowly.
const SHORTEST: Duration = Duration::from_millis(500);

/// Where its packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A ring in which they go round.
    Ring,
    /// A driver that makes and frees them without looking.
    Null,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Ring, Self::Null];

    /// DPDK's word for the driver.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ring => "net_ring",
            Self::Null => "net_null",
        }
    }
}

/// Where the program is; none when it is not installed.
#[must_use]
pub fn installed() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|folder| folder.join(PROGRAM)).find(|path| path.is_file())
}

/// Nanoseconds of `worker`'s time for a packet; the program's own thread is on `control`.
///
/// # Errors
/// When the program does not start, does not forward or does not answer in time.
pub fn macswap(
    program: &PathBuf,
    source: Source,
    worker: usize,
    control: usize,
    effort: Effort,
) -> Result<Spread, BenchError> {
    let length = effort.length.max(SHORTEST);
    let deadline = Instant::now() + length * effort.repetitions + PATIENCE;
    let mut running = Running::start(program, source, worker, control, deadline)?;
    let mut all = Vec::new();
    for _ in 0..effort.repetitions {
        let before = running.worker_time(worker);
        // A start empties the ring before it puts a burst in: as many packets as the other loops have on the way.
        running.say(if source == Source::Ring { "start tx_first 1" } else { "start" })?;
        thread::sleep(length);
        running.say("stop")?;
        let packets = running.forwarded()?;
        let ran = running.worker_time(worker).saturating_sub(before);
        if packets == 0 || ran.is_zero() {
            return Err(BenchError::new(&format!("{PROGRAM} forwarded {packets} packets in {ran:?}")));
        }
        all.push(ran.as_nanos() as f64 / packets as f64);
    }
    running.say("quit")?;
    Ok(Spread::of(all))
}

/// The program while it runs; killed when dropped.
struct Running {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    deadline: Instant,
}

impl Running {
    fn start(
        program: &PathBuf,
        source: Source,
        worker: usize,
        control: usize,
        deadline: Instant,
    ) -> Result<Self, BenchError> {
        // It would keep its lines back until there are many; coreutils' stdbuf becomes the program.
        let mut child = Command::new("stdbuf")
            .arg("--output=L")
            .arg(program)
            .args(["--no-huge", "-m", MEBIBYTES, "--no-pci", "--no-telemetry", "--iova-mode=va"])
            .arg(format!("--file-prefix=shunt-testpmd-{}", std::process::id()))
            .args(["-l", &format!("{control},{worker}"), &format!("--main-lcore={control}")])
            .arg(format!("--vdev={}0", source.word()))
            .args(["--", "-i", "--forward-mode=macswap", "--nb-cores=1", "--burst=64", "--no-mlockall"])
            .arg("--total-num-mbufs=8192")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| BenchError::new(&format!("{}: does not start ({error})", program.display())))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(BenchError::new("a child came without its pipes"));
        };
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut running = Self { child, input, lines, deadline };
        running.await_line("Done")?;
        Ok(running)
    }

    fn say(&mut self, command: &str) -> Result<(), BenchError> {
        writeln!(self.input, "{command}")
            .map_err(|error| BenchError::new(&format!("{PROGRAM} ended early ({error})")))
    }

    /// Waits for a line with this in it.
    fn await_line(&mut self, part: &str) -> Result<String, BenchError> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).map_err(|_| {
                BenchError::new(&format!("{PROGRAM} ended or did not say \"{part}\" in time: run it by hand"))
            })?;
            if line.contains(part) {
                return Ok(line);
            }
        }
    }

    /// The packets of the run that was stopped.
    fn forwarded(&mut self) -> Result<u64, BenchError> {
        self.await_line("Accumulated forward statistics")?;
        let line = self.await_line("RX-packets:")?;
        packets(&line).ok_or_else(|| BenchError::new(&format!("{PROGRAM} said \"{line}\"")))
    }

    /// How long the thread on the worker's core ran.
    fn worker_time(&self, worker: usize) -> Duration {
        let tasks = format!("/proc/{}/task", self.child.id());
        let names = [format!("lcore-worker-{worker}"), format!("rte-worker-{worker}")];
        let threads = std::fs::read_dir(tasks).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut of_worker = threads.filter(|path| {
            let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            names.iter().any(|wanted| wanted == name.trim())
        });
        // proc(5), schedstat: nanoseconds on the CPU come first.
        let text = of_worker.next().and_then(|path| std::fs::read_to_string(path.join("schedstat")).ok());
        let ran = text.and_then(|text| text.split_whitespace().next()?.parse().ok());
        Duration::from_nanos(ran.unwrap_or(0))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let patience = Instant::now() + Duration::from_secs(3);
        while Instant::now() < patience.min(self.deadline) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number after `RX-packets:`.
fn packets(line: &str) -> Option<u64> {
    line.split("RX-packets:").nth(1)?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read() {
        let line = "  RX-packets: 104389504      RX-dropped: 0             RX-total: 104389504";
        assert_eq!((packets(line), packets("TX-packets: 1")), (Some(104_389_504), None));
    }

    #[test]
    fn a_program_that_says_nothing_is_an_error() {
        let effort = Effort { repetitions: 1, length: Duration::ZERO };
        let silent = macswap(&PathBuf::from("/bin/true"), Source::Ring, 1, 0, effort);
        assert!(silent.unwrap_err().to_string().contains("ended"));
    }
}

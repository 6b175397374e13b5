//! Packets of open connections move no cache line between workers: what one writes, no other touches.
//!
//! Looks at every access to memory by valgrind's `lackey`, in a release build: in others there are too many.

pub mod play;

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// The argument with which this program plays instead of looking.
pub const PLAY: &str = "play";
/// Bytes of a cache line.
const LINE: u64 = 64;
/// The stack of the one thread that plays both workers; each has its own in a director.
const STACK: u64 = 1 << 20;

#[derive(Default)]
struct Touched {
    read: HashSet<u64>,
    written: HashSet<u64>,
}

/// Lines of the trace between two looks at what the program has told.
const LOOK: usize = 1024;

/// Plays under valgrind; says what was found.
///
/// # Errors
/// When a line moves between workers, in words.
pub fn look() -> Result<String, String> {
    let told = tempfile::NamedTempFile::new().map_err(said)?;
    let myself = std::env::current_exe().map_err(said)?;
    let mut valgrind = Command::new("valgrind")
        .args(["--tool=lackey", "--trace-mem=yes", "--log-fd=2"])
        .arg(myself)
        .arg(PLAY)
        .stdout(told.reopen().map_err(said)?)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("valgrind does not start ({error}): scripts/install.sh installs it"))?;
    let trace = BufReader::new(valgrind.stderr.take().ok_or("no trace")?);
    let mut workers = <[Touched; play::WORKERS]>::default();
    let mut running: Option<usize> = None;
    let (mut stack, mut marks) = (0, Vec::new());
    let mut noise = Vec::new();
    for (number, line) in trace.split(b'\n').map_while(Result::ok).enumerate() {
        let Some((kind, address, size)) = access(&line) else {
            if !line.starts_with(b"I ") {
                noise.push(String::from_utf8_lossy(&line).into_owned());
            }
            continue;
        };
        // The places are told well before the first is marked.
        if marks.is_empty() {
            if number % LOOK == 0 {
                let text = std::fs::read_to_string(told.path()).map_err(said)?;
                let mut numbers = text.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
                stack = numbers.next().unwrap_or(0);
                marks.extend(numbers);
            }
            continue;
        }
        if let Some(mark) = marks.iter().position(|mark| *mark == address) {
            running = (mark < workers.len()).then_some(mark);
            continue;
        }
        let Some(worker) = running else { continue };
        if (stack - STACK..stack + STACK).contains(&address) {
            continue;
        }
        for line in address / LINE..=(address + size - 1) / LINE {
            if kind != b'S' {
                workers[worker].read.insert(line);
            }
            if kind != b'L' {
                workers[worker].written.insert(line);
            }
        }
    }
    let ended = valgrind.wait().map_err(said)?;
    if !ended.success() {
        return Err(format!("{ended}: {}", noise.join("\n")));
    }
    let text = std::fs::read_to_string(told.path()).map_err(said)?;
    let packets: u64 =
        text.lines().last().and_then(|line| line.parse().ok()).ok_or("no number of packets")?;
    let [a, b] = &workers;
    for worker in &workers {
        let (read, written) = (worker.read.len(), worker.written.len());
        if written.min(read) < 64 {
            return Err(format!("the trace was not understood: {read} lines read, {written} written"));
        }
    }
    let both = a.written.intersection(&b.written).count();
    let one = a.written.intersection(&b.read).count() + b.written.intersection(&a.read).count();
    let found = format!(
        "{packets} packets of 2 workers: {} and {} cache lines written; {both} written by both, {one} read by the other",
        a.written.len(),
        b.written.len()
    );
    if both + one == 0 { Ok(found) } else { Err(format!("cache lines move between workers: {found}")) }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// ` S 1ffefff7e0,8`: load, store or both (M), where, how many bytes.
fn access(line: &[u8]) -> Option<(u8, u64, u64)> {
    let (&[b' ', kind, b' '], rest) = line.split_first_chunk()? else { return None };
    let (address, size) = std::str::from_utf8(rest).ok()?.trim().split_once(',')?;
    Some((kind, u64::from_str_radix(address, 16).ok()?, size.parse().ok()?))
}

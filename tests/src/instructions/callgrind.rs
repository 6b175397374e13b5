//! Counts the instructions of a program, and the cache misses of a simulated machine, by callgrind.

use std::path::Path;
use std::process::Command;

/// The functions by which callgrind knows what to count: `counted` says what they do.
const COLLECT: [&str; 2] = ["*::counted_burst", "*::counted_turn"];
/// When it returns, what was counted so far is written down.
const WRITE: &str = "*::counted_path_ends";

/// The caches that are simulated: 32 KiB, and 1 MiB behind it. Prefetching is not: a line counts where it is first read or
/// written and not near, whether or not it was asked for in time.
const CACHES: [&str; 3] = ["--cache-sim=yes", "--D1=32768,8,64", "--LL=1048576,16,64"];

/// What was counted of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instructions.
    pub instructions: u64,
    /// Reads and writes of data that missed the first cache.
    pub first_misses: u64,
    /// Those that missed the last cache, too.
    pub last_misses: u64,
}

/// Runs this program under callgrind; gives what it printed and the counts of each path, in order. What callgrind
/// wrote is left in `folder`. Misses are counted when asked for.
///
/// # Errors
/// In words for the operator.
pub fn run(arguments: &[&str], folder: &Path, misses: bool) -> Result<(String, Vec<Counts>), String> {
    let myself = std::env::current_exe().map_err(|error| format!("this program's own file: {error}"))?;
    let out = folder.join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["-q", "--tool=callgrind", "--compress-strings=no", "--compress-pos=no"]);
    valgrind.arg(format!("--callgrind-out-file={}", out.display()));
    valgrind.args(COLLECT.map(|name| format!("--toggle-collect={name}")));
    if misses {
        valgrind.args(CACHES);
    }
    valgrind.arg(format!("--dump-after={WRITE}")).arg(myself).args(arguments);
    let output = valgrind
        .output()
        .map_err(|error| format!("valgrind does not start ({error}): scripts/install.sh installs it"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("under valgrind: {}: {}", output.status, complaint.trim()));
    }
    let mut counts = Vec::new();
    // One file for each path, numbered from 1; what came after the last path is in the one without number.
    loop {
        let file = folder.join(format!("callgrind.out.{}", counts.len() + 1));
        if !file.exists() {
            return Ok((said, counts));
        }
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        counts.push(totals(&text).ok_or_else(|| format!("{}: no total in it", file.display()))?);
    }
}

/// The totals of a dump.
fn totals(dump: &str) -> Option<Counts> {
    let line =
        |start: &str| dump.lines().find_map(|line| line.strip_prefix(start)).map(str::split_whitespace);
    let events = line("events: ")?;
    let mut counts = Counts::default();
    // Zeros at the end are left out.
    for (event, total) in events.zip(line("totals: ")?) {
        let total = total.parse().ok()?;
        match event {
            "Ir" => counts.instructions = total,
            "D1mr" | "D1mw" => counts.first_misses += total,
            "DLmr" | "DLmw" => counts.last_misses += total,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::{Counts, totals};

    #[test]
    fn totals_are_found() {
        let plain = "version: 1\nevents: Ir\nsummary: 12\n\nfn=main\n1 12\n\ntotals: 34567\n";
        assert_eq!(totals(plain), Some(Counts { instructions: 34567, ..Counts::default() }));
        let caches =
            "events: Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw\ntotals: 1795616 437376 219936 1 5363 3145 0 7\n";
        let counts = Counts { instructions: 1_795_616, first_misses: 8508, last_misses: 7 };
        assert_eq!(totals(caches), Some(counts));
        assert_eq!(totals("version: 1\n"), None);
    }
}

//! Counts the instructions of a program by callgrind.

use std::path::Path;
use std::process::Command;

/// The functions by which callgrind knows what to count: `counted` says what they do.
const COLLECT: [&str; 2] = ["*::counted_burst", "*::counted_turn"];
/// When it returns, what was counted so far is written down.
const WRITE: &str = "*::counted_path_ends";

/// Runs this program under callgrind; gives what it printed and the instructions of each path, in order. What
/// callgrind wrote is left in `folder`.
///
/// # Errors
/// In words for the operator.
pub fn run(arguments: &[&str], folder: &Path) -> Result<(String, Vec<u64>), String> {
    let myself = std::env::current_exe().map_err(|error| format!("this program's own file: {error}"))?;
    let out = folder.join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["-q", "--tool=callgrind", "--compress-strings=no", "--compress-pos=no"]);
    valgrind.arg(format!("--callgrind-out-file={}", out.display()));
    valgrind.args(COLLECT.map(|name| format!("--toggle-collect={name}")));
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
        counts.push(total(&text).ok_or_else(|| format!("{}: no total in it", file.display()))?);
    }
}

/// The total of a dump.
fn total(dump: &str) -> Option<u64> {
    dump.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_total_is_found() {
        assert_eq!(
            total("version: 1\nevents: Ir\nsummary: 12\n\nfn=main\n1 12\n\ntotals: 34567\n"),
            Some(34567)
        );
        assert_eq!(total("version: 1\n"), None);
    }
}

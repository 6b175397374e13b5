//! The real kernel's IPVS as an oracle: recorded scenarios are played through `forward`, and what this director
//! does is compared with what the kernel did.
//!
//! [`scenario`] reads the recordings, [`commands`] turns their shell commands into plans, [`play`] plays them,
//! [`real`] plays them to the real binary instead, [`compare`] tells the differences. What is drawn at random lies in `drawn/`, and
//! [`drawn`] compares it.

pub mod commands;
pub mod compare;
pub mod drawn;
mod excused;
pub mod ipvsadm;
pub mod play;
pub mod proc;
pub mod real;
pub mod scenario;

use std::fmt;
use std::path::{Path, PathBuf};

use compare::Comparison;
use scenario::{Recording, Scenario};

/// What came of one scenario.
#[derive(Debug)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// What was compared; or why it could not be played.
    pub result: Result<Comparison, String>,
}

impl Report {
    /// True when all was compared and nothing differed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.result.as_ref().is_ok_and(|comparison| comparison.differences.is_empty())
    }
}

/// A line, and below it the first difference.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.passed() { "ok  " } else { "FAIL" };
        write!(f, "{word} {:<24} ", self.name)?;
        let comparison = match &self.result {
            Ok(comparison) => comparison,
            Err(why) => return write!(f, "not played\n{why}"),
        };
        let Comparison { steps, frames, choices, outputs, differences, .. } = comparison;
        write!(f, "compared: {frames} frames in {steps} steps, {choices} choices, {outputs} outputs")?;
        if let Some(first) = differences.first() {
            write!(f, "; {} differences, the first:\n{}", differences.len(), first.trim_end())?;
        }
        Ok(())
    }
}

/// Plays the scenario `name` of one folder and compares it with its recording in the other. What was played is
/// written to a file of that name in the folder `keep`, in the form of a recording.
#[must_use]
pub fn check(scenarios: &Path, recordings: &Path, name: &str, keep: Option<&Path>) -> Report {
    let result = play_and_compare(scenarios, recordings, &format!("{name}.json"), keep);
    Report { name: name.to_owned(), result: result.map_err(|error| error.to_string()) }
}

fn play_and_compare(
    scenarios: &Path,
    recordings: &Path,
    file: &str,
    keep: Option<&Path>,
) -> Result<Comparison, Box<dyn std::error::Error>> {
    let scenario: Scenario = scenario::read(&scenarios.join(file))?;
    let mut want: Recording = scenario::read(&recordings.join(file))?;
    // What was recorded as chosen may be the frame by which the kernel told the link of itself.
    want.chosen = want.choices(&scenario);
    let got = play::play(&scenario)?;
    if let Some(folder) = keep {
        std::fs::write(folder.join(file), serde_json::to_vec_pretty(&got)?)?;
    }
    Ok(compare::compare(&excused::excused(file.trim_end_matches(".json"), &scenario, want, &got), &got))
}

/// The names of the scenarios in a folder, sorted.
///
/// # Errors
/// When the folder cannot be read.
pub fn names(scenarios: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for file in std::fs::read_dir(scenarios)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// The project's own copies: `scenarios/`, `golden/` and `SHA256SUMS`, which pins them.
#[must_use]
pub fn pinned() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle")
}

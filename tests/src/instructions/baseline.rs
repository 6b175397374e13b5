//! The baseline: how many instructions each path took when somebody last wrote it down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How much more than the baseline a path may take, in percent, when the same compiler made both.
pub const BOUND: f64 = 5.0;
/// The same for another compiler, whose code differs by that much without anybody having touched it.
pub const BOUND_OTHER_COMPILER: f64 = 20.0;

/// Instructions for a packet, by path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// What `rustc --version` says.
    pub compiler: String,
    /// Instructions for a packet.
    pub paths: BTreeMap<String, f64>,
}

/// A path now beside what it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// Its name.
    pub path: String,
    /// What it was, if it is in the baseline.
    pub baseline: Option<f64>,
    /// What it is, if it was counted.
    pub now: Option<f64>,
    /// What to think of it.
    pub verdict: Verdict,
}

/// What to think of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it was, by and large.
    Same,
    /// It takes less by more than the bound.
    Less,
    /// It takes more by more than the bound.
    More,
    /// It is not in the baseline.
    New,
    /// It is in the baseline and was not counted.
    Gone,
}

impl Verdict {
    /// True when the baseline does not stand.
    #[must_use]
    pub const fn fails(self) -> bool {
        matches!(self, Self::More | Self::New | Self::Gone)
    }

    /// In a word or two; nothing when all is well.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Less => "less",
            Self::More => "TOO MUCH",
            Self::New => "NOT IN THE BASELINE",
            Self::Gone => "NOT COUNTED",
        }
    }
}

impl Compared {
    /// By how many percent it grew.
    #[must_use]
    pub fn change(&self) -> Option<f64> {
        let (before, now) = (self.baseline?, self.now?);
        Some((now / before - 1.0) * 100.0)
    }
}

impl Baseline {
    /// Where the committed one is.
    #[must_use]
    pub fn file() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions/baseline.json")
    }

    /// Reads one.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("{}: cannot be read ({error}): --update writes it", file.display()))?;
        serde_json::from_str(&text)
            .map_err(|error| format!("{}: no baseline ({error}): --update writes it anew", file.display()))
    }

    /// Writes it.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn write(&self, file: &Path) -> Result<(), String> {
        let json = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        std::fs::write(file, json + "\n")
            .map_err(|error| format!("{}: cannot be written ({error})", file.display()))
    }

    /// How much more than this a path may take that `compiler` made, in percent.
    #[must_use]
    pub fn bound(&self, compiler: &str) -> f64 {
        if self.compiler == compiler { BOUND } else { BOUND_OTHER_COMPILER }
    }

    /// What became of each path that is in either.
    #[must_use]
    pub fn compare(&self, now: &Self) -> Vec<Compared> {
        let bound = self.bound(&now.compiler);
        let mut names: Vec<_> = self.paths.keys().chain(now.paths.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let compare = |name: &String| {
            let (before, now) = (self.paths.get(name).copied(), now.paths.get(name).copied());
            let mut compared = Compared { path: name.clone(), baseline: before, now, verdict: Verdict::Same };
            compared.verdict = match (before, compared.change()) {
                (None, _) => Verdict::New,
                (_, None) => Verdict::Gone,
                (_, Some(change)) if change > bound => Verdict::More,
                (_, Some(change)) if change < -bound => Verdict::Less,
                _ => Verdict::Same,
            };
            compared
        };
        names.into_iter().map(compare).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(compiler: &str, paths: &[(&str, f64)]) -> Baseline {
        let paths = paths.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        Baseline { compiler: compiler.to_owned(), paths }
    }

    fn verdicts(before: &Baseline, now: &Baseline) -> Vec<Verdict> {
        before.compare(now).into_iter().map(|compared| compared.verdict).collect()
    }

    #[test]
    fn a_twentieth_more_is_too_much() {
        let before = baseline("a", &[("1", 100.0), ("2", 100.0), ("3", 100.0), ("4", 100.0), ("5", 1.0)]);
        let now = baseline("a", &[("1", 104.9), ("2", 105.1), ("3", 95.1), ("4", 94.9), ("6", 1.0)]);
        assert_eq!(
            verdicts(&before, &now),
            [Verdict::Same, Verdict::More, Verdict::Same, Verdict::Less, Verdict::Gone, Verdict::New]
        );
    }

    #[test]
    fn another_compiler_may_differ_by_more() {
        let before = baseline("a", &[("1", 100.0), ("2", 100.0)]);
        let now = baseline("b", &[("1", 119.0), ("2", 121.0)]);
        assert_eq!(verdicts(&before, &now), [Verdict::Same, Verdict::More]);
    }

    #[test]
    fn what_was_written_reads_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("baseline.json");
        let written = baseline("rustc 1", &[("dr", 12.5), ("nat", 70.0)]);
        written.write(&file).unwrap();
        assert_eq!(Baseline::read(&file), Ok(written));
    }

    #[test]
    fn the_committed_one_names_every_path() {
        let committed = Baseline::read(&Baseline::file()).unwrap();
        let paths = super::super::paths::all(super::super::paths::FLOWS).into_iter().map(|path| path.name);
        let turns = super::super::paths::turns().into_iter().map(|turn| turn.name.to_owned());
        let counted: std::collections::BTreeSet<_> = paths.chain(turns).collect();
        assert_eq!(committed.paths.into_keys().collect::<std::collections::BTreeSet<_>>(), counted);
    }
}

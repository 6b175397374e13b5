//! What an import amounts to, in a few lines.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::note::Kind;
use super::writer::Imported;
use crate::problem::Problem;

/// What was taken of a file, and what is left to its operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// `[[service]]`s.
    pub services: usize,
    /// Real servers of them.
    pub reals: usize,
    /// `[[vrrp]]`s.
    pub routers: usize,
    /// Lines that were refused: somebody has to decide what holds instead.
    pub refused: Vec<usize>,
    /// NICs whose own addresses are not known on this machine.
    pub without_addresses: Vec<String>,
    /// Lines that have another effect here.
    pub differs: Vec<usize>,
    /// Lines that the other program ignores, and this director, too.
    pub ignored: Vec<usize>,
    /// Lines that have no equal and need none.
    pub needless: Vec<usize>,
}

impl Summary {
    /// The summary of an import, with what is wrong with the TOML that it wrote.
    #[must_use]
    pub fn of(imported: &Imported, refused: &[Problem]) -> Self {
        let count = |head: &str| imported.text.lines().filter(|line| *line == head).count();
        let lines = |kind: Kind| {
            let lines = imported.notes.iter().filter(|note| note.kind == kind).map(|note| note.origin.line);
            sorted(lines.collect())
        };
        let mut all_refused = lines(Kind::Refused);
        all_refused.extend(refused.iter().map(|problem| problem.line));
        Self {
            services: count("[[service]]"),
            reals: imported.text.lines().filter(|line| line.starts_with("  { address = ")).count(),
            routers: count("[[vrrp]]"),
            refused: sorted(all_refused),
            without_addresses: without_addresses(&imported.text),
            differs: lines(Kind::Differs),
            ignored: lines(Kind::Ignored),
            needless: lines(Kind::Needless),
        }
    }

    /// As lines for people; `usable` when nothing was refused.
    #[must_use]
    pub fn text(&self, file: &Path, usable: bool) -> String {
        let many = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let mut text = format!(
            "{}: taken: {}, {}, {}",
            file.display(),
            many(self.services, "service"),
            many(self.reals, "real server"),
            many(self.routers, "virtual router")
        );
        for (lines, words) in [
            (&self.refused, "needs a decision"),
            (&self.differs, "differs in effect"),
            (&self.ignored, "is ignored, there and here"),
            (&self.needless, "has no equal and needs none"),
        ] {
            if !lines.is_empty() {
                let _ = write!(text, "\n  {words}: {}", numbers(lines));
            }
        }
        if !self.without_addresses.is_empty() {
            let names = self.without_addresses.join(", ");
            let _ = write!(
                text,
                "\n  needs a decision: the own addresses of {names}, which this machine does not have"
            );
        }
        text += match (usable, self.without_addresses.is_empty()) {
            (false, _) => "\n  next: correct these lines, and import again",
            (true, false) => "\n  next: write the addresses into what was printed, then shunt check FILE",
            (true, true) => "\n  next: shunt check FILE, with what was printed",
        };
        text
    }
}

/// `line 3` or `lines 3, 5, …`: no more than a screen shows.
fn numbers(lines: &[usize]) -> String {
    const SHOWN: usize = 12;
    let mut shown: Vec<String> = lines.iter().take(SHOWN).map(ToString::to_string).collect();
    if lines.len() > SHOWN {
        shown.push(format!("and {} more", lines.len() - SHOWN));
    }
    format!("line{} {}", if lines.len() == 1 { "" } else { "s" }, shown.join(", "))
}

fn sorted(mut lines: Vec<usize>) -> Vec<usize> {
    lines.sort_unstable();
    lines.dedup();
    lines
}

/// The names of NICs that have no address.
#[must_use]
pub fn without_addresses(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut name = None;
    for line in text.lines() {
        if line.starts_with('[') {
            name = (line == "[[nic]]").then(String::new);
        } else if let (Some(name), Some(said)) = (&mut name, line.strip_prefix("name = ")) {
            *name = said.trim_matches('"').to_owned();
        } else if line == "addresses = []" {
            names.extend(name.take());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_counted() {
        let text = "[[nic]]\nname = \"eth0\"\naddresses = []\n\n[[nic]]\nname = \"eth1\"\naddresses = [\"192.0.2.2/24\"]\n\n\
                    [[vrrp]]\nname = \"v\"\naddresses = []\n\n[[service]]\nname = \"a\"\nreal = [\n  { address = \"192.0.2.21\" },\n]\n";
        let summary = Summary::of(&Imported { text: text.to_owned(), ..Imported::default() }, &[]);
        assert_eq!((summary.services, summary.reals, summary.routers), (1, 1, 1));
        assert_eq!(summary.without_addresses, ["eth0"]);
        let words = summary.text(Path::new("k.conf"), true);
        assert!(words.starts_with("k.conf: taken: 1 service, 1 real server, 1 virtual router\n"), "{words}");
        assert!(words.contains("the own addresses of eth0"), "{words}");
        assert_eq!(numbers(&[3]), "line 3");
        assert_eq!(
            numbers(&(1..=14).collect::<Vec<_>>()),
            "lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, and 2 more"
        );
    }
}

//! What is wrong with a configuration: where, the value, what holds instead and what to do.
//!
//! A problem prints as one line, `FILE:LINE:COLUMN: WHERE: WHAT IS WRONG (VALUE): WHAT HOLDS INSTEAD: WHAT TO DO`, and
//! on request with the line of the file that it speaks of. Every problem of a file is reported at once.

use std::cell::OnceCell;
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use shunt_model::fault::{Fault, Origin, Severity, Span, printable};
use shunt_model::script::Script;
use shunt_model::secret::starred;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file that it stands in; none for the configuration itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file: Option<String>,
    /// Line of the file, from 1.
    pub line: usize,
    /// Character of the line, from 1.
    pub column: usize,
    /// The part of the configuration, such as `service "web"`.
    #[serde(rename = "where")]
    pub place: String,
    /// What is wrong.
    pub wrong: String,
    /// The value as the file has it, shortened to one line; none when something is missing.
    pub value: Option<String>,
    /// What holds instead.
    pub holds: String,
    /// What to do.
    pub advice: String,
    /// The line of the file, shortened.
    #[serde(skip)]
    excerpt: String,
    /// Characters of the line to underline.
    #[serde(skip)]
    width: usize,
}

impl Problem {
    /// A problem of an imported file.
    #[must_use]
    pub fn imported(severity: Severity, origin: &Origin, place: &str, fault: Fault) -> Self {
        Self {
            severity,
            file: Some(origin.file.display().to_string()),
            line: origin.line,
            column: origin.column,
            place: place.to_owned(),
            wrong: fault.wrong,
            value: None,
            holds: fault.holds,
            advice: fault.advice,
            excerpt: String::new(),
            width: 0,
        }
    }

    /// The line of the file with the place underlined, each line ending in a line feed; nothing for an imported file.
    #[must_use]
    pub fn excerpt(&self) -> String {
        if self.file.is_some() {
            return String::new();
        }
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let before = self.excerpt.chars().take(self.column - 1);
        let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let carets = "^".repeat(self.width.max(1));
        format!("{margin} |\n{number} | {}\n{margin} | {indent}{carets}\n", self.excerpt)
    }
}

/// All problems of one file, in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// The file as the operator named it.
    pub file: String,
    /// The problems.
    #[serde(rename = "problems")]
    pub list: Vec<Problem>,
}

impl Problems {
    /// How many make the configuration unusable.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// How many are warnings.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.list.len() - self.errors()
    }

    /// The line of one problem.
    #[must_use]
    pub fn line(&self, problem: &Problem) -> String {
        let file = problem.file.as_ref().unwrap_or(&self.file);
        let mut line = format!("{file}:{}:{}: ", problem.line, problem.column);
        if problem.severity == Severity::Warning {
            line.push_str("warning: ");
        }
        let value = problem.value.as_ref().map(|value| format!(" ({value})")).unwrap_or_default();
        let Problem { place, wrong, holds, advice, .. } = problem;
        let _ = write!(line, "{place}: {wrong}{value}: {holds}: {advice}");
        line
    }

    /// Every problem with the line of the file that it speaks of.
    #[must_use]
    pub fn with_excerpts(&self) -> String {
        self.list.iter().map(|problem| format!("{}\n{}", self.line(problem), problem.excerpt())).collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.list.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{}", self.line(problem))?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The longest value that a problem repeats, in characters.
const VALUE_MAX: usize = 60;
/// The longest line that a problem shows, in characters.
const EXCERPT_MAX: usize = 160;

/// A file's text, its lines, and what was found wrong with it so far.
#[derive(Debug)]
pub struct Findings<'t> {
    file: &'t str,
    text: &'t str,
    lines: Vec<usize>,
    imported: Option<(usize, &'t [Option<Origin>])>,
    list: Vec<(Span, Problem)>,
    scripts: Vec<(String, Span, Script)>,
    /// The text without its secrets, once there is something to show of it.
    shown: OnceCell<String>,
}

impl<'t> Findings<'t> {
    /// Nothing found yet in the text of a file.
    #[must_use]
    pub fn new(file: &'t str, text: &'t str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self {
            file,
            text,
            lines: std::iter::once(0).chain(ends).collect(),
            imported: None,
            list: Vec::new(),
            scripts: Vec::new(),
            shown: OnceCell::new(),
        }
    }

    /// The same where the lines after the first `lines` come from another file, each from its origin.
    #[must_use]
    pub const fn with_imported(mut self, lines: usize, origins: &'t [Option<Origin>]) -> Self {
        self.imported = Some((lines, origins));
        self
    }

    /// The text.
    #[must_use]
    pub const fn text(&self) -> &'t str {
        self.text
    }

    /// An error about the value at a place.
    pub fn error(&mut self, place: &str, at: &Span, fault: Fault) {
        self.add(Severity::Error, place, at, true, fault);
    }

    /// A warning about the value at a place.
    pub fn warn(&mut self, place: &str, at: &Span, fault: Fault) {
        self.add(Severity::Warning, place, at, true, fault);
    }

    /// An error about something that is not there: the place is where it should stand, and its text is not repeated.
    pub fn missing(&mut self, place: &str, at: &Span, fault: Fault) {
        self.add(Severity::Error, place, at, false, fault);
    }

    /// A warning about something that is not there.
    pub fn warn_missing(&mut self, place: &str, at: &Span, fault: Fault) {
        self.add(Severity::Warning, place, at, false, fault);
    }

    /// Notes that a script is named at a place, to be looked at later.
    pub fn note_script(&mut self, place: &str, at: &Span, script: &Script) {
        self.scripts.push((place.to_owned(), at.clone(), script.clone()));
    }

    /// Takes the scripts that were noted.
    pub fn scripts(&mut self) -> Vec<(String, Span, Script)> {
        std::mem::take(&mut self.scripts)
    }

    /// The number of the line where a place begins, from 1.
    #[must_use]
    pub fn line_of(&self, at: &Span) -> usize {
        self.lines.partition_point(|start| *start <= at.start).max(1)
    }

    /// True when no error was found.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.list.iter().all(|(_, problem)| problem.severity == Severity::Warning)
    }

    /// How many problems were found so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Of the problems found after the first `first`, keeps those about a value on a line where none of the first was
    /// found: after a syntax error what seems to be missing may only have been misread.
    pub fn keep_after(&mut self, first: usize) {
        let lines: Vec<usize> = self.list.iter().take(first).map(|(_, problem)| problem.line).collect();
        let mut number = 0;
        self.list.retain(|(_, problem)| {
            number += 1;
            number <= first || (problem.value.is_some() && !lines.contains(&problem.line))
        });
    }

    /// All that was found, in the order of the file.
    #[must_use]
    pub fn finish(mut self) -> Problems {
        self.list.sort_by_key(|(at, _)| at.start);
        let mut list: Vec<Problem> = self.list.into_iter().map(|(_, problem)| problem).collect();
        list.dedup();
        Problems { file: self.file.to_owned(), list }
    }

    /// Where a line of an imported part comes from.
    fn origin(&self, line: usize) -> Option<&'t Origin> {
        let (lines, origins) = self.imported?;
        origins.get(line.checked_sub(lines + 1)?)?.as_ref()
    }

    /// A part of the text, with stars in the place of secrets.
    fn shown(&self, at: &Span) -> &str {
        let shown = self.shown.get_or_init(|| starred(self.text));
        // Byte for byte the same.
        shown.get(at.clone()).unwrap_or_default()
    }

    fn add(&mut self, severity: Severity, place: &str, at: &Span, show_value: bool, fault: Fault) {
        let line = self.line_of(at);
        if let Some(origin) = self.origin(line) {
            let value = self.shown(at);
            let value = show_value.then(|| printable(value, VALUE_MAX)).filter(|value| !value.is_empty());
            self.list
                .push((at.clone(), Problem { value, ..Problem::imported(severity, origin, place, fault) }));
            return;
        }
        let line_start = self.lines.get(line - 1).copied().unwrap_or(0);
        let rest = self.shown(&(line_start..self.text.len()));
        let whole = rest.lines().next().unwrap_or_default();
        let column = self.text.get(line_start..at.start).unwrap_or_default().chars().count() + 1;
        let value = self.shown(at);
        let width = value.lines().next().unwrap_or_default().chars().count();
        let (excerpt, column_shown) = (printable(whole, EXCERPT_MAX), column.min(EXCERPT_MAX));
        let problem = Problem {
            severity,
            file: None,
            line,
            column,
            place: place.to_owned(),
            wrong: fault.wrong,
            value: show_value.then(|| printable(value, VALUE_MAX)).filter(|value| !value.is_empty()),
            holds: fault.holds,
            advice: fault.advice,
            width: width.min(EXCERPT_MAX - column_shown + 1),
            excerpt,
        };
        self.list.push((at.clone(), problem));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_and_an_excerpt() {
        let text = "[runtime]\nidle = \"lazy\"\n";
        let mut findings = Findings::new("a.toml", text);
        findings.error(
            "runtime",
            &(17..23),
            Fault::new("no such way to idle", "busy or adaptive", "choose one"),
        );
        findings.warn_missing("runtime", &(0..9), Fault::new("nothing", "something", "do it"));
        assert!(!findings.is_usable());
        let problems = findings.finish();
        assert_eq!(
            problems.with_excerpts(),
            "a.toml:1:1: warning: runtime: nothing: something: do it\n  |\n1 | [runtime]\n  | ^^^^^^^^^\n\
             a.toml:2:8: runtime: no such way to idle (\"lazy\"): busy or adaptive: choose one\n  \
             |\n2 | idle = \"lazy\"\n  |        ^^^^^^\n"
        );
        assert_eq!((problems.errors(), problems.warnings()), (1, 1));
    }

    #[test]
    fn long_and_strange_text_is_shortened() {
        let text = format!("{}x", "é".repeat(400));
        let mut findings = Findings::new("a", &text);
        findings.error("p", &(800..801), Fault::new("w", "h", "a"));
        let problems = findings.finish();
        assert_eq!(problems.list[0].column, 401);
        assert!(problems.with_excerpts().chars().count() < 400);
    }
}

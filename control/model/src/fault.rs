//! What is wrong with a value, how bad that is, and where it stands.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Bytes of the file that a value or a key takes.
pub type Span = Range<usize>;

/// A value and the place where the file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub at: Span,
}

impl<T> At<T> {
    /// A value at a place.
    pub const fn new(value: T, at: Span) -> Self {
        Self { value, at }
    }
}

/// What is wrong with one value, said by who reads it; the place is added by who knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub wrong: String,
    /// What holds instead.
    pub holds: String,
    /// What to do.
    pub advice: String,
}

impl Fault {
    /// A fault in its three parts.
    pub fn new(wrong: impl Into<String>, holds: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), holds: holds.into(), advice: advice.into() }
    }
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, and probably does not do what was meant.
    Warning,
}

/// A place in a file that is imported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file; all places in it share its name.
    pub file: Arc<Path>,
    /// Its line, from 1.
    pub line: usize,
    /// The character of the line, from 1.
    pub column: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// The first line of a text with control characters replaced, at most `max` characters and an ellipsis.
#[must_use]
pub fn printable(text: &str, max: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut shown: String =
        line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).take(max).collect();
    if line.chars().nth(max).is_some() || text.lines().nth(1).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn text_is_cut_and_control_characters_are_replaced() {
        assert_eq!(printable("abc\x1b[31m\ndef", 4), "abc\u{fffd}…");
        assert_eq!(printable("", 4), "");
    }
}

//! TOML that is written line by line, each with the place that it comes from.

use std::collections::HashSet;
use std::fmt::{Display, Write as _};
use std::path::Path;
use std::sync::Arc;

use shunt_model::fault::Fault;
use shunt_model::fault::Origin;

use super::note::{Fate, Kind, Note};

/// What a set-up of another program became.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// TOML.
    pub text: String,
    /// For each of its lines, where it comes from; none for lines of nobody's.
    pub origins: Vec<Option<Origin>>,
    /// What there is to tell.
    pub notes: Vec<Note>,
}

impl Imported {
    /// True when nothing was refused.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.notes.iter().all(|note| note.kind != Kind::Refused)
    }
}

/// Writes TOML.
#[derive(Debug, Default)]
pub struct Writer {
    imported: Imported,
    /// Comments that go in front of the next table.
    comments: Vec<(Origin, String)>,
    /// The file that is imported.
    file: Option<Arc<Path>>,
}

impl From<Imported> for Writer {
    fn from(imported: Imported) -> Self {
        Self { imported, ..Self::default() }
    }
}

impl Writer {
    /// A writer for what a file becomes.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self { file: Some(path.into()), ..Self::default() }
    }

    /// A line as it is.
    pub fn line(&mut self, origin: &Origin, line: &str) {
        for line in line.split('\n') {
            self.imported.text.push_str(line);
            self.imported.text.push('\n');
            self.imported.origins.push(Some(origin.clone()));
        }
    }

    /// An empty line and the head of a table.
    pub fn table(&mut self, origin: &Origin, head: &str) {
        if !self.imported.text.is_empty() {
            self.imported.text.push('\n');
            self.imported.origins.push(None);
        }
        self.write_comments();
        self.line(origin, head);
    }

    /// `key = value`, the value as TOML has it.
    pub fn key(&mut self, origin: &Origin, key: &str, value: impl Display) {
        self.line(origin, &format!("{key} = {value}"));
    }

    /// All that another writer wrote, after what this one has.
    pub fn append(&mut self, mut other: Self) {
        other.write_comments();
        let Imported { text, origins, notes } = other.imported;
        if !self.imported.text.is_empty() && !text.is_empty() {
            self.imported.text.push('\n');
            self.imported.origins.push(None);
        }
        self.imported.text += &text;
        self.imported.origins.extend(origins);
        self.imported.notes.extend(notes);
    }

    /// Whether nothing was written and nothing told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.imported.text.is_empty() && self.imported.notes.is_empty()
    }

    /// The first line of the file that is imported.
    #[must_use]
    pub fn origin_of_file(&self) -> Option<Origin> {
        self.file.as_ref().map(|file| Origin { file: file.clone(), line: 1, column: 1 })
    }

    /// A comment about the table that comes next.
    pub fn comment_ahead(&mut self, origin: &Origin, words: &str) {
        self.comments.push((origin.clone(), words.to_owned()));
    }

    /// Each of them once, however many lines of the file say the same.
    fn write_comments(&mut self) {
        let mut written = HashSet::new();
        for (origin, words) in std::mem::take(&mut self.comments) {
            if written.insert(words.clone()) {
                self.comment(&origin, &words);
            }
        }
    }

    /// A comment.
    pub fn comment(&mut self, origin: &Origin, words: &str) {
        self.line(origin, &format!("# {}", words.replace(|c: char| c.is_control(), " ")));
    }

    /// A notice about something that is done in another way here.
    pub fn notice(&mut self, origin: &Origin, place: &str, fault: Fault) {
        self.note(Kind::Differs, origin, place, fault);
    }

    /// Something that the program passes over whose file it is, and this director, too.
    pub fn ignored(&mut self, origin: &Origin, place: &str, fault: Fault) {
        self.note(Kind::Ignored, origin, place, fault);
    }

    /// Something that cannot be taken.
    pub fn refuse(&mut self, origin: &Origin, place: &str, fault: Fault) {
        self.note(Kind::Refused, origin, place, fault);
    }

    /// Tells what becomes of a keyword that has no equal; the notice also stands in the text, as a comment in front of
    /// the next table.
    pub fn tell(&mut self, origin: &Origin, place: &str, line: &str, fate: Fate) {
        match fate {
            Fate::Supported(_) => {}
            Fate::Instead(instead) => {
                self.comment_ahead(origin, &format!("{line}: {instead}"));
                let wrong = format!("{line} has no equal");
                self.note(
                    Kind::Needless,
                    origin,
                    place,
                    Fault::new(wrong, instead, "nothing needs to be done"),
                );
            }
            Fate::Differs(instead) => {
                self.comment_ahead(origin, &format!("{line}: {instead}"));
                let wrong = format!("{line} has no equal");
                self.notice(origin, place, Fault::new(wrong, instead, "see whether that will do"));
            }
            Fate::Ignored(why) => {
                self.comment_ahead(origin, &format!("{line}: {why}"));
                let wrong = format!("{line} has no effect");
                let holds = format!("{why}, and keepalived 2.2.7 ignores it");
                self.ignored(origin, place, Fault::new(wrong, holds, "remove it"));
            }
            Fate::Refused(advice) => {
                let wrong = format!("{line} is not supported");
                self.refuse(origin, place, Fault::new(wrong, "it would not do what it says", advice));
            }
        }
    }

    /// Tells of a keyword that has no effect here, and what the operator has to do instead.
    pub fn advise(&mut self, origin: &Origin, place: &str, line: &str, advice: &str) {
        self.comment_ahead(origin, &format!("{line}: {advice}"));
        let wrong = format!("{line} has no equal");
        self.notice(origin, place, Fault::new(wrong, "it has no effect here", advice));
    }

    fn note(&mut self, kind: Kind, origin: &Origin, place: &str, fault: Fault) {
        self.imported.notes.push(Note { kind, origin: origin.clone(), place: place.to_owned(), fault });
    }

    /// What was written; notes in the order of their places.
    #[must_use]
    pub fn finish(mut self) -> Imported {
        self.write_comments();
        // Those of one place side by side, for a file may be read more than once.
        self.imported.notes.sort_by(|a, b| {
            let key = |note: &Note| (note.origin.clone(), note.fault.wrong.clone());
            key(a).cmp(&key(b))
        });
        self.imported.notes.dedup();
        self.imported
    }
}

/// A list with the last one of each key alone: who says something twice means the last.
#[must_use]
pub fn last_of_each<T, K: PartialEq>(list: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut kept: Vec<T> = Vec::with_capacity(list.len());
    for item in list {
        kept.retain(|other| key(other) != key(&item));
        kept.push(item);
    }
    kept
}

/// A text as TOML has it.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => drop(write!(quoted, "\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A length of time as TOML has it, from seconds as others have them, to the millisecond.
#[must_use]
pub fn seconds(seconds: f64) -> String {
    quoted(&shunt_model::duration::format(
        std::time::Duration::from_millis((seconds * 1000.0).round() as u64),
    ))
}

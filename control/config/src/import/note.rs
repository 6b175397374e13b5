//! What an import tells of a line that has no equal.

use std::fmt;

use shunt_model::fault::{Fault, Origin, Severity};

/// What becomes of a keyword of another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It means here what it means there; the key that says it.
    Supported(&'static str),
    /// It is accepted, and this is done instead, which is as good; a notice says so.
    Instead(&'static str),
    /// It is accepted, and this is done instead, which is not the same; a notice says so.
    Differs(&'static str),
    /// keepalived 2.2.7 passes over it, and so does this director; why.
    Ignored(&'static str),
    /// It is an error; this is what to do.
    Refused(&'static str),
}

/// What a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The line cannot be taken.
    Refused,
    /// The program that the file is of passes over it, and so does this director.
    Ignored,
    /// It has another effect here than what the line says.
    Differs,
    /// It has no equal, and needs none.
    Needless,
}

/// One thing to tell about an imported file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub kind: Kind,
    /// Where.
    pub origin: Origin,
    /// The part of the file, such as `vrrp_instance VI_1`.
    pub place: String,
    /// What.
    pub fault: Fault,
}

impl Note {
    /// Whether the file can be used all the same.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self.kind {
            Kind::Refused => Severity::Error,
            Kind::Ignored | Kind::Differs | Kind::Needless => Severity::Warning,
        }
    }
}

impl fmt::Display for Note {
    /// One line, in the shape of every problem of a configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warning = if self.severity() == Severity::Warning { "warning: " } else { "" };
        let Self { origin, place, fault: Fault { wrong, holds, advice }, .. } = self;
        write!(f, "{origin}: {warning}{place}: {wrong}: {holds}: {advice}")
    }
}

//! A command of the operator's.

use std::fmt;
use std::path::PathBuf;

use crate::secret::masked;

/// A command of the operator's.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Script {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Who runs it: a user, and a group if it is not the user's; none for the director's own.
    pub user: Option<String>,
}

impl Script {
    /// Adds words to the command: to its arguments, or to the line that the shell reads.
    pub fn extend(&mut self, words: &[String]) {
        match &mut self.command[..] {
            [shell, option, line] if shell == "/bin/sh" && option == "-c" => {
                for word in words {
                    *line += &format!(" '{}'", word.replace('\'', r"'\''"));
                }
            }
            _ => self.command.extend_from_slice(words),
        }
    }
}

impl fmt::Debug for Script {
    /// As people read it: without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Script({self})")
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.command[..] {
            [shell, option, line] if shell == "/bin/sh" && option == "-c" => write!(f, "{:?}", masked(line))?,
            words => write!(f, "{:?}", masked(&words.join(" ")))?,
        }
        self.user.as_ref().map_or(Ok(()), |user| write!(f, " as {user}"))
    }
}

/// What stands against starting a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// Somebody else than root and the director's user may write this.
    Writable(PathBuf, String),
    /// It is not there, or nobody may execute it.
    Unusable(String),
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writable(path, who) => write!(f, "{} {who}", path.display()),
            Self::Unusable(why) => f.write_str(why),
        }
    }
}

//! Values of keywords, typed.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::keywords::Block;
use super::tree::Statement;
use crate::config::problem::{Fault, printable};
use crate::import::note::{Fate, Origin};
use crate::import::writer::Writer;

/// Values of a statement, read one after another; what is wrong with one goes to the writer.
pub struct Values<'s, 'w> {
    statement: &'s Statement,
    place: &'s str,
    next: usize,
    writer: &'w mut Writer,
}

impl<'s, 'w> Values<'s, 'w> {
    /// The values of a statement of a part of the file.
    pub fn of(statement: &'s Statement, place: &'s str, writer: &'w mut Writer) -> Self {
        Self { statement, place, next: 1, writer }
    }

    /// The next value as it is, if there is one.
    pub fn word(&mut self) -> Option<&'s str> {
        let word = self.statement.words.get(self.next)?;
        self.next += 1;
        Some(word)
    }

    /// The next value without taking it.
    #[must_use]
    pub fn peek(&self) -> Option<&'s str> {
        self.statement.words.get(self.next).map(String::as_str)
    }

    /// The next value, which has to be there; `holds` says what it is.
    pub fn required(&mut self, holds: &str) -> Option<&'s str> {
        let word = self.word();
        if word.is_none() {
            let wrong = format!("{} has no value", self.statement.keyword());
            self.writer.refuse(self.statement.origin(), self.place, Fault::new(wrong, holds, "add it"));
        }
        word
    }

    /// The next value, read by `parse`; `holds` says what it has to be.
    pub fn parse<T>(&mut self, holds: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let word = self.required(holds)?;
        let value = parse(word);
        if value.is_none() {
            self.refuse_last(holds);
        }
        value
    }

    /// A whole number within bounds.
    pub fn integer<T: FromStr + PartialOrd + Display>(&mut self, bounds: RangeInclusive<T>) -> Option<T> {
        let holds =
            format!("{} is a number, {} to {}", self.statement.keyword(), bounds.start(), bounds.end());
        self.parse(&holds, |word| word.parse().ok().filter(|value| bounds.contains(value)))
    }

    /// Seconds with parts of them.
    pub fn seconds(&mut self, bounds: RangeInclusive<f64>) -> Option<f64> {
        let holds =
            format!("{} is seconds, {} to {}", self.statement.keyword(), bounds.start(), bounds.end());
        self.parse(&holds, |word| word.parse::<f64>().ok().filter(|value| bounds.contains(value)))
    }

    /// An address.
    pub fn address(&mut self) -> Option<IpAddr> {
        self.parse("an address, such as 192.0.2.10 or 2001:db8::10", |word| word.parse().ok())
    }

    /// An address and the port after it; port 0 where there is none.
    pub fn endpoint(&mut self) -> Option<SocketAddr> {
        let address = self.address()?;
        let l4_port = if self.peek().is_some() {
            self.parse("a port is a number, 0 to 65535", |word| word.parse().ok())?
        } else {
            0
        };
        Some(SocketAddr::new(address, l4_port))
    }

    /// on, true, yes or off, false, no; on where nothing is said.
    pub fn boolean(&mut self) -> Option<bool> {
        if self.peek().is_none() {
            return Some(true);
        }
        self.parse("on, true, yes, off, false or no", |word| match word.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" => Some(true),
            "off" | "false" | "no" => Some(false),
            _ => None,
        })
    }

    /// One of several words, in any case; what stands beside it.
    pub fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let holds = format!("{} is one of {}", self.statement.keyword(), words.join(", "));
        self.parse(&holds, |word| {
            choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(word)).map(|(_, value)| *value)
        })
    }

    /// All values that are left, as one text.
    pub fn rest(&mut self, holds: &str) -> Option<String> {
        self.required(holds)?;
        let rest = self.statement.words[self.next - 1..].join(" ");
        self.next = self.statement.words.len();
        Some(rest)
    }

    /// All values that are left, read by `parse` as one text.
    pub fn parse_rest<T>(&mut self, holds: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let rest = self.rest(holds)?;
        let value = parse(&rest);
        if value.is_none() {
            self.refuse_last(holds);
        }
        value
    }

    /// All values that are left, as one text; none when there are none.
    pub fn rest_or_none(&mut self) -> Option<String> {
        self.peek()?;
        self.rest("")
    }

    /// Tells of values that nobody asked for.
    pub fn end(&mut self) {
        if let Some(word) = self.word() {
            let wrong = format!("{} is one value too many", printable(word, 60));
            let holds = format!("nothing follows it after {}", self.statement.keyword());
            self.writer.refuse(self.origin_of_last(), self.place, Fault::new(wrong, holds, "remove it"));
        }
    }

    fn refuse_last(&mut self, holds: &str) {
        let word = &self.statement.words[self.next - 1];
        let wrong = format!("{} cannot be {}", self.statement.keyword(), printable(word, 60));
        let origin = self.origin_of_last();
        self.writer.refuse(origin, self.place, Fault::new(wrong, holds, "write one of those"));
    }

    fn origin_of_last(&self) -> &'s Origin {
        &self.statement.origins[self.next - 1]
    }
}

/// Gives the statements of a block that mean something here to `take`, and tells of the others.
pub fn walk<'s>(
    statements: &'s [Statement],
    block: Block,
    place: &str,
    writer: &mut Writer,
    mut take: impl FnMut(&'s Statement, &mut Writer),
) {
    for statement in statements {
        match block.fate(statement.keyword()) {
            Ok(Fate::Supported(_)) => take(statement, writer),
            Ok(fate) => writer.tell(statement.origin(), place, &statement.line(), fate),
            Err(fault) => writer.refuse(statement.origin(), place, fault),
        }
    }
}

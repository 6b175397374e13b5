//! Values of keywords, typed.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use shunt_model::fault::Origin;
use shunt_model::fault::{Fault, printable};

use super::keywords::Block;
use super::tree::Statement;
use super::words::quoted_words;
use crate::import::note::Fate;
use crate::import::writer::Writer;

/// Values of a statement, read one after another; what is wrong with one goes to the writer.
pub struct Values<'s, 'w> {
    statement: &'s Statement,
    place: &'s str,
    next: usize,
    writer: &'w mut Writer,
}

/// Keywords, each with the block that it stands in, that keepalived 2.2.7 passes over where their value is missing; it ends at all
/// others that have to have one.
const PASSED_OVER: &[(&str, &str)] = &[
    ("global_defs", "script_user"),
    ("global_defs", "smtp_helo_name"),
    ("vrrp_script", "script"),
    ("track_file", "file"),
    ("track_file", "weight"),
    ("vrrp_track_process", "param_match"),
    ("vrrp_track_process", "weight"),
    ("virtual_server", "virtualhost"),
    ("real_server", "virtualhost"),
    ("checker", "virtualhost"),
    ("checker", "misc_path"),
    ("checker", "user"),
    ("checker", "helo_name"),
    ("checker", "payload"),
    ("checker", "sni_name"),
    ("url", "virtualhost"),
    ("url", "regex"),
];

impl<'s, 'w> Values<'s, 'w> {
    /// The values of a statement of a part of the file.
    pub fn of(statement: &'s Statement, place: &'s str, writer: &'w mut Writer) -> Self {
        Self { statement, place, next: 1, writer }
    }

    /// The keyword.
    #[must_use]
    pub fn keyword(&self) -> &'s str {
        self.statement.keyword()
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

    /// The next value, which has to be there: without it keepalived ends when it reads the file, or passes over the line
    /// ([`PASSED_OVER`]); `holds` says what it is.
    pub fn required(&mut self, holds: &str) -> Option<&'s str> {
        let word = self.word();
        if word.is_none() {
            let keyword = self.statement.keyword();
            let wrong = format!("{keyword} has no value");
            if PASSED_OVER.contains(&(self.statement.within, keyword)) {
                self.ignored(
                    wrong,
                    format!("keepalived ignores the line; {holds}"),
                    "add it, or remove the line",
                );
            } else {
                let fault = Fault::new(wrong, format!("keepalived stops here; {holds}"), "add it");
                self.writer.refuse(self.statement.origin(), self.place, fault);
            }
        }
        word
    }

    /// The next value, read by `parse`; `holds` says what it has to be.
    pub fn parse<T>(&mut self, holds: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let word = self.required(holds)?;
        let value = parse(word);
        if value.is_none() {
            self.ignore_last(holds);
        }
        value
    }

    /// A whole number within bounds.
    pub fn integer<T: FromStr + PartialOrd + Display>(&mut self, bounds: RangeInclusive<T>) -> Option<T> {
        let holds =
            format!("{} is a number, {} to {}", self.statement.keyword(), bounds.start(), bounds.end());
        self.parse(&holds, |word| word.parse().ok().filter(|value| bounds.contains(value)))
    }

    /// A whole number where keepalived complains of what it cannot read, and goes on with what it could: `12abc` is 12, and `abc` is 0.
    pub fn integer_as_far<T: FromStr + PartialOrd + Display>(
        &mut self,
        bounds: RangeInclusive<T>,
    ) -> Option<T> {
        let as_far = self.peek().filter(|word| word.parse::<i128>().is_err()).and_then(|word| {
            let digits = digits(word.strip_prefix('-').unwrap_or(word));
            let length = digits.len() + usize::from(word.starts_with('-') && !digits.is_empty());
            let read = if digits.is_empty() { "0" } else { &word[..length] };
            read.parse().ok().filter(|number| bounds.contains(number))
        });
        as_far.inspect(|number| self.tell_as_far(number.to_string())).or_else(|| self.integer(bounds))
    }

    /// Tells that keepalived has taken a word as far as it could be read.
    fn tell_as_far(&mut self, read: String) {
        let wrong =
            format!("{} cannot be {}", self.keyword(), printable(self.word().unwrap_or_default(), 60));
        let origin = self.origin_of_last();
        let fault = Fault::new(wrong, format!("keepalived complains, and takes {read}"), "correct it");
        self.writer.ignored(origin, self.place, fault);
    }

    /// Seconds with parts of them. Of a word that is no number keepalived takes the digits in front, whatever point stands among
    /// them, as microseconds.
    pub fn seconds(&mut self, bounds: RangeInclusive<f64>) -> Option<f64> {
        let as_far = self.peek().filter(|word| !word.starts_with('-') && decimal(word).is_none());
        let as_far = as_far.and_then(|word| {
            let read: f64 = digits(&word.replacen('.', "", 1)).parse().unwrap_or_default();
            Some(read / 1e6).filter(|read| bounds.contains(read))
        });
        if let Some(read) = as_far {
            self.tell_as_far(format!("{read} s"));
            return Some(read);
        }
        let holds =
            format!("{} is seconds, {} to {}", self.statement.keyword(), bounds.start(), bounds.end());
        self.parse(&holds, |word| decimal(word).filter(|value| bounds.contains(value)))
    }

    /// An address; keepalived leaves out a length or a range behind it.
    pub fn address(&mut self) -> Option<IpAddr> {
        self.parse("it is an address, such as 192.0.2.10 or 2001:db8::10", address)
    }

    /// An address and the port after it; port 0 where there is none.
    pub fn endpoint(&mut self) -> Option<SocketAddr> {
        let address = self.address()?;
        let l4_port = match self.peek() {
            None => 0,
            Some(zeros) if zeros.bytes().all(|byte| byte == b'0') => {
                self.word();
                0
            }
            Some(_) => self.integer_as_far(1..=u16::MAX)?,
        };
        Some(SocketAddr::new(address, l4_port))
    }

    /// on, true, yes or off, false, no, in small letters; on where nothing is said.
    pub fn boolean(&mut self) -> Option<bool> {
        if self.peek().is_none() {
            return Some(true);
        }
        self.parse("it is one of on, true, yes, off, false and no", |word| match word {
            "on" | "true" | "yes" => Some(true),
            "off" | "false" | "no" => Some(false),
            _ => None,
        })
    }

    /// One of several words, letter by letter; what stands beside it.
    pub fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        self.choice_by(choices, |choice, word| choice == word)
    }

    /// One of several words in large or small letters.
    pub fn choice_in_any_case<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        self.choice_by(choices, str::eq_ignore_ascii_case)
    }

    fn choice_by<T: Copy>(&mut self, choices: &[(&str, T)], same: impl Fn(&str, &str) -> bool) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let holds = format!("{} is one of {}", self.statement.keyword(), words.join(", "));
        self.parse(&holds, |word| {
            choices.iter().find(|(choice, _)| same(choice, word)).map(|(_, value)| *value)
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
            self.ignore_last(holds);
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
            let holds = format!("keepalived ignores it, for {holds}");
            self.writer.ignored(self.origin_of_last(), self.place, Fault::new(wrong, holds, "remove it"));
        }
    }

    /// The next value, with quotation marks and escapes as keepalived reads regular expressions.
    pub fn quoted(&mut self, holds: &str) -> Option<String> {
        let word = self.required(holds)?.to_owned();
        self.next = self.statement.words.len();
        let raw = self.statement.raw.as_deref().map(quoted_words);
        match raw {
            None => Some(word),
            Some(Ok(words)) => words.into_iter().nth(1),
            Some(Err(mark)) => {
                let wrong = format!("a quotation mark {mark} is not closed");
                self.ignored(wrong, "keepalived ignores the line", "close it");
                None
            }
        }
    }

    /// Tells that keepalived passes over the line because of the value that was read last.
    pub fn ignore_last(&mut self, holds: &str) {
        let word = &self.statement.words[self.next - 1];
        let wrong = format!("{} cannot be {}", self.statement.keyword(), printable(word, 60));
        let origin = self.origin_of_last();
        let holds = format!("keepalived ignores the line, for {holds}");
        self.writer.ignored(origin, self.place, Fault::new(wrong, holds, "correct it, or remove the line"));
    }

    /// Tells of something that is otherwise than the line says.
    pub fn differs(&mut self, wrong: impl Into<String>, holds: impl Into<String>, advice: impl Into<String>) {
        self.writer.notice(self.statement.origin(), self.place, Fault::new(wrong, holds, advice));
    }

    /// Tells of something that cannot be taken.
    pub fn refuse_line(&mut self, wrong: &str, holds: &str, advice: &str) {
        self.writer.refuse(self.statement.origin(), self.place, Fault::new(wrong, holds, advice));
    }

    /// Tells of something that keepalived passes over.
    pub fn ignored(&mut self, wrong: impl Into<String>, holds: impl Into<String>, advice: impl Into<String>) {
        self.writer.ignored(self.statement.origin(), self.place, Fault::new(wrong, holds, advice));
    }

    /// The words of a script: keepalived takes the first value alone for the program and its arguments, and reads
    /// quotation marks and escapes in it; and the values after it.
    pub fn script(&mut self, holds: &str) -> Option<(Vec<String>, Vec<String>)> {
        self.required(holds)?;
        self.next = self.statement.words.len();
        let raw = match self.statement.raw.as_deref() {
            Some(raw) => quoted_words(raw),
            None => Ok(self.statement.words.clone()),
        };
        let command = raw.as_ref().ok().and_then(|words| words.get(1)).map(|first| quoted_words(first));
        match (raw, command) {
            (Ok(words), Some(Ok(command))) if !command.is_empty() => {
                Some((command, words.get(2..).unwrap_or_default().to_vec()))
            }
            _ => {
                let wrong = format!("the script of {} cannot be read", self.statement.keyword());
                self.ignored(wrong, "keepalived ignores it, for a quotation mark is not closed", "close it");
                None
            }
        }
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
            Err(fault) => writer.ignored(statement.origin(), place, fault),
        }
    }
}

/// The digits that a word begins with.
fn digits(word: &str) -> &str {
    let end = word.bytes().position(|byte| !byte.is_ascii_digit());
    &word[..end.unwrap_or(word.len())]
}

/// A number of digits and one point.
fn decimal(word: &str) -> Option<f64> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    word.parse().ok().filter(|_| is_plain)
}

/// An address without the length or range behind it.
pub fn address(word: &str) -> Option<IpAddr> {
    word.split(['-', '/']).next()?.parse().ok()
}

//! What happens to the lines of keepalived.conf before they have a meaning: included files, conditions (`@host`),
//! definitions (`$NAME=`), sequences (`~SEQ`) and lists (`~LST`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::words::without_comment;
use crate::import::files::{Files, braces};
use crate::import::writer::Writer;
use dpdk_sys::glob::escape;
use shunt_model::fault::Origin;
use shunt_model::fault::{Fault, printable};
use shunt_model::limit::VRRP_MAX;

/// A line with everything put in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it says, without a comment.
    pub text: String,
    /// Where it stands; its column is that of the first character.
    pub origin: Origin,
    /// True when it stands in its file as it is here, so that columns hold.
    pub verbatim: bool,
}

/// Lines that files may become: `~SEQ` makes many of one.
pub const LINES_MAX: usize = 1_000_000;
/// How deep files may include each other, and definitions may hold definitions.
pub const DEPTH_MAX: usize = 32;

/// Bytes that the definitions of one line may become.
const REPLACED_MAX: usize = 1 << 20;
/// What keepalived takes away from both ends of a line.
const BLANKS: [char; 3] = [' ', '\t', '\r'];

/// How far `include` insists on files being there.
#[derive(Clone, Copy, Debug, Default)]
struct IncludeCheck {
    readable: bool,
    found: bool,
    found_by_wildcard: bool,
}

/// Reads a file and all that it includes.
pub struct Expansion<'a> {
    files: &'a dyn Files,
    config_id: &'a str,
    definitions: HashMap<String, String>,
    lines: Vec<Line>,
    include_check: IncludeCheck,
    folder: PathBuf,
    full: bool,
    /// Instances of VRRP so far.
    instances: usize,
    random: u64,
}

/// The place that problems of reading call.
const PLACE: &str = "file";

impl<'a> Expansion<'a> {
    /// A reader for the director that calls itself `config_id`.
    #[must_use]
    pub fn new(files: &'a dyn Files, config_id: &'a str) -> Self {
        Self {
            files,
            config_id,
            definitions: HashMap::new(),
            lines: Vec::new(),
            include_check: IncludeCheck::default(),
            folder: PathBuf::new(),
            full: false,
            instances: 0,
            random: 1,
        }
    }

    /// All lines of a file.
    #[must_use]
    pub fn read(mut self, path: &Path, writer: &mut Writer) -> Vec<Line> {
        let origin = Origin { file: path.into(), line: 1, column: 1 };
        self.file(path, &origin, 0, true, writer);
        self.lines
    }

    fn file(&mut self, path: &Path, from: &Origin, depth: usize, required: bool, writer: &mut Writer) {
        if depth > DEPTH_MAX {
            let holds = format!("files include each other at most {DEPTH_MAX} deep");
            let wrong = format!("{} is included too deep", path.display());
            return writer.refuse(
                from,
                PLACE,
                Fault::new(wrong, holds, "see whether a file includes itself"),
            );
        }
        let text = match self.files.read(path) {
            Ok(text) => text,
            Err(error) => {
                let fault = Fault::new(
                    format!("{} cannot be read ({error})", path.display()),
                    "an included file is readable",
                    "correct its name, or its rights",
                );
                return if required {
                    writer.refuse(from, PLACE, fault)
                } else {
                    writer.notice(from, PLACE, fault)
                };
            }
        };
        let (folder, check) = (self.folder.clone(), self.include_check);
        self.folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let file: Arc<Path> = path.into();
        let mut rows = rows(&text).enumerate();
        while let Some((number, row)) = rows.next() {
            let row = row.trim_end_matches(BLANKS);
            let indented = row.len() - row.trim_start_matches(BLANKS).len();
            let content = without_comment(row);
            let content = content.trim_matches(BLANKS);
            if content.is_empty() {
                continue;
            }
            if self.full {
                break;
            }
            let origin = Origin { file: file.clone(), line: number + 1, column: indented + 1 };
            let mut content = content.to_owned();
            if begins_definition(&content) {
                // A definition goes on while lines end in a backslash.
                while content.ends_with('\\') {
                    content.pop();
                    content.truncate(content.trim_end_matches(BLANKS).len());
                    let Some((_, row)) = rows.next() else { break };
                    content.push('\n');
                    content.push_str(without_comment(row.trim_end_matches(BLANKS)).trim_matches(BLANKS));
                }
            }
            self.line(&content, &origin, depth, 0, writer);
        }
        (self.folder, self.include_check) = (folder, check);
    }

    /// `include` and its variants; false for another line.
    fn included(&mut self, content: &str, from: &Origin, depth: usize, writer: &mut Writer) -> bool {
        let (word, pattern) = content.split_once([' ', '\t']).unwrap_or((content, ""));
        let mut check = self.include_check;
        match word {
            "include" => {}
            "includer" => check.readable = true,
            "includem" | "includeb" => check.found = true,
            "includew" => check.found_by_wildcard = true,
            "includea" => check = IncludeCheck { readable: true, found: true, found_by_wildcard: true },
            _ => return false,
        }
        let pattern = pattern.trim_matches(BLANKS);
        if pattern.is_empty() {
            let fault = Fault::new(format!("{word} names no file"), "keepalived ignores it", "name one");
            writer.ignored(from, PLACE, fault);
            return true;
        }
        // keepalived goes to the folder: what its name has in it is no pattern.
        let folder = escape(self.folder.as_os_str());
        for one in braces(pattern) {
            let found = self.files.matching(&Path::new(&folder).join(&one).display().to_string(), false);
            let wild = one.contains(['*', '?', '[']);
            if found.is_empty() {
                let required = if wild { check.found_by_wildcard } else { check.found || check.readable };
                let (holds, advice) = if one.contains(['"', '\'']) {
                    (
                        "quotation marks are a part of the name, as in keepalived, which goes on without it",
                        "remove them",
                    )
                } else {
                    ("keepalived goes on without it", "correct the name, or remove the line")
                };
                let wrong = format!("no file is {}", self.folder.join(&one).display());
                if required {
                    let holds = "include names files that are there";
                    writer.refuse(from, PLACE, Fault::new(wrong, holds, advice));
                } else {
                    writer.ignored(from, PLACE, Fault::new(wrong, holds, advice));
                }
            }
            for path in found {
                if !self.files.is_plain(&path) {
                    let wrong = format!("{} is a folder, or a file that may be executed", path.display());
                    let fault =
                        Fault::new(wrong, "keepalived includes neither", "name files, and `chmod -x` them");
                    if check.readable {
                        writer.refuse(from, PLACE, fault);
                    } else {
                        writer.ignored(from, PLACE, fault);
                    }
                    continue;
                }
                self.file(&path, from, depth + 1, check.readable || check.found, writer);
            }
        }
        true
    }

    /// One line, or several that a definition held; `files` are the files around it, `depth` the definitions.
    fn line(&mut self, content: &str, origin: &Origin, files: usize, depth: usize, writer: &mut Writer) {
        if self.full {
            return;
        }
        if self.lines.len() >= LINES_MAX || depth > DEPTH_MAX {
            let holds = format!("at most {LINES_MAX} lines, and {DEPTH_MAX} definitions in one another");
            return self.too_much(origin, holds, writer);
        }
        let mut content = content.trim_matches(BLANKS);
        while let Some(rest) = content.strip_prefix('@') {
            let (id, rest) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
            let (wanted, id) = id.strip_prefix('^').map_or((true, id), |id| (false, id));
            if (id == self.config_id) != wanted {
                return;
            }
            content = rest.trim_start_matches(BLANKS);
        }
        if content.is_empty() {
            return;
        }
        if let Some((name, value)) = definition(content) {
            self.definitions.insert(name.to_owned(), value.to_owned());
            return;
        }
        let bounds_replaced = self.replace_bounds(content);
        if let Some(rounds) = rounds(bounds_replaced.as_deref().unwrap_or(content)) {
            match rounds {
                Ok((rounds, rest)) => {
                    for round in rounds {
                        self.definitions.extend(round);
                        self.line(rest, origin, files, depth + 1, writer);
                        if self.full {
                            return;
                        }
                    }
                }
                Err(wrong) => {
                    let holds = "keepalived ignores the line, for it is none of ~SEQ(NAME, FIRST, STEP, LAST) and ~LST(NAME, VALUE, …)";
                    writer.ignored(origin, PLACE, Fault::new(wrong, holds, "write it so"));
                }
            }
            return;
        }
        match self.replace(content) {
            Some(replaced) if replaced.len() > REPLACED_MAX => {
                self.too_much(origin, format!("at most {REPLACED_MAX} bytes of one line"), writer);
            }
            Some(replaced) => self.rows(&replaced, origin, files, depth + 1, writer),
            None if self.included(content, origin, files, writer) => {}
            None => self.push(content, origin, depth == 0, writer),
        }
    }

    /// The lines that a line with definitions became.
    fn rows(&mut self, replaced: &str, origin: &Origin, files: usize, depth: usize, writer: &mut Writer) {
        let mut rows = replaced.split('\n');
        while let Some(row) = rows.next() {
            let row = without_comment(row);
            if !(row.ends_with('\\') && begins_definition(&row)) {
                self.line(&row, origin, files, depth, writer);
                continue;
            }
            // A definition within a definition that goes on itself.
            let mut row = row.into_owned();
            while row.ends_with('\\') {
                row.pop();
                let Some(next) = rows.next() else { break };
                row.push('\n');
                row.push_str(next);
            }
            self.line(&row, origin, files, depth, writer);
        }
    }

    fn push(&mut self, text: &str, origin: &Origin, verbatim: bool, writer: &mut Writer) {
        if text.strip_prefix("vrrp_instance").is_some_and(|rest| rest.starts_with([' ', '\t'])) {
            self.instances += 1;
            if self.instances > VRRP_MAX {
                self.full = true;
                let wrong = format!("more than {VRRP_MAX} virtual routers");
                let holds = "no director has more; nothing was read from here on";
                return writer.refuse(origin, PLACE, Fault::new(wrong, holds, "remove some"));
            }
        }
        self.lines.push(Line { text: text.to_owned(), origin: origin.clone(), verbatim });
    }

    fn too_much(&mut self, origin: &Origin, holds: String, writer: &mut Writer) {
        self.full = true;
        let wrong = "definitions and sequences make too much of this line";
        writer.refuse(origin, PLACE, Fault::new(wrong, holds, "see whether a definition holds itself"));
    }

    /// A sequence whose bounds are definitions, with those put in.
    fn replace_bounds(&mut self, content: &str) -> Option<String> {
        let (head, rest) = content.strip_prefix("~SEQ").and_then(|rest| rest.split_once(')'))?;
        Some(format!("~SEQ{}){rest}", self.replace(head)?))
    }

    /// The line with the definitions that are known put in; none when there is none.
    fn replace(&mut self, content: &str) -> Option<String> {
        let (mut replaced, mut from) = (None::<String>, 0);
        let mut at = 0;
        while let Some(dollar) = content[at..].find('$').map(|found| found + at) {
            at = dollar + 1;
            let rest = &content[at..];
            let (name, end) = match rest.strip_prefix('{') {
                Some(inner) => match inner.find('}') {
                    Some(end) => (&inner[..end], at + end + 2),
                    None => continue,
                },
                None => {
                    let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
                    if rest[end..].starts_with(|c: char| !matches!(c, ' ' | '\t' | ',' | ')')) {
                        continue;
                    }
                    (&rest[..end], at + end)
                }
            };
            if let Some(value) = self.value(name) {
                let text = replaced.get_or_insert_default();
                text.push_str(&content[from..dollar]);
                text.push_str(&value);
                (from, at) = (end, end);
            }
        }
        let mut text = replaced?;
        text.push_str(&content[from..]);
        Some(text)
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let mut words = name.split_whitespace();
        match words.next()? {
            "_PWD" => Some(self.folder.display().to_string()),
            "_INSTANCE" => Some(self.config_id.to_owned()),
            "_HASH" => Some("#".to_owned()),
            "_BANG" => Some("!".to_owned()),
            // Of keepalived 2.3 and later.
            "_ENV" => Some(words.next().and_then(|name| std::env::var(name).ok()).unwrap_or_default()),
            "_RANDOM" => {
                let low = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
                let high = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(32_767).max(low);
                // The same file gives the same set-up each time it is read, or a reload would change it.
                self.random = self
                    .random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                Some((low + (self.random >> 33) % (high - low + 1)).to_string())
            }
            name => self.definitions.get(name).cloned(),
        }
    }
}

/// The lines of a text as keepalived reads them: what follows a NUL in its line is lost.
fn rows(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').map(|row| row.split('\0').next().unwrap_or_default())
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// `$NAME=VALUE`.
fn definition(content: &str) -> Option<(&str, &str)> {
    let (name, value) = content.strip_prefix('$')?.split_once('=')?;
    let good =
        !name.is_empty() && name.chars().all(is_name) && !name.starts_with(|c: char| c.is_ascii_digit());
    good.then(|| (name, value.trim_matches(BLANKS)))
}

/// True for a definition, with conditions in front of it or without.
fn begins_definition(content: &str) -> bool {
    let mut content = content.trim_start();
    while content.starts_with('@') {
        content = content.split_once([' ', '\t']).map_or("", |(_, rest)| rest.trim_start_matches(BLANKS));
    }
    definition(content).is_some()
}

/// What the names of a `~SEQ` or `~LST` stand for, round by round.
type Rounds = Vec<Vec<(String, String)>>;

/// The rounds of a line and what is repeated in them; none for an ordinary line.
fn rounds(content: &str) -> Option<Result<(Rounds, &str), String>> {
    let (kind, rest) = content.split_once('(')?;
    let read: fn(&str) -> Option<Rounds> = match kind.trim_end() {
        "~SEQ" => |inner| sequence(inner, false),
        "~SEQx" => |inner| sequence(inner, true),
        "~LST" => list,
        _ => return None,
    };
    let rounds = rest.split_once(')').and_then(|(inner, rest)| Some((read(inner)?, rest.trim_start())));
    Some(rounds.ok_or_else(|| format!("{} is not understood", printable(content, 60))))
}

fn sequence(inner: &str, hexadecimal: bool) -> Option<Rounds> {
    let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
    let number = |text: &str| {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let value = match digits.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16),
            None => digits.parse(),
        };
        value
            .ok()
            .map(|value: i64| if negative { -value } else { value })
            .filter(|value| value.abs() <= 1 << 40)
    };
    let (first, step, last) = match parts[1..] {
        [last] => {
            let last = number(last)?;
            (if last < 0 { -1 } else { 1 }, None, last)
        }
        [first, last] => (number(first)?, None, number(last)?),
        [first, step, last] => (number(first)?, Some(number(step)?), number(last)?),
        _ => return None,
    };
    let step = step.unwrap_or(if first > last { -1 } else { 1 });
    if step == 0 || (last - first) / step >= LINES_MAX as i64 {
        return None;
    }
    let mut rounds = Vec::new();
    let mut value = first;
    while if step > 0 { value <= last } else { value >= last } {
        let text = if hexadecimal { format!("{value:x}") } else { value.to_string() };
        rounds.push(vec![(parts[0].to_owned(), text)]);
        value += step;
    }
    Some(rounds)
}

fn list(inner: &str) -> Option<Rounds> {
    let mut parts = Vec::new();
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let (part, after) = match rest.strip_prefix('{') {
            Some(group) => {
                let (group, after) = group.split_once('}')?;
                (group.split(',').map(|one| one.trim().to_owned()).collect(), after)
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (vec![rest[..end].trim().to_owned()], &rest[end..])
            }
        };
        parts.push(part);
        rest = after.trim_start().strip_prefix(',').unwrap_or(after).trim_start();
    }
    let (names, values): (&Vec<String>, _) = parts.split_first()?;
    let round = |values: &Vec<String>| {
        (values.len() == names.len()).then(|| names.iter().cloned().zip(values.iter().cloned()).collect())
    };
    values.iter().map(round).collect::<Option<Vec<_>>>().filter(|rounds| !rounds.is_empty())
}

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;

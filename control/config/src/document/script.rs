//! Commands: a list of words, a line for the shell, or a table that names a user as well.

use shunt_model::fault::{Fault, Span};
use shunt_model::limit;
use shunt_model::script::Script;
use toml::de::{DeTable, DeValue};

use super::Section;
use crate::problem::Findings;

/// A command with or without a user.
pub(super) fn read(section: &mut Section<'_, '_, '_, '_>, key: &str) -> Option<Script> {
    let value = section.raw(key)?;
    let place = format!("{}, {key}", section.place());
    let script = match value.get_ref() {
        DeValue::Table(table) => with_user(section.findings(), table, &value.span(), &place),
        _ => Some(Script { command: command(section, key), user: None }),
    }?;
    section.findings().note_script(&place, &value.span(), &script);
    Some(script)
}

fn with_user(findings: &mut Findings<'_>, table: &DeTable<'_>, at: &Span, place: &str) -> Option<Script> {
    let mut section = Section::new(findings, place, table, at, &["command", "user"], &[]);
    if !section.has("command") {
        let example = "command = [\"/usr/local/bin/tell\"]";
        section.missing(super::required("command", "a script is a command", example));
    }
    let user = user(&mut section);
    Some(Script { command: command(&mut section, "command"), user })
}

/// The key `user`: a user, and a group if it is not the user's.
pub(super) fn user(section: &mut Section<'_, '_, '_, '_>) -> Option<String> {
    let user = section.parse("user", |text| match text.split_whitespace().count() {
        1 | 2 => Ok(text.to_owned()),
        _ => Err(Fault::new("not a user", "a user, and a group if it is not the user's", "name them")),
    });
    user.map(|user| user.value)
}

/// A list of words as they are, or a line for the shell.
pub(super) fn command(section: &mut Section<'_, '_, '_, '_>, key: &str) -> Vec<String> {
    let words = section.parse_list(key, word);
    let words = words.into_iter().map(|word| word.value);
    match section.raw(key).map(|value| (value.get_ref(), value.span())) {
        Some((DeValue::String(_), _)) => {
            ["/bin/sh", "-c"].into_iter().map(str::to_owned).chain(words).collect()
        }
        Some((DeValue::Array(list), at)) if list.is_empty() => {
            section.error(&at, Fault::new("an empty command", "a command has a name", "name it"));
            Vec::new()
        }
        _ => words.collect(),
    }
}

/// A word of a command.
pub(super) fn word(text: &str) -> Result<String, Fault> {
    if text.is_empty() || text.contains('\0') || text.len() > limit::COMMAND_MAX {
        let holds = format!("1 to {} bytes, none of them 0", limit::COMMAND_MAX);
        return Err(Fault::new("not a word of a command", holds, "name the command and its arguments"));
    }
    Ok(text.to_owned())
}

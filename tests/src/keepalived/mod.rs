//! Files of keepalived beside the real keepalived: what it makes of them, as its own dump says, and what an import makes of them,
//! field by field.
//!
//! [`real`] runs keepalived up to the point where it has read all; [`dump`] reads what it prints then, and [`taken`] the configuration
//! that an import wrote, as [`Objects`] of the same names; [`compare`] tells the differences, with the notice that explains one.
//! [`generate`] makes files from a seed, with the values of [`words`].

pub mod checks;
pub mod compare;
pub mod dump;
pub mod generate;
pub mod real;
pub mod taken;
pub mod words;

use std::collections::BTreeMap;

/// What something is set to, by the name of the setting.
pub type Fields = BTreeMap<String, String>;

/// All that a file sets up, by name: `vrrp_instance VI_1`, `virtual_server tcp 192.0.2.10:80`.
pub type Objects = BTreeMap<String, Fields>;

/// The object of this name, made where there is none yet.
fn object<'a>(objects: &'a mut Objects, name: &str) -> &'a mut Fields {
    if !objects.contains_key(name) {
        objects.insert(name.to_owned(), Fields::new());
    }
    objects.get_mut(name).expect("it was just made")
}

/// Sets a field.
fn set(fields: &mut Fields, key: &str, value: impl ToString) {
    fields.insert(key.to_owned(), value.to_string());
}

/// Adds a word to a field that lists some; words are in order.
fn add(fields: &mut Fields, key: &str, value: &str) {
    let list = fields.entry(key.to_owned()).or_default();
    let mut words: Vec<&str> = list.split(", ").filter(|word| !word.is_empty()).collect();
    words.push(value);
    words.sort_unstable();
    words.dedup();
    *list = words.join(", ");
}

/// A program that is named without its folder, as it is found.
fn in_path(name: &str) -> String {
    let folders = std::env::var("PATH").unwrap_or_default();
    let mut found = folders.split(':').map(|folder| std::path::Path::new(folder).join(name));
    let found = if name.contains('/') || name.is_empty() { None } else { found.find(|path| path.is_file()) };
    found.map_or_else(|| name.to_owned(), |path| path.display().to_string())
}

/// A program by the name that it has without links, so that two names of one are the same.
fn program(words: &str) -> String {
    let (path, rest) = words.split_once(' ').unwrap_or((words, ""));
    let path = in_path(path);
    let found = std::fs::canonicalize(&path).map_or_else(|_| path.clone(), |path| path.display().to_string());
    format!("{found} {rest}").trim_end().to_owned()
}

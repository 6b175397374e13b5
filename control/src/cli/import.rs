//! `shunt import`: the set-up of another program as this director's TOML.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Outcome;
use super::output::{complain, say, say_json};
use crate::config::problem::Problem;
use crate::import::{Dialect, Disk, Files as _, host_name};

#[derive(Debug, Args)]
#[command(after_help = "\
Prints TOML to the standard output, with a comment for each line that had no equal, and to the standard error what there is to tell,
one line each: FILE:LINE:COLUMN: WHERE: WHAT IS WRONG: WHAT HOLDS INSTEAD: WHAT TO DO. docs/keepalived.md has every keyword of
keepalived, docs/import.md the others.
Exit codes: 0 all was understood, 1 something was refused, 2 wrong use.

To keep the file where it is instead, name it in the director's configuration: [import] keepalived = \"/etc/keepalived/keepalived.conf\".

Example:
  shunt import /etc/keepalived/keepalived.conf > /etc/shunt.toml && shunt check /etc/shunt.toml")]
pub struct Arguments {
    /// keepalived.conf, lvs.cf, haresources, ldirectord.cf, nginx.conf, or rules of ipvsadm
    file: PathBuf,
    /// Whose file it is [default: by its name, or what it holds]
    #[arg(long = "as", value_name = "PROGRAM")]
    dialect: Option<Dialect>,
    /// Whose lines after '@' count, as with keepalived -i [default: the first part of the host name]
    #[arg(short = 'i', long, value_name = "ID")]
    config_id: Option<String>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    usable: bool,
    toml: &'a str,
    problems: Vec<Problem>,
}

/// Imports and prints.
pub fn run(arguments: &Arguments) -> Outcome {
    let config_id = arguments.config_id.clone().unwrap_or_else(host_name);
    let text = Disk.read(&arguments.file).unwrap_or_default();
    let dialect = arguments.dialect.unwrap_or_else(|| Dialect::of(&arguments.file, &text));
    let imported = dialect.import(&arguments.file, &Disk, &config_id);
    let usable = imported.is_usable();
    if arguments.json {
        let notes = imported.notes.into_iter();
        let problem = |note: crate::import::Note| {
            Problem::imported(note.severity, &note.origin, &note.place, note.fault)
        };
        say_json(&Answer { usable, toml: &imported.text, problems: notes.map(problem).collect() });
    } else {
        say(imported.text.trim_end());
        for note in &imported.notes {
            complain(&note.to_string());
        }
    }
    if usable { Outcome::Done } else { Outcome::No }
}

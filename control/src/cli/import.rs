//! `shunt import`: the set-up of another program as this director's TOML.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use shunt_config::Config;
use shunt_config::import::{Dialect, Files as _, Kind, Summary, host_name, import_unknown};
use shunt_config::problem::Problem;
use shunt_model::fault::Severity;

use super::Outcome;
use super::output::{complain, say, say_json};
use crate::machine::Disk;

#[derive(Debug, Args)]
#[command(after_help = "\
Prints TOML to the standard output, with a comment for each line that had no equal, and to the standard error what there is to tell,
one line each: FILE:LINE:COLUMN: WHERE: WHAT IS WRONG: WHAT HOLDS INSTEAD: WHAT TO DO, and a summary. docs/keepalived.md has every
keyword of keepalived, docs/import.md the others.
Exit codes: 0 all was taken, and `shunt check` takes what was printed once the NICs have addresses; 1 something was refused; 2 wrong use.

To keep the file where it is instead, name it in the director's configuration: [import] keepalived = \"/etc/keepalived/keepalived.conf\".

Examples:
  shunt import /etc/keepalived/keepalived.conf > /etc/shunt.toml && shunt check /etc/shunt.toml
  shunt import /etc/keepalived > /etc/shunt.toml        the file of the program whose folder it is")]
pub struct Arguments {
    /// keepalived.conf, lvs.cf, haresources, ldirectord.cf, nginx.conf or rules of ipvsadm, or the folder where they stand
    file: PathBuf,
    /// Whose file it is [default: by its name, or what it holds]
    #[arg(long = "as", value_name = "PROGRAM")]
    dialect: Option<Dialect>,
    /// Whose lines after '@' count, as with keepalived -i [default: the first part of the host name]
    #[arg(short = 'i', long, value_name = "ID")]
    config_id: Option<String>,
    /// Refuse what the other program ignores, and what has another effect here
    #[arg(long)]
    strict: bool,
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
    summary: &'a Summary,
}

/// Imports and prints.
pub fn run(arguments: &Arguments) -> Outcome {
    let config_id = arguments.config_id.clone().unwrap_or_else(host_name);
    let file = match named(arguments) {
        Ok(file) => file,
        Err(words) => {
            complain(&words);
            return Outcome::WrongUse;
        }
    };
    let text = Disk.read(&file).unwrap_or_default();
    let imported = match arguments.dialect.or_else(|| Dialect::of(&file, &text)) {
        Some(dialect) => dialect.import(&file, &Disk, &config_id),
        None => import_unknown(&file, &Disk, &config_id),
    };
    let checked = Config::check_imported(&imported);
    let refused = checked.list.iter().filter(|problem| problem.severity == Severity::Error);
    let refused: Vec<Problem> = if imported.is_usable() { refused.cloned().collect() } else { Vec::new() };
    let summary = Summary::of(&imported, &refused);
    let strict = |kind: Kind| arguments.strict && matches!(kind, Kind::Ignored | Kind::Differs);
    let usable =
        imported.is_usable() && refused.is_empty() && !imported.notes.iter().any(|note| strict(note.kind));
    let notes = imported.notes.iter().map(|note| {
        let severity = if strict(note.kind) { Severity::Error } else { note.severity() };
        Problem::imported(severity, &note.origin, &note.place, note.fault.clone())
    });
    let problems: Vec<Problem> = notes.chain(refused).collect();
    if arguments.json {
        say_json(&Answer { usable, toml: &imported.text, problems, summary: &summary });
    } else {
        say(imported.text.trim_end());
        for problem in &problems {
            complain(&checked.line(problem));
        }
        complain(&summary.text(&file, usable));
    }
    if usable { Outcome::Done } else { Outcome::No }
}

/// The file that is meant: a folder is that of one program, or holds the folders of several.
fn named(arguments: &Arguments) -> Result<PathBuf, String> {
    if !arguments.file.is_dir() {
        return Ok(arguments.file.clone());
    }
    let mut found = Dialect::files_in(&arguments.file);
    found.retain(|(dialect, _)| arguments.dialect.is_none_or(|wanted| wanted == *dialect));
    let folder = arguments.file.display();
    match found.as_slice() {
        [(_, file)] => Ok(file.clone()),
        [] => Err(format!("shunt import: {folder}: no file of a program that is known: name the file")),
        several => {
            let names: Vec<String> = several.iter().map(|(_, file)| file.display().to_string()).collect();
            Err(format!("shunt import: {folder}: several files: {}: name one of them", names.join(", ")))
        }
    }
}

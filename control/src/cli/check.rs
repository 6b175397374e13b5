//! `shunt check`: every problem of a configuration at once.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use shunt_config::Config;
use shunt_config::check::packets::Packets;
use shunt_config::check::{Checked, Needed, Size};
use shunt_config::diff::{Changes, diff};
use shunt_config::problem::{Problem, Problems};
use shunt_config::removed::few_enough;
use shunt_model::fault::{Fault, Severity};

use super::Outcome;
use super::client::{Client, Failure, Target, run as speak};
use super::output::{colour, complain, is_terminal, say, say_json};
use crate::api::Running;

#[derive(Debug, Args)]
#[command(after_help = "\
Each problem is one line, FILE:LINE:COLUMN: WHERE: WHAT IS WRONG (VALUE): WHAT HOLDS INSTEAD: WHAT TO DO.
Exit codes: 0 usable (perhaps with warnings), 1 not usable, 2 wrong use.

Examples:
  shunt check /etc/shunt.toml
  shunt check new.toml --diff                         what new.toml would change of what is running
  shunt check new.toml --against /etc/shunt.toml      what new.toml would change of that file")]
pub struct Arguments {
    /// The configuration
    file: PathBuf,
    /// Show what it would change of the configuration that is running
    #[arg(long)]
    diff: bool,
    /// Show what it would change of this other configuration
    #[arg(long, value_name = "OLD", conflicts_with = "diff")]
    against: Option<PathBuf>,
    /// With --diff: the director's socket [default: the one that FILE names]
    #[arg(short, long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    file: &'a str,
    usable: bool,
    problems: &'a [Problem],
    #[serde(flatten)]
    changes: Option<Changes>,
}

/// Checks, prints, and says whether the configuration is usable.
pub fn run(arguments: &Arguments) -> Outcome {
    let machine = crate::machine::here();
    let checked = match Config::load(&arguments.file, &machine) {
        Ok(checked) => checked,
        Err(problems) => {
            print(&problems, None, None, arguments.json);
            return Outcome::No;
        }
    };
    let Checked { config, warnings, .. } = &checked;
    let (outcome, old) = if arguments.diff {
        let socket = arguments.socket.clone().unwrap_or_else(|| config.runtime.socket.clone());
        running(Target { socket: Some(socket), config: None })
    } else {
        match arguments.against.as_ref().map(|path| Config::load(path, &machine)).transpose() {
            Ok(old) => (Outcome::Done, old.map(|old| old.config)),
            Err(problems) => {
                complain(&format!(
                    "{problems}\nshunt check: {}: not usable: name another file",
                    problems.file
                ));
                (Outcome::WrongUse, None)
            }
        }
    };
    print(warnings, Some(config), old.as_ref().map(|old| diff(old, config)), arguments.json);
    if let Some(Err(Fault { wrong, holds, advice })) = old.map(|old| few_enough(&old, config)) {
        complain(&format!("{}: {wrong}: {holds}: {advice}", warnings.file));
    }
    outcome
}

/// The configuration of the director that is running.
fn running(target: Target) -> (Outcome, Option<Config>) {
    let mut running = None;
    let outcome = speak(&target, async |client: &mut Client| {
        let answer: Running = client.get("/v1/configuration?secrets=true").await?;
        let checked = Config::check(&answer.file, &answer.text)
            .map_err(|problems| Failure::no(format!("{problems}\nshunt check: the running configuration is not usable for this shunt: use the director's own shunt")))?;
        running = Some(checked.config);
        if !answer.not_in_file.is_empty() {
            let lines = answer.not_in_file.join("\n  ");
            complain(&format!("changed by ipvsadm and not compared, since a reload undoes it:\n  {lines}"));
        }
        Ok(())
    });
    (outcome, running)
}

fn print(problems: &Problems, config: Option<&Config>, changes: Option<Changes>, json: bool) {
    if json {
        let Problems { file, list } = problems;
        say_json(&Answer { file, usable: config.is_some(), problems: list, changes });
        return;
    }
    for problem in &problems.list {
        say(&shown(problems, problem));
    }
    if let Some(changes) = changes {
        say(&changes.to_string());
    }
    say(&format!("{}: {}", problems.file, verdict(problems, config)));
}

/// A problem, on a terminal with the line that it speaks of.
fn shown(problems: &Problems, problem: &Problem) -> String {
    let line = problems.line(problem);
    if !is_terminal() {
        return line;
    }
    let excerpt = problem.excerpt();
    if !colour() {
        return format!("{line}\n{excerpt}");
    }
    let code = if problem.severity == Severity::Error { 31 } else { 33 };
    format!("\x1b[{code}m{line}\x1b[0m\n{excerpt}")
}

/// The last line.
fn verdict(problems: &Problems, config: Option<&Config>) -> String {
    let machine = crate::machine::here();
    let number = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let (errors, warnings) = (number(problems.errors(), "error"), number(problems.warnings(), "warning"));
    let Some(config) = config else { return format!("not usable: {errors}, {warnings}") };
    let reals = config.services.iter().map(|service| service.reals.len()).sum();
    let packets = Packets::of(&config.runtime, &config.nics, machine.interfaces.as_ref());
    let free = machine.hugepages.map_or(0, |reserved| reserved.free);
    let pages = if packets.in_hugepages(free) { "hugepages" } else { "ordinary pages" };
    format!(
        "usable: {}, {}, {}, {}; {warnings}; connection tables of {}, packets of {} in {pages}",
        number(config.nics.len(), "NIC"),
        number(config.runtime.workers.len(), "worker"),
        number(config.services.len(), "service"),
        number(reals, "real server"),
        Size(Needed::of(&config.runtime).tables),
        Size(packets.mebibytes() << 20),
    )
}

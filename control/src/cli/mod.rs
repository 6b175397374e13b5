//! Everything that an operator types.
//!
//! Exit codes: 0 done, 1 the answer is no, 2 wrong use.

mod bench;
mod bench_cores;
mod bench_device;
mod bench_quiet;
mod change;
mod check;
mod client;
mod connections;
mod drops;
mod events;
mod explain;
mod import;
mod ipvsadm;
mod neighbours;
mod output;
mod run;
mod status;
mod summary;
mod table;
mod workers;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "shunt",
    version,
    about = "A layer-4 load-balancing director: what LVS does, on DPDK's polling cores",
    after_help = "Exit codes: 0 done, 1 the answer is no, 2 wrong use.\n\nExample:\n  shunt check /etc/shunt.toml"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Report every problem of a configuration at once, with line, column and advice
    Check(check::Arguments),
    /// Run the director in the foreground
    Run(run::Arguments),
    /// Take the configuration file anew, without losing a connection
    Reload(change::ReloadArguments),
    /// Stop the director
    Stop(change::StopArguments),
    /// Role, VIPs, NICs, workers, services, and real servers and why each is up or down
    Status(status::Arguments),
    /// The connection table
    Connections(connections::Arguments),
    /// Why packets were dropped, by reason
    Drops(drops::Arguments),
    /// Who is on the director's links: MACs, states, and who else uses its addresses
    Neighbours(neighbours::Arguments),
    /// What happens to real servers, quorums, virtual routers and addresses, as it happens
    Events(events::Arguments),
    /// What the director would do with a packet, and why
    Explain(explain::Arguments),
    /// ipvsadm's command line, in front of this director
    Ipvsadm(ipvsadm::Arguments),
    /// The set-up of keepalived, ldirectord, Piranha, heartbeat, nginx or ipvsadm as this director's TOML
    Import(import::Arguments),
    /// How fast the director is on this machine
    Bench(Box<bench::Arguments>),
}

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// The answer is no.
    No,
    /// The command was used wrongly.
    WrongUse,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::No => Self::from(1),
            Outcome::WrongUse => Self::from(2),
        }
    }
}

/// Runs the command of this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    if let Some(mut before) = ipvsadm::called_as(Path::new(&program)) {
        before.extend(words);
        return ipvsadm::run_words(&before);
    }
    let parsed = command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(told) => return tell(&told).into(),
    };
    let outcome = match cli.command {
        Command::Ipvsadm(arguments) => return ipvsadm::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Reload(arguments) => change::reload(&arguments),
        Command::Stop(arguments) => change::stop(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Connections(arguments) => connections::run(&arguments),
        Command::Drops(arguments) => drops::run(&arguments),
        Command::Neighbours(arguments) => neighbours::run(&arguments),
        Command::Events(arguments) => events::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    output::finish(outcome).into()
}

/// The widest line of a help text: further apart lines are hard to read.
const HELP_WIDTH_MAX: usize = 120;

/// The command line, with texts that are as wide as the terminal.
fn command() -> clap::Command {
    flowing(Cli::command().max_term_width(HELP_WIDTH_MAX))
}

/// Makes one line of each paragraph behind the options, which is then broken where the terminal ends. Lines that begin with a blank,
/// such as examples, stay as they are.
fn flowing(command: clap::Command) -> clap::Command {
    let command = match command.get_after_help().map(ToString::to_string) {
        Some(text) => command.after_help(paragraphs(&text)),
        None => command,
    };
    command.mut_subcommands(flowing)
}

fn paragraphs(text: &str) -> String {
    let flows = |line: &str| !line.is_empty() && !line.starts_with(' ');
    let mut flowing = String::new();
    let mut before = "";
    for line in text.lines() {
        let goes_on = flows(before) && flows(line) && !before.ends_with(':');
        if !flowing.is_empty() {
            flowing.push(if goes_on { ' ' } else { '\n' });
        }
        flowing.push_str(line);
        before = line;
    }
    flowing
}

/// Help and the version are answers, all else is wrong use.
fn tell(told: &clap::Error) -> Outcome {
    let text = told.render();
    if told.use_stderr() {
        let text = if output::colour_of_errors() { text.ansi().to_string() } else { text.to_string() };
        output::complain(text.trim_end());
        return Outcome::WrongUse;
    }
    let text = if output::colour() { text.ansi().to_string() } else { text.to_string() };
    output::write(text.as_bytes());
    output::finish(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of a help text that are too wide, or end although the next word would have had room.
    fn ragged(help: &str, width: usize) -> Vec<String> {
        let lines: Vec<&str> = help.lines().collect();
        let blank = |line: &str| line.trim().is_empty();
        let indent = |line: &str| line.len() - line.trim_start().len();
        let mut found = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            let wide = line.chars().count();
            if wide > width {
                found.push(format!("{wide} columns: {line}"));
            }
            // Options, commands and examples begin on lines of their own.
            let Some(next) = lines.get(number + 1).filter(|next| !blank(next) && indent(next) == 0) else {
                continue;
            };
            let word = next.split(' ').next().unwrap_or_default().chars().count();
            if !blank(line) && indent(line) == 0 && !line.ends_with(':') && wide + 1 + word <= width {
                found.push(format!("broken early: {line} | {next}"));
            }
        }
        found
    }

    #[test]
    fn help_texts_are_as_wide_as_the_terminal() {
        let mut all = command();
        all.build();
        for width in [80, 120] {
            let texts = all.get_subcommands().map(|sub| (sub.get_name().to_owned(), sub.clone()));
            for (name, sub) in texts.chain([("shunt".to_owned(), all.clone())]) {
                for long in [false, true] {
                    let mut sub = sub.clone().term_width(width);
                    let help = if long { sub.render_long_help() } else { sub.render_help() }.to_string();
                    let ragged = ragged(&help, width);
                    assert!(ragged.is_empty(), "{name} at {width}:\n{}\n\n{help}", ragged.join("\n"));
                }
            }
        }
    }

    #[test]
    fn paragraphs_flow_and_examples_do_not() {
        let text = "One\ntwo.\n\nExamples:\n  a\n  b";
        assert_eq!(paragraphs(text), "One two.\n\nExamples:\n  a\n  b");
    }

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_an_example() {
        let mut command = command();
        command.build();
        command.clone().debug_assert();
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{}", sub.get_name());
        }
    }
}

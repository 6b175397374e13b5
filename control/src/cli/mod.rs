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
mod table;
mod workers;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// The set-up of keepalived, Piranha or nginx as this director's TOML
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
    if cfg!(target_feature = "avx2") && !dpdk_sys::processor_is_v3() {
        output::complain(
            "shunt: this processor is older than x86-64-v3 (it lacks AVX2 or BMI2), and this program was built for that \
             level: build it for this machine with RUSTFLAGS='-C target-cpu=native' cargo build --release",
        );
        return ExitCode::FAILURE;
    }
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    if let Some(mut before) = ipvsadm::called_as(Path::new(&program)) {
        before.extend(words);
        return ipvsadm::run_words(&before);
    }
    let outcome = match Cli::parse().command {
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
    outcome.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_an_example() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{}", sub.get_name());
        }
    }
}

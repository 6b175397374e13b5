//! A real director under random operations and faults, from a seed.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use shunt_tests::soak::{Settings, run};

/// Runs a director between real kernels in network namespaces, and does to it what operators, attackers and faults do: reloads,
/// truncated files, signals, floods, forged ARP, links and interfaces that go. Connections that are open must go on, new
/// clients must be served, books must balance; at the end memory, descriptors, threads and packet buffers are compared with
/// those of the start. Takes root.
///
/// Example: soak --minutes 30 --seed 7
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// For how many minutes.
    #[arg(long, default_value_t = 1.0, value_name = "N")]
    minutes: f32,
    /// What the operations are drawn from.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Leave this operation out, by its name in the report; may be given several times.
    #[arg(long, value_name = "OPERATION")]
    without: Vec<String>,
    /// Print the figures as JSON, to standard output; progress goes to standard error.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let time = Duration::from_secs_f32(arguments.minutes.max(0.0) * 60.0);
    let report =
        run(&Settings { seed: arguments.seed, time, without: arguments.without }, |line| eprintln!("{line}"));
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        println!("{report}");
    }
    if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

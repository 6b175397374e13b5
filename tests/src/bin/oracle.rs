//! Plays recorded scenarios of the kernel's IPVS to this director and tells the first difference of each.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use shunt_tests::oracle;

/// Plays scenarios recorded of the kernel's IPVS through shunt's data path and compares: frames byte for byte but for
/// what is random, real servers chosen, outputs of commands.
///
/// Example: oracle tests/oracle/scenarios tests/oracle/golden --only tcp_nat
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The folder of scenarios, NAME.json each.
    scenarios: PathBuf,
    /// The folder of what the kernel did, NAME.json each.
    golden: PathBuf,
    /// Only this scenario; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Write what was played to DIR/NAME.json, in the form of the recordings.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let names = if arguments.only.is_empty() {
        match oracle::names(&arguments.scenarios) {
            Ok(names) if !names.is_empty() => names,
            Ok(_) => return refuse(&arguments.scenarios, "no NAME.json in it"),
            Err(error) => return refuse(&arguments.scenarios, &error.to_string()),
        }
    } else {
        arguments.only.clone()
    };
    let mut passed = 0;
    for name in &names {
        let report = oracle::check(&arguments.scenarios, &arguments.golden, name, arguments.keep.as_deref());
        passed += usize::from(report.passed());
        println!("{report}");
    }
    let failed = names.len() - passed;
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn refuse(folder: &std::path::Path, why: &str) -> ExitCode {
    eprintln!("oracle: {}: {why}: name a folder that holds scenarios", folder.display());
    ExitCode::from(2)
}

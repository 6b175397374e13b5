//! Records scenarios of the real kernel's IPVS anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use shunt_tests::kernel::{self, Image, Setup};
use shunt_tests::oracle::compare::compare;
use shunt_tests::oracle::scenario::{self, Recording, Scenario};
use shunt_tests::oracle::{self, pinned};

/// Plays scenarios to the newest Debian cloud kernel of this machine, in qemu, and compares what it does with what was
/// recorded: how the next kernel differs. Installs what is missing.
///
/// Example: record --only tcp_nat --keep
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The folder that holds scenarios/ and golden/, NAME.json each.
    #[arg(long, value_name = "DIR", default_value_os_t = pinned())]
    oracle: PathBuf,
    /// Only this scenario; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Write what the kernel did to golden/, and the hashes of all files to SHA256SUMS. Without it nothing is written there.
    #[arg(long)]
    keep: bool,
    /// Where the guest is kept between runs.
    #[arg(long, value_name = "DIR", default_value_os_t = kernel::folder())]
    guest: PathBuf,
    /// Guests at a time.
    #[arg(long, value_name = "N", default_value_t = 2)]
    guests: usize,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("record: {error}");
            ExitCode::from(2)
        }
    }
}

/// How many differ from what was recorded, or could not be played.
fn run(arguments: &Arguments) -> Result<usize, Box<dyn std::error::Error>> {
    let scenarios = arguments.oracle.join("scenarios");
    let names = if arguments.only.is_empty() { oracle::names(&scenarios)? } else { arguments.only.clone() };
    let image = Image::prepare(&arguments.guest)?;
    let (next, counts) = (AtomicUsize::new(0), Mutex::new([0; 3]));
    std::thread::scope(|scope| {
        for _ in 0..arguments.guests.max(1) {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let came = one(arguments, &image, name);
                    let mut counts = counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    counts[came.number()] += 1;
                    println!("{came:<9} {name}{}", came.told());
                }
            });
        }
    });
    let [same, new, wrong] = counts.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if arguments.keep {
        pin(&arguments.oracle)?;
    }
    println!("{same} as recorded, {new} new, {wrong} differ");
    Ok(wrong)
}

/// What came of a scenario.
enum Came {
    Same,
    New,
    Differs(String),
}

impl Came {
    const fn number(&self) -> usize {
        match self {
            Self::Same => 0,
            Self::New => 1,
            Self::Differs(_) => 2,
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Same | Self::New => String::new(),
            Self::Differs(how) => format!("\n{how}"),
        }
    }
}

impl std::fmt::Display for Came {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(["same", "new", "DIFFERS"][self.number()])
    }
}

fn one(arguments: &Arguments, image: &Image, name: &str) -> Came {
    match record(arguments, image, &format!("{name}.json")) {
        Ok(came) => came,
        Err(error) => Came::Differs(error.to_string()),
    }
}

fn record(arguments: &Arguments, image: &Image, file: &str) -> Result<Came, Box<dyn std::error::Error>> {
    let scenario: Scenario = scenario::read(&arguments.oracle.join("scenarios").join(file))?;
    let got = kernel::play(image, &scenario, Setup::OneByOne)?;
    let golden = arguments.oracle.join("golden").join(file);
    let came = if golden.exists() {
        let want: Recording = scenario::read(&golden)?;
        compare(&want, &got).differences.into_iter().next().map_or(Came::Same, Came::Differs)
    } else {
        Came::New
    };
    // What is the same stays as it is, so that only what changed shows as changed.
    if arguments.keep && !matches!(came, Came::Same) {
        scenario::write(&golden, &got)?;
    }
    Ok(came)
}

/// Writes the hashes of all scenarios and recordings.
fn pin(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    for kind in ["golden", "scenarios"] {
        files.extend(oracle::names(&folder.join(kind))?.iter().map(|name| format!("{kind}/{name}.json")));
    }
    let hashed = Command::new("sha256sum").args(&files).current_dir(folder).output()?;
    if !hashed.status.success() {
        return Err(String::from_utf8_lossy(&hashed.stderr).into());
    }
    Ok(fs::write(folder.join("SHA256SUMS"), hashed.stdout)?)
}

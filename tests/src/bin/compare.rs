//! Compares this director with the real kernel's IPVS by random cases.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use serde::Serialize;
use shunt_tests::kernel::{self, Image, Setup};
use shunt_tests::oracle::compare::{compare, with_own_cuts};
use shunt_tests::oracle::play::play;
use shunt_tests::oracle::scenario::{self, Recording, Scenario};
use shunt_tests::random::coverage::Coverage;
use shunt_tests::random::shrink::shrink;
use shunt_tests::random::steady::is_steady;
use shunt_tests::random::{self, Case};

/// Plays random rule sets and packet traces to the newest Debian cloud kernel of this machine, in qemu, and to shunt's
/// data path, and compares: frames byte for byte but for what is random, real servers chosen, outputs of commands. A difference is
/// made small and kept as a scenario. Installs what is missing.
///
/// Example: compare --seed 1000 --cases 300
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Of the first case; the others have the numbers after it.
    #[arg(long, value_name = "S")]
    seed: u64,
    /// How many cases.
    #[arg(long, value_name = "N", default_value_t = 20)]
    cases: u64,
    /// Cases of commands of ipvsadm alone, without packets.
    #[arg(long)]
    commands: bool,
    /// Where scenarios that differ are kept: scenarios/random_SEED.json made small, golden/ of the kernel, whole/ as they were.
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    keep: PathBuf,
    /// How many smaller scenarios are played for each difference; 0 keeps it as it is.
    #[arg(long, value_name = "N", default_value_t = 120)]
    tries: usize,
    /// Guests at a time.
    #[arg(long, value_name = "N", default_value_t = 2)]
    guests: usize,
    /// Where the guest is kept between runs.
    #[arg(long, value_name = "DIR", default_value_os_t = kernel::folder())]
    guest: PathBuf,
    /// Print what was covered and what differs as JSON, to standard output; progress goes to standard error.
    #[arg(long)]
    json: bool,
}

/// What was compared, and what differs.
#[derive(Default, Serialize)]
struct Summary {
    seed: u64,
    coverage: Coverage,
    differences: Vec<Difference>,
}

#[derive(Serialize)]
struct Difference {
    seed: u64,
    about: String,
    /// The smallest scenario found.
    scenario: PathBuf,
    steps: usize,
    first: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(summary) => {
            let (cases, differ) = (summary.coverage.cases, summary.differences.len());
            if arguments.json {
                println!("{}", serde_json::to_string_pretty(&summary).unwrap_or_default());
            } else {
                println!("\n{}\n{cases} cases, {differ} differ", summary.coverage);
            }
            if differ == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<Summary, Box<dyn std::error::Error>> {
    let image = Image::prepare(&arguments.guest)?;
    for folder in ["scenarios", "golden", "whole"] {
        fs::create_dir_all(arguments.keep.join(folder))?;
    }
    let (next, failed) = (AtomicU64::new(0), Mutex::new(None));
    let summary = Mutex::new(Summary { seed: arguments.seed, ..Summary::default() });
    std::thread::scope(|scope| {
        for _ in 0..arguments.guests.max(1) {
            scope.spawn(|| {
                while next.load(Ordering::Relaxed) < arguments.cases {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.cases {
                        break;
                    }
                    if let Err(error) = one(arguments, &image, arguments.seed + number, &summary) {
                        let error = format!("seed {}: {error}", arguments.seed + number);
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        next.store(arguments.cases, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error.into()),
        None => Ok(summary.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

type Failed = Box<dyn std::error::Error>;

fn one(arguments: &Arguments, image: &Image, seed: u64, summary: &Mutex<Summary>) -> Result<(), Failed> {
    let Case { about, scenario, .. } =
        if arguments.commands { random::commands::case(seed) } else { random::case(seed)? };
    // On a machine that stands still for a while a guest may be given up; that is not the case's.
    let recording = kernel::play(image, &scenario, Setup::Batched).or_else(|failed| {
        eprintln!("seed {seed}: {failed}\nseed {seed}: once more");
        kernel::play(image, &scenario, Setup::Batched)
    })?;
    let first = first_difference(&scenario, &recording)?;
    let kept = match &first {
        Some(_) => Some(keep(arguments, image, seed, &scenario, &recording)?),
        None => None,
    };
    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
    summary.coverage.add(&about);
    let word = if first.is_some() { "DIFFERS" } else { "same" };
    let line = format!("{}/{} {word:<7} seed {seed}: {about}", summary.coverage.cases, arguments.cases);
    eprintln!("{line}");
    if let Some((path, small, first)) = kept {
        eprintln!("{first}\n{}: {} steps", path.display(), small.steps.len());
        let (about, steps) = (about.to_string(), small.steps.len());
        summary.differences.push(Difference { seed, about, scenario: path, steps, first });
    }
    Ok(())
}

fn first_difference(scenario: &Scenario, recording: &Recording) -> Result<Option<String>, Failed> {
    let got = play(scenario)?;
    let want = with_own_cuts(recording.clone(), &got);
    Ok(compare(&want, &got).differences.into_iter().next())
}

/// What kind of difference it is: the words behind the place. It must stay the same while a scenario is made small.
fn kind(difference: &str) -> String {
    let line = difference.lines().next().unwrap_or_default();
    let words = line.split_once(": ").map_or(line, |(_, words)| words);
    let first = words.split_whitespace().next().unwrap_or_default();
    // Of frames: who sent which kinds of packets, so that another cause does not take the first one's place.
    let frames =
        difference.lines().skip(1).filter(|line| line.starts_with("  want") || line.starts_with("  got"));
    let of = |line: &str| -> String {
        let head = line.split('[').next().unwrap_or_default();
        let kinds = ["NIC", "ICMP", "TCP", "UDP", "frag", "proto"];
        let word =
            |word: &&str| kinds.iter().any(|kind| word.starts_with(kind)) || word.parse::<u8>().is_ok();
        head.split_whitespace()
            .take(1)
            .chain(head.split_whitespace().filter(word))
            .collect::<Vec<_>>()
            .join(" ")
    };
    std::iter::once(first.to_owned()).chain(frames.map(of)).collect::<Vec<_>>().join("; ")
}

/// Makes a scenario that differs small and keeps both.
fn keep(
    arguments: &Arguments,
    image: &Image,
    seed: u64,
    scenario: &Scenario,
    recording: &Recording,
) -> Result<(PathBuf, Scenario, String), Failed> {
    let name = format!("random_{seed}.json");
    let place = |folder: &str| -> PathBuf { Path::new(&arguments.keep).join(folder).join(&name) };
    scenario::write(&place("whole"), scenario)?;
    let wanted = first_difference(scenario, recording)?.as_deref().map(kind);
    let small = shrink(scenario, arguments.tries, |smaller| {
        let differs = || -> Result<bool, Failed> {
            if !is_steady(smaller)? {
                return Ok(false);
            }
            let first = first_difference(smaller, &kernel::play(image, smaller, Setup::Batched)?)?;
            Ok(first.is_some() && first.as_deref().map(kind) == wanted)
        };
        // What cannot be played shows nothing.
        differs().unwrap_or(false)
    });
    let recording =
        if small == *scenario { recording.clone() } else { kernel::play(image, &small, Setup::Batched)? };
    let first = first_difference(&small, &recording)?.unwrap_or_else(|| "not seen again".to_owned());
    scenario::write(&place("scenarios"), &small)?;
    scenario::write(&place("golden"), &recording)?;
    Ok((place("scenarios"), small, first))
}

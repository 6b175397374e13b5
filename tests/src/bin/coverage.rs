//! Tells how much of the kernel's own IPVS the recordings and the random comparison reach.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::Parser;
use serde::Serialize;
use shunt_tests::coverage::Modules;
use shunt_tests::coverage::code::Place;
use shunt_tests::coverage::excluded;
use shunt_tests::coverage::reached::{From, Reached};
use shunt_tests::kernel::{self, Image, Setup};
use shunt_tests::oracle::scenario::{self, Scenario};
use shunt_tests::oracle::{self, pinned};
use shunt_tests::random;

/// Plays scenarios to the newest Debian cloud kernel of this machine, in qemu, and tells for each function of the IPVS modules how many
/// of its blocks were reached: by the recordings, by random cases, by both together. Installs what is missing.
///
/// Example: coverage --cases 100 --unreached
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The folder that holds scenarios/.
    #[arg(long, value_name = "DIR", default_value_os_t = pinned())]
    oracle: PathBuf,
    /// Only these scenarios of it; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// So many scenarios of it at most, spread evenly.
    #[arg(long, value_name = "N")]
    recordings: Option<usize>,
    /// Of the first random case; the others have the numbers after it.
    #[arg(long, value_name = "S", default_value_t = 1000)]
    seed: u64,
    /// Random cases.
    #[arg(long, value_name = "N", default_value_t = 0)]
    cases: u64,
    /// Print the blocks that nothing reached, too.
    #[arg(long)]
    unreached: bool,
    /// Add what is reached to what this file has from earlier runs. It is written after each scenario.
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// No recordings: random cases alone.
    #[arg(long, conflicts_with_all = ["only", "recordings"])]
    no_recordings: bool,
    /// Fail when less of the blocks that can be reached is, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    at_least: f64,
    /// Guests at a time.
    #[arg(long, value_name = "N", default_value_t = 2)]
    guests: usize,
    /// Where the guest is kept between runs.
    #[arg(long, value_name = "DIR", default_value_os_t = kernel::folder())]
    guest: PathBuf,
    /// Print functions and blocks as JSON, to standard output; progress goes to standard error.
    #[arg(long)]
    json: bool,
}

/// A function of a module.
#[derive(Default, Serialize)]
struct Function {
    blocks: usize,
    by_recordings: usize,
    by_random: usize,
    reached: usize,
    /// Why nothing can reach it; such functions do not count.
    excluded: Option<&'static str>,
    /// Where those begin that nothing reached, in bytes.
    unreached: Vec<u64>,
}

type Functions = BTreeMap<(String, String), Function>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(percent) if percent >= arguments.at_least => ExitCode::SUCCESS,
        Ok(percent) => {
            eprintln!("coverage: {percent:.1} % of the blocks is less than {} %", arguments.at_least);
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("coverage: {error}");
            ExitCode::from(2)
        }
    }
}

type Failed = Box<dyn std::error::Error>;

fn run(arguments: &Arguments) -> Result<f64, Failed> {
    let image = Image::prepare(&arguments.guest)?;
    let modules = Modules::of(&image)?;
    let scenarios = scenarios(arguments)?;
    let blocks = modules.code().blocks();
    let before = arguments
        .keep
        .as_deref()
        .map_or_else(|| Ok(Reached::default()), |file| Reached::read(file, &blocks))?;
    let reached = play_all(arguments, &modules, &scenarios, before);
    if let Some(file) = &arguments.keep {
        reached.write(file)?;
    }
    let functions = functions(blocks, &reached);
    let counted = functions.values().filter(|one| one.excluded.is_none());
    let (blocks, hit) = counted.fold((0, 0), |sum, one| (sum.0 + one.blocks, sum.1 + one.reached));
    let percent = 100.0 * hit as f64 / blocks.max(1) as f64;
    let all = functions.values().map(|one| one.blocks).sum::<usize>();
    if arguments.json {
        let list: Vec<_> = functions.iter().map(|((module, name), of)| (module, name, of)).collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
    } else {
        print(&functions, arguments.unreached);
        println!("\n{all} blocks, {blocks} that can be reached, {hit} of them reached, {percent:.1} %");
    }
    Ok(percent)
}

fn scenarios(arguments: &Arguments) -> Result<Vec<(String, From, Scenario)>, Failed> {
    let folder = arguments.oracle.join("scenarios");
    let mut names = match (arguments.no_recordings, arguments.only.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => oracle::names(&folder)?,
        (false, false) => arguments.only.clone(),
    };
    if let Some(most) = arguments.recordings {
        let step = names.len().div_ceil(most.max(1)).max(1);
        names = names.into_iter().step_by(step).take(most).collect();
    }
    let mut all = Vec::new();
    for name in names {
        let scenario = scenario::read(&folder.join(format!("{name}.json")))?;
        all.push((name, From::Recordings, scenario));
    }
    for seed in arguments.seed..arguments.seed + arguments.cases {
        all.push((format!("seed {seed}"), From::Random, random::case(seed)?.scenario));
    }
    Ok(all)
}

fn play_all(
    arguments: &Arguments,
    modules: &Modules,
    scenarios: &[(String, From, Scenario)],
    before: Reached,
) -> Reached {
    let (next, reached) = (AtomicUsize::new(0), Mutex::new(before));
    std::thread::scope(|scope| {
        for _ in 0..arguments.guests.max(1) {
            scope.spawn(|| {
                while let Some((name, from, scenario)) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // A setup in which a command fails cannot be played in batches.
                    let played = modules
                        .play(scenario, Setup::Batched)
                        .or_else(|_| modules.play(scenario, Setup::OneByOne));
                    let mut reached = reached.lock().unwrap_or_else(PoisonError::into_inner);
                    let before = reached.count();
                    match played {
                        Ok((_, blocks)) => reached.add(*from, blocks),
                        Err(error) => eprintln!("{name}: {error}: it does not count"),
                    }
                    let all = reached.count();
                    eprintln!("{name}: {} new blocks, {all} in all", all - before);
                    if let Some(Err(error)) = arguments.keep.as_deref().map(|file| reached.write(file)) {
                        eprintln!("coverage: {error}");
                    }
                }
            });
        }
    });
    reached.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn functions(blocks: BTreeSet<Place>, reached: &Reached) -> Functions {
    let mut functions = Functions::new();
    for place in blocks {
        let (recorded, drawn) = (reached.recordings.contains(&place), reached.random.contains(&place));
        let why = excluded::why(&place.module, &place.function);
        let function = functions.entry((place.module, place.function)).or_default();
        function.excluded = why;
        function.blocks += 1;
        function.by_recordings += usize::from(recorded);
        function.by_random += usize::from(drawn);
        if recorded || drawn {
            function.reached += 1;
        } else {
            function.unreached.push(place.offset);
        }
    }
    functions
}

fn print(functions: &Functions, unreached: bool) {
    println!(
        "{:<12} {:<36} {:>6} {:>10} {:>6} {:>7}",
        "MODULE", "FUNCTION", "BLOCKS", "RECORDINGS", "RANDOM", "REACHED"
    );
    for ((module, name), of) in functions {
        println!(
            "{module:<12} {name:<36} {:>6} {:>10} {:>6} {:>7}",
            of.blocks, of.by_recordings, of.by_random, of.reached
        );
        if let Some(why) = of.excluded {
            println!("{:13}does not count: {why}", "");
        } else if unreached && !of.unreached.is_empty() {
            let places = of.unreached.iter().map(|at| format!("+{at:#x}")).collect::<Vec<_>>().join(" ");
            println!("{:13}not reached: {places}", "");
        }
    }
}

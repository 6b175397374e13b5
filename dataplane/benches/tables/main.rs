//! What one lookup costs, in the director's own connection table, in DPDK's `rte_hash` and in hashbrown: flows that are
//! there and flows that are not, drawn at random, in tables made for ten ninths of the flows in them.
//!
//! `cargo bench -p shunt-dataplane` prints a Markdown table; `-- --help` says what else.

mod contenders;

use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use dpdk_sys::{Eal, EalSettings, FreeHugepages, Memory, thread};
use serde::Serialize;

use contenders::{BURST, Burst, Contender, Hashbrown, OneByOne, Own, Question, RteHash, flow};

/// What DPDK needs besides the table, in MiB.
const MEBIBYTES: usize = 64;
/// Bytes that rte_hash takes for each key: its place, its slot in a bucket and in the list of free ones, all rounded up.
const RTE_HASH_BYTES: usize = 80;

/// What one lookup costs in the director's own connection table, in rte_hash and in hashbrown.
#[derive(Debug, Parser)]
struct Arguments {
    /// Flows in the table
    #[arg(long, value_delimiter = ',', default_value = "1000,100000,1000000,10000000",
          value_parser = clap::value_parser!(u32).range(8..=100_000_000))]
    flows: Vec<u32>,
    /// Repetitions
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    /// Lookups in each
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(64..))]
    lookups: u32,
    /// Write the results as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// One cell.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    /// The table's name.
    table: &'static str,
    /// How many flows are in it.
    flows: u32,
    /// `hit` or `miss`.
    question: String,
    /// Nanoseconds for one lookup, drawing the flow left out.
    ns_per_lookup: Spread,
    /// Growth of the process's memory for each flow in it, in the run with most flows.
    bytes_per_flow: Option<f64>,
}

/// Of the repetitions.
#[derive(Clone, Copy, Debug, Serialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tables: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let most = arguments.flows.iter().max().copied().unwrap_or_default();
    let mebibytes = MEBIBYTES + (capacity(most).next_power_of_two() as usize * RTE_HASH_BYTES >> 20);
    let hugepages = FreeHugepages::read().bytes() >> 20 > mebibytes as u64;
    let memory = if hugepages { Memory::Hugepages } else { Memory::Ordinary { mebibytes } };
    let name = format!("shunt-tables-{}", std::process::id());
    let settings = EalSettings { memory, ..EalSettings::ordinary(&name, last_core(), mebibytes) };
    let eal = Eal::start(&settings).map_err(|error| error.to_string())?;
    let mut results = Vec::new();
    // The largest first: DPDK does not give memory back, so that only in the first table its growth can be told.
    let mut sizes = arguments.flows.clone();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    for flows in sizes {
        let capacity = capacity(flows);
        results.extend(measure(arguments, flows, || Ok(Own::new(capacity)))?);
        results.extend(measure(arguments, flows, || Ok(OneByOne::new(capacity)))?);
        results.extend(measure(arguments, flows, || RteHash::new(&eal, capacity))?);
        results.extend(measure(arguments, flows, || Ok(Hashbrown::new(capacity)))?);
    }
    results.iter_mut().filter(|one| one.flows < most).for_each(|one| one.bytes_per_flow = None);
    results.sort_by_key(|one| one.flows);
    println!(
        "Nanoseconds for one lookup, least / median of {} repetitions of {} lookups, in bursts of {BURST}, drawing the flow \
         left out. Each table was made for ten ninths of its flows, which rte_hash and hashbrown round up to a power of \
         two. rte_hash is in {}, the others where malloc puts them.",
        arguments.repetitions,
        arguments.lookups,
        if hugepages { "hugepages" } else { "ordinary pages" }
    );
    println!("\n{}", markdown(&arguments.flows, &results));
    if let Some(file) = &arguments.json {
        let json = serde_json::to_string_pretty(&results).map_err(|error| error.to_string())?;
        std::fs::write(file, json + "\n")
            .map_err(|error| format!("{}: cannot be written ({error})", file.display()))?;
    }
    Ok(())
}

/// Room for so many flows that they are nine tenths of it.
fn capacity(flows: u32) -> u32 {
    (u64::from(flows) * 10).div_ceil(9) as u32
}

/// Fills a table, proves that it finds what it should and nothing else, and measures.
fn measure<C: Contender>(
    arguments: &Arguments,
    flows: u32,
    make: impl FnOnce() -> Result<C, String>,
) -> Result<[Measured; 2], String> {
    eprintln!("{} with {flows} flows", C::NAME);
    let before = resident();
    let mut table = make()?;
    if let Some(refused) = (0..flows).find(|&number| !table.insert(number)) {
        return Err(format!("{}: no room for flow {refused} of {flows}", C::NAME));
    }
    let bytes = (resident().saturating_sub(before)) as f64 / f64::from(flows);
    let cell = |question: Question| -> Result<Measured, String> {
        // Missing flows have numbers that come after.
        let first = if question == Question::Hit { 0 } else { flows };
        let asked = arguments.lookups as usize / BURST * BURST;
        let mut times = Vec::new();
        for repetition in 0..arguments.repetitions {
            let seed = u64::from(repetition) << 32;
            let (alone, _) =
                timed(asked, flows, first, seed, |burst| usize::from(black_box(burst).len() > BURST));
            let (total, found) = timed(asked, flows, first, seed, |burst| table.look_up(burst));
            if found != if question == Question::Hit { asked } else { 0 } {
                return Err(format!("{}: {found} of {asked} flows found, asked for {question}", C::NAME));
            }
            times.push((total.as_nanos() as f64 - alone.as_nanos() as f64) / asked as f64);
        }
        Ok(Measured {
            table: C::NAME,
            flows,
            question: question.to_string(),
            ns_per_lookup: Spread::of(times),
            bytes_per_flow: (flows >= 1_000_000).then(|| round(bytes)),
        })
    };
    Ok([cell(Question::Hit)?, cell(Question::Miss)?])
}

/// Draws bursts of flows and gives them away; how long that took this thread, and what came back in all.
#[inline(never)]
fn timed(
    count: usize,
    flows: u32,
    first: u32,
    seed: u64,
    mut each: impl FnMut(&Burst) -> usize,
) -> (Duration, usize) {
    let mut state = seed;
    let mut draw = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let a = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        first + ((b >> 32) * u64::from(flows) >> 32) as u32
    };
    let start = thread::cpu_time();
    let mut sum = 0;
    for _ in 0..count / BURST {
        let burst: Burst = std::array::from_fn(|_| flow(draw()));
        sum += each(&burst);
    }
    (thread::cpu_time().saturating_sub(start), sum)
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| round(values.get(place).copied().unwrap_or_default());
        Self { min: at(0), median: at(values.len() / 2), max: at(values.len().saturating_sub(1)) }
    }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A row for each table and question, a column for each number of flows.
fn markdown(flows: &[u32], results: &[Measured]) -> String {
    let mut rows: Vec<(&str, &str)> = Vec::new();
    for result in results {
        if !rows.contains(&(result.table, result.question.as_str())) {
            rows.push((result.table, &result.question));
        }
    }
    let head: Vec<_> = flows.iter().map(|flows| format!("{flows} flows")).collect();
    let mut text = format!("| table | | {} | bytes a flow |\n", head.join(" | "));
    text.push_str(&format!("|---|---|{}---:|\n", "---:|".repeat(flows.len())));
    for (table, question) in rows {
        let cells: Vec<_> =
            results.iter().filter(|one| one.table == table && one.question == question).collect();
        let times =
            cells.iter().map(|one| format!("{:.1} / {:.1}", one.ns_per_lookup.min, one.ns_per_lookup.median));
        let bytes = cells.iter().rev().find_map(|one| one.bytes_per_flow);
        let bytes = bytes.map_or_else(String::new, |bytes| format!("{bytes:.0}"));
        let times: Vec<_> = times.collect();
        text.push_str(&format!("| {table} | {question} | {} | {bytes} |\n", times.join(" | ")));
    }
    text
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// The last CPU that this process may use.
fn last_core() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.and_then(|list| list.trim().rsplit([',', '-']).next()?.parse().ok()).unwrap_or(0)
}

//! Counts the instructions that the data path takes for a packet and compares them with the committed baseline.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use shunt::bench::rig::Bench;
use shunt_tests::director::KEY;
use shunt_tests::instructions::baseline::{BOUND_OTHER_COMPILER, Baseline, Compared, Verdict};
use shunt_tests::instructions::callgrind::Counts;
use shunt_tests::instructions::{COMPILER, callgrind, counted, paths};

/// Counts by callgrind how many instructions the data path takes for a packet on each of its paths, and compares them
/// with the baseline: none may grow by more than 5 % (20 % when another compiler made the baseline).
///
/// Exit code: 0 no path grew, 1 one did or cannot be counted, 2 wrong use.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Examples, from the folder of the repository:
  cargo run --release --bin instructions               against the baseline
  cargo run --release --bin instructions -- --update   this is the baseline from now on
  cargo run --release --bin instructions -- --only 'nat ipv4' --keep /tmp/profile
  cargo run --release --bin instructions -- --misses --flows 200000 --only 'dr ipv4 udp est'
  callgrind_annotate --auto=yes /tmp/profile/callgrind.out.1          where the first path's instructions go"
)]
struct Arguments {
    /// Write what is counted as the new baseline
    #[arg(long, conflicts_with = "only")]
    update: bool,
    /// The baseline [default: tests/instructions/baseline.json]
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Only paths whose name contains this; may be given several times
    #[arg(long, value_name = "WORDS")]
    only: Vec<String>,
    /// Keep what callgrind wrote in this folder, for callgrind_annotate
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Write what was counted, in the form of a baseline
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print the misses of simulated caches of 32 KiB and 1 MiB, too, and compare with nothing
    #[arg(long, conflicts_with = "update")]
    misses: bool,
    /// Open connections, with --misses
    #[arg(long, requires = "misses", default_value_t = paths::FLOWS,
          value_parser = clap::value_parser!(u32).range(i64::from(paths::FLOWS)..=10_000_000))]
    flows: u32,
    /// What runs under callgrind
    #[arg(long, hide = true)]
    play: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = if arguments.play { play(&arguments).map(|()| true) } else { count(&arguments) };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wanted(arguments: &Arguments, name: &str) -> bool {
    arguments.only.is_empty() || arguments.only.iter().any(|words| name.contains(words.as_str()))
}

/// Plays each path and prints its name and how many packets were counted.
fn play(arguments: &Arguments) -> Result<(), String> {
    for path in paths::all(arguments.flows).iter().filter(|path| wanted(arguments, &path.name)) {
        println!("{}\t{}", counted::path(path)?, path.name);
    }
    let turns: Vec<_> = paths::turns().into_iter().filter(|turn| wanted(arguments, turn.name)).collect();
    if !turns.is_empty() {
        let mut bench = Bench::start(0, false).map_err(|error| error.to_string())?;
        bench.key = KEY;
        for turn in turns {
            println!("{}\t{}", counted::turn(&bench, &turn)?, turn.name);
        }
    }
    Ok(())
}

/// True when no path grew.
fn count(arguments: &Arguments) -> Result<bool, String> {
    if cfg!(debug_assertions) {
        return Err("this is a debug build, whose counts say nothing: cargo run --release …".to_owned());
    }
    let temporary = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let folder = arguments.keep.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut command = vec!["--play"];
    arguments.only.iter().for_each(|words| command.extend(["--only", words]));
    let flows = arguments.flows.to_string();
    if arguments.misses {
        command.extend(["--misses", "--flows", &flows]);
    }
    let (said, counts) = callgrind::run(&command, folder, arguments.misses)?;
    let played: Vec<_> = said.lines().filter_map(|line| line.split_once('\t')).collect();
    if played.is_empty() || played.len() != counts.len() {
        return Err(format!("{} paths were played and {} counted: {said}", played.len(), counts.len()));
    }
    if arguments.misses {
        print_misses(&played, &counts);
        return Ok(true);
    }
    let mut now = Baseline { compiler: COMPILER.to_owned(), ..Baseline::default() };
    for ((packets, name), counts) in played.into_iter().zip(counts) {
        let packets: f64 = packets.parse().map_err(|error| format!("{packets}: {error}"))?;
        let rounded = (counts.instructions as f64 / packets * 10.0).round() / 10.0;
        now.paths.insert(name.to_owned(), rounded);
    }
    if let Some(file) = &arguments.json {
        now.write(file)?;
    }
    let file = arguments.baseline.clone().unwrap_or_else(Baseline::file);
    if arguments.update {
        let old = Baseline::read(&file).unwrap_or_default();
        print(&old.compare(&now));
        now.write(&file)?;
        println!("{}: {} paths, {COMPILER}", file.display(), now.paths.len());
        return Ok(true);
    }
    let baseline = Baseline::read(&file)?;
    let compared: Vec<_> = baseline
        .compare(&now)
        .into_iter()
        .filter(|compared| compared.now.is_some() || wanted(arguments, &compared.path))
        .collect();
    print(&compared);
    Ok(judge(&baseline, &compared))
}

/// A row for each path, with what its packets take on average.
fn print_misses(played: &[(&str, &str)], counts: &[Counts]) {
    let width = played.iter().map(|(_, name)| name.len()).max().unwrap_or(0).max(8);
    println!("{:width$}  {:>12}  {:>12}  {:>12}", "A PACKET", "INSTRUCTIONS", "MISS 32 KIB", "MISS 1 MIB");
    for ((packets, name), counts) in played.iter().zip(counts) {
        let packets: f64 = packets.parse().unwrap_or(1.0);
        let [instructions, first, last] = [counts.instructions, counts.first_misses, counts.last_misses]
            .map(|count| count as f64 / packets);
        println!("{name:width$}  {instructions:>12.1}  {first:>12.2}  {last:>12.2}");
    }
}

fn print(compared: &[Compared]) {
    let width = compared.iter().map(|one| one.path.len()).max().unwrap_or(0);
    println!("{:width$}  {:>8}  {:>8}  {:>8}", "INSTRUCTIONS A PACKET", "BASELINE", "NOW", "CHANGE %");
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    for one in compared {
        let change = one.change().map_or_else(|| "-".to_owned(), |change| format!("{change:+.1}"));
        let (baseline, now) = (number(one.baseline), number(one.now));
        let line =
            format!("{:width$}  {baseline:>8}  {now:>8}  {change:>8}  {}", one.path, one.verdict.word());
        println!("{}", line.trim_end());
    }
}

/// Says what to do; true when there is nothing wrong.
fn judge(baseline: &Baseline, compared: &[Compared]) -> bool {
    const UPDATE: &str = "cargo run --release --bin instructions -- --update";
    if baseline.compiler != COMPILER {
        println!(
            "the baseline was counted with {}, this with {COMPILER}: up to {BOUND_OTHER_COMPILER:.0} % more is taken for \
             the compiler's doing",
            baseline.compiler
        );
    }
    let how_many = |wanted: fn(Verdict) -> bool| compared.iter().filter(|one| wanted(one.verdict)).count();
    let less = how_many(|verdict| verdict == Verdict::Less);
    if less > 0 {
        println!(
            "{less} paths take less by more than the bound: keep the gain with a new baseline: {UPDATE}"
        );
    }
    let failed = how_many(Verdict::fails);
    if failed > 0 {
        println!(
            "{failed} paths fail: find what grew with --keep and callgrind_annotate; if it is meant, say so with a new \
             baseline: {UPDATE}"
        );
    }
    println!("{} paths within their bound, {failed} not", compared.len() - failed);
    failed == 0
}

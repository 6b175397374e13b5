//! Compares what keepalived makes of files with what `shunt import` makes of them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use serde::Serialize;
use shunt_tests::keepalived::compare::{Compared, compare};
use shunt_tests::keepalived::generate;
use shunt_tests::keepalived::real::Keepalived;

/// Lets the real keepalived (2.2.7 is what is compared with) and `shunt import` read files, and compares what they have read, field
/// by field: keepalived's own dump with the configuration that was printed. keepalived is held before it does anything: it takes no
/// address, sends nothing and starts no script. Takes root, for a network namespace with the interfaces that a file names.
///
/// Prints for each file what differs without a notice of the import, one line each, and `N files, N differ` at the end. Exit codes: 0
/// nothing differs, 1 something does, 2 wrong use.
///
/// Examples: keepalived /etc/keepalived/keepalived.conf; keepalived --seed 1 --cases 1000
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Files to compare; cases of a seed where none is named.
    files: Vec<PathBuf>,
    /// Of the first generated case; the others have the numbers after it.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How many cases are generated.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    cases: u64,
    /// Where generated cases that differ are kept.
    #[arg(long, value_name = "DIR", default_value = "target/keepalived")]
    keep: PathBuf,
    /// For whom lines after '@' are, as with keepalived -i.
    #[arg(short = 'i', long, value_name = "ID", default_value = "main")]
    config_id: String,
    /// Files at a time.
    #[arg(long, value_name = "N", default_value_t = 8)]
    at_once: usize,
    /// Also print differences that a notice explains, with the notice.
    #[arg(long)]
    all: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// The answer in JSON.
#[derive(Default, Serialize)]
struct Summary {
    files: usize,
    differ: usize,
    /// Files that keepalived runs, and how many of them are taken.
    runs: usize,
    taken: usize,
    compared: Vec<Compared>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("keepalived: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<usize, Box<dyn std::error::Error>> {
    let keepalived = Keepalived::new()?;
    let folder = tempfile::tempdir()?;
    let generated = arguments.files.is_empty();
    let files = if generated { generated_files(arguments, folder.path())? } else { arguments.files.clone() };
    let (next, summary) =
        (AtomicUsize::new(0), Mutex::new(Summary { files: files.len(), ..Summary::default() }));
    let failed: Mutex<Option<String>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..arguments.at_once.max(1) {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match compare(&keepalived, file, &arguments.config_id) {
                        Ok(compared) => note(compared, generated, arguments, &summary),
                        Err(error) => *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error.into());
    }
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.compared.sort_by(|a, b| a.file.cmp(&b.file));
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        println!("keepalived runs {} of them, shunt takes {} of these", summary.runs, summary.taken);
        println!("{} files, {} differ", summary.files, summary.differ);
    }
    Ok(summary.differ)
}

/// Writes the cases of a seed.
fn generated_files(arguments: &Arguments, folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.cases) {
        files.push(generate::write(seed, folder)?);
    }
    Ok(files)
}

fn note(compared: Compared, generated: bool, arguments: &Arguments, summary: &Mutex<Summary>) {
    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
    let differs =
        if generated { compared.differs() && !compared.is_refused_by_name() } else { compared.differs() };
    summary.differ += usize::from(differs);
    if compared.ends.is_none() {
        summary.runs += 1;
        summary.taken += usize::from(compared.refused.is_empty());
    }
    if !arguments.json && (differs || arguments.all) {
        for line in compared.lines(!arguments.all) {
            println!("{}: {line}", compared.file);
        }
    }
    if generated && differs {
        let file = Path::new(&compared.file);
        let kept = std::fs::create_dir_all(&arguments.keep)
            .and_then(|()| std::fs::copy(file, arguments.keep.join(file.file_name().unwrap_or_default())));
        if let Err(error) = kept {
            eprintln!("keepalived: {}: {error}", arguments.keep.display());
        }
    }
    if arguments.json && (differs || !generated) {
        summary.compared.push(compared);
    }
}

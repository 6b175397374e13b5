//! Saved inputs of fuzzing, between the file in the repository and the folder that libFuzzer works in.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shunt_tests::fuzz;
use shunt_tests::text;

/// Saved inputs of fuzzing
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Prints the targets: name, bytes of the longest input
    Targets,
    /// Writes the saved inputs of a target into a folder, each into a file
    Unpack {
        /// The target
        target: String,
        /// The folder
        folder: PathBuf,
    },
    /// Saves the inputs of a folder, the shortest first, until so many bytes are reached
    Pack {
        /// The target
        target: String,
        /// The folder
        folder: PathBuf,
        /// Bytes of all inputs together
        #[arg(long, default_value_t = 24 << 10)]
        most: usize,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse().what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corpus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: &What) -> Result<(), String> {
    match what {
        What::Targets => {
            fuzz::TARGETS.iter().for_each(|target| println!("{} {}", target.name, target.longest));
            Ok(())
        }
        What::Unpack { target, folder } => {
            let inputs = fuzz::read(&file(target)?)?;
            std::fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
            inputs.iter().enumerate().try_for_each(|(number, input)| {
                let path = folder.join(format!("saved-{number}"));
                std::fs::write(&path, input).map_err(|error| at(&path, &error))
            })
        }
        What::Pack { target, folder, most } => pack(&file(target)?, folder, *most),
    }
}

fn file(target: &str) -> Result<PathBuf, String> {
    fuzz::target(target).map(|target| fuzz::corpus(target.name)).ok_or(format!("{target}: no such target"))
}

fn pack(file: &Path, folder: &Path, most: usize) -> Result<(), String> {
    let mut inputs = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| at(folder, &error))? {
        let path = entry.map_err(|error| at(folder, &error))?.path();
        inputs.push(std::fs::read(&path).map_err(|error| at(&path, &error))?);
    }
    inputs.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    inputs.dedup();
    let mut bytes = 0;
    let fitting = inputs.iter().take_while(|input| {
        bytes += input.len();
        bytes <= most
    });
    let lines: String = fitting.map(|input| text::hex(input) + "\n").collect();
    println!("{}: {} of {} inputs", file.display(), lines.lines().count(), inputs.len());
    std::fs::write(file, lines).map_err(|error| at(file, &error))
}

fn at(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

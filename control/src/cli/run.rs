//! `shunt run`: the director, in the foreground.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Args;
use dpdk_sys::log::LogLevel;
use shunt_config::Config;

use super::Outcome;
use super::output::complain;
use crate::director;
use crate::log::repeats::Repeats;
use crate::log::{Levels, Log};
use crate::signals;
use crate::starter::Starter;
use crate::threads::watcher;

#[derive(Debug, Args)]
#[command(after_help = "\
SIGHUP reloads the file, SIGTERM, SIGQUIT and Ctrl-C stop; other signals do nothing. Exit code 3: a thread of the director hung or
panicked, and it ended to be started anew. Log lines go to standard error; SHUNT_LOG chooses how many (error, warn,
info, debug, trace, or off).

Example:
  shunt run -c /etc/shunt.toml")]
pub struct Arguments {
    /// The configuration
    #[arg(short, long = "config", value_name = "FILE")]
    config: PathBuf,
}

/// Checks the configuration, then runs until it is told to stop.
pub fn run(arguments: &Arguments) -> Outcome {
    // Before all that takes its time.
    if let Err(error) = signals::handle() {
        complain(&format!("signals cannot be handled ({error}): the system has to allow sigaction(2)"));
        return Outcome::No;
    }
    // Before there is anything that it could inherit.
    let starter = match Starter::of_this_process() {
        Ok(starter) => starter,
        Err(error) => {
            complain(&format!("no process for scripts ({error}): raise the limit of processes (ulimit -u)"));
            return Outcome::No;
        }
    };
    let outcome = run_here(arguments);
    starter.end();
    outcome
}

fn run_here(arguments: &Arguments) -> Outcome {
    let checked = match Config::load(&arguments.config, &crate::machine::here()) {
        Ok(checked) => checked,
        Err(problems) => {
            for problem in &problems.list {
                complain(&problems.line(problem));
            }
            return Outcome::No;
        }
    };
    let Levels { filter, odd } = Levels::of(std::env::var("SHUNT_LOG").ok().as_deref());
    let log = match Log::start(std::io::stderr()) {
        Ok(log) => log,
        Err(error) => {
            complain(&format!("no thread for the log ({error}): raise the limit of threads (ulimit -u)"));
            return Outcome::No;
        }
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.clone()).with_target(false);
    // Only the first one takes effect, and this is the first.
    let _ = lines.with_ansi(super::output::colour_of_errors()).try_init();
    let repeats = Mutex::new(Repeats::default());
    dpdk_sys::log::set_sink(Box::new(move |level, line| {
        let told = repeats.lock().unwrap_or_else(PoisonError::into_inner).hear(Instant::now(), line);
        let Some(before) = told else { return };
        let more = if before > 0 { format!(" (and {before} times before)") } else { String::new() };
        match level {
            LogLevel::Error => tracing::error!("{line}{more}"),
            LogLevel::Warning => tracing::warn!("{line}{more}"),
            LogLevel::Info => tracing::info!("{line}{more}"),
            LogLevel::Debug => tracing::debug!("{line}{more}"),
        }
    }));
    if let Some(odd) = odd {
        tracing::warn!("{odd}");
    }
    for warning in &checked.warnings.list {
        tracing::warn!("{}", checked.warnings.line(warning));
    }
    let flush = log.clone();
    if let Err(error) = watcher::start(move || flush.flush()) {
        complain(&format!("no thread to watch the others ({error}): raise the limit of threads (ulimit -u)"));
        return Outcome::No;
    }
    let ended = director::run::run(&arguments.config, checked);
    log.flush();
    match ended {
        Ok(()) => Outcome::Done,
        Err(errors) => {
            errors.iter().for_each(|error| complain(&format!("{}: {error}", arguments.config.display())));
            Outcome::No
        }
    }
}

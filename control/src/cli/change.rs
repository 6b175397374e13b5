//! `shunt reload` and `shunt stop`: what changes the running director.

use std::time::Duration;

use clap::Args;
use hyper::Method;

use super::Outcome;
use super::client::{Client, Failure, Target, run as speak};
use super::output::{complain, say, say_bytes};
use crate::api::Reloaded;

/// How long a director may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "\
The director reads its configuration file anew, checks it whole, publishes the difference as one generation and waits until every
worker runs it. A file that is not usable, or needs a restart, changes nothing (exit code 1), and neither does one that takes away more than half of the
services or real servers (runtime.reload_removes), unless --yes is given: it may have been cut off. SIGHUP does the same.

Example:
  shunt check /etc/shunt.toml --diff && shunt reload")]
pub struct ReloadArguments {
    #[command(flatten)]
    target: Target,
    /// Take a file that takes away very much, too
    #[arg(short, long)]
    yes: bool,
    /// Answer in JSON (docs/api.md)
    #[arg(long)]
    json: bool,
}

/// Asks for a reload and prints what changed.
pub fn reload(arguments: &ReloadArguments) -> Outcome {
    speak(&arguments.target, async |client: &mut Client| {
        let bytes = client
            .bytes(Method::POST, if arguments.yes { "/v1/reload?yes=true" } else { "/v1/reload" })
            .await?;
        if arguments.json {
            say_bytes(&bytes);
            return Ok(());
        }
        let reloaded: Reloaded = client.read(&bytes)?;
        for warning in &reloaded.warnings {
            complain(warning);
        }
        say(&reloaded.changes.to_string());
        say(&format!("generation {} runs on every worker", reloaded.generation));
        Ok(())
    })
}

#[derive(Debug, Args)]
#[command(after_help = "\
Returns when the director has stopped. SIGTERM and Ctrl-C do the same.

Example:
  shunt stop --socket /run/shunt.sock")]
pub struct StopArguments {
    #[command(flatten)]
    target: Target,
}

/// Asks the director to stop and waits until it has.
pub fn stop(arguments: &StopArguments) -> Outcome {
    speak(&arguments.target, async |client: &mut Client| {
        // The answer is at its end when the director is.
        let mut body = client.ask(Method::POST, "/v1/stop?wait=true").await?.into_body();
        let end = async { while matches!(client.piece(&mut body).await, Ok(Some(_))) {} };
        if tokio::time::timeout(STOP_PATIENCE, end).await.is_ok() {
            return Ok(());
        }
        Err(Failure::no(format!(
            "{}: still stopping after {} s: a director stops within a few: look at its log",
            client.path().display(),
            STOP_PATIENCE.as_secs()
        )))
    })
}

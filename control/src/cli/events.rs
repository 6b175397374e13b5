//! `shunt events`: what happens, as it happens.

use clap::Args;
use hyper::Method;

use super::Outcome;
use super::client::{Client, Failure, Target, run as speak};
use super::connections::Lines;
use super::output::say;
use crate::notify::Event;

#[derive(Debug, Args)]
#[command(after_help = "\
It goes on until it is interrupted or the director stops.

Examples:
  shunt events
  shunt events --json | jq 'select(.what == \"real_down\")'")]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
    /// One JSON object to a line (docs/api.md)
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
pub fn run(arguments: &Arguments) -> Outcome {
    speak(&arguments.target, async |client: &mut Client| listen(client, arguments.json).await)
}

async fn listen(client: &mut Client, json: bool) -> Result<(), Failure> {
    let mut body = client.ask(Method::GET, "/v1/events").await?.into_body();
    let mut lines = Lines::default();
    while let Some(piece) = client.piece(&mut body).await? {
        for line in lines.take(&piece).into_iter().filter(|line| !line.is_empty()) {
            let event: Event = client.read(line.as_bytes())?;
            let written =
                if json { say(&line) } else { say(&format!("{:<12} {}", event.what.word(), event.text)) };
            if !written {
                return Ok(());
            }
        }
    }
    Ok(())
}

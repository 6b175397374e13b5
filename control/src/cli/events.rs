//! `shunt events`: what happens, as it happens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use hyper::Method;
use shunt_model::duration;
use shunt_model::notify::Event;

use super::Outcome;
use super::client::{Client, Failure, Target, run as speak};
use super::connections::Lines;
use super::output::say;

#[derive(Debug, Args)]
#[command(after_help = "\
Without --since it goes on until it is interrupted or the director stops; with it, it ends with what happened until now, unless --follow
is given. The director remembers the last 8192 events since it started.

Examples:
  shunt events
  shunt events --since 1h
  shunt events --since 10m --follow
  shunt events --json | jq 'select(.what == \"real_down\")'")]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
    /// What happened in so long a time until now, such as 90s, 10m, 1h
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Duration>,
    /// Goes on with what happens from now on
    #[arg(short, long)]
    follow: bool,
    /// One JSON object to a line (docs/api.md)
    #[arg(long)]
    json: bool,
}

fn since(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|fault| format!("{}: {}", fault.wrong, fault.holds))
}

/// Asks and prints.
pub fn run(arguments: &Arguments) -> Outcome {
    speak(&arguments.target, async |client: &mut Client| {
        let uri = match arguments.since {
            None => "/v1/events".to_owned(),
            Some(since) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let then = now.saturating_sub(since).as_millis();
                format!("/v1/events?since={then}&follow={}", arguments.follow)
            }
        };
        listen(client, &uri, arguments.json).await
    })
}

async fn listen(client: &mut Client, uri: &str, json: bool) -> Result<(), Failure> {
    let mut body = client.ask(Method::GET, uri).await?.into_body();
    let mut lines = Lines::default();
    while let Some(piece) = client.piece(&mut body).await? {
        for line in lines.take(&piece).into_iter().filter(|line| !line.is_empty()) {
            let event: Event = client.read(line.as_bytes())?;
            let written = if json {
                say(&line)
            } else {
                say(&format!("{} {:<20} {}", event.time(), event.what.word(), event.text))
            };
            if !written {
                return Ok(());
            }
        }
    }
    Ok(())
}

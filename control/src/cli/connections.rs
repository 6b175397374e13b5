//! `shunt connections`: the connection table, printed as it comes.

use clap::Args;
use hyper::Method;

use super::Outcome;
use super::client::{Client, Failure, Target, run as speak, uri};
use super::output::{complain, say, write};
use crate::api::{Connection, Filter};

#[derive(Debug, Args)]
#[command(after_help = "\
A filter is any of: tcp, udp, an address, a network, an address with port, client=, vip=, real=, state=, worker=;
connections that meet all parts are shown.

Examples:
  shunt connections
  shunt connections tcp client=198.51.100.0/24 state=established
  shunt connections 10.1.0.11:80 --json")]
pub struct Arguments {
    /// Which connections
    filter: Vec<String>,
    #[command(flatten)]
    target: Target,
    /// Answer in JSON, one connection to a line (docs/api.md)
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
pub fn run(arguments: &Arguments) -> Outcome {
    let filter = match Filter::parse(&arguments.filter) {
        Ok(filter) => filter,
        Err(what) => {
            complain(&format!("shunt connections: {what}"));
            return Outcome::WrongUse;
        }
    };
    speak(&arguments.target, async |client: &mut Client| {
        let uri = uri("/v1/connections", &query(&filter));
        if arguments.json { pass_on(client, &uri).await } else { list(client, &uri).await }
    })
}

fn query(filter: &Filter) -> Vec<(&'static str, String)> {
    let Filter { protocol, state, worker, client, vip, real, any } = filter;
    let parts = [
        ("protocol", protocol.clone()),
        ("state", state.clone()),
        ("worker", worker.map(|worker| worker.to_string())),
        ("client", client.map(|place| place.to_string())),
        ("vip", vip.map(|place| place.to_string())),
        ("real", real.map(|place| place.to_string())),
        ("any", any.map(|place| place.to_string())),
    ];
    parts.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

async fn pass_on(client: &mut Client, uri: &str) -> Result<(), Failure> {
    let mut body = client.ask(Method::GET, uri).await?.into_body();
    while let Some(piece) = client.piece(&mut body).await? {
        if !write(&piece) {
            return Ok(());
        }
    }
    Ok(())
}

async fn list(client: &mut Client, uri: &str) -> Result<(), Failure> {
    say(&row(["Pro", "Expires", "State", "Client", "VIP", "Real server", "Worker"]));
    each(client, uri, |connection| say(&shown(connection))).await
}

/// The connection of one line of the answer, if it has one.
fn connection(client: &Client, line: &str) -> Result<Option<Connection>, Failure> {
    let line = line.trim_end_matches(',');
    if line.starts_with("{\"protocol\"") {
        return client.read(line.as_bytes()).map(Some);
    }
    match line.strip_prefix("],\"error\":") {
        Some(error) => {
            let error: String = client.read(error.trim_end_matches('}').as_bytes())?;
            Err(Failure::no(format!("the list is not complete: {error}")))
        }
        None => Ok(None),
    }
}

/// Gives the connections of an answer to `each` as they come, until that says false.
pub async fn each(
    client: &mut Client,
    uri: &str,
    mut each: impl FnMut(&Connection) -> bool,
) -> Result<(), Failure> {
    let mut body = client.ask(Method::GET, uri).await?.into_body();
    let mut lines = Lines::default();
    while let Some(piece) = client.piece(&mut body).await? {
        for line in lines.take(&piece) {
            if connection(client, &line)?.is_some_and(|connection| !each(&connection)) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn shown(connection: &Connection) -> String {
    let Connection { protocol, client, vip, real, state, expires_in, worker, masquerade } = connection;
    let expires = format!("{}:{:02}", expires_in / 60, expires_in % 60);
    let (client, vip, real) = (client.to_string(), vip.to_string(), real.to_string());
    let worker = format!("{worker}{}", if *masquerade { "  masquerade" } else { "" });
    row([&protocol.to_uppercase(), &expires, state, &client, &vip, &real, &worker])
}

/// Columns of fixed width, since rows are printed as they come.
fn row([protocol, expires, state, client, vip, real, worker]: [&str; 7]) -> String {
    format!("{protocol:<4}{expires:<8}{state:<12}{client:<22} {vip:<22} {real:<22} {worker}")
}

/// Lines out of pieces that end anywhere.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// The lines that this piece completes.
    pub fn take(&mut self, piece: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(piece);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_from_pieces() {
        let mut lines = Lines::default();
        assert!(lines.take(b"ab").is_empty());
        assert_eq!(lines.take(b"c\nd\ne"), ["abc", "d"]);
        assert_eq!(lines.take(b"\n"), ["e"]);
    }
}

//! `shunt neighbours`: who is on the director's links, how sure it is of them, and who else uses its addresses.

use clap::Args;
use hyper::Method;

use super::Outcome;
use super::client::{Client, Failure, Target, run as speak};
use super::output::{say, say_bytes};
use super::table::{Table, seconds};
use crate::api::neighbours::{Conflict, Neighbours};

#[derive(Debug, Args)]
#[command(after_help = "\
States: reachable (it answered a question within 30 s), stale (it asked for the director and was not asked yet), probe (it is being
asked again), incomplete (asked for the first time), failed (no answer; asked on), static (its MAC is in the file).

Examples:
  shunt neighbours
  shunt neighbours --json | jq '.neighbours[] | select(.state == \"failed\")'")]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Answer in JSON (docs/api.md)
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
pub fn run(arguments: &Arguments) -> Outcome {
    speak(&arguments.target, async |client: &mut Client| {
        let bytes = client.bytes(Method::GET, "/v1/neighbours").await?;
        if arguments.json {
            say_bytes(&bytes);
        } else {
            say(text(&client.read(&bytes)?).trim_end());
        }
        Ok::<(), Failure>(())
    })
}

fn text(all: &Neighbours) -> String {
    let mut table = Table::new(&["NIC", "NEIGHBOUR", "MAC", "STATE", "SINCE", "WAITING", "IS"], &[4, 5]);
    for one in &all.neighbours {
        table.row(vec![
            one.nic.clone(),
            one.address.clone(),
            one.mac.clone().unwrap_or_default(),
            one.state.clone(),
            seconds(one.since),
            one.waiting.to_string(),
            one.named.clone().unwrap_or_default(),
        ]);
    }
    let mut text = table.text();
    text.push('\n');
    text += &conflicts(&all.conflicts);
    let mut table = Table::new(&["REFUSED", "COUNT", ""], &[1]);
    let occurred: Vec<_> = all.refused.iter().filter(|refused| refused.count > 0).collect();
    for refused in &occurred {
        table.row(vec![refused.reason.clone(), refused.count.to_string(), refused.help.clone()]);
    }
    if occurred.is_empty() {
        table.row(vec!["nothing".to_owned(), "0".to_owned()]);
    }
    text += &table.text();
    text += &format!(
        "\nanswered {}, asked {}, announced {}, gave way {}\n",
        all.answered, all.requests, all.announcements, all.evicted
    );
    text
}

/// A line for each host that uses an address of the director; nothing where there is none.
pub(super) fn conflicts(conflicts: &[Conflict]) -> String {
    let line = |one: &Conflict| {
        let Conflict { nic, since, last, count, text, .. } = one;
        let (since, last) = (seconds(*since), seconds(*last));
        format!("conflict: nic {nic}: {text} (heard {count} times in {since}, last {last} ago)\n")
    };
    let lines: String = conflicts.iter().map(line).collect();
    if lines.is_empty() { lines } else { lines + "\n" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::neighbours::{Neighbour, Refused};

    #[test]
    fn for_people() {
        let neighbour = |address: &str, mac: Option<&str>, state: &str, named: Option<&str>| Neighbour {
            nic: "back".to_owned(),
            address: address.to_owned(),
            mac: mac.map(str::to_owned),
            state: state.to_owned(),
            named: named.map(str::to_owned),
            since: 75,
            waiting: 0,
        };
        let refused =
            |reason: &str, count| Refused { reason: reason.to_owned(), count, help: "Help.".to_owned() };
        let all = Neighbours {
            neighbours: vec![
                neighbour("10.1.0.11", Some("02:00:00:00:00:15"), "reachable", Some("real")),
                neighbour("10.1.0.12", None, "failed", Some("real")),
                neighbour("10.1.0.77", Some("02:00:00:00:00:77"), "stale", None),
            ],
            conflicts: vec![Conflict {
                nic: "front".to_owned(),
                since: 75,
                last: 3,
                count: 9,
                text: "02:00:00:00:00:15 also claims 192.0.2.10: do this".to_owned(),
                ..Conflict::default()
            }],
            refused: vec![refused("unasked", 2), refused("static", 0)],
            answered: 4,
            requests: 5,
            announcements: 6,
            evicted: 0,
        };
        let want = "\
NIC   NEIGHBOUR  MAC                STATE      SINCE  WAITING  IS
back  10.1.0.11  02:00:00:00:00:15  reachable  1m15s        0  real
back  10.1.0.12                     failed     1m15s        0  real
back  10.1.0.77  02:00:00:00:00:77  stale      1m15s        0

conflict: nic front: 02:00:00:00:00:15 also claims 192.0.2.10: do this (heard 9 times in 1m15s, last 3s ago)

REFUSED  COUNT
unasked      2  Help.

answered 4, asked 5, announced 6, gave way 0
";
        assert_eq!(text(&all), want);
    }
}

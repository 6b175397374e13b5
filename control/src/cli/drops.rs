//! `shunt drops`: why packets were dropped, by reason.

use std::collections::HashSet;

use clap::Args;
use hyper::Method;
use shunt_config::document::nearest;
use shunt_dataplane::reason::{DropReason, Incomplete, PuntReason, Reclaimed, ReplyKind};

use super::Outcome;
use super::client::{Client, Target, run as speak};
use super::output::{complain, say, say_bytes};
use super::table::Table;
use crate::api::Drops;
use crate::api::status::Count;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  shunt drops
  shunt drops --all --json
  shunt drops --explain no_real      (needs no director)")]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Reasons that never occurred too
    #[arg(long)]
    all: bool,
    /// Say what a reason means and what to do
    #[arg(long, value_name = "REASON", conflicts_with_all = ["all", "json"])]
    explain: Option<String>,
    /// Answer in JSON (docs/api.md), always with all reasons
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
pub fn run(arguments: &Arguments) -> Outcome {
    if let Some(reason) = &arguments.explain {
        return explain(reason);
    }
    speak(&arguments.target, async |client: &mut Client| {
        let bytes = client.bytes(Method::GET, "/v1/drops").await?;
        if arguments.json {
            say_bytes(&bytes);
        } else {
            say(text(&client.read(&bytes)?, arguments.all).trim_end());
        }
        Ok(())
    })
}

/// Every word, what kind it is of, and its help.
fn words() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let drops = DropReason::ALL.iter().map(|reason| (reason.word(), "a packet was dropped", reason.help()));
    let punts = PuntReason::ALL
        .iter()
        .map(|reason| (reason.word(), "a packet was handed to the control core", reason.help()));
    let replies = ReplyKind::ALL.iter().map(|kind| (kind.word(), "the director answered", kind.help()));
    let reclaimed = Reclaimed::ALL.iter().map(|kind| (kind.word(), "a full table gave it up", kind.help()));
    let incomplete =
        Incomplete::ALL.iter().map(|why| (why.word(), "a datagram in fragments was given up", why.help()));
    drops.chain(punts).chain(replies).chain(reclaimed).chain(incomplete)
}

/// Every word once: one that stands for a drop and for an answer too has two meanings.
fn names() -> Vec<&'static str> {
    let mut seen = HashSet::new();
    words().map(|(word, ..)| word).filter(|word| seen.insert(*word)).collect()
}

fn explain(reason: &str) -> Outcome {
    let mut known = false;
    for (word, kind, help) in words().filter(|(word, ..)| *word == reason) {
        say(&format!("{word}: {kind}: {help}"));
        known = true;
    }
    if known {
        return Outcome::Done;
    }
    let all = names();
    let advice = nearest(reason, &all)
        .map_or_else(|| "name one of these".to_owned(), |near| format!("did you mean {near}?"));
    complain(&format!("shunt drops: {reason}: no such reason: there are {}: {advice}", all.join(", ")));
    Outcome::WrongUse
}

fn text(drops: &Drops, all: bool) -> String {
    let mut text = String::new();
    let seldom = [("GIVEN UP", &drops.reclaimed), ("INCOMPLETE", &drops.incomplete)];
    let titles = [("DROPPED", &drops.drops), ("HANDED UP", &drops.punts), ("ANSWERED", &drops.replies)];
    // Most tables are never full, and most datagrams come whole.
    let seldom = seldom.into_iter().filter(|(_, counts)| all || counts.iter().any(|count| count.count > 0));
    for (title, counts) in titles.into_iter().chain(seldom) {
        let mut table = Table::new(&[title, "COUNT", ""], &[1]);
        let shown: Vec<&Count> = counts.iter().filter(|count| all || count.count > 0).collect();
        for count in &shown {
            table.row(vec![count.reason.clone(), count.count.to_string(), count.help.clone()]);
        }
        if shown.is_empty() {
            table.row(vec!["nothing".to_owned(), "0".to_owned()]);
        }
        text += &table.text();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_occurred() {
        let count = |reason: &str, count| Count {
            reason: reason.to_owned(),
            count,
            help: "Help.".to_owned(),
            workers: vec![count],
        };
        let drops = Drops { drops: vec![count("no_real", 3), count("martian", 0)], ..Drops::default() };
        let want = "DROPPED  COUNT\nno_real      3  Help.\n\nHANDED UP  COUNT\nnothing        0\n\nANSWERED  COUNT\nnothing       0\n\n";
        assert_eq!(text(&drops, false), want);
        assert!(text(&drops, true).contains("martian"));
    }

    #[test]
    fn every_reason_is_explained() {
        for (word, ..) in words() {
            assert_eq!(explain(word), Outcome::Done);
        }
        assert_eq!(explain("no_such"), Outcome::WrongUse);
    }

    #[test]
    fn a_word_of_two_kinds_is_named_once_and_explained_as_both() {
        let names = names();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        let twice = words().filter(|(word, ..)| *word == "no_connection").count();
        assert_eq!((twice, names.iter().filter(|word| **word == "no_connection").count()), (2, 1));
        assert_eq!(
            names.iter().collect::<HashSet<_>>(),
            words().map(|(word, ..)| word).collect::<Vec<_>>().iter().collect()
        );
    }
}

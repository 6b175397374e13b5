//! `shunt explain`: what the director would do with a packet, and why.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use hyper::Method;

use super::Outcome;
use super::client::{Client, Target, run as speak, uri};
use super::output::{say, say_bytes};
use crate::api::Explanation;

/// The transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    Tcp,
    Udp,
    Sctp,
}

/// What the TCP segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Flag {
    Syn,
    Ack,
    Fin,
    Rst,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is changed by asking: no connection is made, no scheduler moves on.

Examples:
  shunt explain tcp 198.51.100.7:40000 192.0.2.10:80
  shunt explain udp '[2001:db8::7]:40000' '[2001:db8::10]:53' --nic front
  shunt explain tcp 198.51.100.7:40000 192.0.2.10:80 --flag ack")]
pub struct Arguments {
    /// tcp, udp or sctp
    protocol: Transport,
    /// Source address and port
    #[arg(value_name = "SRC:PORT")]
    source: SocketAddr,
    /// Destination address and port
    #[arg(value_name = "DST:PORT")]
    destination: SocketAddr,
    /// The NIC that it arrives at [default: the one that leads to its source]
    #[arg(long)]
    nic: Option<String>,
    /// TCP: what kind of segment, and SCTP: what chunk does the same [default: syn]
    #[arg(long)]
    flag: Option<Flag>,
    #[command(flatten)]
    target: Target,
    /// Answer in JSON (docs/api.md)
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
pub fn run(arguments: &Arguments) -> Outcome {
    speak(&arguments.target, async |client: &mut Client| {
        let bytes = client.bytes(Method::GET, &uri("/v1/explain", &query(arguments))).await?;
        if arguments.json {
            say_bytes(&bytes);
        } else {
            say(&text(&client.read(&bytes)?));
        }
        Ok(())
    })
}

fn query(arguments: &Arguments) -> Vec<(&'static str, String)> {
    let word = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
        value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    };
    let mut query = vec![
        ("protocol", word(&|| arguments.protocol.to_possible_value())),
        ("source", arguments.source.to_string()),
        ("destination", arguments.destination.to_string()),
    ];
    query.extend(arguments.nic.clone().map(|nic| ("nic", nic)));
    query.extend(arguments.flag.map(|flag| ("flag", word(&|| flag.to_possible_value()))));
    query
}

fn text(explanation: &Explanation) -> String {
    let mut text = format!("generation {}\n", explanation.generation);
    for (number, step) in explanation.steps.iter().enumerate() {
        text += &format!("{:>2}. {}\n", number + 1, step.text);
    }
    text.trim_end().to_owned()
}

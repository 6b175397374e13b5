//! `global_defs` and the small blocks beside it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::keywords::Block;
use super::services::Context;
use super::tree::Statement;
use super::values::{Values, walk};
use crate::config::problem::Fault;
use crate::import::writer::{Writer, last_of_each, quoted, seconds};

/// Reads `global_defs`.
pub fn read(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    let place = "global_defs";
    walk(statement.statements(), Block(place), place, writer, |statement, writer| {
        let mut values = Values::of(statement, place, writer);
        let key = match statement.keyword() {
            "lvs_timeouts" => return timeouts(statement, context, writer),
            "script_user" => {
                context.script_user = values.rest("a user, and a group if it is not the user's");
                None
            }
            "notification_email" => {
                let addresses = statement.statements().iter().map(|one| quoted(one.keyword()));
                Some(("to", format!("[{}]", addresses.collect::<Vec<_>>().join(", "))))
            }
            "notification_email_from" => values.required("a mail address").map(|from| ("from", quoted(from))),
            "smtp_server" => values.required("a host, and a port if it is not 25").map(|host| {
                let l4_port = values.word().unwrap_or("25");
                let host = if host.parse::<std::net::Ipv6Addr>().is_ok() {
                    format!("[{host}]")
                } else {
                    host.to_owned()
                };
                ("server", quoted(&format!("{host}:{l4_port}")))
            }),
            "smtp_helo_name" => values.required("a host name").map(|name| ("helo", quoted(name))),
            "vrrp_version" => {
                context.version = values.integer(2..=3);
                None
            }
            "vrrp_startup_delay" => {
                let delay = values.seconds(0.0..=3_600.0);
                let key = delay.map(|delay| (statement.origin().clone(), "start_grace", seconds(delay)));
                context.vrrp_defaults.extend(key);
                None
            }
            "smtp_connect_timeout" => values.seconds(0.001..=4_294.0).map(|time| ("timeout", seconds(time))),
            keyword => {
                let key = super::vrrp::announcing(keyword, &mut values);
                let key = key.map(|(key, value)| (statement.origin().clone(), key, value));
                context.vrrp_defaults.extend(key);
                None
            }
        };
        context.mail.extend(key.map(|(key, value)| (statement.origin().clone(), key, value)));
    });
}

/// Writes what `global_defs` says that has a table of its own.
pub fn write(context: &Context, writer: &mut Writer) {
    for (table, keys) in [("[timeout]", &context.timeouts), ("[notify.mail]", &context.mail)] {
        let keys = last_of_each(keys.clone(), |(_, key, _)| *key);
        if let Some((origin, ..)) = keys.first() {
            writer.table(origin, table);
        }
        for (origin, key, value) in &keys {
            writer.key(origin, key, value);
        }
    }
}

fn timeouts(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    let mut values = Values::of(statement, "global_defs", writer);
    while values.peek().is_some() {
        let key = values.choice(&[("tcp", "tcp"), ("tcpfin", "tcpfin"), ("udp", "udp")]);
        let Some(key) = key else { break };
        let Some(time) = values.integer(1..=31 * 86_400_u32) else { break };
        context.timeouts.push((statement.origin().clone(), key, seconds(time.into())));
    }
}

/// Reads `SSL`.
pub fn ssl(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    walk(statement.statements(), Block("SSL"), "SSL", writer, |statement, writer| {
        let mut values = Values::of(statement, "SSL", writer);
        context.ca = values.required("a file").map(str::to_owned);
        values.end();
    });
}

/// Reads a `track_file`.
pub fn track_file(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    let place = statement.line();
    let Some(name) = Values::of(statement, &place, writer).required("a track_file has a name") else {
        return;
    };
    walk(statement.statements(), Block("track_file"), &place, writer, |statement, writer| {
        if statement.keyword() == "file" {
            let file = Values::of(statement, &place, writer).required("a path");
            context.track_files.extend(file.map(|file| (name.to_owned(), file.to_owned())));
        }
    });
}

/// Reads `static_routes`; routes to a network by a router have an equal.
pub fn routes(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    for route in statement.statements() {
        let mut words = route.words.iter().map(String::as_str).peekable();
        let mut next = |word: &str| words.next_if_eq(&word).is_some();
        let _ = next("to");
        let to = words
            .next()
            .and_then(|word| if word == "default" { "0.0.0.0/0".parse().ok() } else { network(word) });
        let via =
            (words.next_if(|word| ["via", "gw"].contains(word)).is_some()).then(|| words.next()).flatten();
        let via = via.and_then(|word| word.parse::<IpAddr>().ok());
        let device = (words.next_if_eq(&"dev").is_some()).then(|| words.next()).flatten();
        let (Some(to), Some(via), None) = (to, via, words.next()) else {
            let holds = "`NETWORK via ROUTER [dev INTERFACE]` has an equal in [[route]]";
            let fault = Fault::new(
                format!("the route {} is not supported", route.line()),
                holds,
                "write it so, or remove it",
            );
            writer.refuse(route.origin(), "static_routes", fault);
            continue;
        };
        let nic =
            device.and_then(|device| context.interfaces.nic(device, route.origin(), "static_routes", writer));
        writer.table(route.origin(), "[[route]]");
        writer.key(route.origin(), "to", quoted(&to.to_string()));
        writer.key(route.origin(), "via", quoted(&via.to_string()));
        if let Some(nic) = nic {
            writer.key(route.origin(), "nic", quoted(&nic));
        }
    }
}

fn network(word: &str) -> Option<IpNet> {
    word.parse().ok().or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from))
}

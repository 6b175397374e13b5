//! `global_defs` and the small blocks beside it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::keywords::Block;
use super::services::Context;
use super::tree::Statement;
use super::values::{Values, walk};
use crate::config::problem::Fault;
use crate::import::note::Origin;
use crate::import::writer::{Writer, last_of_each, quoted, seconds};
use crate::notify::What;

/// What `global_defs` says of mails.
#[derive(Clone, Debug, Default)]
pub struct MailSwitches {
    all: Option<bool>,
    vrrp: Option<bool>,
    checks: Option<bool>,
    no_faults: bool,
    no_checks: bool,
    /// Where the last of them stands.
    origin: Option<Origin>,
}

impl MailSwitches {
    /// Takes a keyword; false when it is none of these.
    fn take(&mut self, statement: &Statement, values: &mut Values<'_, '_>) -> bool {
        match statement.keyword() {
            "smtp_alert" => self.all = values.boolean(),
            "smtp_alert_vrrp" => self.vrrp = values.boolean(),
            "smtp_alert_checker" => self.checks = values.boolean(),
            "no_email_faults" => self.no_faults = true,
            "no_checker_emails" => self.no_checks = true,
            _ => return false,
        }
        self.origin = Some(statement.origin().clone());
        true
    }

    /// `events` of `[notify] mail`, where mails are not about everything.
    fn key(&self) -> Option<(Origin, &'static str, String)> {
        let vrrp = self.vrrp.or(self.all).unwrap_or(true);
        let checks = !self.no_checks && self.checks.or(self.all).unwrap_or(true);
        if vrrp && checks && !self.no_faults {
            return None;
        }
        let wanted = |what: &What| match what {
            What::RealUp | What::RealDown | What::QuorumUp | What::QuorumDown => checks,
            What::VrrpFault => vrrp && !self.no_faults,
            What::VrrpMaster | What::VrrpBackup | What::VrrpStop | What::VrrpLowerPriority => vrrp,
            What::VrrpAdvert | What::SplitBrain | What::SplitBrainOver => vrrp,
            What::Tracked => vrrp,
            What::LinkDown | What::LinkUp => !self.no_faults,
            What::NoReal | What::NoRealOver => checks,
            What::Reload | What::ReloadRefused | What::Ipvsadm => false,
            // News to keepalived.
            _ => true,
        };
        let words = What::ALL.iter().filter(|what| wanted(what)).map(|what| quoted(what.word()));
        let list = format!("[{}]", words.collect::<Vec<_>>().join(", "));
        Some((self.origin.clone()?, "events", list))
    }
}

/// Reads `global_defs`.
pub fn read(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    let place = "global_defs";
    walk(statement.statements(), Block(place), place, writer, |statement, writer| {
        let mut values = Values::of(statement, place, writer);
        if context.mail_switches.take(statement, &mut values) {
            return;
        }
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
    let mut mail = context.mail.clone();
    if !mail.is_empty() {
        mail.extend(context.mail_switches.key());
    }
    for (table, keys) in [("[timeout]", &context.timeouts), ("[notify.mail]", &mail)] {
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

/// What a route of keepalived says.
#[derive(Default)]
struct Route {
    to: Option<IpNet>,
    via: Option<IpAddr>,
    device: Option<String>,
}

impl Route {
    /// None when it says something that has no equal.
    fn read(words: &[String]) -> Option<Self> {
        let mut route = Self::default();
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "to" | "unicast" => {}
                "via" | "gw" => {
                    let router = words.next()?;
                    // The family may stand before it.
                    let router = if ["inet", "inet6"].contains(&router) { words.next()? } else { router };
                    route.via = Some(router.parse().ok()?);
                }
                "dev" => route.device = Some(words.next()?.to_owned()),
                // The director sends from its own addresses, and its own routes come first.
                "src" | "scope" | "proto" | "protocol" | "metric" | "preference" => drop(words.next()?),
                _ if route.to.is_none() => route.to = Some(network(word)?),
                _ => return None,
            }
        }
        (route.to.is_some() && (route.via.is_some() || route.device.is_some())).then_some(route)
    }
}

/// Reads `static_routes` and `virtual_routes`; routes to a network, by a router or to neighbours, have an equal.
pub fn routes(statement: &Statement, place: &str, context: &mut Context, writer: &mut Writer) {
    for line in statement.statements() {
        let read = Route::read(&line.words);
        let Some(Route { to: Some(mut to), via, device }) = read else {
            let holds =
                "`NETWORK via ROUTER [dev INTERFACE]` and `NETWORK dev INTERFACE` have an equal in [[route]]";
            let wrong = format!("the route {} is not supported", line.line());
            writer.refuse(line.origin(), place, Fault::new(wrong, holds, "write it so, or remove it"));
            continue;
        };
        if let (IpAddr::V4(_), Some(IpAddr::V6(_)), 0) = (to.addr(), via, to.prefix_len()) {
            // `default` is of the router's family.
            to = everything_v6(to);
        }
        let nic = device.and_then(|device| context.interfaces.nic(&device, line.origin(), place, writer));
        // Several instances may have one.
        if !context.routes.insert((to, via, nic.clone())) {
            continue;
        }
        writer.table(line.origin(), "[[route]]");
        writer.key(line.origin(), "to", quoted(&to.to_string()));
        if let Some(via) = via {
            writer.key(line.origin(), "via", quoted(&via.to_string()));
        }
        if let Some(nic) = nic {
            writer.key(line.origin(), "nic", quoted(&nic));
        }
    }
}

fn everything_v6(otherwise: IpNet) -> IpNet {
    IpNet::new(IpAddr::from([0; 16]), 0).unwrap_or(otherwise)
}

fn network(word: &str) -> Option<IpNet> {
    if word == "default" {
        return IpNet::new(IpAddr::from([0; 4]), 0).ok();
    }
    word.parse().ok().or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from))
}

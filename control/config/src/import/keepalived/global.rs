//! `global_defs` and the small blocks beside it.

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_model::fault::Origin;
use shunt_model::fault::{Fault, printable};
use shunt_model::notify::What;

use super::keywords::Block;
use super::scripts::{SECONDS_MAX, user};
use super::services::Context;
use super::tree::Statement;
use super::values::{Values, walk};
use crate::import::note::Fate;
use crate::import::writer::{Writer, last_of_each, quoted, seconds};

/// What `global_defs` says of mails.
#[derive(Clone, Debug, Default)]
pub struct MailSwitches {
    all: Option<bool>,
    vrrp: Option<bool>,
    checks: Option<bool>,
    no_faults: bool,
    no_checks: bool,
}

/// What `smtp_alert` of an instance, a group or a virtual server asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// Mails about virtual routers.
    pub vrrp: bool,
    /// Mails about virtual servers.
    pub services: bool,
}

impl MailSwitches {
    /// Takes a keyword; false when it is none of these.
    fn take(&mut self, statement: &Statement, values: &mut Values<'_, '_>) -> bool {
        match statement.keyword() {
            "smtp_alert" => self.all = values.boolean().or(self.all),
            "smtp_alert_vrrp" => self.vrrp = values.boolean().or(self.vrrp),
            "smtp_alert_checker" => self.checks = values.boolean().or(self.checks),
            "no_email_faults" => self.no_faults = true,
            "no_checker_emails" => self.no_checks = true,
            _ => return false,
        }
        true
    }

    /// `events` of `[notify] mail`: keepalived's mails are about real servers, and about virtual routers and virtual
    /// servers where smtp_alert asks for them.
    fn key(&self, asked: Asked) -> String {
        let vrrp = asked.vrrp || self.vrrp.or(self.all).unwrap_or(false);
        let services = asked.services || self.checks.or(self.all).unwrap_or(false);
        let checks = !self.no_checks && self.checks.or(self.all).unwrap_or(true);
        let wanted = |what: &What| match what {
            What::RealUp | What::RealDown => checks,
            What::QuorumUp | What::QuorumDown => services,
            What::VrrpFault => vrrp && !self.no_faults,
            What::VrrpMaster | What::VrrpBackup | What::VrrpStop | What::VrrpLowerPriority => vrrp,
            What::VrrpAdvert | What::SplitBrain | What::SplitBrainOver => vrrp,
            What::Tracked => vrrp,
            What::LinkDown | What::LinkUp => !self.no_faults,
            What::NoReal | What::NoRealOver => services,
            What::Reload | What::ReloadRefused | What::Ipvsadm => false,
            // News to keepalived.
            _ => true,
        };
        let words = What::ALL.iter().filter(|what| wanted(what)).map(|what| quoted(what.word()));
        format!("[{}]", words.collect::<Vec<_>>().join(", "))
    }
}

/// Where mails of `global_defs` go, and how.
#[derive(Clone, Debug, Default)]
pub struct Mail {
    /// Where the first of its keywords stands.
    origin: Option<Origin>,
    to: Vec<String>,
    from: Option<String>,
    server: Option<String>,
    helo: Option<String>,
    timeout: Option<f64>,
}

/// Reads `global_defs`.
pub fn read(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    let place = "global_defs";
    walk(statement.statements(), Block(place), place, writer, |statement, writer| {
        let origin = statement.origin();
        let mut values = Values::of(statement, place, writer);
        if context.mail_switches.take(statement, &mut values) {
            return;
        }
        if context.mail.take(statement, &mut values) {
            context.mail.origin.get_or_insert_with(|| origin.clone());
            return;
        }
        match statement.keyword() {
            "lvs_timeouts" => timeouts(statement, context, writer),
            "script_user" => {
                context.script_user = user(&mut values);
            }
            "enable_script_security" => context.script_security = true,
            "vrrp_strict" => context.strict = true,
            "vrrp_version" => context.version = values.integer_as_far(2..=3).or(context.version),
            "vrrp_min_garp" => {
                if values.boolean() == Some(true) {
                    let least = [("garp_repeat", "1".to_owned()), ("garp_delay", seconds(0.0))];
                    context.vrrp_defaults.extend(least.map(|(key, value)| (origin.clone(), key, value)));
                }
            }
            "vrrp_startup_delay" => {
                let delay = values.seconds(0.0..=3_600.0);
                let key = delay.map(|delay| (origin.clone(), "start_grace", seconds(delay)));
                context.vrrp_defaults.extend(key);
            }
            keyword => {
                let key = super::vrrp::announcing(keyword, &mut values);
                context.vrrp_defaults.extend(key.map(|(key, value)| (origin.clone(), key, value)));
            }
        }
    });
}

impl Mail {
    /// Takes a keyword; false when it is none of these.
    fn take(&mut self, statement: &Statement, values: &mut Values<'_, '_>) -> bool {
        match statement.keyword() {
            "notification_email" => {
                for line in statement.statements() {
                    for word in &line.words {
                        self.to.extend(address(word, &line.words, values));
                    }
                }
            }
            "notification_email_from" => {
                let from = values.rest_or_none();
                self.from = from.and_then(|from| address(&from, &[], values)).or(self.from.take());
            }
            "smtp_server" => {
                if let Some(host) = values.required("a host, and a port if it is not 25") {
                    let l4_port = match values.peek() {
                        Some(_) => values.integer(1..=u16::MAX).unwrap_or(25),
                        None => 25,
                    };
                    if !host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
                        let wrong = format!("{} is no host", printable(host, 60));
                        values.ignored(wrong, "keepalived sends no mail then", "correct it");
                        return true;
                    }
                    let is_ipv6 = host.parse::<std::net::Ipv6Addr>().is_ok();
                    self.server = Some(if is_ipv6 {
                        format!("[{host}]:{l4_port}")
                    } else {
                        format!("{host}:{l4_port}")
                    });
                }
            }
            "smtp_helo_name" => {
                self.helo = values.required("a host name").map(str::to_owned).or(self.helo.take());
            }
            "smtp_connect_timeout" => {
                let said = values.integer_as_far(0..=SECONDS_MAX);
                self.timeout = said.map(|time| f64::from(time.max(1))).or(self.timeout);
            }
            _ => return false,
        }
        true
    }

    /// Writes `[notify.mail]`, as far as keepalived would send mails.
    fn write(&self, switches: &MailSwitches, asked: Asked, writer: &mut Writer) {
        let Some(origin) = &self.origin else { return };
        let (Some(server), false) = (&self.server, self.to.is_empty()) else {
            let lacks = if self.server.is_none() { "smtp_server" } else { "notification_email" };
            let wrong = format!("{lacks} is missing");
            let fault = Fault::new(wrong, "no mail is sent, as in keepalived", "add it if mails are meant");
            return writer.notice(origin, "global_defs", fault);
        };
        let from = self.from.clone().unwrap_or_else(|| {
            let from = format!("root@{}", crate::import::host_name());
            let fault = Fault::new(
                "notification_email_from is missing",
                format!("mails come from {from}"),
                "add it if that is not an address of yours",
            );
            writer.notice(origin, "global_defs", fault);
            from
        });
        writer.table(origin, "[notify.mail]");
        let to: Vec<String> = self.to.iter().map(|to| quoted(to)).collect();
        writer.key(origin, "to", format!("[{}]", to.join(", ")));
        writer.key(origin, "from", quoted(&from));
        writer.key(origin, "server", quoted(server));
        if let Some(helo) = &self.helo {
            writer.key(origin, "helo", quoted(helo));
        }
        if let Some(timeout) = self.timeout {
            writer.key(origin, "timeout", seconds(timeout));
        }
        writer.key(origin, "events", switches.key(asked));
    }
}

/// A mail address: what stands between < and >, where a name stands before it. Words of a name are none.
fn address(text: &str, line: &[String], values: &mut Values<'_, '_>) -> Option<String> {
    let inner =
        text.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(text, |(inner, _)| inner);
    // `Name <name@example.org>` is an address and the words of a name.
    if !inner.contains('@') && line.iter().any(|word| word != text && word.contains('@')) {
        return None;
    }
    if !inner.is_empty() && inner.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>,;".contains(&byte)) {
        return Some(inner.to_owned());
    }
    let wrong = format!("{} is no mail address", printable(text, 60));
    values.differs(wrong, "mails go to and come from NAME@HOST: this one is left out", "correct it");
    None
}

/// Writes what `global_defs` says that has a table of its own.
pub fn write(context: &Context, asked: Asked, writer: &mut Writer) {
    let keys = last_of_each(context.timeouts.clone(), |(_, key, _)| *key);
    if let Some((origin, ..)) = keys.first() {
        writer.table(origin, "[timeout]");
    }
    for (origin, key, value) in &keys {
        writer.key(origin, key, value);
    }
    context.mail.write(&context.mail_switches, asked, writer);
}

/// What `smtp_alert` of instances, groups and virtual servers asks for.
pub fn asked(vrrp: &[Statement], checkers: &[Statement]) -> Asked {
    let asks = |of: &[Statement], words: &[&str]| {
        let blocks = of.iter().filter(|one| words.contains(&one.keyword()));
        blocks.flat_map(|one| one.statements()).any(|line| {
            let off =
                line.values().first().is_some_and(|word| ["off", "no", "false"].contains(&word.as_str()));
            line.keyword() == "smtp_alert" && !off
        })
    };
    Asked {
        vrrp: asks(vrrp, &["vrrp_instance", "vrrp_sync_group"]),
        services: asks(checkers, &["virtual_server"]),
    }
}

fn timeouts(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    let mut values = Values::of(statement, "global_defs", writer);
    if statement.values().len() < 2 {
        let holds = "keepalived ignores the line, for a time follows tcp, tcpfin and udp";
        return values.ignored("lvs_timeouts without a time", holds, "write lvs_timeouts tcp 900");
    }
    while values.peek().is_some() {
        let key = values.choice(&[("tcp", "tcp"), ("tcpfin", "tcpfin"), ("udp", "udp")]);
        let Some(key) = key else { continue };
        if values.peek().is_none() {
            return values.ignored(format!("{key} has no time"), "keepalived ignores it", "add one");
        }
        // 0 leaves the kernel's.
        let time = values.integer(0..=31 * 86_400_u32).filter(|time| *time > 0);
        let time = time.map(|time| (statement.origin().clone(), key, seconds(time.into())));
        context.timeouts.extend(time);
    }
}

/// Reads `SSL`.
pub fn ssl(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    walk(statement.statements(), Block("SSL"), "SSL", writer, |statement, writer| {
        let mut values = Values::of(statement, "SSL", writer);
        context.ca = values.required("a file").map(str::to_owned).or(context.ca.take());
        values.end();
    });
}

/// What a route of keepalived says.
#[derive(Default)]
struct Route {
    to: Option<IpNet>,
    via: Option<IpAddr>,
    device: Option<String>,
    /// What else it says.
    others: Vec<String>,
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
                "src" | "scope" | "proto" | "protocol" | "metric" | "preference" => {
                    route.others.push(format!("{word} {}", words.next()?));
                }
                // The routing table of the kernel alone would be meant.
                "table" if words.next()? == "main" => {}
                "no_track" | "onlink" => {}
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
        let Some(Route { to: Some(mut to), via, device, others }) = read else {
            let holds =
                "`NETWORK via ROUTER [dev INTERFACE]` and `NETWORK dev INTERFACE` have an equal in [[route]]";
            let wrong = format!("the route {} is not supported", line.line());
            writer.refuse(line.origin(), place, Fault::new(wrong, holds, "write it so, or remove it"));
            continue;
        };
        for other in others {
            let instead = "forwarded packets keep their source, the director's own come from its NIC's address, and \
                           its routes come before the kernel's";
            writer.tell(
                line.origin(),
                place,
                &format!("{other} of the route to {to}"),
                Fate::Differs(instead),
            );
        }
        if let (IpAddr::V4(_), Some(IpAddr::V6(_)), 0) = (to.addr(), via, to.prefix_len()) {
            // `default` is of the router's family.
            to = everything_v6(to);
        }
        let nic = device.and_then(|device| context.interfaces.nic(&device, line.origin(), place, writer));
        // Several instances may have one.
        if !context.routes.insert((to.trunc(), via, nic.clone())) {
            continue;
        }
        writer.table(line.origin(), "[[route]]");
        writer.key(line.origin(), "to", quoted(&to.trunc().to_string()));
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

//! How an upstream balances and checks, and its servers.

use std::net::{IpAddr, SocketAddr};

use shunt_model::fault::Origin;
use shunt_model::fault::{Fault, printable};
use shunt_model::limit;

use super::directive::Directive;
use crate::import::files::Files;
use crate::import::note::Fate;
use crate::import::writer::{Writer, last_of_each, quoted, seconds};

/// A `fail_timeout` in which nothing that fails is remembered.
const NO_TIME: &str = "fail_timeout = 0";

pub fn is_about_failures(key: &str) -> bool {
    key.starts_with("max_fails") || key.starts_with("fail_timeout")
}

/// Directives of an upstream that are about the proxy itself.
const PROXY: &[&str] = &[
    "zone",
    "keepalive",
    "keepalive_requests",
    "keepalive_timeout",
    "keepalive_time",
    "queue",
    "check_keepalive_requests",
    "check_shm_size",
    "resolver",
    "resolver_timeout",
    "state",
    "ntlm",
];

/// How an upstream balances and checks.
#[derive(Default)]
pub struct Balance {
    scheduler: &'static str,
    port: bool,
    check: Option<Vec<(String, String)>>,
    send: Option<String>,
    alive: Vec<u16>,
    /// Whether a server says no `max_fails`, so that nginx's default holds.
    by_default: bool,
    /// Whether a server says one above 0.
    by_choice: bool,
    slow_start: Option<f64>,
    pub backup: Option<SocketAddr>,
    /// Servers that a client of this service cannot be passed to, as their addresses have the other family.
    pub of_other_family: usize,
}

impl Balance {
    pub fn new() -> Self {
        Self { scheduler: "wrr", ..Self::default() }
    }

    /// Writes how it balances and checks so many servers.
    pub fn write(&self, origin: &Origin, servers: usize, writer: &mut Writer) {
        writer.key(origin, "scheduler", quoted(self.scheduler));
        if self.port {
            writer.key(origin, "scheduler_flags", "[\"port\"]");
        }
        writer.key(origin, "forward", quoted("nat"));
        if let Some(check) = self.check() {
            writer.key(origin, "check", check);
        }
        self.write_failures(origin, servers, writer);
        if let Some(slow_start) = self.slow_start {
            writer.key(origin, "slow_start", seconds(slow_start));
        }
        if let Some(backup) = self.backup {
            writer.key(origin, "sorry_server", format!("{{ address = {} }}", quoted(&backup.to_string())));
        }
        let is_down = |(key, value): &(String, String)| key == "default_down" && value != "true";
        if self.check.as_ref().is_some_and(|check| !check.iter().any(is_down)) {
            writer.key(origin, "alpha", true);
        }
    }

    pub fn take(&mut self, directive: &Directive, place: &str, first: bool, writer: &mut Writer) {
        let word = directive.words.get(1).map(String::as_str).unwrap_or_default();
        match directive.name() {
            "least_conn" | "least_time" => self.scheduler = "wlc",
            "ip_hash" => self.scheduler = "sh",
            "hash" if word.contains("remote_addr") => {
                self.scheduler =
                    if directive.words.iter().any(|word| word == "consistent") { "mh" } else { "sh" };
                self.port = word.contains("remote_port");
            }
            "random" => self.scheduler = "twos",
            "check" => self.check = Some(check_values(directive, place, first, writer)),
            "check_http_send" => self.send = Some(word.to_owned()),
            "check_http_expect_alive" => {
                let class =
                    |word: &String| word.strip_prefix("http_")?.strip_suffix("xx")?.parse::<u16>().ok();
                self.alive = directive.words[1..].iter().filter_map(class).collect();
            }
            name if PROXY.contains(&name) => {
                if !first {
                    return;
                }
                let instead = "connections go from client to real server: there is no proxy between them";
                writer.tell(&directive.origin, place, &directive.line(), Fate::Instead(instead));
            }
            _ if first => {
                let wrong = format!("{} is not supported", printable(&directive.line(), 60));
                let holds = "packets are balanced by addresses and ports";
                writer.refuse(&directive.origin, place, Fault::new(wrong, holds, "remove it"));
            }
            _ => {}
        }
    }

    /// Nginx's `max_fails` and `fail_timeout` where servers say nothing, and what it does when all have failed.
    fn write_failures(&self, origin: &Origin, servers: usize, writer: &mut Writer) {
        if servers < 2 && (self.backup.is_none() || servers == 0) || !(self.by_default || self.by_choice) {
            return;
        }
        if self.by_default {
            writer.comment(
                origin,
                "nginx's defaults, for servers that do not say it; connections count, not requests:",
            );
            writer.key(origin, "max_fails", 1);
            writer.key(origin, "fail_timeout", quoted("10s"));
        }
        if self.backup.is_none() && self.check.is_none() {
            writer.comment(origin, "when all have failed, nginx goes on with them:");
            writer.key(origin, "panic", 1);
        }
    }

    /// The check module's check.
    fn check(&self) -> Option<String> {
        self.check.as_ref()?;
        let milliseconds = |key: &str, default: f64| {
            let value = self.check.iter().flatten().find(|(name, _)| name == key);
            value.and_then(|(_, value)| value.parse().ok()).unwrap_or(default) / 1000.0
        };
        let number = |key: &str, default: &str| {
            let value = self.check.iter().flatten().find(|(name, _)| name == key);
            value.map_or(default, |(_, value)| value).to_owned()
        };
        let mut keys = Vec::new();
        let send = self.send.as_deref().unwrap_or("HEAD / HTTP/1.0\r\n\r\n");
        match number("type", "tcp").as_str() {
            kind @ ("http" | "ssl_hello") => {
                let path = send.split_whitespace().nth(1).unwrap_or("/");
                let kind = if kind == "http" { "http" } else { "tcp" };
                keys.push(format!("kind = {}", quoted(kind)));
                if kind == "http" {
                    keys.push(format!("path = {}", quoted(path)));
                    let alive = if self.alive.is_empty() { vec![2, 3] } else { self.alive.clone() };
                    let classes: Vec<String> =
                        alive.iter().map(|class| quoted(&format!("{class}00-{class}99"))).collect();
                    keys.push(format!("status = [{}]", classes.join(", ")));
                }
            }
            _ => keys.push("kind = \"tcp\"".to_owned()),
        }
        keys.extend(
            Some(number("port", "0")).filter(|port| port != "0").map(|port| format!("port = {port}")),
        );
        keys.push(format!("interval = {}", seconds(milliseconds("interval", 30_000.0))));
        keys.push(format!("timeout = {}", seconds(milliseconds("timeout", 1_000.0))));
        keys.push(format!("fall = {}, rise = {}", number("fall", "5"), number("rise", "2")));
        Some(format!("{{ {} }}", keys.join(", ")))
    }
}

/// The values of `check`; those that mean nothing are refused.
fn check_values(
    directive: &Directive,
    place: &str,
    first: bool,
    writer: &mut Writer,
) -> Vec<(String, String)> {
    let mut values = Vec::new();
    for word in &directive.words[1..] {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let good = match key {
            "interval" | "timeout" => value.parse::<u32>().is_ok_and(|number| number > 0),
            "rise" | "fall" => value.parse::<u8>().is_ok_and(|number| number > 0),
            "port" => value.parse::<u16>().is_ok(),
            "type" => ["tcp", "http", "ssl_hello"].contains(&value),
            "default_down" => ["true", "false"].contains(&value),
            _ => false,
        };
        if good {
            values.push((key.to_owned(), value.to_owned()));
        } else if first {
            let wrong = format!("{} is not supported", printable(word, 60));
            let holds = "check has interval, timeout, rise, fall, port and default_down, and the types tcp, http and ssl_hello";
            writer.refuse(&directive.origin, place, Fault::new(wrong, holds, "correct it, or remove it"));
        }
    }
    last_of_each(values, |(key, _)| key.clone())
}

/// Addresses of a `server`: as it is written, or those of its name now, as nginx itself looks it up when it starts.
fn addresses(
    word: &str,
    origin: &Origin,
    place: &str,
    files: &dyn Files,
    writer: &mut Writer,
) -> Vec<SocketAddr> {
    let bare = word.trim_start_matches('[').trim_end_matches(']');
    let written = word.parse().ok().or_else(|| bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 80)));
    if let Some(written) = written {
        return vec![written];
    }
    let (name, l4_port) = match word.rsplit_once(':').map(|(name, l4_port)| (name, l4_port.parse::<u16>())) {
        Some((name, Ok(l4_port))) => (name, l4_port),
        _ => (word, 80),
    };
    let found =
        if word.starts_with("unix:") || word.contains('$') { Vec::new() } else { files.addresses(name) };
    if found.is_empty() {
        let wrong = format!("{} is no address, and no name that has one now", printable(word, 60));
        let holds = "a real server has an address, and sockets of the host cannot be reached";
        writer.refuse(origin, place, Fault::new(wrong, holds, "write its address"));
    } else {
        let list: Vec<String> = found.iter().map(IpAddr::to_string).collect();
        let wrong = format!("{} was looked up: {}", printable(word, 60), list.join(", "));
        let holds = "nginx does so whenever it starts; here the addresses stay as they are";
        writer.notice(
            origin,
            place,
            Fault::new(wrong, holds, "see that they are right; import anew when they change"),
        );
    }
    found.into_iter().map(|address| SocketAddr::new(address, l4_port)).collect()
}

/// The real servers of a `server`; none when it is a backup or has no address.
pub fn reals(
    directive: &Directive,
    is_ipv6: bool,
    balance: &mut Balance,
    place: &str,
    files: &dyn Files,
    writer: &mut Writer,
) -> Vec<(Origin, Vec<String>)> {
    let found = addresses(directive.argument(), &directive.origin, place, files, writer);
    let (good, other): (Vec<SocketAddr>, Vec<SocketAddr>) =
        found.iter().partition(|address| address.is_ipv6() == is_ipv6);
    if good.is_empty() {
        balance.of_other_family += other.len();
    }
    good.into_iter().filter_map(|address| real(directive, address, balance, place, writer)).collect()
}

fn real(
    directive: &Directive,
    address: SocketAddr,
    balance: &mut Balance,
    place: &str,
    writer: &mut Writer,
) -> Option<(Origin, Vec<String>)> {
    let mut keys = vec![format!("address = {}", quoted(&address.to_string()))];
    for word in &directive.words[2..] {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let number = value.parse::<u32>().ok();
        match (key, number, time(value)) {
            ("weight", Some(weight), _) => keys.push(format!("weight = {weight}")),
            ("max_conns", Some(most), _) => keys.push(format!("u_threshold = {most}")),
            ("max_fails", Some(fails), _) => {
                keys.push(format!("max_fails = {}", fails.min(u32::from(limit::FAILS_MAX))));
            }
            ("fail_timeout", _, Some(0.0)) => keys.push(NO_TIME.to_owned()),
            ("fail_timeout", _, Some(time)) => {
                let (least, most) = (limit::FAIL_TIMEOUT_MIN, limit::CHECK_HOLD_MAX);
                let time = time.clamp(least.as_secs_f64(), most.as_secs_f64());
                keys.push(format!("fail_timeout = {}", seconds(time)));
            }
            ("down", None, _) if value.is_empty() => keys.push("weight = 0".to_owned()),
            ("slow_start", _, Some(time)) => balance.slow_start = Some(time),
            // Names are looked up once in any case.
            ("resolve", None, _) if value.is_empty() => {}
            ("backup", None, _) if value.is_empty() => {
                if balance.backup.replace(address).is_some_and(|other| other != address) {
                    let fault =
                        Fault::new("a second backup", "a service has one sorry server", "keep one of them");
                    writer.refuse(&directive.origin, place, fault);
                }
                return None;
            }
            _ => {
                let wrong = format!("{} is not supported", printable(word, 60));
                let holds =
                    "a server has weight, max_conns, max_fails, fail_timeout, slow_start, backup and down";
                writer.refuse(&directive.origin, place, Fault::new(wrong, holds, "remove it"));
            }
        }
    }
    let mut keys = last_of_each(keys, |key| key.split(" =").next().map(str::to_owned));
    if keys.iter().any(|key| key == NO_TIME) {
        keys.retain(|key| !is_about_failures(key));
        keys.push("max_fails = 0".to_owned());
    }
    let fails = keys.iter().find_map(|key| key.strip_prefix("max_fails = "));
    balance.by_default |= fails.is_none();
    balance.by_choice |= fails.is_some_and(|fails| fails != "0");
    Some((directive.origin.clone(), keys))
}

/// `30s`, `500ms`, `1m`, `10`: in seconds.
fn time(text: &str) -> Option<f64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: f64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Some(number * unit)
}

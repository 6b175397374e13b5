//! nginx's `upstream` blocks, with the check of its check module, become services of the `server` blocks that pass to them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::files::{Files, braces};
use super::note::{Fate, Origin};
use super::writer::{Imported, Writer, last_of_each, quoted, seconds};
use crate::config::limit;
use crate::config::problem::{Fault, printable};

/// A directive, its arguments, and its block.
#[derive(Clone, Debug)]
struct Directive {
    origin: Origin,
    words: Vec<String>,
    block: Option<Vec<Directive>>,
}

impl Directive {
    fn name(&self) -> &str {
        &self.words[0]
    }

    fn block(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }

    fn line(&self) -> String {
        self.words.join(" ")
    }
}

/// How deep files may include each other, and blocks may stand in one another.
const DEPTH_MAX: usize = 16;

/// Reads nginx.conf, or a file that it includes.
#[must_use]
pub fn import(path: &Path, files: &dyn Files) -> Imported {
    let mut writer = Writer::default();
    let origin = Origin { file: path.into(), line: 1, column: 1 };
    let directives = read(path, files, &origin, 0, &mut writer);
    let mut upstreams = Vec::new();
    let mut listens = Vec::new();
    gather(&directives, &mut upstreams, &mut listens);
    for upstream in &upstreams {
        let name = upstream.words.get(1).map(String::as_str).unwrap_or_default();
        let of_upstream = listens.iter().filter(|(target, ..)| target == name);
        let mut of_upstream: Vec<_> = of_upstream.map(|(_, listen, protocol)| (*listen, *protocol)).collect();
        of_upstream.dedup();
        if of_upstream.is_empty() {
            let holds = "a service has a VIP and a port, which a server block with proxy_pass would tell";
            let fault =
                Fault::new(format!("nothing passes to upstream {name}"), holds, "complete its listen");
            writer.notice(&upstream.origin, &upstream.line(), fault);
            of_upstream.push((None, "tcp"));
        }
        for (number, (listen, protocol)) in of_upstream.into_iter().enumerate() {
            service(upstream, name, listen, protocol, number, &mut writer);
        }
    }
    if upstreams.is_empty() {
        let fault =
            Fault::new("no upstream", "upstream blocks become services", "name the file that has them");
        writer.refuse(&origin, "file", fault);
    }
    writer.finish()
}

/// What passes to an upstream: its name, where it listens, and by which protocol.
type Passes = (String, Option<SocketAddr>, &'static str);

fn gather<'d>(directives: &'d [Directive], upstreams: &mut Vec<&'d Directive>, listens: &mut Vec<Passes>) {
    for directive in directives {
        match directive.name() {
            "upstream" => upstreams.push(directive),
            "server" if directive.block.is_some() => server(directive, listens),
            "http" | "stream" => gather(directive.block(), upstreams, listens),
            _ => {}
        }
    }
}

fn server(server: &Directive, listens: &mut Vec<Passes>) {
    let mut targets = Vec::new();
    passes(server.block(), &mut targets);
    for listen in server.block().iter().filter(|directive| directive.name() == "listen") {
        let protocol = if listen.words.iter().any(|word| word == "udp") { "udp" } else { "tcp" };
        let address = listen.words.get(1).and_then(|word| listen_address(word));
        listens.extend(targets.iter().map(|target| (target.clone(), address, protocol)));
    }
}

/// The targets of `proxy_pass` and its like in a block and those within it.
fn passes(directives: &[Directive], targets: &mut Vec<String>) {
    for directive in directives {
        if directive.name().ends_with("_pass") {
            let target = directive.words.get(1).map(String::as_str).unwrap_or_default();
            let target = target.split_once("://").map_or(target, |(_, target)| target);
            let target = target.split(['/', '$']).next().unwrap_or_default().to_owned();
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        passes(directive.block(), targets);
    }
}

/// `80`, `192.0.2.10`, `192.0.2.10:80`, `[::]:80`, `*:80`.
fn listen_address(word: &str) -> Option<SocketAddr> {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    if let Ok(l4_port) = word.strip_prefix("*:").unwrap_or(word).parse() {
        return Some(SocketAddr::new(any, l4_port));
    }
    let bare = word.trim_start_matches('[').trim_end_matches(']');
    word.parse().ok().or_else(|| bare.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 80)))
}

fn service(
    upstream: &Directive,
    name: &str,
    listen: Option<SocketAddr>,
    protocol: &str,
    number: usize,
    writer: &mut Writer,
) {
    let origin = &upstream.origin;
    let place = upstream.line();
    writer.table(origin, "[[service]]");
    let suffix = if number == 0 { String::new() } else { format!("-{}", number + 1) };
    writer.key(origin, "name", quoted(&format!("{name}{suffix}")));
    let unspecified = |listen: &SocketAddr| listen.ip().is_unspecified();
    let listen = match listen {
        Some(listen) if !unspecified(&listen) => listen,
        other => {
            writer.comment(origin, "the VIP in the place of this address:");
            let is_ipv6 = other.is_some_and(|listen| listen.is_ipv6());
            let any =
                if is_ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
            SocketAddr::new(any, other.map_or(80, |listen| listen.port()))
        }
    };
    writer.key(origin, "listen", quoted(&listen.to_string()));
    writer.key(origin, "protocol", quoted(protocol));
    let mut balance = Balance { scheduler: "wrr", ..Balance::default() };
    let mut reals = Vec::new();
    for directive in upstream.block() {
        if directive.name() == "server" {
            reals.extend(real(directive, listen.is_ipv6(), &mut balance, &place, writer));
        } else {
            balance.take(directive, &place, number == 0, writer);
        }
    }
    writer.key(origin, "scheduler", quoted(balance.scheduler));
    if balance.port {
        writer.key(origin, "scheduler_flags", "[\"port\"]");
    }
    writer.key(origin, "forward", quoted("nat"));
    if let Some(check) = balance.check() {
        writer.key(origin, "check", check);
    }
    balance.write_failures(origin, reals.len(), writer);
    if let Some(slow_start) = balance.slow_start {
        writer.key(origin, "slow_start", seconds(slow_start));
    }
    if let Some(backup) = balance.backup {
        writer.key(origin, "sorry_server", format!("{{ address = {} }}", quoted(&backup.to_string())));
    }
    if balance.check.iter().flatten().all(|(key, value)| key != "default_down" || value == "true")
        && balance.check.is_some()
    {
        writer.key(origin, "alpha", true);
    }
    writer.line(origin, "real = [");
    // Nginx takes the only server of a group to be well, whatever fails.
    let alone = reals.len() == 1 && balance.backup.is_none();
    for (origin, mut keys) in reals {
        if alone && keys.iter().any(|key| is_about_failures(key)) {
            writer.comment(&origin, "nginx ignores max_fails and fail_timeout of the only server");
            keys.retain(|key| !is_about_failures(key));
        }
        writer.line(&origin, &format!("  {{ {} }},", keys.join(", ")));
    }
    writer.line(origin, "]");
}

/// A `fail_timeout` in which nothing that fails is remembered.
const NO_TIME: &str = "fail_timeout = 0";

fn is_about_failures(key: &str) -> bool {
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
struct Balance {
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
    backup: Option<SocketAddr>,
}

impl Balance {
    fn take(&mut self, directive: &Directive, place: &str, first: bool, writer: &mut Writer) {
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

/// A `server` of an upstream; none when it is a backup or has no address.
fn real(
    directive: &Directive,
    is_ipv6: bool,
    balance: &mut Balance,
    place: &str,
    writer: &mut Writer,
) -> Option<(Origin, Vec<String>)> {
    let word = directive.words.get(1).map(String::as_str).unwrap_or_default();
    let bare = word.trim_start_matches('[').trim_end_matches(']');
    let address = word.parse().ok().or_else(|| bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 80)));
    let Some(address) = address else {
        let wrong = format!("{} is no address", printable(word, 60));
        let holds = "a real server has an address: names are not looked up, and sockets of the host cannot be reached";
        writer.refuse(&directive.origin, place, Fault::new(wrong, holds, "write its address"));
        return None;
    };
    if address.is_ipv6() != is_ipv6 {
        let instead = "NAT keeps the family, where a proxy does not";
        writer.tell(&directive.origin, place, &directive.line(), Fate::Instead(instead));
        return None;
    }
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
            ("backup", None, _) if value.is_empty() => {
                if balance.backup.replace(address).is_some() {
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

/// The directives of a file and of those that it includes.
fn read(path: &Path, files: &dyn Files, from: &Origin, depth: usize, writer: &mut Writer) -> Vec<Directive> {
    let text = match files.read(path) {
        Ok(text) if depth <= DEPTH_MAX => text,
        Ok(_) => {
            let holds = format!("files include each other at most {DEPTH_MAX} deep");
            let fault = Fault::new("included too deep", holds, "see whether a file includes itself");
            writer.refuse(from, "file", fault);
            return Vec::new();
        }
        Err(error) => {
            let wrong = format!("{} cannot be read ({error})", path.display());
            writer.refuse(from, "file", Fault::new(wrong, "it is a readable file", "correct its name"));
            return Vec::new();
        }
    };
    let mut tokens = Tokens { path, text: &text, at: 0, line: 1, column: 1 };
    let directives = block(&mut tokens, 0, writer);
    expand(directives, path, files, depth, writer)
}

fn expand(
    directives: Vec<Directive>,
    path: &Path,
    files: &dyn Files,
    depth: usize,
    writer: &mut Writer,
) -> Vec<Directive> {
    let mut expanded = Vec::new();
    for mut directive in directives {
        if directive.name() == "include" && directive.block.is_none() {
            let pattern = directive.words.get(1).map(String::as_str).unwrap_or_default();
            let pattern = path.parent().map(|folder| folder.join(pattern)).unwrap_or_default();
            let found =
                braces(&pattern.display().to_string()).into_iter().flat_map(|one| files.matching(&one));
            for path in found {
                expanded.extend(read(&path, files, &directive.origin, depth + 1, writer));
            }
            continue;
        }
        directive.block = directive.block.map(|block| expand(block, path, files, depth, writer));
        expanded.push(directive);
    }
    expanded
}

fn block(tokens: &mut Tokens<'_>, depth: usize, writer: &mut Writer) -> Vec<Directive> {
    let mut directives = Vec::new();
    let mut current: Option<Directive> = None;
    while let Some((origin, token)) = tokens.next() {
        match token {
            Token::Word(word) => {
                let directive =
                    current.get_or_insert_with(|| Directive { origin, words: Vec::new(), block: None });
                directive.words.push(word);
            }
            Token::End => directives.extend(current.take()),
            Token::Open if depth >= DEPTH_MAX => {
                writer.refuse(
                    &origin,
                    "file",
                    Fault::new("blocks too deep", "nginx has a few", "remove some"),
                );
                return directives;
            }
            Token::Open => {
                let inner = block(tokens, depth + 1, writer);
                directives
                    .extend(current.take().map(|directive| Directive { block: Some(inner), ..directive }));
            }
            Token::Close if depth > 0 => return directives,
            Token::Close => {
                writer.refuse(
                    &origin,
                    "file",
                    Fault::new("a } that ends no block", "every } has its {", "remove it"),
                );
            }
        }
    }
    if let Some(directive) = current {
        let fault = Fault::new("a directive is not ended", "a directive ends with ; or a block", "add ;");
        writer.refuse(&directive.origin, "file", fault);
    }
    directives
}

enum Token {
    Word(String),
    End,
    Open,
    Close,
}

struct Tokens<'t> {
    path: &'t Path,
    text: &'t str,
    at: usize,
    line: usize,
    column: usize,
}

impl Tokens<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        (self.line, self.column) = if c == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        Some(c)
    }

    fn next(&mut self) -> Option<(Origin, Token)> {
        loop {
            match self.peek()? {
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.take();
                    }
                }
                c if c.is_whitespace() => drop(self.take()),
                _ => break,
            }
        }
        let origin = Origin { file: self.path.into(), line: self.line, column: self.column };
        let token = match self.take()? {
            ';' => Token::End,
            '{' => Token::Open,
            '}' => Token::Close,
            quote @ ('"' | '\'') => Token::Word(self.quoted(quote)),
            first => {
                let mut word = String::from(first);
                // `${name}` is a part of a word.
                while let Some(c) = self.peek().filter(|c| !c.is_whitespace() && ![';', '}'].contains(c)) {
                    if c == '{' && !word.ends_with('$') {
                        break;
                    }
                    word.extend(self.take());
                    if c == '{' {
                        while let Some(c) = self.take() {
                            word.push(c);
                            if c == '}' {
                                break;
                            }
                        }
                    }
                }
                Token::Word(word)
            }
        };
        Some((origin, token))
    }

    fn quoted(&mut self, quote: char) -> String {
        let mut word = String::new();
        while let Some(c) = self.take().filter(|c| *c != quote) {
            match c {
                '\\' => word.extend(self.take().map(|c| match c {
                    'r' => '\r',
                    'n' => '\n',
                    't' => '\t',
                    c => c,
                })),
                c => word.push(c),
            }
        }
        word
    }
}

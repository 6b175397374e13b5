//! ldirectord's `ldirectord.cf` (ldirectord(8)): virtual services, their real servers, and how these are checked.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use shunt_model::fault::Origin;
use shunt_model::fault::{Fault, printable};

use super::files::{Files, l4_port, without_comment};
use super::note::Fate;
use super::writer::{Imported, Writer, quoted, seconds};
use crate::document::nearest;

/// A `key = value`; of a `virtual` with the indented ones below it.
struct Line {
    origin: Origin,
    key: String,
    value: String,
}

/// Keys of the file that virtual services take over, and those of virtual services.
const COMMON: &[&str] = &[
    "checktimeout",
    "negotiatetimeout",
    "checkinterval",
    "checkcount",
    "failurecount",
    "quiescent",
    "fallback",
];
const VIRTUAL: &[&str] = &[
    "real",
    "checktype",
    "service",
    "checkcommand",
    "checkport",
    "request",
    "receive",
    "httpmethod",
    "virtualhost",
    "scheduler",
    "persistent",
    "netmask",
    "protocol",
    "ops",
    "schedflags",
];
/// What is to be done instead of others.
const ADVICE: &[(&str, &str)] = &[
    ("autoreload", "use shunt reload when the file was changed"),
    ("callback", "use shunt reload at both directors when the file was changed"),
    ("fallbackcommand", "use quorum_down and quorum_up of the service"),
    ("emailalert", "use mail of [notify]"),
    ("emailalertfrom", "use mail of [notify]"),
    ("emailalertfreq", "use mail of [notify]"),
    ("emailalertstatus", "use mail of [notify]"),
    ("smtp", "use mail of [notify]"),
    ("maintenancedir", "set the weight of a real server to 0: shunt ipvsadm -e, or its weight in the file"),
    ("monitorfile", "use notify_up and notify_down of the service"),
    ("execute", "import that file by itself"),
    ("login", "use a check of kind \"script\" where it matters that somebody can log in"),
    ("passwd", "use a check of kind \"script\" where it matters that somebody can log in"),
    ("database", "use a check of kind \"script\" where it matters what the database says"),
    ("secret", "use a check of kind \"script\" where it matters that somebody can log in"),
];
/// What holds instead of the others.
const INSTEAD: &[(&str, &str)] = &[
    ("logfile", "the log goes to the standard error"),
    ("supervised", "the service manager watches the director"),
    ("fork", "checks do not wait for each other"),
    ("cleanstop", "connections end with the director, or go on at the other one"),
    ("readdquiescent", "a real server that is down at the start begins as one that is up does"),
    ("load", "weights stay as they are"),
    ("receivemode", "an answer has what is expected, or has it not"),
    ("servicename", "services are called by protocol and address"),
    ("comment", "comments stay in the imported file"),
];

/// What holds for a service unless it says otherwise; ldirectord's own defaults.
#[derive(Clone, Debug)]
struct Common {
    timeout: f64,
    negotiate_timeout: Option<f64>,
    interval: f64,
    count: u32,
    failures: u32,
    quiescent: bool,
    fallback: Option<(Origin, String)>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            timeout: 5.0,
            negotiate_timeout: None,
            interval: 10.0,
            count: 1,
            failures: 1,
            quiescent: true,
            fallback: None,
        }
    }
}

/// Reads `ldirectord.cf`.
#[must_use]
pub fn import(path: &Path, files: &dyn Files) -> Imported {
    let mut writer = Writer::default();
    write(path, files, &mut writer);
    writer.finish()
}

/// Writes the services of a file.
pub fn write(path: &Path, files: &dyn Files, writer: &mut Writer) {
    let text = match files.read(path) {
        Ok(text) => text,
        Err(error) => {
            let origin = Origin { file: path.into(), line: 1, column: 1 };
            let fault =
                Fault::new(format!("cannot be read ({error})"), "it is a readable file", "name another");
            return writer.refuse(&origin, "file", fault);
        }
    };
    let (global, services) = lines(path, &text, writer);
    let mut common = Common::default();
    for line in &global {
        if known(line, "file", &[COMMON], writer) && !common.take(line) {
            wrong(line, "file", writer);
        }
    }
    for (head, lines) in &services {
        Service::new(common.clone()).write(head, lines, files, writer);
    }
}

/// The lines of the file itself, and each `virtual` with its own: those that are indented.
fn lines(path: &Path, text: &str, writer: &mut Writer) -> (Vec<Line>, Vec<(Line, Vec<Line>)>) {
    let (mut global, mut services): (Vec<Line>, Vec<(Line, Vec<Line>)>) = (Vec::new(), Vec::new());
    for (number, row) in text.lines().enumerate() {
        let content = without_comment(row).trim();
        if content.is_empty() {
            continue;
        }
        let indented = row.starts_with([' ', '\t']);
        let column = row.chars().take_while(|c| c.is_whitespace()).count() + 1;
        let origin = Origin { file: path.into(), line: number + 1, column };
        let Some((key, value)) = content.split_once('=') else {
            // `supervised` and the like may stand alone.
            let line = Line { origin, key: content.to_owned(), value: String::new() };
            known(&line, "file", &[], writer);
            continue;
        };
        let line = Line { origin, key: key.trim().to_lowercase(), value: value.trim().to_owned() };
        match (line.key.as_str(), services.last_mut()) {
            ("virtual" | "virtual6", _) => services.push((line, Vec::new())),
            (_, Some((_, own))) if indented => own.push(line),
            _ => global.push(line),
        }
    }
    (global, services)
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// True for a key that means something here; tells of every other.
fn known(line: &Line, place: &str, words: &[&[&str]], writer: &mut Writer) -> bool {
    if words.iter().any(|words| words.contains(&line.key.as_str())) {
        return true;
    }
    // What may be a secret is not shown.
    let shown = match line.key.as_str() {
        "passwd" | "secret" => line.key.clone(),
        _ if line.value.is_empty() => line.key.clone(),
        _ => printable(&format!("{} = {}", line.key, line.value), 60),
    };
    if let Some((_, advice)) = ADVICE.iter().find(|(key, _)| *key == line.key) {
        writer.advise(&line.origin, place, &shown, advice);
        return false;
    }
    if let Some((_, instead)) = INSTEAD.iter().find(|(key, _)| *key == line.key) {
        writer.tell(&line.origin, place, &shown, Fate::Instead(instead));
        return false;
    }
    let all: Vec<&str> = COMMON.iter().chain(VIRTUAL).copied().collect();
    let advice = nearest(&line.key, &all)
        .map_or_else(|| "remove it".to_owned(), |near| format!("did you mean {near}?"));
    let wrong = format!("unknown key {}", printable(&line.key, 60));
    writer.refuse(&line.origin, place, Fault::new(wrong, format!("the keys are {}", all.join(", ")), advice));
    false
}

fn wrong(line: &Line, place: &str, writer: &mut Writer) {
    let wrong = format!("{} cannot be {}", line.key, printable(&line.value, 60));
    let holds = "a value that the key takes (ldirectord(8))";
    writer.refuse(&line.origin, place, Fault::new(wrong, holds, "correct it"));
}

fn yes(value: &str) -> Option<bool> {
    ["no", "yes"].iter().position(|word| *word == value.to_lowercase()).map(|at| at == 1)
}

/// The first number in a value: ldirectord looks no further.
fn number(value: &str) -> Option<u32> {
    let digits = value.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn time(value: &str) -> Option<f64> {
    number(value).filter(|time| *time > 0).map(f64::from)
}

impl Common {
    /// Takes a key; false when its value is wrong.
    fn take(&mut self, line: &Line) -> bool {
        let value = unquoted(&line.value);
        let number = number(value).filter(|number| *number > 0);
        match line.key.as_str() {
            "checktimeout" => time(value).map(|time| self.timeout = time).is_some(),
            "negotiatetimeout" => time(value).map(|time| self.negotiate_timeout = Some(time)).is_some(),
            "checkinterval" => time(value).map(|time| self.interval = time).is_some(),
            "checkcount" => number.map(|number| self.count = number).is_some(),
            "failurecount" => number.map(|number| self.failures = number).is_some(),
            "quiescent" => yes(value).map(|yes| self.quiescent = yes).is_some(),
            _ => {
                self.fallback = Some((line.origin.clone(), value.to_owned()));
                true
            }
        }
    }
}

/// A `virtual` as it is read.
struct Service {
    common: Common,
    check_type: String,
    service: Option<String>,
    command: Option<String>,
    check_port: Option<u16>,
    request: Option<String>,
    receive: Option<String>,
    host: Option<String>,
    scheduler: String,
    persistent: Option<u32>,
    netmask: Option<u8>,
    protocol: Option<String>,
    one_packet: bool,
    flags: Vec<&'static str>,
    reals: Vec<Real>,
}

/// A real server.
struct Real {
    origin: Origin,
    address: SocketAddr,
    method: &'static str,
    options: Options,
}

/// What follows the method of a real server: `5 "request", "receive" l:10 u:20`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Options {
    weight: Option<u32>,
    asks: Option<(String, Option<String>)>,
    lower: Option<u32>,
    upper: Option<u32>,
}

impl Options {
    /// Reads them; none where ldirectord finds something wrong. What stands in front of the weight has no effect there (`gate -w 5`).
    fn read(text: &str) -> Option<Self> {
        let mut options = Self::default();
        let before = &text[..text.find('"').unwrap_or(text.len())];
        let after = &text[text.rfind('"').map_or(text.len(), |at| at + 1)..];
        let mut words: Vec<&str> = before.split_whitespace().collect();
        if let Some(at) = words.iter().position(|word| word.starts_with(|c: char| c.is_ascii_digit())) {
            options.weight = Some(words[at].parse().ok()?);
            words.drain(..=at);
        }
        words.extend(after.split_whitespace());
        for word in words {
            match word.split_once(':')? {
                ("l", least) => options.lower = Some(least.parse().ok()?),
                ("u", most) => options.upper = Some(most.parse().ok()?),
                _ => return None,
            }
        }
        let asked = &text[before.len()..text.len() - after.len()];
        let mut asked = asked.split('"').filter(|part| !part.trim().is_empty() && part.trim() != ",");
        options.asks = asked.next().map(|request| (request.to_owned(), asked.next().map(str::to_owned)));
        Some(options)
    }
}

/// The check of all real servers, and those of their own.
struct Checks {
    all: Option<String>,
    own: Vec<Option<String>>,
}

/// Where a `virtual` listens.
enum Listen {
    Mark(u32),
    Address(SocketAddr),
}

impl Service {
    fn new(common: Common) -> Self {
        Self {
            common,
            check_type: "negotiate".to_owned(),
            service: None,
            command: None,
            check_port: None,
            request: None,
            receive: None,
            host: None,
            scheduler: "wrr".to_owned(),
            persistent: None,
            netmask: None,
            protocol: None,
            one_packet: false,
            flags: Vec::new(),
            reals: Vec::new(),
        }
    }

    /// Takes a key; false when its value is wrong.
    fn take(&mut self, line: &Line, files: &dyn Files, place: &str, writer: &mut Writer) -> bool {
        if COMMON.contains(&line.key.as_str()) {
            return self.common.take(line);
        }
        let value = unquoted(&line.value).to_owned();
        match line.key.as_str() {
            "real" => {
                let found = reals(line, self.is_udp(), files, place, writer);
                self.reals.extend(found);
            }
            "checktype" => {
                self.check_type = value.to_lowercase();
                let words = ["connect", "external", "external-perl", "negotiate", "off", "on", "ping"];
                return words.contains(&self.check_type.as_str()) || value.parse::<u32>().is_ok();
            }
            "service" => self.service = Some(value.to_lowercase()),
            "checkcommand" => self.command = Some(value),
            "checkport" => {
                return l4_port(&value, false, files)
                    .map(|l4_port| self.check_port = Some(l4_port))
                    .is_some();
            }
            "request" => self.request = Some(value),
            "receive" => self.receive = Some(value),
            "httpmethod" if value.eq_ignore_ascii_case("get") => {}
            "httpmethod" => {
                let shown = format!("httpmethod = {value}");
                writer.tell(&line.origin, place, &shown, Fate::Instead("checks ask by GET"));
            }
            "virtualhost" => self.host = Some(value),
            "scheduler" => self.scheduler = value,
            "persistent" => return number(&value).map(|time| self.persistent = Some(time)).is_some(),
            "netmask" => {
                self.netmask = super::keepalived::netmask(&value).or_else(|| value.parse().ok());
                return self.netmask.is_some();
            }
            "ops" => return yes(&value).map(|yes| self.one_packet = yes).is_some(),
            "schedflags" => return flags(&value).map(|flags| self.flags = flags).is_some(),
            _ => {
                self.protocol = Some(value.to_lowercase());
                return ["tcp", "udp", "fwm"].contains(&value.to_lowercase().as_str());
            }
        }
        true
    }

    fn is_udp(&self) -> bool {
        self.protocol.as_deref() == Some("udp")
    }

    /// DNS is UDP's where nothing else is said.
    fn choose_protocol(&mut self, listen: &str, lines: &[Line]) {
        let is_dns = listen.ends_with(":53") || listen.ends_with(":domain");
        if is_dns && lines.iter().all(|line| line.key != "protocol") {
            self.protocol = Some("udp".to_owned());
        }
    }

    fn write(mut self, head: &Line, lines: &[Line], files: &dyn Files, writer: &mut Writer) {
        let place = format!("virtual {}", head.value);
        self.choose_protocol(unquoted(&head.value), lines);
        // Ports by name are those of the protocol.
        let (first, rest): (Vec<&Line>, Vec<&Line>) = lines.iter().partition(|line| line.key == "protocol");
        for line in first.into_iter().chain(rest) {
            if known(line, &place, &[COMMON, VIRTUAL], writer) && !self.take(line, files, &place, writer) {
                wrong(line, &place, writer);
            }
        }
        let value = unquoted(&head.value);
        let listen = match value.parse::<u32>() {
            Ok(mark) => Some(Listen::Mark(mark)),
            Err(_) => host(value, self.is_udp(), files).and_then(|(addresses, l4_port)| {
                Some(Listen::Address(SocketAddr::new(*addresses.first()?, l4_port.unwrap_or(0))))
            }),
        };
        let Some(listen) = listen else { return wrong(head, &place, writer) };
        let origin = &head.origin;
        let checks = self.checks(&listen, origin, &place, writer);
        writer.table(origin, "[[service]]");
        match listen {
            Listen::Mark(mark) => {
                writer.key(origin, "name", quoted(&format!("mark-{mark}")));
                writer.key(origin, "listen", format!("{{ fwmark = {mark} }}"));
            }
            Listen::Address(address) => {
                let protocol = if self.is_udp() { "udp" } else { "tcp" };
                writer.key(origin, "name", quoted(&format!("{protocol}-{address}")));
                writer.key(origin, "listen", quoted(&address.to_string()));
                writer.key(origin, "protocol", quoted(protocol));
            }
        }
        writer.key(origin, "scheduler", quoted(&self.scheduler));
        if let Some(persistent) = self.persistent {
            let netmask = self.netmask.map(|bits| format!(", netmask = {bits}")).unwrap_or_default();
            let timeout = seconds(persistent.into());
            writer.key(origin, "persistence", format!("{{ timeout = {timeout}{netmask} }}"));
        }
        if self.one_packet {
            writer.key(origin, "one_packet", true);
        }
        if !self.flags.is_empty() {
            let flags: Vec<String> = self.flags.iter().map(|flag| quoted(flag)).collect();
            writer.key(origin, "scheduler_flags", format!("[{}]", flags.join(", ")));
        }
        self.write_reals(&listen, &checks, origin, &place, files, writer);
    }

    /// The check of all, and those of real servers with one of their own.
    fn checks(&self, listen: &Listen, origin: &Origin, place: &str, writer: &mut Writer) -> Checks {
        let service = self.service(listen);
        let all =
            self.check(service, self.request.as_deref(), self.receive.as_deref(), origin, place, writer);
        let own = self.reals.iter().map(|real| {
            let (request, receive) = real.options.asks.as_ref()?;
            let receive = receive.as_deref().or(self.receive.as_deref());
            self.check(service, Some(request), receive, &real.origin, place, writer)
        });
        Checks { own: own.collect(), all }
    }

    fn write_reals(
        &self,
        listen: &Listen,
        checks: &Checks,
        origin: &Origin,
        place: &str,
        files: &dyn Files,
        writer: &mut Writer,
    ) {
        let method = self.reals.first().map_or("dr", |real| real.method);
        writer.key(origin, "forward", quoted(method));
        // A weight of 0 is what quiescent makes of a real server that is down.
        writer.key(origin, "inhibit_on_failure", self.common.quiescent);
        if let Some(check) = &checks.all {
            writer.key(origin, "check", check);
        }
        if let Some((origin, value)) = &self.common.fallback {
            let is_ipv6 = matches!(listen, Listen::Address(address) if address.is_ipv6());
            self.write_fallback(origin, value, (method, is_ipv6), place, files, writer);
        }
        writer.line(origin, "real = [");
        for (real, check) in self.reals.iter().zip(&checks.own) {
            let has_port = real.method == "nat" && matches!(listen, Listen::Address(_));
            let address = if has_port && real.address.port() != 0 {
                real.address.to_string()
            } else {
                real.address.ip().to_string()
            };
            let mut keys = vec![format!("address = {}", quoted(&address))];
            if self.check_type == "off" {
                keys.push("weight = 0".to_owned());
            } else {
                keys.extend(real.options.weight.map(|weight| format!("weight = {weight}")));
            }
            keys.extend(real.options.lower.map(|least| format!("l_threshold = {least}")));
            keys.extend(real.options.upper.map(|most| format!("u_threshold = {most}")));
            if real.method != method {
                keys.push(format!("forward = {}", quoted(real.method)));
            }
            keys.extend(check.as_ref().map(|check| format!("check = {check}")));
            writer.line(&real.origin, &format!("  {{ {} }},", keys.join(", ")));
        }
        writer.line(origin, "]");
    }

    fn write_fallback(
        &self,
        origin: &Origin,
        value: &str,
        (method, is_ipv6): (&str, bool),
        place: &str,
        files: &dyn Files,
        writer: &mut Writer,
    ) {
        let mut words = value.split_whitespace();
        let found = words.next().and_then(|word| host(word, self.is_udp(), files));
        let Some((Some(address), l4_port)) = found.map(|(found, l4_port)| (found.first().copied(), l4_port))
        else {
            let wrong = format!("fallback cannot be {}", printable(value, 60));
            return writer.refuse(origin, place, Fault::new(wrong, "it is an address", "correct it"));
        };
        if address.is_loopback() {
            let wrong = format!("fallback {value}: that is the director itself");
            let holds = "there is no sorry server: while no real server is up, clients are turned away";
            let advice = "name a host that has the page, or one of the director's own addresses with forward = \"dr\", as sorry_server";
            return writer.notice(origin, place, Fault::new(wrong, holds, advice));
        }
        if address.is_ipv6() != is_ipv6 {
            let wrong = format!("fallback {value} has another family");
            let holds = "there is no sorry server for this service";
            let advice = "name one of its family as sorry_server";
            return writer.notice(origin, place, Fault::new(wrong, holds, advice));
        }
        let own = words.next().and_then(forwarding).unwrap_or("dr");
        let text = match l4_port.filter(|_| own == "nat") {
            Some(l4_port) => SocketAddr::new(address, l4_port).to_string(),
            None => address.to_string(),
        };
        let forward = if own == method { String::new() } else { format!(", forward = {}", quoted(own)) };
        writer.key(origin, "sorry_server", format!("{{ address = {}{forward} }}", quoted(&text)));
    }

    /// What real servers speak: as it is said, or by the port.
    fn service(&self, listen: &Listen) -> &str {
        let by_port = match listen {
            Listen::Mark(_) => "none",
            Listen::Address(address) => match (address.port(), self.is_udp()) {
                (53, _) => "dns",
                (_, true) => "none",
                (20 | 21, _) => "ftp",
                (25 | 587, _) => "smtp",
                (80, _) => "http",
                (110, _) => "pop",
                (119, _) => "nntp",
                (143, _) => "imap",
                (389, _) => "ldap",
                (443, _) => "https",
                _ => "none",
            },
        };
        self.service.as_deref().unwrap_or(by_port)
    }

    /// The check of real servers that are asked so; none where they are taken for up.
    fn check(
        &self,
        service: &str,
        request: Option<&str>,
        receive: Option<&str>,
        origin: &Origin,
        place: &str,
        writer: &mut Writer,
    ) -> Option<String> {
        let connects = if self.is_udp() { "kind = \"ping\"" } else { "kind = \"tcp\"" };
        let negotiates = self.check_type == "negotiate" || self.check_type.parse::<u32>().is_ok();
        let mut instead = |words: &'static str| {
            let shown = format!("checktype = {}, service = {service}", self.check_type);
            writer.tell(origin, place, &shown, Fate::Instead(words));
        };
        let kind = match self.check_type.as_str() {
            "on" => return None,
            "off" => {
                instead("real servers are there with weight 0, as ldirectord never activates them");
                return None;
            }
            "ping" => "kind = \"ping\"".to_owned(),
            "connect" => connects.to_owned(),
            "external" | "external-perl" => match &self.command {
                Some(command) => {
                    let words = "$SHUNT_VIP $SHUNT_VIP_PORT $SHUNT_REAL $SHUNT_REAL_PORT";
                    format!("kind = \"script\", command = {}", quoted(&format!("{command} {words}")))
                }
                None => {
                    let fault =
                        Fault::new("checkcommand is missing", "external checks run a command", "add it");
                    writer.refuse(origin, place, fault);
                    return None;
                }
            },
            _ => self.negotiation(service, request, receive, connects, &mut instead)?,
        };
        let timeout = match self.common.negotiate_timeout {
            Some(timeout) if negotiates => timeout,
            None if negotiates && !["none", "simpletcp"].contains(&service) => self.common.timeout.max(5.0),
            _ => self.common.timeout,
        };
        let mut keys = vec![kind];
        keys.extend(
            self.check_port.filter(|_| self.check_type != "ping").map(|l4_port| format!("port = {l4_port}")),
        );
        let fall = if self.check_type == "ping" {
            self.common.count.max(self.common.failures)
        } else {
            self.common.failures
        };
        keys.push(format!(
            "interval = {}, timeout = {}, fall = {}, rise = 1",
            seconds(self.common.interval),
            seconds(timeout),
            fall.min(100)
        ));
        Some(format!("{{ {} }}", keys.join(", ")))
    }

    /// What is asked by `checktype = negotiate`; none where nothing is.
    fn negotiation(
        &self,
        service: &str,
        request: Option<&str>,
        receive: Option<&str>,
        connects: &str,
        instead: &mut dyn FnMut(&'static str),
    ) -> Option<String> {
        let receive = receive.filter(|text| !text.is_empty());
        let greeting = |text: &str| format!("kind = \"send\", expect_regex = {}", quoted(text));
        Some(match service {
            "http" | "https" | "http_proxy" => {
                let kind = if service == "https" { "https" } else { "http" };
                let path = request.unwrap_or_default();
                // The path, where a whole URL is written.
                let path = match path.split_once("://") {
                    Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
                    None => path,
                };
                let slash = if path.starts_with('/') { "" } else { "/" };
                let mut keys =
                    vec![format!("kind = \"{kind}\", path = {}", quoted(&format!("{slash}{path}")))];
                keys.extend(self.host.as_deref().map(|host| format!("host = {}", quoted(host))));
                keys.extend(receive.map(|text| format!("body_regex = {}", quoted(text))));
                keys.join(", ")
            }
            "smtp" | "submission" => "kind = \"smtp\"".to_owned(),
            "dns" => {
                let name = request
                    .map(|name| format!(", name = {}, type = \"A\"", quoted(name.trim_end_matches('.'))));
                format!("kind = \"dns\"{}", name.unwrap_or_default())
            }
            "simpletcp" => {
                let receive = receive.unwrap_or("");
                // Perl's \n and \r in quotation marks.
                let request = request.unwrap_or_default().replace("\\r", "\r").replace("\\n", "\n");
                let send =
                    if request.is_empty() { String::new() } else { format!("send = {}, ", quoted(&request)) };
                format!("kind = \"send\", {send}expect_regex = {}", quoted(receive))
            }
            "ftp" | "pop" | "imap" | "nntp" => {
                instead("the greeting is asked for, nobody logs in");
                greeting(match service {
                    "ftp" => "^220",
                    "pop" => r"^\+OK",
                    "imap" => r"^\* OK",
                    _ => "^20[01]",
                })
            }
            "none" => return None,
            _ => {
                instead("whether a connection opens (udp: whether the host answers a ping) is asked instead");
                connects.to_owned()
            }
        })
    }
}

/// The flags of a scheduler, as ipvsadm has them.
fn flags(value: &str) -> Option<Vec<&'static str>> {
    let flag = |word: &str| match word {
        "sh-fallback" | "mh-fallback" => Some("fallback"),
        "sh-port" | "mh-port" => Some("port"),
        _ => None,
    };
    value.split(',').map(flag).collect()
}

fn forwarding(word: &str) -> Option<&'static str> {
    Some(match word.to_lowercase().as_str() {
        "gate" => "dr",
        "masq" => "nat",
        "ipip" => "tun",
        _ => return None,
    })
}

/// Addresses and port of `10.0.0.1:80`, `[fd00::1]:http`, `www.example.org`.
fn host(word: &str, udp: bool, files: &dyn Files) -> Option<(Vec<IpAddr>, Option<u16>)> {
    let bare = |word: &str| word.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    if let Some(address) = bare(word) {
        return Some((vec![address], None));
    }
    let (name, service) = match word.rsplit_once(':') {
        Some((name, service)) => (name, Some(l4_port(service, udp, files)?)),
        None => (word, None),
    };
    let found = bare(name).map_or_else(|| files.addresses(name), |address| vec![address]);
    (!found.is_empty()).then_some((found, service))
}

/// The real servers of a line: one, or those from one address to another (`10.0.0.1->10.0.0.9:80`).
fn reals(line: &Line, udp: bool, files: &dyn Files, place: &str, writer: &mut Writer) -> Vec<Real> {
    let mut words = line.value.split_whitespace();
    let (first, last) = match words.next().unwrap_or_default().split_once("->") {
        Some((first, last)) => (first.to_owned(), Some(last.to_owned())),
        None => (line.value.split_whitespace().next().unwrap_or_default().to_owned(), None),
    };
    let begin = host(&first, udp, files);
    let end = last.as_deref().map(|last| host(last, udp, files));
    let method = words.next().and_then(forwarding);
    let options = Options::read(&words.collect::<Vec<_>>().join(" "));
    let addresses = match (&begin, &end) {
        (Some((found, l4_port)), None) => found.first().map(|address| (*address, *address, *l4_port)),
        (Some((found, _)), Some(Some((to, l4_port)))) => {
            found.first().zip(to.first()).map(|(a, b)| (*a, *b, *l4_port))
        }
        _ => None,
    };
    let (Some((from, to, l4_port)), Some(method), Some(options)) = (addresses, method, options) else {
        wrong(line, place, writer);
        return Vec::new();
    };
    if from.to_string() != first.split(':').next().unwrap_or_default() && from.is_ipv4() {
        let wrong = format!("{} was looked up: {from}", printable(&first, 60));
        let holds = "ldirectord does so when it starts; here the address stays as it is";
        writer.notice(&line.origin, place, Fault::new(wrong, holds, "see that it is right"));
    }
    let all = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) if u32::from(to).wrapping_sub(u32::from(from)) < 256 => {
            (u32::from(from)..=u32::from(to))
                .map(|address| IpAddr::from(std::net::Ipv4Addr::from(address)))
                .collect()
        }
        _ if from == to => vec![from],
        _ => Vec::new(),
    };
    if all.is_empty() {
        wrong(line, place, writer);
    }
    let real = |address: IpAddr| Real {
        origin: line.origin.clone(),
        address: SocketAddr::new(address, l4_port.unwrap_or(0)),
        method,
        options: options.clone(),
    };
    all.into_iter().map(real).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_real_server_are_what_ldirectord_makes_of_them() {
        let weight = |weight| Some(Options { weight, ..Options::default() });
        assert_eq!(Options::read(""), weight(None));
        assert_eq!(Options::read("5"), weight(Some(5)));
        assert_eq!(Options::read("-w 5"), weight(Some(5)));
        let all = Options {
            weight: Some(5),
            asks: Some(("a b".to_owned(), Some("c".to_owned()))),
            lower: Some(10),
            upper: Some(20),
        };
        assert_eq!(Options::read("5 \"a b\", \"c\" l:10 u:20"), Some(all));
        for wrong in ["5 6", "x", "5x", "l:", "5 x:3"] {
            assert_eq!(Options::read(wrong), None, "{wrong}");
        }
        assert_eq!((number("3s"), number("= 15"), number("x")), (Some(3), Some(15), None));
    }
}

//! The part of keepalived's dump that is about virtual servers, real servers and how these are checked.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::dump::{Line, command, endpoint, script, sections};
use super::{Fields, Objects, object, set};

/// Where a virtual server listens, in the words of the names of objects.
#[must_use]
pub fn service(protocol: &str, listen: &str) -> String {
    format!("virtual_server {protocol} {listen}")
}

/// A virtual server of the dump.
#[derive(Default)]
struct Server {
    /// `[G]:0`, `FWM 7`, `[192.0.2.10]:tcp:80`: how the checks call it.
    called: String,
    listens: Vec<Listen>,
    protocol: String,
    family: String,
    fields: Fields,
    virtualhost: Option<String>,
    reals: Vec<Real>,
}

/// What the dump does not tell, in the place of a value.
pub const NOT_TOLD: &str = "?";

/// Fields that name scripts.
const SCRIPTS: &[&str] = &["quorum_up", "quorum_down", "notify_up", "notify_down"];

#[derive(Clone, Debug)]
enum Listen {
    Address(SocketAddr),
    Mark(u32),
}

#[derive(Default)]
struct Real {
    address: Option<SocketAddr>,
    fields: Fields,
    virtualhost: Option<String>,
    checks: Vec<Fields>,
}

/// Reads the dump of the process that checks.
pub fn read(lines: &[String], objects: &mut Objects) {
    let mut groups: BTreeMap<String, Vec<Listen>> = BTreeMap::new();
    let mut servers: Vec<Server> = Vec::new();
    for (section, lines) in sections(lines) {
        match section {
            "Virtual server group" => read_groups(&lines, &mut groups),
            "Virtual server" => servers.push(server(&lines, &groups)),
            "Real server" => {
                if let Some(server) = servers.last_mut() {
                    server.reals.push(real(&lines));
                }
            }
            "Health checkers" => read_checks(&lines, &mut servers),
            "Checker track files" => read_files(&lines, &mut servers),
            _ => {}
        }
    }
    let mut checks = BTreeMap::new();
    for server in servers {
        server.write(objects, &mut checks);
    }
    for (real, checks) in checks {
        write_checks(&real, checks, objects);
    }
}

fn read_groups(lines: &[Line<'_>], groups: &mut BTreeMap<String, Vec<Listen>>) {
    let mut members: &mut Vec<Listen> = &mut Vec::new();
    for line in lines {
        let address = |text: &str| -> Option<SocketAddr> {
            let (address, l4_port) = text.split_once(", VPORT = ")?;
            Some(SocketAddr::new(address.parse().ok()?, l4_port.parse().ok()?))
        };
        match line.key {
            "Virtual Server Group" => {
                let name = line.value.split(", ").next().unwrap_or_default();
                members = groups.entry(name.to_owned()).or_default();
            }
            "VIP" => members.extend(address(line.value).map(Listen::Address)),
            "VIP Range" => {
                let Some((first, rest)) = line.value.split_once('-') else { continue };
                let (Ok(first), Some(last)) = (first.parse::<IpAddr>(), address(rest)) else { continue };
                members.extend(range(first, last).map(Listen::Address));
            }
            "FWMARK" => {
                let number = line.value.split(' ').next().unwrap_or_default();
                members.extend(number.parse().ok().map(Listen::Mark));
            }
            _ => {}
        }
    }
}

fn range(first: IpAddr, last: SocketAddr) -> impl Iterator<Item = SocketAddr> {
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let back = move |number: u128| match last.ip() {
        IpAddr::V4(_) => IpAddr::from((number as u32).to_be_bytes()),
        IpAddr::V6(_) => IpAddr::from(number.to_be_bytes()),
    };
    (number(first)..=number(last.ip())).map(move |number| SocketAddr::new(back(number), last.port()))
}

/// `yes` and `no` of `ON` and `OFF`, `enabled` and `disabled`.
fn yes(value: &str) -> &'static str {
    if ["ON", "yes", "YES"].contains(&value) || value.starts_with("enabled") { "yes" } else { "no" }
}

fn server(lines: &[Line<'_>], groups: &BTreeMap<String, Vec<Listen>>) -> Server {
    let mut server = Server::default();
    let mut sorry = false;
    for line in lines {
        let Line { key, value, .. } = *line;
        let fields = &mut server.fields;
        // The method of a GRE or GUE tunnel stands as far to the left as what follows.
        if sorry && (line.indent >= 5 || key == "forwarding method") {
            match key {
                "forwarding method" => set(fields, "sorry_server lvs_method", method(value)),
                _ if key.starts_with("Inhibit on failure is") => {
                    set(fields, "sorry_server_inhibit", yes(key.rsplit(' ').next().unwrap_or_default()));
                }
                _ => {}
            }
            continue;
        }
        match key {
            "VS GROUP" => {
                let name = value.trim_start_matches('[').rsplit_once(']').map_or(value, |(name, _)| name);
                server.listens = groups.get(name).cloned().unwrap_or_default();
                value.clone_into(&mut server.called);
            }
            "VS FWMARK" => {
                server.listens.extend(value.parse().ok().map(Listen::Mark));
                server.called = format!("FWM {value}");
            }
            "VS VIP" => {
                let Some((address, l4_port)) = value.split_once(", VPORT = ") else { continue };
                let (Ok(address), Ok(l4_port)) = (address.parse(), l4_port.parse()) else { continue };
                server.listens.push(Listen::Address(SocketAddr::new(address, l4_port)));
            }
            "VirtualHost" => server.virtualhost = Some(value.to_owned()),
            "Address family" => value.clone_into(&mut server.family),
            "protocol" => server.protocol = value.to_lowercase(),
            "lvs_sched" => set(fields, "lb_algo", value),
            "sh-port" | "mh-port" => set(fields, "flag port", yes(value)),
            "sh-fallback" | "mh-fallback" => set(fields, "flag fallback", yes(value)),
            "One packet scheduling" => set(fields, "ops", yes(value)),
            "persistence timeout" => set(fields, "persistence_timeout", value),
            "persistence granularity" => set(fields, "persistence_granularity", bits(value)),
            "quorum" => {
                let (quorum, hysteresis) = value.split_once(", hysteresis = ").unwrap_or((value, "0"));
                set(fields, "quorum", quorum);
                set(fields, "hysteresis", hysteresis);
            }
            "Quorum up notify script" => set(fields, "quorum_up", script(value)),
            "Quorum down notify script" => set(fields, "quorum_down", script(value)),
            "sorry server" | "sorry server (duplicates rs)" => {
                sorry = true;
                let address = endpoint(value).map_or_else(|| value.to_owned(), |address| address.to_string());
                set(fields, "sorry_server", address);
            }
            "omega is ON" | "omega is OFF" => set(fields, "omega", yes(&key["omega is ".len()..])),
            _ => {}
        }
    }
    if let [Listen::Address(address)] = server.listens.as_slice() {
        if server.called.is_empty() {
            server.called = format!("[{}]:{}:{}", address.ip(), server.protocol, address.port());
        }
    }
    if !server.fields.contains_key("persistence_timeout") {
        set(&mut server.fields, "persistence_timeout", 0);
    }
    // Without any weight the quorum is not reached, as one of 1.
    if server.fields.get("quorum").is_some_and(|quorum| quorum == "0") {
        set(&mut server.fields, "quorum", 1);
        set(&mut server.fields, "hysteresis", 0);
    }
    server
}

/// Bits of a netmask, or of an IPv6 address as they are.
fn bits(value: &str) -> String {
    match value.parse::<std::net::Ipv4Addr>() {
        Ok(mask) => mask.to_bits().count_ones().to_string(),
        Err(_) => value.to_owned(),
    }
}

/// `TUN, type = GUE, port = 7000, checksum`
fn method(value: &str) -> String {
    let value = value.to_lowercase().replace("type = ", "").replace("port = ", "").replace(',', "");
    value
        .replace("tun ipip", "tun")
        .replace("no checksum", "")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn real(lines: &[Line<'_>]) -> Real {
    let mut real = Real::default();
    for line in lines {
        let Line { key, value, .. } = *line;
        let fields = &mut real.fields;
        match key {
            "RIP" => {
                let mut parts = value.split(", ");
                let address = parts.next().and_then(|address| address.parse().ok());
                let l4_port = parts.next().and_then(|port| port.strip_prefix("RPORT = "));
                let l4_port = l4_port.and_then(|port| port.parse().ok());
                real.address =
                    address.zip(l4_port).map(|(address, l4_port)| SocketAddr::new(address, l4_port));
            }
            "forwarding method" => set(fields, "lvs_method", method(value)),
            "connection limit range" => {
                let (lower, upper) = value.split_once(" -> ").unwrap_or(("0", "0"));
                set(fields, "lthreshold", lower);
                set(fields, "uthreshold", upper);
            }
            "initial weight" => set(fields, "weight", value),
            "RS up notify script" => set(fields, "notify_up", script(value)),
            "RS down notify script" => set(fields, "notify_down", script(value)),
            "VirtualHost" => real.virtualhost = Some(value.trim_matches('\'').to_owned()),
            "Inhibit on failure is ON" => set(fields, "inhibit_on_failure", "yes"),
            "Inhibit on failure is OFF" => set(fields, "inhibit_on_failure", "no"),
            _ => {}
        }
    }
    real
}

/// Checks, each behind a line that says whose it is: `[192.0.2.10]:tcp:80 -> [192.0.2.21]:tcp:80`.
fn read_checks(lines: &[Line<'_>], servers: &mut [Server]) {
    let mut start = 0;
    while start < lines.len() {
        let rest = &lines[start + 1..];
        let length = rest.iter().position(|line| line.indent == 1).unwrap_or(rest.len());
        if let Some((called, address)) = lines[start].key.split_once(" -> ") {
            let address = endpoint(address);
            let server = servers.iter_mut().find(|server| {
                server.called == called && server.reals.iter().any(|real| real.address == address)
            });
            if let Some(server) = server {
                let of_server = server.virtualhost.clone();
                let mut same = server.reals.iter_mut().filter(|real| real.address == address);
                let Some(first) = same.next() else { continue };
                // Which one of several that are one to the kernel a check is of is not told.
                let is_clear = same.all(|real| real.virtualhost == first.virtualhost);
                let host = first.virtualhost.clone().or(of_server);
                let host = if is_clear { host } else { Some(NOT_TOLD.to_owned()) };
                first.checks.extend(check(&rest[..length], host.as_deref()));
            }
        }
        start += length + 1;
    }
}

/// A checker, as many checks as it asks for URLs.
fn check(lines: &[Line<'_>], host: Option<&str>) -> Vec<Fields> {
    let milliseconds = |value: &str| {
        let number: u64 = value.trim_end_matches(" us").parse().unwrap_or_default();
        (number / 1000).to_string()
    };
    let mut fields = Fields::new();
    let mut urls: Vec<Fields> = Vec::new();
    let mut host = host.map(str::to_owned);
    let mut statuses: Vec<Vec<String>> = Vec::new();
    let mut in_url = false;
    for line in lines {
        let Line { key, value, .. } = *line;
        in_url |= key == "Checked url";
        if in_url {
            url(line, &mut urls, &mut statuses);
            continue;
        }
        match key {
            "Alpha" => set(&mut fields, "alpha", yes(value)),
            "Delay loop" => set(&mut fields, "delay_loop", milliseconds(value)),
            "Warmup" => set(&mut fields, "warmup", milliseconds(value)),
            "Retries" => set(&mut fields, "retry", value),
            "Delay before retry" => set(&mut fields, "delay_before_retry", milliseconds(value)),
            "Dest" => {
                set(&mut fields, "connect", endpoint(value).map_or_else(String::new, |to| to.to_string()))
            }
            "Bind to" => {
                set(
                    &mut fields,
                    "bindto",
                    endpoint(value).map_or_else(String::new, |from| from.ip().to_string()),
                );
            }
            "Timeout" => {
                let seconds: f64 = value.parse().unwrap_or_default();
                set(&mut fields, "connect_timeout", (seconds * 1000.0).round());
            }
            "Keepalive method" => {
                set(&mut fields, "kind", value.split(',').next().unwrap_or_default());
            }
            "Virtualhost" => host = Some(value.to_owned()),
            "helo" => set(&mut fields, "helo_name", value),
            "Type" => set(&mut fields, "type", value),
            "Name" => set(&mut fields, "name", value.trim_end_matches('.')),
            "script" => set(&mut fields, "misc_path", command(value)),
            "timeout" => set(&mut fields, "misc_timeout", format!("{value}000").trim_start_matches("0000")),
            "dynamic" => set(&mut fields, "misc_dynamic", yes(value)),
            "uid:gid" => set(&mut fields, "user", value),
            "Payload len" => set(&mut fields, "payload", value),
            "Require reply" => set(&mut fields, "require_reply", yes(value)),
            "Min reply length" => set(&mut fields, "min_reply_length", value),
            "Max reply length" => set(&mut fields, "max_reply_length", value),
            "Tracked file" => set(&mut fields, "track_file", value),
            _ => {}
        }
    }
    settle(&mut fields);
    if urls.is_empty() {
        return vec![fields];
    }
    let complete = urls.into_iter().zip(statuses).flat_map(|(mut url, status)| {
        url.extend(fields.clone());
        set(&mut url, "status_code", status.join(" "));
        if let Some(host) = &host {
            url.entry("virtualhost".to_owned()).or_insert_with(|| host.clone());
        }
        // Who is named by no virtualhost is called by the address.
        url.retain(|key, host| key != "virtualhost" || !is_address(host));
        demands(url)
    });
    complete.collect()
}

/// Whether a host is an address, with or without a port.
#[must_use]
pub fn is_address(host: &str) -> bool {
    host.parse::<SocketAddr>().is_ok() || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

/// A check of this director demands one thing of an answer: a digest, or a match.
fn demands(url: Fields) -> Vec<Fields> {
    if !(url.contains_key("digest") && url.contains_key("regex")) {
        return vec![url];
    }
    let (mut digest, mut regex) = (url.clone(), url);
    digest.retain(|key, _| !key.starts_with("regex"));
    regex.remove("digest");
    vec![digest, regex]
}

/// What says nothing beside another field: the delay before a try that is never made, a script's time that is its interval.
pub fn settle(fields: &mut Fields) {
    if fields.get("kind").is_some_and(|kind| kind == "PING_CHECK") {
        let address =
            fields.get("connect").and_then(|at| at.rsplit_once(':')).map(|(address, _)| address.to_owned());
        fields.extend(address.map(|address| ("connect".to_owned(), address)));
    }
    if fields.get("retry").is_some_and(|retry| retry == "0") {
        fields.remove("delay_before_retry");
    }
    if fields.get("misc_timeout").is_some_and(String::is_empty) {
        let interval = fields.get("delay_loop").cloned().unwrap_or_default();
        set(fields, "misc_timeout", interval);
    }
    if fields.get("require_reply").is_some_and(|require| require == "no") {
        fields.remove("min_reply_length");
        fields.remove("max_reply_length");
    }
}

fn url(line: &Line<'_>, urls: &mut Vec<Fields>, statuses: &mut Vec<Vec<String>>) {
    if line.key == "Checked url" {
        urls.push(Fields::new());
        statuses.push(Vec::new());
    }
    let (Some(url), Some(status)) = (urls.last_mut(), statuses.last_mut()) else { return };
    match line.key {
        "Checked url" => set(url, "path", line.value),
        "digest" => set(url, "digest", line.value),
        "Virtual host" => set(url, "virtualhost", line.value),
        "Regex" => set(url, "regex", line.value.trim_matches('"')),
        "Regex no match" => set(url, "regex_no_match", "yes"),
        "Regex min offset" => {
            let (least, most) = line.value.split_once(", max_offset = ").unwrap_or((line.value, ""));
            if least != "0" {
                set(url, "regex_min_offset", least);
            }
            if !most.is_empty() {
                set(url, "regex_max_offset", most);
            }
        }
        code if line.indent >= 7 && code.starts_with(|c: char| c.is_ascii_digit()) => {
            status.push(code.to_owned())
        }
        _ => {}
    }
}

/// Files that checks look at: `FILE_CHECK` says their names.
fn read_files(lines: &[Line<'_>], servers: &mut [Server]) {
    let (mut name, mut path) = (String::new(), String::new());
    for line in lines {
        match line.key {
            "Track file" => line.value.clone_into(&mut name),
            "File" => line.value.clone_into(&mut path),
            _ => {
                let Some((_, weight)) = line.key.rsplit_once(", weight ") else { continue };
                let weight = super::dump::weight_of("track_file", weight);
                let checks =
                    servers.iter_mut().flat_map(|server| &mut server.reals).flat_map(|real| &mut real.checks);
                for check in checks.filter(|check| check.get("track_file") == Some(&name)) {
                    set(check, "track_file", &path);
                    set(check, "weight", &weight);
                }
            }
        }
    }
}

impl Real {
    /// Whether its `lthreshold` is one that the kernel takes.
    fn is_kept(&self) -> bool {
        let said = |key: &str| self.fields.get(key).and_then(|limit| limit.parse::<u32>().ok()).unwrap_or(0);
        said("lthreshold") <= said("uthreshold")
    }
}

impl Server {
    /// As an object for each place where it listens. Of two at one place the kernel has the settings of the first, and the real
    /// servers of both; a real server of both is taken out when a check of either fails.
    fn write(self, objects: &mut Objects, checks: &mut BTreeMap<String, Vec<Fields>>) {
        for (number, listen) in self.listens.iter().enumerate() {
            // Scripts of a group run once, whatever the number of its members.
            let own = |fields: &Fields| {
                let mut fields = fields.clone();
                fields.retain(|key, _| number == 0 || !SCRIPTS.contains(&key.as_str()));
                fields
            };
            let name = match listen {
                Listen::Address(address) => service(&self.protocol, &address.to_string()),
                Listen::Mark(mark) => {
                    let family = if self.family == "inet6" { " inet6" } else { "" };
                    service("fwmark", &format!("{mark}{family}"))
                }
            };
            if !objects.contains_key(&name) {
                objects.insert(name.clone(), own(&self.fields));
            }
            // What the kernel does not take hides nothing.
            let (kept, left): (Vec<&Real>, Vec<&Real>) = self.reals.iter().partition(|real| real.is_kept());
            for real in kept.into_iter().chain(left) {
                let Some(mut address) = real.address else { continue };
                let is_nat = real.fields.get("lvs_method").is_some_and(|method| method == "nat");
                match listen {
                    Listen::Mark(_) => address.set_port(0),
                    // The port of a group's real server has no effect.
                    Listen::Address(listen) if !is_nat => address.set_port(listen.port()),
                    Listen::Address(_) => {}
                }
                let name = format!("{name}, real_server {address}");
                if !objects.contains_key(&name) {
                    objects.insert(name.clone(), own(&real.fields));
                }
                checks.entry(name).or_default().extend(real.checks.clone());
            }
        }
    }
}

/// Checks of a real server, as objects of their own; those of one kind in their order, and the same one once.
pub fn write_checks(real: &str, checks: Vec<Fields>, objects: &mut Objects) {
    let mut told: Vec<Fields> = Vec::new();
    for check in checks {
        if !told.contains(&check) {
            told.push(check);
        }
    }
    let mut checks = told;
    checks.sort_by_key(|check| check.get("kind").cloned());
    for (number, check) in checks.into_iter().enumerate() {
        let kind = check.get("kind").cloned().unwrap_or_default();
        *object(objects, &format!("{real}, {kind} {}", number + 1)) = check;
    }
}

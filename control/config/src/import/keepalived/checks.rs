//! Checkers of a real server (`TCP_CHECK { … }`) become checks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use shunt_model::fault::Origin;
use shunt_model::fault::{Fault, printable};
use shunt_model::limit::{
    ANSWER_MAX, CHECK_COUNT_MAX, CHECK_INTERVAL_MAX, CHECK_INTERVAL_MIN, CHECK_TIMEOUT_MIN,
};

use super::keywords::Block;
use super::scripts::{self, command, list, user};
use super::services::Context;
use super::tracking::{FILE_WEIGHT, TrackedFile, Weight, weight_within};
use super::tree::Statement;
use super::values::{Values, walk};
use crate::import::writer::{Writer, last_of_each, quoted, seconds};

/// What a `UDP_CHECK` without payload sends, in hexadecimal digits: "keepalived check - keepalived ch".
const UDP_PAYLOAD: &str = "6b656570616c6976656420636865636b202d206b656570616c69766564206368";
/// Kinds of checks that ask for a port.
const KINDS_OF_PORTS: &[&str] = &["tcp", "http", "https", "smtp", "dns", "udp"];
/// The name that an `SMTP_CHECK` says without `helo_name`.
const HELO: &str = "smtpchecker.keepalived.org";
/// The longest beginning of an answer that is compared where the answer may be shorter, in bytes.
const REPLY_MAX: usize = 100;
/// The longest datagram that IPv4 carries, in bytes.
const DATAGRAM_MAX: u16 = 65_507;
/// The longest answer where `UDP_CHECK` names none, in bytes.
const UDP_REPLY_MAX: u8 = 255;
/// The longest `connect_timeout` that keepalived takes, in seconds.
const SECONDS_MAX: f64 = 4_294.967_295;
/// The longest time of other keywords, in seconds.
const DELAY_MAX: f64 = 18_446_744_073_709.0;
/// The shortest time that keepalived takes, in seconds.
const SECONDS_LEAST: f64 = 0.000_001;
/// The largest `retry`: as many failures as a check counts, but for the first.
const RETRY_MAX: u32 = CHECK_COUNT_MAX as u32 - 1;

/// What a virtual server says for its real servers, a real server for its checkers, unless those say it themselves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Common {
    /// `connect_timeout`.
    pub connect_timeout: Option<f64>,
    /// `retry`.
    pub retry: Option<u32>,
    /// `delay_before_retry`.
    pub delay_before_retry: Option<f64>,
    /// `warmup`.
    pub warmup: Option<f64>,
    /// `delay_loop`.
    pub delay_loop: Option<f64>,
    /// `alpha`.
    pub alpha: Option<bool>,
    /// `virtualhost`.
    pub host: Option<String>,
    /// `misc_timeout`, in seconds; 0 is the interval.
    pub script_timeout: Option<u32>,
}

impl Common {
    /// Takes a keyword, with the least number that keepalived takes as `retry`; false when it is none of these.
    pub fn take(&mut self, statement: &Statement, retry: u32, place: &str, writer: &mut Writer) -> bool {
        let mut values = Values::of(statement, place, writer);
        match statement.keyword() {
            "connect_timeout" => {
                let time = time(&mut values, SECONDS_LEAST..=SECONDS_MAX, CHECK_TIMEOUT_MIN);
                self.connect_timeout = time.or(self.connect_timeout);
            }
            "retry" => {
                // Of a checker as far as it can be read, of others as a whole.
                let bounds = retry..=u32::MAX;
                let said = if retry == 0 { values.integer_as_far(bounds) } else { values.integer(bounds) };
                self.retry = said.map(|said| retries(said, &mut values)).or(self.retry);
            }
            "delay_before_retry" => {
                self.delay_before_retry =
                    time(&mut values, 0.0..=DELAY_MAX, CHECK_INTERVAL_MIN).or(self.delay_before_retry);
            }
            "warmup" => self.warmup = time(&mut values, 0.0..=DELAY_MAX, Duration::ZERO).or(self.warmup),
            "delay_loop" => {
                let time = time(&mut values, SECONDS_LEAST..=DELAY_MAX, CHECK_INTERVAL_MIN);
                self.delay_loop = time.or(self.delay_loop);
            }
            "alpha" => self.alpha = values.boolean().or(self.alpha),
            "virtualhost" => {
                self.host = values.required("a host name").map(str::to_owned).or(self.host.take());
            }
            _ => return false,
        }
        values.end();
        true
    }
}

/// As many retries as this director makes.
fn retries(said: u32, values: &mut Values<'_, '_>) -> u32 {
    if said > RETRY_MAX {
        let holds = format!("a real server is down after {RETRY_MAX} failures more, the most here");
        values.differs(format!("retry {said}"), holds, "nothing needs to be done");
    }
    said.min(RETRY_MAX)
}

/// Seconds that keepalived takes, within the shortest and longest time of this director's.
fn time(values: &mut Values<'_, '_>, bounds: RangeInclusive<f64>, least: Duration) -> Option<f64> {
    let said = values.seconds(bounds)?;
    let held = said.clamp(least.as_secs_f64(), CHECK_INTERVAL_MAX.as_secs_f64());
    if (held - said).abs() > f64::EPSILON {
        let wrong = format!("{} {said}", values.keyword());
        values.differs(wrong, format!("it is {held} s, the nearest time here"), "see whether that will do");
    }
    Some(held)
}

/// A check: its keys and values as TOML has them, in order, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Where it stands.
    pub origin: Origin,
    /// Keys and values.
    pub keys: Vec<(&'static str, String)>,
}

impl Check {
    /// Whether it asks for a port that it does not name.
    #[must_use]
    pub fn asks_a_port(&self) -> bool {
        let kind =
            self.keys.iter().find(|(key, _)| *key == "kind").map_or("", |(_, kind)| kind.trim_matches('"'));
        KINDS_OF_PORTS.contains(&kind) && self.keys.iter().all(|(key, _)| *key != "port")
    }

    /// As an inline table.
    #[must_use]
    pub fn toml(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        format!("{{ {} }}", keys.join(", "))
    }
}

/// Reads a checker of a real server; each URL of `HTTP_GET` is a check of its own. `knows_port`: the service has a port, which is
/// asked where the real server has none.
pub fn read(
    statement: &Statement,
    real: SocketAddr,
    knows_port: bool,
    outer: &Common,
    context: &Context,
    place: &str,
    writer: &mut Writer,
) -> Vec<Check> {
    let files = &context.track_files;
    let place = format!("{place}, {}", statement.keyword());
    let mut reader = Reader::of(real, outer.clone());
    let (kind, block, retry, delay) = match statement.keyword() {
        "TCP_CHECK" => ("tcp", "TCP_CHECK", 1, Some(1.0)),
        "HTTP_GET" => ("http", "HTTP_GET, SSL_GET", 1, Some(3.0)),
        "SSL_GET" => ("https", "HTTP_GET, SSL_GET", 1, Some(3.0)),
        "SMTP_CHECK" => ("smtp", "SMTP_CHECK", 1, Some(1.0)),
        "DNS_CHECK" => ("dns", "DNS_CHECK", 3, None),
        "MISC_CHECK" => ("script", "MISC_CHECK", 0, Some(1.0)),
        "PING_CHECK" => ("ping", "PING_CHECK", 1, Some(1.0)),
        "UDP_CHECK" => ("udp", "UDP_CHECK", 1, Some(1.0)),
        _ => ("file", "FILE_CHECK", 0, None),
    };
    walk(statement.statements(), Block(block), &place, writer, |statement, writer| {
        reader.take(kind, statement, files, &place, writer);
    });
    reader.keys = last_of_each(reader.keys, |(key, _)| *key);
    let lacks = match kind {
        "http" | "https" if reader.urls.is_empty() => Some("url"),
        "script" if reader.get("command").is_none() => Some("misc_path"),
        "file" if reader.get("path").is_none() => Some("track_file"),
        _ => None,
    };
    let lost = reader.program.as_ref().and_then(|program| context.gone.lack(program, &reader.keys));
    if let Some(wrong) = lost {
        let holds = "keepalived leaves the check out, and the real server counts as up without it";
        let fault = Fault::new(wrong, holds, "add what is missing, and import or reload anew");
        writer.ignored(statement.origin(), &place, fault);
        return Vec::new();
    }
    if let Some(lacks) = lacks {
        let wrong = format!("{} without {lacks}", statement.keyword());
        let holds = "keepalived leaves the check out, and the real server counts as up without it";
        let fault = Fault::new(wrong, holds, format!("add {lacks}, or remove the check"));
        writer.ignored(statement.origin(), &place, fault);
        return Vec::new();
    }
    if kind == "https" {
        if let Some(ca) = &context.ca {
            reader.keys.extend([("verify", "true".to_owned()), ("ca", quoted(ca))]);
        }
    }
    if let Some(user) = context.script_user.as_ref().filter(|_| kind == "script") {
        if reader.keys.iter().all(|(key, _)| *key != "user") {
            reader.keys.push(("user", quoted(user)));
        }
    }
    let answers = reader.get("require_reply").is_some() || reader.get("expect_regex").is_some();
    if kind == "udp" && answers && reader.get("max_reply").is_none() {
        reader.keys.push(("max_reply", UDP_REPLY_MAX.to_string()));
    }
    if kind == "udp" && !answers {
        let all = reader.keys.len();
        reader.keys.retain(|(key, _)| !["min_reply", "max_reply"].contains(key));
        if reader.keys.len() < all {
            let wrong = "min_reply_length or max_reply_length without require_reply";
            let fault =
                Fault::new(wrong, "keepalived waits for no answer then", "add require_reply, or remove it");
            writer.ignored(statement.origin(), &place, fault);
        }
    }
    if kind == "smtp" && reader.get("helo").is_none() {
        reader.keys.push(("helo", quoted(HELO)));
    }
    if KINDS_OF_PORTS.contains(&kind) && real.port() == 0 && reader.get("port").is_none() {
        let wrong = "connect_port is missing, and the real server has no port";
        let (holds, advice) = if knows_port {
            ("the service's port is asked, where keepalived asks port 0", "add the port to real_server")
        } else {
            reader.keys.push(("port", "0".to_owned()));
            (
                "port 0 is asked, where nobody answers, as by keepalived: the real server is down",
                "add connect_port",
            )
        };
        writer.notice(statement.origin(), &place, Fault::new(wrong, holds, advice));
    }
    if kind == "udp" && reader.get("payload_hex").is_none() {
        reader.keys.push(("payload_hex", quoted(UDP_PAYLOAD)));
    }
    let asked = reader.asked();
    let times = times(kind, &reader.common, retry, delay);
    let check = |own: &[(&'static str, String)]| {
        let is_own = own.iter().any(|(key, _)| *key == "host");
        let host = reader.common.host.as_ref().unwrap_or(&asked);
        let host = (kind.starts_with("http") && !is_own).then(|| ("host", quoted(host)));
        let kind = std::iter::once(("kind", quoted(kind)));
        let keys = kind.chain(own.iter().cloned()).chain(host).chain(reader.keys.iter().cloned());
        Check { origin: statement.origin().clone(), keys: keys.chain(times.iter().cloned()).collect() }
    };
    if !reader.urls.is_empty() {
        return reader.urls.iter().map(|url| check(url)).collect();
    }
    // Hosts of SMTP_CHECK are checks of their own, beside the real server's where the block says how to reach that.
    let mut checks = Vec::new();
    if reader.hosts.is_empty() || reader.is_reached {
        checks.push(check(&[]));
    }
    for host in &reader.hosts {
        let kept = reader.keys.iter().filter(|(key, _)| !CONNECTION.contains(key)).cloned();
        let keys = std::iter::once(("kind", quoted(kind))).chain(host.keys.iter().cloned()).chain(kept);
        let mut common = reader.common.clone();
        common.connect_timeout = host.timeout.or(outer.connect_timeout);
        if common.connect_timeout.is_none() {
            let holds = "5s holds, where keepalived has a timeout of 0";
            let fault = Fault::new("a host without connect_timeout", holds, "add it");
            writer.notice(statement.origin(), &format!("{place}, host"), fault);
        }
        checks.push(Check {
            origin: statement.origin().clone(),
            keys: keys.chain(self::times(kind, &common, retry, delay)).collect(),
        });
    }
    checks
}

/// Keys that say how a check reaches its host.
const CONNECTION: &[&str] = &["address", "port", "from"];

/// The times of a check, with keepalived's defaults where they differ from ours; one success is enough for it.
fn times(kind: &str, common: &Common, retry: u32, delay: Option<f64>) -> Vec<(&'static str, String)> {
    let interval = common.delay_loop.unwrap_or(60.0);
    if kind == "file" {
        // keepalived is told by the kernel.
        let once = || "1".to_owned();
        return vec![("interval", seconds(1.0)), ("fall", once()), ("rise", once())];
    }
    let mut times = vec![("interval", seconds(interval))];
    // A script may take as long as until the next one, where it says no time of its own.
    let script_timeout = common.script_timeout.filter(|time| *time > 0).map_or(interval, f64::from);
    let timeout = if kind == "script" { script_timeout } else { common.connect_timeout.unwrap_or(5.0) };
    times.push(("timeout", seconds(timeout)));
    let retry = common.retry.unwrap_or(retry);
    times.push(("fall", (retry + 1).to_string()));
    if retry > 0 {
        times.push(("retry_interval", seconds(common.delay_before_retry.or(delay).unwrap_or(interval))));
    }
    times.push(("rise", "1".to_owned()));
    if let Some(warmup) = common.warmup {
        times.push(("warmup", seconds(warmup)));
    }
    if common.alpha == Some(true) {
        times.push(("alpha", "true".to_owned()));
    }
    times
}

struct Reader {
    /// The real server.
    real: SocketAddr,
    common: Common,
    keys: Vec<(&'static str, String)>,
    urls: Vec<Vec<(&'static str, String)>>,
    /// `host` of `SMTP_CHECK`.
    hosts: Vec<Host>,
    /// True when the block says how to reach the real server itself.
    is_reached: bool,
    /// The program of `misc_path`.
    program: Option<String>,
}

/// A `host` of `SMTP_CHECK`.
#[derive(Default)]
struct Host {
    keys: Vec<(&'static str, String)>,
    timeout: Option<f64>,
}

impl Reader {
    const fn of(real: SocketAddr, common: Common) -> Self {
        Self {
            real,
            common,
            keys: Vec::new(),
            urls: Vec::new(),
            hosts: Vec::new(),
            is_reached: false,
            program: None,
        }
    }

    /// The value of a key, as TOML has it.
    fn get(&self, key: &str) -> Option<&str> {
        self.keys.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str())
    }

    /// Whom the check asks, as far as it is read.
    fn asked_address(&self) -> IpAddr {
        let said = self.keys.iter().rfind(|(key, _)| *key == "address");
        let said = said.and_then(|(_, address)| address.trim_matches('"').parse().ok());
        said.unwrap_or(self.real.ip())
    }

    /// `bindto`: without effect where it is not of the family of whom the check asks by then.
    fn source(&mut self, values: &mut Values<'_, '_>) -> Option<(&'static str, String)> {
        let from = values.address()?;
        let asked = self.asked_address();
        if from.is_ipv4() != asked.is_ipv4() {
            let wrong = format!("bindto {from} is not of the family of {asked}");
            values.ignored(wrong, "keepalived ignores it", "name an own address of that family");
            self.keys.retain(|(key, _)| *key != "from");
            return None;
        }
        Some(("from", quoted(&from.to_string())))
    }

    /// `connect_ip`.
    fn target(&self, values: &mut Values<'_, '_>) -> Option<(&'static str, String)> {
        let address = values.address()?;
        let from = self.keys.iter().rfind(|(key, _)| *key == "from").map(|(_, from)| from.contains(':'));
        if from.is_some_and(|is_ipv6| is_ipv6 != address.is_ipv6()) {
            let wrong = "connect_ip of another family than the bindto before it is not supported";
            values.refuse_line(wrong, "keepalived's check always fails then", "name addresses of one family");
        }
        Some(("address", quoted(&address.to_string())))
    }

    /// The name that a DNS check asks for: the first that is said, without empty labels.
    fn domain<'s>(&self, values: &mut Values<'s, '_>) -> Option<&'s str> {
        let holds = "a domain name";
        if self.get("name").is_some() && values.peek().is_some() {
            values.word();
            values.ignored(
                "name is said twice",
                "keepalived asks for the first one",
                "remove one of the two",
            );
            return None;
        }
        // keepalived 2.2.7 looks for the label's end one letter late in front.
        let has_empty_label = |word: &str| {
            word != "."
                && (word.starts_with('.') || word.contains("..") || word.as_bytes().get(1) == Some(&b'.'))
        };
        let word = values.required(holds)?;
        if has_empty_label(word) {
            values.ignore_last(
                "a label of a domain name is not empty, and the first one has two letters or more",
            );
            return None;
        }
        Some(word)
    }

    /// The Host header where no virtualhost is named: whom the check asks.
    fn asked(&self) -> String {
        let real = self.real;
        let address = self.get("address").and_then(|address| address.trim_matches('"').parse().ok());
        let l4_port = self.get("port").and_then(|l4_port| l4_port.parse().ok()).unwrap_or(real.port());
        let asked = SocketAddr::new(address.unwrap_or(real.ip()), l4_port);
        match (l4_port, asked.ip()) {
            (0 | 80, IpAddr::V4(address)) => address.to_string(),
            (0 | 80, IpAddr::V6(address)) => format!("[{address}]"),
            _ => asked.to_string(),
        }
    }

    fn take(
        &mut self,
        kind: &str,
        statement: &Statement,
        files: &BTreeMap<String, TrackedFile>,
        place: &str,
        writer: &mut Writer,
    ) {
        if statement.keyword() == "url" {
            let place = format!("{place}, url");
            self.urls.extend(demands(url(statement, &place, writer)));
            return;
        }
        if statement.keyword() == "host" {
            let place = format!("{place}, host");
            self.hosts.push(host(statement, &place, writer));
            return;
        }
        let keyword = statement.keyword();
        self.is_reached |= ["connect_ip", "connect_port", "bindto", "connect_timeout"].contains(&keyword);
        if self.common.take(statement, 0, place, writer) {
            return;
        }
        let mut values = Values::of(statement, place, writer);
        if keyword == "nb_get_retry" {
            let said = values.integer_as_far(0..=u32::MAX);
            self.common.retry = said.map(|said| retries(said, &mut values)).or(self.common.retry);
            return;
        }
        let key = match (kind, keyword) {
            (_, "connect_ip") => self.target(&mut values),
            ("ping", "connect_port") => {
                values.ignored(
                    "a port of a ping",
                    "an echo has none, and keepalived has no use for it",
                    "remove it",
                );
                None
            }
            (_, "connect_port") => {
                values.integer_as_far(1..=u16::MAX).map(|l4_port| ("port", l4_port.to_string()))
            }
            (_, "bindto") => self.source(&mut values),
            ("smtp", "helo_name") => values.rest("a name to greet with").map(|name| ("helo", quoted(&name))),
            ("dns", "type") => {
                let types = ["A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA"].map(|word| (word, word));
                values.choice_in_any_case(&types).map(|word| ("type", quoted(word)))
            }
            ("https", "sni_name") => values.required("a server's name").map(|name| ("name", quoted(name))),
            ("dns", "name") => self.domain(&mut values).map(|word| ("name", quoted(word))),
            ("script", "misc_path") => command(&mut values).map(|words| {
                self.program = words.first().cloned();
                ("command", list(&words))
            }),
            ("script", "misc_timeout") => {
                let said = values.integer_as_far(0..=scripts::SECONDS_MAX);
                self.common.script_timeout = said.or(self.common.script_timeout);
                None
            }
            ("script", "misc_dynamic") => Some(("dynamic", "true".to_owned())),
            ("script", "user") => user(&mut values).map(|user| ("user", quoted(&user))),
            ("udp", "payload") => values
                .parse_rest("bytes in hexadecimal digits", bytes)
                .map(|bytes| ("payload_hex", quoted(&bytes))),
            ("udp", "require_reply") if values.peek().is_none() => Some(("require_reply", "true".to_owned())),
            ("udp", "require_reply") => {
                let holds = "it is bytes in hexadecimal digits, x for any, and the last one is not ff: any answer will do";
                let regex = values.parse_rest(holds, reply).map(|regex| ("expect_regex", quoted(&regex)));
                Some(regex.unwrap_or_else(|| ("require_reply", "true".to_owned())))
            }
            ("udp", "min_reply_length" | "max_reply_length") => {
                let key = if keyword.starts_with("min") { "min_reply" } else { "max_reply" };
                values.integer(0..=u16::MAX).map(|bytes| (key, bytes.min(DATAGRAM_MAX).to_string()))
            }
            ("file", "track_file") => values.required("the name of a track_file").and_then(|name| {
                let Some(file) = files.get(name) else {
                    let wrong = format!("there is no track_file {name}");
                    let holds =
                        "keepalived ignores the line, for only one that is defined before can be checked";
                    values.ignored(wrong, holds, "correct the name");
                    return None;
                };
                self.keys.push(("missing", file.missing.to_string()));
                if self.keys.iter().all(|(key, _)| *key != "factor") {
                    self.keys.push(("factor", factor(file.weight)));
                }
                Some(("path", quoted(&file.path)))
            }),
            ("file", "weight") => {
                weight_within(&mut values, FILE_WEIGHT).map(|weight| ("factor", factor(weight)))
            }
            _ => None,
        };
        self.keys.extend(key);
    }
}

/// A `host` of `SMTP_CHECK`.
fn host(statement: &Statement, place: &str, writer: &mut Writer) -> Host {
    let mut host = Host::default();
    walk(statement.statements(), Block("host"), place, writer, |statement, writer| {
        let mut values = Values::of(statement, place, writer);
        let key = match statement.keyword() {
            "connect_ip" => values.address().map(|address| ("address", quoted(&address.to_string()))),
            "connect_port" => values.integer(1..=u16::MAX).map(|l4_port| ("port", l4_port.to_string())),
            "bindto" => values.address().map(|address| ("from", quoted(&address.to_string()))),
            _ => {
                let said = time(&mut values, SECONDS_LEAST..=SECONDS_MAX, CHECK_TIMEOUT_MIN);
                host.timeout = said.or(host.timeout);
                None
            }
        };
        host.keys.extend(key);
    });
    host.keys = last_of_each(host.keys, |(key, _)| *key);
    host
}

/// How often a file's number counts.
fn factor(weight: Weight) -> String {
    (if weight.reverse { -weight.number } else { weight.number }).to_string()
}

fn url(statement: &Statement, place: &str, writer: &mut Writer) -> Vec<(&'static str, String)> {
    let mut keys: Vec<(&'static str, String)> = Vec::new();
    let mut flags = String::new();
    // As in PCRE, whose dot is no line feed.
    let mut off = "-s";
    let mut codes = Vec::new();
    walk(statement.statements(), Block("url"), place, writer, |statement, writer| {
        let mut values = Values::of(statement, place, writer);
        let key = match statement.keyword() {
            "path" => values.required("a path, such as /health").map(|path| {
                let asked = path_of(path);
                if asked != path {
                    let holds =
                        format!("{asked} is asked for, where keepalived sends what no server understands");
                    values.differs(format!("the path {}", printable(path, 60)), holds, "correct it");
                }
                ("path", quoted(&asked))
            }),
            "digest" if keys.iter().any(|(key, _)| *key == "digest") => {
                values.ignored("digest is said twice", "the first one holds", "remove one of the two");
                None
            }
            "digest" => {
                let holds = "it is an MD5 digest of 32 hexadecimal digits, as genhash prints it";
                let is_digest =
                    |word: &&str| word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
                values
                    .parse(holds, |word| Some(word).filter(is_digest).map(str::to_owned))
                    .map(|digest| ("digest", quoted(&digest)))
            }
            "virtualhost" => values.required("a host name").map(|host| ("host", quoted(host))),
            "regex" => values.quoted("a regular expression").map(|regex| ("answer_regex", regex)),
            "regex_no_match" => Some(("answer_without", "true".to_owned())),
            "regex_min_offset" => offset(&mut values).map(|bytes| ("answer_min", bytes)),
            "regex_max_offset" => offset(&mut values).map(|bytes| ("answer_max", bytes)),
            "regex_options" => {
                while let Some(word) = values.word() {
                    match word {
                        "caseless" => flags.push('i'),
                        "multiline" => flags.push('m'),
                        "dotall" => off = "",
                        "extended" => flags.push('x'),
                        // What they change is not whether there is a match.
                        "utf" | "ucp" | "ungreedy" | "no_auto_capture" | "no_auto_possess" => {}
                        "no_dotstar_anchor" | "no_start_optimize" | "use_offset_limit" => {}
                        _ => {
                            let holds =
                                "caseless, multiline, dotall, extended, ungreedy, utf and ucp are known";
                            let wrong = format!("{word} is no option of regular expressions");
                            let holds = format!("keepalived ignores it, for {holds}");
                            values.ignored(wrong, holds, "correct it, or remove it");
                        }
                    }
                }
                None
            }
            _ => {
                // Those of all lines count.
                while values.peek().is_some() {
                    codes.extend(values.parse("status codes such as 200 or 200-299", status));
                }
                None
            }
        };
        keys.extend(key);
    });
    keys.extend((!codes.is_empty()).then(|| ("status", status_ranges(&codes))));
    let mut keys = last_of_each(keys, |(key, _)| *key);
    if keys.iter().all(|(key, _)| *key != "answer_regex") {
        let all = keys.len();
        keys.retain(|(key, _)| !key.starts_with("answer_"));
        if keys.len() < all {
            let fault = Fault::new(
                "regex_min_offset, regex_max_offset or regex_no_match without regex",
                "keepalived ignores it",
                "add regex, or remove it",
            );
            writer.ignored(statement.origin(), place, fault);
        }
    }
    for (key, value) in &mut keys {
        if *key == "answer_regex" {
            let flags = format!("{flags}{off}");
            let flags = if flags.is_empty() { flags } else { format!("(?{flags})") };
            *value = quoted(&format!("{flags}{value}"));
        }
    }
    keys
}

/// A URL of which a digest and a regular expression are demanded is asked for twice: a check demands one thing.
fn demands(keys: Vec<(&'static str, String)>) -> Vec<Vec<(&'static str, String)>> {
    let has = |key: &str| keys.iter().any(|(known, _)| *known == key);
    if !(has("digest") && has("answer_regex")) {
        return vec![keys];
    }
    let without = |prefix: &str| keys.iter().filter(|(key, _)| !key.starts_with(prefix)).cloned().collect();
    vec![without("answer_"), without("digest")]
}

/// Where a match begins or ends: 0 where keepalived cannot read it.
fn offset(values: &mut Values<'_, '_>) -> Option<String> {
    let word = values.word();
    let said = word.filter(|_| values.peek().is_none()).and_then(|word| word.parse::<u64>().ok());
    let Some(said) = said else {
        let wrong = format!("{} is no number", values.keyword());
        values.ignored(wrong, "keepalived complains, and takes 0", "correct it, or remove it");
        return Some("0".to_owned());
    };
    let most = ANSWER_MAX as u64;
    if said > most {
        let holds = format!("it is {most}, the most that is looked at");
        values.differs(format!("{} {said}", values.keyword()), holds, "nothing needs to be done");
    }
    Some(said.min(most).to_string())
}

/// A path that can be asked for: it begins with `/` and has no blanks.
fn path_of(path: &str) -> String {
    let mut asked = String::from(if path.starts_with('/') { "" } else { "/" });
    for byte in path.bytes() {
        if byte.is_ascii_graphic() {
            asked.push(char::from(byte));
        } else {
            asked += &format!("%{byte:02X}");
        }
    }
    asked
}

/// A status code, or a range of them: first and last.
fn status(word: &str) -> Option<(u16, u16)> {
    let code = |text: &str| text.parse::<u16>().ok().filter(|code| (100..=599).contains(code));
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let range = (code(first)?, code(last)?);
    (range.0 <= range.1).then_some(range)
}

/// Ranges of status codes as TOML has them, each code once.
fn status_ranges(ranges: &[(u16, u16)]) -> String {
    let codes: BTreeSet<u16> = ranges.iter().flat_map(|(first, last)| *first..=*last).collect();
    let mut joined: Vec<(u16, u16)> = Vec::new();
    for code in codes {
        match joined.last_mut() {
            Some((_, last)) if *last + 1 == code => *last = code,
            _ => joined.push((code, code)),
        }
    }
    let word = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => quoted(&format!("{first}-{last}")),
    };
    format!("[{}]", joined.iter().map(word).collect::<Vec<_>>().join(", "))
}

/// keepalived's free form of bytes: groups of digits, each of whole bytes but for the last digit of an odd group.
fn groups(text: &str, digit: impl Fn(char) -> bool) -> Option<Vec<(char, char)>> {
    let mut bytes = Vec::new();
    for group in text.split_whitespace() {
        let digits: Vec<char> = group.chars().collect();
        if !digits.iter().all(|c| digit(*c)) {
            return None;
        }
        for pair in digits.chunks(2) {
            bytes.push(if let [high, low] = pair { (*high, *low) } else { ('0', pair[0]) });
        }
    }
    // keepalived 2.2.7 takes a last byte of ff for a digit that it does not know.
    let is_taken =
        |(high, low): &(char, char)| !(high.eq_ignore_ascii_case(&'f') && low.eq_ignore_ascii_case(&'f'));
    bytes.last().is_some_and(is_taken).then_some(bytes)
}

fn bytes(text: &str) -> Option<String> {
    let bytes = groups(text, |c| c.is_ascii_hexdigit())?;
    Some(bytes.iter().flat_map(|(high, low)| [*high, *low]).collect())
}

/// The beginning of an answer as a regular expression of bytes. keepalived compares as many of them as the answer has.
fn reply(text: &str) -> Option<String> {
    let any = |c: char| c == 'x' || c == 'X';
    let bytes = groups(text, |c| c.is_ascii_hexdigit() || any(c))?;
    let one = |&(high, low): &(char, char)| match (any(high), any(low)) {
        (false, false) => format!("\\x{high}{low}"),
        (true, true) => ".".to_owned(),
        (false, true) => format!("[\\x{high}0-\\x{high}f]"),
        (true, false) => {
            let all = "0123456789abcdef".chars().map(|high| format!("\\x{high}{low}"));
            format!("[{}]", all.collect::<String>())
        }
    };
    let all: Vec<String> = bytes.iter().map(one).collect();
    if all.len() > REPLY_MAX {
        return Some(format!("(?s-u)^{}", all.concat()));
    }
    let (parts, ends) = (all.join("(?:\\z|"), ")".repeat(all.len()));
    Some(format!("(?s-u)^(?:\\z|{parts}{ends}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_model::health::kind::Pattern;

    #[test]
    fn a_host_header_is_whom_the_check_asks() {
        for (real, keys, host) in [
            ("10.1.0.11:80", &[][..], "10.1.0.11"),
            ("10.1.0.11:443", &[], "10.1.0.11:443"),
            ("10.1.0.11:0", &[], "10.1.0.11"),
            ("10.1.0.11:80", &[("port", "82")], "10.1.0.11:82"),
            ("10.1.0.11:82", &[("address", "\"10.1.0.12\""), ("port", "80")], "10.1.0.12"),
            ("[2001:db8::1]:80", &[], "[2001:db8::1]"),
            ("[2001:db8::1]:8080", &[], "[2001:db8::1]:8080"),
        ] {
            let keys = keys.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
            let reader = Reader { keys, ..Reader::of(real.parse().unwrap(), Common::default()) };
            assert_eq!(reader.asked(), host);
        }
    }

    #[test]
    fn bytes_in_their_free_form() {
        assert_eq!(bytes("Ab12f 3 456").as_deref(), Some("Ab120f034506"));
        assert_eq!(bytes("zz"), None);
        assert_eq!(reply("0a xx 4x").as_deref(), Some("(?s-u)^(?:\\z|\\x0a(?:\\z|.(?:\\z|[\\x40-\\x4f])))"));
        let found = |bytes: &[u8]| Pattern::regex(&reply("0a xx 4x").unwrap()).unwrap().is_in(bytes);
        for good in [&b""[..], b"\n", b"\nxA", b"\nxAyz"] {
            assert!(found(good), "{good:?}");
        }
        for bad in [&b"x"[..], b"\nxx", b"x\nxA"] {
            assert!(!found(bad), "{bad:?}");
        }
    }
}

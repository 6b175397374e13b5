//! `check` of a service or a real server: one table, or a list of them.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use shunt_model::fault::{At, Fault, Span};
use shunt_model::health::kind::{
    Body, CheckKind, Compare, Http, Pattern, Process as Processes, QueryType, Search, Tls, Udp,
};
use shunt_model::limit;
use toml::de::{DeTable, DeValue};

use super::service::within;
use super::{Placed, Section, required};
use crate::problem::Findings;

/// A health check as written.
#[derive(Debug)]
pub struct CheckDocument {
    /// Where it begins.
    pub at: Span,
    /// `kind`, and what only this kind is told.
    pub kind: Option<CheckKind>,
    /// `way`: true by the service's, to the VIP by the real server's forwarding method; false to the real server's own address.
    pub by_service: Option<At<bool>>,
    /// `address`, whom to ask.
    pub address: Option<At<IpAddr>>,
    /// `port`.
    pub l4_port: Option<At<u16>>,
    /// `from`, where it comes from.
    pub from: Option<At<SocketAddr>>,
    /// `interval`.
    pub interval: Option<At<Duration>>,
    /// `timeout`.
    pub timeout: Option<At<Duration>>,
    /// `retry_interval`.
    pub retry_interval: Option<At<Duration>>,
    /// `warmup`.
    pub warmup: Option<At<Duration>>,
    /// `fall`.
    pub fall: Option<At<u8>>,
    /// `rise`.
    pub rise: Option<At<u8>>,
    /// `reentry`.
    pub reentry: Option<At<Duration>>,
    /// `alpha`.
    pub alpha: Option<At<bool>>,
}

/// The words of `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Tcp,
    Http,
    Https,
    Smtp,
    Dns,
    Ping,
    Udp,
    Script,
    Send,
    File,
    Process,
}

use Word::{Dns, File, Https, Ping, Process, Script, Send, Smtp, Tcp};

const WORDS: &[(&str, Word)] = &[
    ("tcp", Tcp),
    ("http", Word::Http),
    ("https", Https),
    ("smtp", Smtp),
    ("dns", Dns),
    ("ping", Ping),
    ("udp", Word::Udp),
    ("script", Script),
    ("send", Send),
    ("file", File),
    ("process", Process),
];
const EVERY: &[&str] = &[
    "kind",
    "way",
    "address",
    "from",
    "interval",
    "timeout",
    "retry_interval",
    "warmup",
    "fall",
    "rise",
    "reentry",
    "alpha",
];
/// The words of `way`.
const WAYS: &[(&str, bool)] = &[("real", false), ("service", true)];
const WEB: &[Word] = &[Word::Http, Https];
/// Keys that only some kinds have.
const SOME: &[(&str, &[Word])] = &[
    ("port", &[Tcp, Word::Http, Https, Smtp, Dns, Word::Udp, Send]),
    ("path", &[Word::Http, Https, File]),
    ("host", WEB),
    ("status", WEB),
    ("digest", WEB),
    ("body", WEB),
    ("body_regex", WEB),
    ("answer_regex", WEB),
    ("answer_min", WEB),
    ("answer_max", WEB),
    ("answer_without", WEB),
    ("name", &[Https, Dns]),
    ("verify", &[Https]),
    ("ca", &[Https]),
    ("helo", &[Smtp]),
    ("type", &[Dns]),
    ("payload", &[Word::Udp]),
    ("payload_hex", &[Word::Udp]),
    ("require_reply", &[Word::Udp]),
    ("min_reply", &[Word::Udp]),
    ("max_reply", &[Word::Udp]),
    ("expect", &[Word::Udp, Send]),
    ("expect_regex", &[Word::Udp, Send]),
    ("send", &[Send]),
    ("command", &[Script]),
    ("dynamic", &[Script]),
    ("user", &[Script]),
    ("factor", &[File]),
    ("missing", &[File]),
    ("process", &[Process]),
    ("compare", &[Process]),
    ("quorum", &[Process]),
    ("quorum_max", &[Process]),
];

type Reading<'s, 'a, 'i, 'f, 't> = &'s mut Section<'a, 'i, 'f, 't>;

/// All checks under `check`; none when the key is not there.
pub(super) fn read(section: Reading<'_, '_, '_, '_, '_>) -> Option<Vec<CheckDocument>> {
    let value = section.raw("check")?;
    let tables: Vec<Placed<'_, '_>> = match value.get_ref() {
        DeValue::Array(_) => section.tables("check"),
        _ => section.table("check").into_iter().collect(),
    };
    let several = tables.len() > 1;
    let service = section.place().to_owned();
    let read = tables.into_iter().enumerate().map(|(number, (at, table))| {
        let place =
            if several { format!("{service}, check {}", number + 1) } else { format!("{service}, check") };
        CheckDocument::read(section.findings(), table, at, &place)
    });
    Some(read.collect())
}

impl CheckDocument {
    pub(super) fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: Span, place: &str) -> Self {
        let word = table.get("kind").and_then(|kind| kind.get_ref().as_str());
        let known_word =
            word.and_then(|word| WORDS.iter().find(|(other, _)| *other == word)).map(|(_, word)| *word);
        let of_kind = |&(key, kinds): &(&'static str, &[Word])| {
            // Of an unknown kind nobody knows the keys.
            known_word.is_none_or(|word| kinds.contains(&word) || table.contains_key(key)).then_some(key)
        };
        let keys: Vec<&str> = EVERY.iter().copied().chain(SOME.iter().filter_map(of_kind)).collect();
        let mut section = Section::new(findings, place, table, &at, &keys, &[]);
        let word = section.word("kind", WORDS, &[]).map(|word| word.value);
        if !section.has("kind") {
            let kinds = WORDS.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            let holds = format!("a check is of kind {kinds}");
            section.missing(required("kind", &holds, "kind = \"tcp\""));
        }
        if let Some(word) = word {
            refuse_others(&mut section, word);
        }
        let time = |section: Reading<'_, '_, '_, '_, '_>, key: &'static str, least, most| {
            section.parse(key, |text| within(key, text, least, most))
        };
        let (interval_min, interval_max) = (limit::CHECK_INTERVAL_MIN, limit::CHECK_INTERVAL_MAX);
        let timeout_min = limit::CHECK_TIMEOUT_MIN;
        Self {
            kind: word.and_then(|word| kind(&mut section, word)),
            by_service: section.word("way", WAYS, &[]),
            address: section.parse("address", address),
            l4_port: section.integer("port", 0..=u16::MAX, "(a TCP or UDP port)"),
            from: section.parse("from", from),
            interval: time(&mut section, "interval", interval_min, interval_max),
            timeout: time(&mut section, "timeout", timeout_min, interval_max),
            retry_interval: time(&mut section, "retry_interval", timeout_min, interval_max),
            warmup: time(&mut section, "warmup", Duration::ZERO, interval_max),
            fall: section.integer("fall", 1..=limit::CHECK_COUNT_MAX, "failures in a row"),
            rise: section.integer("rise", 1..=limit::CHECK_COUNT_MAX, "successes in a row"),
            reentry: time(&mut section, "reentry", Duration::ZERO, limit::CHECK_HOLD_MAX),
            alpha: section.boolean("alpha"),
            at,
        }
    }
}

/// Keys of other kinds say so, rather than that nobody knows them.
fn refuse_others(section: Reading<'_, '_, '_, '_, '_>, word: Word) {
    let name = |word: Word| WORDS.iter().find(|(_, other)| *other == word).map_or("", |(name, _)| *name);
    for (key, kinds) in SOME.iter().filter(|(_, kinds)| !kinds.contains(&word)) {
        let Some(value) = section.raw(key) else { continue };
        let others = kinds.iter().map(|kind| name(*kind)).collect::<Vec<_>>().join(", ");
        let fault = Fault::new(
            format!("a check of kind {} has no {key}", name(word)),
            format!("{key} is for {others}"),
            "remove it, or choose another kind",
        );
        section.error(&value.span(), fault);
    }
}

fn kind(section: Reading<'_, '_, '_, '_, '_>, word: Word) -> Option<CheckKind> {
    Some(match word {
        Tcp => CheckKind::Tcp,
        Ping => CheckKind::Ping,
        Word::Http => CheckKind::Http(http(section, false)),
        Https => CheckKind::Http(http(section, true)),
        Smtp => CheckKind::Smtp { helo: section.parse("helo", host_header).map(|helo| helo.value) },
        Dns => CheckKind::Dns {
            name: section.parse("name", dns_name).map(|name| name.value).unwrap_or_default(),
            query: section.parse("type", query_type).map_or(QueryType(6), |query| query.value),
        },
        Word::Udp => CheckKind::Udp(udp(section)),
        Script => {
            let command = super::script::command(section, "command");
            if !section.has("command") {
                let example = "command = [\"/usr/local/bin/check\", \"argument\"]";
                section.missing(required("command", "a script is a command", example));
            }
            let dynamic = section.boolean("dynamic").is_some_and(|dynamic| dynamic.value);
            let user = super::script::user(section);
            let script = shunt_model::script::Script { command, user };
            if let Some(at) = section.raw("command").map(toml::Spanned::span) {
                let place = section.place().to_owned();
                section.findings().note_script(&place, &at, &script);
            }
            CheckKind::Script { script, dynamic }
        }
        Send => {
            let expect = pattern(section, "expect", "expect_regex");
            if expect.is_none() && !section.has("expect") && !section.has("expect_regex") {
                let holds = "a server is good when it says something";
                section.missing(required("expect", holds, "expect = \"220\", or expect_regex"));
            }
            let send = section.parse("send", text).map(|send| send.value).unwrap_or_default();
            CheckKind::Send { send: shunt_model::secret::Secret::new(send), expect: expect? }
        }
        File => {
            let path = section.parse("path", file_path).map(|path| path.value);
            if !section.has("path") {
                section.missing(required("path", "a file has a path", "path = \"/run/web.state\""));
            }
            let factor = section.integer("factor", -limit::FACTOR_MAX..=limit::FACTOR_MAX, "times");
            let missing =
                section.integer("missing", i64::from(i32::MIN)..=i64::from(i32::MAX), "where it is missing");
            CheckKind::File {
                path: path?,
                factor: factor.map(|factor| factor.value),
                missing: missing.map(|missing| missing.value),
            }
        }
        Process => {
            let command: Vec<String> = section
                .parse_list("process", super::script::word)
                .into_iter()
                .map(|word| word.value)
                .collect();
            if command.is_empty() {
                let holds = "a check of processes names their program, and arguments if they matter";
                section.missing(required("process", holds, "process = \"haproxy\""));
            }
            let default = if command.len() > 1 { Compare::Command } else { Compare::Name };
            let least: Option<At<u32>> = section.integer("quorum", 0..=limit::QUORUM_MAX, "processes");
            let most: Option<At<u32>> = section.integer("quorum_max", 0..=limit::QUORUM_MAX, "processes");
            let quorum_max = most.as_ref().map(|most| most.value);
            let quorum = least.map_or(1.min(quorum_max.unwrap_or(1)), |least| least.value);
            if let Some(most) = most.filter(|most| most.value < quorum) {
                let holds = format!("at least {quorum} are wanted");
                section.error(
                    &most.at,
                    Fault::new("quorum_max below quorum", holds, "raise it, or lower quorum"),
                );
            }
            CheckKind::Process(Processes {
                command,
                compare: section.word("compare", Compare::WORDS, &[]).map_or(default, |word| word.value),
                quorum,
                quorum_max,
            })
        }
    })
}

fn http(section: Reading<'_, '_, '_, '_, '_>, secure: bool) -> Http {
    let body = pattern(section, "body", "body_regex").map(Body::Matches);
    let answer = search(section).map(Body::Answer);
    let digest = section.parse("digest", digest).map(|digest| Body::Digest(digest.value));
    for (key, is_further) in
        [("answer_regex", body.is_some()), ("digest", body.is_some() || answer.is_some())]
    {
        if let (true, Some(value)) = (is_further, section.raw(key)) {
            let holds = "an answer is known by the digest of its body, or by something in it";
            section
                .error(&value.span(), Fault::new("two demands on the answer", holds, "remove one of them"));
        }
    }
    let tls = secure.then(|| {
        let ca = section.parse("ca", file_path);
        let verify = section.boolean("verify");
        if let (Some(_), Some(no)) = (&ca, verify.as_ref().filter(|verify| !verify.value)) {
            let holds = "ca names the authorities that certificates are verified by";
            section.error(&no.at.clone(), Fault::new("ca without verify", holds, "remove one of the two"));
        }
        Tls {
            name: section.parse("name", host_header).map(|name| name.value),
            verify: ca.is_some() || verify.is_some_and(|verify| verify.value),
            ca: ca.map(|ca| ca.value),
        }
    });
    Http {
        path: section.parse("path", path).map_or_else(|| "/".to_owned(), |path| path.value),
        host: section.parse("host", host_header).map(|host| host.value),
        status: status(section).unwrap_or_else(|| vec![200..=299]),
        body: digest.or(answer).or(body),
        tls,
    }
}

fn udp(section: Reading<'_, '_, '_, '_, '_>) -> Udp {
    let text = section.parse("payload", text).map(|payload| payload.value.into_bytes());
    let hex = section.parse("payload_hex", bytes).map(|payload| payload.value);
    if let (Some(_), Some(value)) = (&text, section.raw("payload_hex")) {
        let holds = "payload is text, payload_hex the same in hexadecimal digits";
        section.error(&value.span(), Fault::new("two payloads", holds, "remove one of them"));
    }
    let expect = pattern(section, "expect", "expect_regex");
    let unit = "bytes of an answer";
    let min_reply = section.integer("min_reply", 0..=limit::REPLY_MAX, unit);
    let max_reply = section.integer("max_reply", 0..=limit::REPLY_MAX, unit);
    let asked = expect.is_some() || min_reply.is_some() || max_reply.is_some();
    let require_reply = section.boolean("require_reply");
    if let Some(no) = require_reply.as_ref().filter(|require| !require.value && asked) {
        let holds = "expect, min_reply and max_reply need an answer";
        section.error(&no.at.clone(), Fault::new("no answer is required", holds, "remove require_reply"));
    }
    Udp {
        payload: hex.or(text).unwrap_or_default(),
        require_reply: require_reply.is_some_and(|require| require.value) || asked,
        expect,
        min_reply: min_reply.map_or(0, |length| length.value),
        max_reply: max_reply.map_or(limit::REPLY_MAX, |length| length.value),
    }
}

/// A text to be found, as it is or as a regular expression.
fn pattern(section: Reading<'_, '_, '_, '_, '_>, literal: &str, regex: &str) -> Option<Pattern> {
    let text = section.parse(literal, |text| {
        if text.is_empty() {
            let fault =
                Fault::new("an empty text", "everything has that", "name what is to be found, or remove it");
            return Err(fault);
        }
        Ok(Pattern::literal(text))
    });
    let expression = section.parse(regex, expression);
    if let (Some(_), Some(value)) = (&text, section.raw(regex)) {
        let holds = format!("{literal} is text, {regex} a regular expression");
        section.error(&value.span(), Fault::new("two texts to be found", holds, "remove one of them"));
    }
    expression.or(text).map(|pattern| pattern.value)
}

/// What a whole answer has to have, or must not have.
fn search(section: Reading<'_, '_, '_, '_, '_>) -> Option<Search> {
    let pattern = section.parse("answer_regex", expression);
    let unit = "bytes before it";
    let first = section.integer("answer_min", 0..=limit::ANSWER_MAX, unit);
    let last = section.integer("answer_max", 0..=limit::ANSWER_MAX, unit);
    let without = section.boolean("answer_without");
    if section.raw("answer_regex").is_none() {
        for key in ["answer_min", "answer_max", "answer_without"] {
            if let Some(value) = section.raw(key) {
                let wrong = format!("{key} without answer_regex");
                let holds = "it says more of what is searched for";
                section.error(&value.span(), Fault::new(wrong, holds, "add answer_regex, or remove it"));
            }
        }
    }
    if let (Some(first), Some(last)) = (&first, &last) {
        if last.value < first.value {
            let holds = format!("answer_min is {}", first.value);
            section.error(&last.at.clone(), Fault::new("it begins nowhere", holds, "raise answer_max"));
        }
    }
    let bytes = |value: At<u32>| value.value as usize;
    Some(Search {
        pattern: pattern?.value,
        begins: first.map_or(0, bytes)..=last.map_or(usize::MAX, bytes),
        without: without.is_some_and(|without| without.value),
    })
}

fn expression(text: &str) -> Result<Pattern, Fault> {
    Pattern::regex(text).map_err(|wrong| {
        let holds = format!("it is not understood: {wrong}");
        Fault::new("not a regular expression", holds, "see https://docs.rs/regex#syntax")
    })
}

fn address(text: &str) -> Result<IpAddr, Fault> {
    let address = text.parse().map_err(|_| {
        Fault::new("not an address", "whom to ask, such as \"192.0.2.21\"; the port is port's", "write one")
    })?;
    super::nic::host(address)
}

fn from(text: &str) -> Result<SocketAddr, Fault> {
    let parsed = text.parse().or_else(|_| text.parse().map(|address| SocketAddr::new(address, 0)));
    parsed.map_err(|_| {
        let holds = "an own address with or without a port, such as \"192.0.2.2\" or \"[2001:db8::2]:5000\"";
        Fault::new("not where a check can come from", holds, "write one of those")
    })
}

fn text(text: &str) -> Result<String, Fault> {
    if text.len() <= limit::TEXT_MAX {
        return Ok(text.to_owned());
    }
    let holds = format!("at most {} bytes", limit::TEXT_MAX);
    Err(Fault::new("a text that is too long", holds, "shorten it"))
}

/// Hexadecimal digits, in pairs; blanks between them do not matter.
fn bytes(text: &str) -> Result<Vec<u8>, Fault> {
    let fault = || Fault::new("not bytes", "pairs of hexadecimal digits, such as \"00ff 7e\"", "write it so");
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if digits.len() % 2 != 0 || digits.len() > 2 * limit::TEXT_MAX {
        return Err(fault());
    }
    let pair = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok().filter(|text| !text.starts_with('+'))?;
        u8::from_str_radix(text, 16).ok()
    };
    digits.chunks(2).map(|digits| pair(digits).ok_or_else(fault)).collect()
}

fn digest(text: &str) -> Result<[u8; 16], Fault> {
    bytes(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        Fault::new("not a digest", "an MD5 of 32 hexadecimal digits, as genhash prints it", "write one")
    })
}

/// A name for DNS (RFC 1035, 2.3.4); underscores are common.
fn dns_name(text: &str) -> Result<String, Fault> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..64).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
    };
    if name.is_empty() || name.len() <= 253 && name.split('.').all(label) {
        return Ok(name.to_owned());
    }
    let holds = "a name such as \"www.example.org\", or \".\" for the root";
    Err(Fault::new("not a name of the DNS", holds, "write one"))
}

fn query_type(text: &str) -> Result<QueryType, Fault> {
    let word = text.to_ascii_uppercase();
    let number = word.strip_prefix("TYPE").unwrap_or(&word).parse().ok().map(QueryType);
    let known = QueryType::WORDS.iter().find(|(other, _)| *other == word).map(|(_, query)| *query);
    known.or(number).ok_or_else(|| {
        let words = QueryType::WORDS.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        Fault::new("unknown type", format!("type is one of {words}, or TYPE and a number"), "choose one")
    })
}

fn file_path(text: &str) -> Result<PathBuf, Fault> {
    if text.starts_with('/') && !text.contains('\0') {
        return Ok(PathBuf::from(text));
    }
    Err(Fault::new("not a path", "a path from the root, with a / in front", "write it so"))
}

/// A path for HTTP (RFC 9112, 3.2.1).
fn path(text: &str) -> Result<String, Fault> {
    if text.starts_with('/') && text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    let holds = "a path starts with / and has at most 1024 visible ASCII characters";
    Err(Fault::new("not a path", holds, "write one such as \"/health\""))
}

/// A Host header (RFC 9110, 7.2).
fn host_header(text: &str) -> Result<String, Fault> {
    if (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
        return Ok(text.to_owned());
    }
    Err(Fault::new(
        "not a host",
        "a host name with or without a port",
        "write one such as \"www.example.org\"",
    ))
}

/// `status`: a number, a range such as `"200-299"`, or a list of them.
fn status(section: Reading<'_, '_, '_, '_, '_>) -> Option<Vec<RangeInclusive<u16>>> {
    let value = section.raw("status")?;
    let (bounds, unit) = (100..=599_u16, "(a status code of HTTP)");
    let list = match value.get_ref() {
        DeValue::Array(list) => list.iter().collect(),
        _ => vec![value],
    };
    if list.is_empty() {
        let holds = "without status every answer from 200 to 299 is good";
        section.error(&value.span(), Fault::new("no status", holds, "remove status, or name one"));
    }
    let mut ranges = Vec::new();
    for item in list {
        match item.get_ref() {
            DeValue::String(text) => match range(text) {
                Ok(range) => ranges.push(range),
                Err(fault) => section.error(&item.span(), fault),
            },
            _ => {
                let number = section.integer_at("status", item, bounds.clone(), unit);
                ranges.extend(number.map(|number| number..=number));
            }
        }
    }
    Some(ranges)
}

fn range(text: &str) -> Result<RangeInclusive<u16>, Fault> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) if 100 <= first && first <= last && last <= 599 => Ok(first..=last),
        _ => Err(Fault::new(
            "not a range of status codes",
            "such as \"200-299\", from 100 to 599",
            "write it so",
        )),
    }
}

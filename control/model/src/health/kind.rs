//! What a health check asks, as configured and as carried out.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use regex::bytes::{Regex, RegexBuilder};

use super::Failure;
use crate::script::Script;
use crate::secret::{Secret, masked};

/// The most that a compiled pattern takes, in bytes.
const PATTERN_MAX: usize = 1 << 20;

/// The longest character in UTF-8, in bytes: a regular expression may look at the one behind it (`$`, `\b`).
const CHARACTER_MAX: usize = 4;

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A TCP connection opens (keepalived: `TCP_CHECK`).
    Tcp,
    /// HTTP/1.1 GET, by TLS or without (keepalived: `HTTP_GET`, `SSL_GET`).
    Http(Http),
    /// A mail server greets, takes HELO and says goodbye (keepalived: `SMTP_CHECK`).
    Smtp {
        /// The name said with HELO; none for the address that the check comes from.
        helo: Option<String>,
    },
    /// A DNS server answers a query over UDP without an error (keepalived: `DNS_CHECK`).
    Dns {
        /// What is asked for, without the last dot.
        name: String,
        /// The type that is asked for.
        query: QueryType,
    },
    /// An ICMP echo is answered (keepalived: `PING_CHECK`).
    Ping,
    /// A datagram is not refused, or is answered (keepalived: `UDP_CHECK`).
    Udp(Udp),
    /// A command ends well (keepalived: `MISC_CHECK`).
    Script {
        /// The command and its arguments, and who runs it.
        script: Script,
        /// Exit codes from 2 to 255 give the weight, each 2 above it (keepalived: `misc_dynamic`).
        dynamic: bool,
    },
    /// A server says what it should, asked or unasked (Piranha: `send`, `expect`).
    Send {
        /// What is sent when the connection is open; may be empty.
        send: Secret<String>,
        /// What has to come.
        expect: Pattern,
    },
    /// A file says how it stands (keepalived: `FILE_CHECK`).
    File {
        /// Its absolute path.
        path: PathBuf,
        /// With it the file's number, so many times, is added to the weight or the priority (keepalived: `weight` of a
        /// `track_file`), and with a factor of 0 only the number 0 is good; without it the number is the weight.
        factor: Option<i32>,
        /// The number where there is no file; none: that is a failure.
        missing: Option<i64>,
    },
    /// As many processes run as should (keepalived: `vrrp_track_process`).
    Process(Process),
}

/// Which processes are counted, and how many there should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The program, and arguments if they matter.
    pub command: Vec<String>,
    /// What of a process is compared with it.
    pub compare: Compare,
    /// The least of them.
    pub quorum: u32,
    /// The most of them; none: any number.
    pub quorum_max: Option<u32>,
}

impl Process {
    /// How many there should be, in words.
    #[must_use]
    pub fn wanted(&self) -> String {
        match (self.quorum, self.quorum_max) {
            (least, None) => format!("{least} or more"),
            (_, Some(0)) => "none".to_owned(),
            (least, Some(most)) => format!("{least} to {most}"),
        }
    }
}

/// What of a process is compared (keepalived: `param_match`, `full_command`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Its name as the kernel has it, cut after 15 bytes.
    Name,
    /// Its whole command line.
    Command,
    /// The beginning of its command line, argument by argument.
    First,
    /// The beginning of its command line, where the last argument may go on.
    Beginning,
}

impl Compare {
    /// The words of the configuration.
    pub const WORDS: &[(&str, Self)] = &[
        ("name", Self::Name),
        ("command", Self::Command),
        ("first", Self::First),
        ("beginning", Self::Beginning),
    ];
}

/// An HTTP check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The path, with its query if any.
    pub path: String,
    /// The Host header; none for the VIP.
    pub host: Option<String>,
    /// Status codes that mean success.
    pub status: Vec<RangeInclusive<u16>>,
    /// What has to be in it.
    pub body: Option<Body>,
    /// TLS.
    pub tls: Option<Tls>,
}

/// What an HTTP answer has to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A body of this MD5 (keepalived: what `genhash` prints).
    Digest([u8; 16]),
    /// This somewhere in its body.
    Matches(Pattern),
    /// This in its head, its body, or across both (keepalived: `regex`).
    Answer(Search),
}

/// What is searched for in a whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// What.
    pub pattern: Pattern,
    /// Where it begins, in bytes (keepalived: `regex_min_offset`, `regex_max_offset`).
    pub begins: RangeInclusive<usize>,
    /// Whether it must not be there (keepalived: `regex_no_match`).
    pub without: bool,
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{} in head or body", if self.without { "no " } else { "" }, self.pattern)?;
        match (*self.begins.start(), *self.begins.end()) {
            (0, usize::MAX) => Ok(()),
            (first, usize::MAX) => write!(f, " from byte {first}"),
            (first, last) => write!(f, " from byte {first} to {last}"),
        }
    }
}

/// How TLS is spoken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tls {
    /// The name that is asked for (SNI) and that the certificate has to have; none for the Host header's name.
    pub name: Option<String>,
    /// Whether the certificate has to be valid.
    pub verify: bool,
    /// The file of the authorities that count; none for those of the system.
    pub ca: Option<PathBuf>,
}

/// A UDP check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Udp {
    /// What is sent.
    pub payload: Vec<u8>,
    /// True when an answer has to come; else silence is as good, and only ICMP unreachable is a failure.
    pub require_reply: bool,
    /// What the answer has to have somewhere.
    pub expect: Option<Pattern>,
    /// The least bytes of an answer.
    pub min_reply: u16,
    /// The most bytes of an answer.
    pub max_reply: u16,
}

/// A text to be found in what comes: as it is, or a regular expression.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Option<Regex>,
}

impl Pattern {
    /// This text.
    pub fn literal(text: impl Into<String>) -> Self {
        Self { text: text.into(), regex: None }
    }

    /// A regular expression; `.` matches a line feed as well, since what comes may be anything.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn regex(text: &str) -> Result<Self, String> {
        let regex = RegexBuilder::new(text).dot_matches_new_line(true).size_limit(PATTERN_MAX).build();
        let regex = regex.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("it takes more than {PATTERN_MAX} bytes"),
            other => {
                let text = other.to_string();
                let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
                last.trim().trim_start_matches("error: ").to_owned()
            }
        })?;
        Ok(Self { text: text.to_owned(), regex: Some(regex) })
    }

    /// True when the bytes have it somewhere.
    #[must_use]
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        match &self.regex {
            Some(regex) => regex.is_match(bytes),
            None => self.first_from(bytes, 0).is_some(),
        }
    }

    /// Whether one begins there or later, whatever comes behind these bytes.
    #[must_use]
    pub fn is_certain(&self, bytes: &[u8], from: usize) -> bool {
        match &self.regex {
            Some(regex) if from <= bytes.len() => {
                let end = regex.shortest_match_at(bytes, from);
                end.is_some_and(|end| end + CHARACTER_MAX <= bytes.len())
            }
            Some(_) => false,
            None => self.first_from(bytes, from).is_some(),
        }
    }

    /// Where the first one begins that does so there or later.
    #[must_use]
    pub fn first_from(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let rest = bytes.get(from..)?;
        match &self.regex {
            Some(regex) => regex.find_at(bytes, from).map(|found| found.start()),
            None if self.text.is_empty() => Some(from),
            None => {
                let mut windows = rest.windows(self.text.len());
                windows.position(|window| window == self.text.as_bytes()).map(|first| from + first)
            }
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.regex.is_some()) == (&other.text, other.regex.is_some())
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.regex.is_some() { write!(f, "/{}/", self.text) } else { write!(f, "{:?}", self.text) }
    }
}

/// The type of a DNS query (RFC 1035, 3.2.2, and later).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryType(pub u16);

impl QueryType {
    /// The types with a word; keepalived's are among them.
    pub const WORDS: &[(&str, Self)] = &[
        ("A", Self(1)),
        ("NS", Self(2)),
        ("CNAME", Self(5)),
        ("SOA", Self(6)),
        ("PTR", Self(12)),
        ("MX", Self(15)),
        ("TXT", Self(16)),
        ("AAAA", Self(28)),
        ("SRV", Self(33)),
        ("DNSKEY", Self(48)),
        ("HTTPS", Self(65)),
        ("ANY", Self(255)),
    ];
}

impl fmt::Display for QueryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::WORDS.iter().find(|(_, query)| query == self) {
            Some((word, _)) => f.write_str(word),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

impl CheckKind {
    /// Why it failed, in words, and which URL it was that failed.
    #[must_use]
    pub fn failure(&self, failure: &Failure) -> String {
        match self {
            Self::Http(http) if failure.is_an_answers() => {
                let host = http.host.as_deref().map(|host| format!(" of {host}")).unwrap_or_default();
                format!("GET {}{host}: {failure}", masked(&http.path))
            }
            _ => failure.to_string(),
        }
    }

    /// Whether it opens a connection first.
    #[must_use]
    pub const fn connects(&self) -> bool {
        matches!(self, Self::Tcp | Self::Http(_) | Self::Smtp { .. } | Self::Send { .. })
    }

    /// Its word in the configuration.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http(Http { tls: None, .. }) => "http",
            Self::Http(_) => "https",
            Self::Smtp { .. } => "smtp",
            Self::Dns { .. } => "dns",
            Self::Ping => "ping",
            Self::Udp(_) => "udp",
            Self::Script { .. } => "script",
            Self::Send { .. } => "send",
            Self::File { .. } => "file",
            Self::Process(_) => "process",
        }
    }

    /// True when a host is asked.
    #[must_use]
    pub const fn asks_a_host(&self) -> bool {
        !matches!(self, Self::Script { .. } | Self::File { .. } | Self::Process(_))
    }

    /// True when a port of the real server is asked.
    #[must_use]
    pub const fn asks_a_port(&self) -> bool {
        !matches!(self, Self::Ping | Self::Script { .. } | Self::File { .. } | Self::Process(_))
    }

    /// True when TCP is spoken.
    #[must_use]
    pub const fn speaks_tcp(&self) -> bool {
        matches!(self, Self::Tcp | Self::Http(_) | Self::Smtp { .. } | Self::Send { .. })
    }

    /// What a success is, in words.
    #[must_use]
    pub fn success(&self) -> String {
        match self {
            Self::Tcp => "connection opens".to_owned(),
            Self::Http(http) => format!("GET {} succeeds", masked(&http.path)),
            Self::Smtp { .. } => "mail server answers".to_owned(),
            Self::Dns { name, query } => format!("{query} of {name}. is answered"),
            Self::Ping => "echo is answered".to_owned(),
            Self::Udp(udp) if udp.require_reply => "datagram is answered".to_owned(),
            Self::Udp(_) => "datagram is not refused".to_owned(),
            Self::Script { .. } => "script succeeds".to_owned(),
            Self::Send { expect, .. } => format!("answer has {expect}"),
            Self::File { .. } => "file says up".to_owned(),
            Self::Process(process) => format!("{} runs", masked(&process.command.join(" "))),
        }
    }
}

/// What of a kind differs, for people: `http /health of www.example.org for 200-299`.
impl fmt::Display for CheckKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Self::Tcp | Self::Ping => Ok(()),
            Self::Http(http) => write!(f, " {http}"),
            Self::Smtp { helo } => helo.as_ref().map_or(Ok(()), |helo| write!(f, " HELO {helo}")),
            Self::Dns { name, query } => write!(f, " {query} of {name}."),
            Self::Udp(udp) => {
                write!(f, " of {} bytes", udp.payload.len())?;
                if udp.require_reply {
                    write!(f, ", answered by {} to {} bytes", udp.min_reply, udp.max_reply)?;
                }
                udp.expect.as_ref().map_or(Ok(()), |expect| write!(f, " with {expect}"))
            }
            Self::Script { script, dynamic } => {
                write!(f, " {script}{}", if *dynamic { ", dynamic" } else { "" })
            }
            Self::Send { send, expect } => write!(f, " {send}, expect {expect}"),
            Self::File { path, factor, missing } => {
                write!(f, " {}", path.display())?;
                factor.map_or(Ok(()), |factor| write!(f, " × {factor}"))?;
                missing.map_or(Ok(()), |number| write!(f, ", {number} where it is missing"))
            }
            Self::Process(process) => {
                let word = Compare::WORDS.iter().find(|(_, known)| *known == process.compare);
                let word = word.map_or("", |(word, _)| word);
                write!(f, " {} by {word}, {}", masked(&process.command.join(" ")), process.wanted())
            }
        }
    }
}

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.path))?;
        if let Some(host) = &self.host {
            write!(f, " of {host}")?;
        }
        if self.status != [200..=299] {
            write!(f, " for {}", ranges(&self.status))?;
        }
        match &self.body {
            None => {}
            Some(Body::Digest(digest)) => write!(f, " with digest {}", hex(digest))?,
            Some(Body::Matches(pattern)) => write!(f, " with {pattern}")?,
            Some(Body::Answer(search)) => write!(f, " with {search}")?,
        }
        let Some(tls) = &self.tls else { return Ok(()) };
        if let Some(name) = &tls.name {
            write!(f, " as {name}")?;
        }
        match &tls.ca {
            Some(ca) => write!(f, ", verified by {}", ca.display()),
            None if tls.verify => f.write_str(", verified"),
            None => Ok(()),
        }
    }
}

/// Ranges of status codes: `200-299, 401`.
#[must_use]
pub fn ranges(list: &[RangeInclusive<u16>]) -> String {
    let words = list.iter().map(|range| match (range.start(), range.end()) {
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start}-{end}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_found_anywhere() {
        let literal = Pattern::literal("a.c");
        assert!(literal.is_in(b"xa.cy") && !literal.is_in(b"abc") && !literal.is_in(b""));
        let regex = Pattern::regex("^HTTP/1.[01] 2..").unwrap();
        assert!(regex.is_in(b"HTTP/1.1 204 No Content\xff\r\n") && !regex.is_in(b"HTTP/1.1 404"));
        assert!(Pattern::regex("a.b").unwrap().is_in(b"a\nb"));
        assert_ne!(Pattern::literal("a.b"), Pattern::regex("a.b").unwrap());
        assert_eq!(Pattern::regex("a(").unwrap_err(), "unclosed group");
    }
}

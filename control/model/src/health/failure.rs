//! How a check ends.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::kind::{hex, ranges};
use super::lack::Lack;

/// A check that succeeded, and what it says about the weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Success {
    /// Nothing: the configured weight holds.
    #[default]
    Up,
    /// This is the weight.
    Weight(u32),
    /// So much is added to the weight.
    Shift(i32),
}

/// Why a check failed. Its words are what operators see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens on the port.
    Refused,
    /// The time was over before the connection was open.
    NoConnection(Duration),
    /// The time was over before the answer was there.
    NoAnswer(Duration),
    /// The connection could not be opened for another reason.
    Connect(String),
    /// The connection broke or was closed before the answer was there.
    Closed(String),
    /// TLS was not agreed upon, or the certificate is not good.
    Tls(String),
    /// What came is not an HTTP answer.
    NotHttp(String),
    /// The answer has another status.
    Status {
        /// Its status.
        got: u16,
        /// The status codes that would have been a success.
        wanted: Vec<RangeInclusive<u16>>,
    },
    /// The body has another MD5.
    Digest {
        /// That of the body.
        got: [u8; 16],
        /// That of a success.
        wanted: [u8; 16],
    },
    /// What came does not have what it should.
    Unexpected {
        /// What came, shortened.
        got: String,
        /// What it should have.
        wanted: String,
    },
    /// The answer is too short or too long.
    Length {
        /// Its bytes.
        got: usize,
        /// The bytes of a success.
        wanted: RangeInclusive<u16>,
    },
    /// What came is not a DNS answer to the query.
    NotDns(&'static str),
    /// The DNS server answers with an error (RFC 1035, 4.1.1; RFC 6895).
    Rcode(u8),
    /// Such a request cannot be made.
    Request(String),
    /// The script ended with this code.
    Exit(i32),
    /// The script was ended by this signal.
    Signal(i32),
    /// The script took too long and was killed.
    Killed(Duration),
    /// The script could not be run.
    NotRun(String),
    /// The file could not be read.
    Unreadable(String),
    /// The file, or the weight that it gives, says so.
    SaysDown,
    /// Too few processes run, or too many.
    Processes {
        /// How many run.
        running: u32,
        /// How many should, in words.
        wanted: String,
    },
    /// It failed at the VIP, by the service's way.
    AtVip {
        /// How it failed.
        failure: Box<Failure>,
        /// The address that was asked at.
        vip: IpAddr,
        /// The real server that was to have it.
        real: IpAddr,
        /// Whether packets to it travel in a tunnel.
        by_tunnel: bool,
        /// Whether the real server's own address answers a ping, where nothing came from the VIP.
        answers: Option<bool>,
    },
    /// The director lacked something: nothing is known of the real server.
    Lack(Lack),
    /// No check has been made yet, and the service begins without its real servers.
    NotYet,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::NoConnection(after) => write!(f, "timeout after {after:?}, no connection"),
            Self::NoAnswer(after) => write!(f, "timeout after {after:?}, no answer"),
            Self::Connect(error) => write!(f, "no connection: {error}"),
            Self::Closed(error) => write!(f, "connection lost before an answer: {error}"),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::NotHttp(error) => write!(f, "not an HTTP answer: {error}"),
            Self::Status { got, wanted } => write!(f, "HTTP status {got}, wanted {}", ranges(wanted)),
            Self::Digest { got, wanted } => {
                write!(f, "the body has the digest {}, wanted {}", hex(got), hex(wanted))
            }
            Self::Unexpected { got, wanted } => write!(f, "answer {got:?}, wanted {wanted}"),
            Self::Length { got, wanted } => {
                write!(f, "answer of {got} bytes, wanted {} to {}", wanted.start(), wanted.end())
            }
            Self::NotDns(wrong) => write!(f, "not a DNS answer: {wrong}"),
            Self::Rcode(code) => match RCODES.get(usize::from(*code)) {
                Some(word) => write!(f, "DNS error {word}"),
                None => write!(f, "DNS error {code}"),
            },
            Self::Request(error) => write!(f, "no such request can be made: {error}"),
            Self::Exit(code) => write!(f, "script ended with code {code}"),
            Self::Signal(signal) => write!(f, "script was ended by signal {signal}"),
            Self::Killed(after) => write!(f, "timeout after {after:?}, script killed"),
            Self::NotRun(error) => write!(f, "script cannot be run: {error}"),
            Self::Unreadable(error) => write!(f, "file cannot be read: {error}"),
            Self::SaysDown => f.write_str("file says down"),
            Self::Processes { running, wanted } => write!(f, "{running} processes run, wanted {wanted}"),
            Self::AtVip { failure, vip, real, by_tunnel, answers } => {
                let place = if *by_tunnel {
                    "on its tunnel interface or lo, rp_filter off"
                } else {
                    "on lo, without ARP"
                };
                let cure = format!("does it have the VIP ({place})?");
                let from = format!("does it have the VIP ({place}), and answer from there?");
                match (&**failure, answers) {
                    (_, Some(false)) => {
                        write!(f, "{failure} at the VIP {vip}; {real} does not answer a ping, either")
                    }
                    (Self::NoConnection(_), Some(true)) => {
                        write!(f, "{failure}: {real} answers a ping, but not at the VIP {vip}: {cure}")
                    }
                    (_, Some(true)) => {
                        write!(f, "{failure}: {real} answers a ping, but not at the VIP {vip}: {from}")
                    }
                    (Self::Connect(_) | Self::Closed(_), _) => {
                        write!(f, "{failure}: {real} does not take packets for the VIP {vip}: {cure}")
                    }
                    (Self::Refused, _) => {
                        write!(
                            f,
                            "{failure} at the VIP {vip}: does its server listen at that address, or at {real} alone?"
                        )
                    }
                    _ => write!(f, "{failure}, at the VIP {vip}"),
                }
            }
            Self::Lack(lack) => write!(f, "no verdict: {lack}"),
            Self::NotYet => f.write_str("not checked yet"),
        }
    }
}

impl Failure {
    /// What the director lacked, when that is why nothing is known.
    #[must_use]
    pub const fn lack(&self) -> Option<Lack> {
        match self {
            Self::Lack(lack) => Some(*lack),
            _ => None,
        }
    }

    /// True when it is what came, or did not come, of a server that was reached.
    #[must_use]
    pub fn is_an_answers(&self) -> bool {
        match self {
            Self::NoAnswer(_)
            | Self::Closed(_)
            | Self::NotHttp(_)
            | Self::Status { .. }
            | Self::Digest { .. }
            | Self::Unexpected { .. } => true,
            Self::AtVip { failure, .. } => failure.is_an_answers(),
            _ => false,
        }
    }

    /// True when it may be that nobody looked in time: the time was over, or the other end did not want to wait any longer.
    #[must_use]
    pub fn may_be_lateness(&self) -> bool {
        match self {
            Self::NoConnection(_) | Self::NoAnswer(_) | Self::Killed(_) | Self::Closed(_) => true,
            Self::AtVip { failure, .. } => failure.may_be_lateness(),
            _ => false,
        }
    }
}

impl std::error::Error for Failure {}

/// The words of DNS errors.
const RCODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
    "NOTAUTH", "NOTZONE",
];

//! Telling the world what happened: scripts, mail, a webhook, and whoever listens at the API.
//!
//! Whoever has something to tell calls [`Notifier::tell`], which never waits: a bounded queue leads to a thread of its own
//! in the host's network namespace, and what finds no room there is counted and lost. [`digest`] says when a mail is due
//! and [`order`] which script may run; both do no I/O and know no clock.

pub mod digest;
mod driver;
mod mail;
pub mod order;
mod webhook;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub use driver::{Notifier, Report};

/// What waits to be told; more is lost and counted.
pub const TOLD_MAX: usize = 4096;
/// Events that a slow listener at the API may be behind; it is told how many it missed.
pub const BEHIND_MAX: usize = 1024;
/// How long a notification script may run.
pub const SCRIPT_TIME: Duration = Duration::from_secs(60);
/// How long scripts and mail have to end when the director stops.
pub const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A real server came up.
    RealUp,
    /// A real server went down.
    RealDown,
    /// A service has its quorum again.
    QuorumUp,
    /// A service lost its quorum.
    QuorumDown,
    /// A virtual router became master.
    VrrpMaster,
    /// A virtual router became backup.
    VrrpBackup,
    /// A virtual router is in fault.
    VrrpFault,
    /// A virtual router ends with the director.
    VrrpStop,
    /// A master hears an advert of a lower priority.
    VrrpLowerPriority,
    /// An advert is refused, or something is wrong with it.
    VrrpAdvert,
    /// Another host acts as master beside this director.
    SplitBrain,
    /// It no longer does.
    SplitBrainOver,
    /// Another host uses, or wants to use, an address of this director.
    AddressConflict,
    /// It was not heard for a while.
    AddressConflictOver,
    /// Two hosts answer for the address of a neighbour, such as a real server or a router.
    NeighbourConflict,
    /// The link of a NIC went down.
    LinkDown,
    /// It is up again.
    LinkUp,
    /// The interface behind a NIC takes larger or smaller packets than before.
    LinkMtu,
    /// The kernel holds an address of the director's.
    KernelAddress,
    /// It no longer does.
    KernelAddressOver,
    /// Events that this listener missed, since it was too slow.
    Missed,
}

impl What {
    /// All that happens; what a listener missed is no event of the director.
    pub const ALL: &[Self] = &[
        Self::RealUp,
        Self::RealDown,
        Self::QuorumUp,
        Self::QuorumDown,
        Self::VrrpMaster,
        Self::VrrpBackup,
        Self::VrrpFault,
        Self::VrrpStop,
        Self::VrrpLowerPriority,
        Self::VrrpAdvert,
        Self::SplitBrain,
        Self::SplitBrainOver,
        Self::AddressConflict,
        Self::AddressConflictOver,
        Self::NeighbourConflict,
        Self::LinkDown,
        Self::LinkUp,
        Self::LinkMtu,
        Self::KernelAddress,
        Self::KernelAddressOver,
    ];

    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::RealUp => "real_up",
            Self::RealDown => "real_down",
            Self::QuorumUp => "quorum_up",
            Self::QuorumDown => "quorum_down",
            Self::VrrpMaster => "vrrp_master",
            Self::VrrpBackup => "vrrp_backup",
            Self::VrrpFault => "vrrp_fault",
            Self::VrrpStop => "vrrp_stop",
            Self::VrrpLowerPriority => "vrrp_lower_priority",
            Self::VrrpAdvert => "vrrp_advert",
            Self::SplitBrain => "split_brain",
            Self::SplitBrainOver => "split_brain_over",
            Self::AddressConflict => "address_conflict",
            Self::AddressConflictOver => "address_conflict_over",
            Self::NeighbourConflict => "neighbour_conflict",
            Self::LinkDown => "link_down",
            Self::LinkUp => "link_up",
            Self::LinkMtu => "link_mtu",
            Self::KernelAddress => "kernel_address",
            Self::KernelAddressOver => "kernel_address_over",
            Self::Missed => "missed",
        }
    }
}

/// An event as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// What happened.
    pub what: What,
    /// The service's name, the virtual router's, or the address that two hosts have.
    pub service: String,
    /// The real server's address, where it is about one, or where one is the likely cause.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub real: Option<String>,
    /// In words.
    pub text: String,
}

impl Event {
    /// An event of now.
    #[must_use]
    pub fn now(
        what: What,
        service: impl Into<String>,
        real: Option<String>,
        text: impl Into<String>,
    ) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Self { at, what, service: service.into(), real, text: text.into() }
    }

    /// What its scripts are put in order by: those of one subject run one after another.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("{} {}", self.service, self.real.as_deref().unwrap_or_default())
    }

    /// What its scripts find in their environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("SHUNT_EVENT", self.what.word().to_owned()),
            ("SHUNT_SERVICE", self.service.clone()),
            ("SHUNT_REAL", self.real.clone().unwrap_or_default()),
            ("SHUNT_TEXT", self.text.clone()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// `[notify]`: who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Mail.
    pub mail: Option<Mail>,
    /// A webhook.
    pub webhook: Option<Webhook>,
}

/// Mail to operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The mail server, with its port (keepalived: `smtp_server`).
    pub server: String,
    /// The name said with EHLO; none for the host's name (keepalived: `smtp_helo_name`).
    pub helo: Option<String>,
    /// The sender (keepalived: `notification_email_from`).
    pub from: String,
    /// The receivers (keepalived: `notification_email`).
    pub to: Vec<String>,
    /// How long events are gathered for one mail.
    pub gather: Duration,
    /// From one mail to the next at least.
    pub interval: Duration,
    /// All that a mail may take (keepalived: `smtp_connect_timeout`).
    pub timeout: Duration,
    /// What mails are about; none for everything (keepalived: `smtp_alert_vrrp`, `smtp_alert_checker`, `no_email_faults`).
    pub events: Option<Vec<What>>,
}

impl Mail {
    /// Whether a mail is sent about such an event.
    #[must_use]
    pub fn is_about(&self, what: What) -> bool {
        self.events.as_ref().is_none_or(|events| events.contains(&what))
    }
}

/// Events to a web server, as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where to, such as `https://host:8443/path`.
    pub url: Url,
    /// Whether the server's certificate has to be valid.
    pub verify: bool,
    /// The file of the authorities that count; none for those of the system.
    pub ca: Option<PathBuf>,
    /// All that a request may take.
    pub timeout: Duration,
}

/// A place of the web, in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// TLS or not.
    pub secure: bool,
    /// The host as written.
    pub host: String,
    /// Its port.
    pub l4_port: u16,
    /// The path, with its query if any.
    pub path: String,
}

impl Url {
    /// Reads `http://` or `https://`, a host with or without a port, and a path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (secure, rest) = match text.split_once("://")? {
            ("http", rest) => (false, rest),
            ("https", rest) => (true, rest),
            _ => return None,
        };
        let (host, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let (host, l4_port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port > 0)?),
            _ => (host, if secure { 443 } else { 80 }),
        };
        let good = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        (good(host) && !host.contains('@') && good(path)).then(|| Self {
            secure,
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            l4_port,
            path: path.to_owned(),
        })
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}{}", self.host, self.l4_port, self.path),
            false => write!(f, "{scheme}://{}:{}{}", self.host, self.l4_port, self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_the_web_are_read() {
        for (text, shown) in [
            ("http://127.0.0.1/x", Some("http://127.0.0.1:80/x")),
            ("https://hooks.example.org:8443/a?b=c", Some("https://hooks.example.org:8443/a?b=c")),
            ("http://[2001:db8::1]", Some("http://[2001:db8::1]:80/")),
            ("http://[2001:db8::1]:81/", Some("http://[2001:db8::1]:81/")),
            ("ftp://host/", None),
            ("http://", None),
            ("http://host:0/", None),
            ("http://ho st/", None),
            ("http://me@host/", None),
        ] {
            assert_eq!(Url::parse(text).map(|url| url.to_string()).as_deref(), shown, "{text}");
        }
    }
}

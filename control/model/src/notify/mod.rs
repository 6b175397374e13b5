//! Who is told of what happens, and what is told.

mod what;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

pub use what::What;

/// An event as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// What happened.
    pub what: What,
    /// The service's name, the virtual router's, the NIC's, the address that two hosts have, the file of a reload, or the name of a limit.
    pub service: String,
    /// The real server's address, where it is about one, or where one is the likely cause.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub real: Option<String>,
    /// In words.
    pub text: String,
}

impl Event {
    /// When, as log lines have it: `2026-11-30T08:15:30Z`.
    #[must_use]
    pub fn time(&self) -> String {
        time_of(self.at)
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

/// A time in milliseconds since 1970, as log lines have it: `2026-11-30T08:15:30Z`.
#[must_use]
pub fn time_of(at: u64) -> String {
    // Days since 0000-03-01, in eras of 400 years, so that a leap day is the last of its year.
    let (days, second) = ((at / 86_400_000) as i64 + 719_468, at / 1000 % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (year + era * 400, month + 3),
        _ => (year + era * 400 + 1, month - 9),
    };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
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
    pub path: Secret<String>,
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
            path: Secret::new(path.to_owned()),
        })
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        // Who knows the path of a webhook may often post there.
        let path = if self.path.expose() == "/" { "/".to_owned() } else { format!("/{}", self.path) };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}{path}", self.host, self.l4_port),
            false => write!(f, "{scheme}://{}:{}{path}", self.host, self.l4_port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_a_calendar() {
        for (at, time) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59Z"),
            (1_798_761_600_000, "2027-01-01T00:00:00Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            let event =
                Event { at, what: What::RealUp, service: String::new(), real: None, text: String::new() };
            assert_eq!(event.time(), time);
        }
    }

    #[test]
    fn places_of_the_web_are_read() {
        for (text, shown) in [
            ("http://127.0.0.1/x", Some("http://127.0.0.1:80/***")),
            ("https://hooks.example.org:8443/a?b=c", Some("https://hooks.example.org:8443/***")),
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

//! `[notify]`: mail and webhook.

use std::path::PathBuf;
use std::time::Duration;

use shunt_model::fault::{Fault, Span};
use shunt_model::limit;
use shunt_model::notify::{Mail, Settings, Url, Webhook, What};
use toml::de::DeTable;

use super::service::within;
use super::{Section, nearest, required};
use crate::problem::Findings;

const MAIL_KEYS: &[&str] = &["server", "helo", "from", "to", "gather", "interval", "timeout", "events"];
const WEBHOOK_KEYS: &[&str] = &["url", "verify", "ca", "timeout"];
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const GATHER_DEFAULT: Duration = Duration::from_secs(5);
const INTERVAL_DEFAULT: Duration = Duration::from_secs(60);

pub(super) fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: &Span) -> Settings {
    let mut section = Section::new(findings, "notify", table, at, &["mail", "webhook"], &[]);
    let mail = section.table("mail");
    let webhook = section.table("webhook");
    Settings {
        mail: mail.and_then(|(at, table)| read_mail(section.findings(), table, &at)),
        webhook: webhook.and_then(|(at, table)| read_webhook(section.findings(), table, &at)),
    }
}

fn read_mail(findings: &mut Findings<'_>, table: &DeTable<'_>, at: &Span) -> Option<Mail> {
    let mut section = Section::new(findings, "notify.mail", table, at, MAIL_KEYS, &[]);
    let server = section.parse("server", server);
    let from = section.parse("from", mail_address);
    let to = section.parse_list("to", mail_address);
    let helo = section.parse("helo", mail_address);
    let words: Vec<&str> = What::ALL.iter().map(|what| what.word()).collect();
    let events = section.parse_list("events", |text| {
        What::ALL.iter().copied().find(|what| what.word() == text).ok_or_else(|| {
            let advice = nearest(text, &words)
                .map_or_else(|| "name some of these".to_owned(), |near| format!("did you mean {near:?}?"));
            Fault::new("no such event", format!("events are {}", words.join(", ")), advice)
        })
    });
    let events = section.has("events").then(|| events.into_iter().map(|what| what.value).collect());
    let mut time = |key: &'static str, least, default| {
        let read = section.parse(key, |text| within(key, text, least, limit::CHECK_HOLD_MAX));
        read.map_or(default, |time| time.value)
    };
    let gather = time("gather", Duration::ZERO, GATHER_DEFAULT);
    let interval = time("interval", Duration::ZERO, INTERVAL_DEFAULT);
    let timeout = time("timeout", limit::CHECK_TIMEOUT_MIN, TIMEOUT_DEFAULT);
    for (key, holds, example) in [
        ("from", "a mail has a sender", "from = \"shunt@example.org\""),
        ("to", "a mail has receivers", "to = [\"operators@example.org\"]"),
    ] {
        if !section.has(key) {
            section.missing(required(key, holds, example));
        }
    }
    Some(Mail {
        server: server.map_or_else(|| "127.0.0.1:25".to_owned(), |server| server.value),
        helo: helo.map(|helo| helo.value),
        from: from?.value,
        to: to.into_iter().map(|to| to.value).collect(),
        gather,
        interval,
        timeout,
        events,
    })
}

fn read_webhook(findings: &mut Findings<'_>, table: &DeTable<'_>, at: &Span) -> Option<Webhook> {
    let mut section = Section::new(findings, "notify.webhook", table, at, WEBHOOK_KEYS, &[]);
    let url = section.parse("url", |text| {
        Url::parse(text).ok_or_else(|| {
            Fault::new(
                "not a URL",
                "http:// or https://, a host, and a path",
                "such as \"https://host/path\"",
            )
        })
    });
    if !section.has("url") {
        section.missing(required("url", "a webhook has a place", "url = \"https://host/path\""));
    }
    let ca = section.parse("ca", |text| match text.starts_with('/') {
        true => Ok(PathBuf::from(text)),
        false => Err(Fault::new("not a path", "a path from the root, with a / in front", "write it so")),
    });
    let verify = section.boolean("verify").is_none_or(|verify| verify.value);
    let timeout = section.parse("timeout", |text| {
        within("timeout", text, limit::CHECK_TIMEOUT_MIN, limit::CHECK_INTERVAL_MAX)
    });
    Some(Webhook {
        url: url?.value,
        verify,
        ca: ca.map(|ca| ca.value),
        timeout: timeout.map_or(TIMEOUT_DEFAULT, |timeout| timeout.value),
    })
}

/// A host with or without a port.
fn server(text: &str) -> Result<String, Fault> {
    let fault = || {
        Fault::new("not a mail server", "a host with or without a port", "such as \"mail.example.org:25\"")
    };
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
        return Err(fault());
    }
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok(std::net::SocketAddr::new(address, 25).to_string());
    }
    match text.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => {
            port.parse().ok().filter(|port: &u16| *port > 0).map(|_| text.to_owned()).ok_or_else(fault)
        }
        _ => Ok(format!("{text}:25")),
    }
}

/// Something that can stand in a command of SMTP.
fn mail_address(text: &str) -> Result<String, Fault> {
    let good = |byte: u8| byte.is_ascii_graphic() && byte != b'<' && byte != b'>';
    if !text.is_empty() && text.len() <= 254 && text.bytes().all(good) {
        return Ok(text.to_owned());
    }
    Err(Fault::new(
        "not a mail address",
        "visible ASCII characters, no < or >",
        "such as \"operators@example.org\"",
    ))
}

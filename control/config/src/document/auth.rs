//! `auth` of `[[vrrp]]`: how adverts prove where they come from.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use shunt_model::fault::{At, Fault, Span};
use shunt_model::secret::Secret;
use shunt_model::vrrp::{
    Auth, HMAC_KEY_MAX, HMAC_KEY_MIN, HMAC_WINDOW_MAX, HMAC_WINDOW_MIN, Hmac, HmacKey, HmacMode, Replay,
};
use toml::de::DeTable;

use super::service::within;
use super::{Section, required};
use crate::problem::Findings;

/// What begins a secret that is written in hexadecimal digits.
const HEX: &str = "hex:";
/// What a file of a key may hold: the longest key in digits, and the end of a line.
const FILE_MAX: u64 = (HEX.len() + 2 * HMAC_KEY_MAX + 8) as u64;

/// The kinds.
#[derive(Clone, Copy)]
enum Kind {
    Eight(fn([u8; 8]) -> Auth),
    Hmac,
}

const KINDS: &[(&str, Kind)] =
    &[("password", Kind::Eight(Auth::Password)), ("header", Kind::Eight(Auth::Header)), ("hmac", Kind::Hmac)];

/// The keys of the kinds with one short secret.
const EIGHT_KEYS: &[&str] = &["kind", "secret"];
const HMAC_KEYS: &[&str] = &["kind", "keys", "active_key", "replay", "window", "mode"];

/// `auth = { kind = "password", secret = "…" }`, or the keys of trailers.
pub(super) fn read(section: &mut Section<'_, '_, '_, '_>) -> Option<At<Auth>> {
    let (at, table) = section.table("auth")?;
    let place = format!("{}, auth", section.place());
    let is_hmac = table.get("kind").and_then(|kind| kind.get_ref().as_str()) == Some("hmac");
    let keys = if is_hmac { HMAC_KEYS } else { EIGHT_KEYS };
    let mut inner = Section::new(section.findings(), &place, table, &at, keys, &[]);
    if !inner.has("kind") {
        let holds = "authentication is by password (PASS), header (AH) or hmac (auth_hmac)";
        inner.missing(required("kind", holds, "kind = \"password\""));
    }
    let auth = match inner.word("kind", KINDS, &[])?.value {
        Kind::Eight(make) => {
            if !inner.has("secret") {
                let holds = "all directors of a virtual router have the same secret";
                inner.missing(required("secret", holds, "secret = \"…\""));
            }
            make(inner.parse("secret", eight)?.value)
        }
        Kind::Hmac => Auth::Hmac(Arc::new(hmac(&mut inner, &place)?)),
    };
    Some(At::new(auth, at))
}

fn eight(text: &str) -> Result<[u8; 8], Fault> {
    let mut bytes = [0; 8];
    match bytes.get_mut(..text.len()).filter(|_| !text.is_empty()) {
        Some(place) => place.copy_from_slice(text.as_bytes()),
        None => {
            let wrong = format!("a secret of {} bytes", text.len());
            let holds = "version 2 carries 1 to 8 bytes; keepalived cuts longer ones off";
            return Err(Fault::new(wrong, holds, "write the first eight"));
        }
    }
    Ok(bytes)
}

fn hmac(section: &mut Section<'_, '_, '_, '_>, place: &str) -> Option<Hmac> {
    let tables = section.tables("keys");
    let count = tables.len();
    let read = |(at, table)| key(section.findings(), table, at, place);
    let keys: Vec<At<HmacKey>> = tables.into_iter().filter_map(read).collect();
    for (number, key) in keys.iter().enumerate() {
        if keys[..number].iter().any(|other| other.value.id == key.value.id) {
            let wrong = format!("two keys of id {}", key.value.id);
            let fault = Fault::new(wrong, "a trailer names its key by the id", "give each an id of its own");
            section.error(&key.at, fault);
        }
    }
    let active = section.integer("active_key", 1..=u8::MAX, "(the id of a key)");
    for (key, holds, example) in [
        ("keys", "directors share at least one key", "keys = [{ id = 1, file = \"/etc/shunt/vrrp51.key\" }]"),
        ("active_key", "one of the keys signs", "active_key = 1"),
    ] {
        if !section.has(key) {
            section.missing(required(key, holds, example));
        }
    }
    let replays = [("time", Replay::Time(None)), ("monotonic", Replay::Monotonic)];
    let replay = section.word("replay", &replays, &[]).map_or(Replay::Time(None), |replay| replay.value);
    let second = std::time::Duration::from_secs(1);
    let bounds = second * HMAC_WINDOW_MIN.into()..=second * HMAC_WINDOW_MAX.into();
    let window = section.parse("window", |text| {
        let window = within("window", text, *bounds.start(), *bounds.end())?;
        u16::try_from(window.as_secs()).ok().filter(|_| window.subsec_nanos() == 0).ok_or_else(|| {
            Fault::new("a part of a second", "a window counts whole seconds", "write whole seconds")
        })
    });
    let replay = match (replay, window) {
        (Replay::Time(_), Some(window)) => Replay::Time(Some(window.value)),
        (Replay::Monotonic, Some(window)) => {
            let holds = "replay = \"monotonic\" looks at no clock";
            section.error(&window.at, Fault::new("a window of no use", holds, "remove one of the two"));
            replay
        }
        (_, None) => replay,
    };
    let modes = [
        ("enforce", HmacMode::Enforce),
        ("permissive", HmacMode::Permissive),
        ("receive-only", HmacMode::ReceiveOnly),
    ];
    let mode = section.word("mode", &modes, &[]).map_or(HmacMode::Enforce, |mode| mode.value);
    let active = active?;
    // One that could not be read was told of.
    if count == keys.len() && keys.iter().all(|key| key.value.id != active.value) {
        let fault = Fault::new("no such key", "active_key is the id of one of keys", "name one of them");
        section.error(&active.at, fault);
    }
    let keys = keys.into_iter().map(|key| key.value).collect();
    Some(Hmac { keys, active: active.value, replay, mode })
}

/// `{ id = 1, secret = "…" }`, or with a file that holds the secret.
fn key(findings: &mut Findings<'_>, table: &DeTable<'_>, at: Span, place: &str) -> Option<At<HmacKey>> {
    let place = format!("{place}, keys");
    let mut section = Section::new(findings, &place, table, &at, &["id", "secret", "file"], &[]);
    let id = section.integer("id", 1..=u8::MAX, "(a key's number)");
    if !section.has("id") {
        section.missing(required("id", "trailers name their key by its id, 1 to 255", "id = 1"));
    }
    let secret = section.parse("secret", secret);
    let file = section.parse("file", file);
    if section.has("secret") == section.has("file") {
        let holds = "a key is written here, or in a file of its own";
        section.missing(required("one of secret and file", holds, "file = \"/etc/shunt/vrrp51.key\""));
    }
    let file = file.map(|file| {
        let (secret, open) = file.value;
        if let Some(fault) = open {
            section.findings().warn(&place, &file.at, fault);
        }
        At::new(secret, file.at)
    });
    let secret = Secret::new(secret.or(file)?.value);
    Some(At::new(HmacKey { id: id?.value, secret }, at.clone()))
}

/// The bytes of a key: text as it is, or `hex:` and digits.
fn secret(text: &str) -> Result<Vec<u8>, Fault> {
    let bytes = match text.strip_prefix(HEX) {
        None => Some(text.as_bytes().to_vec()),
        Some(digits) => digits
            .as_bytes()
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => {
                    let digit = |byte: u8| char::from(byte).to_digit(16);
                    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
                }
                _ => None,
            })
            .collect(),
    };
    let holds = format!(
        "a key is {HMAC_KEY_MIN} to {HMAC_KEY_MAX} bytes: text, or \"hex:\" and two digits for each byte"
    );
    let advice = "make one with `openssl rand -hex 32`";
    let bytes =
        bytes.ok_or_else(|| Fault::new("not hexadecimal digits, two for each byte", &holds, advice))?;
    if !(HMAC_KEY_MIN..=HMAC_KEY_MAX).contains(&bytes.len()) {
        return Err(Fault::new(format!("a key of {} bytes", bytes.len()), holds, advice));
    }
    Ok(bytes)
}

/// The key that a file holds, and what to say of who may read it.
fn file(path: &str) -> Result<(Vec<u8>, Option<Fault>), Fault> {
    let holds = "the director reads the key from it at each start and reload";
    let cannot =
        |error: std::io::Error| Fault::new(format!("cannot be read ({error})"), holds, "name another file");
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mode = file.metadata().map_err(cannot)?.mode();
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > FILE_MAX {
        let holds = format!("a key's file has at most {FILE_MAX} bytes");
        return Err(Fault::new("too long", holds, "write one key into it"));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        Fault::new("not text", "a key's file holds text, or \"hex:\" and digits", "write it so")
    })?;
    let open = (mode & 0o077 != 0).then(|| {
        Fault::new(
            format!("others may read this key (mode {:o})", mode & 0o7777),
            "a key is for the director and its operators",
            format!("`chmod 600 {path}`"),
        )
    });
    Ok((secret(text.trim_end_matches(['\r', '\n']))?, open))
}

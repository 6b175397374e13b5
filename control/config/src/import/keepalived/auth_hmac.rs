//! `auth_hmac` of keepalived 2.4: the keys of trailers.

use std::collections::BTreeMap;
use std::path::Path;

use shunt_model::fault::Fault;
use shunt_model::fault::Origin;
use shunt_model::vrrp::{HMAC_KEY_MAX, HMAC_KEY_MIN, HMAC_WINDOW_MAX, HMAC_WINDOW_MIN};

use super::keywords::Block;
use super::tree::Statement;
use super::values::{Values, walk};
use crate::import::files::Files;
use crate::import::writer::{Writer, quoted, seconds};

/// What begins the name of a key's file.
const FILE: &str = "file:";

/// What files of keys hold, by their names; none where one cannot be read.
type KeyFiles = BTreeMap<String, Option<String>>;

/// Reads the files of keys that an instance names.
pub fn read_files(instance: &Statement, files: &dyn Files, found: &mut KeyFiles) {
    let blocks = instance.statements().iter().filter(|block| block.keyword() == "auth_hmac");
    let values = blocks.flat_map(Statement::statements).filter_map(|line| line.words.get(2));
    for path in values.filter_map(|value| value.strip_prefix(FILE)) {
        found.insert(path.to_owned(), files.read(Path::new(path)).ok());
    }
}

/// What an `auth_hmac` says.
#[derive(Debug)]
pub struct AuthHmac {
    /// Where it stands.
    pub origin: Origin,
    /// The keys that keepalived has: number, and the rest of the inline table.
    keys: Vec<(u8, String)>,
    active: u8,
    replay: &'static str,
    window: Option<u16>,
    mode: &'static str,
}

impl AuthHmac {
    /// What keepalived assumes where nothing is said.
    #[must_use]
    pub const fn new(origin: Origin) -> Self {
        Self { origin, keys: Vec::new(), active: 0, replay: "time", window: None, mode: "enforce" }
    }

    /// Reads the block; a second one of an instance goes on with the first.
    pub fn read(&mut self, statement: &Statement, files: &KeyFiles, place: &str, writer: &mut Writer) {
        walk(statement.statements(), Block("auth_hmac"), place, writer, |statement, writer| {
            let mut values = Values::of(statement, place, writer);
            match statement.keyword() {
                // What stands behind a number that is none may be the key: it is not told.
                "key" => return self.key(files, &mut values),
                "active_key" => self.active = values.integer(1..=u8::MAX).unwrap_or(self.active),
                "time_window" => {
                    self.window = values.integer(HMAC_WINDOW_MIN..=HMAC_WINDOW_MAX).or(self.window);
                }
                "anti_replay" => {
                    let words = [("time", "time"), ("monotonic", "monotonic")];
                    self.replay = values.choice(&words).unwrap_or(self.replay);
                }
                _ => {
                    let words = ["enforce", "permissive", "receive-only"].map(|word| (word, word));
                    self.mode = values.choice(&words).unwrap_or(self.mode);
                }
            }
            values.end();
        });
    }

    /// `key 1 hex:…`, text, or `file:…`.
    fn key(&mut self, files: &KeyFiles, values: &mut Values<'_, '_>) {
        let Some(id) = values.integer(1..=u8::MAX) else { return };
        let Some(word) = values.word() else {
            return values.ignored("a key without a value", "keepalived ignores the line", "write the key");
        };
        let (text, value) = match word.strip_prefix(FILE) {
            None => (word, format!("secret = {}", quoted(word))),
            Some(path) => match files.get(path).and_then(Option::as_deref) {
                Some(text) => (text.trim_end_matches(['\r', '\n']), format!("file = {}", quoted(path))),
                None => {
                    let wrong = format!("the key's file {path} cannot be read");
                    let holds =
                        "the director reads the key from it, and nobody believes its adverts without it";
                    return values.refuse_line(&wrong, holds, "copy the file here, readable by root alone");
                }
            },
        };
        let digits = text.strip_prefix("hex:");
        let length = digits.map_or(text.len(), |digits| digits.len() / 2);
        let is_hex =
            |digits: &str| digits.len() % 2 == 0 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !(HMAC_KEY_MIN..=HMAC_KEY_MAX).contains(&length) || !digits.is_none_or(is_hex) {
            let wrong = format!("key {id} is not {HMAC_KEY_MIN} to {HMAC_KEY_MAX} bytes");
            return values.ignored(wrong, "keepalived ignores it", "make one with `openssl rand -hex 32`");
        }
        if self.keys.iter().any(|(other, _)| *other == id) {
            let wrong = format!("there is a key {id} already");
            return values.ignored(wrong, "keepalived ignores this one", "give it an id of its own");
        }
        self.keys.push((id, value));
    }

    /// True when the key that signs is there.
    pub fn has_effect(&self) -> bool {
        self.keys.iter().any(|(id, _)| *id == self.active)
    }

    /// The value of `auth`; none where keepalived goes on without it.
    pub fn write(&self, strict: bool, place: &str, writer: &mut Writer) -> Option<String> {
        if !self.has_effect() {
            let wrong = format!("auth_hmac has no effect: its active_key {} is not defined", self.active);
            let holds = "keepalived sends and believes adverts without it";
            writer.ignored(&self.origin, place, Fault::new(wrong, holds, "define the key"));
            return None;
        }
        let mut mode = self.mode;
        if strict && mode != "enforce" {
            let holds = "vrrp_strict makes it enforce, as in keepalived";
            let fault =
                Fault::new(format!("auth_hmac mode {mode} has no effect"), holds, "write mode enforce");
            writer.ignored(&self.origin, place, fault);
            mode = "enforce";
        }
        let keys: Vec<String> =
            self.keys.iter().map(|(id, value)| format!("{{ id = {id}, {value} }}")).collect();
        let mut value =
            format!("{{ kind = \"hmac\", keys = [{}], active_key = {}", keys.join(", "), self.active);
        if self.replay != "time" {
            value += &format!(", replay = {}", quoted(self.replay));
        } else if let Some(window) = self.window {
            value += &format!(", window = {}", seconds(window.into()));
        }
        if mode != "enforce" {
            value += &format!(", mode = {}", quoted(mode));
        }
        Some(value + " }")
    }
}

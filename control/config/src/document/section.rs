//! One table of the file and the typed reading of its keys.

use std::fmt::Display;
use std::ops::RangeInclusive;

use shunt_model::fault::{At, Fault, Span};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Placed, type_word};
use crate::problem::Findings;

/// A table being read.
pub struct Section<'a, 'i, 'f, 't> {
    findings: &'f mut Findings<'t>,
    place: String,
    table: &'a DeTable<'i>,
    at: Span,
}

impl<'a, 'i, 'f, 't> Section<'a, 'i, 'f, 't> {
    /// Starts to read a table and reports its unknown keys; `later` are keys that are planned.
    pub fn new(
        findings: &'f mut Findings<'t>,
        place: &str,
        table: &'a DeTable<'i>,
        at: &Span,
        known: &[&str],
        later: &[(&str, &str)],
    ) -> Self {
        for key in table.keys() {
            let word: &str = key.get_ref();
            if let Some((_, advice)) = later.iter().find(|(key, _)| *key == word) {
                let fault = Fault::new(
                    "not supported yet",
                    format!("the keys today are {}", known.join(", ")),
                    *advice,
                );
                findings.error(place, &key.span(), fault);
            } else if !known.contains(&word) {
                let advice = nearest(word, known)
                    .map_or_else(|| "remove it".to_owned(), |near| format!("did you mean {near}?"));
                let fault = Fault::new("unknown key", format!("the keys are {}", known.join(", ")), advice);
                findings.error(place, &key.span(), fault);
            }
        }
        Self { findings, place: place.to_owned(), table, at: at.clone() }
    }

    /// Where problems go.
    pub const fn findings(&mut self) -> &mut Findings<'t> {
        self.findings
    }

    /// The part of the configuration that this is.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// True when the key is there, whatever its value.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of a key as the file has it.
    pub fn raw(&self, key: &str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.table.get(key)
    }

    /// An error about a value of this table.
    pub fn error(&mut self, at: &Span, fault: Fault) {
        self.findings.error(&self.place, at, fault);
    }

    /// An error about this table as a whole, or about what it lacks.
    pub fn missing(&mut self, fault: Fault) {
        self.findings.missing(&self.place, &self.at, fault);
    }

    /// A text, read further by `parse`.
    pub fn parse<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, Fault>) -> Option<At<T>> {
        let value = self.raw(key)?;
        self.parse_value(key, value, &parse)
    }

    /// A list of texts, each read further by `parse`. Also takes one text alone.
    pub fn parse_list<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, Fault>) -> Vec<At<T>> {
        let Some(value) = self.raw(key) else { return Vec::new() };
        match value.get_ref() {
            DeValue::String(_) => self.parse_value(key, value, &parse).into_iter().collect(),
            DeValue::Array(list) => {
                list.iter().filter_map(|item| self.parse_value(key, item, &parse)).collect()
            }
            other => {
                self.wrong_type(key, &value.span(), other, "a list of texts", &format!("[{}]", example(key)));
                Vec::new()
            }
        }
    }

    /// One of several words.
    pub fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)], later: &[&str]) -> Option<At<T>> {
        self.parse(key, |text| {
            let list = words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
            if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
                return Ok(*value);
            }
            let holds = format!("{key} is one of {}", list.join(", "));
            if later.contains(&text) {
                return Err(Fault::new(
                    format!("this {key} is not supported yet"),
                    holds,
                    "choose one of these",
                ));
            }
            let other = OTHER_WORDS.iter().find(|(other, ours)| *other == text && list.contains(ours));
            let advice = other
                .map(|(_, ours)| *ours)
                .or_else(|| nearest(text, &list))
                .map_or_else(|| "choose one of these".to_owned(), |near| format!("did you mean \"{near}\"?"));
            Err(Fault::new(format!("unknown {key}"), holds, advice))
        })
    }

    /// A whole number within bounds; `unit` says of what.
    pub fn integer<T>(&mut self, key: &str, bounds: RangeInclusive<T>, unit: &str) -> Option<At<T>>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let value = self.raw(key)?;
        self.integer_value(key, value, &bounds, unit)
    }

    /// A whole number within bounds that stands inside the value of a key.
    pub fn integer_at<T>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'i>>,
        bounds: RangeInclusive<T>,
        unit: &str,
    ) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        self.integer_value(key, value, &bounds, unit).map(|number| number.value)
    }

    /// A list of whole numbers within bounds; none when the key is missing or no list.
    pub fn integers<T>(&mut self, key: &str, bounds: RangeInclusive<T>, unit: &str) -> Option<At<Vec<At<T>>>>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let value = self.raw(key)?;
        let DeValue::Array(list) = value.get_ref() else {
            self.wrong_type(key, &value.span(), value.get_ref(), "a list of whole numbers", "[1, 2]");
            return None;
        };
        let numbers = list.iter().filter_map(|item| self.integer_value(key, item, &bounds, unit)).collect();
        Some(At::new(numbers, value.span()))
    }

    /// True or false.
    pub fn boolean(&mut self, key: &str) -> Option<At<bool>> {
        let value = self.raw(key)?;
        if let DeValue::Boolean(boolean) = value.get_ref() {
            return Some(At::new(*boolean, value.span()));
        }
        self.wrong_type(key, &value.span(), value.get_ref(), "true or false", "true");
        None
    }

    /// The table under a key.
    pub fn table(&mut self, key: &str) -> Option<Placed<'a, 'i>> {
        let value = self.raw(key)?;
        if let DeValue::Table(table) = value.get_ref() {
            return Some((value.span(), table));
        }
        self.wrong_type(key, &value.span(), value.get_ref(), "a table", example(key));
        None
    }

    /// The tables of a `[[key]]`, or of a list of inline tables.
    pub fn tables(&mut self, key: &str) -> Vec<Placed<'a, 'i>> {
        let Some(value) = self.raw(key) else { return Vec::new() };
        let wanted = format!("a list of tables, each begun by [[{key}]]");
        match value.get_ref() {
            DeValue::Array(list) => {
                let mut tables = Vec::with_capacity(list.len());
                for item in list.iter() {
                    match item.get_ref() {
                        DeValue::Table(table) => tables.push((item.span(), table)),
                        other => self.wrong_type(key, &item.span(), other, "a table", example(key)),
                    }
                }
                tables
            }
            DeValue::Table(_) => {
                let fault = Fault::new(
                    format!("{key} is one table"),
                    format!("{key} is {wanted}"),
                    format!("write [[{key}]]"),
                );
                self.error(&value.span(), fault);
                Vec::new()
            }
            other => {
                self.wrong_type(key, &value.span(), other, &wanted, &format!("[[{key}]]"));
                Vec::new()
            }
        }
    }

    /// Reports a value of the wrong type.
    pub fn wrong_type(&mut self, key: &str, at: &Span, found: &DeValue<'_>, wanted: &str, example: &str) {
        let fault = Fault::new(
            format!("{key} has a value that is {}", type_word(found)),
            format!("{key} takes {wanted}"),
            format!("write it like {example}"),
        );
        self.error(at, fault);
    }

    fn parse_value<T>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'i>>,
        parse: &impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<At<T>> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(key, &value.span(), value.get_ref(), "text", example(key));
            return None;
        };
        match parse(text) {
            Ok(parsed) => Some(At::new(parsed, value.span())),
            Err(fault) => {
                self.error(&value.span(), fault);
                None
            }
        }
    }

    fn integer_value<T>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'i>>,
        bounds: &RangeInclusive<T>,
        unit: &str,
    ) -> Option<At<T>>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong_type(
                key,
                &value.span(),
                value.get_ref(),
                "a whole number",
                &bounds.start().to_string(),
            );
            return None;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        if let Some(number) =
            number.and_then(|number| T::try_from(number).ok()).filter(|number| bounds.contains(number))
        {
            return Some(At::new(number, value.span()));
        }
        let holds = format!("{key} is {} to {} {unit}", bounds.start(), bounds.end());
        self.error(
            &value.span(),
            Fault::new(format!("{key} is out of bounds"), holds, "choose a number between these"),
        );
        None
    }
}

/// Words of ipvsadm, keepalived and everyday speech, and ours for the same.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("gate", "dr"),
    ("gatewaying", "dr"),
    ("direct", "dr"),
    ("masq", "nat"),
    ("masquerading", "nat"),
    ("ipip", "tun"),
    ("tunnel", "tun"),
    ("round-robin", "rr"),
    ("roundrobin", "rr"),
    ("weighted-round-robin", "wrr"),
    ("least-connection", "lc"),
    ("weighted-least-connection", "wlc"),
    ("source-hash", "sh"),
    ("yes", "always"),
    ("on", "always"),
    ("no", "never"),
    ("off", "never"),
    ("poll", "busy"),
    ("TCP_CHECK", "tcp"),
    ("HTTP_GET", "http"),
    ("SSL_GET", "https"),
    ("SMTP_CHECK", "smtp"),
    ("DNS_CHECK", "dns"),
    ("PING_CHECK", "ping"),
    ("UDP_CHECK", "udp"),
    ("MISC_CHECK", "script"),
    ("FILE_CHECK", "file"),
    ("PASS", "password"),
    ("AH", "header"),
];

/// A good value of a key.
fn example(key: &str) -> &'static str {
    match key {
        "device" => "\"af_packet:eth1\"",
        "addresses" => "\"192.0.2.2/24\"",
        "mark" => "[[mark]]",
        "masquerade" => "[[masquerade]]",
        "except" => "\"10.0.0.0/8\"",
        "port" => "80",
        "from" => "\"198.51.100.0/24\"",
        "gateway" | "via" => "\"192.0.2.1\"",
        "to" => "\"198.51.100.0/24\"",
        "listen" => "\"192.0.2.10:80\"",
        "address" => "\"192.0.2.21:80\"",
        "real" => "{ address = \"192.0.2.21:80\" }",
        "persistence" => "{ timeout = \"360s\" }",
        "check" => "{ kind = \"tcp\" }",
        "interval" | "timeout" | "retry_interval" | "warmup" | "reentry" | "slow_start" | "fail_timeout" => {
            "\"3s\""
        }
        "protocol" | "kind" => "\"tcp\"",
        "scheduler" => "\"wlc\"",
        "scheduler_flags" => "\"fallback\"",
        "forward" => "\"dr\"",
        "socket" => "\"/run/shunt.sock\"",
        "path" => "\"/health\"",
        "command" => "\"/usr/local/bin/check\"",
        "sorry_server" => "{ address = \"192.0.2.99\" }",
        "host" => "\"www.example.org\"",
        "hugepages" => "\"auto\"",
        "idle" => "\"adaptive\"",
        "tcp" | "tcpfin" | "udp" => "\"300s\"",
        "excluded" | "peers" | "source" => "\"192.0.2.10\"",
        "members" => "\"VI_1\"",
        "auth" => "{ kind = \"password\", secret = \"…\" }",
        "track" => "{ nic = \"back\", weight = -20 }",
        "runtime" => "[runtime]",
        "service" => "[[service]]",
        "nic" => "\"front\"",
        _ => "\"text\"",
    }
}

/// The word of a list that is most like a text, when one is like it.
#[must_use]
pub fn nearest<'w>(text: &str, words: &[&'w str]) -> Option<&'w str> {
    if text.len() > 64 {
        return None;
    }
    let likeness = |word: &str| strsim::jaro_winkler(&text.to_lowercase(), word);
    let (best, score) =
        words.iter().map(|word| (*word, likeness(word))).max_by(|a, b| a.1.total_cmp(&b.1))?;
    (score >= 0.75).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn nearest_words() {
        let words = ["scheduler", "service", "weight", "mtu"];
        for (text, want) in [
            ("schedular", Some("scheduler")),
            ("wieght", Some("weight")),
            ("MTU", Some("mtu")),
            ("zzz", None),
        ] {
            assert_eq!(nearest(text, &words), want, "{text}");
        }
    }
}

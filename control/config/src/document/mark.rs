//! `[[mark]]`: which packets get a firewall mark.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use shunt_dataplane::id::Protocol;
use shunt_dataplane::service::mark::Mark;
use shunt_model::fault::{At, Fault, Span};
use toml::de::{DeTable, DeValue};

use super::service::PROTOCOLS;
use super::{Section, iptables, place, required};
use crate::problem::Findings;

/// A `[[mark]]` as written.
#[derive(Debug)]
pub struct MarkDocument {
    /// How problems call it.
    pub place: String,
    /// Where it begins.
    pub at: Span,
    /// `mark`.
    pub mark: Option<At<Mark>>,
    /// `to`.
    pub to: Option<At<IpNet>>,
    /// `from`.
    pub from: Option<At<IpNet>>,
    /// `protocol`.
    pub protocol: Option<At<Protocol>>,
    /// `port`.
    pub ports: Vec<RangeInclusive<u16>>,
    /// `nic`, or the interface of an `iptables` line.
    pub nic: Option<At<String>>,
}

const KEYS: &[&str] = &["mark", "to", "from", "protocol", "port", "nic", "iptables"];

impl MarkDocument {
    pub(super) fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: Span, number: usize) -> Self {
        let place = place("mark", table, "name", number);
        let mut section = Section::new(findings, &place, table, &at, KEYS, &[]);
        if let Some(line) = section.parse("iptables", iptables::parse) {
            let others =
                KEYS.iter().filter(|key| **key != "iptables" && section.has(key)).collect::<Vec<_>>();
            for key in others {
                let holds = "an iptables line says it all";
                section.error(
                    &line.at,
                    Fault::new(format!("iptables beside {key}"), holds, "remove one of the two"),
                );
            }
            return Self::of_line(line, place, at);
        }
        let mark = Self {
            mark: number_of_mark(&mut section, "mark"),
            to: section.parse("to", hosts),
            from: section.parse("from", hosts),
            protocol: section.word("protocol", PROTOCOLS, &[]),
            ports: ports(&mut section).into_iter().collect(),
            nic: section.parse("nic", |text| Ok(text.to_owned())),
            place: place.clone(),
            at: at.clone(),
        };
        if !section.has("mark") && !section.has("iptables") {
            section.missing(required("mark", "every [[mark]] gives a mark", "mark = 81"));
        }
        mark
    }

    fn of_line(line: At<iptables::Line>, place: String, at: Span) -> Self {
        let At { value: line, at: line_at } = line;
        let there = |at: &Span| at.clone();
        Self {
            mark: line.mark.map(|mark| At::new(mark, there(&line_at))),
            to: line.to.map(|to| At::new(to, there(&line_at))),
            from: line.from.map(|from| At::new(from, there(&line_at))),
            protocol: line.protocol.map(|protocol| At::new(protocol, there(&line_at))),
            ports: line.ports,
            nic: line.interface.map(|interface| At::new(interface, line_at)),
            place,
            at,
        }
    }
}

/// A firewall mark under a key.
pub(super) fn number_of_mark(section: &mut Section<'_, '_, '_, '_>, key: &str) -> Option<At<Mark>> {
    let number = section.integer(key, 1..=Mark::MAX, "(a firewall mark)")?;
    Some(At::new(Mark::new(number.value)?, number.at))
}

/// An address or a network.
pub(super) fn hosts(text: &str) -> Result<IpNet, Fault> {
    let fault = || {
        let holds = "such as \"192.0.2.10\", \"192.0.2.0/24\" or \"2001:db8::/32\"";
        Fault::new("neither an address nor a network", holds, "write one of those")
    };
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => {
            let net: IpNet = text.parse().map_err(|_| fault())?;
            if net.addr() == net.network() {
                return Ok(net);
            }
            let advice = format!("write \"{}\"", net.trunc());
            Err(Fault::new("bits are set behind the prefix length", "a network", advice))
        }
    }
}

/// `port`: one, or the first and the last of several.
fn ports(section: &mut Section<'_, '_, '_, '_>) -> Option<RangeInclusive<u16>> {
    let value = section.raw("port")?;
    if matches!(value.get_ref(), DeValue::Integer(_)) {
        let port = section.integer("port", 1..=u16::MAX, "(a port)")?;
        return Some(port.value..=port.value);
    }
    let both = section.parse("port", |text| {
        let both =
            text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        both.filter(|(first, last)| (1..=*last).contains(first)).map(|(first, last)| first..=last).ok_or_else(
            || Fault::new("not ports", "a port, or the first and the last one", "write 80 or \"8000-8099\""),
        )
    });
    both.map(|ports| ports.value)
}

//! `[[forward]]`: which packets of no service pass from one network to another.

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_model::fault::{At, Fault, Span};
use toml::de::DeTable;

use super::mark::hosts;
use super::{Section, name, place, required};
use crate::problem::Findings;

/// One end as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndDocument {
    /// A network, or one host.
    Network(IpNet),
    /// The name of a NIC, or of its interface.
    Nic(String),
}

/// A `[[forward]]` as written.
#[derive(Debug)]
pub struct ForwardDocument {
    /// How problems call it.
    pub place: String,
    /// Where it begins.
    pub at: Span,
    /// `from`.
    pub from: Option<At<EndDocument>>,
    /// `to`.
    pub to: Option<At<EndDocument>>,
    /// `both`.
    pub both: Option<At<bool>>,
}

const KEYS: &[&str] = &["from", "to", "both"];

impl ForwardDocument {
    pub(super) fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: Span, number: usize) -> Self {
        let place = place("forward", table, "name", number);
        let mut section = Section::new(findings, &place, table, &at, KEYS, &[]);
        if !section.has("from") && !section.has("to") {
            let holds = "every [[forward]] says whose packets pass, or where to";
            section.missing(required(
                "from or to",
                holds,
                "from = \"back\", the name of a NIC, or a network",
            ));
        }
        Self {
            from: section.parse("from", end),
            to: section.parse("to", end),
            both: section.boolean("both"),
            place,
            at,
        }
    }
}

/// A NIC has no name that reads as an address.
fn end(text: &str) -> Result<EndDocument, Fault> {
    let is_network = text.contains('/') || text.parse::<IpAddr>().is_ok();
    if is_network { hosts(text).map(EndDocument::Network) } else { name(text).map(EndDocument::Nic) }
}

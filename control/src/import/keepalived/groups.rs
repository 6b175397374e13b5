//! `virtual_server_group`: what several virtual servers listen at.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::tree::Statement;
use super::values::Values;
use crate::config::problem::Fault;
use crate::import::writer::Writer;

/// What a service listens at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// VIP and port.
    Address(SocketAddr),
    /// A firewall mark.
    Mark {
        /// Its number.
        mark: u32,
        /// Its family; none where that is left to the real servers.
        is_ipv6: Option<bool>,
    },
}

impl Listen {
    /// A firewall mark of a family that is not said.
    #[must_use]
    pub const fn mark(mark: u32) -> Self {
        Self::Mark { mark, is_ipv6: None }
    }
}

/// Groups by their names.
pub type Groups = BTreeMap<String, Vec<Listen>>;

/// Reads a `virtual_server_group`.
pub fn read(statement: &Statement, groups: &mut Groups, writer: &mut Writer) {
    let place = statement.line();
    let mut values = Values::of(statement, &place, writer);
    let Some(name) = values.required("a group has a name") else { return };
    values.end();
    let mut members = Vec::new();
    for member in statement.statements() {
        let mut values = Values::of(member, &place, writer);
        if member.keyword() == "fwmark" {
            let mark = values.integer(1..=u32::MAX);
            let is_ipv6 = values.peek().and_then(|_| values.choice(&[("inet", false), ("inet6", true)]));
            members.extend(mark.map(|mark| Listen::Mark { mark, is_ipv6 }));
            continue;
        }
        let l4_port = if values.peek().is_some() { values.integer(0..=u16::MAX) } else { Some(0) };
        values.end();
        let Some(addresses) = range(member.keyword()) else {
            let wrong = format!("{} is no member of a group", member.keyword());
            let holds = "an address, a range such as 192.0.2.10-20, or fwmark and a number";
            writer.refuse(member.origin(), &place, Fault::new(wrong, holds, "write one of those"));
            continue;
        };
        let Some(l4_port) = l4_port else { continue };
        members
            .extend(addresses.into_iter().map(|address| Listen::Address(SocketAddr::new(address, l4_port))));
    }
    groups.insert(name.to_owned(), members);
}

/// One address, or those up to another last part: `192.0.2.10-20`, `2001:db8::10-1f`.
fn range(text: &str) -> Option<Vec<IpAddr>> {
    let Some((first, last)) = text.split_once('-') else { return Some(vec![text.parse().ok()?]) };
    match first.parse().ok()? {
        IpAddr::V4(address) => {
            let [a, b, c, first] = address.octets();
            let last: u8 = last.parse().ok()?;
            (first <= last).then(|| (first..=last).map(|d| IpAddr::V4(Ipv4Addr::new(a, b, c, d))).collect())
        }
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            let (first, last) = (segments[7], u16::from_str_radix(last, 16).ok()?);
            (first <= last).then(|| {
                let one = |segment: u16| {
                    segments[7] = segment;
                    IpAddr::V6(Ipv6Addr::from(segments))
                };
                (first..=last).map(one).collect()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_of_addresses() {
        let count = |text: &str| range(text).map(|list| list.len());
        assert_eq!(count("192.0.2.10"), Some(1));
        assert_eq!(range("192.0.2.10-12").unwrap()[2].to_string(), "192.0.2.12");
        assert_eq!(range("2001:db8::9-b").unwrap()[2].to_string(), "2001:db8::b");
        for wrong in ["192.0.2.10-9", "192.0.2.10-300", "x", "192.0.2.10-"] {
            assert_eq!(count(wrong), None, "{wrong}");
        }
    }
}

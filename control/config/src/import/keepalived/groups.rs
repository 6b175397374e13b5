//! `virtual_server_group`: what several virtual servers listen at.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shunt_model::fault::{Fault, printable};

use super::tree::Statement;
use super::values::Values;
use crate::import::writer::Writer;

/// What a service listens at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

    /// Whether it is of IPv6; none where that is left to the real servers.
    #[must_use]
    pub const fn family(&self) -> Option<bool> {
        match self {
            Self::Address(address) => Some(address.is_ipv6()),
            Self::Mark { is_ipv6, .. } => *is_ipv6,
        }
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
            let is_said = mark.is_some() && values.peek().is_some();
            let is_ipv6 = if is_said { values.choice(&[("inet", false), ("inet6", true)]) } else { None };
            // keepalived ignores one of a family that it does not know.
            if !is_said || is_ipv6.is_some() {
                members.extend(mark.map(|mark| Listen::Mark { mark, is_ipv6 }));
            }
            continue;
        }
        let l4_port = if values.peek().is_some() { values.integer(0..=u16::MAX) } else { Some(0) };
        values.end();
        let Some(addresses) = range(member.keyword()) else {
            let wrong = format!("{} is no member of a group", printable(member.keyword(), 60));
            let holds = "keepalived ignores it, for it is an address, a range such as 192.0.2.10-20, or fwmark and a number";
            writer.ignored(member.origin(), &place, Fault::new(wrong, holds, "write one of those"));
            continue;
        };
        if addresses.len() > MEMBERS_MAX {
            let wrong = format!("{} are too many addresses", member.keyword());
            let holds = format!("a range has at most {MEMBERS_MAX} of them");
            writer.refuse(member.origin(), &place, Fault::new(wrong, holds, "use a firewall mark"));
            continue;
        }
        let Some(l4_port) = l4_port else { continue };
        members
            .extend(addresses.into_iter().map(|address| Listen::Address(SocketAddr::new(address, l4_port))));
    }
    if members.is_empty() {
        let fault = Fault::new("a group without members", "keepalived has no such group", "add an address");
        return writer.ignored(statement.origin(), &place, fault);
    }
    let has = |is_ipv6: bool| members.iter().any(|member| member.family() == Some(is_ipv6));
    if has(false) && has(true) && members.iter().any(|member| member.family().is_none()) {
        let wrong = "a group of both families with a firewall mark of neither";
        let fault = Fault::new(wrong, "keepalived has no such group", "write inet or inet6 behind the mark");
        return writer.ignored(statement.origin(), &place, fault);
    }
    // The first of a name is found.
    groups.entry(name.to_owned()).or_insert(members);
}

/// Addresses of one range at most.
const MEMBERS_MAX: usize = 4096;

/// One address, those of a network (`192.0.2.16/28`), or those up to another one or to another last part:
/// `192.0.2.10-192.0.2.20`, `192.0.2.10-20`, `2001:db8::10-1f`. No more than one above [`MEMBERS_MAX`].
fn range(text: &str) -> Option<Vec<IpAddr>> {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    let (first, last) = if let Some((first, bits)) = text.split_once('/') {
        let first: IpAddr = first.parse().ok()?;
        let network = ipnet::IpNet::new(first, bits.parse().ok().filter(|bits| *bits > 0)?).ok()?;
        if network.network() != first {
            return None;
        }
        (first, number(network.broadcast()))
    } else {
        let (first, last) = text.split_once('-').map_or((text, None), |(first, last)| (first, Some(last)));
        let first: IpAddr = first.parse().ok()?;
        let last = match (first, last) {
            (_, None) => number(first),
            (_, Some(last)) if last.contains(['.', ':']) => {
                let last: IpAddr = last.parse().ok()?;
                (last.is_ipv4() == first.is_ipv4()).then(|| number(last))?
            }
            (IpAddr::V4(_), Some(last)) => number(first) & !0xff | u128::from(last.parse::<u8>().ok()?),
            (IpAddr::V6(_), Some(last)) => {
                number(first) & !0xffff | u128::from(u16::from_str_radix(last, 16).ok()?)
            }
        };
        (first, last)
    };
    let from = number(first);
    let address = |number: u128| match first {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(number as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    };
    let bounded = last.min(from.saturating_add(MEMBERS_MAX as u128));
    (from <= last).then(|| (from..=bounded).map(address).collect())
}

#[cfg(test)]
mod tests {
    use super::{MEMBERS_MAX, range};

    #[test]
    fn ranges_of_addresses() {
        let count = |text: &str| range(text).map(|list| list.len());
        assert_eq!(count("192.0.2.10"), Some(1));
        assert_eq!(range("192.0.2.10-12").unwrap()[2].to_string(), "192.0.2.12");
        assert_eq!(range("2001:db8::9-b").unwrap()[2].to_string(), "2001:db8::b");
        assert_eq!(range("192.0.2.254-192.0.3.1").unwrap()[3].to_string(), "192.0.3.1");
        assert_eq!(count("192.0.2.16/28"), Some(16));
        assert_eq!(count("2001:db8::/64"), Some(MEMBERS_MAX + 1));
        for wrong in [
            "192.0.2.17/28",
            "192.0.2.1/33",
            "192.0.2.0/0",
            "192.0.2.10-2001:db8::1",
            "192.0.2.10-9",
            "192.0.2.10-300",
            "x",
            "192.0.2.10-",
        ] {
            assert_eq!(count(wrong), None, "{wrong}");
        }
    }
}

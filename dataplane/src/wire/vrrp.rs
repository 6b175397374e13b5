//! By what packets of VRRP are known (RFC 9568; the authentication header of version 2: RFC 2338, 5.3.6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Fragment, Headers};
use crate::address::Address;

/// The protocol number of VRRP.
pub const PROTOCOL: u8 = 112;
/// The protocol number of the IPsec authentication header (RFC 2402), in which VRRP version 2 may travel.
pub const AUTHENTICATION_HEADER: u8 = 51;
/// The IPv4 group of adverts.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// The IPv6 group of adverts.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// True when a packet is VRRP by its protocol, behind an authentication header or not.
#[must_use]
pub fn is_vrrp<A: Address>(headers: &Headers<A>, frame: &[u8]) -> bool {
    headers.fragment == Fragment::Whole
        && match headers.protocol {
            PROTOCOL => true,
            AUTHENTICATION_HEADER => headers.transport_bytes(frame).first() == Some(&PROTOCOL),
            _ => false,
        }
}

/// True for the groups that adverts are sent to.
#[must_use]
pub fn is_group<A: Address>(address: A) -> bool {
    match address.into() {
        IpAddr::V4(address) => address == GROUP_V4,
        IpAddr::V6(address) => address == GROUP_V6,
    }
}

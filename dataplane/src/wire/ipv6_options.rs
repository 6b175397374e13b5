//! Extension headers of IPv6 that a router or a host has to look into: hop-by-hop and destination options, routing headers (RFC 8200,
//! 4.2 to 4.6; kernel: `ip6_parse_tlv`, `ipv6_rthdr_rcv`).

use super::array;
use super::icmp::Error;
use super::ipv6::{HEADER, extension};

/// Options that mean something in a hop-by-hop header (IANA).
const PAD: u8 = 0;
const PADS: u8 = 1;
const ROUTER_ALERT: u8 = 5;
const CALIPSO: u8 = 7;
const IOAM: u8 = 0x31;
const JUMBO: u8 = 0xc2;
/// The one of a destination header that Mobile IPv6 brought.
const HOME_ADDRESS: u8 = 0xc9;
/// Options that are no padding, of one header (kernel: `max_hbh_opts_cnt`, `max_dst_opts_cnt`).
const OPTIONS_MAX: usize = 8;
/// Bytes of padding in one place: what aligns to eight takes no more.
const PADDING_MAX: usize = 7;
/// What happens to who does not know an option, by its first two bits.
const UNKNOWN: u8 = 0xc0;
const PASSED_OVER: u8 = 0;
const DROPPED: u8 = 0x40;
/// Of a jumbo payload option: the least length that needs it, and how it is aligned.
const JUMBO_LEAST: u32 = 65536;
const JUMBO_ALIGNED: usize = 2;
/// Routing headers (IANA): of Mobile IPv6, of RPL, of segment routing. A host without them takes none.
const ROUTING_OF_OTHERS: [u8; 3] = [2, 3, 4];

/// Why a packet goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nobody is told.
    Silently,
    /// Its sender is told.
    Told(Error),
}

/// Where options stand: the same ones mean something in one place and nothing in the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Routers,
    Host,
}

/// Looks at what a packet tells every router: the options of a hop-by-hop header that follows the IPv6 header.
pub(crate) fn check_hop_by_hop(packet: &[u8]) -> Result<(), Refused> {
    check(packet, HEADER, For::Routers)
}

/// Looks at what a packet tells the host that it is for: up to the first header that is none of these.
pub(crate) fn check_as_host(packet: &[u8], first: u8) -> Result<(), Refused> {
    let (mut next, mut at) = (first, HEADER);
    while let Some([named, units, kind, left]) = array(packet, at) {
        match next {
            extension::DESTINATION => check(packet, at, For::Host)?,
            extension::ROUTING if ROUTING_OF_OTHERS.contains(&kind) => return Err(Refused::Silently),
            // RFC 8200, 4.4.
            extension::ROUTING if left > 0 => {
                return Err(Refused::Told(Error::ParameterProblem { at: at as u16 + 2 }));
            }
            extension::ROUTING | extension::HOP_BY_HOP => {}
            extension::FRAGMENT => {
                (next, at) = (named, at + 8);
                continue;
            }
            _ => break,
        }
        (next, at) = (named, at + (usize::from(units) + 1) * 8);
    }
    Ok(())
}

/// The options of the header that begins at `start` of a packet, which holds all of it.
fn check(packet: &[u8], start: usize, of: For) -> Result<(), Refused> {
    let units = packet.get(start + 1).map_or(0, |&units| usize::from(units));
    let end = start + (units + 1) * 8;
    let Some(header) = packet.get(..end) else { return Err(Refused::Silently) };
    let (mut at, mut padding, mut options) = (start + 2, 0, 0);
    while let Some(&kind) = header.get(at) {
        if kind == PAD {
            (at, padding) = (at + 1, padding + 1);
        } else {
            let length = header.get(at + 1).map_or(0, |&length| usize::from(length));
            let Some(value) = header.get(at + 2..at + 2 + length) else { return Err(Refused::Silently) };
            if kind == PADS {
                padding += length + 2;
                if value.iter().any(|&byte| byte != 0) {
                    return Err(Refused::Silently);
                }
            } else {
                (padding, options) = (0, options + 1);
                if options > OPTIONS_MAX {
                    return Err(Refused::Silently);
                }
                take(kind, value, at, (packet, of))?;
            }
            at += length + 2;
        }
        if padding > PADDING_MAX {
            return Err(Refused::Silently);
        }
    }
    Ok(())
}

/// One option, at this place of the packet.
fn take(kind: u8, value: &[u8], at: usize, (packet, of): (&[u8], For)) -> Result<(), Refused> {
    match kind {
        ROUTER_ALERT if of == For::Routers => silently(value.len() == 2),
        IOAM if of == For::Routers => silently(at % 4 == 0),
        // Labels mean nothing to a host that has no table of them.
        CALIPSO if of == For::Routers => Err(Refused::Silently),
        JUMBO if of == For::Routers => jumbo(value, at, packet),
        // Mobile IPv6 binds no address here.
        HOME_ADDRESS if of == For::Host => Err(Refused::Silently),
        _ => match kind & UNKNOWN {
            PASSED_OVER => Ok(()),
            DROPPED => Err(Refused::Silently),
            _ => Err(Refused::Told(Error::UnknownOption { at: at as u16 })),
        },
    }
}

const fn silently(holds: bool) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(Refused::Silently) }
}

/// The jumbo payload option (RFC 2675): no packet here is that long.
fn jumbo(value: &[u8], at: usize, packet: &[u8]) -> Result<(), Refused> {
    let Ok(length) = <[u8; 4]>::try_from(value).map(u32::from_be_bytes) else {
        return Err(Refused::Silently);
    };
    if at % 4 != JUMBO_ALIGNED {
        return Err(Refused::Silently);
    }
    if length < JUMBO_LEAST {
        return Err(Refused::Told(Error::ParameterProblem { at: at as u16 + 2 }));
    }
    if array(packet, super::ipv6::PAYLOAD_LENGTH.into()) != Some([0, 0]) {
        return Err(Refused::Told(Error::ParameterProblem { at: at as u16 }));
    }
    Err(Refused::Silently)
}

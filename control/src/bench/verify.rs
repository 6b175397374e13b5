//! The proof that packets are forwarded right: every byte that comes out is compared with what should.

use std::net::IpAddr;

use shunt_dataplane::address::Family;
use shunt_dataplane::service::Method;

use super::rig::Rig;
use super::traffic::{self, Kind, SOURCE_CLASSES, Traffic};
use super::{BenchError, Shape};

const ETHERNET: usize = 14;
/// A real server that was not learned yet.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// Opens all flows in the order of their numbers: a SYN and an ACK, or a datagram. Learns from what comes out in which
/// order real servers are chosen.
///
/// # Errors
/// When a packet does not come out again.
pub fn open(rig: &mut Rig, flows: u32) -> Result<(), BenchError> {
    let choices = if rig.traffic.by_source { SOURCE_CLASSES } else { rig.traffic.reals as usize };
    rig.traffic.order = vec![UNKNOWN; choices];
    pass(rig, flows, Kind::Opening)?;
    if rig.traffic.protocol == shunt_dataplane::id::Protocol::Tcp {
        pass(rig, flows, Kind::Request)?;
    }
    Ok(())
}

/// Notes that a flow was given to a real server, at the place that decides about it.
///
/// # Errors
/// When another flow of that place was given to another one.
pub(super) fn learn(traffic: &mut Traffic, flow: u32, real: u32) -> Result<(), BenchError> {
    let place = if traffic.by_source {
        traffic.source_class(flow)
    } else {
        (flow / traffic.services % traffic.reals) as usize
    };
    let known = &mut traffic.order[place];
    if *known != UNKNOWN && *known != real {
        return Err(BenchError::new(&format!(
            "flow {flow} went to real server {real}, others like it to {known}"
        )));
    }
    *known = real;
    Ok(())
}

/// A packet of each flow, in order; the last burst begins anew.
fn pass(rig: &mut Rig, flows: u32, kind: Kind) -> Result<(), BenchError> {
    let mut flow = 0;
    let mut sent = 0_u64;
    let mut shown = 0;
    let mut chosen = Vec::with_capacity(rig.burst());
    while sent < u64::from(flows) {
        let fed = rig.feed(|| {
            let this = flow;
            flow = if flow + 1 == flows { 0 } else { flow + 1 };
            (kind, this)
        });
        rig.turn();
        let drained = rig.drain(|burst| {
            if kind == Kind::Opening {
                chosen.extend(burst.iter().map(|mbuf| real_of(mbuf.data())));
            }
        });
        for real in chosen.drain(..) {
            if shown < flows {
                learn(&mut rig.traffic, shown, real)?;
            }
            shown += 1;
        }
        if fed == 0 || drained != fed {
            return Err(lost(rig, fed, drained));
        }
        sent += fed as u64;
    }
    // What no flow showed no packet will need.
    for real in rig.traffic.order.iter_mut().filter(|real| **real == UNKNOWN) {
        *real = 0;
    }
    Ok(())
}

/// Sends a packet of each flow and says of how many it did not come out or went to another real server than before.
///
/// # Errors
/// When there are no buffers.
pub fn missing(rig: &mut Rig, flows: u32) -> Result<u64, BenchError> {
    let mut there = 0;
    let mut flow = 0;
    while flow < flows {
        let first = flow;
        let count = (flows - flow).min(rig.burst() as u32);
        let fed = rig.feed_some(count as usize, || {
            flow += 1;
            (Kind::Request, flow - 1)
        });
        if fed == 0 {
            return Err(lost(rig, count as usize, 0));
        }
        rig.turn();
        let mut came = Vec::with_capacity(fed);
        rig.drain(|burst| came.extend(burst.iter().map(|mbuf| real_of(mbuf.data()))));
        // Frames come out in order; where one is missing, those after it are found behind it.
        let mut came = came.into_iter().peekable();
        for expected in (first..flow).map(|flow| rig.traffic.real(flow)) {
            there += u64::from(came.next_if_eq(&expected).is_some());
        }
    }
    Ok(u64::from(flows) - there)
}

/// The real server that a frame is addressed to, by its MAC.
pub(super) fn real_of(frame: &[u8]) -> u32 {
    frame.get(4..6).map_or(0, |bytes| u32::from(bytes[0]) << 8 | u32::from(bytes[1]))
}

/// Sends a packet of each flow that `next` names, `count` at least, and compares what comes out byte by byte.
///
/// # Errors
/// When a packet is lost or comes out otherwise than it should.
pub fn check(
    rig: &mut Rig,
    shape: &Shape,
    kind: Kind,
    count: u64,
    mut next: impl FnMut() -> u32,
) -> Result<u64, BenchError> {
    let mut compared = 0;
    let mut size = rig.next_size();
    while compared < count {
        let mut flows = Vec::with_capacity(rig.burst());
        let fed = rig.feed(|| {
            let flow = next();
            flows.push(flow);
            (kind, flow)
        });
        rig.turn();
        let mut frames = Vec::with_capacity(fed);
        let drained = rig.drain(|burst| frames.extend(burst.iter().map(|mbuf| mbuf.data().to_vec())));
        if fed == 0 || drained != fed {
            return Err(lost(rig, fed, drained));
        }
        for (flow, frame) in flows.into_iter().zip(frames) {
            let input = rig.traffic.frame(kind, size, flow);
            size = (size + 1) % rig.traffic.sizes();
            compare(&rig.traffic, shape, kind, flow, &input, &frame)?;
        }
        compared += fed as u64;
    }
    Ok(compared)
}

/// Compares a frame that came out with what it should be.
///
/// # Errors
/// When they differ; the message shows both.
pub(super) fn compare(
    traffic: &Traffic,
    shape: &Shape,
    kind: Kind,
    flow: u32,
    input: &[u8],
    frame: &[u8],
) -> Result<(), BenchError> {
    let wanted = expected(traffic, shape.method, kind, flow, input);
    if frame == wanted {
        return Ok(());
    }
    Err(BenchError::new(&format!(
        "{} {:?} {}: flow {flow}: the frame came out wrong\n  in      {}\n  out     {}\n  wanted  {}",
        shape.method,
        shape.family,
        shape.protocol,
        hex(input),
        hex(frame),
        hex(&wanted)
    )))
}

/// What a frame should be when it leaves the director: RFC 791 and RFC 8200 for the TTL, RFC 2003 and RFC 2473 for the tunnel,
/// with every checksum computed anew.
#[must_use]
pub fn expected(traffic: &Traffic, method: Method, kind: Kind, flow: u32, input: &[u8]) -> Vec<u8> {
    let family = traffic.family;
    let mut frame = input.to_vec();
    let real = traffic.real(flow);
    let to = if kind == Kind::Answer { traffic::ROUTER_MAC } else { traffic::real_mac(real) };
    frame[0..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&traffic::DIRECTOR_MAC.0);
    let (ttl, source, destination, transport, bytes) = match family {
        Family::V4 => (ETHERNET + 8, ETHERNET + 12, ETHERNET + 16, ETHERNET + 20, 4),
        Family::V6 => (ETHERNET + 7, ETHERNET + 8, ETHERNET + 24, ETHERNET + 40, 16),
    };
    frame[ttl] -= 1;
    if method == Method::Nat {
        let (address, at, port, port_at) = match kind {
            Kind::Answer => {
                let vip = traffic::vip(family, traffic.service(flow));
                (vip, source, traffic::SERVICE_PORT, transport)
            }
            _ => (traffic::real(family, real), destination, traffic::REAL_PORT, transport + 2),
        };
        frame[at..at + bytes].copy_from_slice(&octets(address));
        frame[port_at..port_at + 2].copy_from_slice(&port.to_be_bytes());
        traffic::fill_transport_checksum(family, traffic.protocol, &mut frame);
    }
    traffic::fill_ip_checksum(&mut frame, ETHERNET);
    if method == Method::Tun { tunnel(family, real, &frame) } else { frame }
}

/// The frame in an IP packet from the director to the real server.
fn tunnel(family: Family, real: u32, inner: &[u8]) -> Vec<u8> {
    let length = (inner.len() - ETHERNET) as u16;
    let (own, real) = (octets(traffic::own(family)), octets(traffic::real(family, real)));
    let mut header = match family {
        Family::V4 => {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, traffic::TTL - 1, 4, 0, 0];
            header[2..4].copy_from_slice(&(length + 20).to_be_bytes());
            header
        }
        Family::V6 => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, 41, traffic::TTL - 1];
            header[4..6].copy_from_slice(&length.to_be_bytes());
            header
        }
    };
    header.extend([own, real].concat());
    traffic::fill_ip_checksum(&mut header, 0);
    [&inner[..ETHERNET], &header, &inner[ETHERNET..]].concat()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(120).map(|byte| format!("{byte:02x}")).collect()
}

/// Packets did not come out: how many, and what the worker says of them.
pub fn lost(rig: &Rig, fed: usize, drained: usize) -> BenchError {
    BenchError::new(&format!("{fed} packets went in and {drained} came out: {}", rig.fates()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::traffic::FrameSize;
    use shunt_dataplane::id::Protocol;

    #[test]
    fn expectations_differ_where_they_should() {
        for family in [Family::V4, Family::V6] {
            let traffic = Traffic::new(family, Protocol::Tcp, FrameSize::Bytes(64), 1, 10);
            let input = traffic.frame(Kind::Request, 0, 7);
            let out = |method| expected(&traffic, method, Kind::Request, 7, &input);
            let (dr, nat, tun) = (out(Method::Dr), out(Method::Nat), out(Method::Tun));
            let header = if family == Family::V4 { 20 } else { 40 };
            assert_eq!(dr[0..6], traffic::real_mac(7).0);
            assert_eq!((tun.len(), &tun[ETHERNET + header..]), (dr.len() + header, &dr[ETHERNET..]));
            assert_eq!(nat[ETHERNET + header + 2..][..2], traffic::REAL_PORT.to_be_bytes());
            assert_ne!(dr, input);
        }
    }
}

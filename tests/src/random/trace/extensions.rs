//! Extension headers of IPv6: options that are known, unknown and malformed, and routing headers.

use super::{Trace, addresses, transport};
use crate::oracle::commands::Unknown;
use crate::packets::Ip;
use crate::random::rules::REALS;

/// Numbers of headers that others follow (IANA).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;
/// Options: padding, router alert, CALIPSO, IOAM, jumbo payload, home address, and unknown ones for each of what happens to who does
/// not know them; with the length that those which mean something have.
const OPTIONS: [(u8, u8); 12] = [
    (0, 0),
    (1, 2),
    (5, 2),
    (7, 8),
    (0x31, 2),
    (0xc2, 4),
    (0xc9, 16),
    (0x1e, 1),
    (0x3e, 3),
    (0x5e, 1),
    (0x9e, 2),
    (0xde, 1),
];
/// Routing headers: source routes, of Mobile IPv6, of RPL, of segment routing, one that nobody has, one for experiments.
const ROUTES: [u8; 6] = [0, 2, 3, 4, 5, 253];

impl Trace<'_> {
    /// A packet behind up to three such headers: for a service, for a VIP, past the services, or as an answer.
    pub(super) fn extended(&mut self) -> Result<(), Unknown> {
        let flow = self.some_flow();
        let (client, vip) = (self.family().client(1 + self.numbers.below(12)), self.some_vip());
        self.about.features.insert("extension headers");
        let flags = self.numbers.pick(&["S", "A", "PA", "FA", "R"]);
        let Some(flow) = flow.filter(|_| self.numbers.percent(75)) else {
            let protocol = self.numbers.pick(&[6, 17, 132]);
            let to = if self.is_marked() || self.numbers.percent(60) {
                vip
            } else {
                self.family().real(1 + self.numbers.below(REALS))
            };
            let packet = self.behind(&client, &to, (protocol, 50_600, 81), flags);
            return self.client_sends(&packet, false, "extension headers").map(drop);
        };
        let client = self.family().client(flow.client);
        let answers = flow.sent.as_ref().and_then(|sent| {
            let (_, real, protocol, at) = addresses(&sent.packet)?;
            let port = sent.packet.get(at + 2..at + 4)?;
            let is_nat = real.is_ipv6() && protocol == flow.protocol && real.to_string() != vip;
            is_nat.then(|| (sent.real, real.to_string(), u16::from_be_bytes([port[0], port[1]])))
        });
        if let Some((mac, real, real_port)) = answers.filter(|_| self.numbers.percent(40)) {
            let packet = self.behind(&real, &client, (flow.protocol, real_port, flow.client_port), flags);
            return self.real_sends(mac, &packet, "extension headers");
        }
        let vip = self.family().vip(flow.vip);
        let packet = self.behind(&client, &vip, (flow.protocol, flow.client_port, flow.vip_port), flags);
        self.client_sends(&packet, false, "extension headers").map(drop)
    }

    /// A packet with such headers in front of its transport header.
    fn behind(
        &mut self,
        source: &str,
        destination: &str,
        (protocol, from, to): (u8, u16, u16),
        flags: &str,
    ) -> Vec<u8> {
        let mut kinds = if self.numbers.percent(50) { vec![HOP_BY_HOP] } else { Vec::new() };
        let more = usize::from(kinds.is_empty()) + self.numbers.below(2);
        kinds.extend((0..more).map(|_| self.numbers.pick(&[DESTINATION, DESTINATION, ROUTING])));
        let ip = Ip::new(source, destination);
        let whole = transport(&ip, protocol, (from, to), (flags, 1), b"behind");
        let mut payload = whole[self.family().header()..].to_vec();
        let mut next = protocol;
        for &kind in kinds.iter().rev() {
            let mut header = if kind == ROUTING { self.route() } else { self.options() };
            header[0] = next;
            payload.splice(0..0, header);
            next = kind;
        }
        ip.carry(next, &payload)
    }

    /// A header of up to three options, filled up to a multiple of eight bytes.
    fn options(&mut self) -> Vec<u8> {
        let mut header = vec![0, 0];
        for _ in 0..self.numbers.below(4) {
            let (kind, length) = self.numbers.pick(&OPTIONS);
            if kind == 0 {
                header.extend(vec![0; 1 + self.numbers.below(9)]);
                continue;
            }
            let length = match self.numbers.below(10) {
                0 => self.numbers.below(256) as u8,
                1 | 2 => self.numbers.below(8) as u8,
                _ => length,
            };
            let byte = u8::from(self.numbers.percent(15));
            header.extend([kind, length]);
            header.extend(vec![byte; usize::from(length.min(24))]);
        }
        match header.len().next_multiple_of(8) - header.len() {
            0 => {}
            1 => header.push(0),
            room => {
                header.extend([1, (room - 2) as u8]);
                header.extend(vec![0; room - 2]);
            }
        }
        header[1] = (header.len() / 8 - 1) as u8;
        header
    }

    /// A routing header with one address. What the first kind leads further by is a difference (docs/differences.md).
    fn route(&mut self) -> Vec<u8> {
        let kind = self.numbers.pick(&ROUTES);
        let left = if kind == 0 { 0 } else { self.numbers.pick(&[0, 0, 1, 2]) };
        let mut header = vec![0, 2, kind, left];
        header.resize(24, 0);
        header[8..10].copy_from_slice(&[0x20, 1]);
        header
    }
}

//! Datagrams in fragments of any size, and IPv6 fragments that are all of their datagram.

use shunt_dataplane::id::Mac;

use super::{CROSSING, Flow, GUE, Trace, addresses, transport};
use crate::oracle::commands::Unknown;
use crate::packets::{Ip, number};
use crate::random::rules::Family;

/// Bytes of data that a fragment may have, whichever header it has.
const MOST: usize = 1448;

impl Trace<'_> {
    /// A datagram in fragments, in any order. Of one in a while a fragment is lost: the kernel's timers tell of two at a time in
    /// any order. It is one of UDP, since half-open connections end at about the time when its sender is told.
    pub(super) fn fragmented(&mut self) -> Result<(), Unknown> {
        let Some(flow) = self.some_flow() else { return Ok(()) };
        let (client, vip) = (self.family().client(flow.client), self.family().vip(flow.vip));
        if self.family() == Family::V6 && self.numbers.percent(25) {
            return self.atomic(&flow);
        }
        // What does not fit a tunnel of IPv4 is cut in another way, which docs/differences.md tells of.
        let crosses = self.about.features.contains(CROSSING) && self.family() == Family::V6;
        // The kernel passes a first fragment that ends within its TCP header on to DR and TUN real servers (docs/differences.md).
        let passes = self.family() == Family::V6
            && flow.protocol == number::TCP
            && flow.sent.as_ref().is_some_and(|sent| !is_nat(sent, &vip));
        let ports = (flow.client_port, flow.vip_port);
        let mut pieces = self.pieces((&client, &vip), flow.protocol, ports, crosses, passes);
        self.about.features.insert("fragments");
        let may_lack = !self.incomplete && flow.protocol == number::UDP && pieces.len() > 1;
        if may_lack && self.numbers.percent(40) {
            self.about.features.insert("incomplete datagrams");
            self.incomplete = true;
            pieces.remove(self.numbers.below(pieces.len()));
        }
        for piece in pieces {
            self.client_sends(&piece, false, "fragment")?;
        }
        Ok(())
    }

    /// A packet with a fragment header that is all of its datagram (RFC 6946).
    fn atomic(&mut self, flow: &Flow) -> Result<(), Unknown> {
        let (client, vip) = (self.family().client(flow.client), self.family().vip(flow.vip));
        let ip = self.header(&client, &vip);
        let ports = (flow.client_port, flow.vip_port);
        let flags = self.numbers.pick(&["S", "A", "PA", "FA"]);
        let whole = transport(&ip, flow.protocol, ports, (flags, 0), b"all of it");
        self.about.features.insert("atomic fragments");
        let piece = fragments(&ip, flow.protocol, &whole[self.family().header()..], &[]).remove(0);
        self.client_sends(&piece, false, "atomic fragment").map(drop)
    }

    fn has_real(&self, mac: Mac) -> bool {
        let number = usize::from(mac.0[5]).wrapping_sub(0x10);
        self.rules.services.iter().any(|service| service.there && service.reals.contains(&number))
    }

    /// A NAT real server answers in fragments.
    pub(super) fn fragmented_answer(&mut self) -> Result<(), Unknown> {
        let Some(flow) = self.some_flow() else { return Ok(()) };
        let Some(sent) = flow.sent.clone() else { return Ok(()) };
        let Some((_, real, protocol, at)) = addresses(&sent.packet) else { return Ok(()) };
        if real.to_string() == self.family().vip(flow.vip) || protocol != flow.protocol {
            return Ok(());
        }
        let Some(&[high, low]) = sent.packet.get(at + 2..at + 4) else { return Ok(()) };
        let real_port = u16::from_be_bytes([high, low]);
        // Not an answer, but a tunnel; or of one that is no real server now, whose fragments pass one by one (docs/differences.md).
        if real_port == GUE || !self.has_real(sent.real) {
            return Ok(());
        }
        let client = self.family().client(flow.client);
        let pieces =
            self.pieces((&real.to_string(), &client), protocol, (real_port, flow.client_port), false, false);
        self.about.features.insert("answers in fragments");
        for piece in pieces {
            self.real_sends(sent.real, &piece, "fragment of an answer")?;
        }
        Ok(())
    }

    /// A datagram's fragments, in any order.
    fn pieces(
        &mut self,
        (source, destination): (&str, &str),
        protocol: u8,
        ports: (u16, u16),
        is_small: bool,
        holds_header: bool,
    ) -> Vec<Vec<u8>> {
        let ip = Ip::new(source, destination).id(self.numbers.below(1 << 16) as u16);
        let length = if is_small { 200 } else { self.numbers.pick(&[200, 203, 1600, 2500]) };
        let data = (0..length).map(|at| at as u8).collect::<Vec<_>>();
        let flags = if self.numbers.percent(15) { "S" } else { "PA" };
        let whole = transport(&ip, protocol, ports, (flags, 0), &data);
        let whole = &whole[self.family().header()..];
        let mut cuts = self.cuts(whole.len());
        if holds_header {
            cuts.retain(|&cut| cut >= 24);
        }
        let mut pieces = fragments(&ip, protocol, whole, &cuts);
        match self.numbers.below(10) {
            0..=2 => pieces.reverse(),
            3 => pieces.rotate_left(1),
            _ => {}
        }
        pieces
    }

    /// Where a datagram is cut: in the middle, behind a first fragment that holds less than a header, before a last one that is
    /// short, or anywhere.
    fn cuts(&mut self, length: usize) -> Vec<usize> {
        let mut cuts = match self.numbers.below(8) {
            0 | 1 => {
                self.about.features.insert("tiny first fragments");
                vec![self.numbers.pick(&[8, 8, 16, 24])]
            }
            2 => {
                self.about.features.insert("short last fragments");
                vec![(length - 1) / 8 * 8]
            }
            3..=5 => {
                self.about.features.insert("unequal fragments");
                let some = 1 + self.numbers.below(4);
                (0..some).map(|_| (1 + self.numbers.below((length - 1) / 8)) * 8).collect()
            }
            _ => vec![length / 2 / 8 * 8],
        };
        cuts.sort_unstable();
        cuts.dedup();
        // None is larger than a frame.
        let mut all: Vec<usize> = Vec::new();
        for end in cuts.into_iter().chain([length]) {
            while end - all.last().copied().unwrap_or_default() > MOST {
                all.push(all.last().copied().unwrap_or_default() + MOST);
            }
            if end < length {
                all.push(end);
            }
        }
        all
    }
}

/// True for what NAT sent on.
fn is_nat(sent: &super::Sent, vip: &str) -> bool {
    addresses(&sent.packet).is_some_and(|(_, to, protocol, at)| {
        let port = sent.packet.get(at + 2..at + 4);
        to.to_string() != *vip && matches!(protocol, number::TCP | number::SCTP) && port.is_some()
    })
}

/// The fragments of what follows a header, cut at these places.
fn fragments(ip: &Ip, protocol: u8, data: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let ends = cuts.iter().copied().chain([data.len()]);
    let piece = |(start, end): (usize, usize)| {
        let (offset, more) = ((start / 8) as u16, u16::from(end < data.len()));
        let piece = &data[start..end];
        if ip.source.is_ipv4() {
            return Ip { fragment: more << 13 | offset, ..ip.clone() }.carry(protocol, piece);
        }
        let header =
            [&[protocol, 0][..], &(offset << 3 | more).to_be_bytes(), &[0, 0], &ip.id.to_be_bytes()].concat();
        ip.carry(number::FRAGMENT, &[&header, piece].concat())
    };
    [0].into_iter().chain(cuts.iter().copied()).zip(ends).map(piece).collect()
}

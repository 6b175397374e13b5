//! Fragments for services and from NAT real servers: put together, treated as the one packet that they are, and fragmented
//! again (kernel: `ip_vs_gather_frags`).

use super::decide::{Asked, Case};
use super::{Aside, Forwarder, Punt, Tables, Verdict};
use crate::id::NicId;
use crate::packet::Packet;
use crate::reason::DropReason;
use crate::reassembly::{Added, Whole};
use crate::snapshot::{Local, Snapshot};
use crate::time::Tick;
use crate::wire::{Headers, IpVersion, ethernet, ipv6};

/// ECN: congestion experienced.
const CONGESTION: u8 = 0x03;

/// What is known of the datagram that is at hand, when it came in fragments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gathered {
    /// Bytes of the largest fragment that came: none that leaves is larger.
    pub largest: u16,
    /// What the way on takes, once that was found to be less than the datagram.
    pub mtu: u16,
}

impl Forwarder {
    /// What becomes of a fragment: it is gathered for services and from NAT real servers, by the worker that owns the
    /// client, and routed else.
    #[cold]
    pub(super) fn fragment<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
    ) -> super::decide::Decided<'s, A> {
        if asked.headers.link_group {
            return Err(Aside::Drop(DropReason::Group));
        }
        let (source, destination) = (asked.headers.source, asked.headers.destination);
        let from_real = asked.tables.nat_reals.contains_key(&source);
        let remote = asked.asked_out_there(source, destination);
        match asked.local()? {
            Some(Local::Elsewhere) => return Err(Aside::Drop(DropReason::NotMaster)),
            Some(Local::Own(_)) if remote.is_none() => return Err(Aside::Punt(Punt::Local)),
            None if !from_real && remote.is_none() => return asked.route(),
            Some(_) | None => {}
        }
        if asked.snapshot.owners.workers > 1 && !asked.packet.handed_over {
            let owned = match remote {
                Some(remote) => self.owned(asked.snapshot, asked.packet, remote),
                None => self.own(asked.snapshot, source, destination),
            };
            if let Err(Case::HandOver(owner)) = owned {
                return Err(Aside::HandOver(owner));
            }
        }
        Err(Aside::Gather)
    }

    /// Takes a fragment; with the last one that was missing the datagram goes its way.
    #[cold]
    pub(super) fn gather<A: Tables>(
        &mut self,
        snapshot: &Snapshot,
        packet: &Packet<'_>,
        headers: &Headers<A>,
        now: Tick,
    ) -> Verdict {
        let part = match A::fragment_part(packet.bytes(), headers) {
            Ok(part) => part,
            Err(reason) => return Verdict::Drop(reason),
        };
        let counters = &self.counters;
        let reassembly = A::reassembly(&mut self.fragments);
        let place = match reassembly.add(&part, now, || counters.incomplete.add(1)) {
            Ok(Added::Kept) => return Verdict::Gather,
            Ok(Added::Whole(place)) => place,
            Err(reason) => return Verdict::Drop(reason),
        };
        let mut whole = reassembly.lend(place);
        let verdict = self.gathered::<A>(snapshot, packet.nic, &mut whole, now);
        // A datagram that waits for a neighbour waits here; its last fragment comes again.
        let waits = matches!(verdict, Verdict::Punt(_));
        A::reassembly(&mut self.fragments).give_back(place, whole.bytes, waits);
        verdict
    }

    /// A datagram whose fragments are together. What leaves of it is left to be sent beside the packets of the burst.
    fn gathered<A: Tables>(
        &mut self,
        snapshot: &Snapshot,
        nic: NicId,
        whole: &mut Whole,
        now: Tick,
    ) -> Verdict {
        let start = whole.start - ethernet::HEADER;
        let length = whole.length + ethernet::HEADER;
        // Those who reply write behind headers, and nobody looks at what the Ethernet header says of its sender.
        let mut packet = Packet::new(&mut whole.bytes, start, length, nic);
        packet.handed_over = true;
        let own = snapshot.nic(nic).map(|view| view.mac).unwrap_or_default();
        ethernet::write(packet.bytes_mut(), own, own, A::ETHERTYPE);
        A::mend_header(packet.bytes_mut(), whole.dont_fragment);
        if whole.congestion {
            A::set_traffic_class_bits(packet.bytes_mut(), CONGESTION);
        }
        let headers = match A::parse_large(packet.bytes()) {
            Ok(headers) => headers,
            Err(reason) => return Verdict::Drop(reason),
        };
        self.counters.gathered.add(1);
        self.gathered = Some(Gathered { largest: whole.largest, mtu: u16::MAX });
        let staged = super::Staged::new(headers, A::table(&self.connections));
        let verdict = self.whole(snapshot, &mut packet, &staged, now);
        let mtu = self.gathered.take().map_or(u16::MAX, |gathered| gathered.mtu);
        let out = match verdict {
            Verdict::Send(out) => out,
            Verdict::Reply(out, kind) => {
                self.counters.replies.at(kind as usize).add(1);
                out
            }
            // The kernel side would get a part of it.
            Verdict::HandOver(_) | Verdict::Gather | Verdict::Punt(Punt::Local | Punt::Vrrp) => {
                return Verdict::Drop(DropReason::Fragment);
            }
            Verdict::Punt(_) | Verdict::Drop(_) => return verdict,
        };
        let mtu = mtu.min(snapshot.nic(out).map_or(u16::MAX, |view| view.mtu));
        let same = packet.len() == length && matches!(verdict, Verdict::Send(_));
        // What came in fragments leaves in none larger; an answer is the director's own.
        let largest = match verdict {
            Verdict::Reply(..) => u16::MAX,
            _ if A::BITS > 32 => whole.largest.max(ipv6::SMALLEST_MTU),
            _ => whole.largest,
        };
        let identification = self.next_fragment_identification();
        // IPv6 keeps the sender's cuts where those are of use to the way on, and no extension headers are in front of them
        // (kernel: `ip6_fragment`, whose buffers have room for no more).
        let smallest = usize::from(ipv6::SMALLEST_MTU);
        let extended =
            ipv6::unfragmentable(packet.bytes().get(ethernet::HEADER..).unwrap_or_default()).0 > ipv6::HEADER;
        let keeps = !extended && (whole.largest >= ipv6::SMALLEST_MTU || whole.length <= smallest);
        let done = if A::BITS > 32 && same && whole.length <= usize::from(whole.largest.min(mtu)) {
            Ok(())
        } else if A::BITS > 32 && same && whole.largest <= mtu && keeps {
            self.pieces.split_at(&mut packet, out, &whole.cuts, identification)
        } else if A::BITS > 32 && same && extended && whole.length <= smallest.min(mtu.into()) {
            self.pieces.split_at(&mut packet, out, &[], identification)
        } else {
            self.pieces.split(&mut packet, out, mtu.min(largest), identification)
        };
        match done.and_then(|()| self.pieces.push_first(out, packet.bytes())) {
            Ok(()) => Verdict::Gather,
            Err(reason) => Verdict::Drop(reason),
        }
    }
}

//! Fragments for services and from NAT real servers: put together, treated as the one packet that they are, and fragmented
//! again (kernel: `ip_vs_gather_frags`).

use arrayvec::ArrayVec;

use super::decide::Asked;
use super::decision::Case;
use super::{Aside, Forwarder, Punt, Tables, Verdict};
use crate::id::NicId;
use crate::packet::Packet;
use crate::reason::DropReason;
use crate::reassembly::{Added, FRAGMENTS_MAX, Whole};
use crate::snapshot::{Local, Snapshot};
use crate::time::Tick;
use crate::wire::{Headers, IpVersion, ethernet, ipv6};

/// ECN: congestion experienced.
const CONGESTION: u8 = 0x03;

/// IP packets of at most so many bytes are kept in one piece by the drivers of the recordings' NICs (kernel: `GOOD_COPY_LEN`
/// without the Ethernet header).
const COPIED: u16 = 114;

/// How a datagram came.
struct Came {
    /// Bytes of it.
    length: usize,
    /// Bytes of its largest fragment.
    largest: u16,
    /// Where in its data fragments began, in order.
    cuts: ArrayVec<usize, FRAGMENTS_MAX>,
}

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
    ) -> super::decision::Decided<'s, A> {
        if asked.headers.link_group {
            return Err(Aside::Drop(DropReason::Group));
        }
        let (source, destination) = (asked.headers.source, asked.headers.destination);
        let from_real = asked.tables.nat_reals.contains_key(&source);
        let remote = asked.asked_out_there(source, destination);
        match asked.local()? {
            Some(Local::Elsewhere) => return Err(Aside::Drop(DropReason::NotMaster)),
            Some(Local::Own(_)) if remote.is_none() => return Err(Aside::Punt(Punt::Local)),
            None if !from_real && remote.is_none() => return self.routed(asked),
            Some(_) | None => {}
        }
        if asked.snapshot.owners.workers > 1 && !asked.packet.handed_over {
            let owned = match remote {
                Some(remote) => self.owned(asked.snapshot, asked.packet, remote),
                None => self.own(asked.snapshot, asked.packet.nic, source, destination),
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
        let place = match reassembly.add(&part, packet.nic, now, || counters.incomplete.add(1)) {
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
        let came = Came { length: whole.length, largest: whole.largest, cuts: whole.cuts.clone() };
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
        // What came in fragments leaves in none larger, but in a tunnel of the other family; an answer is the director's own.
        let crosses = ethernet::ethertype(packet.bytes()) != Some(A::ETHERTYPE);
        let done = match verdict {
            Verdict::Send(_) if A::BITS > 32 && !crosses => self.leave_v6(&mut packet, out, &came, mtu),
            _ => {
                let is_own = matches!(verdict, Verdict::Reply(..));
                let largest = if is_own || crosses { u16::MAX } else { whole.largest };
                let identification = self.next_fragment_identification();
                self.pieces.split(&mut packet, out, mtu.min(largest), identification)
            }
        };
        match done.and_then(|()| self.pieces.push_first(out, packet.bytes())) {
            Ok(()) => Verdict::Gather,
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// An IPv6 datagram leaves: whole when no fragment of it was smaller, else in fragments, if only in one (kernel:
    /// `ip6_fragment`). It keeps the sender's cuts where those are of use to the way on, and where the kernel does: where the
    /// drivers of its NICs keep each frame in one piece.
    fn leave_v6(
        &mut self,
        packet: &mut Packet<'_>,
        out: NicId,
        came: &Came,
        mtu: u16,
    ) -> Result<(), DropReason> {
        let length = packet.len() - ethernet::HEADER;
        if length <= usize::from(came.largest.min(mtu)) {
            return Ok(());
        }
        let identification = self.next_fragment_identification();
        // A tunnel's header goes in front of the first fragment.
        let shift = length.saturating_sub(came.length);
        let is_small = came.largest <= COPIED && shift % 8 == 0;
        // Where extension headers are in front of them the kernel's buffers have room for no more.
        let header = ipv6::unfragmentable(packet.bytes().get(ethernet::HEADER..).unwrap_or_default()).0;
        let extended = header > ipv6::HEADER;
        let keeps = is_small || (came.largest >= ipv6::SMALLEST_MTU && length == came.length);
        if keeps && !extended && came.largest <= mtu {
            let mut cuts = came.cuts.clone();
            cuts.iter_mut().filter(|cut| **cut > 0).for_each(|cut| *cut += shift);
            return self.pieces.split_at(packet, out, &cuts, identification);
        }
        let largest = mtu.min(came.largest.max(ipv6::SMALLEST_MTU));
        self.pieces.split_v6(packet, out, usize::from(largest), identification)
    }
}

//! Fragments for services and from NAT real servers: put together, treated as the one packet that they are, and fragmented
//! again (kernel: `ip_vs_gather_frags`).

use arrayvec::ArrayVec;

use super::decide::Asked;
use super::decision::{Case, Decided, no_connection};
use super::pieces::Cut;
use super::{Aside, Forwarder, Punt, Tables, Verdict};
use crate::address::Address;
use crate::id::{NicId, Protocol};
use crate::packet::Packet;
use crate::reason::{DropReason, Incomplete, ReplyKind};
use crate::reassembly::{Added, FRAGMENTS_MAX, Place, Whole};
use crate::snapshot::{Local, Snapshot};
use crate::time::Tick;
use crate::wire::icmp::Error;
use crate::wire::{Fragment, Headers, IpVersion, ethernet, ipv6, sctp, tcp, udp};

/// ECN: congestion experienced.
const CONGESTION: u8 = 0x03;

/// IP packets of at most so many bytes are copied by the driver of the recordings' NICs (kernel: `GOOD_COPY_LEN` without the
/// Ethernet header).
const COPIED: usize = 114;
/// IP packets of more bytes than this, behind which a buffer of that driver has no room for the kernel's notes, are copied in part.
const FILLS_ITS_BUFFER: usize = 1190;

/// How a datagram came.
struct Came<A> {
    source: A,
    destination: A,
    /// It was for the director itself, so that the kernel joined its fragments in memory (kernel: `ip_frag_coalesce_ok`).
    delivered: bool,
    /// Bytes of it.
    length: usize,
    /// Bytes of its headers.
    header: usize,
    /// Bytes of its largest fragment.
    largest: u16,
    /// Where in its data fragments began, in order.
    cuts: ArrayVec<usize, FRAGMENTS_MAX>,
}

impl<A> Came<A> {
    /// Bytes of data in each fragment, in order.
    fn fragments(&self) -> impl Iterator<Item = usize> + Clone {
        let ends = self.cuts.iter().skip(1).copied().chain([self.length - self.header]);
        ends.zip(self.cuts.iter().copied()).map(|(end, start)| end.saturating_sub(start))
    }

    /// Bytes of the transport header that NAT writes to, when an IPv4 datagram has one.
    const fn written(protocol: u8) -> usize {
        match Protocol::from_number(protocol) {
            Some(Protocol::Tcp) => tcp::HEADER,
            Some(Protocol::Sctp) => sctp::HEADER,
            Some(Protocol::Udp | Protocol::Icmp) | None => udp::HEADER,
        }
    }
}

/// What is known of the datagram that is at hand, when it came in fragments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gathered {
    /// Bytes of the largest fragment that came: none that leaves is larger.
    pub largest: u16,
    /// What the way on takes, once that was found to be less than the datagram.
    pub mtu: u16,
}

impl<'s, A: Tables + IpVersion> Asked<'s, '_, A> {
    /// What becomes of an IPv6 fragment that is not the last and whose data is no multiple of eight bytes: its sender is told where
    /// it would be put together (RFC 8200, 4.5; kernel: `ip6_frag_queue`), and whom it passes looks at its header alone
    /// (kernel: `nf_ct_frag6_gather`).
    #[cold]
    #[inline(never)]
    fn uneven(&self) -> Decided<'s, A> {
        match self.local()? {
            Some(Local::Vip) => {
                let error = Error::ParameterProblem { at: ipv6::PAYLOAD_LENGTH };
                let source = Some(self.headers.destination);
                let then = self.error(error, ReplyKind::ParameterProblem, source, DropReason::Fragment);
                Ok(no_connection(then))
            }
            // Ports that NAT would have to write stand in the first one.
            None if self.headers.fragment == Fragment::Later => self.route(),
            _ => Err(Aside::Drop(DropReason::Fragment)),
        }
    }

    /// What is known beforehand of a fragment that is to be put together with others: nothing, but that it cannot be.
    #[cold]
    pub(super) fn gathers(&self) -> Decided<'s, A> {
        match A::fragment_part(self.packet.bytes(), self.headers) {
            Ok(part) if part.is_uneven() => self.uneven(),
            Ok(_) => Err(Aside::Gather),
            Err(reason) => Err(Aside::Drop(reason)),
        }
    }
}

impl Forwarder {
    /// What becomes of a fragment: it is gathered for services and from NAT real servers, by the worker that owns the
    /// client, and routed else.
    #[cold]
    pub(super) fn fragment<'s, A: Tables + IpVersion>(&self, asked: &Asked<'s, '_, A>) -> Decided<'s, A> {
        if asked.headers.link_group {
            return Err(Aside::Drop(DropReason::Group));
        }
        if A::BITS > 32 && is_cut_short(asked.headers) {
            return self.cut_short(asked);
        }
        let (source, destination) = (asked.headers.source, asked.headers.destination);
        let from_real = asked.tables.nat_reals.contains_key(&source);
        let remote = asked.asked_out_there(source, destination);
        match asked.local()? {
            Some(Local::Elsewhere) => return Err(Aside::Drop(DropReason::NotMaster)),
            Some(Local::Own(_)) if remote.is_none() => return Err(Aside::Punt(Punt::Local)),
            // One that is all of its datagram needs no other.
            None if !from_real && remote.is_none() && asked.headers.fragment != Fragment::Atomic => {
                return self.routed(asked);
            }
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

    /// A first fragment of IPv6 that is cut within its headers is put together with no other (RFC 8200, 4.5; kernel:
    /// `ipv6frag_thdr_truncated`): it goes on alone if it only passes. Its sender is told by the VIP's host, which does not see those
    /// that services may have.
    fn cut_short<'s, A: Tables + IpVersion>(&self, asked: &Asked<'s, '_, A>) -> Decided<'s, A> {
        match asked.local()? {
            Some(Local::Elsewhere) => return Err(Aside::Drop(DropReason::NotMaster)),
            Some(Local::Own(_)) => return Err(Aside::Punt(Punt::Local)),
            Some(Local::Vip) if !asked.accepts() => return Err(Aside::Drop(DropReason::NotAccepted)),
            Some(Local::Vip)
                if asked.tables.services.is_empty() || asked.headers.transport_protocol().is_none() =>
            {
                let error = Error::IncompleteHeaders { at: 0 };
                return asked.refuse(error, error.reply_kind(), DropReason::TransportHeader);
            }
            Some(Local::Vip) => return Err(Aside::Drop(DropReason::TransportHeader)),
            None => {}
        }
        let (source, destination) = (asked.headers.source, asked.headers.destination);
        if let Err(Case::HandOver(owner)) = self.own(asked.snapshot, asked.packet.nic, source, destination) {
            if !asked.packet.handed_over {
                return Err(Aside::HandOver(owner));
            }
        }
        // What would be rewritten cannot be.
        if self.is_rewritten(asked) {
            return Err(Aside::Drop(DropReason::TransportHeader));
        }
        self.routed(asked)
    }

    /// Takes a fragment; with the last one that was missing the datagram goes its way.
    #[cold]
    pub(super) fn gather<A: Tables>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        now: Tick,
    ) -> Verdict {
        let part = match A::fragment_part(packet.bytes(), headers) {
            Ok(part) => part,
            Err(reason) => return Verdict::Drop(reason),
        };
        let is_uneven = part.is_uneven();
        let counters = &self.counters;
        let of_family = &counters.fragments[A::FAMILY as usize];
        let reassembly = A::reassembly(&mut self.fragments);
        let added = reassembly.add(&part, packet.nic, now, |why| {
            counters.incomplete.at(why as usize).add(1);
            of_family.reclaimed.add(u64::from(why == Incomplete::Memory));
        });
        of_family.used.set(reassembly.memory().0);
        let place = match added {
            Ok(Added::Kept) => return Verdict::Gather,
            Ok(Added::Whole(place)) => place,
            Err(_) if is_uneven => return self.uneven(snapshot, packet, headers, now),
            Err(reason) => return Verdict::Drop(reason),
        };
        let mut whole = reassembly.lend(place);
        let verdict = self.gathered::<A>(snapshot, packet.nic, &mut whole, now);
        // A datagram that waits for a neighbour waits here; its last fragment comes again.
        let waits = matches!(verdict, Verdict::Punt(_));
        self.give_back::<A>(place, whole.bytes, waits);
        verdict
    }

    /// Takes an IPv6 fragment that is part of no datagram: the length of its data cannot be right.
    #[cold]
    fn uneven<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        headers: &Headers<A>,
        now: Tick,
    ) -> Verdict {
        match Asked::new(snapshot, packet, headers, now).uneven() {
            Ok(decision) => self.commit(snapshot, packet, headers, decision, now),
            Err(aside) => self.stand_aside::<A>(snapshot, aside),
        }
    }

    /// Takes a datagram's buffer back, and notes how much memory is in use.
    pub(super) fn give_back<A: Tables>(&mut self, place: Place, bytes: Vec<u8>, kept: bool) {
        let reassembly = A::reassembly(&mut self.fragments);
        reassembly.give_back(place, bytes, kept);
        self.counters.fragments[A::FAMILY as usize].used.set(reassembly.memory().0);
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
        let local = A::tables(snapshot).local.get(nic, headers.destination);
        let came = Came {
            source: headers.source,
            destination: headers.destination,
            delivered: matches!(local, Some(Local::Vip)),
            length: whole.length,
            header: whole.header,
            largest: whole.largest,
            cuts: whole.cuts.clone(),
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
            Verdict::Send(_) if crosses => self.leave_in(&mut packet, out, mtu),
            Verdict::Send(_) if A::BITS > 32 => self.leave_v6(&mut packet, out, &came, mtu),
            Verdict::Send(_) => self.leave_v4(&mut packet, out, (&came, headers.protocol), mtu),
            _ => self.leave_in(&mut packet, out, mtu),
        };
        match done.and_then(|()| self.pieces.push_first(out, packet.bytes())) {
            Ok(()) => Verdict::Gather,
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// A datagram that is no longer what came leaves, in fragments if it must.
    fn leave_in(&mut self, packet: &mut Packet<'_>, out: NicId, mtu: u16) -> Result<(), DropReason> {
        let identification = self.next_fragment_identification();
        self.pieces.split(packet, out, mtu, identification)
    }

    /// An IPv4 datagram leaves. What only passes keeps the cuts that it came with if they are of use to the way on; else none of its
    /// fragments is larger than the largest that came (kernel: `ip_do_fragment`).
    fn leave_v4<A: Tables>(
        &mut self,
        packet: &mut Packet<'_>,
        out: NicId,
        (came, protocol): (&Came<A>, u8),
        mtu: u16,
    ) -> Result<(), DropReason> {
        let first = came.fragments().next().unwrap_or_default();
        let is_written = addresses::<A>(packet.bytes()) != Some((came.source, came.destination));
        let keeps =
            !came.delivered && came.largest <= mtu && (!is_written || first >= Came::<A>::written(protocol));
        if keeps {
            return self.pieces.cut(packet, out, Cut::At(&came.cuts), 0);
        }
        self.pieces.split(packet, out, mtu.min(came.largest), 0)
    }

    /// An IPv6 datagram leaves: whole when no fragment of it was smaller, else in fragments, if only in one (kernel:
    /// `ip6_fragment`). It keeps the sender's cuts where those are of use to the way on, and where the kernel does: where its
    /// buffers have room in front of each.
    fn leave_v6<A: Tables>(
        &mut self,
        packet: &mut Packet<'_>,
        out: NicId,
        came: &Came<A>,
        mtu: u16,
    ) -> Result<(), DropReason> {
        let length = packet.len() - ethernet::HEADER;
        if length <= usize::from(came.largest.min(mtu)) {
            return Ok(());
        }
        let identification = self.next_fragment_identification();
        // A tunnel's header goes in front of the first fragment.
        let shift = length.saturating_sub(came.length);
        let mut packets = came.fragments().map(|data| came.header + ipv6::FRAGMENT_HEADER + data);
        let are_small = packets.clone().all(|length| length <= COPIED) && shift % 8 == 0;
        let have_room =
            length == came.length && packets.all(|length| length <= COPIED || length > FILLS_ITS_BUFFER);
        // Where extension headers are in front of them the kernel's buffers have room for no more.
        let header = ipv6::unfragmentable(packet.bytes().get(ethernet::HEADER..).unwrap_or_default()).0;
        let extended = header > ipv6::HEADER;
        if (are_small || have_room) && !extended && came.largest <= mtu {
            let mut cuts = came.cuts.clone();
            cuts.iter_mut().filter(|cut| **cut > 0).for_each(|cut| *cut += shift);
            return self.pieces.cut(packet, out, Cut::At(&cuts), identification);
        }
        let largest = mtu.min(came.largest.max(ipv6::SMALLEST_MTU));
        self.pieces.cut(packet, out, Cut::Within(usize::from(largest)), identification)
    }
}

/// True for the first fragment of an IPv6 datagram that ends before its TCP header does.
fn is_cut_short<A: Address>(headers: &Headers<A>) -> bool {
    let is_tcp = Protocol::from_number(headers.protocol) == Some(Protocol::Tcp);
    headers.fragment == Fragment::First
        && (is_tcp && headers.transport_length() < tcp::HEADER || ipv6::is_extension(headers.protocol))
}

/// Source and destination of a frame's IP packet.
fn addresses<A: Tables>(frame: &[u8]) -> Option<(A, A)> {
    let packet = frame.get(ethernet::HEADER..)?;
    Some((A::read(packet, A::SOURCE)?, A::read(packet, A::DESTINATION)?))
}

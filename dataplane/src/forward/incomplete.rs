//! Datagrams of which fragments did not come in time: their senders are told (kernel: `ip_expire`,
//! `ip6frag_expire_frag_queue`).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::commit::count_told;
use super::decide::Asked;
use super::decision::Then;
use super::{Forwarder, Tables, Verdict};
use crate::connections::{Direction, Found};
use crate::id::NicId;
use crate::packet::Packet;
use crate::reason::{DropReason, Incomplete, ReplyKind};
use crate::service::Standing;
use crate::snapshot::Snapshot;
use crate::time::Tick;
use crate::wire::Headers;
use crate::wire::ethernet;
use crate::wire::icmp::Error;

impl Forwarder {
    /// Ends datagrams whose time is over, and leaves what their senders are told among the [pieces](Self::pieces): what a worker
    /// calls each turn. True when there are some.
    #[inline]
    pub fn end_incomplete(&mut self, snapshot: &Snapshot, now: Tick) -> bool {
        self.pieces.clear();
        self.end_incomplete_of::<Ipv4Addr>(snapshot, now);
        self.end_incomplete_of::<Ipv6Addr>(snapshot, now);
        !self.pieces.is_empty()
    }

    #[inline]
    fn end_incomplete_of<A: Tables>(&mut self, snapshot: &Snapshot, now: Tick) {
        while let Some(mut overdue) = A::reassembly(&mut self.fragments).overdue(now) {
            self.counters.incomplete.at(Incomplete::Time as usize).add(1);
            if let Some(first) = overdue.first {
                self.tell_of_incomplete::<A>(snapshot, &mut overdue.bytes, first, overdue.nic, now);
            }
            self.give_back::<A>(overdue.place, overdue.bytes, false);
        }
    }

    /// Tells the sender of a datagram's `first` fragment, which came in at `nic`.
    #[cold]
    fn tell_of_incomplete<A: Tables>(
        &mut self,
        snapshot: &Snapshot,
        bytes: &mut [u8],
        first: Range<usize>,
        nic: NicId,
        now: Tick,
    ) {
        let mut packet =
            Packet::new(bytes, first.start - ethernet::HEADER, first.len() + ethernet::HEADER, nic);
        let own = snapshot.nic(nic).map(|view| view.mac).unwrap_or_default();
        ethernet::write(packet.bytes_mut(), own, own, A::ETHERTYPE);
        let Ok(headers) = A::parse_large(packet.bytes()) else { return };
        let asked = Asked::new(snapshot, &packet, &headers, now);
        if asked.is_elsewhere() {
            return;
        }
        let source = asked.is_to_us().then_some(headers.destination);
        let kind = ReplyKind::ReassemblyTimeExceeded;
        let then = asked.error(Error::ReassemblyTimeExceeded, kind, source, DropReason::Fragment);
        let Then::Reply(answer, hop) = then else { return };
        if let Verdict::Reply(out, kind) = self.reply(snapshot, &mut packet, &headers, answer, hop, now) {
            self.pieces.begin(0);
            if self.pieces.push_first(out, packet.bytes()).is_ok() {
                self.counters.replies.at(kind as usize).add(1);
                self.count_told_of(snapshot, &headers, &packet, now);
            }
        }
    }

    /// Counts an error about a packet of a connection.
    fn count_told_of<A: Tables>(
        &self,
        snapshot: &Snapshot,
        headers: &Headers<A>,
        error: &Packet<'_>,
        now: Tick,
    ) {
        let Some(flow) = headers.flow() else { return };
        let table = A::table(&self.connections);
        let found = table.find(table.hash(&flow), &flow, now);
        let Some(Found { index, direction: Direction::FromClient }) = found else { return };
        let entry = table.entry(index);
        let Some(real) = snapshot.real(entry.real()).filter(|_| !entry.is_nat()) else { return };
        if real.standing != Standing::Removed {
            count_told(error, real.counters.of(self.worker));
        }
    }
}

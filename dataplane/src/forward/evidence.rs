//! What packets of NAT connections say about their real servers, for the control core to judge: an answered SYN, a refused one, one
//! that is sent again in vain, and ICMP errors about packets that did not arrive. Packets that open connections exchange say nothing.

use super::{Forwarder, Tables};
use crate::connections::{Direction, Found};
use crate::packet::Packet;
use crate::service::Real;
use crate::time::Tick;
use crate::wire::icmp::{self, field};
use crate::wire::{Headers, IpVersion, TcpFlags, array};

impl Forwarder {
    /// Counts what a client's SYN says that belongs to a connection.
    #[cold]
    #[inline(never)]
    pub(super) fn notice_syn<A: Tables>(&self, flags: TcpFlags, found: Found, real: &Real, now: Tick) {
        let entry = A::table(&self.connections).entry(found.index);
        if found.direction == Direction::FromClient {
            if let Some(evidence) = entry.waited_in_vain(flags.0, now, &real.timeouts) {
                real.counters.of(self.worker).witness(evidence, now);
            }
        }
    }

    /// Counts what an ICMP error says that quotes a packet to the real server of a NAT connection.
    #[cold]
    pub(super) fn witness_error<A: Tables + IpVersion>(
        &self,
        packet: &Packet<'_>,
        headers: &Headers<A>,
        found: Found,
        real: &Real,
        now: Tick,
    ) {
        let Some([kind, code]) = array(headers.transport_bytes(packet.bytes()), field::TYPE) else { return };
        if let Some(evidence) = icmp::evidence::<A>(kind, code) {
            let entry = A::table(&self.connections).entry(found.index);
            if entry.is_nat() && entry.is_judged() {
                real.counters.of(self.worker).witness(evidence, now);
            }
        }
    }
}

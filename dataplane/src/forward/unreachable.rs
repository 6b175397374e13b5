//! Packets whose neighbour does not answer: their senders are told (kernel: `arp_error_report`, `ndisc_error_report`).

use super::commit::{count, count_refused};
use super::decide::Asked;
use super::decision::{Answer, Quoted, Then, no_connection};
use super::{Forwarder, Parsed, Staged, Tables, Verdict, Verdicts};
use crate::connections::Direction;
use crate::packet::Packet;
use crate::reason::{DropReason, ReplyKind};
use crate::service::{Method, Standing};
use crate::snapshot::Snapshot;
use crate::time::Tick;
use crate::wire::IpVersion;
use crate::wire::icmp::Error;

impl Forwarder {
    /// Takes packets that this worker [handed up](super::Punt::Unresolved), and says what becomes of each: an answer, or nothing.
    #[cold]
    pub fn unreachable(
        &mut self,
        snapshot: &Snapshot,
        packets: &mut [Packet<'_>],
        verdicts: &mut Verdicts,
        now: Tick,
    ) {
        verdicts.clear();
        self.pieces.clear();
        for packet in packets {
            self.pieces.begin(verdicts.len());
            verdicts.push(match self.parse(snapshot, packet) {
                Ok(Parsed::V4(staged)) => self.tell_unreachable(snapshot, packet, &staged, now),
                Ok(Parsed::V6(staged)) => self.tell_unreachable(snapshot, packet, &staged, now),
                Err(_) => Verdict::Drop(DropReason::NoRoute),
            });
        }
    }

    fn tell_unreachable<A: Tables + IpVersion>(
        &mut self,
        snapshot: &Snapshot,
        packet: &mut Packet<'_>,
        staged: &Staged<A>,
        now: Tick,
    ) -> Verdict {
        let headers = &staged.headers;
        let table = A::table(&self.connections);
        let found = headers.flow().and_then(|flow| table.find(staged.hash, &flow, now));
        let of_connection = found.and_then(|found| {
            let entry = table.entry(found.index);
            let real = snapshot.real(entry.real()).filter(|real| real.standing != Standing::Removed)?;
            Some((found.direction, entry.is_nat(), real))
        });
        // In the kernel errors about what NAT and tunnels send go back through IPVS, which tells clients from the VIP; others are told
        // from where they came in.
        let source = match of_connection {
            Some((Direction::FromClient, is_nat, real)) if is_nat || real.method == Method::Tun => {
                Some(headers.destination)
            }
            _ => None,
        };
        let asked = Asked::new(snapshot, packet, headers, now);
        let kind = ReplyKind::HostUnreachable;
        let then = match asked.error(Error::HostUnreachable, kind, source, DropReason::NoRoute) {
            Then::Reply(Answer::Error(error, kind, source, _), hop) => {
                Then::Reply(Answer::Error(error, kind, source, Quoted::OneLess), hop)
            }
            // Who waits for a neighbour himself is told nothing.
            _ => Then::Drop(DropReason::NoRoute),
        };
        let length = headers.ip_length() as u64;
        let verdict = self.commit(snapshot, packet, headers, no_connection(then), now);
        if let Some((direction, is_nat, real)) = of_connection {
            let cell = real.counters.of(self.worker);
            match direction {
                Direction::FromClient => count_refused(packet, headers, is_nat, cell, verdict),
                Direction::FromReal => count(&cell.packets_out, &cell.bytes_out, length),
            }
        }
        verdict
    }
}

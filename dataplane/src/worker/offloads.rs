//! What senders leave to a NIC (checksums, cutting into segments), where NICs of packet sockets let it through.
//!
//! It goes on as it came where all NICs take it so, and decisions are made by headers alone. Where a NIC does not, or packets are put into
//! tunnels, which end what was left, it is done before anything is decided.

use dpdk_sys::{Mbuf, MbufBurst};

use super::Worker;
use crate::reason::DropReason;
use crate::service::Method;
use crate::snapshot::Snapshot;
use crate::time::Tick;

/// The most segments of one frame.
const SEGMENTS_MAX: usize = 1024;

/// What a worker does about it.
#[derive(Debug, Default)]
pub(super) struct Offloads {
    /// A NIC lets such frames through.
    pub come: bool,
    /// They are ended when they come. It stays so: a connection keeps its method.
    pub end_here: bool,
    /// The segments of one frame.
    segments: Vec<Mbuf>,
}

impl Worker {
    /// Finds out what is to be done with the NICs and the services of now.
    #[cold]
    pub(super) fn follow_offloads(&mut self, snapshot: &Snapshot) {
        let mut takes = self.ports.iter().filter_map(|port| Some(port.queues.as_ref()?.rx.takes_offloads()));
        let come = takes.clone().any(|takes| takes);
        let everywhere = takes.all(|takes| takes);
        self.rest.turns_ask(come);
        let tunnels = || snapshot.reals.iter().flatten().any(|real| real.method == Method::Tun);
        let offloads = &mut self.offloads;
        // Those of a NIC that was closed may still be on their way.
        offloads.come |= come;
        offloads.end_here = offloads.end_here || come && (!everywhere || tunnels());
        if offloads.end_here && offloads.segments.capacity() == 0 {
            offloads.segments.reserve_exact(SEGMENTS_MAX);
        }
    }

    /// Does what senders left to a NIC, for a burst that came in at the NIC of this place. What makes the burst too large is processed.
    #[cold]
    pub(super) fn end_offloads(
        &mut self,
        snapshot: &Snapshot,
        burst: &mut MbufBurst,
        place: usize,
        now: Tick,
    ) {
        if !burst.iter().any(Mbuf::is_offloaded) {
            return;
        }
        let mut came = std::mem::take(burst);
        let mut segments = std::mem::take(&mut self.offloads.segments);
        for mut mbuf in came.drain() {
            let Some(queues) = &self.ports[place].queues else { continue };
            let nic = queues.nic;
            if mbuf.segment_size() == 0 {
                mbuf.fill_checksum();
                segments.push(mbuf);
            } else {
                let counters = &self.shared.counters;
                let lost = queues.rx.cut(&mbuf, &mut segments);
                counters.consumed.add(1);
                counters.made.add((segments.len() + lost) as u64);
                counters.dropped.at(DropReason::FragmentLost as usize).add(lost as u64);
            }
            for mbuf in segments.drain(..) {
                if burst.is_full() {
                    self.process(snapshot, burst, Some(nic), now);
                }
                // It is empty after that.
                let _ = burst.push(mbuf);
            }
        }
        self.offloads.segments = segments;
    }
}

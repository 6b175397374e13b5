//! The program whose memory accesses are looked at: two workers' data paths take turns on packets of open connections,
//! between stores to places that are told first.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::director::{HEAD_ROOM, KEY, TAIL_ROOM};
use shunt::bench::Shape;
use shunt::bench::rig::{Lifetime, plan};
use shunt::bench::traffic::{FrameSize, Kind, Traffic};
use shunt_dataplane::address::Family;
use shunt_dataplane::counters::WorkerCounters;
use shunt_dataplane::flow::Owners;
use shunt_dataplane::forward::{BURST_MAX, Capacity, Forwarder, Verdict, Verdicts};
use shunt_dataplane::id::{NicId, Protocol, WorkerId};
use shunt_dataplane::packet::Packet;
use shunt_dataplane::service::Method;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::snapshot::{Registry, Snapshot};
use shunt_dataplane::time::Tick;

/// Workers.
pub const WORKERS: usize = 2;
/// Bursts of each worker that are looked at.
const BURSTS: usize = 4;

/// A store to the first begins what worker 0 does, to the second what worker 1 does; the last one ends it.
static MARKS: [AtomicU64; WORKERS + 1] = [const { AtomicU64::new(0) }; WORKERS + 1];

/// A worker's data path, which a director has on the worker's own stack: aligned so that two share no line here either.
#[repr(align(128))]
struct Side {
    forwarder: Forwarder,
    verdicts: Verdicts,
    rooms: Vec<Vec<u8>>,
    flows: Vec<u32>,
}

impl Side {
    fn burst(&mut self, mark: usize, snapshot: &Snapshot, traffic: &Traffic, kind: Kind, now: Tick) {
        let rooms = self.rooms.iter_mut().zip(&self.flows);
        std::hint::black_box(vec![0_u8; 128]).leak();
        let packets: Vec<Packet<'_>> = rooms
            .map(|(room, flow)| {
                let frame = traffic.frame(kind, 0, *flow);
                room[HEAD_ROOM..HEAD_ROOM + frame.len()].copy_from_slice(&frame);
                Packet::new(room, HEAD_ROOM, frame.len(), NicId(0))
            })
            .collect();
        // Left where they are and fenced off: these lie on the worker's stack in a director.
        let packets = packets.leak();
        std::hint::black_box(vec![0_u8; 128]).leak();
        MARKS[mark].store(1, Ordering::SeqCst);
        self.forwarder.burst(snapshot, packets, &mut self.verdicts, now);
        self.forwarder.expire_turn(snapshot, now);
        MARKS[WORKERS].store(1, Ordering::SeqCst);
        let sent = self.verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Send(_))).count();
        assert_eq!(sent, BURST_MAX, "{:?}", self.verdicts);
    }
}

/// Tells the places and plays; then tells how many packets were looked at.
pub fn play() {
    let here = 0_u8;
    let marks: Vec<_> = MARKS.iter().map(|mark| std::ptr::from_ref(mark).addr().to_string()).collect();
    println!("{} {}", std::ptr::from_ref(&here).addr(), marks.join(" "));
    for (method, protocol) in [(Method::Dr, Protocol::Udp), (Method::Nat, Protocol::Tcp)] {
        let shape = Shape {
            method,
            family: Family::V4,
            protocol,
            frame: FrameSize::Bytes(64),
            services: 1,
            reals: 3,
            scheduler: Scheduler::Wlc,
            new_share: 0,
            burst: BURST_MAX,
        };
        let owners = Owners { workers: WORKERS as u8, netmask_v4: 32, netmask_v6: 128, key: KEY };
        let snapshot = Registry::new(owners).compile(&plan(&shape, Lifetime::Usual));
        let traffic = Traffic::new(shape.family, protocol, shape.frame, shape.services, shape.reals);
        let capacity = Capacity { v4: 1024, v6: 64 };
        let sides: Vec<Side> = (0..WORKERS)
            .map(|number| {
                let id = WorkerId(number as u8);
                let own = |flow: &u32| {
                    owners.of(Ipv4Addr::from_bits(traffic.tuple(Kind::Request, *flow).source)) == id
                };
                Side {
                    forwarder: Forwarder::new(id, capacity, KEY, Arc::new(WorkerCounters::default())),
                    verdicts: Verdicts::new(),
                    rooms: vec![vec![0; HEAD_ROOM + 64 + TAIL_ROOM]; BURST_MAX],
                    flows: (0..).filter(own).take(BURST_MAX).collect(),
                }
            })
            .collect();
        // As above, for the next method.
        let sides = sides.leak();
        // Connections begin without being looked at: schedulers read what other workers count.
        for kind in [Kind::Opening, Kind::Request] {
            for side in &mut *sides {
                side.burst(WORKERS, &snapshot, &traffic, kind, Tick(1));
            }
        }
        for burst in 0..BURSTS {
            for (number, side) in sides.iter_mut().enumerate() {
                side.burst(number, &snapshot, &traffic, Kind::Request, Tick(200 + burst as u32 * 100));
            }
        }
    }
    println!("{}", 2 * BURSTS * WORKERS * BURST_MAX);
}

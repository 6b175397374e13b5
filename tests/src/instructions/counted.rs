//! The program under callgrind: plays every path to the real data path and the real worker.

use std::sync::Arc;
use std::time::Duration;

use shunt::bench::rig::{Bench, Lifetime, Rig};
use shunt::bench::traffic::{Draw, Kind};
use shunt_dataplane::counters::WorkerCounters;
use shunt_dataplane::flow::Owners;
use shunt_dataplane::forward::{BURST_MAX, Capacity, Forwarder, Verdicts};
use shunt_dataplane::id::{NicId, WorkerId};
use shunt_dataplane::packet::Packet;
use shunt_dataplane::snapshot::{Registry, Snapshot};
use shunt_dataplane::time::Tick;

use super::paths::{Path, Turn};
use crate::director::{HEAD_ROOM, KEY, TAIL_ROOM};

/// Connections of the rig whose worker's turns are counted.
const TURN_FLOWS: u32 = 1000;
/// Room for connections in it.
const TURN_CAPACITY: u32 = 4096;
/// Turns that are counted.
const TURNS: usize = 64;

/// Collecting is switched on in here and nowhere else: callgrind knows it by its name.
#[inline(never)]
fn counted_burst(
    forwarder: &mut Forwarder,
    snapshot: &Snapshot,
    packets: &mut [Packet<'_>],
    verdicts: &mut Verdicts,
    now: Tick,
) -> usize {
    forwarder.burst(snapshot, packets, verdicts, now);
    verdicts.len()
}

/// As [`counted_burst`], of the whole loop.
#[inline(never)]
fn counted_turn(rig: &mut Rig) -> u64 {
    rig.turn();
    rig.connections()
}

/// Callgrind writes down what it counted when this returns: it knows it by its name.
#[inline(never)]
fn counted_path_ends(packets: usize) -> usize {
    std::hint::black_box(packets)
}

/// Plays a path; says how many packets were counted.
///
/// # Errors
/// When a packet goes another way.
pub fn path(path: &Path) -> Result<usize, String> {
    let owners = Owners { workers: 1, netmask_v4: 32, netmask_v6: 128, key: KEY };
    let snapshot = Registry::new(owners).compile(&path.plan);
    let capacity = Capacity { v4: path.capacity, v6: path.capacity };
    let mut forwarder = Forwarder::new(WorkerId(0), capacity, KEY, Arc::new(WorkerCounters::default()));
    let now = Tick::at(Duration::from_secs(10));
    let room = path.before.iter().chain(&path.frames).map(Vec::len).max().unwrap_or(0);
    let mut rooms = vec![vec![0xa5; HEAD_ROOM + room + TAIL_ROOM]; BURST_MAX];
    let mut verdicts = Verdicts::new();
    for frames in path.before.chunks(BURST_MAX) {
        let mut packets = lay_out(&mut rooms, frames, NicId(0));
        forwarder.burst(&snapshot, &mut packets, &mut verdicts, now);
    }
    let mut packets_counted = 0;
    for frames in path.frames.chunks(path.burst) {
        let mut packets = lay_out(&mut rooms, frames, path.nic);
        packets_counted += counted_burst(&mut forwarder, &snapshot, &mut packets, &mut verdicts, now);
        if let Some(other) = verdicts.iter().find(|verdict| !(path.expected)(**verdict)) {
            return Err(format!("{}: a packet goes another way: {other:?}", path.name));
        }
    }
    let connections = forwarder.v4().len() + forwarder.v6().len();
    if connections != path.connections as usize {
        return Err(format!("{}: {connections} connections, not {}", path.name, path.connections));
    }
    let answers: u64 =
        snapshot.reals.iter().flatten().map(|real| real.counters.sum(|cell| &cell.packets_out)).sum();
    if answers != path.answers as u64 {
        return Err(format!("{}: {answers} answers, not {}", path.name, path.answers));
    }
    Ok(counted_path_ends(packets_counted))
}

/// Frames in buffers with room around them, as they lie in mbufs.
fn lay_out<'a>(rooms: &'a mut [Vec<u8>], frames: &[Vec<u8>], nic: NicId) -> Vec<Packet<'a>> {
    let lay = |(room, frame): (&'a mut Vec<u8>, &Vec<u8>)| {
        room[HEAD_ROOM..HEAD_ROOM + frame.len()].copy_from_slice(frame);
        Packet::new(room, HEAD_ROOM, frame.len(), nic)
    };
    rooms.iter_mut().zip(frames).map(lay).collect()
}

/// Lets the worker's loop turn around packets of open connections; says how many packets were counted.
///
/// # Errors
/// When a packet does not come out.
pub fn turn(bench: &Bench, turn: &Turn) -> Result<usize, String> {
    let said = |error| format!("{}: {error}", turn.name);
    let mut rig = Rig::new(bench, &turn.shape, TURN_CAPACITY, Lifetime::Usual).map_err(said)?;
    for kind in [Kind::Opening, Kind::Request] {
        let mut flows = 0..TURN_FLOWS;
        while !flows.is_empty() {
            rig.round(|| (kind, flows.next().unwrap_or(0)));
        }
    }
    let mut draw = Draw::new(TURN_FLOWS, 42);
    let mut packets = 0;
    for _ in 0..TURNS {
        let fed = rig.feed(|| (Kind::Request, draw.flow()));
        let connections = counted_turn(&mut rig);
        let sent = rig.drain(|_| ());
        if connections != u64::from(TURN_FLOWS) || sent != fed {
            return Err(format!("{}: {sent} of {fed} packets sent: {}", turn.name, rig.fates()));
        }
        packets += sent;
    }
    Ok(counted_path_ends(packets))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::paths;
    use super::*;

    #[test]
    fn packets_go_the_way_that_their_path_is_named_after() {
        let paths = paths::all(paths::FLOWS);
        let names: HashSet<_> = paths.iter().map(|path| &path.name).collect();
        assert_eq!(names.len(), paths.len(), "names are unique");
        for one in &paths {
            assert_eq!(path(one), Ok(one.frames.len()));
        }
    }
}

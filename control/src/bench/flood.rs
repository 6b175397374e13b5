//! A flood of first packets from random sources against a table that is full of established connections.

use serde::{Deserialize, Serialize};
use shunt_dataplane::reason::DropReason;

use super::measure::{Alone, Effort, Load, Repetitions, Spread, Timing, timed, turn_times};
use super::report::{Cell, Verified};
use super::rig::{Bench, Lifetime, Rig};
use super::traffic::{Draw, Kind, Traffic};
use super::{BenchError, COMPARED, Shape, verify};

/// Established connections that fill the table, with as many packets of a flood as of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flood {
    /// Nanoseconds for a packet of an established connection without a flood.
    pub alone_ns: f64,
    /// For a packet of the flood without established traffic.
    #[serde(default)]
    pub flood_only_ns: f64,
    /// For one of each, together.
    pub with_flood_ns: f64,
    /// For a packet of an established connection in the flood: those of the flood cost what they cost alone.
    #[serde(default)]
    pub established_ns: f64,
    /// By how many percent that is more than without a flood.
    #[serde(default)]
    pub slower_percent: f64,
    /// What a packet of the flood adds to the time of an established one.
    pub flood_packet_ns: f64,
    /// Established connections of which a packet did not come out, or went to another real server, after the flood.
    pub lost: u64,
    /// Packets of the flood that were refused.
    pub refused: u64,
}

/// What is in the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Established,
    Flood,
    Both,
}

/// Packets of established connections, of a flood, or in turn.
struct Packets {
    part: Part,
    draw: Draw,
    established: bool,
    flows: u32,
    strange: u32,
}

impl Packets {
    fn packet(&mut self) -> (Kind, u32) {
        self.established = match self.part {
            Part::Established => true,
            Part::Flood => false,
            Part::Both => !self.established,
        };
        if self.established {
            return (Kind::Request, self.draw.flow());
        }
        self.strange = self.strange.wrapping_add(1).max(self.flows);
        (Kind::Opening, self.strange)
    }
}

/// Time with one kind of traffic, and of source and sink with the same.
fn part(
    bench: &Bench,
    rig: &mut Rig,
    packets: &mut Packets,
    effort: Effort,
) -> Result<(Timing, Timing), BenchError> {
    let mut alone = Alone::new(bench)?;
    let traffic: Traffic = rig.traffic.clone();
    let count = rig.burst();
    let source = timed(effort.length / 3, || alone.round(&traffic, count, || packets.packet()));
    let total = timed(effort.length, || {
        let fed = rig.feed(|| packets.packet());
        rig.turn();
        rig.drain(|_| ());
        fed
    });
    Ok((total, source))
}

/// Fills the table with established connections and sends a packet of a flood with each of theirs.
///
/// # Errors
/// When a packet of an established connection comes out wrong, or DPDK refuses something.
pub fn flood(bench: &Bench, shape: &Shape, flows: u32, effort: Effort) -> Result<Cell, BenchError> {
    let mut rig = Rig::new(bench, shape, flows, Lifetime::Usual)?;
    verify::open(&mut rig, flows)?;
    // With one packet a flow of UDP has only begun, and would give way.
    verify::missing(&mut rig, flows)?;
    let mut cell = Cell::new(shape, Kind::Request, u64::from(flows));
    "flood".clone_into(&mut cell.kind);
    cell.table_capacity = flows.into();
    // In turn within each repetition, so that they meet the same machine.
    let parts = [Part::Established, Part::Flood, Part::Both];
    let mut measured = [const { Vec::new() }; 3];
    let mut repetitions = Repetitions::default();
    let mut strange = flows;
    for repetition in 0..effort.repetitions {
        for (what, nets) in parts.into_iter().zip(&mut measured) {
            let draw = Draw::new(flows, u64::from(repetition) << 8);
            let mut packets = Packets { part: what, draw, established: false, flows, strange };
            let (total, source) = part(bench, &mut rig, &mut packets, effort)?;
            strange = packets.strange;
            nets.push((total.nanoseconds() - source.nanoseconds()).max(0.0));
            if what == Part::Both {
                repetitions.add(total, source);
            }
        }
    }
    cell.time(bench, &repetitions);
    let load = Load { kind: Kind::Request, flows, new_share: 0 };
    cell.turn_ns = turn_times(bench, &mut rig, load, effort.length / 2);
    let lost = verify::missing(&mut rig, flows)?;
    let mut draw = Draw::new(flows, 43);
    let compared = verify::check(&mut rig, shape, Kind::Request, COMPARED, || draw.flow())?;
    cell.verified = Verified { packets_compared: compared, connections: rig.connections(), lost };
    let [alone_ns, flood_only_ns, mean] = measured.map(|nets| Spread::of(nets).median);
    let (pair, round) = (2.0 * mean, |value: f64| (value * 100.0).round() / 100.0);
    let established_ns = (pair - flood_only_ns).max(0.0);
    cell.flood = Some(Flood {
        alone_ns,
        flood_only_ns,
        with_flood_ns: round(pair),
        established_ns: round(established_ns),
        slower_percent: round((established_ns / alone_ns.max(0.01) - 1.0) * 100.0),
        flood_packet_ns: round((pair - alone_ns).max(0.0)),
        lost,
        refused: rig.dropped(DropReason::TableFull),
    });
    Ok(cell)
}

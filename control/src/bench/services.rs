//! Many services against one: the same flows, the same frames, in turn.

use serde::{Deserialize, Serialize};
use shunt_dataplane::id::Protocol;

use super::measure::{Effort, Load, Spread, forwarding};
use super::rig::{self, Bench, Lifetime, Rig};
use super::traffic::Kind;
use super::{BenchError, Shape, capacity_for, verify};

/// What a packet costs with many services and with one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgainstOne {
    /// Nanoseconds for a packet of an open connection with many services.
    pub many_ns: Spread,
    /// And with one.
    pub one_ns: Spread,
    /// By how many percent the first is more, repetition by repetition.
    pub slower_percent: Spread,
    /// Nanoseconds for a packet of which one in ten begins a connection, with many services; 0 for UDP.
    pub many_new_ns: Spread,
    /// And with one.
    pub one_new_ns: Spread,
    /// By how many percent the first is more.
    pub new_slower_percent: Spread,
}

/// Percent of packets that begin a connection in the second comparison.
const NEW_SHARE: u32 = 10;

/// Compares a shape with the same of one service.
///
/// # Errors
/// When a packet is lost, or DPDK refuses something.
pub fn against_one(
    bench: &Bench,
    shape: &Shape,
    flows: u32,
    effort: Effort,
) -> Result<AgainstOne, BenchError> {
    let new_share = if shape.protocol == Protocol::Tcp { NEW_SHARE } else { 0 };
    let capacity = capacity_for(flows, new_share);
    let shapes = [*shape, Shape { services: 1, ..*shape }];
    let mut rigs = Vec::with_capacity(shapes.len());
    for shape in &shapes {
        let mut rig = Rig::new(bench, shape, capacity, Lifetime::Usual)?;
        verify::open(&mut rig, flows)?;
        rig.fresh = flows;
        rigs.push(rig);
    }
    let load = Load { kind: Kind::Request, flows, new_share: 0 };
    let [many_ns, one_ns, slower_percent] = compare(bench, &mut rigs, load, effort)?;
    let mut result = AgainstOne { many_ns, one_ns, slower_percent, ..AgainstOne::default() };
    if new_share > 0 {
        for (rig, shape) in rigs.iter_mut().zip(&shapes) {
            rig.reconfigure(&rig::plan(shape, Lifetime::BriefOpenings));
        }
        let load = Load { new_share, ..load };
        [result.many_new_ns, result.one_new_ns, result.new_slower_percent] =
            compare(bench, &mut rigs, load, effort)?;
    }
    Ok(result)
}

/// Measures the first rig and the last in turn: both, and by how many percent the first takes more.
fn compare(bench: &Bench, rigs: &mut [Rig], load: Load, effort: Effort) -> Result<[Spread; 3], BenchError> {
    let once = Effort { repetitions: 1, ..effort };
    let mut measured = [const { Vec::new() }; 3];
    for _ in 0..effort.repetitions {
        let mut both = Vec::with_capacity(rigs.len());
        for rig in rigs.iter_mut() {
            both.push(Spread::of(forwarding(bench, rig, load, once)?.net).median);
        }
        if let [many, one] = both[..] {
            measured[0].push(many);
            measured[1].push(one);
            measured[2].push((many / one.max(0.01) - 1.0) * 100.0);
        }
    }
    Ok(measured.map(Spread::of))
}

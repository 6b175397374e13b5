//! What memory alone costs a packet: one line of the connection table's index, one connection, its real server and that one's
//! counters, each at a random place, asked for ahead as the data path does, on huge pages. Nothing is parsed, hashed, compared
//! or rewritten.
//!
//! No director that keeps these four can do better. `cargo bench -p shunt-dataplane --bench lines` prints a Markdown table.

use std::hint::black_box;
use std::time::Instant;

use shunt_dataplane::processor::{large_table, prefetch};

const FLOWS: [u32; 3] = [1_000, 1_000_000, 10_000_000];
const REALS: [u32; 2] = [10, 100_000];
/// Packets that go from stage to stage together.
const GROUP: usize = 12;
const GROUPS: usize = 200_000;
const REPETITIONS: usize = 7;

/// A cache line.
#[derive(Clone)]
#[repr(align(64))]
struct Line([u64; 8]);

/// Half a cache line, as an IPv4 connection takes.
#[derive(Clone)]
#[repr(align(32))]
struct Half([u64; 4]);

/// What packets read, and the counters that they write.
struct Lines {
    index: Box<[Line]>,
    connections: Box<[Half]>,
    reals: Box<[Line]>,
    counters: Box<[Line]>,
}

fn main() {
    println!(
        "Nanoseconds a packet, the least of {REPETITIONS}; index, connection and real server are read, two counters of the real \
         server written.\n"
    );
    println!("| flows | 10 real servers | 100000 real servers | more |\n|---:|---:|---:|---:|");
    for flows in FLOWS {
        let [few, many] = REALS.map(|reals| measure(flows, reals));
        println!("| {flows} | {few:.1} | {many:.1} | {:.1} |", many - few);
    }
}

fn measure(flows: u32, reals: u32) -> f64 {
    // As full as the real index: two slots of 15 a connection, of which 78 in a hundred are in use.
    let buckets = flows as usize * 2 / 11 + 1;
    let mut lines = Lines {
        index: large_table(&Line([0; 8]), buckets),
        connections: large_table(&Half([0; 4]), flows as usize),
        reals: large_table(&Line([0; 8]), reals as usize),
        counters: large_table(&Line([0; 8]), reals as usize),
    };
    let mut least = f64::MAX;
    for seed in 0..REPETITIONS {
        let start = Instant::now();
        run(&mut lines, seed as u64);
        least = least.min(start.elapsed().as_nanos() as f64 / (GROUP * GROUPS) as f64);
    }
    least
}

/// A number below `below` from the upper half of a random one.
fn place(random: u64, below: usize) -> usize {
    ((random >> 32) * below as u64 >> 32) as usize
}

fn run(lines: &mut Lines, seed: u64) {
    let mut random = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        random
    };
    // Each group is one stage ahead of the group behind it.
    let mut stages = [[[0_usize; 3]; GROUP]; 4];
    for _ in 0..GROUPS {
        stages.rotate_right(1);
        for packet in &mut stages[0] {
            let flow = next();
            *packet = [
                place(flow, lines.index.len()),
                place(flow, lines.connections.len()),
                place(flow.wrapping_mul(0x9e37_79b9_7f4a_7c15), lines.reals.len()),
            ];
            prefetch(&lines.index[packet[0]]);
        }
        for [bucket, connection, _] in &stages[1] {
            black_box(lines.index[*bucket].0[3]);
            prefetch(&lines.connections[*connection]);
        }
        for [_, connection, real] in &stages[2] {
            black_box(lines.connections[*connection].0[1]);
            prefetch(&lines.reals[*real]);
            prefetch(&lines.counters[*real]);
        }
        for [_, connection, real] in &stages[3] {
            lines.connections[*connection].0[2] = 1;
            black_box(lines.reals[*real].0[1]);
            let counters = &mut lines.counters[*real].0;
            counters[3] += 1;
            counters[5] += 60;
        }
    }
}

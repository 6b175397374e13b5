//! Saved inputs changed at random, without looking at where that leads: what the tests do for a while. libFuzzer, which looks,
//! is in `scripts/fuzz.sh`.

use std::time::{Duration, Instant};

use super::Target;
use crate::text;

/// Numbers that are the first or last of something.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 16, 64, b'0'];
/// Changes of an input.
const CHANGES_MAX: u64 = 4;

/// Random numbers (xorshift64*), the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }
}

/// Gives a target its saved inputs, then changed ones for so long. Says how many there were.
///
/// # Panics
/// When something does not hold; it tells the input.
pub fn run(target: &Target, saved: &[Vec<u8>], seed: u64, time: Duration) -> u64 {
    let end = Instant::now() + time;
    let mut random = Random(seed | 1);
    let mut count = 0;
    saved.iter().for_each(|input| one(target, input));
    while Instant::now() < end && !saved.is_empty() {
        let mut input = saved[random.below(saved.len())].clone();
        for _ in 0..=random.next() % CHANGES_MAX {
            let other = &saved[random.below(saved.len())];
            change(&mut input, other, &mut random);
        }
        input.truncate(target.longest);
        one(target, &input);
        count += 1;
    }
    count + saved.len() as u64
}

fn one(target: &Target, input: &[u8]) {
    if std::panic::catch_unwind(|| (target.run)(input)).is_err() {
        panic!("{}: something does not hold (see above) with the input {}", target.name, text::hex(input));
    }
}

fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(input.len());
    let Some(byte) = input.get_mut(at) else { return input.extend(other) };
    match random.next() % 8 {
        0 => *byte = random.next() as u8,
        1 => *byte ^= 1 << (random.next() % 8),
        2 => *byte = byte.wrapping_add(1).wrapping_sub(2 * (random.next() % 2) as u8),
        3 => *byte = EDGES[random.below(EDGES.len())],
        4 => drop(input.drain(at..(at + 1 + random.below(8)).min(input.len()))),
        5 => input.insert(at, random.next() as u8),
        6 => {
            let again = input[at..(at + 1 + random.below(16)).min(input.len())].to_vec();
            input.splice(at..at, again);
        }
        // The end of another one.
        _ => {
            input.truncate(at);
            input.extend(&other[random.below(other.len())..]);
        }
    }
}

//! Power of two choices (kernel: `ip_vs_twos.c`): two real servers drawn by weight, of which the less loaded one is taken.

use super::{Choice, Client, Cursor, folded, overhead};
use crate::service::Service;

/// One of the two, as the kernel keeps it.
#[derive(Clone, Copy)]
struct Drawn {
    place: usize,
    weight: u128,
    load: u128,
}

pub(super) fn choose(service: &Service, mut cursor: Cursor, client: &Client) -> Option<Choice> {
    let available =
        || service.candidates.iter().enumerate().filter(|(_, candidate)| candidate.is_available());
    let total = available().map(|(_, candidate)| u64::from(candidate.weight)).sum::<u64>();
    if total == 0 {
        return None;
    }
    let random = draw(&mut cursor, client);
    // From 0 to the sum of all weights, that included.
    let within = |random: u64| ((u128::from(random) * u128::from(total + 1)) >> 64) as u64;
    let lots = [within(random), within(mix(random))];
    let [first, second] = lots.map(|lot| {
        let mut passed = 0;
        let reaches = |(_, candidate): &(usize, &crate::service::Candidate)| {
            passed += u64::from(candidate.weight);
            passed >= lot
        };
        available().find(reaches).map(|(place, candidate)| Drawn {
            place,
            weight: u128::from(candidate.weight),
            load: u128::from(overhead(candidate)),
        })
    });
    let (first, second) = (first?, second?);
    let chosen = if second.weight * first.load > first.weight * second.load { second } else { first };
    Some(cursor.choice(service, chosen.place))
}

/// The next random number. The client is in it, so that workers do not draw alike.
fn draw(cursor: &mut Cursor, client: &Client) -> u64 {
    cursor.draws = cursor.draws.wrapping_add(1);
    mix(u64::from(folded(client.address)) << 32 | u64::from(client.l4_port.0) << 16 ^ u64::from(cursor.draws))
}

/// A number that tells nothing of the one before (the finalizer of SplitMix64).
const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

//! Trailers beside the examples of draft-cassen-vrrp-auth-hmac-00.

use shunt_model::secret::Secret;
use shunt_model::vrrp::{HmacKey, HmacMode, Replay};

use super::*;

/// The sequence number of the examples.
const SEQUENCE: u64 = 0x6800_0000_8000_0000;

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn settings() -> Hmac {
    let keys = vec![HmacKey { id: 1, secret: Secret::new((0..32).collect()) }];
    Hmac { keys, active: 1, replay: Replay::Time(None), mode: HmacMode::Enforce }
}

#[test]
fn the_examples_of_the_draft_hold() {
    for (source, message, behind) in [
        (
            "198.51.100.10",
            "3133c80100644402c0000264",
            "0101000068000000800000001b84bc4e8e43892dc6d98448f8ee2265",
        ),
        (
            "fe80::10",
            "3133c8010064a2e9fe800000000000000000000000000100",
            "010100006800000080000000c8c56146ebfd66ee10ec4d8186461b78",
        ),
    ] {
        let bound = Bound { version: Version::V3, vrid: Vrid(51), source: source.parse().unwrap() };
        let (message, behind) = (bytes(message), bytes(behind));
        let mut signed = message.clone();
        write(&mut signed, bound, &settings(), SEQUENCE);
        assert_eq!(signed[message.len()..], behind, "{source}");
        let key: Vec<u8> = (0..32).collect();
        let read = |bound| Trailer::read(&message, behind.first_chunk().unwrap(), bound).unwrap();
        let trailer = read(bound);
        assert!(trailer.is_known && trailer.holds(&key));
        assert_eq!((trailer.key, trailer.sequence), (1, SEQUENCE));
        // It is bound to the virtual router, the version and the source, which all stand outside of the message or are its own.
        for other in [
            Bound { vrid: Vrid(52), ..bound },
            Bound { version: Version::V2, ..bound },
            Bound { source: "198.51.100.11".parse().unwrap(), ..bound },
        ] {
            assert!(!read(other).holds(&key), "{other:?}");
        }
    }
}

#[test]
fn sequence_numbers_follow_the_clock_and_grow_while_it_stands() {
    let at = |seconds: u64, nanoseconds| Duration::new(0x6800_0000 + seconds, nanoseconds);
    let first = next(None, at(0, 500_000_000), Some(5));
    assert_eq!(first, SEQUENCE);
    assert_eq!(next(Some(first), at(0, 500_000_000), Some(5)), SEQUENCE + 1);
    assert_eq!(next(Some(first), at(1, 0), Some(5)), 0x6800_0001_0000_0000);
    // Put back within the window they grow on; further back they begin with the clock, but where nothing else tells what is new.
    let ahead = next(None, at(5, 0), Some(5));
    assert_eq!(next(Some(ahead), at(0, 0), Some(5)), ahead + 1);
    let ahead = next(None, at(6, 0), Some(5));
    assert_eq!(next(Some(ahead), at(0, 0), Some(5)), 0x6800_0000_0000_0000);
    assert_eq!(next(Some(ahead), at(0, 0), None), ahead + 1);
    // The seconds are 32 bits and go on at 0 in 2106.
    let last = next(None, Duration::from_secs(u32::MAX.into()), Some(5));
    let wrapped = next(Some(last), Duration::from_secs(1 << 32), Some(5));
    assert!(wrapped < last && is_new(wrapped, last, Duration::from_secs(1 << 32), Some(5)));
}

#[test]
fn the_window_is_three_intervals_and_five_seconds_at_least() {
    let window = |seconds| settings().window(Duration::from_secs_f64(seconds));
    assert_eq!([0.01, 1.0, 1.9, 2.0, 10.0, 255.0].map(window), [5, 5, 5, 6, 30, 300].map(Some));
    let fixed = Hmac { replay: Replay::Time(Some(17)), ..settings() };
    assert_eq!(fixed.window(Duration::from_secs(60)), Some(17));
    assert_eq!(Hmac { replay: Replay::Monotonic, ..settings() }.window(Duration::from_secs(60)), None);
}

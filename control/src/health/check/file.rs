//! A file that an operator or a program writes: `up`, `down`, or a number.

use std::io::{ErrorKind, Read};
use std::path::Path;

use shunt_model::health::{Failure, Lack, Success};
use shunt_model::limit::WEIGHT_MAX;
use tokio::sync::OwnedSemaphorePermit;

use super::{shown, without_number};

/// More than a file should have, in bytes.
const FILE_MAX: u64 = 64;
/// A shift by so much or less takes the real server out (keepalived: `check_file.c`).
const SHIFT_DOWN: i64 = -254;

pub async fn run(
    path: &Path,
    factor: Option<i32>,
    missing: Option<i64>,
    place: OwnedSemaphorePermit,
) -> Result<Success, Failure> {
    let path = path.to_owned();
    // A file system may hang; who waits for it in vain leaves the place taken, so that no thread follows the other.
    let read = tokio::task::spawn_blocking(move || {
        let _place = place;
        let mut text = Vec::new();
        std::fs::File::open(path)?.take(FILE_MAX).read_to_end(&mut text)?;
        Ok::<_, std::io::Error>(text)
    });
    let text = read.await.map_err(|_panic| Failure::Lack(Lack::Inside))?;
    if let Some(lack) = text.as_ref().err().and_then(crate::health::lack::of_reading) {
        return Err(Failure::Lack(lack));
    }
    match (text, missing) {
        (Ok(text), _) => judge(&text, factor),
        (Err(error), Some(number)) if error.kind() == ErrorKind::NotFound => {
            judge(number.to_string().as_bytes(), factor)
        }
        (Err(error), _) => Err(Failure::Unreadable(without_number(&error))),
    }
}

fn judge(text: &[u8], factor: Option<i32>) -> Result<Success, Failure> {
    let unknown = || Failure::Unexpected { got: shown(text), wanted: "up, down or a number".into() };
    let word = std::str::from_utf8(text).map_err(|_| unknown())?.trim();
    match (word, factor) {
        ("up", _) => return Ok(Success::Up),
        ("down", _) => return Err(Failure::SaysDown),
        _ => {}
    }
    let number: i64 = word.parse().map_err(|_| unknown())?;
    let Some(factor) = factor else {
        let weight = u32::try_from(number).ok().filter(|weight| *weight <= WEIGHT_MAX);
        return weight.map(Success::Weight).ok_or_else(unknown);
    };
    if factor == 0 {
        return if number == 0 { Ok(Success::Up) } else { Err(Failure::SaysDown) };
    }
    match number.saturating_mul(factor.into()) {
        shift if shift <= SHIFT_DOWN => Err(Failure::SaysDown),
        shift => Ok(Success::Shift(shift.min(i64::from(WEIGHT_MAX)) as i32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_up_down_or_a_weight() {
        assert_eq!(judge(b"up\n", None), Ok(Success::Up));
        assert_eq!(judge(b" down", Some(1)), Err(Failure::SaysDown));
        assert_eq!(judge(b"12\n", None), Ok(Success::Weight(12)));
        assert_eq!(judge(b"-3\n", Some(2)), Ok(Success::Shift(-6)));
        assert_eq!(judge(b"-254", Some(1)), Err(Failure::SaysDown));
        assert_eq!(judge(b"-1", Some(254)), Err(Failure::SaysDown));
        assert_eq!(judge(b"0", Some(0)), Ok(Success::Up));
        assert_eq!(judge(b"7", Some(0)), Err(Failure::SaysDown));
        assert_eq!(judge(b"9999999999", Some(9)), Ok(Success::Shift(65_535)));
        for wrong in [&b"-1"[..], b"65536", b"", b"yes", b"\xff"] {
            let failure = judge(wrong, None).unwrap_err().to_string();
            assert!(failure.ends_with("wanted up, down or a number"), "{failure}");
        }
    }
}

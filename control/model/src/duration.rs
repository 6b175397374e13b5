//! Lengths of time as operators write them: `500ms`, `6s`, `1m`, `2h`.

use std::time::Duration;

use crate::fault::Fault;

/// Reads a length of time: a whole number and one of ms, s, m, h.
///
/// # Errors
/// Anything else.
pub fn parse(text: &str) -> Result<Duration, Fault> {
    let fault = || {
        Fault::new(
            "not a length of time",
            "a whole number and a unit, ms, s, m or h, such as \"500ms\" or \"6s\"",
            "write it so",
        )
    };
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| fault())?;
    let milliseconds = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(fault()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(fault)
}

/// Writes a length of time so that [`parse`] reads it back; parts of a millisecond are lost.
#[must_use]
pub fn format(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (unit, length) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if milliseconds >= length && milliseconds % length == 0 {
            return format!("{}{unit}", milliseconds / length);
        }
    }
    format!("{milliseconds}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, milliseconds, back) in [
            ("6s", 6_000, "6s"),
            ("500ms", 500, "500ms"),
            ("1m", 60_000, "1m"),
            ("2 h", 7_200_000, "2h"),
            ("90s", 90_000, "90s"),
            ("0s", 0, "0ms"),
        ] {
            let duration = parse(text).unwrap();
            assert_eq!(duration, Duration::from_millis(milliseconds), "{text}");
            assert_eq!(format(duration), back);
        }
        for wrong in ["", "6", "s", "-1s", "1.5s", "6sec", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

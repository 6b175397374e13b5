//! Lines of others (DPDK's drivers) that come again and again: a driver says the same at each call when its device is gone.

use std::time::{Duration, Instant};

/// For how long a line is not said again.
pub const SILENCE: Duration = Duration::from_secs(60);
/// Lines that are remembered; the one that was said longest ago makes room.
const REMEMBERED: usize = 64;

/// What was said lately.
#[derive(Debug, Default)]
pub struct Repeats {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    text: String,
    said: Instant,
    since: u64,
}

impl Repeats {
    /// Whether a line is to be said: none for one that was said within [`SILENCE`], else how often it came since it was said last.
    pub fn hear(&mut self, now: Instant, text: &str) -> Option<u64> {
        if let Some(line) = self.lines.iter_mut().find(|line| line.text == text) {
            if now.saturating_duration_since(line.said) < SILENCE {
                line.since += 1;
                return None;
            }
            line.said = now;
            return Some(std::mem::take(&mut line.since));
        }
        if self.lines.len() >= REMEMBERED {
            let oldest = self.lines.iter().enumerate().min_by_key(|(_, line)| line.said);
            if let Some((place, _)) = oldest {
                self.lines.swap_remove(place);
            }
        }
        self.lines.push(Line { text: text.to_owned(), said: now, since: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_said_once_and_then_how_often_it_came() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        assert_eq!(repeats.hear(start, "port 1 is down"), Some(0));
        for millisecond in 1..1000 {
            let now = start + Duration::from_millis(millisecond);
            assert_eq!(repeats.hear(now, "port 1 is down"), None);
            assert_eq!(repeats.hear(now, "port 2 is down"), (millisecond == 1).then_some(0));
        }
        assert_eq!(repeats.hear(start + SILENCE, "port 1 is down"), Some(999));
        assert_eq!(repeats.hear(start + SILENCE * 2, "port 1 is down"), Some(0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for number in 0..1000 {
            assert_eq!(repeats.hear(start + Duration::from_millis(number), &number.to_string()), Some(0));
        }
        assert_eq!(repeats.lines.len(), REMEMBERED);
        let later = start + Duration::from_secs(2);
        assert_eq!(repeats.hear(later, "999"), None);
        assert_eq!(repeats.hear(later, "0"), Some(0), "the oldest is forgotten");
    }
}

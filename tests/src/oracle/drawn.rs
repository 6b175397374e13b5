//! Compares choices that are drawn at random (`twos`): how often each real server was taken, between one command and the
//! next.

use std::collections::BTreeMap;

use super::scenario::{Recording, Scenario, Step};

/// More than this between two series of draws by the same odds comes once in ten thousand times: chi-square of two or three degrees
/// of freedom.
pub const BOUND: f64 = 20.0;
/// The clients' router: who is refused is told by way of it.
const ROUTER: &str = "02000000c001";

/// Connections that began between two commands, by the MAC that their first packet left for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// The command before them; empty when that was the setup.
    pub after: String,
    /// How often each was chosen.
    pub chosen: BTreeMap<String, u32>,
}

/// The series of a scenario, those without a connection left out.
#[must_use]
pub fn series(scenario: &Scenario, recording: &Recording) -> Vec<Series> {
    let mut choices = recording.choices(scenario).into_iter();
    let mut all = vec![Series::default()];
    for step in &scenario.steps {
        match step {
            Step::Command { cmd } => all.push(Series { after: cmd.clone(), ..Series::default() }),
            Step::Frame { new: true, .. } => {
                let mac = choices.next().flatten().unwrap_or_else(|| "nothing".to_owned());
                let counts = all.last_mut().map(|series| series.chosen.entry(mac).or_default());
                *counts.expect("one at least") += 1;
            }
            Step::Frame { .. } | Step::Wait { .. } => {}
        }
    }
    all.retain(|series| !series.chosen.is_empty());
    all
}

/// How far two series of the same length are apart: chi-square. Where one chose no real server, or sent nothing, so must the other:
/// else it is infinite.
#[must_use]
pub fn distance(one: &Series, other: &Series) -> f64 {
    let count = |series: &Series, mac: &str| f64::from(series.chosen.get(mac).copied().unwrap_or_default());
    let macs = one.chosen.keys().chain(other.chosen.keys()).collect::<std::collections::BTreeSet<_>>();
    let part = |mac: &str| {
        let (one, other) = (count(one, mac), count(other, mac));
        let is_certain = mac == ROUTER || mac == "nothing";
        if is_certain && one != other { f64::INFINITY } else { (one - other).powi(2) / (one + other) }
    };
    macs.into_iter().map(|mac| part(mac)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(counts: &[(&str, u32)]) -> Series {
        let chosen = counts.iter().map(|&(mac, count)| (mac.to_owned(), count)).collect();
        Series { after: String::new(), chosen }
    }

    #[test]
    fn other_odds_are_told_from_chance() {
        // Of two real servers of weight 1 the kernel takes the first one in two of three draws.
        let kernel = series(&[("b", 333), ("a", 167)]);
        assert!(distance(&kernel, &series(&[("b", 350), ("a", 150)])) < 2.0);
        assert!(distance(&kernel, &series(&[("b", 250), ("a", 250)])) > BOUND, "as if it took both alike");
        assert!(distance(&kernel, &series(&[("b", 310), ("a", 160), ("c", 30)])) > BOUND, "a third one");
    }

    #[test]
    fn a_refusal_is_no_chance() {
        let refused = |count| series(&[(ROUTER, count), ("a", 500 - count)]);
        assert!(distance(&refused(3), &refused(3)) < 1.0);
        assert!(distance(&refused(3), &refused(2)).is_infinite());
    }
}

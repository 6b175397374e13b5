//! Weighted round robin (kernel: `ip_vs_wrr.c`): the list is gone through again and again, and each time those are
//! chosen whose weight is at least what is looked for, which falls from the largest weight by the
//! weights' greatest common divisor.

use super::{Choice, Cursor, Lookup, REMEMBERED, Scheduler};
use crate::service::{Candidate, Service};

/// What wrr needs to know of all weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Measure {
    /// The greatest common divisor (kernel: `di`).
    step: u32,
    /// The weight looked for first (kernel: `mw`): the largest less `step - 1`, so that the last one is 1. 0 when
    /// nobody has a weight.
    top: u32,
}

impl Measure {
    fn of(weights: impl Iterator<Item = u32>) -> Self {
        let (divisor, largest) =
            weights.fold((0, 0), |(divisor, largest), weight| (gcd(divisor, weight), largest.max(weight)));
        let step = divisor.max(1);
        Self { step, top: largest.saturating_sub(step - 1) }
    }

    /// What the weight looked for becomes when the weights have changed to this (kernel: `ip_vs_wrr_dest_changed`).
    const fn clamp(self, weight: u32) -> u32 {
        if weight > self.top || weight == 0 {
            self.top
        } else if self.step > 1 {
            weight / self.step * self.step + 1
        } else {
            weight
        }
    }
}

pub(super) const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A change of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WeightsChange {
    edition: u64,
    measure: Measure,
}

/// The weights of a service as they are, and how they came to be so: the kernel's schedule depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    now: Measure,
    /// The edition in which the schedule started.
    since: u64,
    /// The weight looked for by a cursor that saw nothing since then, before `changes`.
    start: u32,
    /// Later changes, oldest first.
    changes: Box<[WeightsChange]>,
}

impl Weights {
    pub(super) fn compile(candidates: &[Candidate], edition: u64, previous: Option<&Service>) -> Self {
        let now = Measure::of(candidates.iter().map(|candidate| candidate.weight));
        let fresh = |start| Self { now, since: edition, start, changes: Box::default() };
        let Some(previous) = previous else { return fresh(start(candidates)) };
        let Lookup::Weights(last) = &previous.lookup else {
            // The scheduler changed: the kernel starts it with all real servers in place (`ip_vs_wrr_init_svc`).
            return fresh(now.top);
        };
        let mut start = last.start;
        let mut changes = last.changes.to_vec();
        for measure in measures(&previous.candidates, candidates) {
            match changes.last_mut() {
                // The same again moves only the mark, as the last did.
                Some(last) if last.measure == measure => last.edition = edition,
                _ => changes.push(WeightsChange { edition, measure }),
            }
        }
        for old in changes.drain(..changes.len().saturating_sub(REMEMBERED)) {
            start = old.measure.clamp(start);
        }
        Self { now, since: last.since, start, changes: changes.into() }
    }
}

/// The weight looked for after these candidates came one at a time, last added first.
fn start(candidates: &[Candidate]) -> u32 {
    let (mut divisor, mut largest, mut weight) = (0, 0, 0);
    for candidate in candidates.iter().rev() {
        divisor = gcd(divisor, candidate.weight);
        largest = largest.max(candidate.weight);
        weight = Measure::of([divisor, largest].into_iter()).clamp(weight);
    }
    weight
}

/// The measure of the weights after each change that leads from one list to the other; the last ones, if many.
fn measures(from: &[Candidate], to: &[Candidate]) -> Vec<Measure> {
    let weight_in = |list: &[Candidate], wanted: &Candidate| {
        list.iter().find(|candidate| candidate.real == wanted.real).map(|candidate| candidate.weight)
    };
    let mut weights = from.iter().map(|candidate| Some(candidate.weight)).collect::<Vec<_>>();
    // Each change: a place in `weights`, and what stands there from then on.
    let mut changes = Vec::new();
    for (place, candidate) in from.iter().enumerate() {
        if weight_in(to, candidate).is_none() {
            changes.push((place, None));
        }
    }
    for (place, candidate) in from.iter().enumerate() {
        if let Some(weight) = weight_in(to, candidate).filter(|&weight| weight != candidate.weight) {
            changes.push((place, Some(weight)));
        }
    }
    for candidate in to.iter().rev().filter(|candidate| weight_in(from, candidate).is_none()) {
        changes.push((weights.len(), Some(candidate.weight)));
        weights.push(None);
    }
    let unmeasured = changes.len().saturating_sub(REMEMBERED);
    let mut measures = Vec::new();
    for (number, (place, weight)) in changes.into_iter().enumerate() {
        weights[place] = weight;
        if number >= unmeasured {
            measures.push(Measure::of(weights.iter().copied().flatten()));
        }
    }
    measures
}

/// Goes on from the mark.
pub(super) fn choose(service: &Service, mut cursor: Cursor) -> Option<Choice> {
    let measure = catch_up(service, &mut cursor);
    if measure.top == 0 {
        return None;
    }
    let candidates = &service.candidates;
    let mut first = cursor.find_mark(candidates).map_or(0, |mark| mark + 1);
    let mut heaviest = None;
    // The rest of this pass, and each pass of a whole round; by then the largest weight was met.
    for _ in 0..=measure.top.div_ceil(measure.step) {
        let reaches =
            |place: &usize| candidates[*place].weight >= cursor.weight && !candidates[*place].is_overloaded();
        let found = (first..candidates.len()).find(reaches);
        if let Some(place) = found {
            return Some(cursor.choice(service, place));
        }
        first = 0;
        cursor.weight = match cursor.weight.saturating_sub(measure.step) {
            0 => measure.top,
            weight => weight,
        };
        // Passes that find nobody, since the heaviest are overloaded, are left out.
        let heaviest = heaviest.get_or_insert_with(|| super::heaviest(service, |_| true));
        let most = candidates[(*heaviest)?].weight;
        if cursor.weight > most {
            let passes = (cursor.weight - most).div_ceil(measure.step);
            cursor.weight = match cursor.weight.saturating_sub(passes * measure.step) {
                0 => measure.top,
                weight => weight,
            };
        }
    }
    None
}

/// Takes the cursor through the changes that it did not see; the weights as they are now.
fn catch_up(service: &Service, cursor: &mut Cursor) -> Measure {
    let Lookup::Weights(weights) = &service.lookup else {
        return Measure::of(service.candidates.iter().map(|candidate| candidate.weight));
    };
    let seen = cursor.seen(Scheduler::Wrr);
    if seen == Some(service.edition) {
        return weights.now;
    }
    let seen = seen.filter(|&seen| seen >= weights.since);
    cursor.mark = None;
    if seen.is_none() {
        cursor.weight = weights.start;
    }
    for change in weights.changes.iter().filter(|change| seen.is_none_or(|seen| change.edition > seen)) {
        cursor.weight = change.measure.clamp(cursor.weight);
    }
    // Nothing, unless changes were forgotten before they were seen.
    cursor.weight = weights.now.clamp(cursor.weight);
    weights.now
}

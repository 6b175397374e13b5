//! What the generator of random cases makes is valid: this director plays it to the end, and its books balance.

use std::collections::BTreeSet;

use shunt_dataplane::service::schedulers::Scheduler;
use shunt_tests::oracle::play::{Player, STEP};
use shunt_tests::oracle::scenario::Step;
use shunt_tests::random::coverage::Coverage;
use shunt_tests::random::{self, CHANGES, Case, PACKETS};

/// The same cases in every run.
const SEEDS: std::ops::Range<u64> = 0..300;

#[test]
fn cases_are_played_to_the_end_and_books_balance() {
    let mut coverage = Coverage::default();
    for seed in SEEDS {
        // A long pause takes as long as a hundred cases without.
        let made = random::made(seed, 0, seed % 100 == 0);
        let Case { about, scenario, .. } = made.unwrap_or_else(|unknown| panic!("seed {seed}: {unknown}"));
        let mut player = Player::set_up(&scenario, STEP).unwrap();
        assert_eq!(player.recording().setup, [], "seed {seed}: a setup that is refused");
        for step in &scenario.steps {
            player.step(step).unwrap();
            assert_eq!(player.director().held(), 0, "seed {seed}: books");
        }
        player.end(&scenario).unwrap();
        let frames = scenario.steps.iter().filter(|step| matches!(step, Step::Frame { .. })).count();
        assert!(frames >= PACKETS && frames == about.packets, "seed {seed}: {frames} packets");
        assert!(about.changes >= CHANGES, "seed {seed}: {} changes", about.changes);
        coverage.add(&about);
    }
    let all = Scheduler::ALL.iter().filter(|&&scheduler| scheduler != Scheduler::Twos);
    let all = all.map(|scheduler| scheduler.word()).collect::<BTreeSet<_>>();
    assert_eq!(coverage.schedulers.keys().copied().collect::<BTreeSet<_>>(), all);
    for (scheduler, places) in &coverage.schedulers {
        assert_eq!(places.len(), 6, "{scheduler} by every method in both families: {places:?}");
    }
}

#[test]
fn a_seed_makes_the_same_case_again() {
    let (once, again) = (random::case(3).unwrap(), random::case(3).unwrap());
    assert_eq!((once.scenario, once.about), (again.scenario, again.about));
}

//! Publishing a new generation between any two packets of the recorded `sched_*` scenarios changes no choice.

use shunt_dataplane::id::{Mac, NicId, Protocol};
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::service::{Method, Settings, Thresholds};
use shunt_dataplane::snapshot::{NeighbourPlan, RealPlan, ServicePlan};
use shunt_tests::director::Director;
use shunt_tests::oracle::compare::compare;
use shunt_tests::oracle::pinned;
use shunt_tests::oracle::play::play_disturbed;
use shunt_tests::oracle::scenario::{self, Recording, Scenario, StepResult};

/// What is published, none of which is the scenario's business.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// The same again.
    Nothing,
    /// A neighbour comes or goes.
    Neighbour,
    /// A real server of another service of the same VIP goes up or down.
    HealthElsewhere,
    /// The service itself gets another name, so that it is compiled anew.
    Name,
    /// Three generations at once.
    Burst,
}

const CHANGES: [Change; 5] =
    [Change::Nothing, Change::Neighbour, Change::HealthElsewhere, Change::Name, Change::Burst];

fn publish(change: Change, director: &mut Director) {
    director.publish(|plan| match change {
        Change::Nothing => {}
        Change::Neighbour => {
            let address = "10.1.0.77".parse().unwrap();
            let known = plan.neighbours.len();
            plan.neighbours.retain(|neighbour| neighbour.address != address);
            if plan.neighbours.len() == known {
                let mac = Mac([2, 0, 0, 0, 0xb0, 0x77]);
                plan.neighbours.insert(0, NeighbourPlan { nic: NicId(1), address, mac });
            }
        }
        Change::HealthElsewhere => {
            let listen = "10.0.0.100:8443".parse().unwrap();
            match plan.services.iter_mut().find(|service| service.listen == listen) {
                Some(service) => service.reals[0].up ^= true,
                None => plan.services.insert(0, elsewhere(listen)),
            }
        }
        Change::Name => plan.services.iter_mut().for_each(|service| service.name.push('x')),
        Change::Burst => {}
    });
    if matches!(change, Change::Burst) {
        publish(Change::HealthElsewhere, director);
        publish(Change::Name, director);
    }
}

fn elsewhere(listen: std::net::SocketAddr) -> ServicePlan {
    let real = |address: &str| RealPlan {
        address: address.parse().unwrap(),
        method: Method::Nat,
        tunnel: Default::default(),
        weight: 1,
        thresholds: Thresholds::default(),
        up: true,
    };
    ServicePlan {
        name: "elsewhere".to_owned(),
        listen,
        protocol: Protocol::Tcp,
        scheduler: Scheduler::Rr,
        settings: Settings::default(),
        reals: vec![real("10.1.0.11:8443"), real("10.1.0.12:8443")],
    }
}

/// Frames and choices alone: a listing may show what was changed elsewhere.
fn without_listings(recording: Recording) -> Recording {
    let steps = recording.steps.into_iter().map(|step| StepResult { output: None, ..step });
    Recording { steps: steps.collect(), chosen: recording.chosen, ..Recording::default() }
}

fn undisturbed_by_generations(name: &str) {
    let file = format!("{name}.json");
    let scenario: Scenario = scenario::read(&pinned().join("scenarios").join(&file)).unwrap();
    let want = without_listings(scenario::read(&pinned().join("golden").join(&file)).unwrap());
    let check = |change: Change, place: Option<usize>| {
        let got = play_disturbed(&scenario, |step, director| {
            if place.is_none_or(|place| place == step) {
                publish(change, director);
            }
        });
        let comparison = compare(&want, &without_listings(got.unwrap()));
        let first = comparison.differences.first();
        assert_eq!(first.map(String::as_str), None, "{change:?} before step {place:?}");
    };
    for change in CHANGES {
        check(change, None);
        for place in 0..scenario.steps.len() {
            check(change, Some(place));
        }
    }
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            undisturbed_by_generations(stringify!($name));
        })*
    };
}

scenarios! {
    sched_rr sched_wrr sched_lc sched_wlc sched_lblc sched_lblcr sched_sh sched_mh sched_thresholds persist persist_mask
    sched_wrr_changes sched_wlc_changes sched_sh_changes sched_mh_changes
}

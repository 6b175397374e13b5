//! Who is in the schedule of a service, and with which weight: what its checks say, and what the service makes of it.
//!
//! keepalived's rules (`check/ipwrapper.c`): a service has its quorum while the weights of its living real servers reach it,
//! with hysteresis in both directions; while it is lost the sorry server, if there is one, stands in the schedule instead
//! of all real servers.

use std::time::Instant;

use shunt_config::{Pool, Real, Service};
use shunt_model::health::{Standing, Verdict};

use super::compile::State;

/// A real server's place in the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// False when it is out of the schedule; its connections stay.
    pub up: bool,
    /// Its weight; 0 takes no new connections.
    pub weight: u32,
    /// Why it is not as its checks say.
    pub because: Option<Because>,
}

/// Why a real server's place is not what its checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// It is down, and has weight 0 for it (keepalived: `inhibit_on_failure`).
    Inhibited,
    /// It is down, but too few would be left without it.
    Panic,
    /// It is up, but the quorum is lost and the sorry server serves.
    Quorum,
}

impl Because {
    /// In words for an operator.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Inhibited => "weight 0 for it",
            Self::Panic => "kept all the same: too few are up (panic)",
            Self::Quorum => "up, but the quorum is lost: the sorry server serves",
        }
    }
}

impl State {
    /// The weight of all real servers of a service that are up, as the quorum counts it: growing weights in full.
    #[must_use]
    pub fn living_weight(&self, service: &Service) -> u64 {
        let weigh = |real: &Real| {
            let verdict = self.verdict(&service.real_key(real.address));
            if verdict.up { u64::from(Verdict { share: 100, ..verdict }.weigh(real.weight)) } else { 0 }
        };
        service.reals.iter().map(weigh).sum()
    }

    /// Whether the sorry server of a service serves.
    #[must_use]
    pub fn is_sorry(&self, service: &Service) -> bool {
        service.pool.sorry_server.is_some() && self.lost.contains(&service.key())
    }

    /// The places of a service's real servers, in their order.
    #[must_use]
    pub fn schedule(&self, service: &Service) -> Vec<Place> {
        let sorry = self.is_sorry(service);
        let standing = |real: &Real| self.standings.get(&service.real_key(real.address));
        let mut places: Vec<Place> =
            service.reals.iter().map(|real| place(real, standing(real), sorry)).collect();
        if !sorry {
            keep_some(&service.pool, &service.reals, &mut places, |real| {
                standing(real).map(|standing| standing.since)
            });
        }
        places
    }
}

fn place(real: &Real, standing: Option<&Standing>, sorry: bool) -> Place {
    let verdict = standing.map_or_else(Verdict::default, |standing| standing.verdict);
    let weight = verdict.weigh(real.weight);
    match verdict.up {
        true if sorry => Place { up: false, weight, because: Some(Because::Quorum) },
        true => Place { up: true, weight, because: None },
        false if real.inhibit_on_failure => Place { up: true, weight: 0, because: Some(Because::Inhibited) },
        false => Place { up: false, weight, because: None },
    }
}

/// Of those that are down keeps as many in the schedule as `panic` asks for: those that went down last.
fn keep_some(pool: &Pool, reals: &[Real], places: &mut [Place], fell: impl Fn(&Real) -> Option<Instant>) {
    let least = (reals.len() * usize::from(pool.panic)).div_ceil(100);
    let is_down = |place: &Place| !place.up || place.because == Some(Because::Inhibited);
    let up = places.iter().filter(|place| !is_down(place)).count();
    let mut down: Vec<usize> = (0..places.len()).filter(|number| is_down(&places[*number])).collect();
    down.sort_by_key(|number| std::cmp::Reverse(fell(&reals[*number])));
    for number in down.into_iter().take(least.saturating_sub(up)) {
        places[number] = Place { up: true, weight: reals[number].weight, because: Some(Because::Panic) };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use shunt_config::Config;

    fn service(keys: &str, reals: &str) -> Service {
        let text = format!(
            "[[nic]]\nname = \"front\"\ndevice = \"null:\"\naddresses = [\"192.0.2.2/24\"]\n\
             [[service]]\nname = \"web\"\nlisten = \"192.0.2.10:80\"\nprotocol = \"tcp\"\ncheck = {{ kind = \"tcp\" }}\n{keys}\n\
             real = [{reals}]"
        );
        let checked = Config::check("test", &text).unwrap_or_else(|problems| panic!("{problems}"));
        checked.config.services[0].clone()
    }

    const THREE: &str = r#"{ address = "192.0.2.21", weight = 3 }, { address = "192.0.2.22", weight = 2 },
                           { address = "192.0.2.23" }"#;

    /// The state after these went down, in this order.
    fn down(service: &Service, fallen: &[usize]) -> State {
        let mut state = State::default();
        let start = Instant::now();
        for (number, fell) in fallen.iter().enumerate() {
            let verdict = Verdict { up: false, ..Verdict::default() };
            let since = start + Duration::from_secs(number as u64);
            let key = service.real_key(service.reals[*fell].address);
            state.standings.insert(key, Standing { verdict, since });
        }
        state
    }

    fn shown(service: &Service, state: &State) -> Vec<(bool, u32)> {
        state.schedule(service).iter().map(|place| (place.up, place.weight)).collect()
    }

    #[test]
    fn who_is_down_leaves_or_has_weight_0() {
        let plain = service("", THREE);
        assert_eq!(shown(&plain, &down(&plain, &[0])), [(false, 3), (true, 2), (true, 1)]);
        let inhibits =
            service("inhibit_on_failure = true", &THREE.replace("weight = 2", "inhibit_on_failure = false"));
        assert_eq!(shown(&inhibits, &down(&inhibits, &[0, 1])), [(true, 0), (false, 1), (true, 1)]);
    }

    #[test]
    fn the_last_ones_stay() {
        let careful = service("panic = 50", THREE);
        // Two of three have to stay: of those that fell the last.
        assert_eq!(shown(&careful, &down(&careful, &[0])), [(false, 3), (true, 2), (true, 1)]);
        assert_eq!(shown(&careful, &down(&careful, &[0, 2])), [(false, 3), (true, 2), (true, 1)]);
        assert_eq!(shown(&careful, &down(&careful, &[2, 0, 1])), [(true, 3), (true, 2), (false, 1)]);
        let places = down(&careful, &[2, 0, 1]).schedule(&careful);
        assert_eq!(places[0].because, Some(Because::Panic));
        let inhibits = service("panic = 100\ninhibit_on_failure = true", THREE);
        assert_eq!(shown(&inhibits, &down(&inhibits, &[0, 1, 2])), [(true, 3), (true, 2), (true, 1)]);
    }

    #[test]
    fn a_quorum_is_lost_and_gained_as_keepalived_has_it() {
        let pool = Pool { quorum: 5, hysteresis: 2, ..Pool::default() };
        for (before, weight, holds) in [
            (true, 5, true),
            (true, 3, true),
            (true, 2, false),
            (false, 5, false),
            (false, 6, false),
            (false, 7, true),
        ] {
            assert_eq!(pool.has_quorum(before, weight), holds, "{before} {weight}");
        }
        let pool = Pool { quorum: 1, hysteresis: 0, ..Pool::default() };
        assert!(pool.has_quorum(false, 1) && !pool.has_quorum(true, 0));
    }

    #[test]
    fn the_sorry_server_serves_while_the_quorum_is_lost() {
        let keys = "quorum = 3\nsorry_server = { address = \"192.0.2.99\" }";
        let service = service(keys, THREE);
        let mut state = down(&service, &[0]);
        assert_eq!((state.living_weight(&service), state.is_sorry(&service)), (3, false));
        state.lost.insert(service.key());
        assert_eq!(shown(&service, &state), [(false, 3), (false, 2), (false, 1)]);
        let plan = crate::publish::compile::with_sorry_server(&service, &state);
        let last = plan.reals.last().map(|real| (real.address.to_string(), real.up));
        assert_eq!(last, Some(("192.0.2.99:80".to_owned(), true)));
        state.lost.clear();
        let plan = crate::publish::compile::with_sorry_server(&service, &state);
        assert_eq!(plan.reals.iter().map(|real| real.up).collect::<Vec<_>>(), [false, true, true, false]);
    }
}

//! What is known of health across configurations, and the quorums that follow from it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Instant;

use shunt_config::{Config, Pool, Real, Service};
use shunt_model::health::{RealKey, ServiceKey, Standing, Verdict};
use shunt_protocol::health::Change;

use super::compile::State;

/// A service gained or lost its quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumChange {
    /// Its name.
    pub service: String,
    /// Which.
    pub key: ServiceKey,
    /// Whether it has its quorum now.
    pub holds: bool,
    /// What its living real servers weigh.
    pub weight: u64,
    /// What it makes of that.
    pub pool: Pool,
}

impl fmt::Display for QuorumChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, key: _, holds, weight, pool } = self;
        let word = if *holds { "gained" } else { "lost" };
        let quorum = pool.quorum;
        write!(f, "service \"{service}\": quorum {word}: its real servers weigh {weight}, quorum {quorum}")?;
        if pool.hysteresis > 0 {
            write!(f, ", hysteresis {}", pool.hysteresis)?;
        }
        match &pool.sorry_server {
            Some(sorry) if *holds => write!(f, ": the sorry server {} rests", sorry.address),
            Some(sorry) => write!(f, ": the sorry server {} serves", sorry.address),
            None => Ok(()),
        }
    }
}

impl State {
    /// Takes note of what the checks of a real server say.
    pub fn hear(&mut self, change: &Change) {
        let Change { key, verdict, at, .. } = *change;
        if verdict == Verdict::default() {
            self.standings.remove(&key);
            return;
        }
        let known = self.standings.get(&key).filter(|_| !change.turned);
        let since = known.map_or(at, |known| known.since);
        self.standings.insert(key, Standing { verdict, since });
    }

    /// Follows a new configuration: forgets what checks said of real servers that are not checked any more, and lets those
    /// that are checked from now on begin down where their service says so. Without `before` all begin.
    pub fn follow(&mut self, before: Option<&Config>, config: &Config) {
        let old = before.map(checked).unwrap_or_default();
        let new = checked(config);
        self.standings.retain(|key, _| new.contains_key(key));
        let since = Instant::now();
        for key in new.iter().filter(|(key, alpha)| **alpha && !old.contains_key(*key)).map(|(key, _)| *key) {
            let verdict = Verdict { up: false, ..Verdict::default() };
            self.standings.insert(key, Standing { verdict, since });
        }
        let known: HashSet<ServiceKey> = config.services.iter().map(Service::key).collect();
        self.lost.retain(|key| known.contains(key));
        let old: HashSet<ServiceKey> =
            before.iter().flat_map(|config| &config.services).map(Service::key).collect();
        let begin =
            config.services.iter().filter(|service| service.pool.alpha && !old.contains(&service.key()));
        self.lost.extend(begin.map(Service::key));
    }

    /// Looks at all quorums anew, and says which services gained or lost theirs.
    pub fn weigh_quorums(&mut self, config: &Config) -> Vec<QuorumChange> {
        let mut changes = Vec::new();
        for service in &config.services {
            let key = service.key();
            let held = !self.lost.contains(&key);
            let weight = self.living_weight(service);
            let holds = service.pool.has_quorum(held, weight);
            if holds == held {
                continue;
            }
            if holds {
                self.lost.remove(&key);
            } else {
                self.lost.insert(key);
            }
            let (service, pool) = (service.name.clone(), service.pool.clone());
            changes.push(QuorumChange { service, key, holds, weight, pool });
        }
        changes
    }
}

/// The real servers that are checked, and whether they begin down.
fn checked(config: &Config) -> HashMap<RealKey, bool> {
    let services = config.services.iter();
    let reals = services.flat_map(|service| service.reals.iter().map(move |real| (service, real)));
    let reals = reals.filter(|(_, real)| real.is_watched());
    let alpha = |service: &Service, real: &Real| {
        let begins_down = service.pool.alpha && !real.checks.is_empty();
        begins_down || real.checks.iter().any(|check| check.alpha)
    };
    reals.map(|(service, real)| (service.real_key(real.address), alpha(service, real))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(keys: &str) -> Config {
        let text = format!(
            "[[nic]]\nname = \"front\"\ndevice = \"null:\"\naddresses = [\"192.0.2.2/24\"]\n\
             [[service]]\nname = \"web\"\nlisten = \"192.0.2.10:80\"\nprotocol = \"tcp\"\n{keys}\n\
             real = [{{ address = \"192.0.2.21\", weight = 3 }}, {{ address = \"192.0.2.22\", weight = 2 }}]"
        );
        Config::check("test", &text).unwrap_or_else(|problems| panic!("{problems}")).config
    }

    fn change(config: &Config, real: usize, up: bool) -> Change {
        let service = &config.services[0];
        let key = service.real_key(service.reals[real].address);
        let verdict = Verdict { up, ..Verdict::default() };
        Change { key, verdict, turned: true, reason: "so".to_owned(), at: Instant::now() }
    }

    #[test]
    fn a_quorum_comes_and_goes_with_its_real_servers() {
        let config =
            config("check = { kind = \"tcp\" }\nquorum = 3\nsorry_server = { address = \"192.0.2.99\" }");
        let mut state = State::default();
        state.follow(None, &config);
        assert_eq!(state.weigh_quorums(&config), []);
        state.hear(&change(&config, 1, false));
        assert_eq!(state.weigh_quorums(&config), []);
        state.hear(&change(&config, 0, false));
        let told = state.weigh_quorums(&config);
        assert_eq!(
            told[0].to_string(),
            "service \"web\": quorum lost: its real servers weigh 0, quorum 3: the sorry server 192.0.2.99:80 serves"
        );
        assert_eq!(state.weigh_quorums(&config), []);
        state.hear(&change(&config, 1, true));
        assert_eq!(state.weigh_quorums(&config), []);
        state.hear(&change(&config, 0, true));
        let told = state.weigh_quorums(&config);
        assert!(told[0].holds && told[0].to_string().ends_with("192.0.2.99:80 rests"));
        assert!(state.standings.is_empty() && state.lost.is_empty());
    }

    #[test]
    fn failures_that_pass_by_lose_a_quorum_as_checks_do() {
        let config = config(
            "forward = \"nat\"\nmax_fails = 3\nquorum = 3\nalpha = false\nsorry_server = { address = \"192.0.2.99\" }",
        );
        let mut state = State::default();
        state.follow(None, &config);
        assert_eq!(state.weigh_quorums(&config), []);
        state.hear(&change(&config, 0, false));
        assert!(!state.weigh_quorums(&config)[0].holds && state.is_sorry(&config.services[0]));
        // A reload that changes nothing here forgets nothing.
        state.follow(Some(&config), &config);
        assert_eq!((state.standings.len(), state.weigh_quorums(&config)), (1, vec![]));
        state.hear(&change(&config, 0, true));
        assert!(state.weigh_quorums(&config)[0].holds);
    }

    #[test]
    fn a_weight_that_grows_counts_in_full() {
        let config = config("check = { kind = \"tcp\" }\nquorum = 3");
        let mut state = State::default();
        state.hear(&change(&config, 1, false));
        let mut grows = change(&config, 0, true);
        grows.verdict.share = 10;
        state.hear(&grows);
        assert_eq!(state.weigh_quorums(&config), []);
    }

    #[test]
    fn with_alpha_a_service_begins_without_anybody() {
        let plain = config("check = { kind = \"tcp\" }");
        let alpha = config("check = { kind = \"tcp\" }\nalpha = true");
        let mut state = State::default();
        state.follow(None, &alpha);
        assert_eq!((state.standings.len(), state.lost.len()), (2, 1));
        assert_eq!(state.weigh_quorums(&alpha), []);
        state.hear(&change(&alpha, 0, true));
        assert!(state.weigh_quorums(&alpha)[0].holds);
        // A reload takes nobody out, and forgets who is not checked any more.
        let mut state = State::default();
        state.follow(None, &plain);
        state.follow(Some(&plain), &alpha);
        assert_eq!((state.standings.len(), state.lost.len()), (0, 0));
        state.hear(&change(&alpha, 0, false));
        state.follow(Some(&alpha), &config(""));
        assert!(state.standings.is_empty());
    }
}

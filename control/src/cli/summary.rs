//! What of a status is shown: with thousands of real servers what is wrong, and how many are well.

use std::collections::BTreeMap;

use super::client::Failure;
use crate::api::Status;
use crate::api::status::{Quorum, Real, RealState, Service};

/// Rows of services and real servers that are all shown; of more only those with which something is wrong.
pub const ROWS_MAX: usize = 60;
/// VIPs, pieces of advice and changes that are shown; of more the number is.
pub const LINES_MAX: usize = 20;

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// What is wrong, and all services where they are few.
    Summary,
    /// Everything.
    All,
    /// The services and real servers that do not serve.
    Down,
    /// One service.
    Service(String),
}

impl View {
    /// Lines of which so many are shown, and how the others are told.
    pub fn bound<'a>(&self, lines: &'a [String]) -> (&'a [String], Option<String>) {
        let most = if *self == Self::All { usize::MAX } else { LINES_MAX };
        match lines.len().checked_sub(most).filter(|more| *more > 0) {
            Some(more) => (&lines[..most], Some(format!("and {more} more: shunt status --all"))),
            None => (lines, None),
        }
    }

    /// The services and real servers that are shown, and how the others are told.
    ///
    /// # Errors
    /// There is no such service.
    pub fn services(&self, services: &[Service]) -> Result<(Vec<Service>, Option<String>), Failure> {
        match self {
            Self::All => Ok((services.to_vec(), None)),
            Self::Service(name) => Ok((vec![named(services, name)?], None)),
            Self::Down => {
                let down = services.iter().filter(|service| !is_well(service)).map(only_down);
                Ok((down.collect(), None))
            }
            Self::Summary => Ok(summary(services)),
        }
    }
}

/// The one of this name, or of this address and port.
fn named(services: &[Service], name: &str) -> Result<Service, Failure> {
    let found = services.iter().find(|service| service.name == name || service.listen == name);
    found.cloned().ok_or_else(|| {
        let names: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
        let near = names
            .iter()
            .min_by_key(|known| strsim::damerau_levenshtein(known, name))
            .map_or_else(String::new, |near| format!(": did you mean {near}?"));
        Failure::no(format!("shunt: {name}: no such service: there are {} services{near}", services.len()))
    })
}

fn summary(services: &[Service]) -> (Vec<Service>, Option<String>) {
    let rows: usize = services.iter().map(rows).sum();
    if rows <= ROWS_MAX {
        return (services.to_vec(), None);
    }
    let mut left = ROWS_MAX;
    let wrong: Vec<&Service> = services.iter().filter(|service| !is_well(service)).collect();
    let shown: Vec<Service> = wrong
        .iter()
        .map(|service| only_down(service))
        .take_while(|service| rows_fit(service, &mut left))
        .collect();
    let well = services.len() - wrong.len();
    let mut told = format!("{well} services are not shown, since all is well with them: shunt status --all");
    if let Some(more) = wrong.len().checked_sub(shown.len()).filter(|more| *more > 0) {
        told += &format!("\n{more} services with something wrong are not shown: shunt status --down");
    }
    (shown, Some(told))
}

fn rows_fit(service: &Service, left: &mut usize) -> bool {
    match left.checked_sub(rows(service)) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}

fn rows(service: &Service) -> usize {
    1 + service.reals.len() + usize::from(service.sorry_server.is_some())
}

/// All its real servers are in the schedule, and it has its quorum.
fn is_well(service: &Service) -> bool {
    !lacks_quorum(service) && service.reals.iter().all(serves)
}

/// The quorum of one that does not matter is nothing to tell of.
fn lacks_quorum(service: &Service) -> bool {
    let Quorum { quorum, held, .. } = service.quorum;
    !held && (quorum > 1 || service.sorry_server.is_some())
}

fn serves(real: &Real) -> bool {
    matches!(real.state, RealState::Up | RealState::Unchecked)
}

fn only_down(service: &Service) -> Service {
    Service { reals: service.reals.iter().filter(|real| !serves(real)).cloned().collect(), ..service.clone() }
}

/// How many services and real servers there are, by state.
pub fn counts(status: &Status) -> String {
    let reals = status.services.iter().flat_map(|service| &service.reals);
    let mut states: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    let (mut all, mut draining) = (0, 0);
    for real in reals {
        all += 1;
        let order = [RealState::Up, RealState::Unchecked, RealState::Down, RealState::Checking];
        let place = order.iter().position(|state| *state == real.state).unwrap_or(order.len());
        *states.entry((place, real.state.word())).or_default() += 1;
        let has_connections = real.connections_active + real.connections_inactive > 0;
        draining += usize::from(serves(real) && real.weight == 0 && has_connections);
    }
    let mut parts: Vec<String> = states.iter().map(|((_, word), count)| format!("{count} {word}")).collect();
    if draining > 0 {
        parts.push(format!("{draining} draining (weight 0)"));
    }
    let mut text = format!("services: {}", status.services.len());
    let lost = status.services.iter().filter(|service| lacks_quorum(service)).count();
    if lost > 0 {
        text += &format!(", {lost} without quorum");
    }
    let silent = |service: &&Service| !service.reals.is_empty() && !service.reals.iter().any(serves);
    let silent = status.services.iter().filter(silent).count();
    if silent > 0 {
        text += &format!(", {silent} without a real server that is up");
    }
    text += &format!("; real servers: {all}");
    if parts.is_empty() { text } else { format!("{text}: {}", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(number: usize, states: &[RealState]) -> Service {
        let real = |state: &RealState| Real { state: *state, weight: 1, ..Real::default() };
        Service {
            name: format!("s{number}"),
            listen: format!("192.0.2.{number}:80"),
            reals: states.iter().map(real).collect(),
            quorum: Quorum { quorum: 1, held: true, ..Quorum::default() },
            ..Service::default()
        }
    }

    #[test]
    fn of_many_services_those_are_shown_with_which_something_is_wrong() {
        use RealState::{Checking, Down, Up};
        let mut services: Vec<Service> = (0..500).map(|number| service(number, &[Up, Up, Up])).collect();
        services[7] = service(7, &[Up, Down, Up]);
        services[9] = service(9, &[Down, Down, Checking]);
        let (shown, told) = View::Summary.services(&services).unwrap();
        assert_eq!(shown.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["s7", "s9"]);
        assert_eq!(shown.iter().map(|one| one.reals.len()).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(
            told.unwrap(),
            "498 services are not shown, since all is well with them: shunt status --all"
        );
        assert_eq!(View::All.services(&services).unwrap().0.len(), 500);
        assert_eq!(View::Down.services(&services).unwrap().0.len(), 2);
        for name in ["s9", "192.0.2.9:80"] {
            assert_eq!(View::Service(name.to_owned()).services(&services).unwrap().0[0].reals.len(), 3);
        }
        let none = View::Service("s99x".to_owned()).services(&services).unwrap_err();
        assert_eq!(none.text, "shunt: s99x: no such service: there are 500 services: did you mean s99?");
        let status = Status { services, ..Status::default() };
        assert_eq!(
            counts(&status),
            "services: 500, 1 without a real server that is up; real servers: 1500: 1496 up, 3 down, 1 checking"
        );
    }

    #[test]
    fn when_everything_is_down_the_summary_is_bounded_and_few_services_are_all_shown() {
        let many: Vec<Service> = (0..500).map(|number| service(number, &[RealState::Down; 3])).collect();
        let (shown, told) = View::Summary.services(&many).unwrap();
        assert_eq!(shown.len(), ROWS_MAX / 4);
        assert!(
            told.unwrap().ends_with("485 services with something wrong are not shown: shunt status --down")
        );
        let (shown, told) = View::Summary.services(&many[..15]).unwrap();
        assert_eq!((shown.len(), told), (15, None));
    }

    #[test]
    fn who_drains_is_counted() {
        let mut one = service(1, &[RealState::Up, RealState::Up]);
        (one.reals[0].weight, one.reals[0].connections_active) = (0, 3);
        let status = Status { services: vec![one], ..Status::default() };
        assert_eq!(counts(&status), "services: 1; real servers: 2: 2 up, 1 draining (weight 0)");
    }
}

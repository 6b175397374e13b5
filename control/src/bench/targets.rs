//! What the director should reach, and whether runs reached it.

use super::report::{Cell, Frame};

/// IPv6 may cost this many times as much as IPv4.
const IPV6_FACTOR: f64 = 1.3;
/// The table's last tenth below 90 % counts as no slower than the others up to this many percent.
const FALLING_PERCENT: f64 = 5.0;
/// New connections in a second and core.
const NEW_PER_SECOND: f64 = 3e6;
/// Established packets may become slower in a flood by this many percent.
const FLOOD_PERCENT: f64 = 100.0 / 3.0;
/// Many services may be slower than one by this many percent.
const SERVICES_PERCENT: f64 = 10.0;
/// Milliseconds from a compiled configuration until the last worker runs it.
const RELOAD_MS: f64 = 200.0;

/// How a value compares with its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sense {
    AtMost,
    AtLeast,
}

/// A target and the figure of each run; none where the run did not measure it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// What is measured.
    pub name: String,
    /// The unit of limit and figures.
    pub unit: &'static str,
    limit: f64,
    sense: Sense,
    /// The figure of each run.
    pub figures: Vec<Option<f64>>,
}

impl Target {
    /// Whether a figure meets the limit.
    fn is_met_by(&self, figure: f64) -> bool {
        match self.sense {
            Sense::AtMost => figure <= self.limit,
            Sense::AtLeast => figure >= self.limit,
        }
    }

    /// The limit in words.
    #[must_use]
    pub fn limit(&self) -> String {
        let sign = if self.sense == Sense::AtMost { "≤" } else { "≥" };
        format!("{sign} {}", short(self.limit))
    }

    /// What each run says, and whether that meets the limit; a dash where a run did not measure it.
    #[must_use]
    pub fn verdicts(&self) -> Vec<String> {
        let verdict = |figure: &Option<f64>| match figure {
            None => "–".to_owned(),
            Some(figure) if self.is_met_by(*figure) => format!("{} met", short(*figure)),
            Some(figure) => format!("**{} not met**", short(*figure)),
        };
        self.figures.iter().map(verdict).collect()
    }

    /// In how many runs it was met, and how many there were.
    #[must_use]
    pub fn met(&self) -> (usize, usize) {
        let measured: Vec<f64> = self.figures.iter().flatten().copied().collect();
        (measured.iter().filter(|figure| self.is_met_by(**figure)).count(), measured.len())
    }
}

/// A number with as many digits as one wants to read.
fn short(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// What a packet may cost: methods, flows and nanoseconds in IPv4.
const FORWARDING: [(&str, [(u64, f64); 3]); 3] = [
    ("dr", [(1_000, 25.0), (1_000_000, 40.0), (10_000_000, 55.0)]),
    ("nat", [(1_000, 33.0), (1_000_000, 52.0), (10_000_000, 72.0)]),
    ("tun", [(1_000, 33.0), (1_000_000, 52.0), (10_000_000, 72.0)]),
];

/// Nanoseconds that a packet may take with so many flows: the points of a method and family.
#[must_use]
pub fn points(method: &str, family: &str) -> Vec<(u64, f64)> {
    let factor = if family == "ipv6" { IPV6_FACTOR } else { 1.0 };
    let of_method = FORWARDING.iter().find(|(name, _)| *name == method);
    of_method.map(|(_, points)| points.map(|(flows, ns)| (flows, ns * factor)).to_vec()).unwrap_or_default()
}

/// All targets, each with the figures of these runs. Where several cells of a run are about one, the worst counts;
/// figures are medians of repetitions.
#[must_use]
pub fn all(runs: &[Vec<Cell>]) -> Vec<Target> {
    let mut targets = Vec::new();
    for (method, _) in FORWARDING {
        for family in ["ipv4", "ipv6"] {
            for (flows, limit) in points(method, family) {
                let name = format!("{}, {}, {} flows", upper(method), family_name(family), count(flows));
                let about = move |cell: &Cell| {
                    is_ordinary(cell) && (&*cell.method, &*cell.family, cell.flows) == (method, family, flows)
                };
                targets.push(at_most(runs, name, "ns a packet", limit, move |cell| {
                    about(cell).then_some(cell.ns_per_packet.median)
                }));
            }
        }
    }
    targets.extend(memory(runs));
    targets.extend(connections(runs));
    targets.extend(services(runs));
    targets
}

fn memory(runs: &[Vec<Cell>]) -> Vec<Target> {
    let of = |family: &'static str, limit| {
        let name = format!("memory of an {} connection, table 90 % full", family_name(family));
        at_most(runs, name, "bytes", limit, move |cell| {
            cell.bytes_per_connection.filter(|_| is_ordinary(cell) && cell.family == family)
        })
    };
    vec![of("ipv4", 64.0), of("ipv6", 128.0)]
}

fn connections(runs: &[Vec<Cell>]) -> Vec<Target> {
    let of_dr = |cell: &Cell| (&*cell.method, &*cell.family) == ("dr", "ipv4");
    let slowest = move |cell: &Cell| {
        let steps = &cell.growth.as_ref().filter(|_| of_dr(cell))?.steps;
        steps.iter().filter(|step| step.percent <= 90).map(|step| step.per_second).reduce(f64::min)
    };
    let million = |per_second: f64| per_second / 1e6;
    let limit = million(NEW_PER_SECOND);
    vec![
        at_least(
            runs,
            "DR, IPv4: new connections, slowest tenth up to 90 %",
            "M a second",
            limit,
            move |cell| slowest(cell).map(million),
        ),
        at_most(
            runs,
            "DR, IPv4: not falling: last tenth below 90 % dearer than the median tenth by",
            "%",
            FALLING_PERCENT,
            move |cell| Some(cell.growth.as_ref().filter(|_| of_dr(cell))?.last_tenth_slower_percent),
        ),
        at_least(
            runs,
            "DR, IPv4: connections that begin and end at once",
            "M a second",
            limit,
            move |cell| {
                let steady = cell.steady.as_ref().filter(|_| of_dr(cell))?;
                Some(million(steady.made_per_second.min(steady.expired_per_second)))
            },
        ),
        at_most(runs, "SYN flood on a full table: established connections lost", "", 0.0, |cell| {
            Some(cell.flood.as_ref()?.lost as f64)
        }),
        at_most(
            runs,
            "DR, IPv4: SYN flood on a full table: established packets slower by",
            "%",
            FLOOD_PERCENT,
            move |cell| Some(cell.flood.as_ref().filter(|_| of_dr(cell))?.slower_percent),
        ),
    ]
}

fn services(runs: &[Vec<Cell>]) -> Vec<Target> {
    let large = |cell: &Cell| cell.services >= 10_000;
    vec![
        at_most(
            runs,
            "10,000 services × 10 real servers slower than one service by",
            "%",
            SERVICES_PERCENT,
            move |cell| Some(cell.against_one.as_ref().filter(|_| large(cell))?.slower_percent.median),
        ),
        at_most(runs, "reload of that size under full traffic: packets dropped", "", 0.0, move |cell| {
            Some(cell.reload.as_ref().filter(|_| large(cell))?.dropped as f64)
        }),
        at_most(
            runs,
            "reload of that size: compiled to acknowledged, the slowest",
            "ms",
            RELOAD_MS,
            move |cell| Some(cell.reload.as_ref().filter(|_| large(cell))?.acknowledged_ms.max),
        ),
    ]
}

/// A cell of open connections with the smallest frames, one service and nothing unusual.
#[must_use]
pub fn is_ordinary(cell: &Cell) -> bool {
    cell.name() == "forward" && matches!(cell.frame, Frame::Bytes(..=78))
}

fn at_most(
    runs: &[Vec<Cell>],
    name: impl Into<String>,
    unit: &'static str,
    limit: f64,
    figure: impl Fn(&Cell) -> Option<f64>,
) -> Target {
    let figures = runs.iter().map(|run| run.iter().filter_map(&figure).reduce(f64::max)).collect();
    Target { name: name.into(), unit, limit, sense: Sense::AtMost, figures }
}

fn at_least(
    runs: &[Vec<Cell>],
    name: impl Into<String>,
    unit: &'static str,
    limit: f64,
    figure: impl Fn(&Cell) -> Option<f64>,
) -> Target {
    let figures = runs.iter().map(|run| run.iter().filter_map(&figure).reduce(f64::min)).collect();
    Target { name: name.into(), unit, limit, sense: Sense::AtLeast, figures }
}

/// A method's name.
#[must_use]
pub fn upper(method: &str) -> String {
    method.to_uppercase()
}

/// A family's name.
#[must_use]
pub fn family_name(family: &str) -> &str {
    if family == "ipv6" { "IPv6" } else { "IPv4" }
}

/// A number of flows for people.
#[must_use]
pub fn count(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 if number % 1_000 == 0 => format!("{} k", number / 1_000),
        _ if number % 1_000_000 == 0 => format!("{} M", number / 1_000_000),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Shape;
    use crate::bench::measure::Spread;
    use crate::bench::traffic::{FrameSize, Kind};
    use shunt_dataplane::address::Family;
    use shunt_dataplane::id::Protocol;
    use shunt_dataplane::service::Method;
    use shunt_dataplane::service::schedulers::Scheduler;

    fn cell(protocol: Protocol, flows: u64, median: f64) -> Cell {
        let shape = Shape {
            method: Method::Nat,
            family: Family::V6,
            protocol,
            frame: FrameSize::Bytes(64),
            services: 1,
            reals: 10,
            scheduler: Scheduler::Rr,
            new_share: 0,
            burst: 64,
        };
        let mut cell = Cell::new(&shape, Kind::Request, flows);
        cell.ns_per_packet = Spread { min: median, median, max: median };
        cell
    }

    #[test]
    fn the_worst_of_a_run_counts() {
        let good = vec![cell(Protocol::Udp, 1000, 40.0), cell(Protocol::Tcp, 1000, 42.0)];
        let bad = vec![cell(Protocol::Udp, 1000, 40.0), cell(Protocol::Tcp, 1000, 43.0)];
        let targets = all(&[good, bad, Vec::new()]);
        let nat = targets.iter().find(|target| target.name == "NAT, IPv6, 1 k flows").unwrap();
        assert_eq!(nat.limit(), "≤ 42.9");
        assert_eq!(nat.verdicts(), ["42 met", "**43 not met**", "–"]);
        assert_eq!(nat.met(), (1, 2));
        let others = targets.iter().filter(|target| target.met() != (0, 0)).count();
        assert_eq!(others, 1, "nothing else was measured");
    }

    #[test]
    fn memory_is_of_ordinary_cells() {
        let mut one = cell(Protocol::Tcp, 1_000_000, 50.0);
        one.bytes_per_connection = Some(140.0);
        let mut other = one.clone();
        other.new_share = 10;
        other.bytes_per_connection = Some(500.0);
        let targets = all(&[vec![one, other]]);
        let memory = targets.iter().find(|target| target.name.contains("IPv6 connection")).unwrap();
        assert_eq!(memory.figures, [Some(140.0)]);
    }
}

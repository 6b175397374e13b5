//! Results: cells as JSON, as a table for people, and against an older run.

use serde::{Deserialize, Serialize};
use shunt_dataplane::address::Family;
use shunt_dataplane::service::schedulers::Scheduler;

use super::device::OnDevice;
use super::flood::Flood;
use super::fresh::{Expiry, Growth, Steady};
use super::latency::Latency;
use super::measure::{Repetitions, Spread};
use super::reload::Reload;
use super::rig::Bench;
use super::services::AgainstOne;
use super::times::Quantiles;
use super::traffic::{FrameSize, Kind};
use super::{BenchError, Shape};

/// Frames of one size, or a mixture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Frame {
    /// Bytes, FCS included.
    Bytes(u16),
    /// The name of a mixture.
    Mixture(String),
}

impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Mixture(name) => name.fmt(f),
        }
    }
}

/// What was verified before and while a cell was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Packets that were compared byte by byte with what they should be.
    pub packets_compared: u64,
    /// Connections in the table.
    pub connections: u64,
    /// Packets of open connections that did not come out. A run with lost packets ends with an error instead.
    pub lost: u64,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// `forward`, `new`, `flood`, `reload`, `floor` or `device`.
    pub kind: String,
    /// `dr`, `nat` or `tun`; `macswap` for the floor.
    pub method: String,
    /// `request` to the real server or `answer` from it; for the floor, who swaps.
    pub direction: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// `udp` or `tcp`.
    pub protocol: String,
    /// Open connections that packets are drawn from.
    pub flows: u64,
    /// The size of frames.
    pub frame: Frame,
    /// Virtual services.
    pub services: u32,
    /// Real servers of each.
    pub reals: u32,
    /// Their scheduler.
    #[serde(default = "scheduler_default")]
    pub scheduler: String,
    /// Percent of packets that begin a connection.
    #[serde(default)]
    pub new_share: u32,
    /// Packets in a burst.
    pub burst: usize,
    /// What the director takes for a packet: all less source and sink.
    pub ns_per_packet: Spread,
    /// What source and sink take alone.
    pub source_ns_per_packet: Spread,
    /// What all three take.
    pub total_ns_per_packet: Spread,
    /// The director's time in cycles of the time stamp counter.
    pub cycles_per_packet: Spread,
    /// Packets in a second, source and sink left out.
    pub packets_per_second: Spread,
    /// MACs swapped between the same rings, source and sink left out.
    pub floor_ns_per_packet: Spread,
    /// Turns of the worker under full load, source and sink left out.
    pub turn_ns: Quantiles,
    /// How long packets take at part of the highest rate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latency: Vec<Latency>,
    /// Connections that the table has room for.
    pub table_capacity: u64,
    /// Growth of resident memory for each connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_connection: Option<f64>,
    /// The largest part of the time in which other threads ran on the core. Their time is not counted, but they leave
    /// caches to be filled again.
    pub disturbed: f64,
    /// What was verified.
    pub verified: Verified,
    /// How fast connections begin as the table fills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// How they end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Expiry>,
    /// Beginning and ending at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steady: Option<Steady>,
    /// Established traffic in a flood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flood: Option<Flood>,
    /// Many services against one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against_one: Option<AgainstOne>,
    /// Reloads under full traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<Reload>,
    /// On other NICs than rings, with a generator on another core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<OnDevice>,
    /// Milliseconds to compile all services anew when one changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile_ms: Option<f64>,
}

/// The scheduler of cells that name none.
fn scheduler_default() -> String {
    Scheduler::Rr.to_string()
}

/// The word for a family.
#[must_use]
pub const fn family_word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

impl Cell {
    /// A cell of a shape, not measured yet.
    #[must_use]
    pub fn new(shape: &Shape, kind: Kind, flows: u64) -> Self {
        Self {
            kind: "forward".to_owned(),
            method: shape.method.word().to_owned(),
            direction: if kind == Kind::Answer { "answer" } else { "request" }.to_owned(),
            family: family_word(shape.family).to_owned(),
            protocol: shape.protocol.to_string(),
            flows,
            frame: match shape.frame.effective(shape.family, shape.protocol) {
                FrameSize::Bytes(bytes) => Frame::Bytes(bytes),
                FrameSize::Imix => Frame::Mixture("imix".to_owned()),
            },
            services: shape.services,
            reals: shape.reals,
            scheduler: shape.scheduler.to_string(),
            new_share: shape.new_share,
            burst: shape.burst,
            ns_per_packet: Spread::default(),
            source_ns_per_packet: Spread::default(),
            total_ns_per_packet: Spread::default(),
            cycles_per_packet: Spread::default(),
            packets_per_second: Spread::default(),
            floor_ns_per_packet: Spread::default(),
            turn_ns: Quantiles::default(),
            latency: Vec::new(),
            table_capacity: 0,
            bytes_per_connection: None,
            disturbed: 0.0,
            verified: Verified::default(),
            growth: None,
            expiry: None,
            steady: None,
            flood: None,
            against_one: None,
            reload: None,
            device: None,
            compile_ms: None,
        }
    }

    /// Fills in the time of a packet.
    pub fn time_is(&mut self, bench: &Bench, ns: Spread) {
        let rate = bench.clock.cycles_per_second() as f64 / 1e9;
        self.ns_per_packet = ns;
        self.cycles_per_packet = ns.map(|ns| ns * rate);
        self.packets_per_second = ns.map(|ns| (1e9 / ns.max(0.01)).round());
    }

    /// Fills in what repetitions gave.
    pub fn time(&mut self, bench: &Bench, repetitions: &Repetitions) {
        self.time_is(bench, Spread::of(repetitions.net.clone()));
        self.source_ns_per_packet = Spread::of(repetitions.source.clone());
        self.total_ns_per_packet = Spread::of(repetitions.total.clone());
        self.disturbed = (repetitions.disturbed.max(0.0) * 1000.0).round() / 1000.0;
    }

    /// What makes it comparable with another.
    #[must_use]
    pub fn key(&self) -> String {
        let Self { kind, method, direction, family, protocol, .. } = self;
        let Self { flows, frame, services, reals, scheduler, new_share, .. } = self;
        format!(
            "{kind} {method} {direction} {family} {protocol} {flows} {frame} {services}x{reals} {scheduler} {new_share} %"
        )
    }

    /// What kind of cell it is, and whatever is unusual about it.
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = self.kind.clone();
        if self.services > 1 {
            name.push_str(&format!(" {}x{}", self.services, self.reals));
        }
        if self.scheduler != scheduler_default() {
            name.push_str(&format!(" {}", self.scheduler));
        }
        if self.new_share > 0 {
            name.push_str(&format!(" new {} %", self.new_share));
        }
        name
    }
}

/// Head of the table for people; numbers are in the columns from 5 on.
pub const HEAD: &[&str] = &[
    "CELL",
    "METHOD",
    "DIRECTION",
    "FAMILY",
    "PROTO",
    "FLOWS",
    "FRAME",
    "NS/PACKET",
    "MEDIAN",
    "MAX",
    "MPPS",
    "CYCLES",
    "SOURCE",
    "TOTAL",
    "FLOOR",
    "TURN P99.9 US",
    "50 % P99 US",
    "90 % P99 US",
    "BYTES/CONN",
    "DISTURBED",
];

/// A cell as a row under [`HEAD`].
#[must_use]
pub fn row(cell: &Cell) -> Vec<String> {
    let one = |value: f64| format!("{value:.1}");
    let timed = |value: f64| if cell.ns_per_packet.median > 0.0 { one(value) } else { String::new() };
    let latency = |percent: u32| {
        let found = cell.latency.iter().find(|latency| latency.load_percent == percent);
        found.map_or_else(String::new, |latency| one(latency.ns.p99 / 1000.0))
    };
    vec![
        cell.name(),
        cell.method.clone(),
        cell.direction.clone(),
        cell.family.clone(),
        cell.protocol.clone(),
        cell.flows.to_string(),
        cell.frame.to_string(),
        timed(cell.ns_per_packet.min),
        timed(cell.ns_per_packet.median),
        timed(cell.ns_per_packet.max),
        timed(cell.packets_per_second.median / 1e6),
        timed(cell.cycles_per_packet.median),
        timed(cell.source_ns_per_packet.median),
        timed(cell.total_ns_per_packet.median),
        one(cell.floor_ns_per_packet.median),
        one(cell.turn_ns.p999 / 1000.0),
        latency(50),
        latency(90),
        cell.bytes_per_connection.map_or_else(String::new, one),
        format!("{:.0} %", cell.disturbed * 100.0),
    ]
}

/// Reads cells that an earlier run wrote.
///
/// # Errors
/// When the file cannot be read or holds something else.
pub fn read(path: &std::path::Path) -> Result<Vec<Cell>, BenchError> {
    let text = std::fs::read(path).map_err(|error| {
        BenchError::new(&format!(
            "{}: cannot be read ({error}): name a file that --json wrote",
            path.display()
        ))
    })?;
    serde_json::from_slice(&text).map_err(|error| {
        BenchError::new(&format!("{}: no cells ({error}): name a file that --json wrote", path.display()))
    })
}

/// Rows of what changed since an earlier run: the cell's name, both medians and the change.
#[must_use]
pub fn compare(old: &[Cell], new: &[Cell]) -> Vec<Vec<String>> {
    let change = |cell: &Cell| {
        let before = old.iter().find(|before| before.key() == cell.key())?;
        let (was, is) = (before.ns_per_packet.median, cell.ns_per_packet.median);
        let apart = cell.ns_per_packet.min > before.ns_per_packet.max
            || cell.ns_per_packet.max < before.ns_per_packet.min;
        Some(vec![
            format!("{} {} {} {} {}", cell.name(), cell.method, cell.direction, cell.family, cell.protocol),
            cell.flows.to_string(),
            cell.frame.to_string(),
            format!("{was:.1}"),
            format!("{is:.1}"),
            format!("{:+.1} %", (is / was.max(0.01) - 1.0) * 100.0),
            if apart { "beyond all repetitions" } else { "within repetitions" }.to_owned(),
        ])
    };
    new.iter().filter_map(change).collect()
}

/// Head of the comparison.
pub const COMPARISON_HEAD: &[&str] = &["CELL", "FLOWS", "FRAME", "WAS", "IS", "CHANGE", "SPREAD"];

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_dataplane::id::Protocol;
    use shunt_dataplane::service::Method;

    fn cell(median: f64) -> Cell {
        let shape = Shape {
            method: Method::Dr,
            family: Family::V6,
            protocol: Protocol::Tcp,
            frame: FrameSize::Bytes(64),
            services: 1,
            reals: 10,
            scheduler: Scheduler::Rr,
            new_share: 0,
            burst: 64,
        };
        let mut cell = Cell::new(&shape, Kind::Request, 1000);
        cell.ns_per_packet = Spread { min: median - 1.0, median, max: median + 1.0 };
        cell
    }

    #[test]
    fn json_reads_back_and_names_the_frame_that_was_sent() {
        let text = serde_json::to_string(&[cell(20.0)]).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value[0]["frame"], &value[0]["ns_per_packet"]["median"]), (&78.into(), &20.0.into()));
        assert_eq!(serde_json::from_str::<Vec<Cell>>(&text).unwrap(), [cell(20.0)]);
    }

    #[test]
    fn comparison() {
        let rows = compare(&[cell(20.0)], &[cell(25.0)]);
        assert_eq!(rows[0][3..], ["20.0", "25.0", "+25.0 %", "beyond all repetitions"]);
        assert_eq!(row(&cell(20.0)).len(), HEAD.len());
    }
}

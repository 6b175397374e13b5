//! `shunt bench --device`: the worker on NICs, a generator on another core.

use std::time::Duration;

use clap::Args;
use shunt_config::device::Device;

use super::output::say;
use super::table::Table;
use crate::bench::device::search::{Search, Trial};
use crate::bench::device::{self, Benchmarks, Links, NICS_MAX, OnDevice, Setup, ZeroLoss};
use crate::bench::loops::another_core;
use crate::bench::measure::Effort;
use crate::bench::report::Cell;
use crate::bench::rig::Bench;
use crate::bench::{self, BenchError, Shape};

/// Options of `--device`.
#[derive(Debug, Args)]
pub struct OnNic {
    /// Measure on this NIC, as in a [[nic]], with a generator on another core; twice for clients and real servers apart
    #[arg(long, value_name = "DEVICE", value_parser = parse_device, help_heading = "On a NIC",
          conflicts_with_all = ["new", "reload", "floor", "idle", "from", "report", "svg", "compare", "new_share", "scheduler"])]
    pub device: Vec<Device>,
    /// The generator's NIC at its far end [default: follows from memif:, virtio_user: and ring:]
    #[arg(long, value_name = "DEVICE", value_parser = parse_device, requires = "device", help_heading = "On a NIC")]
    generator: Vec<Device>,
    /// The generator's CPU [default: the first one that this process may use and --core is not]
    #[arg(long, value_name = "CORE", requires = "device", help_heading = "On a NIC")]
    generator_core: Option<usize>,
    /// Look for the highest rate without loss (RFC 2544, 26.1)
    #[arg(long, requires = "device", group = "searching", help_heading = "On a NIC")]
    zero_loss: bool,
    /// The same, and latency, frame loss rate and back-to-back frames at it (RFC 2544, 26.2 to 26.4)
    #[arg(long, requires = "device", group = "searching", help_heading = "On a NIC")]
    rfc2544: bool,
    /// How often the rate is looked for: the middle one is told, and the least and the most
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100),
          requires = "searching", help_heading = "On a NIC")]
    searches: u32,
    /// Seconds of each trial; RFC 2544 asks for 60
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = super::bench::seconds,
          requires = "zero_loss", help_heading = "On a NIC")]
    trial: f64,
    /// Percent of the highest rate at which the search ends
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT", value_parser = percent,
          requires = "zero_loss", help_heading = "On a NIC")]
    resolution: f64,
    /// Percent of the packets that may be lost
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT", value_parser = percent,
          requires = "zero_loss", help_heading = "On a NIC")]
    tolerate: f64,
    /// Trials of which a rate has to pass one
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100),
          requires = "zero_loss", help_heading = "On a NIC")]
    attempts: u32,
}

fn parse_device(text: &str) -> Result<Device, String> {
    Device::parse(text).map_err(|fault| format!("{}: {}: {}", fault.wrong, fault.holds, fault.advice))
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("0 to 100 percent".to_owned()),
    }
}

impl OnNic {
    /// The generator's CPU beside a worker on `worker_core`.
    ///
    /// # Errors
    /// When there is no other.
    pub fn generator_core(&self, worker_core: usize) -> Result<usize, BenchError> {
        if self.generator_core == Some(worker_core) {
            return Err(BenchError::new(&format!(
                "--generator-core is {worker_core}, which is the worker's (--core, or the last one that this process may use): each takes a CPU \
                 of its own: name another"
            )));
        }
        self.generator_core.or_else(|| another_core(worker_core)).ok_or_else(|| {
            BenchError::new(
                "worker and generator take a CPU each, and this process may use one: allow it another",
            )
        })
    }

    /// PCI addresses that DPDK has to be allowed.
    pub fn pci(&self) -> Vec<String> {
        let all = self.device.iter().chain(&self.generator);
        all.filter(|device| device.is_pci()).map(|device| device.port_name(0)).collect()
    }

    fn setup(&self, worker_core: usize) -> Result<Setup, BenchError> {
        if self.device.len() > NICS_MAX {
            return Err(BenchError::new(
                "--device is given once, or twice for clients and real servers apart",
            ));
        }
        if !self.generator.is_empty() && self.generator.len() != self.device.len() {
            return Err(BenchError::new("--generator is given as often as --device, in the same order"));
        }
        let search = Search {
            resolution: self.resolution / 100.0,
            tolerated: self.tolerate / 100.0,
            attempts: self.attempts,
        };
        Ok(Setup {
            devices: self.device.clone(),
            generators: self.generator.clone(),
            worker_core,
            zero_loss: (self.zero_loss || self.rfc2544).then(|| Benchmarks {
                search,
                length: Duration::from_secs_f64(self.trial),
                searches: self.searches,
                all: self.rfc2544,
            }),
        })
    }
}

/// Measures every shape with every number of flows.
///
/// # Errors
/// When a device does not open, or packets are lost or wrong while they are looked at.
pub fn cells(
    arguments: &OnNic,
    bench: &Bench,
    worker_core: usize,
    shapes: &[Shape],
    flows: &[u32],
    capacity: Option<u32>,
    effort: Effort,
) -> Result<Vec<Cell>, BenchError> {
    let setup = arguments.setup(worker_core)?;
    let mut links = Links::open(bench, &setup)?;
    let mut cells = Vec::new();
    for shape in shapes {
        for &flows in flows {
            let capacity = capacity.unwrap_or_else(|| bench::capacity_for(flows, 0)).max(flows);
            cells.extend(device::measure(bench, &setup, &mut links, shape, flows, capacity, effort)?);
        }
    }
    Ok(cells)
}

const HEAD: &[&str] = &[
    "METHOD",
    "DIRECTION",
    "FAMILY",
    "PROTO",
    "FLOWS",
    "FRAME",
    "NS/PACKET",
    "MEDIAN",
    "MAX",
    "DELIVERED MPPS",
    "WORKER BUSY",
    "WITHOUT LOSS MPPS",
    "GBIT/S",
    "OF LINK",
    "OF HIGHEST",
];

/// Prints cells that were measured on NICs.
pub fn print(cells: &[Cell]) {
    let mut table = Table::new(HEAD, &(4..HEAD.len()).collect::<Vec<_>>());
    let measured = || cells.iter().filter_map(|cell| Some((cell, cell.device.as_ref()?)));
    measured().for_each(|(cell, on_device)| table.row(row(cell, on_device)));
    say(table.text().trim_end());
    for (cell, on_device) in measured() {
        let stages: Vec<_> =
            on_device.stage_cycles.iter().map(|(stage, cycles)| format!("{stage} {cycles:.0}")).collect();
        let name =
            format!("{} {} {} {} {}", cell.method, cell.direction, cell.family, cell.protocol, cell.flows);
        say(&format!("{name}: cycles a packet by stage: {}", stages.join(", ")));
        if let Some(found) = &on_device.zero_loss {
            tell(&name, found);
        }
    }
}

fn row(cell: &Cell, on_device: &OnDevice) -> Vec<String> {
    let one = |value: f64| format!("{value:.1}");
    let found = on_device.zero_loss.as_ref();
    vec![
        cell.method.clone(),
        cell.direction.clone(),
        cell.family.clone(),
        cell.protocol.clone(),
        cell.flows.to_string(),
        cell.frame.to_string(),
        one(cell.ns_per_packet.min),
        one(cell.ns_per_packet.median),
        one(cell.ns_per_packet.max),
        format!("{:.2}", on_device.delivered_per_second.median / 1e6),
        format!("{:.0} %", on_device.worker_busy * 100.0),
        found.map_or_else(String::new, |found| format!("{:.2}", found.packets_per_second / 1e6)),
        found.map_or_else(String::new, |found| format!("{:.3}", found.gigabits_per_second)),
        found.map_or_else(String::new, |found| percents(found.part_of_link)),
        found.map_or_else(String::new, |found| format!("{:.0} %", found.part_of_highest * 100.0)),
    ]
}

/// A part in percent; `-` where there is nothing that it is a part of.
fn percents(part: Option<f64>) -> String {
    part.map_or_else(|| "-".to_owned(), |part| format!("{:.1} %", part * 100.0))
}

/// What was found at rates that were tried, for one cell.
fn tell(name: &str, found: &ZeroLoss) {
    say(&format!(
        "{name}: throughput (RFC 2544, 26.1): {} trials of {} s, to {:.1} % of the highest rate, {} % loss allowed; {} searches: {:.3} to {:.3} Mpps",
        found.trials.len(),
        found.trial_seconds,
        found.resolution * 100.0,
        found.tolerated * 100.0,
        found.highest.len(),
        found.searches.min / 1e6,
        found.searches.max / 1e6,
    ));
    let highest = found.highest.iter().map(|trial| ("as much as is taken", trial));
    let at_rates = found.trials.iter().map(|trial| ("at a rate", trial));
    say(trials(highest.chain(at_rates), found.tolerated).text().trim_end());
    if let Some(latency) = &found.latency {
        say(&format!(
            "{name}: latency (26.2) at {:.3} Mpps, in microseconds: least {:.1}, mean {:.1}, median {:.1}, 99 % within {:.1}, most {:.1}; {} packets",
            found.packets_per_second / 1e6,
            latency.min,
            latency.mean,
            latency.median,
            latency.p99,
            latency.max,
            latency.samples,
        ));
    }
    if !found.frame_loss.is_empty() {
        say(&format!("{name}: frame loss rate (26.3)"));
        say(trials(found.frame_loss.iter().map(|trial| ("at a tenth less", trial)), 0.0).text().trim_end());
    }
    if let Some(frames) = &found.back_to_back {
        say(&format!(
            "{name}: back-to-back frames (26.4): {:.0} without loss; {:.0} to {:.0}",
            frames.median, frames.min, frames.max
        ));
    }
}

const TRIALS: &[&str] = &["SENT", "ASKED MPPS", "OFFERED MPPS", "OFFERED", "RECEIVED", "LOST", "LOSS", ""];

fn trials<'t>(all: impl Iterator<Item = (&'static str, &'t Trial)>, tolerated: f64) -> Table {
    let mut table = Table::new(TRIALS, &(1..TRIALS.len() - 1).collect::<Vec<_>>());
    for (sent, trial) in all {
        let asked = trial.asked_per_second;
        table.row(vec![
            sent.to_owned(),
            if asked > 0.0 { format!("{:.3}", asked / 1e6) } else { "-".to_owned() },
            format!("{:.3}", trial.offered_per_second() / 1e6),
            trial.offered.to_string(),
            trial.received.to_string(),
            trial.offered.saturating_sub(trial.received).to_string(),
            format!("{:.4} %", trial.loss() * 100.0),
            if trial.loss() <= tolerated { "passes" } else { "" }.to_owned(),
        ]);
    }
    table
}

//! `shunt bench --device`: the worker on NICs, a generator on another core.

use std::time::Duration;

use clap::Args;

use super::output::say;
use super::table::Table;
use crate::bench::device::search::Search;
use crate::bench::device::{self, Links, NICS_MAX, OnDevice, Setup};
use crate::bench::loops::another_core;
use crate::bench::measure::Effort;
use crate::bench::report::Cell;
use crate::bench::rig::Bench;
use crate::bench::{self, BenchError, Shape};
use crate::config::device::Device;

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
    #[arg(long, requires = "device", help_heading = "On a NIC")]
    zero_loss: bool,
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
            zero_loss: self.zero_loss.then(|| (search, Duration::from_secs_f64(self.trial))),
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
            say(&format!(
                "{name}: {} trials of {} s, to {:.1} % of the highest rate, {} % loss allowed",
                found.trials.len(),
                found.trial_seconds,
                found.resolution * 100.0,
                found.tolerated * 100.0
            ));
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
        found.map_or_else(String::new, |found| format!("{:.0} %", found.part_of_highest * 100.0)),
    ]
}

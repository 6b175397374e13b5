//! `shunt bench`: how fast the director is on this machine.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{ArgAction, Args, ValueEnum};
use shunt_dataplane::address::Family;
use shunt_dataplane::id::Protocol;
use shunt_dataplane::service::Method;
use shunt_dataplane::service::schedulers::Scheduler;

use super::output::{complain, say};
use super::table::Table;
use super::{Outcome, bench_device};
use crate::bench::loops::allowed_cores;
use crate::bench::measure::{Effort, Spread};
use crate::bench::report::{self, Cell};
use crate::bench::rig::Bench;
use crate::bench::traffic::FrameSize;
use crate::bench::{self, BenchError, Shape, document, flood, fresh, plot, reload, services};

#[derive(Debug, Args)]
#[command(after_help = "\
The real worker loop and the real tables run between a source and a sink on one core, joined by NICs made of rings. Each
run first compares what comes out byte by byte with what should. NS/PACKET is the least of all repetitions, what source
and sink take alone left out; TOTAL includes them. FLOOR is a loop that swaps MACs between the same rings. Times are those
in which this thread ran; DISTURBED says how much of the time others ran on the core.

Examples:
  shunt bench                                             every method, family and protocol, 1 to 1 M flows
  shunt bench --method dr --flows 1000,1000000 --json out.json
  shunt bench --method nat --family ipv4 --frame 64,1518,imix --svg cost.svg
  shunt bench --new --flows 1000000                       connections that begin and end, and a flood
  shunt bench --services 1,10000 --method dr              many services, also compared with one
  shunt bench --floor                                     what the machine gives at best
  shunt bench --services 10000 --reload --method dr       reloads under full traffic
  shunt bench --scheduler rr,wlc,sh --protocol tcp --new-share 0,1,10,100
  shunt bench --idle                                      a worker without traffic, and its naps
  shunt bench --from one.json,two.json --report runs.md   targets, and what runs say of them
  shunt bench --device memif:/tmp/m.sock --flows 1000 --method dr --zero-loss
  shunt bench --device 0000:3b:00.0 --generator 0000:3b:00.1 --core 2 --generator-core 3
  shunt bench --workers 1,2 --flows 1000,1000000          several workers, and what a hand-over costs
  shunt bench --compare out.json                          what changed since that run")]
pub struct Arguments {
    /// Forwarding methods; NAT is measured in both directions
    #[arg(long, value_enum, value_delimiter = ',', default_value = "dr,nat,tun")]
    method: Vec<MethodWord>,
    /// Address families
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ipv4,ipv6")]
    family: Vec<FamilyWord>,
    /// Protocols
    #[arg(long, value_enum, value_delimiter = ',', default_value = "udp,tcp")]
    protocol: Vec<ProtocolWord>,
    /// Open connections; packets are drawn from them at random
    #[arg(long, value_delimiter = ',', default_value = "1,1000,10000,100000,1000000",
          value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    flows: Vec<u32>,
    /// Sizes of frames, FCS included, 64 to 1518, or imix; raised where the headers need more
    #[arg(long, value_delimiter = ',', default_value = "64", value_parser = frame)]
    frame: Vec<FrameSize>,
    /// Services that share the flows
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    services: Vec<u32>,
    /// Real servers of each service
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=200))]
    reals: u32,
    /// Schedulers
    #[arg(long, value_delimiter = ',', default_value = "rr", value_parser = scheduler)]
    scheduler: Vec<Scheduler>,
    /// Percent of packets that begin a connection, 0 to 100; above 0 with TCP alone
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', default_value = "0",
          value_parser = clap::value_parser!(u32).range(0..=100))]
    new_share: Vec<u32>,
    /// Measure connections that begin and end in tables of so many as --flows says, and a flood against a full one
    #[arg(long)]
    new: bool,
    /// Reload a configuration of so many services and real servers under full traffic, once in each repetition
    #[arg(long, conflicts_with = "new")]
    reload: bool,
    /// Measure the floor alone: MACs swapped, by a loop in Rust and by dpdk-testpmd where it is installed
    #[arg(long, conflicts_with_all = ["new", "reload"])]
    floor: bool,
    /// Measure a worker without traffic, on every virtual NIC that this machine lets us make: what it uses of a core, how
    /// late the first packet after a pause is, and whether the rate is that of a worker that polls always
    #[arg(long, conflicts_with_all = ["new", "reload", "floor", "svg", "compare"])]
    idle: bool,
    /// Measure one worker and several at once, up to the largest number named here, beside loops that swap MACs, and what
    /// handing a packet over costs; of the methods, families and so on the first named is taken
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=64),
          conflicts_with_all = ["idle", "new", "reload", "floor", "svg", "compare"])]
    workers: Vec<u32>,
    /// Repetitions
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    /// Seconds of each repetition
    #[arg(long, default_value_t = 0.3, value_parser = seconds)]
    seconds: f64,
    /// Packets in a burst, 1 to 64
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=64))]
    burst: u8,
    /// Connections that the table has room for [default: so many that nine tenths are used]
    #[arg(long, value_name = "CONNECTIONS")]
    capacity: Option<u32>,
    /// The CPU to run on [default: the last one that this process may use]
    #[arg(long)]
    core: Option<usize>,
    /// Put packets into hugepages when enough are reserved
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    hugepages: bool,
    /// Write all cells as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the cost of a packet over the number of flows
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Measure nothing: take the cells of runs that wrote these files with --json, those of --method, --family and
    /// --protocol
    #[arg(long, value_name = "RUN.json", value_delimiter = ',', conflicts_with_all = ["new", "reload", "floor", "json"])]
    from: Vec<PathBuf>,
    /// Write a document in Markdown: targets and whether they are met, and all figures beside those of others
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Show what changed since a run that wrote this file with --json
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
    #[command(flatten)]
    on_nic: bench_device::OnNic,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MethodWord {
    Dr,
    Nat,
    Tun,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FamilyWord {
    #[value(alias = "4", alias = "v4")]
    Ipv4,
    #[value(alias = "6", alias = "v6")]
    Ipv6,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProtocolWord {
    Udp,
    Tcp,
}

impl MethodWord {
    const fn method(self) -> Method {
        match self {
            Self::Dr => Method::Dr,
            Self::Nat => Method::Nat,
            Self::Tun => Method::Tun,
        }
    }
}

impl FamilyWord {
    const fn family(self) -> Family {
        match self {
            Self::Ipv4 => Family::V4,
            Self::Ipv6 => Family::V6,
        }
    }
}

impl ProtocolWord {
    const fn protocol(self) -> Protocol {
        match self {
            Self::Udp => Protocol::Udp,
            Self::Tcp => Protocol::Tcp,
        }
    }
}

fn frame(text: &str) -> Result<FrameSize, String> {
    match text.parse() {
        _ if text == "imix" => Ok(FrameSize::Imix),
        Ok(bytes @ 64..=1518) => Ok(FrameSize::Bytes(bytes)),
        _ => Err("64 to 1518 bytes, FCS included, or imix".to_owned()),
    }
}

fn scheduler(text: &str) -> Result<Scheduler, String> {
    let all = Scheduler::ALL;
    all.iter().find(|scheduler| scheduler.word() == text).copied().ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|scheduler| scheduler.word()).collect();
        format!("one of {}", words.join(", "))
    })
}

pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("0.001 to 3600 seconds".to_owned()),
    }
}

/// Lines of DPDK's that are kept for an error.
const DPDK_LINES_MAX: usize = 100;

/// Measures, prints, and writes what was asked for.
pub fn run(arguments: &Arguments) -> Outcome {
    // What DPDK says is of interest when it fails.
    let said = Arc::new(Mutex::new(Vec::new()));
    let keep = said.clone();
    dpdk_sys::log::set_sink(Box::new(move |_, line| {
        // Nobody is there after that to tell it.
        if line.starts_with("PANIC") {
            complain(line);
        }
        let mut lines = keep.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < DPDK_LINES_MAX {
            lines.push(line.to_owned());
        }
    }));
    match measure(arguments) {
        Ok(()) => Outcome::Done,
        Err(error) => {
            let lines = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
            lines.iter().for_each(|line| complain(&format!("DPDK: {line}")));
            complain(&format!("shunt bench: {error}"));
            Outcome::No
        }
    }
}

/// What needs workers on threads of their own.
fn on_cores(arguments: &Arguments) -> Result<(), BenchError> {
    let core = arguments.core.unwrap_or_else(last_core);
    let length = Duration::from_secs_f64(arguments.seconds);
    let effort = Effort { repetitions: arguments.repetitions, length };
    // Asked for before DPDK binds this thread to its core.
    let allowed = allowed_cores();
    let bench = Bench::start(core, arguments.hugepages)?;
    say(&machine(&bench, core));
    if let (Some(&workers), Some(shape)) = (arguments.workers.iter().max(), shapes(arguments).first()) {
        let measured = super::bench_cores::run(&bench, shape, &arguments.flows, workers, &allowed, effort)?;
        return arguments.json.as_deref().map_or(Ok(()), |path| write_json(path, &measured));
    }
    let other = allowed.iter().copied().find(|other| *other != core);
    let measured = super::bench_quiet::run(&bench, other, length, effort.repetitions)?;
    arguments.json.as_deref().map_or(Ok(()), |path| write_json(path, &measured))
}

fn measure(arguments: &Arguments) -> Result<(), BenchError> {
    if !arguments.on_nic.device.is_empty() {
        return on_nics(arguments);
    }
    if arguments.idle || !arguments.workers.is_empty() {
        return on_cores(arguments);
    }
    let old = arguments.compare.as_deref().map(report::read).transpose()?;
    let start = Instant::now();
    let runs = if arguments.from.is_empty() {
        let core = arguments.core.unwrap_or_else(last_core);
        let bench = Bench::start(core, arguments.hugepages)?;
        say(&machine(&bench, core));
        vec![cells(arguments, &bench)?]
    } else {
        let cells = |path: &PathBuf| Ok(wanted(arguments, report::read(path)?));
        arguments.from.iter().map(cells).collect::<Result<_, BenchError>>()?
    };
    let cells = document::merge(&runs);
    print(&cells);
    if let Some(path) = &arguments.report {
        write(path, &document::markdown(&runs))?;
    }
    if let Some(old) = old {
        let mut table = Table::new(report::COMPARISON_HEAD, &[1, 2, 3, 4, 5]);
        report::compare(&old, &cells).into_iter().for_each(|row| table.row(row));
        say(&format!("\n{}", table.text().trim_end()));
    }
    if let Some(path) = &arguments.json {
        write_json(path, &cells)?;
    }
    if let Some(path) = &arguments.svg {
        write(path, &plot::svg(&cells))?;
    }
    say(&format!("{} cells in {:.0} s", cells.len(), start.elapsed().as_secs_f64()));
    Ok(())
}

/// The same with the worker on NICs and the generator on the calling thread.
fn on_nics(arguments: &Arguments) -> Result<(), BenchError> {
    let Arguments { on_nic, flows, capacity, .. } = arguments;
    let core = arguments.core.unwrap_or_else(last_core);
    let bench = Bench::start_with(on_nic.generator_core(core)?, arguments.hugepages, on_nic.pci())?;
    say(&machine(&bench, core));
    let effort =
        Effort { repetitions: arguments.repetitions, length: Duration::from_secs_f64(arguments.seconds) };
    let cells = bench_device::cells(on_nic, &bench, core, &shapes(arguments), flows, *capacity, effort)?;
    bench_device::print(&cells);
    arguments.json.as_deref().map_or(Ok(()), |path| write_json(path, &cells))
}

fn write_json(path: &std::path::Path, value: &impl serde::Serialize) -> Result<(), BenchError> {
    let json = serde_json::to_string_pretty(value)
        .map_err(|error| BenchError::new(&format!("figures cannot be written as JSON ({error})")))?;
    write(path, &format!("{json}\n"))
}

fn write(path: &std::path::Path, text: &str) -> Result<(), BenchError> {
    std::fs::write(path, text).map_err(|error| {
        let path = path.display();
        BenchError::new(&format!(
            "{path}: cannot be written ({error}): name a file in a directory that is there"
        ))
    })
}

/// The cells of the methods, families and protocols that were asked for.
fn wanted(arguments: &Arguments, mut cells: Vec<Cell>) -> Vec<Cell> {
    let methods: Vec<_> = arguments.method.iter().map(|method| method.method().word()).collect();
    let families: Vec<_> =
        arguments.family.iter().map(|family| report::family_word(family.family())).collect();
    let protocols: Vec<_> =
        arguments.protocol.iter().map(|protocol| protocol.protocol().to_string()).collect();
    cells.retain(|cell| {
        cell.kind == "floor"
            || methods.contains(&&*cell.method)
                && families.contains(&&*cell.family)
                && protocols.contains(&cell.protocol)
    });
    cells
}

/// Every combination that was asked for.
fn cells(arguments: &Arguments, bench: &Bench) -> Result<Vec<Cell>, BenchError> {
    let effort =
        Effort { repetitions: arguments.repetitions, length: Duration::from_secs_f64(arguments.seconds) };
    let mut cells = Vec::new();
    for shape in shapes(arguments) {
        if arguments.floor {
            return bench::floors(bench, &shape, effort);
        }
        let floor = bench::floor(bench, &shape, effort)?;
        for &flows in &arguments.flows {
            let mut made = if arguments.new {
                vec![
                    fresh::beginnings(bench, &shape, flows.max(1000), effort)?,
                    flood::flood(bench, &shape, flows, effort)?,
                ]
            } else if arguments.reload {
                vec![reload::reload(bench, &shape, flows, effort)?]
            } else {
                let capacity = arguments
                    .capacity
                    .unwrap_or_else(|| bench::capacity_for(flows, shape.new_share))
                    .max(flows);
                let mut made = bench::forwarding(bench, &shape, flows, capacity, effort)?;
                if shape.services > 1 {
                    let took = bench::compile_time(&shape);
                    made.iter_mut().for_each(|cell| cell.compile_ms = Some((took * 10.0).round() / 10.0));
                    if let Some(cell) = made.first_mut() {
                        cell.against_one = Some(services::against_one(bench, &shape, flows, effort)?);
                    }
                }
                made
            };
            made.iter_mut().for_each(|cell| cell.floor_ns_per_packet = floor);
            for cell in &made {
                complain(&progress(cell));
            }
            cells.extend(made);
        }
    }
    Ok(cells)
}

/// Every combination of what was asked for but the flows.
fn shapes(arguments: &Arguments) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for method in &arguments.method {
        for family in &arguments.family {
            for protocol in &arguments.protocol {
                for &frame in &arguments.frame {
                    for &services in &arguments.services {
                        let shape = Shape {
                            method: method.method(),
                            family: family.family(),
                            protocol: protocol.protocol(),
                            frame,
                            services,
                            reals: arguments.reals,
                            scheduler: Scheduler::Rr,
                            new_share: 0,
                            burst: usize::from(arguments.burst),
                        };
                        shapes.extend(variants(arguments, shape));
                    }
                }
            }
        }
    }
    shapes
}

/// A shape with all schedulers and shares of new connections.
fn variants(arguments: &Arguments, shape: Shape) -> impl Iterator<Item = Shape> + '_ {
    arguments.scheduler.iter().flat_map(move |&scheduler| {
        let shares = arguments.new_share.iter();
        // A UDP connection has one timeout, so new ones would outlive the measurement.
        let shares = shares.filter(move |&&share| share == 0 || shape.protocol == Protocol::Tcp);
        shares.map(move |&new_share| Shape { scheduler, new_share, ..shape })
    })
}

/// One line while it runs.
fn progress(cell: &Cell) -> String {
    let Spread { min, median, max } = cell.ns_per_packet;
    let times =
        if median > 0.0 { format!("{min:.1} / {median:.1} / {max:.1} ns") } else { "done".to_owned() };
    format!(
        "{} {} {} {} {} {} flows {}: {times}",
        cell.name(),
        cell.method,
        cell.direction,
        cell.family,
        cell.protocol,
        cell.flows,
        cell.frame
    )
}

fn print(cells: &[Cell]) {
    let numbers: Vec<usize> = (5..report::HEAD.len()).collect();
    let mut table = Table::new(report::HEAD, &numbers);
    cells.iter().for_each(|cell| table.row(report::row(cell)));
    say(table.text().trim_end());
    cells.iter().flat_map(remarks).for_each(|line| {
        say(&line);
    });
}

/// What does not fit into the table's columns.
fn remarks(cell: &Cell) -> Vec<String> {
    let name = format!("{} {} {} {}", cell.method, cell.family, cell.protocol, cell.flows);
    let mut lines = Vec::new();
    if let Some(growth) = &cell.growth {
        let steps: Vec<_> = growth
            .steps
            .iter()
            .map(|step| format!("{} % {:.2}", step.percent, step.per_second / 1e6))
            .collect();
        lines.push(format!(
            "{name}: million new connections a second as the table fills: {}",
            steps.join(", ")
        ));
        lines.push(format!(
            "{name}: the tenth up to 90 % takes {:+.1} % of the median tenth's time more; a packet that finds the table full \
             takes {:.0} ns",
            growth.last_tenth_slower_percent, growth.refused_ns
        ));
    }
    if let Some(expiry) = &cell.expiry {
        lines.push(format!(
            "{name}: {:.2} M connections a second end; turns {}",
            expiry.per_second / 1e6,
            expiry.turn_ns.microseconds()
        ));
    }
    if let Some(steady) = &cell.steady {
        lines.push(format!(
            "{name}: both at once: {:.2} M made, {:.2} M ended, {:.2} M refused a second; turns {}",
            steady.made_per_second / 1e6,
            steady.expired_per_second / 1e6,
            steady.refused_per_second / 1e6,
            steady.turn_ns.microseconds()
        ));
    }
    if let Some(flood) = &cell.flood {
        lines.push(format!(
            "{name}: full table: an established packet {:.1} ns, one of the flood {:.1} ns, both together {:.1} ns: \
             {:+.0} % for the established one; {} of its connections lost",
            flood.alone_ns, flood.flood_only_ns, flood.with_flood_ns, flood.slower_percent, flood.lost
        ));
    }
    if let Some(many) = &cell.against_one {
        let Spread { min, median, max } = many.slower_percent;
        lines.push(format!(
            "{name}: {} services x {} against one: {:.1} ns to {:.1} ns, {min:+.1} / {median:+.1} / {max:+.1} %",
            cell.services, cell.reals, many.many_ns.median, many.one_ns.median
        ));
        if many.one_new_ns.median > 0.0 {
            let Spread { min, median, max } = many.new_slower_percent;
            lines.push(format!(
                "{name}: the same, one packet in ten begins a connection: {:.1} ns to {:.1} ns, \
                 {min:+.1} / {median:+.1} / {max:+.1} %",
                many.many_new_ns.median, many.one_new_ns.median
            ));
        }
    }
    if let Some(reload) = &cell.reload {
        let ms = |spread: Spread| format!("{:.2} / {:.2} / {:.2} ms", spread.min, spread.median, spread.max);
        lines.push(format!(
            "{name}: {} reloads of {} services x {}: parsed in {}, compiled in {}, acknowledged in {}; freed in {}",
            reload.reloads,
            cell.services,
            cell.reals,
            ms(reload.parse_ms),
            ms(reload.compile_ms),
            ms(reload.acknowledged_ms),
            ms(reload.free_ms)
        ));
        lines.push(format!(
            "{name}: meanwhile {} packets forwarded, {} dropped, {:.1} ns each with source and sink ({:.1} before); turns {}",
            reload.packets,
            reload.dropped,
            reload.reloading_ns,
            reload.quiet_ns,
            reload.turn_ns.microseconds()
        ));
    }
    if let Some(took) = cell.compile_ms {
        lines.push(format!(
            "{name}: {} services x {} compiled anew in {took:.1} ms",
            cell.services, cell.reals
        ));
    }
    lines
}

/// What the machine is, in a line or two.
fn machine(bench: &Bench, core: usize) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
    let transparent = read("/sys/kernel/mm/transparent_hugepage/enabled");
    let counters = std::path::Path::new("/sys/bus/event_source/devices/cpu").exists();
    format!(
        "{}, core {core}, counter {:.2} GHz; packets in {}; transparent hugepages {}; cache misses {}",
        model.trim_start_matches([' ', '\t', ':']),
        bench.clock.cycles_per_second() as f64 / 1e9,
        if bench.hugepages { "hugepages" } else { "ordinary pages" },
        transparent.split(['[', ']']).nth(1).unwrap_or("unknown"),
        if counters { "not read" } else { "not counted: this machine gives no counters" }
    )
}

/// The last CPU that this process may use.
fn last_core() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.and_then(|list| list.trim().rsplit([',', '-']).next()?.parse().ok()).unwrap_or(0)
}

//! A worker without traffic: what it uses of its core, how late the first packet after a pause is, and whether napping
//! costs rate. On the virtual NICs that need nothing but this machine, each in both ways of being idle.

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use dpdk_sys::{MbufBurst, Nic, RingFeed, RingNic, RingReceiver, RxQueue, TxQueue, thread};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};
use shunt_config::MTU_DEFAULT;
use shunt_config::device::Device;
use shunt_dataplane::address::Family;
use shunt_dataplane::id::{NicId, Protocol};
use shunt_dataplane::service::Method;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::worker::{Idle, NAP_MAX, NicQueues};

use super::loops::{Loops, TIMER_SLACK, wait_until};
use super::measure::Spread;
use super::rig::{Bench, fill};
use super::traffic::{Draw, FrameSize, Kind, Traffic};
use super::{BenchError, Shape};

/// Connections that packets are drawn from.
const FLOWS: u32 = 1000;
/// How long a packet may take before it counts as lost.
const LOST: Duration = Duration::from_millis(500);
/// The longest and the shortest pause before a packet; the longest nap is reached long before.
const PAUSE: [u64; 2] = [3_000, 8_000];
/// Bare naps that are timed.
const NAPS: u32 = 1000;
/// Packets after a pause for each second of measuring.
const PROBES_PER_SECOND: f64 = 200.0;

/// A virtual NIC that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pmd {
    /// Rings in memory.
    Ring,
    /// Two memif NICs joined by a socket.
    Memif,
    /// An end of a veth pair.
    AfPacket,
    /// A TAP interface.
    Tap,
}

impl Pmd {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ring, Self::Memif, Self::AfPacket, Self::Tap];
}

impl fmt::Display for Pmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring => "ring",
            Self::Memif => "memif",
            Self::AfPacket => "af_packet",
            Self::Tap => "tap",
        })
    }
}

/// A nap's cost on this machine, whatever naps: the floor under a worker whose NIC has nothing to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nap {
    /// How long it is asked to be.
    pub asked_us: f64,
    /// How long it is, on average.
    pub took_us: f64,
    /// Processor time that each takes.
    pub cpu_us: f64,
}

/// All that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quietness {
    /// A bare nap.
    pub nap: Nap,
    /// By kind of NIC.
    pub nics: Vec<Quiet>,
}

/// What was measured on one kind of NIC; "busy" is the same with a worker that polls always.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quiet {
    /// The kind.
    pub pmd: Pmd,
    /// The part of a core that a worker without traffic uses.
    pub core_used: f64,
    /// Naps in a second then.
    pub naps_per_second: f64,
    /// How long the first packet after a pause takes from the NIC's other end and back.
    pub first_packet: Wake,
    /// The same when busy: what the way itself takes.
    pub first_packet_busy: Wake,
    /// True when the worker sleeps until its NIC tells of a packet, false when it naps.
    pub told: bool,
    /// Packets a second when more come than the worker takes.
    pub rate: Spread,
    /// The same when busy.
    pub rate_busy: Spread,
}

/// Microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wake {
    /// How many packets.
    pub packets: u64,
    /// Half of them took no longer.
    pub p50_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Wake {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |part: f64| {
            let place = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
            times.get(place).map_or(0.0, |time| (time.as_nanos() as f64 / 100.0).round() / 10.0)
        };
        Self { packets: times.len() as u64, p50_us: at(0.5), p99_us: at(0.99), max_us: at(1.0) }
    }
}

/// The other end of a worker's NIC.
#[derive(Debug)]
enum Far {
    Rings(RingFeed, RingReceiver),
    Nic(RxQueue, TxQueue),
}

impl Far {
    fn send(&mut self, burst: &mut MbufBurst) -> usize {
        match self {
            Self::Rings(feed, _) => feed.send_burst(burst),
            Self::Nic(_, queue) => queue.burst(burst),
        }
    }

    fn receive(&mut self, burst: &mut MbufBurst) -> usize {
        match self {
            Self::Rings(_, drain) => drain.receive_burst(burst),
            Self::Nic(queue, _) => queue.burst(burst),
        }
    }
}

/// A worker on one kind of NIC, and what plays its surroundings.
struct Scene<'a> {
    bench: &'a Bench,
    traffic: Traffic,
    far: Far,
    loops: Loops,
    told: bool,
    _nics: Vec<Nic>,
}

/// Measures all kinds of NICs with a worker on `core`, which is not the calling thread's; `each` is told of each as it comes. What cannot be set up here says why.
///
/// # Errors
/// When there is no second core.
pub fn quiet(
    bench: &Bench,
    core: Option<usize>,
    length: Duration,
    repetitions: u32,
    mut each: impl FnMut(Pmd, &Result<Quiet, BenchError>),
) -> Result<Quietness, BenchError> {
    let core = core
        .ok_or_else(|| BenchError::new("one core only: the packets' source needs another than the worker"))?;
    // Interfaces that are made here are nobody else's and end with this process.
    let alone = unshare(CloneFlags::CLONE_NEWNET).is_ok();
    let mut measured = Vec::new();
    for pmd in Pmd::ALL {
        let result = if alone || matches!(pmd, Pmd::Ring | Pmd::Memif) {
            measure(bench, core, pmd, length, repetitions)
        } else {
            Err(BenchError::new("interfaces of the kernel need CAP_NET_ADMIN and CAP_SYS_ADMIN"))
        };
        each(pmd, &result);
        measured.extend(result);
    }
    Ok(Quietness { nap: bare_naps(), nics: measured })
}

/// Naps without anything else, as a worker takes them.
fn bare_naps() -> Nap {
    let _ = thread::set_timer_slack(TIMER_SLACK);
    let (start, ran) = (Instant::now(), thread::cpu_time());
    for _ in 0..NAPS {
        std::thread::sleep(NAP_MAX);
    }
    let each = |time: Duration| (time.as_nanos() as f64 / f64::from(NAPS) / 100.0).round() / 10.0;
    Nap {
        asked_us: NAP_MAX.as_micros() as f64,
        took_us: each(start.elapsed()),
        cpu_us: each(thread::cpu_time().saturating_sub(ran)),
    }
}

fn measure(
    bench: &Bench,
    core: usize,
    pmd: Pmd,
    length: Duration,
    repetitions: u32,
) -> Result<Quiet, BenchError> {
    let probes = (length.as_secs_f64() * f64::from(repetitions) * PROBES_PER_SECOND) as usize;
    let mut scene = Scene::new(bench, core, pmd, Idle::Adaptive)?;
    scene.open()?;
    let told = scene.told;
    let (core_used, naps_per_second) = scene.rest(length * repetitions);
    let first_packet = scene.first_packets(probes.max(20))?;
    let mut rate = Vec::new();
    for _ in 0..repetitions {
        rate.push(scene.rate(length));
    }
    drop(scene);
    let mut scene = Scene::new(bench, core, pmd, Idle::Busy)?;
    scene.open()?;
    let first_packet_busy = scene.first_packets(probes.max(20))?;
    let mut rate_busy = Vec::new();
    for _ in 0..repetitions {
        rate_busy.push(scene.rate(length));
    }
    let (rate, rate_busy) = (Spread::of(rate), Spread::of(rate_busy));
    Ok(Quiet { pmd, told, core_used, naps_per_second, first_packet, first_packet_busy, rate, rate_busy })
}

impl<'a> Scene<'a> {
    fn new(bench: &'a Bench, core: usize, pmd: Pmd, idle: Idle) -> Result<Self, BenchError> {
        let shape = Shape {
            method: Method::Dr,
            family: Family::V4,
            protocol: Protocol::Udp,
            frame: FrameSize::Bytes(64),
            services: 1,
            reals: 1,
            burst: 32,
            scheduler: Scheduler::Rr,
            new_share: 0,
        };
        let (queues, far, nics) = nic(bench, pmd)?;
        let told = queues.rx.descriptor().is_some();
        let loops = Loops::start(bench, &shape, FLOWS * 2, idle, vec![(core, queues)])?;
        let traffic = Traffic::new(shape.family, shape.protocol, shape.frame, 1, 1);
        Ok(Self { bench, traffic, far, loops, told, _nics: nics })
    }

    /// A burst of these flows towards the worker; says how many it takes.
    fn send(&mut self, kind: Kind, count: usize, mut next: impl FnMut() -> u32) -> usize {
        let mut burst = MbufBurst::new();
        if !fill(&self.bench.pool, &self.traffic, count, &mut 0, &mut burst, &mut || (kind, next())) {
            return 0;
        }
        self.far.send(&mut burst)
    }

    /// What came back to the real server since.
    fn receive(&mut self) -> usize {
        let mut burst = MbufBurst::new();
        self.far.receive(&mut burst);
        burst.drain().filter(|mbuf| mbuf.data().starts_with(&super::traffic::real_mac(0).0)).count()
    }

    /// Opens all connections. The first packets may get lost while a link comes up.
    fn open(&mut self) -> Result<(), BenchError> {
        let shared = self.loops.shared[0].clone();
        let opened = wait_until(Duration::from_secs(5), || {
            let mut flow = shared.connections()[0] as u32;
            self.send(Kind::Opening, 8, || {
                flow = (flow + 1) % FLOWS;
                flow
            });
            self.receive();
            shared.connections()[0] >= u64::from(FLOWS) - 1
        });
        if opened {
            Ok(())
        } else {
            let [v4, _] = shared.connections();
            Err(BenchError::new(&format!("{v4} of {FLOWS} connections opened: packets do not come through")))
        }
    }

    /// Nothing happens for a while: the part of a core that the worker uses, and its naps in a second.
    fn rest(&mut self, length: Duration) -> (f64, f64) {
        std::thread::sleep(Duration::from_millis(20));
        let naps = |loops: &Loops| loops.shared[0].counters.naps.get();
        let (start, ran, before) = (Instant::now(), self.loops.ran(0), naps(&self.loops));
        std::thread::sleep(length);
        let passed = start.elapsed().as_secs_f64();
        let used = self.loops.ran(0).saturating_sub(ran).as_secs_f64() / passed;
        let round = |value: f64, to: f64| (value * to).round() / to;
        (round(used, 1e4), round((naps(&self.loops) - before) as f64 / passed, 1.0))
    }

    /// One packet at a time, after a pause each.
    fn first_packets(&mut self, count: usize) -> Result<Wake, BenchError> {
        let (mut draw, mut times) = (Draw::new(FLOWS - 1, 11), Vec::new());
        let mut pause = Draw::new((PAUSE[1] - PAUSE[0]) as u32, 12);
        while self.receive() > 0 {}
        for _ in 0..count {
            std::thread::sleep(Duration::from_micros(PAUSE[0] + u64::from(pause.flow())));
            let start = Instant::now();
            self.send(Kind::Request, 1, || draw.flow());
            loop {
                if self.receive() > 0 {
                    break;
                }
                if start.elapsed() > LOST {
                    return Err(BenchError::new(&format!("a packet did not come back within {LOST:?}")));
                }
            }
            times.push(start.elapsed());
        }
        Ok(Wake::of(times))
    }

    /// More packets than the worker takes; how many it forwards in a second.
    fn rate(&mut self, length: Duration) -> f64 {
        let mut draw = Draw::new(FLOWS - 1, 13);
        let sent = |loops: &Loops| loops.shared[0].counters.sent.get();
        let mut first = None;
        let start = Instant::now();
        loop {
            self.send(Kind::Request, 32, || draw.flow());
            self.receive();
            let passed = start.elapsed();
            // The first part is for getting up.
            if first.is_none() && passed > length / 8 {
                first = Some((Instant::now(), sent(&self.loops)));
            }
            if passed > length {
                let (start, before) = first.unwrap_or((start, 0));
                let rate = (sent(&self.loops) - before) as f64 / start.elapsed().as_secs_f64();
                std::thread::sleep(Duration::from_millis(1));
                while self.receive() > 0 {}
                return rate.round();
            }
        }
    }
}

/// A NIC of some kind and its other end.
fn nic(bench: &Bench, pmd: Pmd) -> Result<(NicQueues, Far, Vec<Nic>), BenchError> {
    let near = |rx, tx| NicQueues { nic: NicId(0), rx, tx };
    let number = std::process::id() % 10_000;
    match pmd {
        Pmd::Ring => {
            let RingNic { nic, mut rx, mut tx, mut feeds, mut drains } = bench.nic()?;
            match (rx.pop(), tx.pop(), feeds.pop(), drains.pop()) {
                (Some(rx), Some(tx), Some(feed), Some(drain)) => {
                    Ok((near(rx, tx), Far::Rings(feed, drain), vec![nic]))
                }
                _ => Err(BenchError::new("a NIC of rings came without queues")),
            }
        }
        Pmd::Memif => {
            let socket = std::env::temp_dir().join(format!("shunt-bench-{number}.memif"));
            let device = format!("memif:{}", socket.display());
            let (server, rx, tx) = open(bench, &format!("{device},role=server"), 0)?;
            let (client, far_rx, far_tx) = open(bench, &format!("{device},role=client"), 1)?;
            let up = wait_until(Duration::from_secs(5), || server.link_up() && client.link_up());
            let _ = std::fs::remove_file(&socket);
            if !up {
                return Err(BenchError::new("the two memif NICs do not find each other"));
            }
            Ok((near(rx, tx), Far::Nic(far_rx, far_tx), vec![client, server]))
        }
        Pmd::AfPacket => {
            let (a, b) = (format!("sb{number}a"), format!("sb{number}b"));
            let _ = ip(&["link", "del", &a]);
            ip(&["link", "add", &a, "type", "veth", "peer", "name", &b])?;
            ip(&["link", "set", &a, "up"])?;
            ip(&["link", "set", &b, "up"])?;
            let (nic, rx, tx) = open(bench, &format!("af_packet:{a}"), 0)?;
            let (far, far_rx, far_tx) = open(bench, &format!("af_packet:{b}"), 1)?;
            Ok((near(rx, tx), Far::Nic(far_rx, far_tx), vec![nic, far]))
        }
        Pmd::Tap => {
            let name = format!("sb{number}t");
            let (nic, rx, tx) = open(bench, &format!("tap:{name}"), 0)?;
            ip(&["link", "set", &name, "up"])?;
            let (far, far_rx, far_tx) = open(bench, &format!("af_packet:{name}"), 1)?;
            Ok((near(rx, tx), Far::Nic(far_rx, far_tx), vec![far, nic]))
        }
    }
}

fn open(bench: &Bench, device: &str, number: usize) -> Result<(Nic, RxQueue, TxQueue), BenchError> {
    let device = Device::parse(device).map_err(|_| BenchError::new(&format!("{device}: no such device")))?;
    bench.open(&device, number, MTU_DEFAULT)
}

/// Runs `ip` of iproute2.
fn ip(words: &[&str]) -> Result<(), BenchError> {
    let output = Command::new("ip").args(words).output().map_err(|error| {
        BenchError::new(&format!("ip cannot be run ({error}): install the package iproute2"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(BenchError::new(&format!("ip {}: {}", words.join(" "), said.trim())))
}

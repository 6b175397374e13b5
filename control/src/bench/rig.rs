//! What a measurement runs: the director's own worker, tables and snapshot around a NIC made of rings, with a source
//! and a sink at its far end, all on one thread.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use dpdk_sys::packet_socket::{LARGE_PER_QUEUE, LARGE_ROOM};
use dpdk_sys::{
    Clock, Eal, EalSettings, FreeHugepages, MbufBurst, Memory, Mempool, Nic, NicSettings, RingFeed, RingNic,
    RingReceiver, RxQueue, TxQueue, mempool, ring,
};
use ipnet::IpNet;
use shunt_config::check::pci;
use shunt_config::device::Device;
use shunt_dataplane::address::Family;
use shunt_dataplane::connections::TcpState;
use shunt_dataplane::flow::{HashKey, Owners};
use shunt_dataplane::forward::{Capacity, Forwarder};
use shunt_dataplane::id::{NicId, WorkerId};
use shunt_dataplane::reason::{DropReason, PuntReason, ReplyKind};
use shunt_dataplane::reverse_path::ReversePath;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::service::{Settings, Thresholds};
use shunt_dataplane::snapshot::{
    NeighbourPlan, NicPlan, Plan, RealPlan, Registry, RoutePlan, ServicePlan, Snapshot,
};
use shunt_dataplane::time::{TICKS_PER_SECOND, Ticks};
use shunt_dataplane::worker::{
    Idle, NicQueues, PacketEnds, Peer, QuestionEnds, Shared, Worker, WorkerParts, rings,
};

use super::traffic::{self, Kind, Traffic};
use super::{BenchError, Shape};

/// Mbufs of a run.
const MBUFS: u32 = 16_383;
/// Mbufs that the thread keeps at hand.
const MBUF_CACHE: u32 = 256;
/// Packets that a ring holds.
const RING_CAPACITY: u32 = 1024;
/// What DPDK gets in ordinary memory, in MiB.
const MEBIBYTES: usize = 160;
/// The MTU of the NIC: room for tunnels around the largest frame.
pub const MTU: u16 = 1600;
/// How long brief openings live.
const BRIEF: Ticks = Ticks(TICKS_PER_SECOND / 20);

/// DPDK, started for measuring, on the calling thread.
#[derive(Debug)]
pub struct Bench {
    /// Where packets live.
    pub pool: Mempool,
    /// Time.
    pub clock: Clock,
    /// True when packets are in hugepages.
    pub hugepages: bool,
    /// The key by which flows are hashed: random, as in a director.
    pub key: HashKey,
    /// The CPU of the measuring thread.
    pub core: usize,
    pub(super) eal: Eal,
}

impl Bench {
    /// Starts DPDK with the calling thread on `core`.
    ///
    /// # Errors
    /// DPDK's.
    pub fn start(core: usize, allow_hugepages: bool) -> Result<Self, BenchError> {
        Self::start_with(core, allow_hugepages, Vec::new())
    }

    /// The same with NICs at these PCI addresses.
    ///
    /// # Errors
    /// DPDK's.
    pub fn start_with(core: usize, allow_hugepages: bool, pci: Vec<String>) -> Result<Self, BenchError> {
        let hugepages = allow_hugepages && FreeHugepages::read().bytes() >> 20 > MEBIBYTES as u64;
        let memory = if hugepages { Memory::Hugepages } else { Memory::Ordinary { mebibytes: MEBIBYTES } };
        let prefix = format!("shunt-bench-{}", std::process::id());
        let ordinary = EalSettings::ordinary(&prefix, core, MEBIBYTES);
        let physical = |function: &String| {
            let address = function.split(',').next().unwrap_or_default();
            pci::wants_physical_addresses(Path::new(pci::SYSFS), address)
        };
        let physical_addresses = pci.iter().any(physical);
        let settings = EalSettings { memory, allow_pci: pci, physical_addresses, ..ordinary };
        let eal = Eal::start(&settings).map_err(BenchError::of)?;
        let pool = Mempool::new(&eal, "bench", MBUFS, MBUF_CACHE, mempool::DATA_ROOM, None)
            .map_err(BenchError::of)?;
        Ok(Self { pool, clock: Clock::new(&eal), hugepages, key: HashKey::random(), core, eal })
    }

    /// The one worker owns all clients.
    #[must_use]
    pub const fn owners(&self) -> Owners {
        Owners { workers: 1, netmask_v4: 32, netmask_v6: 128, key: self.key }
    }

    /// The environment.
    #[must_use]
    pub const fn eal(&self) -> &Eal {
        &self.eal
    }

    /// A ring from a source to a sink, as those of [`Self::nic`].
    ///
    /// # Errors
    /// DPDK's.
    pub fn pipe(&self) -> Result<(RingFeed, RingReceiver), BenchError> {
        ring::single_sender_ring(&self.eal, "pipe", RING_CAPACITY, None).map_err(BenchError::of)
    }

    /// The NIC of a device, one queue each way, as a director opens it. `index` counts the devices.
    ///
    /// # Errors
    /// DPDK's.
    pub fn open(
        &self,
        device: &Device,
        index: usize,
        mtu: u16,
    ) -> Result<(Nic, RxQueue, TxQueue), BenchError> {
        let of = |error: &dyn Display| BenchError::new(&format!("{device}: {error}"));
        let found = self.eal.probe(&device.devargs(index, 1)).map_err(|error| of(&error))?;
        let large =
            || Mempool::new(&self.eal, &format!("large{index}"), LARGE_PER_QUEUE - 1, 0, LARGE_ROOM, None);
        let offloads = device.takes_offloads().then(large).transpose().map_err(|error| of(&error))?;
        let settings = NicSettings { mtu, offloads, ..NicSettings::new(self.pool.clone()) };
        let (nic, mut rx, mut tx) = Nic::open(found, &settings).map_err(|error| of(&error))?;
        match (rx.pop(), tx.pop()) {
            (Some(rx), Some(tx)) => Ok((nic, rx, tx)),
            _ => Err(of(&"it came without queues")),
        }
    }

    /// A NIC made of rings, one queue each way.
    ///
    /// # Errors
    /// DPDK's.
    pub fn nic(&self) -> Result<RingNic, BenchError> {
        RingNic::open(&self.eal, "bench", 1, RING_CAPACITY, &self.pool).map_err(BenchError::of)
    }
}

/// How long connections live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// As in a director with the kernel's timeouts.
    Usual,
    /// All alike.
    Short(Ticks),
    /// TCP connections that nobody goes on with end after 50 ms, those that are open live as usual.
    BriefOpenings,
}

/// A worker with its tables, its NIC, and the source's and sink's ends of that.
#[derive(Debug)]
pub struct Rig {
    /// The packets.
    pub traffic: Traffic,
    /// What the worker counts.
    pub shared: Arc<Shared>,
    /// How many connections the table may hold.
    pub capacity: u32,
    pool: Mempool,
    worker: Worker,
    /// As the worker's own loop reads it.
    snapshots: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    /// None when snapshots come from elsewhere.
    registry: Option<Registry>,
    feed: RingFeed,
    drain: RingReceiver,
    burst: usize,
    /// The next flow that was never open, when some of the traffic begins connections.
    pub fresh: u32,
    /// Of the next frame.
    size: usize,
    _nic: Nic,
    _ends: (PacketEnds, QuestionEnds),
}

impl Rig {
    /// Builds a rig for one shape of traffic; the table has room for `capacity` connections.
    ///
    /// # Errors
    /// DPDK's.
    pub fn new(bench: &Bench, shape: &Shape, capacity: u32, lifetime: Lifetime) -> Result<Self, BenchError> {
        let mut registry = Registry::new(bench.owners());
        let snapshots = Arc::new(ArcSwap::from_pointee(registry.compile(&plan(shape, lifetime))));
        let mut rig = Self::following(bench, shape, capacity, snapshots, Arc::default())?;
        rig.registry = Some(registry);
        Ok(rig)
    }

    /// The same with snapshots that somebody else publishes, for [`Bench::owners`].
    ///
    /// # Errors
    /// DPDK's.
    pub fn following(
        bench: &Bench,
        shape: &Shape,
        capacity: u32,
        snapshots: Arc<ArcSwap<Snapshot>>,
        shared: Arc<Shared>,
    ) -> Result<Self, BenchError> {
        let RingNic { nic, mut rx, mut tx, mut feeds, mut drains } = bench.nic()?;
        let (Some(rx), Some(tx), Some(feed), Some(drain)) = (rx.pop(), tx.pop(), feeds.pop(), drains.pop())
        else {
            return Err(BenchError::new("a NIC of rings came without queues"));
        };
        let nics = vec![NicQueues { nic: NicId(0), rx, tx }];
        let (worker, ends) = worker(bench, shape.family, capacity, snapshots.clone(), shared.clone(), nics)?;
        let mut traffic =
            Traffic::new(shape.family, shape.protocol, shape.frame, shape.services, shape.reals);
        traffic.by_source = shape.scheduler == Scheduler::Sh;
        Ok(Self {
            traffic,
            shared,
            capacity,
            pool: bench.pool.clone(),
            worker,
            snapshots: Cache::new(snapshots),
            registry: None,
            feed,
            drain,
            burst: shape.burst,
            fresh: 0,
            size: 0,
            _nic: nic,
            _ends: ends,
        })
    }

    /// Lets the worker run another plan from its next turn on; nothing changes when somebody else publishes.
    pub fn reconfigure(&mut self, plan: &Plan) {
        if let Some(registry) = &mut self.registry {
            self.snapshots.arc_swap().store(Arc::new(registry.compile(plan)));
        }
    }

    /// Packets in a burst.
    #[must_use]
    pub const fn burst(&self) -> usize {
        self.burst
    }

    /// The shape of the next frame.
    #[must_use]
    pub const fn next_size(&self) -> usize {
        self.size
    }

    /// What became of packets that were not sent, by the worker's counters.
    #[must_use]
    pub fn fates(&self) -> String {
        let counters = &self.shared.counters;
        let mut fates = Vec::new();
        for reason in DropReason::ALL {
            fates.push((reason.word(), counters.dropped.at(*reason as usize).get()));
        }
        for reason in PuntReason::ALL {
            fates.push((reason.word(), counters.punted.at(*reason as usize).get()));
        }
        for kind in ReplyKind::ALL {
            fates.push((kind.word(), counters.replies.at(*kind as usize).get()));
        }
        let some: Vec<_> = fates.into_iter().filter(|(_, count)| *count > 0).collect();
        let words: Vec<_> = some.iter().map(|(word, count)| format!("{count} {word}")).collect();
        format!("{} received, {} sent, {}", counters.received.get(), counters.sent.get(), words.join(", "))
    }

    /// Packets that the worker dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.shared.counters.dropped.at(reason as usize).get()
    }

    /// Connections in the table.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections().iter().sum()
    }

    /// Makes a burst of frames of the flows that `next` names and gives it to the worker's NIC. Says how many.
    #[inline]
    pub fn feed(&mut self, next: impl FnMut() -> (Kind, u32)) -> usize {
        self.feed_some(self.burst, next)
    }

    /// The same with another number of frames than a burst has, at most 64.
    #[inline]
    pub fn feed_some(&mut self, count: usize, mut next: impl FnMut() -> (Kind, u32)) -> usize {
        let mut burst = MbufBurst::new();
        if !fill(&self.pool, &self.traffic, count, &mut self.size, &mut burst, &mut next) {
            return 0;
        }
        self.feed.send_burst(&mut burst)
    }

    /// One turn of the worker.
    #[inline]
    pub fn turn(&mut self) {
        self.worker.turn(self.snapshots.load());
    }

    /// Takes what the worker sent and shows it.
    #[inline]
    pub fn drain(&mut self, mut look: impl FnMut(&MbufBurst)) -> usize {
        let mut burst = MbufBurst::new();
        self.drain.receive_burst(&mut burst);
        look(&burst);
        burst.clear()
    }

    /// A burst through source, worker and sink; says how many packets came out.
    #[inline]
    pub fn round(&mut self, next: impl FnMut() -> (Kind, u32)) -> usize {
        self.feed(next);
        self.turn();
        self.drain(|_| ())
    }
}

/// The control core's ends of a worker.
pub(super) type WorkerEnds = (PacketEnds, QuestionEnds);

/// A worker that always polls, with room for so many connections of a family.
///
/// # Errors
/// DPDK's.
pub(super) fn worker(
    bench: &Bench,
    family: Family,
    capacity: u32,
    snapshots: Arc<ArcSwap<Snapshot>>,
    shared: Arc<Shared>,
    nics: Vec<NicQueues>,
) -> Result<(Worker, WorkerEnds), BenchError> {
    let (hand_over, taken_over) =
        ring::mbuf_ring(&bench.eal, "hand over", RING_CAPACITY, None).map_err(BenchError::of)?;
    let (ends, packets, questions, _) = rings();
    let capacities = match family {
        Family::V4 => Capacity { v4: capacity, v6: 1 },
        Family::V6 => Capacity { v4: 1, v6: capacity },
    };
    let worker = Worker::new(WorkerParts {
        id: WorkerId(0),
        forwarder: Forwarder::new(WorkerId(0), capacities, bench.key, shared.counters.clone()),
        nics,
        taken_over,
        hand_over: vec![Peer { ring: hand_over, shared: shared.clone() }],
        ends,
        snapshots,
        shared,
        idle: Idle::Busy,
        clock: bench.clock,
    });
    Ok((worker, (packets, questions)))
}

/// A burst of frames; false when the pool is empty.
#[inline]
pub fn fill(
    pool: &Mempool,
    traffic: &Traffic,
    count: usize,
    size: &mut usize,
    burst: &mut MbufBurst,
    next: &mut impl FnMut() -> (Kind, u32),
) -> bool {
    if !pool.alloc_burst(count, burst) {
        return false;
    }
    for mbuf in burst.iter_mut() {
        let (kind, flow) = next();
        traffic.write(kind, *size, flow, mbuf);
        *size += 1;
        if *size == traffic.sizes() {
            *size = 0;
        }
    }
    true
}

/// The name of a service.
#[must_use]
pub fn service_name(number: u32) -> String {
    format!("service-{number}")
}

/// What holds in a measured director.
#[must_use]
pub fn plan(shape: &Shape, lifetime: Lifetime) -> Plan {
    let family = shape.family;
    let nic = NicId(0);
    let bits = if family == Family::V4 { 24 } else { 64 };
    let reals: Vec<RealPlan> = (0..shape.reals)
        .map(|number| RealPlan {
            address: SocketAddr::new(traffic::real(family, number), traffic::real_port(shape.method)),
            method: shape.method,
            tunnel: Default::default(),
            weight: 1,
            thresholds: Thresholds::default(),
            up: true,
        })
        .collect();
    let neighbour = |address: IpAddr, mac| NeighbourPlan { nic, address, mac };
    let mut neighbours: Vec<_> = (0..shape.reals)
        .map(|number| neighbour(traffic::real(family, number), traffic::real_mac(number)))
        .collect();
    neighbours.push(neighbour(traffic::router(family), traffic::ROUTER_MAC));
    let services = (0..shape.services)
        .map(|number| ServicePlan {
            name: service_name(number),
            listen: SocketAddr::new(traffic::vip(family, number), traffic::SERVICE_PORT),
            protocol: shape.protocol,
            scheduler: shape.scheduler,
            settings: Settings::default(),
            reals: reals.clone(),
        })
        .collect();
    let (clients, length) = traffic::clients(family);
    let mut plan = Plan {
        nics: vec![NicPlan {
            name: "ring".to_owned(),
            mac: traffic::DIRECTOR_MAC,
            mtu: MTU,
            up: true,
            edition: 0,
            virtual_macs: Vec::new(),
            addresses: IpNet::new(traffic::own(family), bits).into_iter().collect(),
            reverse_path: ReversePath::default(),
        }],
        routes: IpNet::new(clients, length)
            .map(|to| RoutePlan { to, via: Some(traffic::router(family)), nic })
            .into_iter()
            .collect(),
        vips: (0..shape.services).map(|number| traffic::vip(family, number)).collect(),
        neighbours,
        services,
        ..Plan::default()
    };
    plan.replies_per_second = 1000;
    match lifetime {
        Lifetime::Usual => {}
        Lifetime::Short(ticks) => {
            plan.timeouts.tcp.fill(ticks);
            plan.timeouts.udp = ticks;
        }
        Lifetime::BriefOpenings => plan.timeouts.tcp[TcpState::SynRecv as usize] = BRIEF,
    }
    plan
}

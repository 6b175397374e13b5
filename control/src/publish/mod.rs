//! Generations out, acknowledgements back.
//!
//! The publisher holds what makes a snapshot: identifiers, the state of the world, the plan that was compiled last. It alone
//! frees snapshots: an old one is kept until every worker runs a later one.

pub mod compile;
pub mod quorum;
pub mod schedule;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use shunt_config::Config;
use shunt_dataplane::flow::Owners;
use shunt_dataplane::id::{Generation, Mac, NicId, WorkerId};
use shunt_dataplane::snapshot::{Others, Plan, Registry, Snapshot};
use shunt_dataplane::worker::Shared;
use shunt_protocol::neighbour::Change as NeighbourChange;

use crate::publish::compile::{NicState, State, compile};
use crate::publish::quorum::QuorumChange;

/// How long workers may take to run a new generation before it is called late. A turn takes microseconds; a worker that
/// shares its CPU may wait for a few time slices.
pub const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(5);
/// How often acknowledgements are looked for.
const ACKNOWLEDGE_POLL: Duration = Duration::from_micros(200);

/// Makes snapshots and hands them to the workers.
#[derive(Debug)]
pub struct Publisher {
    registry: Registry,
    state: State,
    plan: Plan,
    snapshots: Arc<ArcSwap<Snapshot>>,
    workers: Vec<Arc<Shared>>,
    /// Published before the current one and perhaps still read.
    old: VecDeque<Arc<Snapshot>>,
    /// What the last publication made of quorums.
    quorums: Vec<QuorumChange>,
    /// Until when connections to VIPs that were taken over are adopted.
    adopting: HashMap<(NicId, IpAddr), Instant>,
    /// Until when nobody is told of such connections that they are not known.
    silent: HashMap<(NicId, IpAddr), Instant>,
    /// Until when both hold for what no virtual router has.
    start: Deadlines,
}

/// Until when something holds.
#[derive(Clone, Copy, Debug)]
struct Deadlines {
    adopts: Instant,
    silent: Instant,
}

impl Deadlines {
    fn at(self, now: Instant) -> Others {
        Others { adopting: now < self.adopts, silent: now < self.silent }
    }
}

impl Publisher {
    /// Compiles the first generation. `macs` are those of the NICs, `workers` what the publisher shares with each worker.
    #[must_use]
    pub fn new(owners: Owners, macs: Vec<Mac>, workers: Vec<Arc<Shared>>, config: &Config) -> Self {
        let mut registry = Registry::new(owners);
        let (now, runtime) = (Instant::now(), &config.runtime);
        let start = Deadlines { adopts: now + runtime.adopt, silent: now + runtime.reset_after };
        let mut state = State { macs, others: start.at(now), ..State::default() };
        state.follow(None, config);
        let quorums = state.weigh_quorums(config);
        let plan = compile(config, &state);
        let snapshots = Arc::new(ArcSwap::from_pointee(registry.compile(&plan)));
        let (adopting, silent) = (HashMap::new(), HashMap::new());
        let old = VecDeque::new();
        Self { registry, state, plan, snapshots, workers, old, quorums, adopting, silent, start }
    }

    /// Where workers read the current snapshot.
    #[must_use]
    pub const fn snapshots(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.snapshots
    }

    /// Services that gained or lost their quorum with the last publication.
    #[must_use]
    pub fn quorums(&self) -> &[QuorumChange] {
        &self.quorums
    }

    /// What snapshots are compiled from beside the configuration.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Takes note of what health checks say; it counts from the next publication on.
    pub fn set_health(&mut self, change: &shunt_protocol::health::Change) {
        self.state.hear(change);
    }

    /// Takes note of the VIPs of virtual routers that belong to this director; it counts from the next publication on. Those that
    /// are new have their connections adopted for as long as the configuration says.
    pub fn set_owned(&mut self, now: Instant, owned: HashSet<(NicId, IpAddr)>, config: &Config) {
        for vrrp in &config.vrrp {
            for vip in vrrp.vips() {
                if owned.contains(&vip) && !self.state.owned.contains(&vip) {
                    self.adopting.insert(vip, now + vrrp.adopt);
                    self.silent.insert(vip, now + config.runtime.reset_after);
                }
            }
        }
        self.state.owned = owned;
        self.adopts_no_more(now);
    }

    /// Forgets what was taken over, or begun, so long ago that nothing holds for it any more; tells whether there was any.
    pub fn adopts_no_more(&mut self, now: Instant) -> bool {
        let owned = &self.state.owned;
        let mut changed = false;
        for (known, shown) in
            [(&mut self.adopting, &mut self.state.adopting), (&mut self.silent, &mut self.state.silent)]
        {
            known.retain(|vip, until| owned.contains(vip) && *until > now);
            changed |= known.len() != shown.len();
            *shown = known.keys().copied().collect();
        }
        let others = self.start.at(now);
        changed || std::mem::replace(&mut self.state.others, others) != others
    }

    /// Takes note of what holds for NICs; it counts from the next publication on.
    pub fn set_nics(&mut self, nics: Vec<NicState>) {
        self.state.nics = nics;
    }

    /// Takes note of a neighbour; it counts from the next publication on.
    pub fn set_neighbour(&mut self, change: &NeighbourChange) {
        let NeighbourChange { nic, address, mac } = *change;
        let neighbours = Arc::make_mut(&mut self.state.neighbours);
        match mac {
            Some(mac) => drop(neighbours.insert((nic, address), mac)),
            None => drop(neighbours.remove(&(nic, address))),
        }
    }

    /// Follows a new configuration; see [`State::follow`].
    pub fn follow(&mut self, before: &Config, config: &Config) {
        self.state.follow(Some(before), config);
    }

    /// Publishes what holds now; none when workers would read the same as before.
    pub fn publish(&mut self, config: &Config) -> Option<Generation> {
        self.retire();
        self.adopts_no_more(Instant::now());
        self.quorums = self.state.weigh_quorums(config);
        let plan = compile(config, &self.state);
        if plan == self.plan {
            return None;
        }
        let snapshot = Arc::new(self.registry.compile(&plan));
        let generation = snapshot.generation;
        self.plan = plan;
        self.old.push_back(self.snapshots.swap(snapshot));
        self.workers.iter().for_each(|worker| worker.wake());
        Some(generation)
    }

    /// Frees snapshots that no worker reads any more.
    pub fn retire(&mut self) {
        let acknowledged = self.acknowledged();
        self.registry.acknowledge(acknowledged);
        while self.old.front().is_some_and(|old| old.generation < acknowledged) {
            self.old.pop_front();
        }
    }

    /// The generation that every worker runs, or a later one.
    #[must_use]
    pub fn acknowledged(&self) -> Generation {
        let acknowledged = self.workers.iter().map(|worker| worker.acknowledged()).min();
        // Without a worker nobody runs an older one.
        acknowledged.unwrap_or_else(|| self.snapshots.load().generation)
    }

    /// Waits until every worker runs `generation`; `beat` is called again and again meanwhile.
    ///
    /// # Errors
    /// The workers that do not run it after [`ACKNOWLEDGE_MAX`].
    pub fn wait(&mut self, generation: Generation, beat: impl Fn()) -> Result<Duration, Vec<WorkerId>> {
        let begin = Instant::now();
        loop {
            if self.acknowledged() >= generation {
                self.retire();
                return Ok(begin.elapsed());
            }
            if begin.elapsed() > ACKNOWLEDGE_MAX {
                let late = (0..=u8::MAX).zip(&self.workers);
                return Err(late
                    .filter(|(_, worker)| worker.acknowledged() < generation)
                    .map(|(number, _)| WorkerId(number))
                    .collect());
            }
            beat();
            std::thread::sleep(ACKNOWLEDGE_POLL);
        }
    }
}

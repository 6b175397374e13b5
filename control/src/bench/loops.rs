//! Workers on threads of their own, as in a director: each has a NIC, a core and the rings to the others.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dpdk_sys::{RingSender, ring, thread};
use shunt_dataplane::address::Family;
use shunt_dataplane::flow::{HashKey, Owners};
use shunt_dataplane::forward::{Capacity, Forwarder};
use shunt_dataplane::id::WorkerId;
use shunt_dataplane::snapshot::Registry;
use shunt_dataplane::worker::{
    Idle, NicQueues, PacketEnds, Peer, QuestionEnds, Shared, Worker, WorkerParts, rings,
};

use super::rig::{Bench, Lifetime, plan};
use super::{BenchError, Shape};

/// Packets on their way from one worker to another, as in a director.
pub const HAND_OVER_RING: u32 = 1024;
/// What a nap may take longer than asked for, in nanoseconds, as in a director.
pub const TIMER_SLACK: u32 = 10_000;

/// Workers that run until they are dropped.
#[derive(Debug)]
pub struct Loops {
    /// Who owns which client.
    pub owners: Owners,
    /// What each counts.
    pub shared: Vec<Arc<Shared>>,
    /// What the kernel says of their threads.
    tasks: Vec<PathBuf>,
    threads: Vec<JoinHandle<()>>,
    _ends: Vec<(PacketEnds, QuestionEnds)>,
}

impl Loops {
    /// Starts a worker for each of `queues`, on these cores, with a table for `capacity` connections each.
    ///
    /// # Errors
    /// DPDK's; a core that this process may not use.
    pub fn start(
        bench: &Bench,
        shape: &Shape,
        capacity: u32,
        idle: Idle,
        workers: Vec<(usize, NicQueues)>,
    ) -> Result<Self, BenchError> {
        let key = HashKey::random();
        let owners = Owners { workers: workers.len() as u8, netmask_v4: 32, netmask_v6: 128, key };
        let snapshot = Arc::new(Registry::new(owners).compile(&plan(shape, Lifetime::Usual)));
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for worker in 0..workers.len() {
            let name = format!("to worker {worker}");
            let (sender, receiver) =
                ring::mbuf_ring(bench.eal(), &name, HAND_OVER_RING, None).map_err(BenchError::of)?;
            senders.push(sender);
            receivers.push(receiver);
        }
        let capacities = match shape.family {
            Family::V4 => Capacity { v4: capacity, v6: 1 },
            Family::V6 => Capacity { v4: 1, v6: capacity },
        };
        let shared = workers.iter().map(|_| Arc::new(Shared::default())).collect();
        let mut loops = Self { owners, shared, tasks: Vec::new(), threads: Vec::new(), _ends: Vec::new() };
        for (number, ((core, queues), taken_over)) in workers.into_iter().zip(receivers).enumerate() {
            let id = WorkerId(number as u8);
            let (ends, packets, questions, _) = rings();
            let shared = loops.shared[number].clone();
            let parts = WorkerParts {
                id,
                forwarder: Forwarder::new(id, capacities, key, shared.counters.clone()),
                nics: vec![queues],
                taken_over,
                hand_over: peers(&senders, &loops.shared),
                ends,
                snapshots: Arc::new(ArcSwap::new(snapshot.clone())),
                shared,
                idle,
                clock: bench.clock,
            };
            loops._ends.push((packets, questions));
            let (thread, task) = spawn(bench, core, move || Worker::new(parts).run())?;
            loops.threads.push(thread);
            loops.tasks.push(task);
        }
        Ok(loops)
    }

    /// How long a worker's thread has run on a core so far.
    #[must_use]
    pub fn ran(&self, worker: usize) -> Duration {
        ran(&self.tasks[worker])
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        self.shared.iter().for_each(|shared| shared.stop());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// All workers, as each sees them.
fn peers(senders: &[RingSender], shared: &[Arc<Shared>]) -> Vec<Peer> {
    let peer =
        |(ring, shared): (&RingSender, &Arc<Shared>)| Peer { ring: ring.clone(), shared: shared.clone() };
    senders.iter().zip(shared).map(peer).collect()
}

/// How long a thread has run, by the kernel's scheduler; zero when it is not there.
fn ran(task: &std::path::Path) -> Duration {
    let text = std::fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0))
}

/// Runs `work` on a thread that is bound to a core and known to DPDK. Gives the thread and what `/proc` has of it.
///
/// # Errors
/// A core that this process may not use.
pub fn spawn(
    bench: &Bench,
    core: usize,
    work: impl FnOnce() + Send + 'static,
) -> Result<(JoinHandle<()>, PathBuf), BenchError> {
    let eal = bench.eal().clone();
    let (report, reported) = channel();
    let thread = std::thread::Builder::new()
        .name(format!("loop/{core}"))
        .spawn(move || {
            let ready = thread::bind(core)
                .map_err(BenchError::of)
                .and_then(|()| eal.register_thread().map_err(BenchError::of));
            let _registered = match ready {
                Ok(registered) => registered,
                Err(error) => return tell(&report, Err(error)),
            };
            let _ = thread::set_timer_slack(TIMER_SLACK);
            let task = std::fs::read_link("/proc/thread-self").unwrap_or_default();
            tell(&report, Ok(PathBuf::from("/proc").join(task)));
            work();
        })
        .map_err(BenchError::of)?;
    let task = reported.recv().map_err(BenchError::of)??;
    Ok((thread, task))
}

fn tell(report: &Sender<Result<PathBuf, BenchError>>, what: Result<PathBuf, BenchError>) {
    let _ = report.send(what);
}

/// Does some work on the calling thread, bound to a core and known to DPDK meanwhile.
///
/// # Errors
/// A core that this process may not use; those of the work.
pub fn on_core<T>(
    bench: &Bench,
    core: usize,
    work: impl FnOnce() -> Result<T, BenchError>,
) -> Result<T, BenchError> {
    thread::bind(core).map_err(BenchError::of)?;
    let _registered = bench.eal().register_thread().map_err(BenchError::of)?;
    work()
}

/// Waits until `done`; false when that takes longer than `patience`.
pub fn wait_until(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// The cores that this process may use. Asked for before DPDK binds the thread to one of them.
#[must_use]
pub fn allowed_cores() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let ranges = list.unwrap_or_default().trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// One of them that is not `other`.
#[must_use]
pub fn another_core(other: usize) -> Option<usize> {
    allowed_cores().into_iter().find(|core| *core != other)
}

//! Worker threads: one for each core of `runtime.workers`, with queue n of every NIC.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use dpdk_sys::{Clock, RingSender, ring, thread};
use shunt_config::{Config, Idle};
use shunt_dataplane::flow::HashKey;
use shunt_dataplane::forward::{Capacity, Forwarder};
use shunt_dataplane::id::{NicId, WorkerId};
use shunt_dataplane::snapshot::Snapshot;
use shunt_dataplane::worker::{
    NicEnds, NicQueues, PacketEnds, Peer, QuestionEnds, Shared, Worker, WorkerParts, rings,
};

use super::StartError;
use super::nics::Ports;
use crate::signals;
use crate::threads::{Duty, Pulse};

/// Packets on their way from one worker to another.
pub const HAND_OVER_RING_MAX: u32 = 1024;
/// The niceness of workers that sleep when they have nothing to do, and of their session: packets, and the adverts among them,
/// do not wait for other programs' work.
const NICENESS: i8 = -10;
/// How often the end is thought of while a worker makes its tables.
const START_LOOK: Duration = Duration::from_millis(100);
/// What a nap may take longer than asked for, in nanoseconds.
const TIMER_SLACK: u32 = 10_000;

/// Workers that run.
#[derive(Debug)]
pub struct Workers {
    /// The clock of all of them.
    pub clock: Clock,
    /// What control shares with each.
    pub shared: Vec<Arc<Shared>>,
    /// Packets to and from each.
    pub packets: Vec<PacketEnds>,
    /// Questions to each.
    pub questions: Vec<QuestionEnds>,
    /// NICs to close and to open, for each.
    pub nics: Vec<NicEnds>,
    threads: Vec<JoinHandle<()>>,
}

/// What control shares with each worker of a configuration.
#[must_use]
pub fn shared(config: &Config) -> Vec<Arc<Shared>> {
    config.runtime.workers.iter().map(|_| Arc::new(Shared::default())).collect()
}

/// Starts the workers; each takes its queues out of `ports`.
///
/// # Errors
/// When a ring cannot be made or a thread not be bound to its core.
pub fn start(
    config: &Config,
    ports: &mut Ports,
    snapshots: &Arc<ArcSwap<Snapshot>>,
    shared: Vec<Arc<Shared>>,
    key: HashKey,
) -> Result<Workers, StartError> {
    let clock = Clock::new(&ports.eal);
    let mut senders = Vec::new();
    let mut receivers = Vec::new();
    for worker in 0..shared.len() {
        let (sender, receiver) =
            ring::mbuf_ring(&ports.eal, &format!("to worker {worker}"), HAND_OVER_RING_MAX, None)
                .map_err(|error| StartError::of("runtime", &error))?;
        senders.push(sender);
        receivers.push(receiver);
    }
    if config.runtime.idle == Idle::Adaptive {
        // Without the right to it, or without sessions that share CPUs, niceness is all there is.
        let _ = thread::nice_session(NICENESS);
    }
    let mut workers = Workers {
        clock,
        shared,
        packets: Vec::new(),
        questions: Vec::new(),
        nics: Vec::new(),
        threads: Vec::new(),
    };
    for (number, (taken_over, core)) in receivers.into_iter().zip(&config.runtime.workers).enumerate() {
        let id = WorkerId(number as u8);
        let shared = workers.shared[number].clone();
        let fragments = config.runtime.fragments;
        let capacity = Capacity { v4: config.runtime.connections, v6: config.runtime.connections };
        let (ends, packets, questions, nic_ends) = rings();
        let (nics, hand_over) = (queues(ports), peers(&senders, &workers.shared));
        let (snapshots, idle) = (snapshots.clone(), config.runtime.idle);
        // Its tables are written first on the worker's own core, which puts them on that core's NUMA node.
        let parts = move || WorkerParts {
            id,
            forwarder: Forwarder::new(id, capacity, key, shared.counters.clone())
                .with_fragment_memory(fragments),
            nics,
            taken_over,
            hand_over,
            ends,
            snapshots,
            shared,
            idle: match idle {
                Idle::Adaptive => shunt_dataplane::worker::Idle::Adaptive,
                Idle::Busy => shunt_dataplane::worker::Idle::Busy,
            },
            clock,
        };
        workers.packets.push(packets);
        workers.questions.push(questions);
        workers.nics.push(nic_ends);
        workers.threads.push(spawn(id, parts, (usize::from(*core), idle), ports)?);
    }
    Ok(workers)
}

/// All workers, as each sees them.
fn peers(senders: &[RingSender], shared: &[Arc<Shared>]) -> Vec<Peer> {
    let peer =
        |(ring, shared): (&RingSender, &Arc<Shared>)| Peer { ring: ring.clone(), shared: shared.clone() };
    senders.iter().zip(shared).map(peer).collect()
}

/// The next queue of every NIC.
fn queues(ports: &mut Ports) -> Vec<NicQueues> {
    let take = |(number, nic): (usize, &mut super::nics::OpenNic)| NicQueues {
        nic: NicId(number as u8),
        rx: nic.rx.remove(0),
        tx: nic.tx.remove(0),
    };
    ports.nics.iter_mut().enumerate().map(take).collect()
}

fn spawn(
    id: WorkerId,
    parts: impl FnOnce() -> WorkerParts + Send + 'static,
    (core, idle): (usize, Idle),
    ports: &Ports,
) -> Result<JoinHandle<()>, StartError> {
    let eal = ports.eal.clone();
    let place = format!("runtime.workers: worker {id} on core {core}");
    let (report, reported) = std::sync::mpsc::channel();
    let work = move || {
        let ready = thread::bind(core)
            .map_err(|error| error.to_string())
            .and_then(|()| eal.register_thread().map_err(|error| error.to_string()));
        let registered = match ready {
            Ok(registered) => registered,
            Err(error) => return drop(report.send(Err(error))),
        };
        // Naps are longer without it, nothing else.
        let _ = thread::set_timer_slack(TIMER_SLACK);
        if idle == Idle::Adaptive {
            // Without the right to it they are as nice as others.
            let _ = thread::nice(NICENESS);
        }
        let parts = parts();
        let shared = parts.shared.clone();
        let worker = Worker::new(parts);
        let counters = shared.counters.clone();
        let pulse = Pulse::counting(&name(id), Duty::Forwards, move || counters.turns.get());
        #[cfg(debug_assertions)]
        let fails = fail(&name(id), &shared);
        drop(report.send(Ok(())));
        worker.run();
        #[cfg(debug_assertions)]
        assert!(!fails, "the fault that was asked for");
        pulse.done();
        drop(registered);
    };
    let name = place.split(": ").nth(1).unwrap_or("worker").replace(" on core ", "/");
    let thread =
        std::thread::Builder::new().name(name).spawn(work).map_err(|error| StartError::of(&place, &error))?;
    loop {
        // Large tables take their time.
        match reported.recv_timeout(START_LOOK) {
            Ok(Ok(())) => return Ok(thread),
            Ok(Err(error)) => return Err(StartError::of(&place, &error)),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(StartError::of(&place, &"its thread ended before it was ready"));
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Some(signal) = signals::end_asked() {
                    return Err(StartError::end(signal.as_str()));
                }
            }
        }
    }
}

/// What a worker is called where threads are told of.
#[must_use]
pub fn name(id: WorkerId) -> String {
    format!("worker {id}")
}

/// Has a worker end when a test asks for it; true when it will.
#[cfg(debug_assertions)]
fn fail(name: &str, shared: &Arc<Shared>) -> bool {
    let Some(after) = crate::threads::fault(name) else { return false };
    let shared = shared.clone();
    std::thread::spawn(move || {
        std::thread::sleep(after);
        shared.stop();
    });
    true
}

impl Workers {
    /// Asks all workers to end and waits for them.
    pub fn stop(&mut self) {
        self.shared.iter().for_each(|shared| shared.stop());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker ended by a panic");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

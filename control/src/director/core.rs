//! Where every change becomes a generation: a new file, a verdict of a health check, a neighbour's answer.
//!
//! One thread takes them in order, gathers what comes in a burst, publishes once and waits until all workers run
//! it; only then are packets let go that waited for a neighbour, and a reload is reported done.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use shunt_config::Config;
use shunt_dataplane::id::{Generation, NicId, WorkerId};
use shunt_dataplane::snapshot::Snapshot;
use shunt_protocol::neighbour;
use tracing::Level;

use crate::notify::Notifier;
use crate::publish::Publisher;
use crate::publish::compile::{NicState, State};
use crate::threads::channel::{Receiver, Sender, channel};
use crate::threads::{Duty, Pulse};

use super::changes::{Proposal, Published};
use super::events;

/// Changes that are gathered into one generation at most; more wait for the next.
pub const GATHERED_MAX: usize = 4096;
/// How often snapshots that nobody reads any more are freed when nothing changes.
const RETIRE_INTERVAL: Duration = Duration::from_millis(500);
/// The niceness of the core thread: clients of a director that takes over wait for what it publishes, so that other programs' work
/// does not come before it; workers do.
const NICENESS: i8 = -5;

/// A change, for the core thread.
#[derive(Debug)]
pub enum Message {
    /// A configuration that was checked; the answer comes when all workers run it.
    Config(Box<Proposal>, Arc<Asking>, SyncSender<Applied>),
    /// What holds for real servers changed.
    Health(Vec<shunt_protocol::health::Change>),
    /// The VIPs of virtual routers that belong to this director from now on.
    Owned(HashSet<(NicId, IpAddr)>),
    /// What holds for NICs from now on, by [`NicId`]; the answer comes when all workers run it.
    Nics(Vec<NicState>, Option<SyncSender<Applied>>),
    /// Neighbours changed; [`Core::applied`] reaches the number when workers know.
    Neighbours(Vec<neighbour::Change>, u64),
    /// The end.
    Stop,
}

/// A change that somebody asks for: it is begun, or given up, whichever comes first.
#[derive(Debug, Default)]
pub struct Asking(AtomicU8);

impl Asking {
    const BEGUN: u8 = 1;
    const GIVEN_UP: u8 = 2;

    /// Begins it; false when it was given up.
    pub fn begin(&self) -> bool {
        self.0.compare_exchange(0, Self::BEGUN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Gives it up; false when it has begun.
    pub fn give_up(&self) -> bool {
        self.0.compare_exchange(0, Self::GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// How a configuration was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The generation that holds it.
    pub generation: Generation,
    /// How long workers took to run it, when all did.
    pub acknowledged: Result<Duration, Vec<WorkerId>>,
}

/// What holds now, for those who look on.
#[derive(Clone, Debug)]
pub struct View {
    /// The configuration.
    pub config: Arc<Config>,
    /// When it was taken.
    pub loaded: SystemTime,
    /// The snapshot; every worker runs it or was told to.
    pub snapshot: Arc<Snapshot>,
    /// Health, neighbours and MACs that it was compiled from.
    pub state: State,
}

/// The core thread as others see it.
#[derive(Debug)]
pub struct Core {
    messages: Sender<Message>,
    view: Arc<ArcSwap<View>>,
    applied: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// What the core thread owns.
struct Work {
    publisher: Publisher,
    config: Arc<Config>,
    loaded: SystemTime,
    view: Arc<ArcSwap<View>>,
    applied: Arc<AtomicU64>,
    notifier: Notifier,
    /// On its own thread.
    pulse: Option<Pulse>,
}

/// What one round gathered.
#[derive(Default)]
struct Gathered {
    answers: Vec<SyncSender<Applied>>,
    configs: Vec<Published>,
    /// What checks said, in words, and how loud.
    health: Vec<(String, Level)>,
    neighbours: Option<u64>,
    stop: bool,
}

impl Core {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(publisher: Publisher, config: Config, notifier: Notifier) -> std::io::Result<Self> {
        let (messages, inbox) = channel();
        let (config, loaded) = (Arc::new(config), SystemTime::now());
        let first = View {
            config: config.clone(),
            loaded,
            snapshot: publisher.snapshots().load_full(),
            state: publisher.state().clone(),
        };
        let (view, applied) = (Arc::new(ArcSwap::from_pointee(first)), Arc::new(AtomicU64::new(0)));
        let mut work = Work {
            publisher,
            config,
            loaded,
            view: view.clone(),
            applied: applied.clone(),
            notifier,
            pulse: None,
        };
        let thread = std::thread::Builder::new().name("shunt-core".into()).spawn(move || {
            // Without the right to it it is as nice as others.
            let _ = dpdk_sys::thread::nice(NICENESS);
            work.pulse = Some(Pulse::start("shunt-core", Duty::Decides));
            work.run(&inbox);
            if let Some(pulse) = work.pulse.take() {
                pulse.done();
            }
        })?;
        Ok(Self { messages, view, applied, thread: Some(thread) })
    }

    /// Where changes go.
    #[must_use]
    pub fn messages(&self) -> Sender<Message> {
        self.messages.clone()
    }

    /// What holds now.
    #[must_use]
    pub const fn view(&self) -> &Arc<ArcSwap<View>> {
        &self.view
    }

    /// The number of the last [`Message::Neighbours`] that all workers know of.
    #[must_use]
    pub const fn applied(&self) -> &Arc<AtomicU64> {
        &self.applied
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let _ = self.messages.send(Message::Stop);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the core thread ended by a panic");
        }
    }
}

impl Work {
    fn run(&mut self, inbox: &Receiver<Message>) {
        events::tell_no_real(&self.config, self.publisher.state(), &self.notifier);
        loop {
            self.beat();
            let mut gathered = Gathered::default();
            match inbox.recv_timeout(RETIRE_INTERVAL) {
                Ok(message) => self.take(message, &mut gathered),
                Err(RecvTimeoutError::Timeout) if self.publisher.adopts_no_more(Instant::now()) => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.publisher.retire();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for message in inbox.try_iter().take(GATHERED_MAX) {
                self.take(message, &mut gathered);
            }
            if gathered.stop {
                events::farewell(&self.config, self.publisher.state(), &self.notifier);
                return;
            }
            self.publish(gathered);
        }
    }

    fn beat(&self) {
        if let Some(pulse) = &self.pulse {
            pulse.beat();
        }
    }

    fn take(&mut self, message: Message, gathered: &mut Gathered) {
        match message {
            // Who asked waited too long, and was told that nothing was changed.
            Message::Config(_, asking, _) if !asking.begin() => {}
            Message::Config(proposal, _, answer) => {
                let Proposal { config, changes, by, asked, file } = *proposal;
                gathered.configs.push(Published { changes, by, asked, file });
                self.publisher.follow(&self.config, &config);
                if self.config.notify != config.notify {
                    self.notifier.set(config.notify.clone());
                }
                self.config = Arc::new(config);
                self.loaded = SystemTime::now();
                gathered.answers.push(answer);
            }
            Message::Health(changes) => {
                for change in &changes {
                    let before = self.publisher.state().verdict(&change.key);
                    gathered.health.push((change.line(before), level(change)));
                    self.publisher.set_health(change);
                }
                events::tell_reals(&self.config, &changes, &self.notifier);
            }
            Message::Owned(vips) => self.publisher.set_owned(Instant::now(), vips, &self.config),
            Message::Nics(nics, answer) => {
                self.publisher.set_nics(nics);
                gathered.answers.extend(answer);
            }
            Message::Neighbours(changes, number) => {
                changes.iter().for_each(|change| self.publisher.set_neighbour(change));
                gathered.neighbours = Some(number);
            }
            Message::Stop => gathered.stop = true,
        }
    }

    fn publish(&mut self, gathered: Gathered) {
        let published = self.publisher.publish(&self.config);
        let generation = self.publisher.snapshots().load().generation;
        for (line, level) in &gathered.health {
            match *level {
                Level::WARN => tracing::warn!("{line} generation={generation} by=health"),
                Level::INFO => tracing::info!("{line} generation={generation} by=health"),
                _ => tracing::debug!("{line} generation={generation} by=health"),
            }
        }
        for change in self.publisher.quorums() {
            if change.holds {
                tracing::info!("{change} generation={generation} by=health");
            } else {
                tracing::error!("{change} generation={generation} by=health");
            }
        }
        events::tell_quorums(&self.config, self.publisher.quorums(), &self.notifier);
        gathered.configs.iter().for_each(|published| published.tell(generation, &self.notifier));
        let acknowledged = {
            let pulse = &self.pulse;
            self.publisher.wait(generation, || pulse.iter().for_each(Pulse::beat))
        };
        if let Err(late) = &acknowledged {
            tracing::error!(
                "generation {generation}: workers {late:?} do not run it after {:?}: they may be starved of CPU; it holds all the same as soon as they turn",
                crate::publish::ACKNOWLEDGE_MAX
            );
        } else if let Some(generation) = published {
            tracing::debug!("generation {generation} runs");
        }
        let snapshot = self.publisher.snapshots().load_full();
        self.view.store(Arc::new(View {
            config: self.config.clone(),
            loaded: self.loaded,
            snapshot,
            state: self.publisher.state().clone(),
        }));
        if let Some(number) = gathered.neighbours {
            self.applied.store(number, Ordering::Release);
        }
        for answer in gathered.answers {
            // Whoever asked may have gone.
            let _ = answer.send(Applied { generation, acknowledged: acknowledged.clone() });
        }
        if published.is_some() {
            events::tell_no_real(&self.config, self.publisher.state(), &self.notifier);
        }
    }
}

/// How loud it is told: who goes down is a warning, weights that grow after a return are a detail.
const fn level(change: &shunt_protocol::health::Change) -> tracing::Level {
    match (change.turned, change.verdict.up) {
        (true, false) => tracing::Level::WARN,
        (true, true) => tracing::Level::INFO,
        (false, _) if change.verdict.share < 100 => tracing::Level::DEBUG,
        (false, _) => tracing::Level::INFO,
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;

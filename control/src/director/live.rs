//! The running director behind its API: reload, questions to workers, and the end.

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dpdk_sys::{Clock, Mempool, Nic, NumaNode};
use shunt_config::Config;
use shunt_config::diff::{Changes, diff, show_forward};
use shunt_config::removed::few_enough;
use shunt_dataplane::forwarding::RuleNumber;
use shunt_dataplane::id::{Generation, NicId, WorkerId};
use shunt_dataplane::worker::{Answer, Question, QuestionEnds, Shared};
use tokio::sync::{mpsc, watch};

use super::ask::Questions;
use super::changes::{self, By, Proposal};
use super::core::{Applied, Asking, Core, Message, View};
use super::links::{Known, NicNow};
use super::virtual_macs::VirtualMacs;
use super::{status, status_neighbours, targets};
use crate::api::director::{
    CONNECTIONS_QUEUE_MAX, Connections, Director, Events, Later, Refusal, ReloadOptions, Reloaded, Running,
};
use crate::api::ipvsadm::{Change, Changed, Table};
use crate::api::neighbours::Neighbours;
use crate::api::{Asked, Drops, Explanation, Probe, ProbeStep, Status};
use crate::control_loop::Control;
use crate::health::{Health, Lacks};
use crate::kernel::Routes;
use crate::kernel::TapSettings;
use crate::notify::{Condition, Notifier};
use crate::threads::{tell_supervisor, watcher};
use crate::tracking::Tracking;

/// How long a change may wait to be begun; less than clients wait for an answer.
const BEGIN_MAX: Duration = Duration::from_secs(10);
/// How long it may take from then on.
const APPLY_MAX: Duration = Duration::from_secs(60);

/// What the API and signals reach of the running director.
pub struct Live {
    pub(super) file: PathBuf,
    pub(super) started: Instant,
    pub(super) view: Arc<ArcSwap<View>>,
    pub(super) nics: Vec<Mutex<Option<Nic>>>,
    pub(super) reopening: super::reopen::Reopening,
    pub(super) links: Mutex<Known>,
    pub(super) workers: Vec<Arc<Shared>>,
    pub(super) pool: Mempool,
    pub(super) hugepages: bool,
    pub(super) node: Option<NumaNode>,
    pub(super) clock: Clock,
    pub(super) questions: Questions,
    pub(super) running: Mutex<Running>,
    /// The configuration as the file had it when it was taken last.
    pub(super) of_file: Mutex<Arc<Config>>,
    pub(super) ipvsadm: super::ipvsadm::Kept,
    pub(super) virtual_macs: VirtualMacs,
    pub(super) taps: Mutex<TapSettings>,
    changing: Arc<tokio::sync::Mutex<()>>,
    reloads: Mutex<Reloads>,
    parts: Mutex<Option<Parts>>,
    stop: watch::Sender<bool>,
}

/// What ends before the workers do, in this order.
pub(super) struct Parts {
    pub health: Health,
    pub tracking: Tracking,
    pub lacks: Arc<Lacks>,
    pub control: Control,
    pub core: Core,
    pub notifier: Notifier,
}

/// Reloads that have begun, and what the last one came to.
#[derive(Default)]
struct Reloads {
    begun: u64,
    last: Option<Result<Reloaded, Refusal>>,
}

/// What [`Live`] is made of.
pub(super) struct Pieces {
    pub file: PathBuf,
    pub text: String,
    pub known: Vec<NicNow>,
    pub nics: Vec<Nic>,
    pub reopening: super::reopen::Reopening,
    pub workers: Vec<Arc<Shared>>,
    pub questions: Vec<QuestionEnds>,
    pub pool: Mempool,
    pub taps: TapSettings,
    pub hugepages: bool,
    pub node: Option<NumaNode>,
    pub clock: Clock,
    pub parts: Parts,
    pub stop: watch::Sender<bool>,
}

impl Live {
    pub(super) fn new(pieces: Pieces) -> Self {
        let view = pieces.parts.core.view().clone();
        let generation = view.load().snapshot.generation.0;
        let running = Running {
            file: pieces.file.display().to_string(),
            text: pieces.text,
            generation,
            not_in_file: Vec::new(),
        };
        let of_file = view.load().config.clone();
        let live = Self {
            file: pieces.file,
            started: Instant::now(),
            view,
            nics: pieces.nics.into_iter().map(|nic| Mutex::new(Some(nic))).collect(),
            reopening: pieces.reopening,
            links: Mutex::new(Known { nics: pieces.known, ..Known::default() }),
            questions: Questions::new(pieces.questions, pieces.workers.clone()),
            workers: pieces.workers,
            pool: pieces.pool,
            hugepages: pieces.hugepages,
            node: pieces.node,
            clock: pieces.clock,
            running: Mutex::new(running),
            of_file: Mutex::new(of_file),
            ipvsadm: super::ipvsadm::Kept::default(),
            virtual_macs: VirtualMacs::default(),
            taps: Mutex::new(pieces.taps),
            changing: Arc::default(),
            reloads: Mutex::default(),
            parts: Mutex::new(Some(pieces.parts)),
            stop: pieces.stop,
        };
        live.follow();
        let snapshot = live.view.load().snapshot.clone();
        live.keep_books(&snapshot, None);
        live
    }

    /// Ends the control loop, which gives the virtual routers up, health checks and the core; workers still run. Nothing that takes its
    /// time comes before the farewell.
    pub(super) fn end(&self) {
        self.questions.end();
        if let Some(Parts { mut health, tracking, lacks, control, core, notifier }) = lock(&self.parts).take()
        {
            // Checks first: without the control loop they would fail.
            health.begin_end();
            control.stop();
            drop((health, tracking, lacks));
            drop(core);
            // What is left to tell is told.
            drop(notifier);
        }
    }

    /// Calls `with` on the parts while they are there.
    pub(super) fn with_parts<T>(&self, with: impl FnOnce(&Parts) -> T) -> Option<T> {
        lock(&self.parts).as_ref().map(with)
    }

    /// Tells health checks, neighbours and the kernel side what the configuration asks of them.
    pub(super) fn follow(&self) {
        let view = self.view.load();
        let refused_macs = self.virtual_macs.follow(&view.config, &self.nics);
        let (macs, mtus) = {
            let known = lock(&self.links);
            (known.macs(), known.mtus())
        };
        let checks = targets::checks(&view.config, &view.snapshot);
        let sides = targets::sides(&view.config, &macs, &mtus);
        self.with_parts(|parts| {
            parts.control.set_neighbours(view.config.runtime.neighbours);
            parts.control.set_routes(Routes::new(&sides));
            parts.control.set_owned(targets::nics(&view.config, &macs), targets::vips(&view.config));
            parts.control.name_nics(view.config.nics.iter().map(|nic| nic.name.clone()).collect());
            let routers = targets::routers(&view.config, &view.snapshot, &macs);
            let patience = routers.iter().map(|router| router.master_down(router.priority, router.interval));
            watcher::set_patience(patience.max().unwrap_or_default());
            parts.control.set_refused_macs(refused_macs);
            parts.control.set_routers(routers, view.config.vrrp_groups.clone());
            parts
                .control
                .set_named(targets::wanted(&view.config, &view.snapshot), targets::told(&view.config));
            parts.control.set_checked(targets::checked(&checks));
            parts.notifier.keep(Condition::NeighbourSilent, &targets::named(&view.config, &view.snapshot));
        });
        // The kernel takes its time: nobody else waits for it.
        if let Err(error) = lock(&self.taps).update(&sides) {
            tracing::error!("{error}");
        }
        // Checks need the addresses.
        self.with_parts(|parts| {
            parts.health.set_targets(checks);
            parts.health.watch(targets::watched(&view.config, &view.snapshot));
            parts.tracking.set(targets::watches(&view.config));
        });
    }

    /// Looks which tables and queues were full since the last look, and tells what was held back of what is to be told.
    pub(super) fn watch_limits(&self, known: &mut status::Fullness) {
        let asker = self.with_parts(|parts| parts.control.asker());
        let counted = asker.and_then(|asker| asker.counters(status::ANSWER_MAX));
        let limits = counted.map(|counted| status::limits_now(self, &counted));
        self.with_parts(|parts| {
            if let Some(limits) = limits {
                known.look(Instant::now(), &limits, &parts.notifier);
            }
            parts.lacks.settle(Instant::now());
            parts.notifier.settle();
        });
    }

    /// Reads, checks, compares, publishes; nothing changes unless all of it succeeds.
    fn reload_now(&self, asked: Asked, options: ReloadOptions) -> Result<Reloaded, Refusal> {
        let done = self.try_reload(asked, options);
        match &done {
            Ok(Reloaded { warnings, .. }) => warnings.iter().for_each(|warning| tracing::warn!("{warning}")),
            Err(refusal) => {
                let file = self.file.display().to_string();
                let notifier = self.with_parts(|parts| parts.notifier.clone());
                changes::tell_refused(&file, refusal, asked, notifier.as_ref());
            }
        }
        done
    }

    fn try_reload(&self, asked: Asked, options: ReloadOptions) -> Result<Reloaded, Refusal> {
        let checked = Config::load(&self.file, &crate::machine::here()).map_err(Refusal::unusable)?;
        let file = self.file.display().to_string();
        let changes = diff(&self.view.load().config, &checked.config);
        if changes.needing_restart().next().is_some() {
            return Err(Refusal::needs_restart(&file, &changes));
        }
        if !options.yes {
            few_enough(&self.view.load().config, &checked.config)
                .map_err(|fault| Refusal::removes_much(&file, &fault))?;
        }
        let told = checked.warnings.list.iter().map(|warning| checked.warnings.line(warning));
        let warnings = told.chain(self.undone(&checked.config)).collect();
        let text = checked.text;
        let before = self.view.load().snapshot.clone();
        let of_change = changes.clone();
        let proposal = Proposal {
            config: checked.config,
            changes: of_change,
            by: By::Reload,
            asked,
            file: file.clone(),
        };
        let applied = self.publish(proposal)?;
        self.keep_books(&before, None);
        // It holds, also where a worker is late.
        self.follow();
        *lock(&self.of_file) = self.view.load().config.clone();
        *lock(&self.running) =
            Running { file, text, generation: applied.generation.0, not_in_file: Vec::new() };
        self.acknowledged(&applied)?;
        Ok(Reloaded { generation: applied.generation.0, changes, warnings })
    }

    /// What a file undoes of the changes that ipvsadm made, in one line.
    fn undone(&self, new: &Config) -> Option<String> {
        let (of_file, running) = (lock(&self.of_file).clone(), self.view.load().config.clone());
        let kept = diff(&of_file, &running).list.len();
        (kept > 0 && *running != *new).then(|| {
            format!(
                "{}: {kept} changes by ipvsadm were not in the file: the file holds again: to keep them write them there, or \
                 feed what `ipvsadm -Sn` said before to `ipvsadm -R`",
                self.file.display()
            )
        })
    }

    /// What ipvsadm changed and the file does not have.
    pub(super) fn not_in_file(&self) -> Changes {
        let of_file = lock(&self.of_file).clone();
        let running = self.view.load().config.clone();
        if Arc::ptr_eq(&of_file, &running) { Changes::default() } else { diff(&of_file, &running) }
    }

    /// Every worker runs it; or which do not yet.
    pub(super) fn acknowledged(&self, applied: &Applied) -> Result<(), Refusal> {
        let Err(late) = &applied.acknowledged else { return Ok(()) };
        let late = late.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(Refusal::new(format!(
            "generation {}: published, but workers {late} do not run it yet: they will as soon as they turn: see `shunt status`",
            applied.generation
        )))
    }

    pub(super) fn publish(&self, proposal: Proposal) -> Result<Applied, Refusal> {
        let ending = || Refusal::new("the director is stopping: nothing was changed");
        let (answer, applied) = sync_channel(1);
        let asking = Arc::new(Asking::default());
        let message = Message::Config(Box::new(proposal), asking.clone(), answer);
        self.with_parts(|parts| parts.core.messages().send(message))
            .and_then(Result::ok)
            .ok_or_else(ending)?;
        for patience in [BEGIN_MAX, APPLY_MAX] {
            match applied.recv_timeout(patience) {
                Ok(applied) => return Ok(applied),
                Err(RecvTimeoutError::Disconnected) => return Err(ending()),
                Err(RecvTimeoutError::Timeout) if asking.give_up() => {
                    return Err(Refusal::new(format!(
                        "thread shunt-core did not begin within {patience:?}: nothing was changed, and nothing will be later: see `shunt status`"
                    )));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Err(Refusal::new(format!(
            "thread shunt-core began and is not done after {APPLY_MAX:?}: it may be taken later: see `shunt status`"
        )))
    }

    fn explain_now(&self, probe: &Probe) -> Result<Explanation, Refusal> {
        let view = self.view.load_full();
        let names: Vec<String> = view.config.nics.iter().map(|nic| nic.name.clone()).collect();
        let name_of = |nic: NicId| names.get(nic.index()).cloned().unwrap_or_else(|| nic.to_string());
        let place = match &probe.nic {
            None => view.snapshot.first_hop(probe.source.ip()).map_or(0, |(nic, _)| nic.index()),
            Some(name) => names.iter().position(|known| known == name).ok_or_else(|| {
                Refusal::new(format!(
                    "{name}: no such nic: there are {}: name one of these",
                    names.join(", ")
                ))
            })?,
        };
        let frame = probe.frame(lock(&self.links).macs().get(place).copied().unwrap_or_default())?;
        let nic = NicId(place as u8);
        let mut steps = self.ask_explanation(WorkerId(0), nic, frame.clone())?;
        if let Some(shunt_dataplane::forward::Step::HandOver(owner)) = steps.first() {
            steps = self.ask_explanation(*owner, nic, frame)?;
        }
        let generation = view.snapshot.generation.0;
        let rule_of = |number: RuleNumber| {
            let rule = view.config.forwards.get(usize::from(number.0));
            rule.map_or_else(String::new, |rule| show_forward(rule, name_of))
        };
        Ok(Explanation {
            generation,
            steps: steps.iter().map(|step| ProbeStep::told(step, name_of, rule_of)).collect(),
        })
    }

    fn ask_explanation(
        &self,
        worker: WorkerId,
        nic: NicId,
        frame: Box<[u8]>,
    ) -> Result<shunt_dataplane::forward::Explanation, Refusal> {
        let mut explanation = Vec::new();
        self.questions.ask(worker, Question::Explain(nic, frame), |answer| {
            if let Answer::Explanation(steps) = answer {
                explanation = steps;
            }
        })?;
        Ok(explanation)
    }
}

/// A lock; what a panicked holder left is still whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The API's side of [`Live`].
pub struct Handle(pub Arc<Live>);

impl Handle {
    /// Runs `work` where it may wait.
    fn later<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Live) -> Result<T, Refusal> + Send + 'static,
    ) -> Later<Result<T, Refusal>> {
        let live = self.0.clone();
        Box::pin(async move {
            let work = tokio::task::spawn_blocking(move || work(&live)).await;
            work.unwrap_or_else(|_| Err(Refusal::new("the request failed inside the director: see its log")))
        })
    }
}

impl Handle {
    /// Runs `work`, which changes the configuration, when no other does.
    fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Live) -> Result<T, Refusal> + Send + 'static,
    ) -> Later<Result<T, Refusal>> {
        let one_at_a_time = self.0.changing.clone();
        let work = self.later(work);
        Box::pin(async move {
            let _turn = one_at_a_time.lock().await;
            work.await
        })
    }
}

impl Director for Handle {
    fn status(&self) -> Status {
        status::status(&self.0)
    }

    fn drops(&self) -> Drops {
        let workers: Vec<_> = self.0.workers.iter().map(|worker| &*worker.counters).collect();
        Drops::of(&workers)
    }

    fn neighbours(&self) -> Neighbours {
        let asker = self.0.with_parts(|parts| parts.control.asker());
        let report = asker.and_then(|asker| asker.report(status::ANSWER_MAX)).unwrap_or_default();
        status_neighbours::neighbours(&self.0.view.load_full(), &report)
    }

    fn events(&self, since: Option<u64>) -> Option<Events> {
        self.0.with_parts(|parts| parts.notifier.listen(since))
    }

    fn connections(&self) -> Connections {
        let (queue, connections) = mpsc::channel(CONNECTIONS_QUEUE_MAX);
        let live = self.0.clone();
        tokio::task::spawn_blocking(move || live.questions.list(&queue));
        connections
    }

    fn explain(&self, probe: Probe) -> Later<Result<Explanation, Refusal>> {
        self.later(move |live| live.explain_now(&probe))
    }

    fn configuration(&self) -> Running {
        let not_in_file = self.0.not_in_file().list.iter().map(ToString::to_string).collect();
        Running { not_in_file, ..lock(&self.0.running).clone() }
    }

    fn ipvsadm(&self) -> Later<Result<Table, Refusal>> {
        self.later(|live| Ok(live.ipvsadm_table()))
    }

    fn change_ipvsadm(&self, asked: Asked, changes: Vec<Change>) -> Later<Result<Changed, Refusal>> {
        self.in_turn(move |live| live.change_now(asked, &changes))
    }

    fn reload(&self, asked: Asked, options: ReloadOptions) -> Later<Result<Reloaded, Refusal>> {
        let before = lock(&self.0.reloads).begun;
        self.in_turn(move |live| {
            // One that began while this one waited has read the file as it is now: those that wait are one.
            let shared = {
                let reloads = lock(&live.reloads);
                reloads.last.clone().filter(|_| reloads.begun > before)
            };
            if let Some(shared) = shared {
                return shared;
            }
            lock(&live.reloads).begun += 1;
            tell_supervisor(&format!("RELOADING=1\nMONOTONIC_USEC={}", crate::threads::monotonic_us()));
            let result = live.reload_now(asked, options);
            tell_supervisor("READY=1");
            lock(&live.reloads).last = Some(result.clone());
            result
        })
    }

    fn stop(&self, asked: Asked) {
        tracing::info!("stop {asked}");
        self.0.stop.send_replace(true);
    }
}

/// The generation that runs, for log lines.
pub(super) fn generation(live: &Live) -> Generation {
    live.view.load().snapshot.generation
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;

//! The thread of the health checks: sockets in the kernel side's namespace, a clock, and the machine that decides.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use shunt_dataplane::counters::RealCounters;
use shunt_model::health::{Failure, Lack, RealKey, Success};
use shunt_protocol::health::gather::Gathering;
use shunt_protocol::health::machine::{Change, Listed, Machine, Serial};
use shunt_protocol::health::passive;
use shunt_protocol::health::passive::Seen;
use shunt_protocol::health::rounds::Rounds;
use shunt_protocol::health::{CHECKS_RUNNING_MAX, Target};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::check::Tools;
use super::scripts::Scripts;
use super::{Lacks, check};
use crate::kernel::{KernelError, Namespace, ServiceWays};
use crate::threads::{Duty, Pulse};

/// A real server and what workers count of it.
pub type Watched = (RealKey, RealCounters);

enum Command {
    Targets(Vec<Target>),
    Watch(Vec<Watched>),
    List(mpsc::Sender<Vec<Listed>>),
}

/// Running health checks. Dropping it ends them and waits for their thread.
pub struct Health {
    commands: Option<UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Health {
    /// Starts the thread, without targets. Check sockets are opened in `namespace`, or where the process is when
    /// there is none; those that go their service's way tell it `ways`; what they lack is told to `lacks`. Scripts run where the caller is. `on_changes` is called on that thread, with changes that came
    /// together, and must not block.
    ///
    /// # Errors
    /// [`KernelError`] when the namespace cannot be entered or there is no thread to be had.
    pub fn start(
        namespace: Option<Namespace>,
        ways: ServiceWays,
        lacks: Arc<Lacks>,
        on_changes: impl FnMut(Vec<Change>) + Send + 'static,
    ) -> Result<Self, KernelError> {
        let scripts = Scripts::start()?;
        let (commands, inbox) = unbounded_channel();
        let (started, start) = mpsc::channel();
        let work = move || {
            let ready = namespace.map_or(Ok(()), |namespace| enter(&namespace)).and_then(|()| {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                runtime.enable_all().build().map_err(KernelError::Thread)
            });
            match ready {
                Ok(runtime) => {
                    crate::rights::give_up_all();
                    let _ = started.send(Ok(()));
                    let pulse = Pulse::start("shunt-health", Duty::Decides);
                    runtime.block_on(pulse.over(drive(inbox, Tools::new(scripts, ways, lacks), on_changes)));
                    // A file system that hangs is not waited for.
                    runtime.shutdown_background();
                    pulse.done();
                }
                Err(error) => drop(started.send(Err(error))),
            }
        };
        let thread = thread::Builder::new().name("shunt-health".to_owned()).spawn(work);
        let thread = thread.map_err(KernelError::Thread)?;
        start.recv().unwrap_or_else(|_| Err(KernelError::Thread(io::Error::other("it ended early"))))?;
        Ok(Self { commands: Some(commands), thread: Some(thread) })
    }

    /// Checks these from now on; see [`Machine::set_targets`].
    pub fn set_targets(&self, targets: Vec<Target>) {
        self.tell(Command::Targets(targets));
    }

    /// Looks at these counters from now on, again and again.
    pub fn watch(&self, watched: Vec<Watched>) {
        self.tell(Command::Watch(watched));
    }

    /// The state of all that are checked.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        self.asker().and_then(|asker| asker.list(Duration::MAX)).unwrap_or_default()
    }

    /// A way to ask for it that holds nobody up; none at the end.
    #[must_use]
    pub fn asker(&self) -> Option<Asker> {
        self.commands.clone().map(Asker)
    }

    /// Ends checks without waiting for their thread.
    pub fn begin_end(&mut self) {
        self.commands = None;
    }

    fn tell(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // The thread ends only after this sender.
            let _ = commands.send(command);
        }
    }
}

/// Asks the thread.
pub struct Asker(UnboundedSender<Command>);

impl Asker {
    /// The state of all that are checked; none when the thread does not answer within this time.
    #[must_use]
    pub fn list(&self, patience: Duration) -> Option<Vec<Listed>> {
        let (answer, listed) = mpsc::channel();
        self.0.send(Command::List(answer)).ok()?;
        listed.recv_timeout(patience).ok()
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Enters the namespace and lets pings be sent there; where that is not allowed they go by raw sockets.
fn enter(namespace: &Namespace) -> Result<(), KernelError> {
    namespace.enter()?;
    if let Err(error) = std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647") {
        tracing::debug!("ping_group_range of the kernel side: {error}: pings use raw sockets");
    }
    Ok(())
}

/// Ends a task when it goes.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How often it is counted how many descriptors are left for checks.
const RECOUNT: Duration = Duration::from_secs(10);
/// Descriptors that are left for everything else: clients of the API, scripts, files.
const DESCRIPTORS_KEPT: usize = 32;

/// Checks that may run at once beside `running` ones, by the descriptors that are left; one takes two at most.
fn places(running: usize) -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    let (Ok((most, _)), Ok(open)) = (getrlimit(Resource::RLIMIT_NOFILE), std::fs::read_dir("/proc/self/fd"))
    else {
        return CHECKS_RUNNING_MAX;
    };
    let left = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(open.count() + DESCRIPTORS_KEPT);
    running + left / 2
}

async fn drive(mut inbox: UnboundedReceiver<Command>, tools: Tools, mut on_changes: impl FnMut(Vec<Change>)) {
    let tools = Arc::new(tools);
    let keeper = tools.clone();
    let _keeper = AbortOnDrop(tokio::spawn(async move { keeper.keep_time().await }).abort_handle());
    let mut machine = Machine::default();
    let mut gathering = Gathering::default();
    let mut rounds = Rounds::default();
    let mut running: JoinSet<(RealKey, Serial, Result<Success, Failure>)> = JoinSet::new();
    // Whose check a task is, for those that panic.
    let mut whose: HashMap<Id, (RealKey, Serial)> = HashMap::new();
    let mut recount = Instant::now();
    let mut starts = Vec::new();
    let mut watched: Vec<Watched> = Vec::new();
    let mut look = Instant::now();
    loop {
        let now = Instant::now();
        if now >= look {
            look = now + passive::TICK;
            for (key, counters) in &watched {
                let change = machine.seen(now, *key, Seen::of(counters, key.protocol));
                change.into_iter().for_each(|change| gathering.add(now, change));
            }
        }
        if now >= recount {
            recount = now + RECOUNT;
            machine.set_most(places(machine.running()));
        }
        if rounds.may_begin(now) {
            for change in machine.tick(now, &mut starts) {
                gathering.add(now, change);
            }
        }
        if !starts.is_empty() {
            rounds.began(now);
        }
        for start in starts.drain(..) {
            let (tools, of) = (tools.clone(), (start.key, start.serial));
            let task = running.spawn(async move {
                (start.key, start.serial, check::run(Some(&start.key), &start.check, &tools).await)
            });
            whose.insert(task.id(), of);
        }
        let told = gathering.take(now);
        if !told.is_empty() {
            on_changes(told);
        }
        let look = (!watched.is_empty()).then_some(look);
        let begin = machine.deadline().map(|due| rounds.begin(due));
        let deadline = begin.into_iter().chain(gathering.deadline()).chain(look).min();
        let sleep = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = inbox.recv() => match command {
                Some(Command::Targets(targets)) => {
                    tools.forget();
                    machine.set_targets(Instant::now(), targets);
                }
                Some(Command::Watch(new)) => watched = new,
                Some(Command::List(answer)) => drop(answer.send(machine.list())),
                None => return,
            },
            Some(joined) = running.join_next_with_id() => {
                let now = Instant::now();
                let mut ended = Some(joined);
                // Those that ended meanwhile as well.
                while let Some(joined) = ended.take() {
                    ended = running.try_join_next_with_id();
                    let id = joined.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
                    let of = whose.remove(&id);
                    let (key, serial, result) = match (joined, of) {
                        (Ok((_, ended)), _) => ended,
                        (Err(_panic), Some((key, serial))) => {
                            tools.note(Lack::Inside);
                            (key, serial, Err(Failure::Lack(Lack::Inside)))
                        }
                        (Err(_), None) => continue,
                    };
                    if result == Err(Failure::Lack(Lack::Descriptors)) {
                        // Fewer at once until it is counted again.
                        machine.set_most(machine.running() / 2);
                    }
                    for change in machine.result(now, key, serial, result) {
                        gathering.add(now, change);
                    }
                }
            }
            () = sleep => {}
        }
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;

//! The thread of the health checks: sockets in the kernel side's namespace, a clock, and the machine that decides.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use shunt_dataplane::counters::RealCounters;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::check::Tools;
use super::gather::Gathering;
use super::machine::{Change, Listed, Machine, Serial};
use super::passive::{self, Seen};
use super::rounds::Rounds;
use super::scripts::Scripts;
use super::{CHECKS_RUNNING_MAX, Failure, RealKey, Success, Target, check};
use crate::kernel::{KernelError, Namespace, ServiceWays};

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
    /// there is none; those that go their service's way tell it `ways`. Scripts run where the caller is. `on_changes` is called on that thread, with changes that came
    /// together, and must not block.
    ///
    /// # Errors
    /// [`KernelError`] when the namespace cannot be entered or there is no thread to be had.
    pub fn start(
        namespace: Option<Namespace>,
        ways: ServiceWays,
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
                    let _ = started.send(Ok(()));
                    runtime.block_on(drive(inbox, Tools::new(scripts, ways), on_changes));
                    // A file system that hangs is not waited for.
                    runtime.shutdown_background();
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
        let (answer, listed) = mpsc::channel();
        self.tell(Command::List(answer));
        listed.recv().unwrap_or_default()
    }

    fn tell(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // The thread ends only after this sender.
            let _ = commands.send(command);
        }
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

/// Lets the process have as many descriptors as checks may need, where the system allows it.
fn allow_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = (soft + CHECKS_RUNNING_MAX as u64).min(hard);
    if wanted > soft {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
    }
}

async fn drive(mut inbox: UnboundedReceiver<Command>, tools: Tools, mut on_changes: impl FnMut(Vec<Change>)) {
    allow_descriptors();
    let tools = Arc::new(tools);
    let mut machine = Machine::default();
    let mut gathering = Gathering::default();
    let mut rounds = Rounds::default();
    let mut running: JoinSet<(RealKey, Serial, Result<Success, Failure>)> = JoinSet::new();
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
        if rounds.may_begin(now) {
            for change in machine.tick(now, &mut starts) {
                gathering.add(now, change);
            }
        }
        if !starts.is_empty() {
            rounds.began(now);
        }
        for start in starts.drain(..) {
            let tools = tools.clone();
            running.spawn(async move {
                (start.key, start.serial, check::run(Some(&start.key), &start.check, &tools).await)
            });
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
            Some(Ok((key, serial, result))) = running.join_next() => {
                let now = Instant::now();
                let mut ended = Some((key, serial, result));
                // Those that ended meanwhile as well.
                while let Some((key, serial, result)) = ended {
                    if let Some(change) = machine.result(now, key, serial, result) {
                        gathering.add(now, change);
                    }
                    ended = running.try_join_next().and_then(Result::ok);
                }
            }
            () = sleep => {}
        }
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;

//! The thread of the health checks: sockets in the kernel side's namespace, a clock, and the machine that decides.

use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::machine::{Change, Listed, Machine, Serial};
use super::{Failure, RealKey, Target, check};
use crate::kernel::{KernelError, Namespace};

enum Command {
    Targets(Vec<Target>),
    List(mpsc::Sender<Vec<Listed>>),
}

/// Running health checks. Dropping it ends them and waits for their thread.
pub struct Health {
    commands: Option<UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Health {
    /// Starts the thread, without targets. Check sockets are opened in `namespace`, or where the process is when
    /// there is none; `on_change` is called on that thread and must not block.
    ///
    /// # Errors
    /// [`KernelError`] when the namespace cannot be entered or there is no thread to be had.
    pub fn start(
        namespace: Option<Namespace>,
        on_change: impl FnMut(Change) + Send + 'static,
    ) -> Result<Self, KernelError> {
        let (commands, inbox) = unbounded_channel();
        let (started, start) = mpsc::channel();
        let work = move || {
            let ready = namespace.map_or(Ok(()), |namespace| namespace.enter()).and_then(|()| {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                runtime.enable_all().build().map_err(KernelError::Thread)
            });
            match ready {
                Ok(runtime) => {
                    let _ = started.send(Ok(()));
                    runtime.block_on(drive(inbox, on_change));
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

async fn drive(mut inbox: UnboundedReceiver<Command>, mut on_change: impl FnMut(Change)) {
    let mut machine = Machine::default();
    let mut running: JoinSet<(RealKey, Serial, Result<(), Failure>)> = JoinSet::new();
    let mut starts = Vec::new();
    loop {
        machine.tick(Instant::now(), &mut starts);
        for start in starts.drain(..) {
            running.spawn(async move { (start.key, start.serial, check::run(&start.check).await) });
        }
        let deadline = machine.deadline();
        let sleep = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = inbox.recv() => match command {
                Some(Command::Targets(targets)) => machine.set_targets(Instant::now(), targets),
                Some(Command::List(answer)) => drop(answer.send(machine.list())),
                None => return,
            },
            Some(Ok((key, serial, result))) = running.join_next() => {
                if let Some(change) = machine.result(Instant::now(), key, serial, result) {
                    on_change(change);
                }
            }
            () = sleep => {}
        }
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;

//! Every process that the director starts: forked from one that is none of it.
//!
//! The starter is forked first of all, when the director has no packet memory, no sockets, no threads and no secrets, and keeps the right
//! to become other users, which the director gives up. It starts what it is told to, with `/dev/null` in the standard places, a small
//! environment ([`environment`]) and nothing else, and takes in what its children leave behind. Its connection to the director ends
//! when the director does, however that ends: then it kills everything that is left, and ends too.

pub mod environment;
mod order;
pub mod secure;
mod serve;

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::threads::channel::{Receiver, Sender, channel};
use order::{Order, Report};

/// How long the end of the director waits for that of the starter, which kills what is left.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks.
const END_PERIOD: Duration = Duration::from_millis(2);

/// A program to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its command: where it is or its name, and its arguments.
    pub command: Vec<String>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// The numbers of its user and group; none for the director's own.
    pub user: Option<(u32, u32)>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum End {
    /// By itself, with this exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// There is no such program, in words.
    NotStarted(String),
    /// The system refused to start it, in words, with the number of its error.
    Refused(String, i32),
    /// The starter has ended, or cannot be reached.
    NoStarter,
}

/// The starter, as the director sees it.
#[derive(Debug)]
pub struct Starter {
    pid: Pid,
    connection: UnixStream,
    next: AtomicU64,
    waiting: Mutex<Option<Waiting>>,
    ending: AtomicBool,
    /// To the thread that hands them to the starter, which may have many before them.
    orders: Sender<Order>,
}

/// Who waits for which process; none of it once the starter has ended.
type Waiting = HashMap<u64, Waiter>;

#[derive(Debug)]
struct Waiter {
    /// Until it runs.
    started: Option<oneshot::Sender<()>>,
    ended: oneshot::Sender<End>,
}

/// A process that was ordered. Dropping it kills it, and all of its group and its descendants, unless it has ended.
#[derive(Debug)]
pub struct Process {
    number: u64,
    start: oneshot::Receiver<()>,
    end: oneshot::Receiver<End>,
    starter: Arc<Starter>,
    ended: bool,
}

/// The starter of this process.
static STARTER: OnceLock<Arc<Starter>> = OnceLock::new();

impl Starter {
    /// The starter of this process, forked now if it was not before. `shunt run` asks for it first of all.
    ///
    /// # Errors
    /// The system's, of fork(2), and when there is no thread to be had.
    pub fn of_this_process() -> io::Result<Arc<Self>> {
        if let Some(starter) = STARTER.get() {
            return Ok(starter.clone());
        }
        static FORKING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(starter) = STARTER.get() {
            return Ok(starter.clone());
        }
        let starter = Self::fork()?;
        Ok(STARTER.get_or_init(|| starter).clone())
    }

    fn fork() -> io::Result<Arc<Self>> {
        let (pid, connection) = dpdk_sys::process::fork(serve::serve)?;
        let (reports, told) = (connection.try_clone()?, connection.try_clone()?);
        let (orders, inbox) = channel();
        let waiting = Mutex::new(Some(HashMap::new()));
        let (next, ending) = (AtomicU64::new(0), AtomicBool::new(false));
        let starter = Arc::new(Self { pid, connection, next, waiting, ending, orders });
        let listener = starter.clone();
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        thread("shunt-starter").spawn(move || {
            crate::rights::give_up_all();
            listener.listen(reports);
        })?;
        thread("shunt-orders").spawn(move || {
            crate::rights::give_up_all();
            hand_over(&inbox, &told);
        })?;
        Ok(starter)
    }

    /// Keeps what is started from now on away from these cores, unless there are no others.
    pub fn avoid(&self, cores: impl IntoIterator<Item = u16>) {
        let _ = self.send(Order::Avoid { cores: cores.into_iter().collect() });
    }

    /// Orders a program to be started, and does not wait for that.
    pub fn start(self: &Arc<Self>, program: Program) -> Process {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let ((started, start), (ended, end)) = (oneshot::channel(), oneshot::channel());
        let process = Process { number, start, end, starter: self.clone(), ended: false };
        if let Some(waiting) = &mut *self.waiting() {
            waiting.insert(number, Waiter { started: Some(started), ended });
        }
        let Program { command, environment, user } = program;
        if self.send(Order::Start { number, command, environment, user }).is_err() {
            self.ended(number, End::NoStarter);
        }
        process
    }

    /// Ends the starter and all that it started, and waits for that.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        let _ = self.connection.shutdown(Shutdown::Both);
        let deadline = Instant::now() + END_PATIENCE;
        while matches!(waitpid(self.pid, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive)) {
            if Instant::now() > deadline {
                tracing::warn!("processes that the director started did not end within {END_PATIENCE:?}");
                return;
            }
            std::thread::sleep(END_PERIOD);
        }
    }

    fn send(&self, order: Order) -> Result<(), NoStarter> {
        if self.waiting().is_none() {
            return Err(NoStarter);
        }
        self.orders.send(order).map_err(|_| NoStarter)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn started(&self, number: u64) {
        let mut waiting = self.waiting();
        let waiter = waiting.as_mut().and_then(|waiting| waiting.get_mut(&number));
        // Whoever ordered it may have gone.
        let _ = waiter.and_then(|waiter| waiter.started.take()).map(|started| started.send(()));
    }

    fn ended(&self, number: u64, end: End) {
        let waiter = self.waiting().as_mut().and_then(|waiting| waiting.remove(&number));
        let _ = waiter.map(|waiter| waiter.ended.send(end));
    }

    /// Tells of processes until the end of the starter.
    fn listen(&self, reports: UnixStream) {
        for line in BufReader::new(reports).lines() {
            let Ok(line) = line else { break };
            match serde_json::from_str(&line) {
                Ok(Report::Started { number }) => self.started(number),
                Ok(Report::Ended { number, end }) => self.ended(number, end),
                Err(_) => {}
            }
        }
        // Nobody is told of theirs any more. At the end of the director that is as it should be.
        if !self.ending.load(Ordering::Relaxed) {
            tracing::error!(
                "the process that starts scripts has ended: no script runs any more: restart the director"
            );
        }
        *self.waiting() = None;
    }
}

/// The starter has ended.
struct NoStarter;

/// Hands orders to the starter until either has ended.
fn hand_over(orders: &Receiver<Order>, mut starter: &UnixStream) {
    while let Ok(order) = orders.recv_timeout(Duration::MAX) {
        let Ok(mut line) = serde_json::to_vec(&order) else { continue };
        line.push(b'\n');
        if starter.write_all(&line).is_err() {
            return;
        }
    }
}

impl Process {
    /// Waits until it runs, or cannot be started: the starter may have much to do.
    pub async fn started(&mut self) {
        let _ = (&mut self.start).await;
    }

    /// Kills it and all that it started, and waits until it is gone.
    pub async fn kill(&mut self) {
        if !self.ended && self.starter.send(Order::Kill { number: self.number }).is_ok() {
            self.end().await;
        }
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> End {
        let end = (&mut self.end).await;
        self.ended = true;
        end.unwrap_or(End::NoStarter)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            self.starter.ended(self.number, End::Signal(nix::libc::SIGKILL));
            let _ = self.starter.send(Order::Kill { number: self.number });
        }
    }
}

#[cfg(test)]
mod tests;

//! The starter itself: one thread, which waits for orders and for the ends of its children.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::End;
use super::order::{Order, Report};
use super::secure;

/// How long what was killed at the end may take to be gone; a process that waits for a dead disk may take for ever.
const KILL_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked for, in milliseconds.
const KILL_PERIOD: u8 = 5;
/// Bytes that are read at once.
const READ_MAX: usize = 1 << 16;

/// What runs.
#[derive(Default)]
struct Children {
    /// The processes that were ordered, by the number of the order.
    running: HashMap<u64, Pid>,
    numbers: HashMap<Pid, u64>,
}

/// Serves the director until it is gone, then kills what is left.
pub(super) fn serve(mut connection: UnixStream) {
    let Ok(signals) = prepare() else { return };
    let mut children = Children::default();
    // Nobody reads reports any more when this fails.
    let _ = obey(&mut connection, &signals, &mut children);
    drop(connection);
    kill_all(&signals);
}

/// The ends of children come as a descriptor; what they leave behind comes here.
fn prepare() -> nix::Result<SignalFd> {
    let _ = prctl::set_name(c"shunt-starter");
    prctl::set_child_subreaper(true)?;
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGCHLD);
    ends.thread_set_mask()?;
    SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

fn obey(connection: &mut UnixStream, signals: &SignalFd, children: &mut Children) -> io::Result<()> {
    let mut received = Vec::new();
    loop {
        wait(connection.as_fd(), signals.as_fd(), PollTimeout::NONE)?;
        while let Ok(Some(_)) = signals.read_signal() {}
        children.reap(connection)?;
        if !readable(connection.as_fd())? {
            continue;
        }
        let mut buffer = [0; READ_MAX];
        let read = connection.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        received.extend_from_slice(&buffer[..read]);
        while let Some(end) = received.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = received.drain(..=end).collect();
            if let Ok(order) = serde_json::from_slice(&line) {
                children.obey(order, connection)?;
            }
        }
    }
}

fn wait(connection: BorrowedFd<'_>, signals: BorrowedFd<'_>, time: PollTimeout) -> io::Result<()> {
    let mut descriptors = [connection, signals].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match poll(&mut descriptors, time) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn readable(connection: BorrowedFd<'_>) -> io::Result<bool> {
    let mut descriptors = [PollFd::new(connection, PollFlags::POLLIN)];
    Ok(poll(&mut descriptors, PollTimeout::ZERO)? > 0)
}

impl Children {
    fn obey(&mut self, order: Order, connection: &mut UnixStream) -> io::Result<()> {
        match order {
            Order::Start { number, command, environment, user } => match start(&command, environment, user) {
                Ok(pid) => {
                    self.running.insert(number, pid);
                    self.numbers.insert(pid, number);
                    report(connection, &Report::Started { number })?;
                }
                Err(end) => report(connection, &Report::Ended { number, end })?,
            },
            Order::Kill { number } => {
                // One that has ended meanwhile is not there any more.
                if let Some(pid) = self.running.get(&number) {
                    kill_with_descendants(*pid);
                }
            }
            Order::Avoid { cores } => avoid(&cores),
        }
        Ok(())
    }

    /// Takes in all that ended: what was ordered, which is reported, and what that left behind.
    fn reap(&mut self, connection: &mut UnixStream) -> io::Result<()> {
        loop {
            let (pid, end) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, End::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, End::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => return Ok(()),
                Ok(_) => continue,
            };
            if let Some(number) = self.numbers.remove(&pid) {
                self.running.remove(&number);
                report(connection, &Report::Ended { number, end })?;
            }
        }
    }
}

fn start(
    command: &[String],
    environment: Vec<(String, String)>,
    user: Option<(u32, u32)>,
) -> Result<Pid, End> {
    let none = |why: String| End::NotStarted(why);
    let (name, arguments) = command.split_first().ok_or_else(|| none("there is no command".into()))?;
    let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_str());
    let path = secure::find(name, path.unwrap_or_default())
        .ok_or_else(|| none(format!("{name}: no such file in the folders of PATH")))?;
    let program = dpdk_sys::process::Program {
        path,
        arguments: arguments.to_vec(),
        environment: environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        user,
    };
    dpdk_sys::process::start(&program).map_err(|error| {
        let why = format!("{name}: {error}");
        error.raw_os_error().map_or_else(|| none(why.clone()), |number| End::Refused(why.clone(), number))
    })
}

fn report(connection: &mut UnixStream, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    connection.write_all(&line)
}

/// Its own cores without these, if any are left.
fn avoid(cores: &[u16]) {
    let own = Pid::from_raw(0);
    let Ok(before) = sched_getaffinity(own) else { return };
    let mut after = CpuSet::new();
    let left = (0..CpuSet::count()).filter(|core| before.is_set(*core) == Ok(true));
    let left: BTreeSet<usize> =
        left.filter(|core| !cores.iter().any(|taken| usize::from(*taken) == *core)).collect();
    if !left.is_empty() && left.iter().all(|core| after.set(*core).is_ok()) {
        let _ = sched_setaffinity(own, &after);
    }
}

/// The children of a process; none when it has none, or is not there.
fn children_of(pid: Pid) -> Vec<Pid> {
    let mut children = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        match std::fs::read_to_string(thread.path().join("children")) {
            Ok(text) => {
                let numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
                children.extend(numbers.map(Pid::from_raw));
            }
            // A kernel without CONFIG_PROC_CHILDREN.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return searched_children_of(pid),
            Err(_) => {}
        }
    }
    children
}

fn searched_children_of(parent: Pid) -> Vec<Pid> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // proc(5): the number, the name in parentheses, the state, the parent.
    let parent_of = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    numbers.filter(|pid| parent_of(pid) == Some(parent.as_raw())).map(Pid::from_raw).collect()
}

/// Those that left its group too, as long as their parents are there.
fn kill_with_descendants(pid: Pid) {
    let mut all = vec![pid];
    let mut place = 0;
    while let Some(pid) = all.get(place) {
        // Nothing new begins meanwhile.
        let _ = kill(*pid, Signal::SIGSTOP);
        all.extend(children_of(*pid));
        place += 1;
    }
    let _ = killpg(pid, Signal::SIGKILL);
    for pid in all {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

/// Kills all children. Theirs become the starter's, and are killed in the next round, until there are none.
fn kill_all(signals: &SignalFd) {
    let own = nix::unistd::getpid();
    let deadline = Instant::now() + KILL_PATIENCE;
    loop {
        for child in children_of(own) {
            kill_with_descendants(child);
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(_none_left) => return,
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) => {}
            }
        }
        if Instant::now() > deadline {
            return;
        }
        let _ = wait(signals.as_fd(), signals.as_fd(), KILL_PERIOD.into());
        while let Ok(Some(_)) = signals.read_signal() {}
    }
}

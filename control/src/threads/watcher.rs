//! The thread that watches the others. It has no lock in common with any of them, so that none that hangs can hold it up.
//!
//! Late threads are told of. When one hangs or is dead that the director cannot go on without, the virtual routers are given up, which other
//! directors hear at once, and the process ends, so that its supervisor starts it anew. An end that was asked for comes about too.

use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::judge::{Judge, Reading, TURN, Verdict};
use super::look::{self, CpuTime};
use super::{ALL, Life, Thread, notify_socket};
use crate::signals;

/// How the process ends when a thread hangs or has died.
pub const EXIT_HANGS: i32 = 3;
/// How long the end may take that was asked for.
pub const END_MAX: Duration = Duration::from_secs(10);
/// How long main may take to begin it.
const BEGIN_MAX: Duration = Duration::from_secs(2);
/// How long the farewell of the virtual routers may take to leave.
const FAREWELL: Duration = Duration::from_millis(300);
/// Its priority among real-time threads, where the system allows one: above all others of the director, since it does nearly nothing.
const REAL_TIME_PRIORITY: u8 = 20;
const NAME: &str = "shunt-watch";

type GiveUp = Box<dyn Fn(&[String]) + Send + Sync>;
type Tell = Box<dyn Fn(&str, bool, String) + Send + Sync>;

/// What the watcher does through others. None of these waits.
pub struct Hooks {
    /// Gives the virtual routers up; the names are those of the threads that do not go on.
    pub give_up: GiveUp,
    /// Tells of a thread that is late (true), or goes on again.
    pub tell: Tell,
}

static HOOKS: OnceLock<Hooks> = OnceLock::new();
static PANICKED: OnceLock<String> = OnceLock::new();
/// The end has begun: threads end, and are not watched any more.
static ENDING: AtomicBool = AtomicBool::new(false);
/// How long a backup of the slowest virtual router waits, in milliseconds.
static PATIENCE: AtomicU64 = AtomicU64::new(0);

/// Who hangs is acted upon through these from now on.
pub fn act_through(hooks: Hooks) {
    let _ = HOOKS.set(hooks);
}

/// How long a backup of the slowest virtual router waits for its master.
pub fn set_patience(patience: Duration) {
    PATIENCE.store(patience.as_millis() as u64, Ordering::Relaxed);
}

/// The end has begun.
pub fn ending() {
    ENDING.store(true, Ordering::Relaxed);
}

/// Starts the thread, and ends the process when any thread panics. `flush` waits for log lines to be written, and is false when they were not.
///
/// # Errors
/// When there is no thread to be had.
pub fn start(flush: impl Fn() -> bool + Send + 'static) -> std::io::Result<()> {
    std::panic::set_hook(Box::new(panicked));
    let work = move || {
        // Without the right to it, it is one among others.
        let _ = dpdk_sys::thread::real_time(REAL_TIME_PRIORITY);
        Watcher {
            flush: Box::new(flush),
            judge: Judge::default(),
            cpu: HashMap::new(),
            asked: None,
            gave_up: false,
        }
        .run();
    };
    thread::Builder::new().name(NAME.to_owned()).spawn(work).map(drop)
}

/// Takes note of a panic; what is left of the process is not used any longer than its farewell takes.
fn panicked(info: &PanicHookInfo<'_>) {
    let current = thread::current();
    let name = current.name().unwrap_or("a thread without a name");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason");
    let line = format!("{name} panicked at {place}: {text}");
    match std::backtrace::Backtrace::capture() {
        trace if trace.status() == std::backtrace::BacktraceStatus::Captured => {
            tracing::error!("{line}\n{trace}");
        }
        _ => tracing::error!("{line}"),
    }
    if PANICKED.set(line.clone()).is_ok() && name == NAME {
        end_now(&format!("{line}: nobody watches the other threads any more: the director ends"));
    }
}

struct Watcher {
    flush: Box<dyn Fn() -> bool + Send>,
    judge: Judge,
    /// CPU time of silent threads at the last turn.
    cpu: HashMap<i32, CpuTime>,
    /// Since when the end is asked for.
    asked: Option<Instant>,
    gave_up: bool,
}

impl Watcher {
    fn run(mut self) {
        let mut last = Instant::now();
        let mut fed = last;
        let watchdog = notify_socket::watchdog().map(|every| every / 2);
        loop {
            thread::sleep(TURN);
            let now = Instant::now();
            let elapsed = now - std::mem::replace(&mut last, now);
            if let Some(line) = PANICKED.get() {
                self.end(line);
            }
            self.see_to_the_end(now);
            signals::tell_ignored();
            let fresh = ENDING.load(Ordering::Relaxed) || self.look(elapsed);
            if fresh && watchdog.is_some_and(|every| now - fed >= every.min(Duration::from_secs(1))) {
                fed = now;
                notify_socket::tell("WATCHDOG=1");
            }
        }
    }

    /// An end that was asked for comes about, whatever hangs.
    fn see_to_the_end(&mut self, now: Instant) {
        let ending = ENDING.load(Ordering::Relaxed);
        if !ending && signals::end_asked().is_none() {
            return;
        }
        let asked = *self.asked.get_or_insert(now);
        if now - asked >= BEGIN_MAX && !ending {
            self.give_up(&["main".to_owned()]);
        }
        if now - asked >= END_MAX {
            let beats =
                || ALL.load().iter().map(|thread| (thread.name.clone(), beats(thread))).collect::<Vec<_>>();
            let before = beats();
            thread::sleep(2 * super::BEAT);
            let now = beats();
            let silent = now.into_iter().filter(|known| before.contains(known)).map(|(name, _)| name);
            let silent = silent.collect::<Vec<_>>().join(", ");
            self.end(&format!("the end takes longer than {END_MAX:?}: these threads do not go on: {silent}"));
        }
    }

    /// Looks at all threads; false when one is late that the director cannot be without for long.
    fn look(&mut self, elapsed: Duration) -> bool {
        let threads = ALL.load_full();
        let readings: Vec<Reading> = threads.iter().map(|thread| self.read(thread)).collect();
        let patience = Duration::from_millis(PATIENCE.load(Ordering::Relaxed));
        let verdicts = self.judge.look(elapsed, patience, &readings);
        let name = |id: i32| threads.iter().find(|thread| thread.id == id).map_or("?", |thread| &thread.name);
        let tell = |name: &str, late: bool, text: &str| {
            if let Some(hooks) = HOOKS.get() {
                (hooks.tell)(name, late, text.to_owned());
            }
        };
        let mut fatal = None;
        for verdict in verdicts {
            match verdict {
                Verdict::Late(id, silent, doing) => {
                    let (name, words) = (name(id), doing.words());
                    let text = format!("thread {name} has not gone on for {}: {words}", seconds(silent));
                    tracing::error!("{text}");
                    tell(name, true, &text);
                }
                Verdict::Again(id, silent) => {
                    let name = name(id);
                    let text = format!("thread {name} goes on again, after {}", seconds(silent));
                    tracing::warn!("{text}");
                    tell(name, false, &text);
                }
                Verdict::Hangs(id, silent, doing) => {
                    let words = doing.words();
                    fatal =
                        Some(format!("thread {} has not gone on for {}: {words}", name(id), seconds(silent)));
                }
                Verdict::Dead(id) => fatal = Some(format!("thread {} has ended by itself", name(id))),
            }
        }
        let mut fresh = true;
        for thread in threads.iter() {
            let late = self.judge.is_late(thread.id);
            let silent = if late { self.judge.silent(thread.id).as_millis() as u64 } else { 0 };
            thread.late.store(silent, Ordering::Relaxed);
            fresh &= !late || thread.duty == super::Duty::Tells;
        }
        if let Some(line) = fatal {
            self.end(&line);
        }
        fresh
    }

    fn read(&mut self, thread: &Arc<Thread>) -> Reading {
        let beats =
            thread.count.as_ref().map_or_else(|| thread.beats.load(Ordering::Relaxed), |count| count());
        let silent = self.judge.silent(thread.id) > Duration::ZERO;
        let doing = if silent {
            let (doing, time) = look::at(thread.id, self.cpu.get(&thread.id).copied());
            self.cpu.extend(time.map(|time| (thread.id, time)));
            doing
        } else {
            self.cpu.remove(&thread.id);
            super::judge::Doing::Unknown
        };
        let dead = thread.life.load(Ordering::Acquire) == Life::Dead as u8;
        Reading { id: thread.id, duty: thread.duty, beats, dead, doing }
    }

    fn give_up(&mut self, silent: &[String]) {
        if !std::mem::replace(&mut self.gave_up, true) {
            if let Some(hooks) = HOOKS.get() {
                (hooks.give_up)(silent);
                thread::sleep(FAREWELL);
            }
        }
    }

    /// Gives the virtual routers up and ends the process.
    fn end(&mut self, why: &str) -> ! {
        let line = format!("{why}: the director gives its virtual routers up and ends with {EXIT_HANGS}");
        tracing::error!("{line}");
        notify_socket::tell(&format!("STOPPING=1\nSTATUS={why}"));
        let silent = |thread: &Arc<Thread>| {
            self.judge.silent(thread.id) >= super::judge::TURN_MAX
                || thread.life.load(Ordering::Acquire) == Life::Dead as u8
        };
        let silent: Vec<String> =
            ALL.load().iter().filter(|thread| silent(thread)).map(|thread| thread.name.clone()).collect();
        self.give_up(&silent);
        if !(self.flush)() {
            last_words(&line);
        }
        dpdk_sys::thread::exit_now(EXIT_HANGS)
    }
}

/// How often a thread has gone on.
fn beats(thread: &Thread) -> u64 {
    thread.count.as_ref().map_or_else(|| thread.beats.load(Ordering::Relaxed), |count| count())
}

/// As operators read it.
fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f32())
}

/// Ends the process at once: something hangs that nothing else ends.
pub(crate) fn end_now(line: &str) -> ! {
    last_words(line);
    dpdk_sys::thread::exit_now(EXIT_HANGS)
}

/// Says it on standard error, past the thread of the log, where that can be written to at once.
fn last_words(line: &str) {
    let error = std::io::stderr();
    let mut fds = [PollFd::new(error.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
    if ready {
        let _ = nix::unistd::write(&error, format!("{line}\n").as_bytes());
    }
}

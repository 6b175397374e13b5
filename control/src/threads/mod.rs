//! The director's threads: each says again and again that it goes on ([`Pulse`]), and who falls silent is found out: [`judge`] decides,
//! [`watcher`] acts.

pub mod channel;
pub mod judge;
mod look;
mod notify_socket;
pub mod watcher;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;

pub use notify_socket::{monotonic_us, tell as tell_supervisor};

/// How often threads that wait for something say that they go on.
pub const BEAT: Duration = Duration::from_millis(250);

/// What a thread is there for, which says how long the director may go without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It moves packets or adverts.
    Forwards,
    /// It decides what holds: configuration, real servers, who is asked.
    Decides,
    /// It tells others, or runs what is not the director's own.
    Tells,
}

/// Where a thread stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Runs = 0,
    /// It ended without being told to.
    Dead = 1,
}

/// A thread that is watched.
pub struct Thread {
    name: String,
    id: i32,
    duty: Duty,
    beats: AtomicU64,
    /// What it counts by itself, in the place of `beats`.
    count: Option<Box<dyn Fn() -> u64 + Send + Sync>>,
    life: AtomicU8,
    /// Milliseconds of silence, when it is late. Written by the watcher.
    late: AtomicU64,
}

/// All threads; read without a lock.
static ALL: LazyLock<ArcSwap<Vec<Arc<Thread>>>> = LazyLock::new(ArcSwap::default);

/// A thread's sign of life. Dropping it without [`Pulse::done`] says that the thread ended and was not meant to.
pub struct Pulse {
    thread: Arc<Thread>,
    done: bool,
    #[cfg(debug_assertions)]
    fault: Option<std::time::Instant>,
}

impl Pulse {
    /// The calling thread is watched from now on; it has to [`Self::beat`].
    #[must_use]
    pub fn start(name: &str, duty: Duty) -> Self {
        Self::watched(name, duty, None)
    }

    /// The same for a thread that counts what it does anyway.
    #[must_use]
    pub fn counting(name: &str, duty: Duty, count: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self::watched(name, duty, Some(Box::new(count)))
    }

    fn watched(name: &str, duty: Duty, count: Option<Box<dyn Fn() -> u64 + Send + Sync>>) -> Self {
        let thread = Arc::new(Thread {
            name: name.to_owned(),
            id: nix::unistd::gettid().as_raw(),
            duty,
            beats: AtomicU64::new(0),
            count,
            life: AtomicU8::new(Life::Runs as u8),
            late: AtomicU64::new(0),
        });
        ALL.rcu(|all| {
            let mut all = Vec::clone(all);
            all.push(thread.clone());
            all
        });
        Self {
            thread,
            done: false,
            #[cfg(debug_assertions)]
            fault: fault(name).map(|after| std::time::Instant::now() + after),
        }
    }

    /// The thread goes on.
    pub fn beat(&self) {
        self.thread.beats.fetch_add(1, Ordering::Relaxed);
        #[cfg(debug_assertions)]
        if self.fault.is_some_and(|at| std::time::Instant::now() >= at) {
            panic!("the fault that was asked for");
        }
    }

    /// Beats for as long as `work` goes on.
    pub async fn over<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut beats = tokio::time::interval(BEAT);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = beats.tick() => self.beat(),
            }
        }
    }

    /// The thread ends as it should.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if self.done {
            ALL.rcu(|all| {
                all.iter().filter(|thread| !Arc::ptr_eq(thread, &self.thread)).cloned().collect::<Vec<_>>()
            });
        } else {
            self.thread.life.store(Life::Dead as u8, Ordering::Release);
        }
    }
}

/// For how long the threads have been silent that are late, with their names.
#[must_use]
pub fn late() -> Vec<(String, Duration)> {
    let late = |thread: &Arc<Thread>| {
        let late = thread.late.load(Ordering::Relaxed);
        (late > 0).then(|| (thread.name.clone(), Duration::from_millis(late)))
    };
    ALL.load().iter().filter_map(late).collect()
}

/// When a thread of this name is to panic (`SHUNT_FAULT="NAME:SECONDS"`), for tests of programs that are not built for release.
#[cfg(debug_assertions)]
#[must_use]
pub fn fault(name: &str) -> Option<Duration> {
    let asked = std::env::var("SHUNT_FAULT").ok()?;
    let (of, seconds) = asked.rsplit_once(':')?;
    (of == name).then(|| seconds.parse().ok().map(Duration::from_secs_f32)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<String> {
        ALL.load().iter().map(|thread| thread.name.clone()).collect()
    }

    #[test]
    fn who_ends_without_being_told_to_is_dead_and_who_is_done_is_forgotten() {
        let (done, dead) = (Pulse::start("test done", Duty::Tells), Pulse::start("test dead", Duty::Tells));
        let thread = dead.thread.clone();
        done.done();
        drop(dead);
        assert!(!all().contains(&"test done".to_owned()) && all().contains(&"test dead".to_owned()));
        assert_eq!(thread.life.load(Ordering::Relaxed), Life::Dead as u8);
        ALL.rcu(|all| all.iter().filter(|known| !Arc::ptr_eq(known, &thread)).cloned().collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn it_beats_while_work_waits() {
        let pulse = Pulse::start("test beats", Duty::Tells);
        pulse.over(tokio::time::sleep(BEAT * 2)).await;
        assert!(pulse.thread.beats.load(Ordering::Relaxed) >= 2);
        pulse.done();
    }
}

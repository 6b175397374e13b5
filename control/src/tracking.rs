//! Checks that virtual routers depend on: scripts, gateways, whatever a health check can ask.
//!
//! Each goes round by itself, and its results are judged as those of real servers are; what it comes to is told when
//! it changes.

use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use hashbrown::HashMap;
use shunt_model::health::{Check, Failure, Success};
use shunt_model::vrrp::Reading;
use shunt_protocol::health::judge::{Judge, Rules};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval};

use crate::health::Lacks;
use crate::health::check::{self, Tools};
use crate::health::scripts::Scripts;
use crate::kernel::{KernelError, Namespace, ServiceWays};
use crate::threads::{Duty, Pulse};

/// A check with the name that virtual routers know it by.
pub type Watch = (String, Arc<Check>);

/// A check came to another result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its name.
    pub name: String,
    /// How it stands now.
    pub reading: Reading,
    /// Why, in words.
    pub reason: String,
}

/// Running checks. Dropping it ends them and waits for their thread.
pub struct Tracking {
    watches: Option<UnboundedSender<Vec<Watch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Tracking {
    /// Starts the thread, without checks. Their sockets are opened in `namespace`, or where the process is when there is
    /// none; scripts run where the caller is. `on_turn` is called on that thread and must not block.
    ///
    /// # Errors
    /// [`KernelError`] when the namespace cannot be entered or there is no thread to be had.
    pub fn start(
        namespace: Option<Namespace>,
        lacks: Arc<Lacks>,
        on_turn: impl Fn(Turn) + Send + 'static,
    ) -> Result<Self, KernelError> {
        let scripts = Scripts::start()?;
        let (watches, inbox) = unbounded_channel();
        let (started, start) = mpsc::channel();
        let work = move || {
            let ready = namespace.map_or(Ok(()), |namespace| namespace.enter()).and_then(|()| {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                runtime.enable_all().build().map_err(KernelError::Thread)
            });
            match ready {
                Ok(runtime) => {
                    crate::rights::give_up_all();
                    let _ = started.send(Ok(()));
                    let pulse = Pulse::start("shunt-tracking", Duty::Decides);
                    let tools = Arc::new(Tools::new(scripts, ServiceWays::default(), lacks));
                    let work = drive(inbox, tools, Arc::new(on_turn));
                    LocalSet::new().block_on(&runtime, pulse.over(work));
                    pulse.done();
                }
                Err(error) => drop(started.send(Err(error))),
            }
        };
        let thread = thread::Builder::new().name("shunt-tracking".to_owned()).spawn(work);
        let thread = thread.map_err(KernelError::Thread)?;
        start.recv().unwrap_or_else(|_| Err(KernelError::Thread(std::io::Error::other("it ended early"))))?;
        Ok(Self { watches: Some(watches), thread: Some(thread) })
    }

    /// Makes these checks from now on. One that stays as it is goes on; one that is new or different counts as failing
    /// until it has passed.
    pub fn set(&self, watches: Vec<Watch>) {
        if let Some(sender) = &self.watches {
            // The thread ends only after this sender.
            let _ = sender.send(watches);
        }
    }
}

impl Drop for Tracking {
    fn drop(&mut self) {
        self.watches = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn drive(mut inbox: UnboundedReceiver<Vec<Watch>>, tools: Arc<Tools>, on_turn: Arc<dyn Fn(Turn)>) {
    let mut running: HashMap<String, (Arc<Check>, AbortHandle)> = HashMap::new();
    let keeper = tools.clone();
    spawn_local(async move { keeper.keep_time().await });
    while let Some(watches) = inbox.recv().await {
        tools.forget();
        let mut before = std::mem::take(&mut running);
        for (name, check) in watches {
            let kept = before.remove(&name).filter(|(old, _)| *old == check);
            let kept = kept.unwrap_or_else(|| {
                let round = go_round(name.clone(), check.clone(), tools.clone(), on_turn.clone());
                (check, spawn_local(round).abort_handle())
            });
            running.insert(name, kept);
        }
        for (name, (_, task)) in before {
            task.abort();
            if !running.contains_key(&name) {
                let reason = "it is not configured any more".to_owned();
                on_turn(Turn { name, reading: Reading::Fails, reason });
            }
        }
    }
}

/// Makes a check again and again.
async fn go_round(name: String, check: Arc<Check>, tools: Arc<Tools>, on_turn: Arc<dyn Fn(Turn)>) {
    let rules = Rules { fall: check.fall, rise: check.rise, reentry: check.reentry };
    // It fails until it has passed, and its first success is enough.
    let mut judge = Judge::new(rules, false);
    let mut beat = interval(check.interval);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut passing) = (None, Reading::Passes);
    loop {
        beat.tick().await;
        let result = check::run(None, &check, &tools).await;
        if result.as_ref().is_err_and(|failure| failure.lack().is_some()) {
            continue;
        }
        judge.hear(Instant::now(), result.is_ok());
        match result {
            Ok(Success::Shift(shift)) => passing = Reading::Shift(shift),
            Ok(_) => passing = Reading::Passes,
            // As long as it counts as passing the last number holds.
            Err(_) => {}
        }
        let reading = if judge.is_up() { passing } else { Reading::Fails };
        if told.replace(reading) != Some(reading) {
            on_turn(Turn { name: name.clone(), reading, reason: words(&check, &result) });
        }
    }
}

fn words(check: &Check, result: &Result<Success, Failure>) -> String {
    match result {
        Ok(Success::Shift(shift)) => format!("{shift:+} for the priority"),
        Ok(_) => check.kind.success(),
        Err(failure) => check.kind.failure(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_model::script::Script;
    use std::net::SocketAddr;
    use std::time::Duration;

    use shunt_model::health::CheckKind;

    fn script(text: &str) -> Arc<Check> {
        let command = vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()];
        Arc::new(Check {
            kind: CheckKind::Script { script: Script { command, user: None }, dynamic: false },
            to: SocketAddr::from(([0, 0, 0, 0], 0)),
            way: None,
            from: None,
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(10),
            retry_interval: None,
            warmup: Duration::ZERO,
            fall: 2,
            rise: 1,
            reentry: Duration::ZERO,
            alpha: false,
        })
    }

    #[test]
    fn turns_are_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("good");
        std::fs::write(&file, "").unwrap();
        let (sender, turns) = mpsc::channel();
        let tracking = Tracking::start(None, Arc::default(), move |turn| drop(sender.send(turn))).unwrap();
        let watches =
            |text: String| vec![("GOOD".to_owned(), script(&text)), ("BAD".to_owned(), script("exit 3"))];
        let there = format!("test -e {}", file.display());
        tracking.set(watches(there.clone()));
        let next = || turns.recv_timeout(Duration::from_secs(30)).unwrap();
        let mut first = [next(), next()].map(|turn| (turn.name, turn.reading == Reading::Passes));
        first.sort();
        assert_eq!(first, [("BAD".to_owned(), false), ("GOOD".to_owned(), true)]);
        // The same again changes nothing.
        tracking.set(watches(there));
        std::fs::remove_file(&file).unwrap();
        let turn = next();
        assert_eq!((turn.name.as_str(), turn.reading), ("GOOD", Reading::Fails));
        assert!(turn.reason.contains('1'), "{}", turn.reason);
        tracking.set(Vec::new());
        let mut last = [next(), next()].map(|turn| turn.name);
        last.sort();
        assert_eq!(last, ["BAD", "GOOD"]);
    }

    #[test]
    fn numbers_of_a_file_are_told_as_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("load");
        let (sender, turns) = mpsc::channel();
        let tracking = Tracking::start(None, Arc::default(), move |turn| drop(sender.send(turn))).unwrap();
        let kind = CheckKind::File { path: path.clone(), factor: Some(-2), missing: Some(0) };
        tracking.set(vec![("LOAD".to_owned(), Arc::new(Check { kind, ..Check::clone(&script("")) }))]);
        let mut last = None;
        let mut next = || loop {
            // A file is empty for a moment while it is written.
            let turn = turns.recv_timeout(Duration::from_secs(30)).unwrap();
            if last.replace(turn.reading) != Some(turn.reading) && turn.reading != Reading::Fails {
                return turn.reading;
            }
        };
        assert_eq!(next(), Reading::Shift(0));
        let write = |text: &str| {
            std::fs::write(folder.path().join("new"), text).unwrap();
            std::fs::rename(folder.path().join("new"), &path).unwrap();
        };
        write("7\n");
        assert_eq!(next(), Reading::Shift(-14));
        write("-3");
        assert_eq!(next(), Reading::Shift(6));
    }
}

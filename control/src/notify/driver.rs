//! The thread that tells: a queue, a clock, scripts, sockets.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use shunt_model::notify::{Event, Settings};
use shunt_model::script::Script;
use shunt_protocol::notify::PAST_MAX;
use shunt_protocol::notify::digest::Digests;
use shunt_protocol::notify::order::{Order, Told};
use shunt_protocol::notify::past::Past;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::conditions::Book;
use super::{BEHIND_MAX, SCRIPT_TIME, STOP_PATIENCE, TOLD_MAX, mail, webhook};
use crate::health::check::tls::Connectors;
use crate::health::scripts::{Ended, Scripts};
use crate::threads::{Duty, Pulse};

/// Events that one request to the webhook has at most.
const POSTED_MAX: usize = 100;

#[derive(Debug)]
enum Message {
    Event(Event, Vec<Script>),
    Settings(Box<Settings>),
}

/// What was told, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events told.
    pub told: u64,
    /// Events lost because too many waited.
    pub lost: u64,
    /// Scripts, mails and posts that failed.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    told: AtomicU64,
    lost: AtomicU64,
    failed: AtomicU64,
}

/// What one that listens gets.
#[derive(Debug)]
pub struct Listening {
    /// What happened before, oldest first.
    pub past: Vec<Event>,
    /// Whether more happened than is remembered.
    pub incomplete: bool,
    /// What happens from now on.
    pub events: broadcast::Receiver<Event>,
}

/// Who tells the world. Dropping the last clone tells what is left, for [`STOP_PATIENCE`] at most.
#[derive(Clone, Debug)]
pub struct Notifier(Arc<Thread>);

#[derive(Debug)]
struct Thread {
    queue: Option<mpsc::Sender<Message>>,
    listeners: broadcast::Sender<Event>,
    past: Arc<Mutex<Past>>,
    book: Mutex<Book>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl Notifier {
    /// Starts the thread in the caller's network namespace.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let scripts = Scripts::start().map_err(io::Error::other)?;
        let (queue, inbox) = mpsc::channel(TOLD_MAX);
        let listeners = broadcast::Sender::new(BEHIND_MAX);
        let counters = Arc::<Counters>::default();
        let past = Arc::new(Mutex::new(Past::new(PAST_MAX)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = Work {
            settings,
            scripts,
            listeners: listeners.clone(),
            past: past.clone(),
            counters: counters.clone(),
            order: Order::default(),
            digests: Digests::default(),
            posts: VecDeque::new(),
            posting: false,
            tls: Arc::default(),
            tasks: JoinSet::new(),
        };
        let thread = thread::Builder::new().name("shunt-notify".to_owned());
        let thread = thread.spawn(move || {
            crate::rights::give_up_all();
            let pulse = Pulse::start("shunt-notify", Duty::Tells);
            runtime.block_on(pulse.over(work.run(inbox)));
            // A name server that hangs is not waited for.
            runtime.shutdown_background();
            pulse.done();
        })?;
        Ok(Self(Arc::new(Thread {
            queue: Some(queue),
            listeners,
            past,
            book: Mutex::default(),
            counters,
            thread: Some(thread),
        })))
    }

    /// Tells an event, and runs these scripts for it. Never waits: without room the event is lost and counted.
    pub fn tell(&self, event: Event, scripts: Vec<Script>) {
        let message = Message::Event(event, scripts);
        if self.0.queue.as_ref().is_none_or(|queue| queue.try_send(message).is_err()) {
            self.0.counters.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A way to tell events that keeps nothing alive.
    pub fn teller(&self) -> impl Fn(Event) + Send + Sync + 'static {
        let thread = Arc::downgrade(&self.0);
        move |event| {
            if let Some(thread) = thread.upgrade() {
                Self(thread).tell(event, Vec::new());
            }
        }
    }

    /// Tells these from now on.
    pub fn set(&self, settings: Settings) {
        if let Some(queue) = &self.0.queue {
            // With the queue full there is more to do than to change who is told; the next reload says it again.
            let _ = queue.try_send(Message::Settings(Box::new(settings)));
        }
    }

    /// Events from now on, for one that listens; with `since` (milliseconds since 1970) also what happened from then until now.
    #[must_use]
    pub fn listen(&self, since: Option<u64>) -> Listening {
        // Under the lock nothing happens between the past and what follows.
        let past = self.0.past.lock().unwrap_or_else(PoisonError::into_inner);
        let (past, incomplete) = since.map_or_else(Default::default, |since| past.since(since));
        Listening { past, incomplete, events: self.0.listeners.subscribe() }
    }

    /// The conditions that are known.
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was told, and what was not.
    #[must_use]
    pub fn report(&self) -> Report {
        let Counters { told, lost, failed } = &*self.0.counters;
        let [told, lost, failed] = [told, lost, failed].map(|counter| counter.load(Ordering::Relaxed));
        Report { told, lost, failed }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a task did.
enum Done {
    Script { subject: String, command: String, ended: Ended },
    Mail(Result<(), String>),
    Post(Result<(), String>),
}

struct Work {
    settings: Settings,
    scripts: Scripts,
    listeners: broadcast::Sender<Event>,
    past: Arc<Mutex<Past>>,
    counters: Arc<Counters>,
    order: Order,
    digests: Digests,
    posts: VecDeque<Event>,
    posting: bool,
    tls: Arc<Connectors>,
    tasks: JoinSet<Done>,
}

impl Work {
    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        loop {
            let due = self.due();
            let sleep = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(Message::Event(event, scripts)) => self.tell(&event, scripts),
                    Some(Message::Settings(settings)) => {
                        self.tls.forget();
                        self.settings = *settings;
                    }
                    None => break,
                },
                Some(Ok(done)) = self.tasks.join_next() => self.done(done),
                () = sleep => self.mail(),
            }
        }
        if self.due().is_some() {
            self.mail();
        }
        let rest = async {
            while let Some(done) = self.tasks.join_next().await {
                done.into_iter().for_each(|done| self.done(done));
            }
        };
        if timeout(STOP_PATIENCE, rest).await.is_err() {
            tracing::warn!("notifications: not all was told when the director stopped");
        }
    }

    /// When a mail is due.
    fn due(&self) -> Option<Instant> {
        let mail = self.settings.mail.as_ref()?;
        self.digests.deadline(mail.gather, mail.interval)
    }

    fn tell(&mut self, event: &Event, scripts: Vec<Script>) {
        self.counters.told.fetch_add(1, Ordering::Relaxed);
        {
            let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
            past.add(event.clone());
            // Nobody may be listening.
            let _ = self.listeners.send(event.clone());
        }
        let subject = event.subject();
        for script in scripts {
            let script = Told { script, environment: event.environment() };
            let lost = self.order.lost();
            if let Some(script) = self.order.add(&subject, script) {
                self.start(subject.clone(), script);
            }
            self.counters.lost.fetch_add(self.order.lost() - lost, Ordering::Relaxed);
        }
        if self.settings.mail.as_ref().is_some_and(|mail| mail.is_about(event.what)) {
            self.digests.add(Instant::now(), event);
        }
        if self.settings.webhook.is_some() {
            if self.posts.len() >= TOLD_MAX {
                self.posts.pop_front();
                self.counters.lost.fetch_add(1, Ordering::Relaxed);
            }
            self.posts.push_back(event.clone());
            self.post();
        }
    }

    fn start(&mut self, subject: String, told: Told) {
        let scripts = self.scripts.clone();
        self.tasks.spawn(async move {
            let command = told.script.to_string();
            let ended = scripts.run(command.clone(), told.script, told.environment, SCRIPT_TIME).await;
            Done::Script { subject, command, ended }
        });
    }

    fn mail(&mut self) {
        let Some(mail) = self.settings.mail.clone() else { return };
        let digest = self.digests.take(Instant::now());
        self.tasks.spawn(async move { Done::Mail(mail::send(&mail, &digest).await) });
    }

    /// Posts what waits, one request at a time.
    fn post(&mut self) {
        let Some(webhook) = self.settings.webhook.clone().filter(|_| !self.posting) else { return };
        let events: Vec<Event> = self.posts.drain(..self.posts.len().min(POSTED_MAX)).collect();
        if events.is_empty() {
            return;
        }
        self.posting = true;
        let tls = self.tls.clone();
        self.tasks.spawn(async move { Done::Post(webhook::post(&webhook, &events, &tls).await) });
    }

    fn done(&mut self, done: Done) {
        let failure = match done {
            Done::Script { subject, command, ended } => {
                if let Some(next) = self.order.ended(&subject) {
                    self.start(subject, next);
                }
                match ended {
                    Ended::Code(0) => None,
                    Ended::Code(code) => Some(format!("script {command}: it ended with code {code}")),
                    Ended::Signal(signal) => {
                        Some(format!("script {command}: it was ended by signal {signal}"))
                    }
                    Ended::Killed => Some(format!("script {command}: killed after {SCRIPT_TIME:?}")),
                    Ended::Lack(lack) => Some(format!("script {command}: {lack}")),
                    Ended::NotRun(why) => Some(format!("script {command}: it cannot be run: {why}")),
                }
            }
            Done::Mail(sent) => sent.err().map(|why| format!("mail: {why}")),
            Done::Post(sent) => {
                self.posting = false;
                self.post();
                sent.err().map(|why| format!("webhook: {why}"))
            }
        };
        if let Some(failure) = failure {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("notification failed: {failure}");
        }
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;

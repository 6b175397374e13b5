//! Questions to workers, and their answers. A worker answers one question at a time; whoever asks has its ends for as long as that
//! takes, which is a moment, and never while a client of the API reads.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use shunt_dataplane::id::WorkerId;
use shunt_dataplane::worker::{Answer, ConnectionView, Cursor, Question, QuestionEnds, Shared};
use tokio::sync::mpsc;

use crate::api::{Connection, Refusal};

/// How long a worker may take to answer a question, those of others before it among them.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How often answers are looked for.
const ANSWER_POLL: Duration = Duration::from_micros(500);

/// The ways to all workers.
pub(super) struct Questions {
    ends: Vec<Mutex<QuestionEnds>>,
    workers: Vec<Arc<Shared>>,
    number: AtomicU32,
    /// Nobody is asked any more: workers end.
    ended: AtomicBool,
}

impl Questions {
    /// By [`WorkerId`], both.
    pub fn new(ends: Vec<QuestionEnds>, workers: Vec<Arc<Shared>>) -> Self {
        let ends = ends.into_iter().map(Mutex::new).collect();
        Self { ends, workers, number: AtomicU32::new(0), ended: AtomicBool::new(false) }
    }

    /// Ends all questions, those that wait for an answer too.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    fn may_wait(&self, worker: WorkerId, until: Instant) -> Result<(), Refusal> {
        if self.ended.load(Ordering::Relaxed) {
            return Err(Refusal::new("the director is stopping: its workers are not asked any more"));
        }
        if Instant::now() > until {
            return Err(Refusal::new(format!(
                "worker {worker}: no answer within {ANSWER_MAX:?}: see `shunt status`"
            )));
        }
        std::thread::sleep(ANSWER_POLL);
        Ok(())
    }

    /// The ends of a worker when nobody else has them.
    fn ends(&self, worker: WorkerId, until: Instant) -> Result<MutexGuard<'_, QuestionEnds>, Refusal> {
        let none = || Refusal::new(format!("worker {worker}: there is none of that number"));
        let ends = self.ends.get(worker.index()).ok_or_else(none)?;
        loop {
            match ends.try_lock() {
                Ok(ends) => return Ok(ends),
                Err(TryLockError::Poisoned(ends)) => return Ok(PoisonError::into_inner(ends)),
                Err(TryLockError::WouldBlock) => self.may_wait(worker, until)?,
            }
        }
    }

    /// Asks a worker, and gives each answer to `each` until the last one, which says whether there is more. Must not wait for anybody.
    pub fn ask(
        &self,
        worker: WorkerId,
        question: Question,
        mut each: impl FnMut(Answer),
    ) -> Result<Option<Cursor>, Refusal> {
        let mut until = Instant::now() + ANSWER_MAX;
        let mut ends = self.ends(worker, until)?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        ends.questions.push((number, question)).map_err(|_full| {
            // It has not even taken those that were given up.
            Refusal::new(format!("worker {worker}: takes no questions: see `shunt status`"))
        })?;
        self.workers.iter().for_each(|worker| worker.wake());
        loop {
            match ends.answers.pop() {
                // What is left of a question that nobody waited for.
                Ok((of, _)) if of != number => {}
                Ok((_, Answer::Done(more))) => return Ok(more),
                Ok((_, answer)) => {
                    each(answer);
                    until = Instant::now() + ANSWER_MAX;
                }
                Err(_empty) => self.may_wait(worker, until)?,
            }
        }
    }

    /// Lists the connections of all workers into `queue`, until its other end is gone. Each piece is taken from the worker first and
    /// then given on: others are not kept waiting by who reads slowly.
    pub fn list(&self, queue: &mpsc::Sender<Result<Connection, Refusal>>) {
        for number in 0..self.ends.len() {
            let worker = WorkerId(number as u8);
            let mut from = Some(Cursor::default());
            while let Some(cursor) = from {
                let mut piece = Vec::new();
                let taken = self.ask(worker, Question::Connections(cursor), |answer| {
                    if let Answer::Connection(view) = answer {
                        piece.push(view);
                    }
                });
                for view in piece {
                    if queue.blocking_send(Ok(connection(&view, worker))).is_err() {
                        return;
                    }
                }
                match taken {
                    Ok(more) => from = more,
                    Err(refusal) => {
                        let _ = queue.blocking_send(Err(refusal));
                        break;
                    }
                }
            }
        }
    }
}

fn connection(view: &ConnectionView, worker: WorkerId) -> Connection {
    Connection {
        protocol: view.protocol.map_or_else(|| "ip".to_owned(), |protocol| protocol.to_string()),
        client: view.client,
        vip: view.vip,
        real: view.real,
        state: view.state.to_owned(),
        expires_in: view.remaining.as_duration().as_secs(),
        worker: worker.0,
        masquerade: view.masquerade,
    }
}

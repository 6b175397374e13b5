//! From the workers' counters to what the API answers.

use shunt_dataplane::counters::{Counter, PerReason, RealCounters, WorkerCounters};
use shunt_dataplane::reason::{DropReason, Evidence as Kind, Incomplete, PuntReason, Reclaimed, ReplyKind};
use shunt_dataplane::time::Tick;
use shunt_dataplane::worker::{CostCounters, Stage};

use super::status::{Books, Bucket, Cost, Count, Drops, Evidence, LastFailure, Real, StageCost, Worker};

impl Books {
    /// The books of all workers together. `held_max` is what rings and buffers can hold at most.
    #[must_use]
    pub fn total<'w>(workers: impl IntoIterator<Item = &'w WorkerCounters>, held_max: u64) -> Self {
        let mut books = Self::default();
        for worker in workers {
            let one = Self::of(worker);
            books.received += one.received;
            books.made += one.made;
            books.injected += one.injected;
            books.sent += one.sent;
            books.punted += one.punted;
            books.consumed += one.consumed;
            books.dropped += one.dropped;
        }
        let arrived = books.received + books.made + books.injected;
        let gone = books.sent + books.punted + books.consumed + books.dropped;
        books.held = arrived.wrapping_sub(gone) as i64;
        books.balanced = u64::try_from(books.held).is_ok_and(|held| held <= held_max);
        books
    }

    /// The books of one worker.
    #[must_use]
    pub fn of(worker: &WorkerCounters) -> Self {
        // What is gone is read before what arrived: a packet in between counts as held.
        let (sent, punted, consumed) = (worker.sent.get(), worker.punted.sum(), worker.consumed.get());
        let dropped = worker.dropped.sum();
        let held = worker.held();
        Self {
            sent,
            punted,
            consumed,
            dropped,
            received: worker.received.get(),
            made: worker.made.get(),
            injected: worker.injected.get(),
            held,
            balanced: held >= 0,
        }
    }
}

impl Worker {
    /// A worker's numbers; who it is (`id`, `core`, `generation`, `connections`, `capacity`) is the caller's to fill in.
    #[must_use]
    pub fn of(worker: &WorkerCounters) -> Self {
        let books = Books::of(worker);
        let (turns, idle) = (worker.turns.get(), worker.turns_idle.get());
        Self {
            received: books.received,
            sent: books.sent,
            dropped: books.dropped,
            handed_over: worker.handed_over.get(),
            taken_over: worker.taken_over.get(),
            connections_made: worker.connections_made.get(),
            datagrams_gathered: worker.gathered.get(),
            datagrams_incomplete: worker.incomplete.sum(),
            idle_per_mille: idle.saturating_mul(1000).checked_div(turns).unwrap_or(0),
            books,
            ..Self::default()
        }
    }
}

impl Cost {
    /// What a worker's turns cost; the clock (`cycles_per_second`, `cycles`) and its tables (`connections`, `capacity`) are
    /// the caller's to fill in.
    #[must_use]
    pub fn of(cost: &CostCounters) -> Self {
        // What is divided is read before what divides it.
        let sampled = Stage::ALL.iter().zip(&cost.sampled_cycles);
        let sampled = sampled
            .map(|(stage, cycles)| StageCost { stage: stage.word().to_owned(), cycles: cycles.get() })
            .collect();
        let (busy_cycles, packets) = (cost.busy_cycles.get(), cost.packets.get());
        Self {
            busy_cycles,
            packets,
            cycles_per_packet: (busy_cycles + packets / 2).checked_div(packets).unwrap_or(0),
            turns: buckets(&cost.turns),
            bursts: buckets(&cost.bursts),
            sampled,
            sampled_packets: cost.sampled_packets.get(),
            ..Self::default()
        }
    }
}

/// The buckets of powers of two that are not empty.
fn buckets(counters: &[Counter]) -> Vec<Bucket> {
    let all = counters.iter().enumerate();
    all.map(|(place, counter)| Bucket { from: 1 << place, count: counter.get() })
        .filter(|bucket| bucket.count > 0)
        .collect()
}

impl Real {
    /// Fills in what the workers count for a real server.
    #[must_use]
    pub fn counted(self, counters: &RealCounters) -> Self {
        Self {
            connections_active: counters.sum(|cell| &cell.active),
            connections_inactive: counters.sum(|cell| &cell.inactive),
            connections_total: counters.sum(|cell| &cell.connections),
            packets_in: counters.sum(|cell| &cell.packets_in),
            packets_out: counters.sum(|cell| &cell.packets_out),
            bytes_in: counters.sum(|cell| &cell.bytes_in),
            bytes_out: counters.sum(|cell| &cell.bytes_out),
            ..self
        }
    }
}

impl Evidence {
    /// What the workers counted for a real server until `now` of their clock.
    #[must_use]
    pub fn of(counters: &RealCounters, now: Tick) -> Self {
        let last = counters.last_failure(now);
        Self {
            answered: counters.evidence(Kind::Answered),
            refused: counters.evidence(Kind::Refused),
            unanswered: counters.evidence(Kind::Unanswered),
            unreachable: counters.evidence(Kind::Unreachable),
            time_exceeded: counters.evidence(Kind::TimeExceeded),
            last: last.map(|(ago, kind)| LastFailure {
                kind: kind.word().to_owned(),
                ago: ago.as_duration().as_secs(),
            }),
        }
    }

    /// True when something failed, or did not arrive.
    #[must_use]
    pub const fn is_noteworthy(&self) -> bool {
        self.refused + self.unanswered + self.unreachable + self.time_exceeded > 0
    }
}

impl Drops {
    /// The reasons of all workers, in the order of their numbers.
    #[must_use]
    pub fn of(workers: &[&WorkerCounters]) -> Self {
        let words = |reason: &DropReason| (reason.word(), reason.help());
        let drops = counts(workers, DropReason::ALL.iter().map(words), |worker| &worker.dropped);
        let words = |reason: &PuntReason| (reason.word(), reason.help());
        let punts = counts(workers, PuntReason::ALL.iter().map(words), |worker| &worker.punted);
        let words = |kind: &ReplyKind| (kind.word(), kind.help());
        let replies = counts(workers, ReplyKind::ALL.iter().map(words), |worker| &worker.replies);
        let words = |why: &Incomplete| (why.word(), why.help());
        let incomplete = counts(workers, Incomplete::ALL.iter().map(words), |worker| &worker.incomplete);
        Self { drops, punts, replies, reclaimed: reclaimed(workers), incomplete }
    }
}

/// What full tables of both families gave up.
fn reclaimed(workers: &[&WorkerCounters]) -> Vec<Count> {
    let of = |kind: &Reclaimed| {
        let of_worker = |worker: &&WorkerCounters| {
            worker.tables.iter().map(|table| table.reclaimed.at(*kind as usize).get()).sum()
        };
        let workers: Vec<u64> = workers.iter().map(of_worker).collect();
        let (reason, help) = (kind.word().to_owned(), kind.help().to_owned());
        Count { reason, help, count: workers.iter().sum(), workers }
    };
    Reclaimed::ALL.iter().map(of).collect()
}

fn counts<'r, const N: usize>(
    workers: &[&WorkerCounters],
    reasons: impl Iterator<Item = (&'r str, &'r str)>,
    counters: impl Fn(&WorkerCounters) -> &PerReason<N>,
) -> Vec<Count> {
    let count = |(place, (word, help)): (usize, (&str, &str))| {
        let workers: Vec<u64> =
            workers.iter().map(|worker| counters(worker).at(place)).map(Counter::get).collect();
        Count { reason: word.to_owned(), help: help.to_owned(), count: workers.iter().sum(), workers }
    };
    reasons.enumerate().map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_over_workers() {
        let (a, b) = (WorkerCounters::default(), WorkerCounters::default());
        a.received.add(10);
        a.handed_over.add(4);
        a.sent.add(6);
        b.taken_over.add(3);
        b.sent.add(2);
        b.dropped.at(DropReason::NoReal as usize).add(1);
        let books = Books::total([&a, &b], 1);
        assert_eq!(
            (books.received, books.sent, books.dropped, books.held, books.balanced),
            (10, 8, 1, 1, true)
        );
        assert!(!Books::total([&a, &b], 0).balanced);
        b.sent.add(5);
        assert!(!Books::total([&a, &b], 100).balanced);
        let drops = Drops::of(&[&a, &b]);
        let no_real = drops.drops.iter().find(|count| count.reason == "no_real").unwrap();
        assert_eq!((no_real.count, no_real.workers.as_slice()), (1, &[0, 1][..]));
        assert_eq!(Worker::of(&a).handed_over, 4);
    }
}

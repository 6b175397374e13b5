//! What passes between a worker and the control core: packets up and down, questions and answers. All rings are
//! bounded; a full one is a counter.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dpdk_sys::{Cycles, Doorbell, Mbuf};
use rtrb::{Consumer, Producer, RingBuffer};

use super::{CostCounters, Cursor, NicQueues};
use crate::counters::WorkerCounters;
use crate::forward::{Explanation, Punt};
use crate::id::{Generation, NicId, Protocol, RealId};
use crate::time::Ticks;

/// Packets on their way to the control core, per worker.
pub const PUNT_RING_MAX: usize = 1024;
/// Places in that ring which only ARP and neighbour discovery may take.
pub const PUNTS_RESERVED: usize = 256;
/// Packets on their way from the control core, per worker.
pub const INJECT_RING_MAX: usize = 1024;
/// Answers on their way to the control core, per worker.
pub const ANSWER_RING_MAX: usize = 1024;
/// Table entries looked at for one [`Question::Connections`].
pub const LISTED_MAX: usize = 16_384;
/// Questions that wait, per worker.
pub const QUESTION_RING_MAX: usize = 16;

/// Packets that were timed and left whose times wait to be read, per worker.
pub const LEFT_RING_MAX: usize = 256;

/// NICs to close and to open that wait, per worker.
pub const ORDER_RING_MAX: usize = 64;

/// A packet handed up, unchanged.
#[derive(Debug)]
pub struct Punted {
    /// The packet.
    pub mbuf: Mbuf,
    /// Where it arrived.
    pub nic: NicId,
    /// Why, and what it waits for.
    pub punt: Punt,
}

/// A packet handed down.
#[derive(Debug)]
pub enum Injected {
    /// Out of this NIC as it is.
    Transmit(NicId, Mbuf),
    /// The same; when it left is told.
    Timed(NicId, Mbuf, Ticket),
    /// As if it had just arrived at this NIC.
    Receive(NicId, Mbuf),
    /// One that arrived at this NIC and whose neighbour does not answer.
    Unreachable(NicId, Mbuf),
}

/// What tells one packet that is timed from the others.
pub type Ticket = u32;

/// A packet that is timed was given to its NIC.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// Which.
    pub ticket: Ticket,
    /// When.
    pub at: Cycles,
}

/// What tells the answers to one question from those to another.
pub type QuestionNumber = u32;

/// A question to a worker.
#[derive(Debug)]
pub enum Question {
    /// Its connections from this place on, one answer each; [`LISTED_MAX`] entries of its tables are looked at, so that nobody else's
    /// question waits for long.
    Connections(Cursor),
    /// What it would do with this frame from this NIC.
    Explain(NicId, Box<[u8]>),
}

/// A worker's answer.
#[derive(Debug)]
pub enum Answer {
    /// One connection.
    Connection(ConnectionView),
    /// What would become of the frame.
    Explanation(Explanation),
    /// Nothing more comes for the question; of connections there may be more, from this place on.
    Done(Option<Cursor>),
}

/// A connection as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionView {
    /// TCP or UDP; none for the persistence template of a firewall mark.
    pub protocol: Option<Protocol>,
    /// CIP and port; port 0 for a persistence template.
    pub client: SocketAddr,
    /// VIP and port.
    pub vip: SocketAddr,
    /// RIP and port.
    pub real: SocketAddr,
    /// Which real server of which service.
    pub real_id: RealId,
    /// The state in `ipvsadm`'s word.
    pub state: &'static str,
    /// How long until it ends without a packet.
    pub remaining: Ticks,
    /// True for one of a masqueraded host.
    pub masquerade: bool,
}

/// What a worker has to do with a NIC, before it runs the next generation.
#[derive(Debug)]
pub enum Order {
    /// Give its queues back: it is to be closed.
    Close(NicId),
    /// Take these: it was opened again.
    Open(NicQueues),
}

/// What control and a worker both see. Each field says who writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Shared {
    /// Written by the worker.
    pub counters: std::sync::Arc<WorkerCounters>,
    /// What its turns cost. Written by the worker.
    pub cost: CostCounters,
    /// The generation that the worker runs. Written by the worker.
    acknowledged: AtomicU64,
    /// Connections in the worker's tables, IPv4 and IPv6. Written by the worker.
    connections: [AtomicU64; 2],
    /// Its persistence templates, and how many there can be. Written by the worker.
    templates: [[AtomicU64; 2]; 2],
    /// Where the worker sleeps. Whoever leaves something for it rings.
    pub(super) doorbell: Doorbell,
    /// Tells the worker to end. Written by control.
    stop: AtomicBool,
    /// The worker does not go on, and nothing is to be given to it any more. Written by control.
    given_up: AtomicBool,
}

impl Shared {
    /// The generation that the worker runs.
    #[must_use]
    pub fn acknowledged(&self) -> Generation {
        Generation(self.acknowledged.load(Ordering::Acquire))
    }

    pub(super) fn acknowledge(&self, generation: Generation) {
        self.acknowledged.store(generation.0, Ordering::Release);
    }

    /// Connections in the worker's tables, IPv4 and IPv6.
    #[must_use]
    pub fn connections(&self) -> [u64; 2] {
        self.connections.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    pub(super) fn set_connections(&self, v4: usize, v6: usize) {
        self.connections[0].store(v4 as u64, Ordering::Relaxed);
        self.connections[1].store(v6 as u64, Ordering::Relaxed);
    }

    /// Persistence templates in the worker's tables, IPv4 and IPv6, and how many there can be of each: 0 while no service of
    /// that family persists.
    #[must_use]
    pub fn templates(&self) -> [(u64, u64); 2] {
        self.templates
            .each_ref()
            .map(|[used, most]| (used.load(Ordering::Relaxed), most.load(Ordering::Relaxed)))
    }

    pub(super) fn set_templates(&self, fills: [(usize, usize); 2]) {
        for (shown, (used, most)) in self.templates.iter().zip(fills) {
            shown[0].store(used as u64, Ordering::Relaxed);
            shown[1].store(most as u64, Ordering::Relaxed);
        }
    }

    /// Asks the worker to end after its turn.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Nothing is given to the worker any more: it does not go on.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Whether that was said.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Wakes the worker if it sleeps: something was put into one of its rings, or published.
    #[inline]
    pub fn wake(&self) {
        self.doorbell.ring();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// The worker's ends of the rings.
#[derive(Debug)]
pub struct WorkerEnds {
    pub(super) punts: Producer<Punted>,
    pub(super) injects: Consumer<Injected>,
    pub(super) left: Producer<Left>,
    pub(super) questions: Consumer<(QuestionNumber, Question)>,
    pub(super) answers: Producer<(QuestionNumber, Answer)>,
    pub(super) orders: Consumer<Order>,
    pub(super) closed: Producer<NicQueues>,
}

/// The control core's ends for NICs that are closed and opened while workers run.
#[derive(Debug)]
pub struct NicEnds {
    /// Orders to the worker, which follows them before it acknowledges the next generation.
    pub orders: Producer<Order>,
    /// The queues that it gave back.
    pub closed: Consumer<NicQueues>,
}

/// The control core's ends for packets.
#[derive(Debug)]
pub struct PacketEnds {
    /// What the worker handed up.
    pub punts: Consumer<Punted>,
    /// What is handed down to it.
    pub injects: Producer<Injected>,
    /// When packets that are timed left.
    pub left: Consumer<Left>,
}

/// The control core's ends for questions.
#[derive(Debug)]
pub struct QuestionEnds {
    /// Questions to the worker.
    pub questions: Producer<(QuestionNumber, Question)>,
    /// Its answers, in the order of the questions.
    pub answers: Consumer<(QuestionNumber, Answer)>,
}

/// The rings between one worker and the control core.
#[must_use]
pub fn rings() -> (WorkerEnds, PacketEnds, QuestionEnds, NicEnds) {
    let (punts_in, punts) = RingBuffer::new(PUNT_RING_MAX);
    let (injects, injects_out) = RingBuffer::new(INJECT_RING_MAX);
    let (left_in, left) = RingBuffer::new(LEFT_RING_MAX);
    let (questions, questions_out) = RingBuffer::new(QUESTION_RING_MAX);
    let (answers_in, answers) = RingBuffer::new(ANSWER_RING_MAX);
    let (orders, orders_out) = RingBuffer::new(ORDER_RING_MAX);
    let (closed_in, closed) = RingBuffer::new(ORDER_RING_MAX);
    (
        WorkerEnds {
            punts: punts_in,
            injects: injects_out,
            left: left_in,
            questions: questions_out,
            answers: answers_in,
            orders: orders_out,
            closed: closed_in,
        },
        PacketEnds { punts, injects, left },
        QuestionEnds { questions, answers },
        NicEnds { orders, closed },
    )
}

//! A worker answers questions about its tables: a bounded number of entries per turn, while asked.

use std::net::{IpAddr, SocketAddr};

use super::{Answer, ConnectionView, LISTED_MAX, Question, QuestionNumber, Worker};
use crate::address::Address;
use crate::connections::{Entry, Table, Template, Templates};
use crate::id::{L4Port, NicId};
use crate::packet::Packet;
use crate::service::Real;
use crate::snapshot::Snapshot;
use crate::time::Tick;

/// Table entries looked at in a turn while the connections are listed.
const ENTRIES_PER_TURN: usize = 128;
/// Head room that an explained frame gets: what a tunnel header needs.
const HEAD_ROOM: usize = 64;

/// A listing of connections under way.
#[derive(Debug)]
pub(super) struct Listing {
    question: QuestionNumber,
    cursor: Cursor,
    /// Table entries that are still to be looked at for this question.
    left: usize,
}

/// How far a listing of connections has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    part: Part,
    /// The next place in it.
    next: usize,
}

/// What is listed, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    V4,
    TemplatesV4,
    V6,
    TemplatesV6,
}

impl Part {
    /// What comes behind it.
    const fn then(self) -> Option<Self> {
        match self {
            Self::V4 => Some(Self::TemplatesV4),
            Self::TemplatesV4 => Some(Self::V6),
            Self::V6 => Some(Self::TemplatesV6),
            Self::TemplatesV6 => None,
        }
    }
}

impl Worker {
    /// Goes on with a listing, or else takes the next question.
    pub(super) fn answer(&mut self, snapshot: &Snapshot, now: Tick) {
        if self.listing.is_none() {
            match self.ends.questions.pop() {
                Ok((question, Question::Connections(cursor))) => {
                    self.listing = Some(Listing { question, cursor, left: LISTED_MAX });
                }
                Ok((question, Question::Explain(nic, frame))) => {
                    return self.explain(snapshot, question, nic, &frame, now);
                }
                Err(_empty) => return,
            }
        }
        self.list(snapshot, now);
    }

    /// Copies a few entries, as many as there is room for in the ring of answers.
    fn list(&mut self, snapshot: &Snapshot, now: Tick) {
        let Some(Listing { question, cursor, left }) = &mut self.listing else { return };
        // One place is kept for the end.
        let budget = ENTRIES_PER_TURN.min(self.ends.answers.slots().saturating_sub(1));
        if budget == 0 {
            return;
        }
        let (question, answers) = (*question, &mut self.ends.answers);
        let push = |view| drop(answers.push((question, view)));
        let (v4, v6, next) = (self.forwarder.v4(), self.forwarder.v6(), &mut cursor.next);
        let more = match cursor.part {
            Part::V4 => copy(v4, snapshot, next, budget, now, push),
            Part::TemplatesV4 => copy_templates(v4.templates(), snapshot, next, budget, now, push),
            Part::V6 => copy(v6, snapshot, next, budget, now, push),
            Part::TemplatesV6 => copy_templates(v6.templates(), snapshot, next, budget, now, push),
        };
        *left = left.saturating_sub(budget);
        let rest = match (more, cursor.part.then()) {
            (true, _) => Some(*cursor),
            (false, Some(part)) => Some(Cursor { part, next: 0 }),
            (false, None) => None,
        };
        match rest {
            Some(rest) if *left > 0 => *cursor = rest,
            rest => {
                drop(answers.push((question, Answer::Done(rest))));
                self.listing = None;
            }
        }
    }

    fn explain(
        &mut self,
        snapshot: &Snapshot,
        question: QuestionNumber,
        nic: NicId,
        frame: &[u8],
        now: Tick,
    ) {
        let mut room = vec![0; HEAD_ROOM];
        room.extend_from_slice(frame);
        let mut packet = Packet::new(&mut room, HEAD_ROOM, frame.len(), nic);
        let explanation = self.forwarder.explain(snapshot, &mut packet, now);
        // A ring that nobody empties means that nobody waits for the answer.
        drop(self.ends.answers.push((question, Answer::Explanation(explanation))));
        drop(self.ends.answers.push((question, Answer::Done(None))));
    }
}

/// Copies up to `budget` entries on from `next`; true while there are more.
fn copy<A: Address>(
    table: &Table<A>,
    snapshot: &Snapshot,
    next: &mut usize,
    budget: usize,
    now: Tick,
    mut each: impl FnMut(Answer),
) -> bool {
    table.list(next, budget, now, |entry| each(Answer::Connection(view(entry, snapshot, now))))
}

/// The same of persistence templates.
fn copy_templates<A: Address>(
    templates: &Templates<A>,
    snapshot: &Snapshot,
    next: &mut usize,
    budget: usize,
    now: Tick,
    mut each: impl FnMut(Answer),
) -> bool {
    templates
        .list(next, budget, now, |template| each(Answer::Connection(template_view(template, snapshot, now))))
}

/// A template has no port of a client; nor a protocol where it stands for a firewall mark.
fn template_view<A: Address>(template: &Template<A>, snapshot: &Snapshot, now: Tick) -> ConnectionView {
    let real =
        snapshot.real(template.real()).map_or_else(|| template.real_address().into(), |real| real.address);
    let at = |address: A, l4_port: L4Port| SocketAddr::new(address.into(), l4_port.0);
    let (key, (vip_port, real_port)) = (template.key(), template.ports());
    ConnectionView {
        protocol: key.protocol,
        client: at(key.client, L4Port(0)),
        vip: at(key.vip, vip_port),
        real: SocketAddr::new(real, real_port.0),
        real_id: template.real(),
        state: template.state_word(),
        remaining: template.expires(now).remaining(now),
        masquerade: false,
    }
}

fn view<A: Address>(entry: &Entry<A>, snapshot: &Snapshot, now: Tick) -> ConnectionView {
    // The real server of a tunnel may be of the other family.
    let real = snapshot.real(entry.real());
    let masquerade = real.is_some_and(Real::is_masquerade);
    let real = real.filter(|_| !masquerade).map_or_else(|| entry.real_address().into(), |real| real.address);
    let at = |address: A, l4_port: L4Port| -> SocketAddr {
        let address: IpAddr = address.into();
        SocketAddr::new(address, l4_port.0)
    };
    ConnectionView {
        protocol: Some(entry.protocol()),
        client: at(entry.client(), entry.client_port()),
        vip: at(entry.vip(), entry.vip_port()),
        real: SocketAddr::new(real, entry.real_port().0),
        real_id: entry.real(),
        state: entry.state_word(),
        remaining: entry.expires().remaining(now),
        masquerade,
    }
}

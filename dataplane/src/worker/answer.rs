//! A worker answers questions about its tables: a bounded number of entries per turn, while asked.

use std::net::{IpAddr, SocketAddr};

use super::{Answer, ConnectionView, Question, Worker};
use crate::address::Address;
use crate::connections::{Entry, Table};
use crate::id::NicId;
use crate::packet::Packet;
use crate::snapshot::Snapshot;
use crate::time::Tick;

/// Table entries looked at in a turn while the connections are listed.
const ENTRIES_PER_TURN: usize = 128;
/// Head room that an explained frame gets: what a tunnel header needs.
const HEAD_ROOM: usize = 64;

/// How far the listing of connections has come.
#[derive(Debug, Default)]
pub(super) struct Listing {
    next_v4: usize,
    v4_done: bool,
    next_v6: usize,
}

impl Worker {
    /// Goes on with a listing, or else takes the next question.
    pub(super) fn answer(&mut self, snapshot: &Snapshot, now: Tick) {
        if self.listing.is_none() {
            match self.ends.questions.pop() {
                Ok(Question::Connections) => self.listing = Some(Listing::default()),
                Ok(Question::Explain(nic, frame)) => return self.explain(snapshot, nic, &frame, now),
                Err(_empty) => return,
            }
        }
        self.list(snapshot, now);
    }

    /// Copies a few entries, as many as there is room for in the ring of answers.
    fn list(&mut self, snapshot: &Snapshot, now: Tick) {
        let Some(listing) = &mut self.listing else { return };
        // One place is kept for the end.
        let budget = ENTRIES_PER_TURN.min(self.ends.answers.slots().saturating_sub(1));
        if budget == 0 {
            return;
        }
        let answers = &mut self.ends.answers;
        let push = |view| drop(answers.push(view));
        let more = if listing.v4_done {
            copy(self.forwarder.v6(), snapshot, &mut listing.next_v6, budget, now, push)
        } else {
            let more = copy(self.forwarder.v4(), snapshot, &mut listing.next_v4, budget, now, push);
            listing.v4_done = !more;
            true
        };
        if !more && self.ends.answers.push(Answer::Done).is_ok() {
            self.listing = None;
        }
    }

    fn explain(&mut self, snapshot: &Snapshot, nic: NicId, frame: &[u8], now: Tick) {
        let mut room = vec![0; HEAD_ROOM];
        room.extend_from_slice(frame);
        let packet = Packet::new(&mut room, HEAD_ROOM, frame.len(), nic);
        let explanation = self.forwarder.explain(snapshot, &packet, now);
        // A ring that nobody empties means that nobody waits for the answer.
        drop(self.ends.answers.push(Answer::Explanation(explanation)));
        drop(self.ends.answers.push(Answer::Done));
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

fn view<A: Address>(entry: &Entry<A>, snapshot: &Snapshot, now: Tick) -> ConnectionView {
    // The real server of a tunnel may be of the other family.
    let real = snapshot.real(entry.real()).map_or_else(|| entry.real_address().into(), |real| real.address);
    let at = |address: A, l4_port: crate::id::L4Port| -> SocketAddr {
        let address: IpAddr = address.into();
        SocketAddr::new(address, l4_port.0)
    };
    ConnectionView {
        protocol: entry.protocol(),
        client: at(entry.client(), entry.client_port()),
        vip: at(entry.vip(), entry.vip_port()),
        real: SocketAddr::new(real, entry.real_port().0),
        real_id: entry.real(),
        state: entry.state_word(),
        remaining: entry.expires().remaining(now),
    }
}

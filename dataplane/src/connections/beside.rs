//! What moves with a connection beside its entry: the template that controls it, and its place among those that a full table gives up.

use crate::address::Address;

use super::entry::Entry;
use super::reclaim::Reclaim;
use super::table::ConnectionIndex;
use super::tcp_state::Activity;
use super::templates::Templates;

/// See the module.
#[derive(Debug)]
pub struct Beside<A: Address> {
    pub(super) templates: Templates<A>,
    pub(super) reclaim: Reclaim,
}

impl<A: Address> Beside<A> {
    /// A packet changed what a connection is. One that has only begun stays where it is.
    #[inline]
    pub fn follow(&mut self, index: ConnectionIndex, entry: &Entry<A>, change: Activity) {
        if entry.is_opened() || change == Activity::Assures || entry.assures() {
            self.shift(index, entry, change);
        }
    }

    #[cold]
    fn shift(&mut self, index: ConnectionIndex, entry: &Entry<A>, change: Activity) {
        self.reclaim.shift(index.0, entry.rank());
        if change == Activity::Assures || entry.assures() {
            self.templates.assure(index);
        }
        if entry.is_controlled() && entry.is_opened() {
            self.templates.open(index);
        }
    }
}

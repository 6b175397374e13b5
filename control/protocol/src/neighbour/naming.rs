//! What the configuration names takes its place in the table a bounded number of neighbours at a time: there may be very many, and
//! whoever turns the machine has adverts to send.

use std::mem;
use std::time::Instant;
use std::vec;

use hashbrown::{HashMap, hash_map};
use shunt_dataplane::id::Mac;

use super::entry::{Entry, State};
use super::machine::{Key, Machine};
use super::output::{Named, Output};

/// Neighbours that [`Machine::go_on_naming`] looks at.
pub const NAMED_PER_STEP_MAX: usize = 512;

/// How far it is.
#[derive(Debug)]
enum Stage {
    /// Those that are in the table stay, change or go.
    Known(vec::IntoIter<Key>),
    /// Those come whose MAC the configuration says.
    Told(hash_map::IntoIter<Key, Mac>),
    /// Then the others.
    Wanted(hash_map::IntoIter<Key, Named>),
}

/// Neighbours on their way into the table.
#[derive(Debug)]
pub(super) struct Naming {
    stage: Stage,
    wanted: HashMap<Key, Named>,
    told: HashMap<Key, Mac>,
}

impl<P> Machine<P> {
    /// The neighbours that the configuration names from now on: those to keep resolved, and those whose MAC it says, which are
    /// never asked. Others are learned as packets need them. [`Self::go_on_naming`] does it.
    pub fn begin_naming(&mut self, wanted: HashMap<Key, Named>, told: HashMap<Key, Mac>) {
        let known: Vec<Key> = self.entries.keys().copied().collect();
        self.naming = Some(Naming { stage: Stage::Known(known.into_iter()), wanted, told });
    }

    /// Looks at the next [`NAMED_PER_STEP_MAX`] neighbours; false when there was nothing to do.
    pub fn go_on_naming(&mut self, now: Instant, out: &mut Vec<Output<P>>) -> bool {
        let Some(mut naming) = self.naming.take() else { return false };
        for _ in 0..NAMED_PER_STEP_MAX {
            if !self.name_one(now, &mut naming, out) {
                return true;
            }
        }
        self.naming = Some(naming);
        true
    }

    /// The next neighbour; false when it was the last one.
    fn name_one(&mut self, now: Instant, naming: &mut Naming, out: &mut Vec<Output<P>>) -> bool {
        match &mut naming.stage {
            Stage::Known(known) => match known.next() {
                Some(key) => self.name_known(key, naming, out),
                None => naming.stage = Stage::Told(mem::take(&mut naming.told).into_iter()),
            },
            Stage::Told(told) => match told.next() {
                Some((key, mac)) => {
                    let named = naming.wanted.remove(&key);
                    self.name_told(now, key, named, mac, out);
                }
                None => naming.stage = Stage::Wanted(mem::take(&mut naming.wanted).into_iter()),
            },
            Stage::Wanted(wanted) => match wanted.next() {
                Some((key, named)) => self.name_wanted(now, key, named),
                None => return false,
            },
        }
        true
    }

    /// One that is in the table already.
    fn name_known(&mut self, key: Key, naming: &Naming, out: &mut Vec<Output<P>>) {
        let foreign = self.is_foreign(&key);
        let named = naming.wanted.get(&key).copied().filter(|_| foreign);
        let told = naming.told.get(&key).copied().filter(|_| foreign);
        let stays = self.with_entry(key, |entry| {
            let no_use = named.is_none() && entry.named.is_some() && entry.mac().is_none();
            entry.named = named;
            match (entry.state, told) {
                (State::Static { mac }, told) => told == Some(mac),
                (_, Some(_)) => false,
                (_, None) => !no_use,
            }
        });
        if stays == Some(false) {
            self.forget(key, out);
        } else {
            // A real server that was taken out is a stranger now.
            self.make_room(key.0, None, out);
        }
    }

    /// One whose MAC the configuration says. It may have been learned meanwhile.
    fn name_told(
        &mut self,
        now: Instant,
        key: Key,
        named: Option<Named>,
        mac: Mac,
        out: &mut Vec<Output<P>>,
    ) {
        if self.entries.get(&key).is_some_and(|entry| !entry.is_static()) {
            self.forget(key, out);
        }
        if self.is_foreign(&key) && !self.entries.contains_key(&key) {
            self.add(key, Entry::of_static(now, named, mac));
        }
    }

    /// One to keep resolved. It may have been learned meanwhile.
    fn name_wanted(&mut self, now: Instant, key: Key, named: Named) {
        let known = self.with_entry(key, |entry| entry.named = Some(named)).is_some();
        if !known && self.is_foreign(&key) {
            self.add(key, Entry::new(now, Some(named)));
        }
    }

    /// An address on a NIC of the director's that is not the director's.
    fn is_foreign(&self, key: &Key) -> bool {
        self.owned.nic(key.0).is_some() && !self.owned.answers(key.0, key.1)
    }
}

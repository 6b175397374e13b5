//! How other threads speak to the loop.

use std::collections::BTreeSet;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use hashbrown::HashMap;
use shunt_dataplane::id::{Mac, NicId};
use shunt_model::vrrp::{Group, Instance, Reading, Tracked};
use shunt_protocol::neighbour::machine::Key;
use shunt_protocol::neighbour::{Conflict, Counters as NeighbourCounters, Listed, Named, Nic, Vip};

use super::{Counters, VrrpReport};
use crate::kernel::Routes;
use crate::threads::channel::{Receiver, Sender, channel as new_channel};

pub(super) enum Command {
    Owned(Vec<Nic>, Vec<Vip>),
    Routers(Vec<Instance>, Vec<Group>),
    Watched(Tracked, Reading),
    RefusedMacs(BTreeSet<(NicId, Mac)>),
    NicNames(Vec<String>),
    Named(HashMap<Key, Named>, HashMap<Key, Mac>),
    Checked(Vec<Key>),
    Neighbours(u32),
    LinkIsBack(NicId),
    Routes(Routes),
    Announce,
    Report(Sender<Report>),
    Counters(Sender<Report>),
    Stop,
}

/// What the loop knows, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The neighbour table.
    pub neighbours: Vec<Listed>,
    /// Other hosts that use addresses of the director.
    pub conflicts: Vec<Conflict>,
    /// What the neighbour machine counts.
    pub neighbour_counters: NeighbourCounters,
    /// What the loop counts.
    pub counters: Counters,
    /// Packets that wait for a neighbour or for its publication.
    pub held: usize,
    /// Frames of checks by their service's way that wait for a MAC.
    pub checks_waiting: usize,
    /// Frames of the kernel side that wait for their next hop.
    pub own_waiting: usize,
    /// VRRP.
    pub vrrp: VrrpReport,
}

/// Tells the loop what to do. The loop ends when this is dropped.
#[derive(Debug)]
pub struct Control {
    commands: Sender<Command>,
}

impl Control {
    /// The director's NICs and the VIPs of no virtual router from now on; new addresses are announced.
    pub fn set_owned(&self, nics: Vec<Nic>, vips: Vec<Vip>) {
        self.tell(Command::Owned(nics, vips));
    }

    /// The virtual routers and their groups from now on.
    pub fn set_routers(&self, instances: Vec<Instance>, groups: Vec<Group>) {
        self.tell(Command::Routers(instances, groups));
    }

    /// The names of NICs, as reasons of virtual routers have them from now on.
    pub fn name_nics(&self, names: Vec<String>) {
        self.tell(Command::NicNames(names));
    }

    /// How something that virtual routers depend on stands from now on.
    pub fn watched(&self, what: Tracked, reading: Reading) {
        self.tell(Command::Watched(what, reading));
    }

    /// NICs take frames to all virtual MACs but these from now on.
    pub fn set_refused_macs(&self, refused: BTreeSet<(NicId, Mac)>) {
        self.tell(Command::RefusedMacs(refused));
    }

    /// A way for another thread to tell how something stands.
    pub fn watcher(&self) -> impl Fn(Tracked, Reading) + Send + 'static {
        let commands = self.commands.clone();
        // A loop that has ended needs no commands.
        move |what, reading| drop(commands.send(Command::Watched(what, reading)))
    }

    /// The neighbours that the configuration names from now on: those to keep resolved, and those whose MAC it says.
    pub fn set_named(&self, wanted: Vec<(Key, Named)>, told: Vec<(Key, Mac)>) {
        // Made here: the loop has adverts to send.
        self.tell(Command::Named(wanted.into_iter().collect(), told.into_iter().collect()));
    }

    /// The VIPs that real servers are checked at from now on, each with the NIC that such a real server is behind.
    pub fn set_checked(&self, checked: Vec<Key>) {
        self.tell(Command::Checked(checked));
    }

    /// The ways of what the kernel side sends from now on.
    pub fn set_routes(&self, routes: Routes) {
        self.tell(Command::Routes(routes));
    }

    /// Each NIC may have so many neighbours from now on that the configuration does not name.
    pub fn set_neighbours(&self, most: u32) {
        self.tell(Command::Neighbours(most));
    }

    /// The link of a NIC is back after it was down.
    pub fn link_is_back(&self, nic: NicId) {
        self.tell(Command::LinkIsBack(nic));
    }

    /// Announces all VIPs again.
    pub fn announce(&self) {
        self.tell(Command::Announce);
    }

    /// What the loop knows; empty when it has ended.
    #[must_use]
    pub fn report(&self) -> Report {
        self.asker().report(Duration::MAX).unwrap_or_default()
    }

    /// What the loop counts: [`Self::report`] without the neighbours, conflicts and virtual routers.
    #[must_use]
    pub fn counters(&self) -> Report {
        self.asker().counters(Duration::MAX).unwrap_or_default()
    }

    /// A way to ask for it that holds nobody up.
    #[must_use]
    pub fn asker(&self) -> Asker {
        Asker(self.commands.clone())
    }

    /// Ends the loop after its turn: the virtual routers are given up.
    pub fn stop(self) {}

    /// A way for another thread to do that.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + 'static {
        let commands = self.commands.clone();
        move || drop(commands.send(Command::Stop))
    }

    fn tell(&self, command: Command) {
        // A loop that has ended needs no commands.
        let _ = self.commands.send(command);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Others may have ways to it, too.
        self.tell(Command::Stop);
    }
}

/// Asks the loop.
pub struct Asker(Sender<Command>);

impl Asker {
    /// What the loop knows; none when it does not answer within this time.
    #[must_use]
    pub fn report(&self, patience: Duration) -> Option<Report> {
        let (answer, report) = new_channel();
        self.0.send(Command::Report(answer)).ok()?;
        report.recv_timeout(patience).ok()
    }

    /// What the loop counts: [`Self::report`] without the neighbours, conflicts and virtual routers; none as there.
    #[must_use]
    pub fn counters(&self, patience: Duration) -> Option<Report> {
        let (answer, report) = new_channel();
        self.0.send(Command::Counters(answer)).ok()?;
        report.recv_timeout(patience).ok()
    }
}

/// The loop's end.
pub(super) struct Inbox(Receiver<Command>);

/// The handle was dropped.
pub(super) struct Ended;

impl Inbox {
    /// The next command; none when there is none now.
    pub(super) fn next(&self) -> Result<Option<Command>, Ended> {
        match self.0.try_recv() {
            Ok(command) => Ok(Some(command)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Ended),
        }
    }
}

pub(super) fn channel() -> (Control, Inbox) {
    let (commands, inbox) = new_channel();
    (Control { commands }, Inbox(inbox))
}

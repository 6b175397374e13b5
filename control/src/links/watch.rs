//! What becomes of a NIC's link when the kernel's interfaces change. No socket, no clock, no thread.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rtnetlink::packet_route::RouteNetlinkMessage;
use shunt_dataplane::id::{Mac, NicId};
use shunt_model::interface::Interfaces;

/// From one attempt to open a NIC again to the next.
pub const RETRY: Duration = Duration::from_millis(500);
/// How long a NIC that connects to another program may take until its link is up.
pub const CONNECT_MAX: Duration = Duration::from_secs(2);

/// How the interface behind a NIC comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// Others make it; it has its own MAC, and the kernel sees its frames.
    Others,
    /// The driver makes it when the NIC is opened (tap).
    Driver,
}

/// A NIC as it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The interface behind it, and who makes it; none where the driver alone knows the link.
    pub interface: Option<(String, Maker)>,
    /// Its driver connects to another program's socket when the NIC is opened, and never again.
    pub connects: bool,
    /// The interface's index when the NIC was opened.
    pub index: Option<u32>,
    /// The MAC that the director uses on it.
    pub mac: Mac,
}

/// How a link is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Packets go through, as far as anybody knows.
    #[default]
    Up,
    /// The interface has no carrier.
    NoCarrier,
    /// Somebody set the interface down.
    SetDown,
    /// There is no such interface in the director's network namespace.
    Gone,
    /// The interface was made anew, and the NIC is not open on it yet.
    Closed,
    /// The driver says that it is down.
    DriverDown,
    /// The program at the other end of its socket has ended, or is not there yet.
    Disconnected,
}

impl State {
    /// Whether packets go through.
    #[must_use]
    pub fn is_up(self) -> bool {
        self == Self::Up
    }
}

/// A link and the interface that it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NicLink {
    /// How it is.
    pub state: State,
    /// The interface's name of now, where there is one behind the NIC.
    pub interface: Option<String>,
    /// Bytes of the largest IP packet that the interface takes, where it is known.
    pub mtu: Option<u32>,
}

impl NicLink {
    /// Why it is not up, for operators.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let name = self.interface.as_deref().unwrap_or("?");
        match self.state {
            State::Up => None,
            State::NoCarrier => Some(format!("interface {name} has no carrier")),
            State::SetDown => Some(format!("interface {name} is set down")),
            State::Gone => Some(format!("there is no interface {name} in the director's network namespace")),
            State::Closed => {
                Some(format!("interface {name} is there again, and the NIC is not open on it yet"))
            }
            State::DriverDown => Some("its driver says so".to_owned()),
            State::Disconnected => Some("no program is at the other end of its socket".to_owned()),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self, device: &str) -> Option<String> {
        let name = self.interface.as_deref().unwrap_or("?");
        match self.state {
            State::Up => None,
            State::NoCarrier => Some(format!("check the other end of {name}")),
            State::SetDown => Some(format!("run `ip link set {name} up`")),
            State::Gone => {
                Some(format!("make {name} again, or move it back: the NIC is opened again when it is there"))
            }
            State::Closed => Some(format!("it is tried again every {} ms", RETRY.as_millis())),
            State::DriverDown => Some(format!("check {device}")),
            State::Disconnected => Some(format!(
                "start the program that serves {device}: the NIC is opened again within {} ms",
                RETRY.as_millis()
            )),
        }
    }
}

impl fmt::Display for NicLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            None => f.write_str("the link is up"),
            Some(reason) => write!(f, "the link is down: {reason}"),
        }
    }
}

/// An address of the director's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The address.
    pub address: IpAddr,
    /// True for the director's own, false for a VIP.
    pub own: bool,
    /// The link that it belongs to, where it is link-local: another one on another link is another one (RFC 4007). An address
    /// of wider scope the kernel answers for on every interface, whichever holds it.
    pub link: Option<NicId>,
}

/// An address of the director's that the kernel holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// The address.
    pub address: IpAddr,
    /// True for the director's own, false for a VIP.
    pub own: bool,
    /// The interface that the kernel holds it on.
    pub interface: String,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, interface, .. } = self;
        let what = if self.own { "the director's own address" } else { "a VIP" };
        write!(
            f,
            "the kernel holds {address} on {interface}: it is {what}, and the kernel sees each frame too and answers in the \
             director's place: run `ip addr del {address} dev {interface}`"
        )
    }
}

/// What the director has to know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link turned, or is known for the first time.
    Link(NicId, NicLink),
    /// The interface takes IP packets up to so many bytes.
    Mtu(NicId, u32),
    /// The interface has another MAC.
    Mac(NicId, Mac),
    /// The interface has another name; the NIC stays with it.
    Renamed(NicId, String, String),
    /// Open the NIC again, on this interface where it is on one.
    Open(NicId, Option<String>),
    /// The kernel holds an address of the director's.
    Holds(Held),
    /// It no longer does.
    HoldsNoMore(Held),
}

/// A NIC and what was told of it.
#[derive(Debug)]
struct Nic {
    watched: Watched,
    /// Its interface, or the program at its other end, was taken away: its sockets are of no use any more.
    lost: bool,
    /// What its driver says, where there is no interface.
    driver: Option<bool>,
    /// Whether its link was up since it was opened, and when it was first found down otherwise.
    connected: bool,
    connecting: Option<Instant>,
    /// When it was tried to be opened again last.
    tried: Option<Instant>,
    told: Option<NicLink>,
    mtu: Option<u32>,
}

/// The machine.
#[derive(Debug)]
pub struct Watch {
    nics: Vec<Nic>,
    interfaces: Interfaces,
    claims: Vec<Claim>,
    held: BTreeMap<(IpAddr, u32), Held>,
}

impl Watch {
    /// Watches these NICs, by [`NicId`].
    #[must_use]
    pub fn new(nics: Vec<Watched>) -> Self {
        let nic = |watched| Nic {
            watched,
            lost: false,
            driver: None,
            connected: false,
            connecting: None,
            tried: None,
            told: None,
            mtu: None,
        };
        Self {
            nics: nics.into_iter().map(nic).collect(),
            interfaces: Interfaces::default(),
            claims: Vec::new(),
            held: BTreeMap::new(),
        }
    }

    /// The director's addresses: the kernel must hold none of them.
    pub fn set_claims(&mut self, claims: Vec<Claim>) {
        self.claims = claims;
    }

    /// Takes note of a message of the kernel's.
    pub fn hear(&mut self, message: &RouteNetlinkMessage) {
        if let Some(gone) = super::interfaces::hear(&mut self.interfaces, message) {
            self.lose(|index| index == gone);
        }
    }

    /// Takes all interfaces as they are now, since messages were missed.
    pub fn resync(&mut self, all: Interfaces) {
        self.interfaces = all;
        let there: BTreeSet<u32> =
            self.bound().filter(|index| self.interfaces.get(*index).is_some()).collect();
        self.lose(|index| !there.contains(&index));
    }

    /// Takes note of what a driver says of its link.
    pub fn driver_says(&mut self, nic: NicId, up: Option<bool>) {
        if let Some(nic) = self.nics.get_mut(nic.index()) {
            nic.driver = up;
        }
    }

    /// A NIC was opened again.
    pub fn opened(&mut self, nic: NicId, index: Option<u32>, mac: Mac) {
        if let Some(nic) = self.nics.get_mut(nic.index()) {
            (nic.lost, nic.tried, nic.driver) = (false, None, None);
            (nic.connected, nic.connecting) = (false, None);
            (nic.watched.index, nic.watched.mac) = (index, mac);
        }
    }

    /// The NICs that only their drivers know the links of.
    pub fn without_interface(&self) -> impl Iterator<Item = NicId> + '_ {
        let numbered = (0..=u8::MAX).map(NicId).zip(&self.nics);
        numbered.filter(|(_, nic)| nic.watched.interface.is_none()).map(|(id, _)| id)
    }

    /// True while a NIC waits for a carrier, which the kernel tells late where it has much to do: it is to be asked.
    #[must_use]
    pub fn waits_for_carrier(&self) -> bool {
        let waits = |nic: &Nic| nic.told.as_ref().is_some_and(|told| told.state == State::NoCarrier);
        self.nics.iter().any(waits)
    }

    /// The addresses of the director's that the kernel holds.
    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.held.values()
    }

    fn bound(&self) -> impl Iterator<Item = u32> + '_ {
        self.nics.iter().filter_map(|nic| nic.watched.index)
    }

    fn lose(&mut self, gone: impl Fn(u32) -> bool) {
        for nic in &mut self.nics {
            if nic.watched.interface.is_some() && nic.watched.index.is_none_or(&gone) {
                nic.lost = true;
            }
        }
    }

    /// What follows from what was heard, each thing once.
    pub fn events(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        let Self { nics, interfaces, .. } = self;
        for (id, nic) in (0..=u8::MAX).map(NicId).zip(nics) {
            nic.events(id, interfaces, now, &mut events);
        }
        self.addresses(&mut events);
        events
    }

    /// Compares the addresses that the kernel holds.
    fn addresses(&mut self, events: &mut Vec<Event>) {
        // The kernel sees the frames of no other NICs.
        let shared = |nic: &Nic| matches!(nic.watched.interface, Some((_, Maker::Others)));
        let mut held = BTreeMap::new();
        let claims: &[Claim] = if self.nics.iter().any(shared) { &self.claims } else { &[] };
        for &Claim { address, own, link } in claims {
            for (index, interface) in self.interfaces.holders(address) {
                let of_link = |nic: NicId| self.nics.get(nic.index()).and_then(|nic| nic.watched.index);
                if link.is_none_or(|nic| of_link(nic) == Some(index)) {
                    let interface = interface.name.clone();
                    held.insert((address, index), Held { address, own, interface });
                }
            }
        }
        for (key, was) in &self.held {
            if !held.contains_key(key) {
                events.push(Event::HoldsNoMore(was.clone()));
            }
        }
        for (key, is) in &held {
            if !self.held.contains_key(key) {
                events.push(Event::Holds(is.clone()));
            }
        }
        self.held = held;
    }
}

impl Nic {
    fn events(&mut self, id: NicId, interfaces: &Interfaces, now: Instant, events: &mut Vec<Event>) {
        self.connection(now);
        if let Some(open) = self.to_open(interfaces) {
            if self.tried.is_none_or(|tried| now.saturating_duration_since(tried) >= RETRY) {
                self.tried = Some(now);
                events.push(Event::Open(id, open));
            }
        }
        let index = self.watched.index.filter(|_| !self.lost);
        if let (Some(interface), Some((name, maker))) =
            (index.and_then(|index| interfaces.get(index)), &mut self.watched.interface)
        {
            if interface.name != *name {
                let before = std::mem::replace(name, interface.name.clone());
                events.push(Event::Renamed(id, before, interface.name.clone()));
            }
            let mac = interface.mac.filter(|_| *maker == Maker::Others);
            if let Some(mac) = mac.filter(|mac| *mac != self.watched.mac && *mac != Mac::default()) {
                self.watched.mac = mac;
                events.push(Event::Mac(id, mac));
            }
            if self.mtu.replace(interface.mtu) != Some(interface.mtu) {
                events.push(Event::Mtu(id, interface.mtu));
            }
        }
        let link = self.link(interfaces);
        if self.told.as_ref() != Some(&link) {
            let turned = self.told.as_ref().map(|told| told.state) != Some(link.state);
            self.told = Some(link.clone());
            if turned {
                events.push(Event::Link(id, link));
            }
        }
    }

    fn link(&self, interfaces: &Interfaces) -> NicLink {
        let Some((name, _)) = &self.watched.interface else {
            let state = match self.driver {
                _ if self.lost => State::Disconnected,
                Some(false) if self.watched.connects => State::Disconnected,
                Some(false) => State::DriverDown,
                Some(true) | None => State::Up,
            };
            return NicLink { state, ..NicLink::default() };
        };
        let index = self.watched.index.filter(|_| !self.lost);
        let interface = index.and_then(|index| interfaces.get(index));
        let state = match interface {
            None if self.to_open(interfaces).is_some() => State::Closed,
            None => State::Gone,
            Some(interface) if !interface.up => State::SetDown,
            Some(interface) if !interface.carrier => State::NoCarrier,
            Some(_) => State::Up,
        };
        NicLink { state, interface: Some(name.clone()), mtu: interface.map(|interface| interface.mtu) }
    }

    /// Takes note of a driver that has lost the program at its other end.
    fn connection(&mut self, now: Instant) {
        match self.driver {
            Some(true) => self.connected = true,
            Some(false) if self.watched.connects => {
                // The other end may take a while to answer.
                let since = *self.connecting.get_or_insert(now);
                self.lost |= self.connected || now.saturating_duration_since(since) >= CONNECT_MAX;
            }
            _ => {}
        }
    }

    /// What a NIC that is of no use any more can be opened on: the interface of the same name, the same one under another name, or
    /// whatever its driver makes; the socket of the other end, which is no interface.
    fn to_open(&self, interfaces: &Interfaces) -> Option<Option<String>> {
        if !self.lost {
            return None;
        }
        let Some((name, maker)) = &self.watched.interface else { return Some(None) };
        if *maker == Maker::Driver || interfaces.named(name).is_some() {
            return Some(Some(name.clone()));
        }
        let back = interfaces.get(self.watched.index?)?;
        // Another one may have got its number.
        (back.mac == Some(self.watched.mac)).then(|| Some(back.name.clone()))
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;

//! What follows when a link turns: VRRP and the workers are told, and the operator.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use shunt_config;
use shunt_config::check::mtu_differs;
use shunt_config::{Config, is_of_one_link};
use shunt_dataplane::id::{Mac, NicId};
use shunt_model::fault::Fault;
use shunt_model::notify::What;
use shunt_model::vrrp::Tracked;
use tokio::sync::watch;

use super::claims;
use super::core::{Message, View};
use super::live::{Live, lock};
use super::targets;
use crate::links::driver;
use crate::links::watch::{Claim, Event, Held, Maker, NicLink, Watch, Watched};
use crate::lock::Lock;
use crate::notify;
use crate::notify::Condition;
use crate::publish::compile::NicState;
use crate::threads::{Duty, Pulse};

/// A NIC as it is now.
#[derive(Clone, Debug)]
pub(super) struct NicNow {
    /// Its link.
    pub link: NicLink,
    /// The MAC that the director uses on it.
    pub mac: Mac,
    /// Bytes of the largest IP packet that it was opened for.
    pub room: u16,
    /// Bytes of the largest IP packet that the interface behind it takes, where there is one.
    taken: Option<u32>,
    /// How often it was closed or opened since the start.
    pub edition: u32,
}

impl NicNow {
    /// A NIC that was opened for IP packets of `room` bytes, on an interface that takes so many.
    pub(super) fn new(mac: Mac, room: u16, taken: Option<u32>) -> Self {
        Self { link: NicLink::default(), mac, room, taken, edition: 0 }
    }

    /// Bytes of the largest IP packet that leaves by it.
    pub(super) fn mtu(&self) -> u16 {
        self.taken.and_then(|taken| u16::try_from(taken).ok()).map_or(self.room, |taken| taken.min(self.room))
    }

    /// What an operator should do when it and the interface behind it do not take the same packets.
    pub(super) fn mtu_advice(&self, nic: &shunt_config::Nic) -> Option<String> {
        let name = self.link.interface.as_deref().or(nic.device.interface()).unwrap_or("?");
        let taken = self.taken?;
        let Fault { wrong, holds, advice } = match nic.mtu {
            Some(mtu) => mtu_differs(mtu, name, taken)?,
            None if taken > u32::from(self.room) => Fault::new(
                format!(
                    "interface {name} takes packets of {taken} bytes, and the NIC was opened for {}",
                    self.room
                ),
                format!("those larger than {} that arrive are dropped", self.room),
                format!("restart, or run `ip link set {name} mtu {}`", self.room),
            ),
            None => return None,
        };
        Some(format!("nic \"{}\": {wrong}: {holds}: {advice}", nic.name))
    }
}

/// What is known of NICs beside the configuration.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By [`NicId`].
    pub nics: Vec<NicNow>,
    /// Addresses of the director's that the kernel holds.
    pub held: Vec<Held>,
    /// Claims to interfaces that got another name.
    pub claims: Vec<Lock>,
}

impl Known {
    /// The MACs, by [`NicId`].
    pub(super) fn macs(&self) -> Vec<Mac> {
        self.nics.iter().map(|nic| nic.mac).collect()
    }

    /// The MTUs, by [`NicId`].
    pub(super) fn mtus(&self) -> Vec<u16> {
        self.nics.iter().map(NicNow::mtu).collect()
    }

    /// As snapshots are compiled from it.
    pub(super) fn states(&self) -> Vec<NicState> {
        let state = |nic: &NicNow| NicState {
            up: nic.link.state.is_up(),
            mtu: nic.mtu(),
            mac: nic.mac,
            edition: nic.edition,
        };
        self.nics.iter().map(state).collect()
    }
}

/// Watches the links in a thread of its own, in the host's network namespace, until `stop` says so.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn start(
    live: Arc<Live>,
    watched: Vec<Watched>,
    stop: watch::Receiver<bool>,
) -> std::io::Result<JoinHandle<()>> {
    let work = move || {
        let pulse = Pulse::start("shunt-links", Duty::Decides);
        let mut watch = Watch::new(watched);
        let mut addresses_of: Option<Arc<Config>> = None;
        let follow = |watch: &mut Watch| {
            pulse.beat();
            if *stop.borrow() {
                return false;
            }
            let view = live.view.load_full();
            if !addresses_of.as_ref().is_some_and(|known| Arc::ptr_eq(known, &view.config)) {
                watch.set_claims(claims(&view.config));
                addresses_of = Some(view.config.clone());
            }
            live.follow_links(&view, watch);
            true
        };
        if let Err(error) = driver::run(&mut watch, follow) {
            tracing::error!("links: nobody watches them: {error}");
        }
        pulse.done();
    };
    std::thread::Builder::new().name("shunt-links".into()).spawn(work)
}

/// The NICs of a configuration as they were opened, for [`Watch`].
pub(super) fn watched(config: &Config, ports: &super::nics::Ports) -> Vec<Watched> {
    let watched = |(nic, open): (&shunt_config::Nic, &super::nics::OpenNic)| Watched {
        interface: nic.device.kernel_interface().map(|(name, by_driver)| {
            (name.to_owned(), if by_driver { Maker::Driver } else { Maker::Others })
        }),
        connects: nic.device.connects_once(),
        index: open.interface,
        mac: open.mac,
    };
    config.nics.iter().zip(&ports.nics).map(watched).collect()
}

/// The director's addresses.
fn claims(config: &Config) -> Vec<Claim> {
    let claim = |address, own, link| Claim { address, own, link };
    let vips = config.vips().into_iter().map(|vip| claim(vip, false, None));
    let of_links = config.link_vips().map(|(nic, vip)| claim(vip, false, Some(nic)));
    let nics = (0..=u8::MAX).map(NicId).zip(&config.nics);
    let own = nics.flat_map(|(id, nic)| nic.addresses.iter().map(move |net| (id, net.addr())));
    let own = own.map(|(id, own)| claim(own, true, is_of_one_link(own).then_some(id)));
    vips.chain(of_links).chain(own).collect()
}

impl Live {
    /// Does what follows from what was heard.
    fn follow_links(&self, view: &View, watch: &mut Watch) {
        let others: Vec<NicId> = watch.without_interface().collect();
        for id in others {
            let nic = self.nics.get(id.index()).map(lock);
            let link = nic.as_ref().and_then(|nic| nic.as_ref()).and_then(dpdk_sys::Nic::link);
            watch.driver_says(id, link.map(|link| link.up));
        }
        for event in watch.events(Instant::now()) {
            self.obey_link(view, watch, event);
        }
        let held: Vec<Held> = watch.held().cloned().collect();
        lock(&self.links).held = held;
    }

    fn obey_link(&self, view: &View, watch: &mut Watch, event: Event) {
        let name = |id: NicId| view.config.nics.get(id.index()).map_or("?", |nic| nic.name.as_str());
        match event {
            Event::Link(id, link) => self.link_turned(view, id, link),
            Event::Renamed(id, from, to) => {
                tracing::warn!(
                    "nic \"{}\": interface {from} is called {to} now: the NIC stays with it: correct its device before the next start",
                    name(id)
                );
                match claims::interface(&to) {
                    Ok(claim) => lock(&self.links).claims.push(claim),
                    Err(error) => tracing::error!("nic \"{}\": interface {to}: {error}", name(id)),
                }
            }
            Event::Holds(held) => {
                self.with_parts(|parts| {
                    parts.notifier.begin(
                        Condition::KernelAddress,
                        &held.address.to_string(),
                        held.to_string(),
                    )
                });
            }
            Event::HoldsNoMore(held) => {
                let text = format!("the kernel no longer holds {} on {}", held.address, held.interface);
                self.with_parts(|parts| {
                    parts.notifier.end(Condition::KernelAddress, &held.address.to_string(), text)
                });
            }
            Event::Mtu(id, taken) => self.mtu_turned(view, id, taken),
            Event::Mac(id, mac) => {
                tracing::warn!("nic \"{}\": its interface has the MAC {mac} now", name(id));
                self.mac_turned(id, mac);
            }
            Event::Open(id, interface) => {
                if let Some(opened) = self.open_again(view, id, interface.as_deref()) {
                    watch.opened(id, opened.interface, opened.mac);
                }
            }
        }
    }

    /// A link is another than before, or is known for the first time.
    fn link_turned(&self, view: &View, id: NicId, link: NicLink) {
        let Some(nic) = view.config.nics.get(id.index()) else { return };
        let (before, states) = {
            let mut known = lock(&self.links);
            let Some(now) = known.nics.get_mut(id.index()) else { return };
            let before = std::mem::replace(&mut now.link, link.clone());
            (before, known.states())
        };
        let up = link.state.is_up();
        self.with_parts(|parts| {
            // Adverts first: the other director shall know.
            parts.control.watched(Tracked::Link(id), up.into());
            let _ = parts.core.messages().send(Message::Nics(states, None));
        });
        let text = match link.advice(&nic.device.to_string()) {
            None => format!("nic \"{}\": {link}", nic.name),
            Some(advice) => format!("nic \"{}\": {link}: {advice}", nic.name),
        };
        match (before.state.is_up(), up) {
            (true, true) => {}
            (false, true) => {
                self.with_parts(|parts| {
                    // Whatever learned the way to the director may have forgotten it, and the director's ways may be others now.
                    parts.control.announce();
                    parts.control.link_is_back(id);
                    parts.notifier.end(Condition::LinkDown, &nic.name, text);
                });
            }
            (true, false) => {
                self.with_parts(|parts| parts.notifier.begin(Condition::LinkDown, &nic.name, text));
            }
            (false, false) => tracing::warn!("{text}"),
        }
    }

    /// The interface behind a NIC takes packets up to so many bytes.
    fn mtu_turned(&self, view: &View, id: NicId, taken: u32) {
        let Some(nic) = view.config.nics.get(id.index()) else { return };
        let (before, after, states, advice) = {
            let mut known = lock(&self.links);
            let Some(now) = known.nics.get_mut(id.index()) else { return };
            // What an operator's tap takes is what the kernel sends by it.
            if nic.device.interface().is_none() || now.taken == Some(taken) {
                return;
            }
            let before = now.mtu();
            now.taken = Some(taken);
            let (after, advice) = (now.mtu(), now.mtu_advice(nic));
            (before, after, known.states(), advice)
        };
        if before != after {
            self.with_parts(|parts| parts.core.messages().send(Message::Nics(states, None)));
            self.update_taps(view);
        }
        let advice = advice.map_or(String::new(), |advice| format!(": {advice}"));
        let text = format!(
            "nic \"{}\": its interface takes packets of {taken} bytes now: the director sends up to {after}{advice}",
            nic.name
        );
        tracing::warn!("{text}");
        self.tell_link(What::LinkMtu, &nic.name, text);
    }

    /// The director uses another MAC on a NIC from now on: workers, neighbours and the kernel side are told, and it is announced.
    pub(super) fn mac_turned(&self, id: NicId, mac: Mac) {
        let states = {
            let mut known = lock(&self.links);
            let Some(now) = known.nics.get_mut(id.index()) else { return };
            if now.mac == mac {
                return;
            }
            now.mac = mac;
            known.states()
        };
        self.with_parts(|parts| parts.core.messages().send(Message::Nics(states, None)));
        self.follow();
    }

    /// Gives the kernel side the MACs and MTUs of now.
    fn update_taps(&self, view: &View) {
        let sides = {
            let known = lock(&self.links);
            targets::sides(&view.config, &known.macs(), &known.mtus())
        };
        if let Err(error) = lock(&self.taps).update(&sides) {
            tracing::error!("{error}");
        }
    }

    fn tell_link(&self, what: What, subject: &str, text: String) {
        self.with_parts(|parts| {
            parts.notifier.tell(notify::event(what, subject, None, text), Vec::new());
        });
    }
}

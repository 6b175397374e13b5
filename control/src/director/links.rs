//! What follows when a link turns: VRRP and the workers are told, and the operator.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use shunt_dataplane::id::NicId;
use tokio::sync::watch;

use super::core::{Message, View};
use super::live::{Live, lock};
use crate::config::compile::NicState;
use crate::config::{Config, is_of_one_link};
use crate::links::driver;
use crate::links::watch::{Claim, Event, Held, Maker, NicLink, Watch, Watched};
use crate::notify::{self, What};
use crate::vrrp::Tracked;

/// What is known of links, for `status`.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By [`NicId`].
    pub links: Vec<NicLink>,
    /// Addresses of the director's that the kernel holds.
    pub held: Vec<Held>,
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
        let mut watch = Watch::new(watched);
        let mut addresses_of: Option<Arc<Config>> = None;
        let follow = |watch: &mut Watch| {
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
    };
    std::thread::Builder::new().name("shunt-links".into()).spawn(work)
}

/// The NICs of a configuration as they were opened, for [`Watch`].
pub(super) fn watched(config: &Config, ports: &super::nics::Ports) -> Vec<Watched> {
    let watched = |(nic, open): (&crate::config::Nic, &super::nics::OpenNic)| Watched {
        interface: nic.device.kernel_interface().map(|(name, by_driver)| {
            (name.to_owned(), if by_driver { Maker::Driver } else { Maker::Others })
        }),
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
            let link = self.nics.get(id.index()).and_then(dpdk_sys::Nic::link);
            watch.driver_says(id, link.map(|link| link.up));
        }
        for event in watch.events(Instant::now()) {
            self.obey_link(view, event);
        }
        let held: Vec<Held> = watch.held().cloned().collect();
        lock(&self.links).held = held;
    }

    fn obey_link(&self, view: &View, event: Event) {
        let name = |id: NicId| view.config.nics.get(id.index()).map_or("?", |nic| nic.name.as_str());
        match event {
            Event::Link(id, link) => self.link_turned(view, id, link),
            Event::Renamed(id, from, to) => tracing::warn!(
                "nic \"{}\": interface {from} is called {to} now: the NIC stays with it: correct its device before the next start",
                name(id)
            ),
            Event::Holds(held) => {
                tracing::error!("{held}");
                self.tell_link(What::KernelAddress, &held.address.to_string(), held.to_string());
            }
            Event::HoldsNoMore(held) => {
                let text = format!("the kernel no longer holds {} on {}", held.address, held.interface);
                tracing::warn!("{text}");
                self.tell_link(What::KernelAddressOver, &held.address.to_string(), text);
            }
            Event::Mtu(..) | Event::Mac(..) | Event::Open(..) => {}
        }
    }

    /// A link is another than before, or is known for the first time.
    fn link_turned(&self, view: &View, id: NicId, link: NicLink) {
        let Some(nic) = view.config.nics.get(id.index()) else { return };
        let (before, states) = {
            let mut known = lock(&self.links);
            known.links.resize(view.config.nics.len(), NicLink::default());
            let before = std::mem::replace(&mut known.links[id.index()], link.clone());
            let states = known.links.iter().map(|link| NicState { up: link.state.is_up() });
            (before, states.collect())
        };
        let up = link.state.is_up();
        self.with_parts(|parts| {
            // Adverts first: the other director shall know.
            parts.control.watched(Tracked::Link(id), up.into());
            let _ = parts.core.messages().send(Message::Nics(states));
        });
        let text = match link.advice(&nic.device.to_string()) {
            None => format!("nic \"{}\": {link}", nic.name),
            Some(advice) => format!("nic \"{}\": {link}: {advice}", nic.name),
        };
        match (before.state.is_up(), up) {
            (true, true) => {}
            (false, true) => {
                tracing::warn!("{text}");
                self.tell_link(What::LinkUp, &nic.name, text);
            }
            (true, false) => {
                tracing::error!("{text}");
                self.tell_link(What::LinkDown, &nic.name, text);
            }
            (false, false) => tracing::warn!("{text}"),
        }
    }

    fn tell_link(&self, what: What, subject: &str, text: String) {
        self.with_parts(|parts| {
            parts.notifier.tell(notify::Event::now(what, subject, None, text), Vec::new());
        });
    }
}

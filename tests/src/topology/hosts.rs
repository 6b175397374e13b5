//! Neighbours at the other end of a cable: a thread that answers ARP and neighbour discovery for as many as wanted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::frames::{Mac, arp, neighbour};
use super::wire::Wire;

/// Who is there, and how often the director asked for whom.
#[derive(Debug, Default)]
struct Shared {
    known: Mutex<HashMap<IpAddr, Mac>>,
    asked: Mutex<HashMap<IpAddr, u32>>,
    stop: AtomicBool,
}

/// Neighbours on an interface. They leave when dropped.
#[derive(Debug)]
pub struct Hosts {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Hosts {
    /// Neighbours with these addresses and MACs.
    ///
    /// # Panics
    /// When the interface is not there.
    #[must_use]
    pub fn on(interface: &str, known: &[(IpAddr, Mac)]) -> Self {
        let shared =
            Arc::new(Shared { known: Mutex::new(known.iter().copied().collect()), ..Shared::default() });
        let (wire, there) = (Wire::open(interface), shared.clone());
        let work = move || {
            while !there.stop.load(Ordering::Relaxed) {
                let answer = wire.receive().and_then(|frame| there.answer(&frame));
                if let Some(frame) = answer {
                    wire.send(&frame);
                }
            }
        };
        let thread = std::thread::Builder::new().name("hosts".into()).spawn(work).expect("a thread");
        Self { shared, thread: Some(thread) }
    }

    /// From now on this neighbour has this MAC; none: it is not there.
    pub fn set(&self, address: IpAddr, mac: Option<Mac>) {
        let mut known = self.shared.known.lock().expect("no panic");
        match mac {
            Some(mac) => known.insert(address, mac),
            None => known.remove(&address),
        };
    }

    /// How often the director asked for this neighbour.
    #[must_use]
    pub fn asked(&self, address: IpAddr) -> u32 {
        self.shared.asked.lock().expect("no panic").get(&address).copied().unwrap_or(0)
    }

    /// How often the director asked for anybody.
    #[must_use]
    pub fn asked_in_all(&self) -> u32 {
        self.shared.asked.lock().expect("no panic").values().sum()
    }
}

impl Shared {
    /// The answer to a question.
    fn answer(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let (asker, source, target) = question(frame)?;
        if source == target {
            return None;
        }
        *self.asked.lock().expect("no panic").entry(target).or_default() += 1;
        let mac = *self.known.lock().expect("no panic").get(&target)?;
        Some(match target {
            IpAddr::V4(_) => arp(2, [mac, asker], (mac, target), (asker, source)),
            // Who has no address yet is answered with everybody (RFC 4861, 7.2.4): override alone.
            IpAddr::V6(_) if source.is_unspecified() => {
                let everybody = IpAddr::from(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
                neighbour(136, [mac, [0x33, 0x33, 0, 0, 0, 1]], [target, everybody, target], 0x20, Some(mac))
            }
            // Solicited, override.
            IpAddr::V6(_) => neighbour(136, [mac, asker], [target, source, target], 0x60, Some(mac)),
        })
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Who asks for whom: the asker's MAC and address, and the address asked for.
#[must_use]
pub fn question(frame: &[u8]) -> Option<(Mac, IpAddr, IpAddr)> {
    let mac = frame.get(6..12)?.try_into().ok()?;
    let v4 = |at: usize| frame.get(at..at + 4)?.try_into().ok().map(|octets: [u8; 4]| IpAddr::from(octets));
    let v6 = |at: usize| frame.get(at..at + 16)?.try_into().ok().map(|octets: [u8; 16]| IpAddr::from(octets));
    match frame.get(12..14)? {
        [8, 6] if frame.get(20..22)? == [0, 1] => Some((mac, v4(28)?, v4(38)?)),
        [0x86, 0xdd] if *frame.get(20)? == 58 && *frame.get(54)? == 135 => Some((mac, v6(22)?, v6(62)?)),
        _ => None,
    }
}

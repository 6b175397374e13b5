//! Watches over drivers while they make and open NICs, which nothing but a driver itself can end. One that waits for somebody, or does
//! not come back, is told of, and an end that is asked for meanwhile comes about.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use shunt_config::Nic;
use shunt_config::check::pci;
use shunt_config::device::Kind;

use super::StartError;
use crate::signals;
use crate::threads::watcher;

/// From one look at the clock and the signals to the next.
const LOOK: Duration = Duration::from_millis(100);
/// A driver that takes longer is told of.
const LONG: Duration = Duration::from_secs(10);
/// How long a driver may take after the end was asked for.
const END: Duration = Duration::from_secs(5);

/// Watches over one NIC until it is dropped.
#[derive(Debug)]
pub(super) struct Opening {
    /// The thread ends with it.
    _open: Sender<()>,
}

impl Opening {
    /// A driver begins with this NIC.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn of(nic: &Nic) -> Result<Self, StartError> {
        let (open, ended) = channel();
        let place = format!("nic \"{}\"", nic.name);
        let mut watch = Watch {
            place: place.clone(),
            since: Instant::now(),
            client: nic.device.waits_at().map(PathBuf::from),
            advice: advice(&nic.device.kind),
            told: false,
            asked: None,
        };
        let work = move || {
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                watch.look(Instant::now());
            }
        };
        let thread = std::thread::Builder::new().name("shunt-opening".into()).spawn(work);
        thread.map(|_| Self { _open: open }).map_err(|error| StartError::of(&place, &error))
    }
}

#[derive(Debug)]
struct Watch {
    place: String,
    since: Instant,
    /// virtio_user as the server of its socket: its driver waits for its first client, for as long as none comes.
    client: Option<PathBuf>,
    advice: &'static str,
    told: bool,
    /// Since when the end is asked for.
    asked: Option<Instant>,
}

impl Watch {
    fn look(&mut self, now: Instant) {
        let Self { place, since, client, .. } = self;
        match client {
            Some(path) if !self.told => {
                self.told = true;
                tracing::info!("{place}: waits for its first client at {}", path.display());
            }
            None if !self.told && now - *since >= LONG => {
                self.told = true;
                tracing::error!(
                    "{place}: its driver has not come back for {} s: the director does not start before it does: {}",
                    LONG.as_secs(),
                    self.advice
                );
            }
            _ => {}
        }
        let Some(signal) = signals::end_asked() else { return };
        let asked = *self.asked.get_or_insert(now);
        if let Some(path) = client {
            // Whatever comes of it: a client that goes at once is no client for the driver, which gives up.
            let _ = UnixStream::connect(path);
        }
        if now - asked >= END {
            watcher::end_now(&format!(
                "{place}: {signal} came {} s ago, and the driver does not come back: the director ends without it",
                END.as_secs()
            ));
        }
    }
}

/// What may keep a driver, and what to do.
fn advice(kind: &Kind) -> &'static str {
    match kind {
        Kind::Pci(address) if pci::is_virtio_behind_an_iommu(Path::new(pci::SYSFS), address) => {
            "a virtio device behind an IOMMU that was not told of it reads other memory than the driver writes: start the virtual \
             machine with iommu_platform=on for this device, or bind it to uio_pci_generic"
        }
        _ => "look whether the other end of the device answers, and end the start by SIGTERM",
    }
}

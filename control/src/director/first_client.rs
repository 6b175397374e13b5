//! virtio_user as the server of its socket: DPDK's driver of it waits for its first client when the device is made, for as long as none
//! comes, and nothing else can end that. So it is told, and a director that is to end meanwhile is that client itself.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use shunt_config::Nic;

use super::StartError;
use crate::signals;

/// From one look at the signals to the next.
const LOOK: Duration = Duration::from_millis(100);

/// Watches over the wait until it is dropped.
#[derive(Debug)]
pub(super) struct FirstClient {
    /// The thread ends with it.
    _waits: Sender<()>,
}

impl FirstClient {
    /// For a NIC whose driver waits.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn of(nic: &Nic) -> Result<Option<Self>, StartError> {
        let Some(path) = nic.device.waits_at().map(PathBuf::from) else { return Ok(None) };
        let (waits, ended) = channel();
        let name = nic.name.clone();
        let watch = move || {
            let mut told = false;
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!("nic \"{name}\": waits for its first client at {}", path.display());
                }
                if signals::end_asked().is_some() {
                    // Whatever comes of it: a client that goes at once is no client for the driver, which gives up.
                    let _ = UnixStream::connect(&path);
                }
            }
        };
        let thread = std::thread::Builder::new().name("shunt-waits".into()).spawn(watch);
        let place = format!("nic \"{}\"", nic.name);
        thread.map(|_| Some(Self { _waits: waits })).map_err(|error| StartError::of(&place, &error))
    }
}

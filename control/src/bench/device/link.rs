//! The NICs of a measurement with a generator: the director's, and the generator's at their far ends.

use std::time::{Duration, Instant};

use dpdk_sys::{MbufBurst, Nic, RingFeed, RingNic, RingReceiver, RxQueue, TxQueue};
use shunt_config::MTU_DEFAULT;
use shunt_config::device::{Device, Kind};
use shunt_dataplane::id::NicId;
use shunt_dataplane::worker::NicQueues;

use crate::bench::BenchError;
use crate::bench::rig::{Bench, MTU};

/// How long links may take to come up: memif and vhost introduce themselves to each other first.
const UP_WITHIN: Duration = Duration::from_secs(10);

/// The far end of a NIC of the director.
#[derive(Debug)]
pub enum End {
    /// A NIC of the generator's.
    Nic(Nic, RxQueue, TxQueue),
    /// The rings that the director's NIC is made of.
    Rings(RingFeed, RingReceiver),
}

impl End {
    /// Sends what it can; the rest stays in the burst.
    #[inline]
    pub fn send(&mut self, burst: &mut MbufBurst) -> usize {
        match self {
            Self::Nic(_, _, tx) => tx.burst(burst),
            Self::Rings(feed, _) => feed.send_burst(burst),
        }
    }

    /// Takes what has come.
    #[inline]
    pub fn receive(&mut self, burst: &mut MbufBurst) -> usize {
        match self {
            Self::Nic(_, rx, _) => rx.burst(burst),
            Self::Rings(_, drain) => drain.receive_burst(burst),
        }
    }
}

/// How long an end may take to notice that the other is gone, where its driver tells.
const ALONE_WITHIN: Duration = Duration::from_millis(500);
/// What its driver may do after that it told.
const SETTLE: Duration = Duration::from_millis(50);

impl End {
    /// Waits until the driver has noticed that the other end is closed.
    pub fn wait_until_alone(&self) {
        let Self::Nic(nic, ..) = self else { return };
        let start = Instant::now();
        while nic.link_up() && start.elapsed() < ALONE_WITHIN {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(SETTLE);
    }
}

/// One NIC of the director with its far end.
#[derive(Debug)]
pub struct Link {
    /// For the worker.
    pub queues: NicQueues,
    /// The director's NIC, which closes with this.
    pub nic: Nic,
    /// For the generator.
    pub end: End,
}

/// The device at the far end of the director's, where that follows from it.
fn peer(device: &Device) -> Option<Device> {
    let parse = |text: String| Device::parse(&text).ok();
    match &device.kind {
        Kind::Memif(path) => parse(format!("memif:{path},role=client")),
        Kind::VirtioUser(path) => parse(format!("net_vhost0,iface={path}")),
        _ => None,
    }
}

/// The director's device as it is opened: a memif that names no role is the server.
fn own(device: &Device) -> Device {
    let mut device = device.clone();
    if matches!(device.kind, Kind::Memif(_)) && !device.extra.contains("role=") {
        device.extra = [device.extra.as_str(), "role=server"].join(",").trim_start_matches(',').to_owned();
    }
    device
}

/// Opens a device of the director's and the generator's at its far end, and waits until both are up. `number` counts the
/// director's NICs.
///
/// # Errors
/// When the far end is not known or a driver refuses.
pub fn open(
    bench: &Bench,
    number: usize,
    device: &Device,
    generator: Option<&Device>,
) -> Result<Link, BenchError> {
    let id = NicId(number as u8);
    if let (Kind::Ring(_), None) = (&device.kind, generator) {
        let RingNic { nic, mut rx, mut tx, mut feeds, mut drains } = bench.nic()?;
        let (Some(rx), Some(tx), Some(feed), Some(drain)) = (rx.pop(), tx.pop(), feeds.pop(), drains.pop())
        else {
            return Err(BenchError::new("a NIC of rings came without queues"));
        };
        return Ok(Link { queues: NicQueues { nic: id, rx, tx }, nic, end: End::Rings(feed, drain) });
    }
    let Some(far) = generator.cloned().or_else(|| peer(device)) else {
        return Err(BenchError::new(&format!(
            "{device}: nothing says what is at its far end: name the generator's device by --generator (memif:, \
             virtio_user: and ring: have one of their own)"
        )));
    };
    // vhost makes the socket that virtio_user looks for when it is opened; a memif client looks again and again.
    let far_first = matches!(device.kind, Kind::VirtioUser(_));
    let mut opened = [None, None];
    for which in if far_first { [1, 0] } else { [0, 1] } {
        let one = if which == 0 { own(device) } else { far.clone() };
        opened[which] = Some(open_one(bench, 2 * number + which, &one)?);
    }
    let [Some((nic, rx, tx)), Some((far_nic, far_rx, far_tx))] = opened else {
        return Err(BenchError::new("a device did not open"));
    };
    let start = Instant::now();
    while !(nic.link_up() && far_nic.link_up()) {
        if start.elapsed() > UP_WITHIN {
            return Err(BenchError::new(&format!(
                "{device} and {far}: no link after {} s: do they belong together?",
                UP_WITHIN.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(Link { queues: NicQueues { nic: id, rx, tx }, nic, end: End::Nic(far_nic, far_rx, far_tx) })
}

/// Opens a device; `index` counts all that are opened.
fn open_one(bench: &Bench, index: usize, device: &Device) -> Result<(Nic, RxQueue, TxQueue), BenchError> {
    // Drivers in software have buffers for the largest frame of a tunnel whatever they are told, and some know no MTU
    // beyond 1500.
    bench.open(device, index, if device.is_pci() { MTU } else { MTU_DEFAULT })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn far(text: &str) -> Option<String> {
        peer(&Device::parse(text).unwrap()).map(|device| device.to_string())
    }

    #[test]
    fn far_ends_follow_from_devices_that_have_one() {
        assert_eq!(far("memif:/tmp/m.sock").as_deref(), Some("memif:/tmp/m.sock,role=client"));
        assert_eq!(far("virtio_user:/tmp/v.sock").as_deref(), Some("net_vhost0,iface=/tmp/v.sock"));
        assert_eq!((far("0000:3b:00.0"), far("af_packet:eth1")), (None, None));
        let own = |text: &str| own(&Device::parse(text).unwrap()).to_string();
        assert_eq!(own("memif:/tmp/m.sock"), "memif:/tmp/m.sock,role=server");
        assert_eq!(
            own("memif:/tmp/m.sock,role=client,zero-copy=yes"),
            "memif:/tmp/m.sock,role=client,zero-copy=yes"
        );
    }
}

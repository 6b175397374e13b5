//! The kernel-side interface: how the director's own traffic (health checks) uses ordinary sockets.
//!
//! Each NIC gets a TAP with its MAC and its own addresses, in a network namespace that belongs to the director
//! alone: the kernel can neither bypass the NIC nor answer for it. What the kernel sends comes out of
//! [`Kernel::read`] and leaves by the NIC as it is; what arrives for the director's own addresses goes in by
//! [`Kernel::write`]. Neighbours outside are answered by [`crate::neighbour`], never by this kernel, which therefore
//! sees answers (ARP replies, advertisements) but no questions.

mod configure;
mod error;
mod namespace;
pub mod service_way;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use ipnet::IpNet;
use shunt_dataplane::id::{Mac, NicId};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

pub use error::KernelError;
pub use namespace::Namespace;
pub use service_way::{ServiceWay, ServiceWays};

/// Bytes in the longest name of an interface.
const INTERFACE_NAME_MAX: usize = 15;

/// A NIC as the kernel side needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicSide {
    /// Its name in the configuration.
    pub name: String,
    /// Its MAC.
    pub mac: Mac,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// The director's own addresses on it with their networks, and VIPs that it serves itself.
    pub addresses: Vec<IpNet>,
    /// Routers for everything that has no route.
    pub gateways: Vec<IpAddr>,
    /// Neighbours whose MAC the configuration names.
    pub neighbours: Vec<(IpAddr, Mac)>,
    /// Routes out of this NIC, and their routers; none when destinations are neighbours.
    pub routes: Vec<(IpNet, Option<IpAddr>)>,
}

impl NicSide {
    /// The TAP's name: `shunt-` and the NIC's name, or its number where that is not a name that the kernel takes.
    #[must_use]
    pub fn interface(&self, nic: NicId) -> String {
        let name = format!("shunt-{}", self.name);
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if plain && name.len() <= INTERFACE_NAME_MAX { name } else { format!("shunt-nic{nic}") }
    }
}

/// A TAP and the NIC that it stands for.
struct Tap {
    device: SyncDevice,
    interface: String,
    index: u32,
    side: NicSide,
}

/// The TAPs of all NICs and the namespace that they are in. Dropping it ends both, once no thread is left in there.
pub struct Kernel {
    namespace: Namespace,
    taps: Vec<Tap>,
    ways: ServiceWays,
    /// The TAPs are what their sides say: false after the kernel refused something.
    settled: bool,
}

impl Kernel {
    /// Makes the namespace and a TAP for each NIC (by [`NicId`]) with its addresses and routes, all up.
    ///
    /// # Errors
    /// [`KernelError`] names the capability or device that is missing, or what the kernel refused.
    pub fn start(sides: &[NicSide]) -> Result<Self, KernelError> {
        let namespace = Namespace::new()?;
        let mut taps: Vec<Tap> = namespace.run(|| {
            configure::namespace_defaults();
            sides
                .iter()
                .enumerate()
                .map(|(place, side)| open(NicId(place as u8), side))
                .collect::<Result<_, _>>()
        })??;
        apply(&namespace, &mut taps, sides)?;
        Ok(Self { namespace, taps, ways: ServiceWays::default(), settled: true })
    }

    /// Gives the TAPs other addresses, routes and MTUs. Addresses that stay are not touched, so connections of running
    /// checks survive. Where nothing changes the kernel is not asked: whoever calls may have adverts to send, and would wait
    /// for an ordinary thread.
    ///
    /// # Errors
    /// [`KernelError::Nics`] when the NICs themselves are others; that takes a new start.
    pub fn update(&mut self, sides: &[NicSide]) -> Result<(), KernelError> {
        let same = |(tap, side): (&Tap, &NicSide)| tap.side.name == side.name && tap.side.mac == side.mac;
        if self.taps.len() != sides.len() || !self.taps.iter().zip(sides).all(same) {
            return Err(KernelError::Nics);
        }
        if self.settled && self.taps.iter().map(|tap| &tap.side).eq(sides) {
            return Ok(());
        }
        self.settled = false;
        apply(&self.namespace, &mut self.taps, sides)?;
        self.settled = true;
        Ok(())
    }

    /// The next frame that the kernel sends out of a NIC; none when there is none now. A frame longer than `buffer`
    /// is cut: [`Kernel::FRAME_MAX`] is enough for any.
    ///
    /// # Errors
    /// What reading from the TAP gave.
    pub fn read(&self, nic: NicId, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(tap) = self.taps.get(nic.index()) else { return Ok(None) };
        match tap.device.recv(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Hands a frame that arrived on a NIC to the kernel; false when it did not take it.
    pub fn write(&self, nic: NicId, frame: &[u8]) -> bool {
        self.taps.get(nic.index()).is_some_and(|tap| tap.device.send(frame).is_ok())
    }

    /// The descriptors to poll for reading, by [`NicId`].
    pub fn fds(&self) -> impl Iterator<Item = (NicId, BorrowedFd<'_>)> {
        self.taps.iter().enumerate().map(|(place, tap)| (NicId(place as u8), tap.device.as_fd()))
    }

    /// The namespace, for threads whose sockets belong in it.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Which sockets of checks go which way, for those who open them.
    #[must_use]
    pub const fn ways(&self) -> &ServiceWays {
        &self.ways
    }

    /// Bytes that the longest frame of any TAP needs: the largest MTU and an Ethernet header with a VLAN tag.
    pub const FRAME_MAX: usize = u16::MAX as usize + 18;
}

fn apply(namespace: &Namespace, taps: &mut [Tap], sides: &[NicSide]) -> Result<(), KernelError> {
    namespace.run(|| configure::apply(taps, sides))??;
    for (tap, side) in taps.iter_mut().zip(sides) {
        tap.side = side.clone();
    }
    Ok(())
}

/// Opens the TAP of a NIC, without addresses and down.
fn open(nic: NicId, side: &NicSide) -> Result<Tap, KernelError> {
    let interface = side.interface(nic);
    let tap = |source: io::Error| KernelError::tap(&interface, source);
    let device = DeviceBuilder::new()
        .name(&interface)
        .layer(Layer::L2)
        .mac_addr(side.mac.0)
        .mtu(side.mtu)
        .packet_information(false)
        .offload(false)
        .inherit_enable_state()
        .build_sync()
        .map_err(tap)?;
    device.set_nonblocking(true).map_err(tap)?;
    let index = device.if_index().map_err(tap)?;
    let bare = NicSide {
        addresses: Vec::new(),
        gateways: Vec::new(),
        neighbours: Vec::new(),
        routes: Vec::new(),
        ..side.clone()
    };
    Ok(Tap { device, interface, index, side: bare })
}

#[cfg(test)]
mod tests;

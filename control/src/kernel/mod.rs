//! The kernel-side interface: how the director's own traffic (health checks) uses ordinary sockets.
//!
//! Each NIC gets a TAP with its MAC and its own addresses, in a network namespace that belongs to the director
//! alone: the kernel can neither bypass the NIC nor answer for it. What the kernel sends comes out of
//! [`Kernel::read`] and leaves by the NIC, at the MAC that [`shunt_protocol::neighbour`] says ([`next_hop`]); what arrives for the director's own
//! addresses goes in by [`Kernel::write`]. Neighbours outside are asked and answered by [`shunt_protocol::neighbour`] alone: this kernel sees neither
//! questions nor answers.

mod configure;
mod error;
mod namespace;
pub mod next_hop;
mod resident;
pub mod service_way;
mod settings;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use ipnet::IpNet;
use shunt_dataplane::id::{Mac, NicId};
use shunt_model::health::ServiceWay;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

pub use error::KernelError;
pub use namespace::Namespace;
pub use next_hop::Routes;
use resident::Resident;
use service_way::NotedWays;
pub use service_way::ServiceWays;
use settings::TapSetting;
pub use settings::TapSettings;

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

/// The TAPs of all NICs, to read from and write to, and the namespace that they are in. Dropping it ends the TAPs, and the namespace once
/// no thread is left in there. It asks the kernel for nothing: [`TapSettings`] does.
pub struct Kernel {
    namespace: Namespace,
    taps: Vec<SyncDevice>,
    ways: ServiceWays,
    noted: NotedWays,
}

impl Kernel {
    /// Makes the namespace and a TAP for each NIC (by [`NicId`]) with its addresses and routes, all up; what changes these later is
    /// given back beside it.
    ///
    /// # Errors
    /// [`KernelError`] names the capability or device that is missing, or what the kernel refused.
    pub fn start(sides: &[NicSide]) -> Result<(Self, TapSettings), KernelError> {
        let namespace = Namespace::new()?;
        let (taps, settings): (_, Vec<TapSetting>) = namespace.run(|| {
            configure::namespace_defaults();
            let numbered = sides.iter().enumerate();
            numbered.map(|(place, side)| open(NicId(place as u8), side)).collect::<Result<_, _>>()
        })??;
        let resident = Resident::start(namespace.clone())?;
        let mut settings = TapSettings::new(resident.clone(), settings);
        settings.update(sides)?;
        let (ways, noted) = NotedWays::new(Some(resident));
        Ok((Self { namespace, taps, ways, noted }, settings))
    }

    /// The next frame that the kernel sends out of a NIC; none when there is none now. A frame longer than `buffer`
    /// is cut: [`Kernel::FRAME_MAX`] is enough for any.
    ///
    /// # Errors
    /// What reading from the TAP gave.
    pub fn read(&self, nic: NicId, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(tap) = self.taps.get(nic.index()) else { return Ok(None) };
        match tap.recv(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Hands a frame that arrived on a NIC to the kernel; false when it did not take it.
    pub fn write(&self, nic: NicId, frame: &[u8]) -> bool {
        self.taps.get(nic.index()).is_some_and(|tap| tap.send(frame).is_ok())
    }

    /// The descriptors to poll for reading, by [`NicId`].
    pub fn fds(&self) -> impl Iterator<Item = (NicId, BorrowedFd<'_>)> {
        self.taps.iter().enumerate().map(|(place, tap)| (NicId(place as u8), tap.as_fd()))
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

    /// Takes the ways that checks noted since.
    pub fn follow_ways(&mut self) {
        self.noted.follow();
    }

    /// The way of a frame that the kernel sends to [`service_way::NEXT_HOP`]; none when no check sent it.
    pub fn way_of(&mut self, frame: &[u8]) -> Option<Arc<ServiceWay>> {
        self.noted.of(frame)
    }

    /// Bytes that the longest frame of any TAP needs: the largest MTU and an Ethernet header with a VLAN tag.
    pub const FRAME_MAX: usize = u16::MAX as usize + 18;
}

/// Opens the TAP of a NIC, without addresses and down.
fn open(nic: NicId, side: &NicSide) -> Result<(SyncDevice, TapSetting), KernelError> {
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
    Ok((device, TapSetting { interface, index, side: side.clone(), is_applied: false }))
}

#[cfg(test)]
mod tests;

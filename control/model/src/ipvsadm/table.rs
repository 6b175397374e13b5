//! The virtual server table as ipvsadm sees it: every field that a service and a destination can have, and the kernel's
//! rules for changing them (`ip_vs_ctl.c`: `do_ip_vs_set_ctl`, `ip_vs_genl_set_cmd`).
//!
//! It knows more than the data path can do; `convert` of the director says which of it a running one can take.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// What a service is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl From<shunt_dataplane::id::Protocol> for Protocol {
    fn from(protocol: shunt_dataplane::id::Protocol) -> Self {
        match protocol {
            shunt_dataplane::id::Protocol::Tcp => Self::Tcp,
            // No service has ICMP.
            shunt_dataplane::id::Protocol::Udp | shunt_dataplane::id::Protocol::Icmp => Self::Udp,
            shunt_dataplane::id::Protocol::Sctp => Self::Sctp,
        }
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// What makes a service the same service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// VIP and port; port 0 takes all ports that no other service has.
    Address(Protocol, SocketAddr),
    /// A firewall mark, for packets of one family.
    Mark(u32, Family),
}

impl Key {
    /// The family of its packets.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::Address(_, address) => Family::of(address.ip()),
            Self::Mark(_, family) => family,
        }
    }
}

/// As errors name it: `tcp 192.0.2.10:80`, `fwmark 7`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(Protocol::Tcp, address) => write!(f, "tcp {address}"),
            Self::Address(Protocol::Udp, address) => write!(f, "udp {address}"),
            Self::Address(Protocol::Sctp, address) => write!(f, "sctp {address}"),
            Self::Mark(mark, Family::V4) => write!(f, "fwmark {mark}"),
            Self::Mark(mark, Family::V6) => write!(f, "fwmark {mark} IPv6"),
        }
    }
}

/// Which clients share a persistence template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Netmask {
    /// An IPv4 mask.
    V4(Ipv4Addr),
    /// The length of an IPv6 prefix.
    V6(u8),
}

impl Netmask {
    /// The mask that keeps every client apart.
    #[must_use]
    pub const fn host(family: Family) -> Self {
        match family {
            Family::V4 => Self::V4(Ipv4Addr::BROADCAST),
            Family::V6 => Self::V6(128),
        }
    }
}

/// Persistence of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// Seconds that a template lives.
    pub timeout: u32,
    /// Which clients share one.
    pub netmask: Netmask,
}

/// Flags of a scheduler, bits 0 to 2: `flag-1` to `flag-3`, or by the scheduler's own names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerFlags(pub u8);

impl SchedulerFlags {
    /// `sh-fallback`, `mh-fallback`.
    pub const FALLBACK: Self = Self(1);
    /// `sh-port`, `mh-port`.
    pub const PORT: Self = Self(2);
    /// `flag-3`.
    pub const THIRD: Self = Self(4);
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// What it is known by.
    pub key: Key,
    /// The scheduler's word.
    pub scheduler: String,
    /// The scheduler's flags.
    pub flags: SchedulerFlags,
    /// Persistence, if any.
    pub persistence: Option<Persistence>,
    /// The persistence engine.
    pub engine: Option<String>,
    /// Each packet is scheduled by itself.
    pub one_packet: bool,
    /// Destinations in the order in which they were added.
    pub destinations: Vec<Destination>,
    /// What was counted; no part of the configuration.
    #[serde(default, skip_serializing_if = "Counters::is_zero")]
    pub counters: Counters,
}

/// A real server of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    /// RIP and port.
    pub address: SocketAddr,
    /// How packets reach it.
    pub forward: Forward,
    /// Weight; 0 quiesces.
    pub weight: u32,
    /// Above so many connections it gets no new ones; 0 for no bound.
    pub upper: u32,
    /// Below so many connections it gets new ones again; 0 for three quarters of `upper`.
    pub lower: u32,
    /// What was counted; no part of the configuration.
    #[serde(default, skip_serializing_if = "Counters::is_zero")]
    pub counters: Counters,
}

/// The forwarding method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// `-m`: addresses are rewritten.
    Masquerade,
    /// `-i`: inside another packet.
    Tunnel(Tunnel),
    /// `-g`: by MAC.
    Route,
}

/// What a tunnelled packet travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Its kind.
    pub kind: TunnelKind,
    /// The UDP port of GUE.
    pub port: u16,
    /// The checksum of GRE and GUE.
    pub checksum: TunnelChecksum,
}

impl Tunnel {
    /// IP in IP.
    pub const IPIP: Self = Self { kind: TunnelKind::Ipip, port: 0, checksum: TunnelChecksum::None };
}

/// Kinds of tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelKind {
    /// IP in IP (RFC 2003, RFC 2473).
    Ipip,
    /// Generic UDP encapsulation.
    Gue,
    /// Generic routing encapsulation (RFC 2784).
    Gre,
}

/// Checksums of tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelChecksum {
    /// None.
    None,
    /// Over the outer header's payload.
    Checksum,
    /// Remote checksum offload.
    Remote,
}

/// What is counted for a service or a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Connections that count as active (`ActiveConn`).
    pub active: u64,
    /// Connections that count as inactive (`InActConn`).
    pub inactive: u64,
    /// Persistence templates (`PersistConn`).
    pub persistent: u64,
    /// Since the start, or since they were zeroed.
    pub totals: Numbers,
    /// In a second, as estimated.
    pub rates: Numbers,
}

impl Counters {
    /// True when nothing was counted.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// Connections, packets and bytes: `Conns InPkts OutPkts InBytes OutBytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// IP bytes from clients.
    pub bytes_in: u64,
    /// IP bytes to clients.
    pub bytes_out: u64,
}

impl Numbers {
    /// Each of them and the other's.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            connections: self.connections.wrapping_add(other.connections),
            packets_in: self.packets_in.wrapping_add(other.packets_in),
            packets_out: self.packets_out.wrapping_add(other.packets_out),
            bytes_in: self.bytes_in.wrapping_add(other.bytes_in),
            bytes_out: self.bytes_out.wrapping_add(other.bytes_out),
        }
    }

    /// What is above the other's.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            connections: self.connections.saturating_sub(other.connections),
            packets_in: self.packets_in.saturating_sub(other.packets_in),
            packets_out: self.packets_out.saturating_sub(other.packets_out),
            bytes_in: self.bytes_in.saturating_sub(other.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(other.bytes_out),
        }
    }
}

impl Numbers {
    /// The other's taken away; wraps below 0.
    #[must_use]
    pub const fn wrapping_minus(self, other: Self) -> Self {
        Self {
            connections: self.connections.wrapping_sub(other.connections),
            packets_in: self.packets_in.wrapping_sub(other.packets_in),
            packets_out: self.packets_out.wrapping_sub(other.packets_out),
            bytes_in: self.bytes_in.wrapping_sub(other.bytes_in),
            bytes_out: self.bytes_out.wrapping_sub(other.bytes_out),
        }
    }

    /// True when none of them is below the other's.
    #[must_use]
    pub const fn reaches(self, other: Self) -> bool {
        self.connections >= other.connections
            && self.packets_in >= other.packets_in
            && self.packets_out >= other.packets_out
            && self.bytes_in >= other.bytes_in
            && self.bytes_out >= other.bytes_out
    }
}

/// Seconds that connections live, as `--set` changes and `-L --timeout` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// Established TCP connections.
    pub tcp: u32,
    /// TCP connections after a FIN.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { tcp: 900, tcp_fin: 120, udp: 300 }
    }
}

/// Everything that ipvsadm shows but the connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Services in the order in which they were added.
    pub services: Vec<Service>,
    /// Timeouts.
    pub timeouts: Timeouts,
}

/// One change of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// `-A`.
    AddService(Service),
    /// `-E`: its destinations stay.
    EditService(Service),
    /// `-D`.
    DeleteService(Key),
    /// `-C`.
    Clear,
    /// `-a`.
    AddServer(Key, Destination),
    /// `-e`.
    EditServer(Key, Destination),
    /// `-d`.
    DeleteServer(Key, SocketAddr),
    /// `-Z`: of one service or of all.
    Zero(Option<Key>),
    /// `--set`: 0 keeps a value.
    SetTimeouts(Timeouts),
}

/// Why a change is refused; [`fmt::Display`] is what ipvsadm says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// `EEXIST` of a service.
    ServiceExists,
    /// `ESRCH` of a service that is changed.
    NoSuchService,
    /// `ESRCH` of a service whose destination is changed.
    ServiceNotDefined,
    /// `EEXIST` of a destination.
    DestinationExists,
    /// `ENOENT` of a destination.
    NoSuchDestination,
    /// `ENOENT` of a service that is added or changed.
    SchedulerNotFound,
    /// `ERANGE`: the lower threshold is above the upper one.
    OutOfRange,
    /// `EINVAL`: an address that no host has.
    Invalid,
    /// What this director says beyond the kernel.
    Director(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServiceExists => "Service already exists",
            Self::NoSuchService => "No such service",
            Self::ServiceNotDefined => "Service not defined",
            Self::DestinationExists => "Destination already exists",
            Self::NoSuchDestination => "No such destination",
            Self::SchedulerNotFound => "Scheduler or persistence engine not found",
            Self::OutOfRange => "Numerical result out of range",
            Self::Invalid => "Invalid operation.  Possibly wrong module version, address not unicast, ...",
            Self::Director(text) => text,
        })
    }
}

/// The schedulers of the kernel.
pub const SCHEDULERS: [&str; 14] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"];
/// The persistence engines of the kernel.
pub const ENGINES: [&str; 1] = ["sip"];

impl Table {
    /// The service of this key.
    #[must_use]
    pub fn service(&self, key: Key) -> Option<&Service> {
        self.services.iter().find(|service| service.key == key)
    }

    /// Makes a change as the kernel does.
    ///
    /// # Errors
    /// What the kernel refuses; nothing is changed then.
    pub fn apply(&mut self, change: &Change) -> Result<(), Refused> {
        let place = change.key().and_then(|key| self.services.iter().position(|service| service.key == key));
        self.apply_at(change, place)
    }

    /// As [`Self::apply`], by who knows the place of the service that is changed; none says that it is not there.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_at(&mut self, change: &Change, place: Option<usize>) -> Result<(), Refused> {
        let service = place.and_then(|place| self.services.get_mut(place));
        match change {
            Change::AddService(new) => {
                if service.is_some() {
                    return Err(Refused::ServiceExists);
                }
                check_service(new)?;
                self.services.push(new.clone());
            }
            Change::EditService(new) => {
                let service = service.ok_or(Refused::NoSuchService)?;
                check_service(new)?;
                let destinations = std::mem::take(&mut service.destinations);
                *service = Service { destinations, ..new.clone() };
            }
            Change::DeleteService(_) => drop(self.services.remove(place.ok_or(Refused::NoSuchService)?)),
            Change::Clear => self.services.clear(),
            Change::AddServer(_, new) => service.ok_or(Refused::ServiceNotDefined)?.add(new)?,
            Change::EditServer(_, new) => {
                let service = service.ok_or(Refused::ServiceNotDefined)?;
                check_thresholds(new)?;
                let place = service.destination(new.address).ok_or(Refused::NoSuchDestination)?;
                service.destinations[place] = new.clone();
            }
            Change::DeleteServer(_, address) => {
                let service = service.ok_or(Refused::ServiceNotDefined)?;
                let place = service.destination(*address).ok_or(Refused::NoSuchDestination)?;
                service.destinations.remove(place);
            }
            Change::Zero(None) => {}
            Change::Zero(Some(_)) => drop(service.ok_or(Refused::NoSuchService)?),
            Change::SetTimeouts(new) => self.timeouts.set(*new),
        }
        Ok(())
    }
}

impl Change {
    /// The service that is changed; none when it is not one.
    #[must_use]
    pub const fn key(&self) -> Option<Key> {
        match self {
            Self::AddService(service) | Self::EditService(service) => Some(service.key),
            Self::DeleteService(key)
            | Self::AddServer(key, _)
            | Self::EditServer(key, _)
            | Self::DeleteServer(key, _) => Some(*key),
            Self::Zero(key) => *key,
            Self::Clear | Self::SetTimeouts(_) => None,
        }
    }
}

impl Service {
    fn add(&mut self, new: &Destination) -> Result<(), Refused> {
        check_thresholds(new)?;
        if self.destination(new.address).is_some() {
            return Err(Refused::DestinationExists);
        }
        if !is_unicast(new.address.ip()) {
            return Err(Refused::Invalid);
        }
        self.destinations.push(new.clone());
        Ok(())
    }

    /// The place of the destination with this address.
    fn destination(&self, address: SocketAddr) -> Option<usize> {
        self.destinations.iter().position(|destination| destination.address == address)
    }
}

impl Timeouts {
    fn set(&mut self, new: Self) {
        for (value, new) in
            [(&mut self.tcp, new.tcp), (&mut self.tcp_fin, new.tcp_fin), (&mut self.udp, new.udp)]
        {
            if new != 0 {
                *value = new;
            }
        }
    }
}

fn check_service(service: &Service) -> Result<(), Refused> {
    let known = SCHEDULERS.contains(&service.scheduler.as_str());
    let engine_known = service.engine.as_deref().is_none_or(|engine| ENGINES.contains(&engine));
    if known && engine_known { Ok(()) } else { Err(Refused::SchedulerNotFound) }
}

const fn check_thresholds(destination: &Destination) -> Result<(), Refused> {
    if destination.lower > destination.upper { Err(Refused::OutOfRange) } else { Ok(()) }
}

/// True for an address that a host may have: no multicast, no broadcast, none that belongs to one link.
fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let of_loopback = address == Ipv4Addr::new(127, 255, 255, 255);
            !(address.is_unspecified() || address.is_multicast() || address.is_broadcast() || of_loopback)
        }
        IpAddr::V6(address) => {
            let of_link = address.segments()[0] & 0xffc0 == 0xfe80;
            let mapped = address.to_ipv4_mapped().is_some();
            !(address.is_unspecified() || address.is_multicast() || of_link || mapped)
        }
    }
}

impl Service {
    /// Takes over what was counted for each destination, in their order, and adds it up, but for totals,
    /// which the ledger keeps.
    pub fn count(&mut self, each: impl IntoIterator<Item = Counters>) {
        for (destination, counters) in self.destinations.iter_mut().zip(each) {
            destination.counters = counters;
            self.counters.active += counters.active;
            self.counters.inactive += counters.inactive;
            self.counters.persistent += counters.persistent;
            self.counters.rates = self.counters.rates.plus(counters.rates);
        }
    }
}

//! Virtual services and their real servers as the workers see them.

pub mod bypass;
pub mod mark;
pub mod masquerade;
pub mod path_mtu;
pub mod schedulers;
pub mod table;
pub mod tunnel;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::connections::{Share, Timeouts};
use crate::counters::RealCounters;
use crate::id::{L4Port, NicId, Protocol, RealId, ServiceId};
use crate::rewrite::tun;
use crate::time::Ticks;
use crate::wire::ethernet::Macs;
use path_mtu::{LastRoute, Overhead, PathMtu};
use schedulers::{Flags, Lookup, Scheduler};
use tunnel::Tunnel;

/// How packets reach the real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Direct routing: only the MAC changes; the real server holds the VIP and answers by itself.
    Dr,
    /// Address and port are rewritten; answers come back through the director.
    Nat,
    /// The packet travels inside another IP packet (RFC 2003, RFC 2473); the real server holds the VIP.
    Tun,
}

impl Method {
    /// The word of the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Dr => "dr",
            Self::Nat => "nat",
            Self::Tun => "tun",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A virtual service. Immutable; a change makes a new one with the same identifier.
#[derive(Debug)]
pub struct Service {
    /// Its identifier.
    pub id: ServiceId,
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// VIP and port.
    pub listen: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Which scheduler chooses.
    pub scheduler: Scheduler,
    /// How it does so, and what else the service is set to.
    pub settings: Settings,
    /// The real servers that may be chosen, as the kernel holds them: last added first. Those of weight 0 are
    /// among them, those found dead are not.
    pub candidates: Box<[Candidate]>,
    /// What the scheduler computed ahead of time.
    pub lookup: Lookup,
    /// Changes whenever a candidate comes, goes or changes its weight or thresholds, and only then: what the kernel's
    /// schedulers are told by `add_dest`, `del_dest` and `upd_dest`.
    pub edition: u64,
}

impl Service {
    /// True when it chooses for a connection what it chose for it before, though nothing is known of that: by addresses, ports and
    /// weights alone, or since there is one real server.
    #[must_use]
    pub fn chooses_again(&self) -> bool {
        matches!(self.scheduler, Scheduler::Sh | Scheduler::Mh | Scheduler::Dh | Scheduler::Fo)
            || self.candidates.len() == 1
    }
}

/// What a service is set to beside its scheduler and its real servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Of the scheduler.
    pub flags: Flags,
    /// Each UDP packet is scheduled for itself, and no connection is kept (`ipvsadm -o`).
    pub one_packet: bool,
    /// Whether, and how long, clients stay with their real server (`ipvsadm -p`).
    pub persistence: Option<Persistence>,
    /// How long its connections live, where that is not as long as all others.
    pub timeouts: ServiceTimeouts,
    /// SYNs to real servers in tunnels, and answers to them that come by, tell of no larger segments than fit (not the
    /// kernel's).
    pub mss_clamp: bool,
    /// The part of a connection table that its connections may be while the table is nearly full.
    pub share: Share,
}

/// How long connections of a service live without a packet; 0 for as long as those of all services. The kernel has
/// these for all services alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceTimeouts {
    /// Open TCP connections.
    pub tcp: Ticks,
    /// TCP connections in FIN_WAIT.
    pub tcp_fin: Ticks,
    /// UDP.
    pub udp: Ticks,
}

/// How clients stay with their real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Persistence {
    /// For so long after their last connection was made.
    pub timeout: Ticks,
    /// Bits of a client's address that count (`ipvsadm -M`): those that agree in them stay together.
    pub netmask: u8,
}

/// How many connections a real server may have (`ipvsadm -x`, `-y`). At `upper` it takes no more, until it has fewer than
/// `lower`, or where that is 0 less than three quarters of `upper`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Thresholds {
    /// 0 for no limit.
    pub upper: u32,
    /// 0 for three quarters of `upper`.
    pub lower: u32,
}

/// Whether a real server with thresholds takes connections (kernel: `IP_VS_DEST_F_OVERLOAD`). All workers share it; one
/// writes only when it changes.
#[derive(Clone, Debug)]
pub struct Overload {
    /// The thresholds; `upper` is not 0.
    pub thresholds: Thresholds,
    /// True while it takes none.
    pub overloaded: Arc<AtomicBool>,
}

impl Overload {
    /// It has `total` connections now, or other thresholds (kernel: `ip_vs_dest_update_overload`).
    pub fn update(&self, total: u64) {
        let Thresholds { upper, lower } = self.thresholds;
        let relieved = if lower > 0 { total < u64::from(lower) } else { total * 4 < u64::from(upper) * 3 };
        if total >= u64::from(upper) {
            self.set(true);
        } else if relieved {
            self.set(false);
        }
    }

    fn set(&self, overloaded: bool) {
        if self.overloaded.load(Ordering::Relaxed) != overloaded {
            self.overloaded.store(overloaded, Ordering::Relaxed);
        }
    }
}

/// A real server as its scheduler sees it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Which.
    pub real: RealId,
    /// RIP, and the port that connections get there: the service's unless the method is NAT.
    pub address: SocketAddr,
    /// Its weight; 0 takes no new connections.
    pub weight: u32,
    /// Its last weight that was not 0, or the one that it came with (kernel: `last_weight`).
    pub last_weight: u32,
    /// Its limit, when it has one.
    pub overload: Option<Overload>,
    /// Its counters, for the schedulers that choose by connections.
    pub counters: RealCounters,
}

impl Candidate {
    /// True when it reached its limit and did not go below the lower one since.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.overload.as_ref().is_some_and(|overload| overload.overloaded.load(Ordering::Relaxed))
    }

    /// True when it takes new connections.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.weight > 0 && !self.is_overloaded()
    }

    /// Its active connections over all workers.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.counters.sum(|cell| &cell.active)
    }
}

/// Where a frame goes on a NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Out of this NIC.
    pub nic: NicId,
    /// To this neighbour, from the NIC's own MAC.
    pub macs: Macs,
    /// The NIC's MTU: bytes of an IP packet.
    pub mtu: u16,
}

/// A neighbour whose MAC is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unresolved {
    /// The NIC behind which it is.
    pub nic: NicId,
    /// Its address.
    pub address: IpAddr,
}

/// The way to an address, when there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way<Hop = NextHop> {
    /// By this next hop.
    Known(Hop),
    /// By a neighbour that has to be resolved first.
    Unresolved(Unresolved),
    /// It is the director's own: to the kernel-side interface.
    Local,
    /// No route.
    None,
}

impl<Hop> Way<Hop> {
    /// The next hop, when it is known.
    #[inline]
    #[must_use]
    pub const fn hop(&self) -> Option<&Hop> {
        match self {
            Self::Known(hop) => Some(hop),
            Self::Unresolved(_) | Self::Local | Self::None => None,
        }
    }
}

impl Way {
    /// The NIC that it leaves by.
    #[must_use]
    pub const fn nic(&self) -> Option<NicId> {
        match self {
            Self::Known(hop) => Some(hop.nic),
            Self::Unresolved(unresolved) => Some(unresolved.nic),
            Self::Local | Self::None => None,
        }
    }

    /// The same way by a borrowed next hop.
    #[inline]
    #[must_use]
    pub const fn as_ref(&self) -> Way<&NextHop> {
        match self {
            Self::Known(hop) => Way::Known(hop),
            Self::Unresolved(unresolved) => Way::Unresolved(*unresolved),
            Self::Local => Way::Local,
            Self::None => Way::None,
        }
    }
}

impl Way<&NextHop> {
    /// The same way with a next hop of its own.
    #[must_use]
    pub const fn cloned(self) -> Way {
        match self {
            Self::Known(hop) => Way::Known(*hop),
            Self::Unresolved(unresolved) => Way::Unresolved(unresolved),
            Self::Local => Way::Local,
            Self::None => Way::None,
        }
    }
}

/// Whether a real server takes packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Up,
    /// It does, but some of the VIPs that its firewall mark takes packets for belong to another director now: each packet is
    /// asked for which.
    Divided,
    /// Its health check fails: TCP and SCTP connections stay; new ones, by old ports too, and UDP go elsewhere.
    Down,
    /// It was taken out of the configuration: packets of its connections are dropped.
    Removed,
}

/// A real server as the connections that use it see it. What every packet reads lies in the first cache line.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Real {
    /// Its counters.
    pub counters: RealCounters,
    /// How long its connections live; all real servers of a service share it, and most services.
    pub timeouts: Arc<Timeouts>,
    /// The way to it.
    pub way: Way,
    /// How packets reach it.
    pub method: Method,
    /// Whether it takes packets.
    pub standing: Standing,
    /// Bytes that packets to it become longer by, if they travel in a tunnel; more than any packet may have when there is no
    /// [`tunnel_source`](Self::tunnel_source) though it needs one.
    pub overhead: Overhead,
    /// Its port; 0 keeps the port of the packet. Only NAT rewrites the port.
    pub l4_port: L4Port,
    /// Its identifier.
    pub id: RealId,
    /// The service that it serves.
    pub service: ServiceId,
    /// RIP.
    pub address: IpAddr,
    /// The director's address that a tunnel to it starts from; none when the NIC has none of its family.
    pub tunnel_source: Option<IpAddr>,
    /// Its weight; 0 takes no new connections.
    pub weight: u32,
    /// Its limit, when it has one.
    pub overload: Option<Overload>,
    /// What packets travel in when the method is TUN.
    pub tunnel: Tunnel,
    /// Packets of its connections may travel in a tunnel: the method is TUN, or was, and open connections keep theirs.
    pub tunnels: bool,
    /// TCP is told of no larger segments than its tunnel takes.
    pub mss_clamp: bool,
    /// What the path of its tunnel was found to take.
    pub path_mtu: PathMtu,
    /// What its packets met last.
    pub last_route: LastRoute,
}

impl Real {
    /// True when it stands for an address that hosts are masqueraded by.
    #[must_use]
    pub fn is_masquerade(&self) -> bool {
        self.service == masquerade::SERVICE
    }

    /// True when it stands for the destinations of connections that no real server took.
    #[must_use]
    pub fn is_bypass(&self) -> bool {
        self.service == bypass::SERVICE
    }

    /// Works out its [`overhead`](Self::overhead).
    pub fn measure(&self) {
        let tunnel = match (self.tunnels, self.tunnel_source) {
            (false, _) => 0,
            (true, Some(_)) => tun::overhead(self.address, self.tunnel),
            (true, None) => u16::MAX,
        };
        let path = match &self.way {
            Way::Known(hop) if self.tunnels => hop.mtu - self.path_mtu.of(hop.mtu),
            _ => 0,
        };
        self.overhead.set(tunnel.saturating_add(path));
    }

    /// Packets that it got.
    fn packets(&self) -> u64 {
        self.counters.sum(|cell| &cell.packets_in)
    }

    /// True when this is news about the path of its tunnel.
    #[must_use]
    pub fn would_learn(&self, mtu: u16) -> bool {
        matches!(&self.way, Way::Known(hop) if mtu < self.path_mtu.of(hop.mtu))
    }

    /// The path of its tunnel is known for the first time.
    pub fn path_changed(&self) {
        self.last_route.learned(self.packets());
    }

    /// The real server's settings changed.
    pub fn edited(&self) {
        self.last_route.edited(self.packets());
    }

    /// The MTU that its clients are told of after an error that tells of `told` for the path to `other`.
    #[must_use]
    pub fn mtu_of_last_route(&self, told: u16, other: &Self) -> u16 {
        let Way::Known(hop) = &self.way else { return told };
        let mtu = self.last_route.mtu(self.packets(), told, hop.mtu, &self.path_mtu);
        // A route that has a learned MTU already has the new one at once.
        if mtu < hop.mtu && other.address == self.address {
            mtu.min(told.max(path_mtu::SMALLEST))
        } else {
            mtu
        }
    }
}

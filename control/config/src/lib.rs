//! The configuration: one TOML file, checked whole before anything is touched.
//!
//! Text → [`document`] (what the file says, with places) → [`check`] (every problem at once) → [`Config`] (what holds)
//! → the director's `compile` (the plan for the workers' snapshot); [`diff`] says what a new configuration changes, [`import`] takes files
//! of other programs.
//!
//! Text becomes values here: no clock, no socket, no thread and no protocol may ever enter. What only a socket or a database of names
//! can tell of a machine is asked of [`check::Host`].
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod check;
pub mod device;
pub mod diff;
pub mod document;
pub mod import;
pub mod problem;
pub mod removed;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use shunt_dataplane::address::Address as _;
use shunt_dataplane::connections::{Share, Timeouts};
use shunt_dataplane::forwarding::ForwardRule;
use shunt_dataplane::id::{Mac, NicId, Protocol};
use shunt_dataplane::reverse_path::ReversePath;
use shunt_dataplane::service::mark::{Mark, MarkRule};
use shunt_dataplane::service::masquerade::MasqueradeRule;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::service::tunnel::Tunnel;
use shunt_dataplane::service::{Method, Settings, Thresholds};
use shunt_dataplane::snapshot::Sysctls;
use shunt_model::health::kind::CheckKind;
use shunt_model::health::{RealKey, ServiceKey};
use shunt_model::script::Script;
use shunt_model::vrrp::{Announcing, Auth, Group, Track, Version, VirtualMac, Vrid};

use device::Device;

/// A configuration that passed every check: names are unique, references resolve, families agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[runtime]`.
    pub runtime: Runtime,
    /// `[timeout]`.
    pub timeouts: Timeouts,
    /// `[sysctl]`.
    pub sysctls: Sysctls,
    /// `[[nic]]`, in the order of their [`NicId`].
    pub nics: Vec<Nic>,
    /// `[[route]]`.
    pub routes: Vec<Route>,
    /// `[[mark]]`, in the order of the file; the last one that holds has its way.
    pub marks: Vec<MarkRule>,
    /// `[[masquerade]]`, in the order of the file; the first one that holds has its way.
    pub masquerades: Vec<MasqueradeRule>,
    /// `[[forward]]`, in the order of the file.
    pub forwards: Vec<ForwardRule>,
    /// `[notify]`.
    pub notify: shunt_model::notify::Settings,
    /// `[[service]]`, in the order of the file.
    pub services: Vec<Service>,
    /// `[[vrrp]]`, in the order of the file.
    pub vrrp: Vec<Vrrp>,
    /// `[[vrrp_group]]`.
    pub vrrp_groups: Vec<Group>,
}

/// What a worker without work does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Sleeps briefly, so that an idle director does not burn a core.
    #[default]
    Adaptive,
    /// Polls on.
    Busy,
}

/// Whether packet memory comes from hugepages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hugepages {
    /// Where they are reserved.
    #[default]
    Auto,
    /// Or the director does not start.
    Always,
    /// Never.
    Never,
}

/// Cores, memory, the socket, limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// The core of everything that is not a worker.
    pub control_core: u16,
    /// The core of each worker, in the order of their `WorkerId`; worker n polls queue n of every NIC.
    pub workers: Vec<u16>,
    /// What a worker without work does.
    pub idle: Idle,
    /// Whether packet memory comes from hugepages.
    pub hugepages: Hugepages,
    /// MiB of packet memory; none lets the director choose.
    pub memory: Option<u32>,
    /// Where other commands reach the director.
    pub socket: PathBuf,
    /// Connections that each worker can hold.
    pub connections: u32,
    /// Bytes of memory for the fragments of each worker and family.
    pub fragments: u32,
    /// Replies (RST, ICMP) that each worker makes in a second at most.
    pub replies: u32,
    /// Neighbours of each NIC that the file does not name.
    pub neighbours: u32,
    /// Percent of the services, and of their real servers, that a reload takes away at most unless that is asked for.
    pub reload_removes: u8,
    /// The part of a connection table that one client may hold while it is nearly full.
    pub client_share: Share,
    /// For how long after the start TCP connections to VIPs of no virtual router are taken up in their midst, where the scheduler
    /// chooses as it did before.
    pub adopt: Duration,
    /// For how long after a start or a takeover TCP of no known connection is not answered with RST.
    pub reset_after: Duration,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            control_core: 0,
            workers: vec![1],
            idle: Idle::default(),
            hugepages: Hugepages::default(),
            memory: None,
            socket: PathBuf::from(SOCKET_DEFAULT),
            connections: 1_000_000,
            fragments: shunt_dataplane::reassembly::MEMORY_DEFAULT,
            replies: 1_000,
            neighbours: shunt_model::limit::NEIGHBOURS_DEFAULT,
            reload_removes: removed::RELOAD_REMOVES_DEFAULT,
            client_share: Share(25),
            adopt: ADOPT_DEFAULT,
            reset_after: Duration::from_secs(10),
        }
    }
}

/// For how long connections are adopted when nothing is configured: as long as an open TCP connection lives.
pub const ADOPT_DEFAULT: Duration = Duration::from_secs(900);
/// The part of a connection table that one of several services may hold while it is nearly full, when nothing is configured.
pub const SERVICE_SHARE_DEFAULT: Share = Share(90);
/// The socket when none is configured.
pub const SOCKET_DEFAULT: &str = "/run/shunt.sock";
/// The largest IP packet where none is configured and there is no interface to have one, in bytes.
pub const MTU_DEFAULT: u16 = 1500;

/// A NIC. It has as many queues as there are workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// What it runs on.
    pub device: Device,
    /// The director's own addresses, with their networks.
    pub addresses: Vec<IpNet>,
    /// Default routers, at most one for each address family of the whole director.
    pub gateways: Vec<IpAddr>,
    /// Neighbours that are not asked for their MAC.
    pub neighbours: Vec<Neighbour>,
    /// The largest IP packet, in bytes; none for that of the interface behind it.
    pub mtu: Option<u16>,
    /// Which sources it takes packets from.
    pub reverse_path: ReversePath,
}

/// A neighbour whose MAC the file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC.
    pub mac: Mac,
}

impl std::fmt::Display for Neighbour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.address, self.mac)
    }
}

impl Service {
    /// How a real server of this service is known.
    #[must_use]
    pub fn real_key(&self, address: SocketAddr) -> RealKey {
        RealKey { listen: self.listen, protocol: self.protocol, address }
    }

    /// How it is known.
    #[must_use]
    pub const fn key(&self) -> ServiceKey {
        (self.listen, self.protocol)
    }

    /// Its real servers, and its sorry server.
    pub fn servers(&self) -> impl Iterator<Item = &Real> {
        self.reals.iter().chain(self.pool.sorry_server.as_deref())
    }

    /// What it is for, in words: `tcp 192.0.2.10:80`, `fwmark 7`.
    #[must_use]
    pub fn subject(&self) -> String {
        shunt_model::health::subject(self.key())
    }
}

impl Config {
    /// The VIPs: what services listen at, the hosts that packets with a firewall mark are for, and those of virtual routers. Those of
    /// one link are [apart](Self::link_vips).
    #[must_use]
    pub fn vips(&self) -> BTreeSet<IpAddr> {
        let own = |vip: &IpAddr| {
            self.nics.iter().any(|nic| nic.addresses.iter().any(|address| address.addr() == *vip))
        };
        let marked = self.marks.iter().filter_map(|rule| rule.to);
        let marked = marked.filter(|to| to.prefix_len() == to.max_prefix_len()).map(|to| to.addr());
        let listens = self.services.iter().map(|service| service.listen);
        let listens = listens.filter(|listen| Mark::of(*listen).is_none()).map(|listen| listen.ip());
        listens
            .chain(marked.filter(|vip| !own(vip)))
            .chain(self.virtual_addresses().map(|(_, vip)| vip))
            .collect()
    }

    /// The name of a NIC.
    #[must_use]
    pub fn nic_name(&self, nic: NicId) -> String {
        self.nics.get(nic.index()).map_or_else(|| nic.to_string(), |nic| nic.name.clone())
    }

    /// The addresses that checks ask for at real servers by the way of their service.
    #[must_use]
    pub fn checked_vips(&self) -> BTreeSet<IpAddr> {
        let asked = |service: &Service| {
            let vip = service.listen.ip();
            let checks = service.reals.iter().flat_map(|real| real.checks.iter());
            let by_service = checks.filter(|check| check.by_service);
            by_service.map(move |check| check.address.unwrap_or(vip)).collect::<Vec<_>>()
        };
        self.services.iter().flat_map(asked).collect()
    }

    /// The VIPs that belong to whoever is master of their virtual router, each with its NIC, without those of one link.
    pub fn virtual_addresses(&self) -> impl Iterator<Item = (NicId, IpAddr)> + '_ {
        self.vrrp.iter().flat_map(Vrrp::vips).filter(|(_, vip)| !is_of_one_link(*vip))
    }

    /// Those of virtual routers that are of one link (RFC 4007), so that another NIC may have the same: IPv6 link-local ones.
    pub fn link_vips(&self) -> impl Iterator<Item = (NicId, IpAddr)> + '_ {
        self.vrrp.iter().flat_map(Vrrp::vips).filter(|(_, vip)| is_of_one_link(*vip))
    }

    /// The shortest netmask of persistence of each family, IPv4 first: by these bits of a client's address workers own it.
    #[must_use]
    pub fn client_netmasks(&self) -> (u8, u8) {
        let shortest = |is_v4: bool, bits: u8| {
            let services = self.services.iter().filter(|service| service.listen.is_ipv4() == is_v4);
            let masks = services.filter_map(|service| service.settings.persistence).map(|one| one.netmask);
            masks.min().unwrap_or(bits).min(bits)
        };
        (shortest(true, 32), shortest(false, 128))
    }
}

/// A route beyond the NICs' networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destinations.
    pub to: IpNet,
    /// The router; none when the destinations are neighbours.
    pub via: Option<IpAddr>,
    /// The NIC that leads there.
    pub nic: NicId,
}

/// A virtual router. It is known by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vrrp {
    /// Its name.
    pub name: String,
    /// The NIC that adverts leave and arrive by.
    pub nic: NicId,
    /// Its number on that link.
    pub vrid: Vrid,
    /// The version that it speaks.
    pub version: Version,
    /// 1 to 255; the highest one is master.
    pub priority: u8,
    /// Between two adverts.
    pub interval: Duration,
    /// Where adverts come from; none for the link-local address of the NIC.
    pub source: Option<IpAddr>,
    /// The VIPs that adverts tell, of one family.
    pub addresses: Vec<IpAddr>,
    /// VIPs that move along.
    pub excluded: Vec<IpAddr>,
    /// Whom adverts go to; nobody: the multicast group.
    pub peers: Vec<IpAddr>,
    /// The least TTL of peers' adverts; none: 255 from peers on the NIC's networks, any from others.
    pub ttl_min: Option<u8>,
    /// The MAC of its VIPs; none for the NIC's.
    pub virtual_mac: Option<VirtualMac>,
    /// Whether the VIPs answer as a host does to what is for none of their services.
    pub accept: bool,
    /// How adverts are authenticated.
    pub auth: Auth,
    /// How long a master of lower priority may go on; none: for good.
    pub preempt: Option<Duration>,
    /// How long after the start nothing is taken over.
    pub start_grace: Duration,
    /// The gap between two adverts that is told; zero: none.
    pub warn_after: Duration,
    /// For how long after a takeover TCP connections are taken on in their midst.
    pub adopt: Duration,
    /// How VIPs are announced.
    pub announcing: Announcing,
    /// What it depends on beside its own link.
    pub tracks: Vec<Track>,
    /// The checks among them.
    pub watches: Vec<Watch>,
    /// The scripts that are told.
    pub notify: Arc<shunt_model::vrrp::Notify>,
}

impl Vrrp {
    /// Its VIPs, each with the NIC that they are on.
    pub fn vips(&self) -> impl Iterator<Item = (NicId, IpAddr)> + '_ {
        self.addresses.iter().chain(&self.excluded).map(|&vip| (self.nic, vip))
    }
}

/// Whether an address belongs to one link, so that another link may have the same (RFC 4007): IPv6 link-local.
#[must_use]
pub fn is_of_one_link(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_of_one_link())
}

/// A check that virtual routers depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its name; two of one name are one.
    pub name: String,
    /// The check.
    pub check: Check,
}

/// A virtual service. It is known by `listen` and `protocol`; its name may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// VIP and port.
    pub listen: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The scheduler.
    pub scheduler: Scheduler,
    /// What else it is set to.
    pub settings: Settings,
    /// The forwarding method of real servers that name none; theirs is resolved already.
    pub forward: Method,
    /// How its real servers are checked that do not say it themselves; none takes them for up.
    pub checks: Arc<[Check]>,
    /// What it makes of what checks say.
    pub pool: Pool,
    /// Real servers in the order of the file.
    pub reals: Vec<Real>,
}

/// What a service makes of what the checks of its real servers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The weight of living real servers that it needs (keepalived: `quorum`).
    pub quorum: u32,
    /// So much less loses the quorum and so much more gains it (keepalived: `hysteresis`).
    pub hysteresis: u32,
    /// Services of one group make a check that they have in common once (keepalived: `virtual_server_group`).
    pub check_group: Option<Arc<str>>,
    /// Real servers begin down until their checks succeed (keepalived: `alpha`).
    pub alpha: bool,
    /// Those that say nothing have weight 0 while they are down (keepalived: `inhibit_on_failure`).
    pub inhibit_on_failure: bool,
    /// Who serves while the quorum is lost (keepalived: `sorry_server`).
    pub sorry_server: Option<Box<Real>>,
    /// So many percent of the real servers stay in the schedule, whatever checks say.
    pub panic: u8,
    /// How long a weight takes to grow after a return.
    pub slow_start: Duration,
    /// When the director stops, scripts are told that all is down (keepalived: `omega`).
    pub omega: bool,
    /// Run when the quorum is gained.
    pub quorum_up: Option<Arc<Script>>,
    /// Run when the quorum is lost.
    pub quorum_down: Option<Arc<Script>>,
    /// Those of real servers that have none of their own.
    pub notify: Notify,
    /// When failures that are seen take out those real servers that do not say it themselves.
    pub passive: Passive,
}

/// When failures that pass by take a real server out; with nginx's words and meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passive {
    /// So many failures; 0: never.
    pub max_fails: u16,
    /// Within so long, and then for so long.
    pub fail_timeout: Duration,
}

impl Default for Passive {
    fn default() -> Self {
        Self { max_fails: 0, fail_timeout: FAIL_TIMEOUT_DEFAULT }
    }
}

impl Passive {
    /// The rules; none when failures take nobody out.
    #[must_use]
    pub fn rules(self) -> Option<shunt_model::health::passive::Rules> {
        let Self { max_fails, fail_timeout } = self;
        (max_fails > 0).then_some(shunt_model::health::passive::Rules { max_fails, fail_timeout })
    }
}

/// `fail_timeout` where the file does not say (nginx: the same).
pub const FAIL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Scripts that are told of a real server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// Run when it comes up (keepalived: `notify_up`).
    pub up: Option<Arc<Script>>,
    /// Run when it goes down (keepalived: `notify_down`).
    pub down: Option<Arc<Script>>,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            quorum: 1,
            hysteresis: 0,
            check_group: None,
            alpha: false,
            inhibit_on_failure: false,
            sorry_server: None,
            panic: 0,
            slow_start: Duration::ZERO,
            omega: false,
            quorum_up: None,
            quorum_down: None,
            notify: Notify::default(),
            passive: Passive::default(),
        }
    }
}

impl Pool {
    /// Whether the quorum holds with this weight, when it held or did not before.
    #[must_use]
    pub fn has_quorum(&self, before: bool, weight: u64) -> bool {
        let (quorum, hysteresis) = (u64::from(self.quorum), u64::from(self.hysteresis));
        if before {
            weight > 0 && weight >= quorum.saturating_sub(hysteresis)
        } else {
            weight >= quorum + hysteresis
        }
    }
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Real {
    /// RIP and port (the service's where the file gives none).
    pub address: SocketAddr,
    /// Weight; 0 quiesces.
    pub weight: u32,
    /// How many connections it may have.
    pub thresholds: Thresholds,
    /// The forwarding method.
    pub method: Method,
    /// What packets travel in when the method is `tun`.
    pub tunnel: Tunnel,
    /// Whether it has weight 0 while it is down, instead of leaving the schedule (keepalived: `inhibit_on_failure`).
    pub inhibit_on_failure: bool,
    /// Scripts that are told of it.
    pub notify: Notify,
    /// How it is checked, be it said by itself or by its service; with none it is taken for up.
    pub checks: Arc<[Check]>,
    /// When failures that are seen take it out, be it said by itself or by its service.
    pub passive: Passive,
}

impl Real {
    /// True when something can take it out of the schedule.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        !self.checks.is_empty() || self.passive.max_fails > 0
    }
}

/// A health check of a real server, or of every one of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is asked.
    pub kind: CheckKind,
    /// Whether it goes the service's own way: to the VIP, by the forwarding method of the real server.
    pub by_service: bool,
    /// Whom to ask; none for the real server, or for the service's VIP where it goes the service's way.
    pub address: Option<IpAddr>,
    /// The port that is asked; none for the real server's own.
    pub l4_port: Option<u16>,
    /// Where it comes from; port 0 for any.
    pub from: Option<SocketAddr>,
    /// From the begin of one check to the begin of the next.
    pub interval: Duration,
    /// An answer that takes longer is a failure.
    pub timeout: Duration,
    /// From a failure of a real server that is up to the next try; none for `interval`.
    pub retry_interval: Option<Duration>,
    /// The first checks spread over so long.
    pub warmup: Duration,
    /// Failures in a row that take a real server out, at least 1.
    pub fall: u8,
    /// Successes in a row that bring it back, at least 1.
    pub rise: u8,
    /// How long these successes last at least.
    pub reentry: Duration,
    /// Whether it begins with the opinion that its real server is down.
    pub alpha: bool,
}

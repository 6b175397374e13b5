//! What `status` and `drops` answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::neighbours::{Conflict, Neighbour};

/// Everything about now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The director's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// `active`: it has no virtual routers and owns its VIPs; else `master`, `backup` or `fault` where all of them agree, and
    /// `mixed` where they do not.
    pub role: String,
    /// Seconds since it started.
    pub uptime: u64,
    /// The NUMA node that packet memory is on; null when the system chose.
    pub packet_memory_node: Option<u32>,
    /// The configuration file as it was named.
    pub file: String,
    /// The generation published last.
    pub generation: u64,
    /// VIPs.
    pub vips: Vec<Vip>,
    /// Virtual routers (VRRP), in the order of the configuration.
    #[serde(default)]
    pub vrrp: Vec<VirtualRouter>,
    /// What happened to adverts, over all virtual routers.
    #[serde(default)]
    pub vrrp_counters: VrrpCounters,
    /// Threads that are late.
    #[serde(default)]
    pub late: Vec<LateThread>,
    /// Threads that did not answer in time: what they know is not in this status.
    #[serde(default)]
    pub unanswered: Vec<String>,
    /// NICs, in the order of the configuration.
    pub nics: Vec<Nic>,
    /// Workers.
    pub workers: Vec<Worker>,
    /// Virtual services, in the order of the configuration.
    pub services: Vec<Service>,
    /// Neighbours, by NIC and address.
    #[serde(default)]
    pub neighbours: Vec<Neighbour>,
    /// Other hosts that use addresses of the director.
    #[serde(default)]
    pub conflicts: Vec<Conflict>,
    /// Frames of checks by their service's way that were dropped: whose way was not known, that waited too long for the MAC on it, or were
    /// too large for its tunnel.
    #[serde(default)]
    pub without_way: u64,
    /// Addresses that hosts are masqueraded by.
    #[serde(default)]
    pub masquerades: Vec<Masquerade>,
    /// What `ipvsadm` changed and the file does not have, one line each: a reload undoes it.
    #[serde(default)]
    pub not_in_file: Vec<String>,
    /// What was told of events.
    #[serde(default)]
    pub notified: Notified,
    /// The books of all workers together.
    pub books: Books,
    /// Bounded tables and queues that are worth watching.
    pub limits: Vec<Limit>,
    /// What an operator should do, one line each.
    pub advice: Vec<String>,
}

/// What was told of events, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notified {
    /// Events told.
    pub told: u64,
    /// Events and scripts lost because too many waited.
    pub lost: u64,
    /// Scripts, mails and posts that failed.
    pub failed: u64,
}

/// A VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    /// The address.
    pub address: String,
    /// True while this director answers for it.
    pub owned: bool,
}

/// A virtual router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualRouter {
    /// Its name.
    pub name: String,
    /// The NIC.
    pub nic: String,
    /// Its number.
    pub vrid: u8,
    /// Its version.
    pub version: u8,
    /// The MAC of its VIPs; null for the NIC's.
    pub virtual_mac: Option<String>,
    /// How frames to that MAC arrive.
    pub virtual_mac_by: Option<String>,
    /// `master`, `backup` or `fault`.
    pub role: String,
    /// Seconds in this role.
    pub since: u64,
    /// Why it is in this role.
    pub reason: String,
    /// The priority with what it tracks.
    pub priority: u8,
    /// The master, when another director is it.
    pub master: Option<String>,
    /// Who else was heard.
    pub peers: Vec<VrrpPeer>,
    /// Another host that acts as master, too.
    pub split_brain: Option<SplitBrain>,
    /// Adverts refused, by why.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
    /// Adverts sent.
    pub sent: u64,
    /// Microseconds: the longest time between two adverts sent as master.
    pub longest_gap: u64,
    /// Those adverts by the microseconds that they left after they were due.
    #[serde(default)]
    pub lateness: Vec<Bucket>,
    /// How often it became master.
    pub masterships: u64,
}

/// Another director of a virtual router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpPeer {
    /// Its address.
    pub address: String,
    /// Its priority; null when none of its adverts was heeded.
    pub priority: Option<u8>,
    /// Milliseconds since its last advert.
    pub heard: u64,
    /// Its adverts that were heeded.
    pub received: u64,
    /// Why its last advert was refused; null when it was not.
    pub refused: Option<String>,
    /// What was wrong with its last advert that was heeded.
    #[serde(default)]
    pub complaint: Option<String>,
}

/// Two masters at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitBrain {
    /// The other one: a director's address, or the MAC of a host.
    pub rival: String,
    /// Seconds since it was noticed.
    pub since: u64,
    /// The likely cause, and what to do.
    pub cause: String,
}

/// What happened to adverts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpCounters {
    /// Sent.
    pub sent: u64,
    /// Heeded.
    pub received: u64,
    /// Refused.
    pub refused: u64,
    /// Of virtual routers that are not configured.
    pub unknown: u64,
    /// No whole adverts.
    pub malformed: u64,
    /// The director's own, come back.
    pub looped: u64,
    /// To peers whose MAC is not known.
    pub undeliverable: u64,
    /// Announcements of VIPs.
    pub announced: u64,
    /// Microseconds: the most that the control loop was late for something that was due.
    pub latest: u64,
    /// True when the control loop has real-time priority.
    pub real_time: bool,
}

/// A thread that does not go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateThread {
    /// Its name: `worker 0`, `shunt-neighbours`, ….
    pub name: String,
    /// Milliseconds since it went on last.
    pub silent_ms: u64,
}

/// A NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Its device as configured.
    pub device: String,
    /// Its MAC.
    pub mac: String,
    /// `up`, `down` or `unknown`.
    pub link: String,
    /// Why it is down.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub link_reason: Option<String>,
    /// Bytes of the largest IP packet.
    pub mtu: u16,
    /// The director's own addresses.
    pub addresses: Vec<String>,
    /// Queues in each direction.
    pub queues: u16,
    /// The NUMA node that it is near to, where there is one.
    pub numa_node: Option<u32>,
    /// How its packets reach the worker that owns their client: `owner` (they arrive there) or `hand-over`.
    pub placement: String,
    /// Why so.
    pub placement_reason: String,
    /// Packets received.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that the NIC, or the kernel in front of it, lost because no queue had room; none where nobody knows.
    pub missed: Option<u64>,
    /// Packets that the NIC received with an error or could not send.
    pub errors: u64,
    /// Packets that the NIC lost because no buffer was free.
    pub no_buffer: u64,
    /// First packets of connections whose checksum the sender left to its NIC.
    pub checksum_not_filled: u64,
    /// Frames that were cut short or larger than the MTU.
    pub offloaded: u64,
    /// The kernel joins IPv4 fragments in front of the NIC.
    #[serde(default)]
    pub joins_fragments: bool,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its number.
    pub id: u8,
    /// Its core.
    pub core: u16,
    /// The NUMA node of that core, where the kernel tells.
    pub numa_node: Option<u32>,
    /// The generation that it runs.
    pub generation: u64,
    /// Connections in its tables.
    pub connections: u64,
    /// Connections that its tables can hold.
    pub capacity: u64,
    /// Packets received from NICs.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Packets given to other workers that own their clients.
    pub handed_over: u64,
    /// Packets taken over from other workers.
    pub taken_over: u64,
    /// Connections made since the start.
    pub connections_made: u64,
    /// Datagrams put together from their fragments since the start.
    pub datagrams_gathered: u64,
    /// Datagrams given up because fragments did not come or did not fit.
    pub datagrams_incomplete: u64,
    /// Of a thousand turns of its loop, those that found nothing to do.
    pub idle_per_mille: u64,
    /// Its books; `held` counts what was handed over as gone and what was taken over as arrived.
    pub books: Books,
    /// What its loop costs.
    pub cost: Cost,
}

/// What a worker's loop costs, counted since the start. Two answers subtracted tell about the time between them. Turns
/// that moved no packet are left out of everything but `cycles`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// The rate of the cycle counter.
    pub cycles_per_second: u64,
    /// Cycles since the director started.
    pub cycles: u64,
    /// Cycles of turns that moved packets; what the kernel did meanwhile on that core included.
    pub busy_cycles: u64,
    /// Packets that those moved: from NICs, other workers and the control core.
    pub packets: u64,
    /// `busy_cycles` for a packet, rounded.
    pub cycles_per_packet: u64,
    /// Turns by their cycles.
    pub turns: Vec<Bucket>,
    /// Bursts that NICs gave, by their packets.
    pub bursts: Vec<Bucket>,
    /// Packets of the turns whose stages were timed, one turn of 61.
    pub sampled_packets: u64,
    /// Cycles of those turns, by stage.
    pub sampled: Vec<StageCost>,
    /// Connections in the IPv4 and IPv6 table.
    pub connections: [u64; 2],
    /// Connections that each can hold.
    pub capacity: u64,
}

/// How many lie between `from` and below twice that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// The least of the bucket.
    pub from: u64,
    /// How many; buckets of none are left out.
    pub count: u64,
}

/// A part of a turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageCost {
    /// `receive`, `forward`, `take_over`, `inject`, `transmit`, `expire`, `answer`.
    pub stage: String,
    /// Its cycles.
    pub cycles: u64,
}

/// `received + made + injected = sent + punted + consumed + dropped + held`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// Packets from NICs.
    pub received: u64,
    /// Replies that the director made.
    pub made: u64,
    /// Packets from the control core.
    pub injected: u64,
    /// Packets that NICs took.
    pub sent: u64,
    /// Packets given to the control core.
    pub punted: u64,
    /// Packets that were answered, not forwarded.
    pub consumed: u64,
    /// Packets dropped, for any reason.
    pub dropped: u64,
    /// Packets in a ring or a buffer now: what the other numbers leave.
    pub held: i64,
    /// True when `held` lies between 0 and what rings and buffers can hold.
    pub balanced: bool,
}

/// A virtual service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// VIP and port.
    pub listen: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The scheduler's word.
    pub scheduler: String,
    /// Its real servers, in the order of the configuration.
    pub reals: Vec<Real>,
    /// Its quorum.
    #[serde(default)]
    pub quorum: Quorum,
    /// Who serves while the quorum is lost.
    #[serde(default)]
    pub sorry_server: Option<Real>,
}

/// The quorum of a service: what its living real servers have to weigh together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// The weight that is needed.
    pub quorum: u32,
    /// So much less loses it and so much more gains it.
    pub hysteresis: u32,
    /// What they weigh now.
    pub weight: u64,
    /// Whether it is held.
    pub held: bool,
}

/// An address that hosts are masqueraded by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masquerade {
    /// The address.
    pub address: String,
    /// Connections now, those included that others began with a masqueraded host.
    pub connections: u64,
    /// Connections since the start.
    pub connections_total: u64,
    /// Packets from masqueraded hosts.
    pub packets_out: u64,
    /// Packets to them.
    pub packets_in: u64,
    /// IP bytes from them.
    pub bytes_out: u64,
    /// IP bytes to them.
    pub bytes_in: u64,
}

/// What health checks say of a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RealState {
    /// Its check succeeds and every worker knows.
    Up,
    /// Its check fails and every worker knows: it is out of the schedule.
    Down,
    /// Its check has not decided yet.
    #[default]
    Checking,
    /// Its service has no check: it is in the schedule.
    Unchecked,
    /// It is the sorry server, and the quorum is lost: it is in the schedule.
    Serving,
    /// It is the sorry server, and not needed.
    Resting,
}

impl RealState {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Checking => "checking",
            Self::Unchecked => "unchecked",
            Self::Serving => "serving",
            Self::Resting => "resting",
        }
    }
}

/// A real server of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Real {
    /// RIP and port.
    pub address: String,
    /// The forwarding method: `dr`, `nat` or `tun`.
    pub forward: String,
    /// The weight that counts now: the configured one unless its checks say another.
    pub weight: u32,
    /// What its check says.
    pub state: RealState,
    /// Seconds since it is in this state.
    pub since: u64,
    /// Why it is in this state.
    pub reason: Option<String>,
    /// Connections that count as active (`ActiveConn`).
    pub connections_active: u64,
    /// Connections that count as inactive (`InActConn`).
    pub connections_inactive: u64,
    /// Connections scheduled since the start.
    pub connections_total: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients that came by (nat).
    pub packets_out: u64,
    /// IP bytes from clients.
    pub bytes_in: u64,
    /// IP bytes to clients that came by (nat).
    pub bytes_out: u64,
    /// What passed by and says how it is.
    pub evidence: Evidence,
    /// The way to it: a NIC and a MAC, `unresolved`, or `no route`.
    pub next_hop: String,
}

/// What passed by the director and says how a real server is, since it was added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// TCP connections that it answered (nat).
    pub answered: u64,
    /// TCP connections that it refused by RST (nat).
    pub refused: u64,
    /// SYNs that clients sent again without an answer (nat).
    pub unanswered: u64,
    /// ICMP errors: packets of known connections did not reach it (nat, tun).
    pub unreachable: u64,
    /// ICMP errors: the TTL of such packets ran out on their way to it (nat, tun), which clients can bring about.
    pub time_exceeded: u64,
    /// The last failure; none before the first.
    pub last: Option<LastFailure>,
}

/// The last failure of a real server that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// `refused`, `unanswered` or `unreachable`.
    pub kind: String,
    /// Seconds since.
    pub ago: u64,
}

/// A bounded table or queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Its name, such as `neighbours` or `worker 0 punt ring`.
    pub name: String,
    /// How much is used.
    pub used: u64,
    /// How much there is.
    pub most: u64,
    /// How often there was no room.
    pub refused: u64,
    /// What was given up before its time to make room.
    #[serde(default)]
    pub reclaimed: u64,
}

/// Why packets did not go out as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// Packets dropped, by reason; reasons that never occurred included.
    pub drops: Vec<Count>,
    /// Packets handed to the control core, by reason.
    pub punts: Vec<Count>,
    /// Replies made, by kind.
    pub replies: Vec<Count>,
    /// Connections and templates that full tables gave up for new ones, by what they were.
    #[serde(default)]
    pub reclaimed: Vec<Count>,
    /// Datagrams of which fragments came and that were given up, by why.
    #[serde(default)]
    pub incomplete: Vec<Count>,
}

/// A counted reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Its word.
    pub reason: String,
    /// How many, over all workers.
    pub count: u64,
    /// What happened and what to do.
    pub help: String,
    /// How many, by worker.
    pub workers: Vec<u64>,
}

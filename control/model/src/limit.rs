//! The bounds of every number in a configuration.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The highest number of a core (DPDK's `RTE_MAX_LCORE` bounds lcores, not cores).
pub const CORE_MAX: u16 = 1023;
/// The most workers.
pub const WORKERS_MAX: usize = 64;
/// The most NICs: with the kernel-side interface of each they fill DPDK's `RTE_MAX_ETHPORTS` of 32.
pub const NICS_MAX: usize = 16;
/// The most own addresses of a NIC.
pub const ADDRESSES_MAX: usize = 256;
/// The most neighbours of a NIC that the file names.
pub const NEIGHBOURS_NAMED_MAX: usize = 256;
/// The most routes.
pub const ROUTES_MAX: usize = 65_536;
/// The most rules that give firewall marks: each new connection is held against all of them.
pub const MARKS_MAX: usize = 256;
/// The most rules of masquerade: each new connection of a masqueraded host is held against all of them.
pub const MASQUERADES_MAX: usize = 256;
/// The most rules of forwarding: each packet of no service is held against all of them.
pub const FORWARDS_MAX: usize = 256;
/// The most services.
pub const SERVICES_MAX: usize = 65_536;
/// The most real servers of one service.
pub const REALS_MAX: usize = 4_096;
/// The smallest MTU (RFC 791).
pub const MTU_MIN: u16 = 68;
/// The smallest MTU of a NIC with IPv6 (RFC 8200, 5).
pub const MTU_MIN_IPV6: u16 = 1280;
/// The largest MTU.
pub const MTU_MAX: u16 = 9000;
/// The fewest connections of a worker.
pub const CONNECTIONS_MIN: u32 = 64;
/// The most connections of a worker.
pub const CONNECTIONS_MAX: u32 = 1 << 28;
/// The fewest bytes for fragments.
pub const FRAGMENTS_MIN: u32 = shunt_dataplane::reassembly::MEMORY_MIN;
/// The most bytes for fragments.
pub const FRAGMENTS_MAX: u32 = 1 << 30;
/// The most replies a second and worker.
pub const REPLIES_MAX: u32 = 1_000_000;
/// The fewest neighbours of a NIC.
pub const NEIGHBOURS_MIN: u32 = 256;
/// The most neighbours of a NIC: as many as a /14 has.
pub const NEIGHBOURS_MAX: u32 = 1 << 18;
/// `neighbours` of `[runtime]` where the file does not say: neighbours of one NIC whose MAC is known and that the configuration does not
/// name. Those that it names (real servers, routers, peers, static ones) always have a place. Of the others those that never answered
/// a question give way, the oldest first, to whoever comes, and those that were not used for longest to who answers. So a flood on one
/// link leaves the others their places, and who was heard is not kept out by who was not.
pub const NEIGHBOURS_DEFAULT: u32 = 16_384;
/// The parts of a connection table that a client or a service may hold while it is nearly full, in percent.
pub const SHARES: RangeInclusive<u8> = 1..=100;
/// The longest that TCP of no known connection is not answered with RST after a start or a takeover.
pub const RESET_AFTER_MAX: Duration = Duration::from_secs(3600);
/// The least packet memory, in MiB.
pub const MEMORY_MIN: u32 = 64;
/// The most packet memory, in MiB.
pub const MEMORY_MAX: u32 = 1 << 20;
/// The largest weight (kernel: ipvsadm's bound).
pub const WEIGHT_MAX: u32 = 65_535;
/// The largest threshold of connections.
pub const THRESHOLD_MAX: u32 = i32::MAX as u32;
/// The shortest time that a connection or a client's persistence lives.
pub const TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// The longest time that a connection or a client's persistence lives (kernel: `IP_VS_MAX_TIMEOUT` is longer; ticks bound it).
pub const TIMEOUT_MAX: Duration = Duration::from_secs(86_400 * 100);
/// The shortest time between two checks of a real server.
pub const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest time between two checks of a real server.
pub const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(86_400);
/// The shortest time that a check waits.
pub const CHECK_TIMEOUT_MIN: Duration = Duration::from_millis(10);
/// The most failures or successes in a row that a check counts.
pub const CHECK_COUNT_MAX: u8 = 100;
/// The longest that a real server is held back, or its weight grows, after a return.
pub const CHECK_HOLD_MAX: Duration = Duration::from_secs(86_400);
/// The most failures that take a real server out.
pub const FAILS_MAX: u16 = 1_000;
/// The shortest time that failures count for.
pub const FAIL_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// The most bytes before what is searched for in an HTTP answer.
pub const ANSWER_MAX: u32 = 8 << 20;
/// The longest answer of a UDP check, in bytes.
pub const REPLY_MAX: u16 = 65_507;
/// The longest text that a check sends, in bytes.
pub const TEXT_MAX: usize = 4096;
/// The longest word of a command, in bytes.
pub const COMMAND_MAX: usize = 4096;
/// What the number of a file is multiplied by at most (keepalived: the bound of a tracked file's weight).
pub const FACTOR_MAX: i32 = i32::MAX;
/// The largest quorum (keepalived: that of weights).
pub const QUORUM_MAX: u32 = i32::MAX as u32;
/// The most checks of a real server.
pub const CHECKS_MAX: usize = 64;
/// The longest that a virtual router waits for something.
pub const VRRP_WAIT_MAX: Duration = Duration::from_secs(3600);
/// The most announcements of a VIP at once.
pub const GARP_MAX: u8 = 100;
/// The most virtual routers: each link has 255 of each family.
pub const VRRP_MAX: usize = 1_024;
/// The largest configuration file, in bytes.
pub const FILE_MAX: u64 = 64 << 20;

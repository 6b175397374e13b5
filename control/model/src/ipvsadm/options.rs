//! The options of ipvsadm 1.31: how they are spelt, how messages call them, and which command takes which.

use super::words::{Spelling, Value};

/// What ipvsadm is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// `-A`.
    AddService,
    /// `-E`.
    EditService,
    /// `-D`.
    DeleteService,
    /// `-C`.
    Clear,
    /// `-a`.
    AddServer,
    /// `-e`.
    EditServer,
    /// `-d`.
    DeleteServer,
    /// `--set`.
    SetTimeouts,
    /// `-L`, `-l`.
    List,
    /// `-R`.
    Restore,
    /// `-S`.
    Save,
    /// `-Z`.
    Zero,
    /// `--start-daemon`.
    StartDaemon,
    /// `--stop-daemon`.
    StopDaemon,
    /// `-h`.
    Help,
    /// `-v`.
    Version,
}

impl Task {
    /// How messages call it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::AddService => "add-service",
            Self::EditService => "edit-service",
            Self::DeleteService => "delete-service",
            Self::Clear => "flush",
            Self::AddServer => "add-server",
            Self::EditServer => "edit-server",
            Self::DeleteServer => "delete-server",
            Self::SetTimeouts => "set",
            Self::List => "list",
            Self::Restore => "restore",
            Self::Save => "save",
            Self::Zero => "zero",
            Self::StartDaemon => "start-daemon",
            Self::StopDaemon => "stop-daemon",
            Self::Help => "help",
            Self::Version => "version",
        }
    }

    /// Whether it takes an option.
    #[must_use]
    pub fn takes(self, kind: Kind) -> Takes {
        use Kind as K;
        let (needs, may): (&[Kind], &[Kind]) = match self {
            Self::AddService | Self::EditService => (
                &[K::Service],
                &[K::Scheduler, K::Persistent, K::Netmask, K::OnePacket, K::Engine, K::SchedulerFlags],
            ),
            Self::DeleteService => (&[K::Service], &[]),
            Self::AddServer | Self::EditServer => (
                &[K::Service, K::Server],
                &[
                    K::Forward,
                    K::Weight,
                    K::Upper,
                    K::Lower,
                    K::TunnelType,
                    K::TunnelPort,
                    K::TunnelNoChecksum,
                    K::TunnelChecksum,
                    K::TunnelRemote,
                ],
            ),
            Self::DeleteServer => (&[K::Service, K::Server], &[]),
            Self::List => (
                &[],
                &[
                    K::Numeric,
                    K::Connection,
                    K::Service,
                    K::Timeout,
                    K::Daemon,
                    K::Stats,
                    K::Rate,
                    K::Thresholds,
                    K::PersistentConn,
                    K::NoSort,
                    K::SyncId,
                    K::Exact,
                    K::TunnelInfo,
                ],
            ),
            Self::Save => (&[], &[K::Numeric]),
            Self::Zero => (&[], &[K::Service]),
            Self::StartDaemon => {
                (&[], &[K::Interface, K::SyncId, K::SyncLength, K::Group, K::GroupPort, K::GroupTtl])
            }
            Self::StopDaemon => (&[], &[K::SyncId]),
            Self::Clear | Self::Restore | Self::SetTimeouts | Self::Help | Self::Version => (&[], &[]),
        };
        if needs.contains(&kind) {
            Takes::Must
        } else if may.contains(&kind) {
            Takes::May
        } else {
            Takes::MustNot
        }
    }
}

/// Whether a command takes an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// It has to be there.
    Must,
    /// It may be there.
    May,
    /// It must not be there.
    MustNot,
}

/// Kinds of options, in the order in which ipvsadm looks whether they are there as they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "their words stand below")]
pub enum Kind {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    Server,
    Forward,
    Weight,
    Upper,
    Lower,
    Interface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    OnePacket,
    Engine,
    SchedulerFlags,
    Group,
    GroupPort,
    GroupTtl,
    SyncLength,
    TunnelInfo,
    TunnelType,
    TunnelPort,
    TunnelNoChecksum,
    TunnelChecksum,
    TunnelRemote,
}

impl Kind {
    /// All of them, in order.
    pub const ALL: [Self; 34] = [
        Self::Numeric,
        Self::Connection,
        Self::Service,
        Self::Scheduler,
        Self::Persistent,
        Self::Netmask,
        Self::Server,
        Self::Forward,
        Self::Weight,
        Self::Upper,
        Self::Lower,
        Self::Interface,
        Self::Timeout,
        Self::Daemon,
        Self::Stats,
        Self::Rate,
        Self::Thresholds,
        Self::PersistentConn,
        Self::NoSort,
        Self::SyncId,
        Self::Exact,
        Self::OnePacket,
        Self::Engine,
        Self::SchedulerFlags,
        Self::Group,
        Self::GroupPort,
        Self::GroupTtl,
        Self::SyncLength,
        Self::TunnelInfo,
        Self::TunnelType,
        Self::TunnelPort,
        Self::TunnelNoChecksum,
        Self::TunnelChecksum,
        Self::TunnelRemote,
    ];

    /// How messages call it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Numeric => "numeric",
            Self::Connection => "connection",
            Self::Service => "service-address",
            Self::Scheduler => "scheduler",
            Self::Persistent => "persistent",
            Self::Netmask => "netmask",
            Self::Server => "real-server",
            Self::Forward => "forwarding-method",
            Self::Weight => "weight",
            Self::Interface => "mcast-interface",
            Self::Timeout => "timeout",
            Self::Daemon => "daemon",
            Self::Stats => "stats",
            Self::Rate => "rate",
            Self::Thresholds => "thresholds",
            Self::PersistentConn => "persistent-conn",
            Self::NoSort => "nosort",
            Self::SyncId => "syncid",
            Self::Exact => "exact",
            Self::OnePacket => "ops",
            Self::Engine => "pe",
            Self::Upper => "u-threshold",
            Self::Lower => "l-threshold",
            Self::SchedulerFlags => "sched-flags",
            Self::TunnelInfo => "tun-info",
            Self::TunnelType => "tun-type",
            Self::TunnelPort => "tun-port",
            Self::TunnelNoChecksum => "tun-nocsum",
            Self::TunnelChecksum => "tun-csum",
            Self::TunnelRemote => "tun-remcsum",
            Self::SyncLength => "sync-maxlen",
            Self::Group => "mcast-group",
            Self::GroupPort => "mcast-port",
            Self::GroupTtl => "mcast-ttl",
        }
    }
}

/// What an option means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// What is to be done; the first option only.
    Task(Task),
    /// One of the options that [`Task::takes`] knows; those that have their meaning in a letter carry it.
    Plain(Kind),
    /// `-t`.
    Tcp,
    /// `-u`.
    Udp,
    /// `--sctp-service`.
    Sctp,
    /// `-f`.
    Mark,
    /// `-g`.
    Route,
    /// `-i`.
    Tunnel,
    /// `-m`.
    Masquerade,
    /// `-6`.
    Ipv6,
    /// `--sort`, which is how it is anyway.
    Sort,
}

const fn task(task: Task, short: Option<char>, long: &'static str) -> Spelling<Meaning> {
    Spelling { meaning: Meaning::Task(task), short, long, value: Value::None }
}

const fn flag(meaning: Meaning, short: Option<char>, long: &'static str) -> Spelling<Meaning> {
    Spelling { meaning, short, long, value: Value::None }
}

const fn with(meaning: Meaning, short: Option<char>, long: &'static str) -> Spelling<Meaning> {
    Spelling { meaning, short, long, value: Value::Required }
}

/// Every option.
pub const SPELLINGS: &[Spelling<Meaning>] = &[
    task(Task::AddService, Some('A'), "add-service"),
    task(Task::EditService, Some('E'), "edit-service"),
    task(Task::DeleteService, Some('D'), "delete-service"),
    task(Task::Clear, Some('C'), "clear"),
    task(Task::List, Some('L'), "list"),
    task(Task::List, Some('l'), "list"),
    task(Task::Zero, Some('Z'), "zero"),
    task(Task::AddServer, Some('a'), "add-server"),
    task(Task::EditServer, Some('e'), "edit-server"),
    task(Task::DeleteServer, Some('d'), "delete-server"),
    task(Task::SetTimeouts, None, "set"),
    task(Task::Help, Some('h'), "help"),
    task(Task::Version, Some('v'), "version"),
    task(Task::Restore, Some('R'), "restore"),
    task(Task::Save, Some('S'), "save"),
    with(Meaning::Task(Task::StartDaemon), None, "start-daemon"),
    with(Meaning::Task(Task::StopDaemon), None, "stop-daemon"),
    with(Meaning::Tcp, Some('t'), "tcp-service"),
    with(Meaning::Udp, Some('u'), "udp-service"),
    with(Meaning::Sctp, None, "sctp-service"),
    with(Meaning::Mark, Some('f'), "fwmark-service"),
    with(Meaning::Plain(Kind::Scheduler), Some('s'), "scheduler"),
    Spelling {
        meaning: Meaning::Plain(Kind::Persistent),
        short: Some('p'),
        long: "persistent",
        value: Value::Optional,
    },
    with(Meaning::Plain(Kind::Netmask), Some('M'), "netmask"),
    with(Meaning::Plain(Kind::Server), Some('r'), "real-server"),
    flag(Meaning::Masquerade, Some('m'), "masquerading"),
    flag(Meaning::Tunnel, Some('i'), "ipip"),
    flag(Meaning::Route, Some('g'), "gatewaying"),
    with(Meaning::Plain(Kind::Weight), Some('w'), "weight"),
    with(Meaning::Plain(Kind::Upper), Some('x'), "u-threshold"),
    with(Meaning::Plain(Kind::Lower), Some('y'), "l-threshold"),
    flag(Meaning::Plain(Kind::Numeric), Some('n'), "numeric"),
    flag(Meaning::Plain(Kind::Connection), Some('c'), "connection"),
    with(Meaning::Plain(Kind::Interface), None, "mcast-interface"),
    with(Meaning::Plain(Kind::SyncId), None, "syncid"),
    flag(Meaning::Plain(Kind::Timeout), None, "timeout"),
    flag(Meaning::Plain(Kind::Daemon), None, "daemon"),
    flag(Meaning::Plain(Kind::Stats), None, "stats"),
    flag(Meaning::Plain(Kind::Rate), None, "rate"),
    flag(Meaning::Plain(Kind::Thresholds), None, "thresholds"),
    flag(Meaning::Plain(Kind::PersistentConn), None, "persistent-conn"),
    flag(Meaning::Plain(Kind::NoSort), None, "nosort"),
    flag(Meaning::Sort, None, "sort"),
    flag(Meaning::Plain(Kind::Exact), None, "exact"),
    flag(Meaning::Ipv6, Some('6'), "ipv6"),
    flag(Meaning::Plain(Kind::OnePacket), Some('o'), "ops"),
    with(Meaning::Plain(Kind::Engine), None, "pe"),
    with(Meaning::Plain(Kind::SchedulerFlags), Some('b'), "sched-flags"),
    with(Meaning::Plain(Kind::TunnelType), None, "tun-type"),
    with(Meaning::Plain(Kind::TunnelPort), None, "tun-port"),
    flag(Meaning::Plain(Kind::TunnelNoChecksum), None, "tun-nocsum"),
    flag(Meaning::Plain(Kind::TunnelChecksum), None, "tun-csum"),
    flag(Meaning::Plain(Kind::TunnelRemote), None, "tun-remcsum"),
    flag(Meaning::Plain(Kind::TunnelInfo), None, "tun-info"),
    with(Meaning::Plain(Kind::SyncLength), None, "sync-maxlen"),
    with(Meaning::Plain(Kind::Group), None, "mcast-group"),
    with(Meaning::Plain(Kind::GroupPort), None, "mcast-port"),
    with(Meaning::Plain(Kind::GroupTtl), None, "mcast-ttl"),
];

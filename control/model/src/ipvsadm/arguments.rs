//! ipvsadm's command line, word by word: what is asked, or what is wrong with it in ipvsadm's words.
//!
//! Nothing here asks a director; mistakes come in the order in which ipvsadm 1.31 finds them: words from left to right,
//! then arguments that are none, then options that a command lacks or does not take, then what contradicts.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::address::{self, Endpoint};
use super::names::Names;
use super::options::{Kind, Meaning, SPELLINGS, Takes, Task};
use super::table::{
    Change, Counters, Destination, Family, Forward, Key, Netmask, Persistence, Protocol, SchedulerFlags,
    Service, Timeouts, Tunnel, TunnelChecksum, TunnelKind,
};
use super::words::{Found, Words};

/// Seconds of persistence when none are given (kernel and ipvsadm: `IP_VS_TEMPLATE_TIMEOUT`).
const PERSISTENCE_DEFAULT: u32 = 360;
/// The longest persistence and timeout, in seconds: 31 days.
const SECONDS_MAX: i64 = 31 * 86_400;
const SCHEDULER_DEFAULT: &str = "wlc";

/// A command that was understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Nothing to do: an empty line of `-R`.
    Nothing,
    /// `-h`.
    Help,
    /// `-v`.
    Version,
    /// `-L`.
    List(List),
    /// `-S`; true for numbers instead of names.
    Save(bool),
    /// `-R`.
    Restore,
    /// What changes the table.
    Change(Change),
    /// `--start-daemon` and `--stop-daemon` of state synchronisation.
    Daemon(Task),
}

/// What `-L` shows, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// What.
    pub what: Listed,
    /// One service instead of all.
    pub service: Option<Key>,
    /// Numbers instead of names.
    pub numeric: bool,
    /// `--exact`.
    pub exact: bool,
    /// Not `--nosort`.
    pub sorted: bool,
}

/// What `-L` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listed {
    /// Services and destinations.
    #[default]
    Services,
    /// `--stats`.
    Stats,
    /// `--rate`.
    Rate,
    /// `--thresholds`.
    Thresholds,
    /// `--persistent-conn`.
    PersistentConn,
    /// `--tun-info`.
    TunnelInfo,
    /// `-c`; true for the data of persistence engines too.
    Connections(bool),
    /// `--timeout`.
    Timeouts,
    /// `--daemon`.
    Daemon,
}

/// A command line that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// What is told on standard error, with its line feeds.
    pub text: String,
    /// The exit status.
    pub status: u8,
}

impl Mistake {
    /// The status of mistakes that popt finds, and of refusals of the kernel: -1.
    pub const MINUS_ONE: u8 = 255;

    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() + "\n", status: 2 }
    }

    fn popt(text: impl Into<String>) -> Self {
        Self { text: text.into() + "\n", status: Self::MINUS_ONE }
    }
}

type Parsed<T> = Result<T, Mistake>;

/// Reads a command line, the program's name not among its words. `restoring` says that it is a line of `-R`.
///
/// # Errors
/// What ipvsadm says to a command line that it refuses.
pub fn parse(words: &[String], restoring: bool, names: &dyn Names) -> Parsed<Command> {
    if words.is_empty() {
        let list = List { sorted: true, ..List::default() };
        return Ok(if restoring { Command::Nothing } else { Command::List(list) });
    }
    let mut words = Words::new(words, SPELLINGS);
    let help = || Mistake::popt("Try `ipvsadm -h' or 'ipvsadm --help' for more information.");
    let first = words.next_option().map_err(|_bad| help())?.ok_or_else(help)?;
    let Meaning::Task(task) = first.meaning else { return Err(help()) };
    match task {
        Task::Help => return Ok(Command::Help),
        Task::Version => return Ok(Command::Version),
        Task::Restore if restoring => return Err(help()),
        Task::StartDaemon | Task::StopDaemon => daemon_state(task, &first)?,
        _ => {}
    }
    let mut given = Given::new(names);
    while let Some(found) = words.next_option().map_err(|bad| Mistake::popt(bad.to_string()))? {
        given.take(&found)?;
    }
    let mut arguments = words.into_arguments().into_iter();
    let timeouts = if task == Task::SetTimeouts { Some(given_timeouts(&mut arguments)?) } else { None };
    if let Some(argument) = arguments.next() {
        return Err(Mistake::new(format!("unexpected argument {argument}")));
    }
    given.read_flags()?;
    given.check_kinds(task)?;
    given.command(task, timeouts)
}

fn daemon_state(task: Task, found: &Found<Meaning>) -> Parsed<()> {
    let known = matches!(found.value.as_deref(), Some("master" | "backup"));
    let word = if task == Task::StartDaemon { "start-daemon parameter" } else { "start_daemon" };
    if known { Ok(()) } else { Err(Mistake::new(format!("illegal {word} specified"))) }
}

fn given_timeouts(arguments: &mut impl Iterator<Item = String>) -> Parsed<Timeouts> {
    let three: Vec<String> = arguments.take(3).collect();
    let [tcp, tcp_fin, udp] = three.as_slice() else {
        return Err(Mistake::new("--set option requires 3 timeout values"));
    };
    let (tcp, tcp_fin) = (seconds(tcp, 0)?, seconds(tcp_fin, 0)?);
    Ok(Timeouts { tcp, tcp_fin, udp: seconds(udp, 0)? })
}

fn seconds(text: &str, least: i64) -> Parsed<u32> {
    let wrong = || Mistake::new(format!("invalid timeout value `{text}' specified"));
    address::number(text, least, SECONDS_MAX).map(|value| value as u32).ok_or_else(wrong)
}

/// A number of 32 bits in an option whose message is fixed.
fn bounded(text: &str, least: i64, most: i64, what: &str) -> Parsed<u32> {
    let wrong = || Mistake::new(format!("illegal {what} specified"));
    address::number(text, least, most).map(|value| value as u32).ok_or_else(wrong)
}

/// The options that were given so far.
struct Given<'a> {
    names: &'a dyn Names,
    kinds: Vec<Kind>,
    key: Option<Key>,
    scheduler: Option<String>,
    flags_text: Option<String>,
    flags: SchedulerFlags,
    persistence: Option<u32>,
    netmask: Option<Netmask>,
    engine: Option<String>,
    server: Option<Endpoint>,
    forward: Meaning,
    weight: u32,
    upper: u32,
    lower: u32,
    tunnel: (TunnelKind, &'static str),
    tunnel_port: u16,
}

impl<'a> Given<'a> {
    const fn new(names: &'a dyn Names) -> Self {
        Self {
            names,
            kinds: Vec::new(),
            key: None,
            scheduler: None,
            flags_text: None,
            flags: SchedulerFlags(0),
            persistence: None,
            netmask: None,
            engine: None,
            server: None,
            forward: Meaning::Route,
            weight: 1,
            upper: 0,
            lower: 0,
            tunnel: (TunnelKind::Ipip, "ipip"),
            tunnel_port: 0,
        }
    }

    fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// The family that addresses and masks without one belong to.
    fn family(&self) -> Family {
        self.key.map_or(Family::V4, Key::family)
    }

    /// Notes that an option is there.
    fn note(&mut self, kind: Kind) -> Parsed<()> {
        if self.has(kind) {
            return Err(Mistake::new(format!("multiple '{}' options specified", kind.word())));
        }
        self.kinds.push(kind);
        Ok(())
    }

    fn take(&mut self, found: &Found<Meaning>) -> Parsed<()> {
        let value = found.value.as_deref().unwrap_or_default();
        match found.meaning {
            Meaning::Task(_) => {
                let word = match found.meaning {
                    Meaning::Task(Task::StartDaemon | Task::StopDaemon) => value,
                    _ => &found.word,
                };
                Err(Mistake::new(format!("invalid option `{word}'")))
            }
            Meaning::Tcp => self.service(Protocol::Tcp, value),
            Meaning::Udp => self.service(Protocol::Udp, value),
            Meaning::Sctp => self.service(Protocol::Sctp, value),
            Meaning::Mark => self.mark(value),
            Meaning::Route | Meaning::Tunnel | Meaning::Masquerade => {
                self.note(Kind::Forward)?;
                self.forward = found.meaning;
                Ok(())
            }
            Meaning::Ipv6 => self.ipv6(),
            Meaning::Sort => Ok(()),
            Meaning::Plain(kind) => {
                self.note(kind)?;
                self.plain(kind, found.value.as_deref())
            }
        }
    }

    fn service(&mut self, protocol: Protocol, text: &str) -> Parsed<()> {
        self.note(Kind::Service)?;
        let endpoint = address::endpoint(text, protocol, self.names)
            .ok_or_else(|| Mistake::new("illegal virtual server address[:port] specified"))?;
        let address = SocketAddr::new(endpoint.address, endpoint.l4_port.unwrap_or(0));
        if address.is_ipv6() {
            self.netmask = None;
        }
        self.key = Some(Key::Address(protocol, address));
        Ok(())
    }

    fn mark(&mut self, text: &str) -> Parsed<()> {
        self.note(Kind::Service)?;
        let mark = address::mark(text)
            .ok_or_else(|| Mistake::new(format!("invalid fwmark value `{text}' specified")))?;
        self.key = Some(Key::Mark(mark, Family::V4));
        Ok(())
    }

    fn ipv6(&mut self) -> Parsed<()> {
        let Some(Key::Mark(mark, _)) = self.key else {
            return Err(Mistake::new("-6 used before -f\n"));
        };
        self.key = Some(Key::Mark(mark, Family::V6));
        self.netmask = None;
        Ok(())
    }

    fn plain(&mut self, kind: Kind, value: Option<&str>) -> Parsed<()> {
        let text = value.unwrap_or_default();
        match kind {
            Kind::Scheduler => self.scheduler = Some(text.to_owned()),
            Kind::SchedulerFlags => self.flags_text = Some(text.to_owned()),
            Kind::Engine => self.engine = Some(text.to_owned()),
            Kind::Persistent => {
                let given = value.map(|text| seconds(text, 1)).transpose()?;
                self.persistence = Some(given.unwrap_or(PERSISTENCE_DEFAULT));
            }
            Kind::Netmask => self.netmask = self.given_netmask(text)?,
            Kind::Server => self.server = Some(self.given_server(text)?),
            Kind::Weight => self.weight = bounded(text, 0, i64::from(i32::MAX), "weight")?,
            Kind::Upper => self.upper = bounded(text, 0, i64::from(i32::MAX), "u_threshold")?,
            Kind::Lower => self.lower = bounded(text, 0, i64::from(i32::MAX), "l_threshold")?,
            Kind::TunnelType => self.tunnel = tunnel_kind(text)?,
            Kind::TunnelPort => self.tunnel_port = bounded(text, 1, 65535, "tunnel port")? as u16,
            Kind::SyncId => drop(bounded(text, 0, 255, "syncid")?),
            Kind::Group => multicast_group(text)?,
            Kind::SyncLength => drop(bounded(text, 1, 65_507, "sync-maxlen")?),
            Kind::GroupPort => drop(bounded(text, 1, 65535, "mcast-port")?),
            Kind::GroupTtl => drop(bounded(text, 1, 255, "mcast-ttl")?),
            _ => {}
        }
        Ok(())
    }

    fn given_netmask(&self, text: &str) -> Parsed<Option<Netmask>> {
        let wrong = || Mistake::new("illegal virtual server persistent mask specified");
        match self.family() {
            Family::V4 => address::inet_aton(text).map(|mask| Some(Netmask::V4(mask))).ok_or_else(wrong),
            Family::V6 => {
                let length = address::leading_number(text).map(|(length, _)| length);
                let length = length
                    .and_then(|length| u8::try_from(length).ok())
                    .filter(|length| (1..=128).contains(length));
                let length = length.ok_or_else(|| Mistake::new("illegal ipv6 netmask specified"))?;
                Ok(Some(Netmask::V6(length)))
            }
        }
    }

    fn given_server(&self, text: &str) -> Parsed<Endpoint> {
        let protocol = match self.key {
            Some(Key::Address(protocol, _)) => protocol,
            _ => Protocol::Tcp,
        };
        let mut endpoint = address::endpoint(text, protocol, self.names)
            .ok_or_else(|| Mistake::new("illegal real server address[:port] specified"))?;
        // A port that is left out is the service's, as far as that is known yet.
        let of_service = match self.key {
            Some(Key::Address(_, address)) => address.port(),
            _ => 0,
        };
        endpoint.l4_port.get_or_insert(of_service);
        Ok(endpoint)
    }

    fn scheduler(&self) -> &str {
        self.scheduler.as_deref().filter(|word| !word.is_empty()).unwrap_or(SCHEDULER_DEFAULT)
    }

    /// Flags are read when the scheduler is known, which has some of its own.
    fn read_flags(&mut self) -> Parsed<()> {
        let Some(text) = self.flags_text.clone() else { return Ok(()) };
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let (scheduler, bit) = match word {
                "flag-1" => ("", 1),
                "flag-2" => ("", 2),
                "flag-3" => ("", 4),
                "sh-fallback" => ("sh", 1),
                "sh-port" => ("sh", 2),
                "mh-fallback" => ("mh", 1),
                "mh-port" => ("mh", 2),
                _ => return Err(Mistake::new(format!("invalid scheduler flag `{word}'"))),
            };
            if !scheduler.is_empty() && scheduler != self.scheduler() {
                return Err(Mistake::new(format!("incompatible scheduler flag `{word}'")));
            }
            self.flags.0 |= bit;
        }
        Ok(())
    }

    /// Looks for what a command must have and must not have, option by option; the list is of one thing.
    fn check_kinds(&self, task: Task) -> Parsed<()> {
        const LISTED: [Kind; 4] = [Kind::Connection, Kind::Service, Kind::Timeout, Kind::Daemon];
        let mut listed = None;
        for kind in Kind::ALL {
            let (option, command) = (kind.word(), task.word());
            match (task.takes(kind), self.has(kind)) {
                (Takes::Must, false) => {
                    return Err(Mistake::new(format!(
                        "You need to supply the '{option}' option for the '{command}' command"
                    )));
                }
                (Takes::MustNot, true) => {
                    return Err(Mistake::new(format!(
                        "Illegal '{option}' option with the '{command}' command"
                    )));
                }
                (_, true) if task == Task::List && LISTED.contains(&kind) => {
                    if let Some(other) = listed.replace(kind) {
                        return Err(Self::conflict(kind, other, "'list' command"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn command(self, task: Task, timeouts: Option<Timeouts>) -> Parsed<Command> {
        let change = match (task, self.key) {
            (Task::List, _) => return self.list().map(Command::List),
            (Task::Save, _) => return Ok(Command::Save(self.has(Kind::Numeric))),
            (Task::Restore, _) => return Ok(Command::Restore),
            (Task::StartDaemon | Task::StopDaemon, _) => return Ok(Command::Daemon(task)),
            (Task::SetTimeouts, _) => Change::SetTimeouts(timeouts.unwrap_or_default()),
            (Task::Clear, _) => Change::Clear,
            (Task::Zero, key) => Change::Zero(key),
            (Task::AddService, Some(key)) => Change::AddService(self.virtual_service(key)?),
            (Task::EditService, Some(key)) => Change::EditService(self.virtual_service(key)?),
            (Task::DeleteService, Some(key)) => Change::DeleteService(key),
            (Task::AddServer, Some(key)) => Change::AddServer(key, self.destination(key)?),
            (Task::EditServer, Some(key)) => Change::EditServer(key, self.destination(key)?),
            (Task::DeleteServer, Some(key)) => Change::DeleteServer(key, self.real_address(key, false)),
            // What lacks its service was refused; these two were answered.
            (_, None) | (Task::Help | Task::Version, _) => return Ok(Command::Help),
        };
        Ok(Command::Change(change))
    }

    fn virtual_service(&self, key: Key) -> Parsed<Service> {
        let one_packet = self.has(Kind::OnePacket);
        if let Key::Address(protocol, address) = key {
            if address.port() == 0 && self.persistence.is_none() {
                return Err(Mistake::new("Zero port specified for non-persistent service"));
            }
            if one_packet && protocol != Protocol::Udp {
                return Err(Mistake::new("One-Packet Scheduling is only for UDP virtual services"));
            }
        }
        let netmask = self.netmask.unwrap_or(Netmask::host(key.family()));
        Ok(Service {
            key,
            scheduler: self.scheduler().to_owned(),
            flags: self.flags,
            persistence: self.persistence.map(|timeout| Persistence { timeout, netmask }),
            engine: self.engine.clone().filter(|engine| !engine.is_empty()),
            one_packet,
            destinations: Vec::new(),
            counters: Counters::default(),
        })
    }

    fn destination(&self, key: Key) -> Parsed<Destination> {
        let address = self.real_address(key, true);
        let tunnels = self.forward == Meaning::Tunnel;
        if !tunnels && Family::of(address.ip()) != key.family() {
            return Err(Mistake::new("Different address family is allowed only for tunneling servers"));
        }
        let tunnel = self.given_tunnel(tunnels)?;
        Ok(Destination {
            address,
            forward: match self.forward {
                Meaning::Masquerade => Forward::Masquerade,
                Meaning::Tunnel => Forward::Tunnel(tunnel),
                _ => Forward::Route,
            },
            weight: self.weight,
            upper: self.upper,
            lower: self.lower,
            counters: Counters::default(),
        })
    }

    /// The address of the real server. A method that does not rewrite keeps the service's port.
    fn real_address(&self, key: Key, changes: bool) -> SocketAddr {
        let unset = Endpoint { address: Ipv4Addr::UNSPECIFIED.into(), l4_port: None };
        let Endpoint { address, l4_port } = self.server.unwrap_or(unset);
        let l4_port = match key {
            Key::Address(_, service) if changes && self.forward != Meaning::Masquerade => service.port(),
            _ => l4_port.unwrap_or(0),
        };
        SocketAddr::new(address, l4_port)
    }

    fn given_tunnel(&self, tunnels: bool) -> Parsed<Tunnel> {
        use Kind as K;
        let options = [K::TunnelType, K::TunnelPort, K::TunnelNoChecksum, K::TunnelChecksum, K::TunnelRemote];
        if !tunnels && options.iter().any(|&kind| self.has(kind)) {
            return Err(Mistake::new("Tunnel options conflict with forward method"));
        }
        let (kind, word) = self.tunnel;
        for option in &options[1..] {
            let takes = match (kind, option) {
                (TunnelKind::Gue, K::TunnelPort) => Takes::Must,
                (TunnelKind::Gue, _) | (TunnelKind::Gre, K::TunnelNoChecksum | K::TunnelChecksum) => {
                    Takes::May
                }
                _ => Takes::MustNot,
            };
            let option = *option;
            match (takes, self.has(option)) {
                (Takes::Must, false) => {
                    return Err(Mistake::new(format!(
                        "You need to supply the '{}' option for the '{word}' tunnel type",
                        option.word()
                    )));
                }
                (Takes::MustNot, true) => {
                    return Err(Mistake::new(format!(
                        "Illegal '{}' option with the '{word}' tunnel type",
                        option.word()
                    )));
                }
                _ => {}
            }
        }
        let conflicts = [
            (K::TunnelChecksum, K::TunnelNoChecksum),
            (K::TunnelRemote, K::TunnelNoChecksum),
            (K::TunnelRemote, K::TunnelChecksum),
        ];
        self.check_conflicts(&conflicts, &format!("'{word}' tunnel type"))?;
        let checksum = if self.has(K::TunnelChecksum) {
            TunnelChecksum::Checksum
        } else if self.has(K::TunnelRemote) {
            TunnelChecksum::Remote
        } else {
            TunnelChecksum::None
        };
        Ok(Tunnel { kind, port: self.tunnel_port, checksum })
    }

    fn check_conflicts(&self, pairs: &[(Kind, Kind)], with: &str) -> Parsed<()> {
        let both = pairs.iter().find(|(option, other)| self.has(*option) && self.has(*other));
        both.map_or(Ok(()), |(option, other)| Err(Self::conflict(*option, *other, with)))
    }

    fn conflict(option: Kind, other: Kind, with: &str) -> Mistake {
        let (option, other) = (option.word(), other.word());
        Mistake::new(format!("The option '{option}' conflicts with the '{other}' option in the {with}"))
    }

    fn list(&self) -> Parsed<List> {
        use Kind as K;
        let special = [K::Connection, K::Timeout, K::Daemon].into_iter().find(|&kind| self.has(kind));
        let forms = [
            (K::Stats, Listed::Stats),
            (K::Rate, Listed::Rate),
            (K::Thresholds, Listed::Thresholds),
            (K::PersistentConn, Listed::PersistentConn),
        ];
        let form = forms.into_iter().find(|(kind, _)| self.has(*kind));
        // Connections have their own way to show what belongs to persistence.
        let fits = |&(kind, _): &(Kind, Listed)| special == Some(K::Connection) && kind == K::PersistentConn;
        if special.is_some() && form.as_ref().is_some_and(|form| !fits(form)) {
            return Err(Mistake::new("options conflicts in the list command"));
        }
        let what = match (special, form) {
            (Some(K::Connection), form) => Listed::Connections(form.is_some()),
            (Some(K::Timeout), _) => Listed::Timeouts,
            (Some(_), _) => Listed::Daemon,
            (None, Some((_, listed))) => listed,
            (None, None) if self.has(K::TunnelInfo) => Listed::TunnelInfo,
            (None, None) => Listed::Services,
        };
        Ok(List {
            what,
            service: self.key,
            numeric: self.has(K::Numeric),
            exact: self.has(K::Exact),
            sorted: !self.has(K::NoSort),
        })
    }
}

fn multicast_group(text: &str) -> Parsed<()> {
    if text.parse::<Ipv6Addr>().is_ok_and(|group| group.is_multicast()) {
        return Ok(());
    }
    let known = address::inet_aton(text).is_some_and(|group| group.is_multicast());
    if known { Ok(()) } else { Err(Mistake::new(format!("invalid IPv4 mcast-group `{text}'"))) }
}

fn tunnel_kind(text: &str) -> Parsed<(TunnelKind, &'static str)> {
    match text {
        "ipip" => Ok((TunnelKind::Ipip, "ipip")),
        "gue" => Ok((TunnelKind::Gue, "gue")),
        "gre" => Ok((TunnelKind::Gre, "gre")),
        _ => Err(Mistake::new("illegal tunnel type specified")),
    }
}

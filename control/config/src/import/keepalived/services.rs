//! `virtual_server` becomes `[[service]]`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use shunt_model::fault::Fault;
use shunt_model::fault::Origin;
use shunt_model::limit::{THRESHOLD_MAX, WEIGHT_MAX};

use super::checks::{self, Check, Common};
use super::global::{Mail, MailSwitches};
use super::groups::{Groups, Listen};
use super::keywords::Block;
use super::scripts::{Gone, LEFT_OUT, first_script};
use super::tracking::{Tracked, TrackedFile};
use super::tree::Statement;
use super::values::{Values, walk};
use super::vrrp::SyncGroup;
use crate::import::interfaces::Interfaces;
use crate::import::writer::{Writer, last_of_each, quoted, seconds};

/// What virtual servers need to know of the rest of the file.
#[derive(Debug, Default)]
pub struct Context {
    /// Virtual server groups.
    pub groups: Groups,
    /// Files that are tracked.
    pub track_files: BTreeMap<String, TrackedFile>,
    /// Processes that are tracked.
    pub processes: BTreeMap<String, Tracked>,
    /// `ca` of `SSL`.
    pub ca: Option<String>,
    /// `script_user`.
    pub script_user: Option<String>,
    /// `enable_script_security`.
    pub script_security: bool,
    /// Scripts that are tracked.
    pub scripts: BTreeMap<String, Tracked>,
    /// `vrrp_sync_group`s.
    pub sync_groups: Vec<SyncGroup>,
    /// Scripts whose programs are not there.
    pub disabled: BTreeSet<String>,
    /// What scripts need and is not there.
    pub gone: Gone,
    /// What files of keys of `auth_hmac` hold; none where one cannot be read.
    pub key_files: BTreeMap<String, Option<String>>,
    /// `vrrp_version`.
    pub version: Option<u8>,
    /// `vrrp_strict`.
    pub strict: bool,
    /// Names under which members of groups share checks.
    pub check_groups: BTreeSet<String>,
    /// Instances that were written.
    pub instances: BTreeSet<String>,
    /// `lvs_timeouts`.
    pub timeouts: Vec<(Origin, &'static str, String)>,
    /// Where mail goes, and how.
    pub mail: Mail,
    /// What mails are about.
    pub mail_switches: MailSwitches,
    /// What `global_defs` says for every instance.
    pub vrrp_defaults: Vec<(Origin, &'static str, String)>,
    /// What NICs are called.
    pub interfaces: Interfaces,
    /// VIPs that the file names.
    pub vips: BTreeSet<IpAddr>,
    /// Real servers that the file names.
    pub reals: BTreeSet<IpAddr>,
    /// Routes that were written: to, router, NIC.
    pub routes: BTreeSet<(IpNet, Option<IpAddr>, Option<String>)>,
}

/// How packets reach a real server.
#[derive(Clone, Debug, Default, PartialEq)]
struct Method {
    forward: &'static str,
    /// `tunnel` and what belongs to it, as TOML has them.
    tunnel: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Real {
    origin: Origin,
    place: String,
    address: SocketAddr,
    weight: u32,
    method: Option<Method>,
    keys: Vec<(&'static str, String)>,
    checks: Vec<Check>,
    /// The kernel takes it.
    is_kept: bool,
}

/// A `virtual_server`.
#[derive(Debug)]
pub struct Server {
    origin: Origin,
    place: String,
    listens: Vec<Listen>,
    protocol: Option<&'static str>,
    scheduler: Option<String>,
    method: Option<Method>,
    persistence_timeout: Option<u32>,
    netmask: Option<u8>,
    family: Option<bool>,
    inhibit: bool,
    weight: u32,
    quorum: Option<(Origin, u32)>,
    hysteresis: Option<(Origin, u32)>,
    common: Common,
    /// Keys of the service that are said as they are.
    keys: Vec<(Origin, &'static str, String)>,
    flags: Vec<&'static str>,
    one_packet: Option<Origin>,
    /// Where `alpha` stands.
    alpha: Option<Origin>,
    sorry: Option<(Origin, SocketAddr)>,
    sorry_keys: Vec<(&'static str, String)>,
    sorry_method: Option<Method>,
    reals: Vec<Real>,
    /// It asks for FULLNAT, which crosses families and was refused.
    fullnat: bool,
    /// Under which name all members of its group share checks.
    group: Option<String>,
}

/// Reads a `virtual_server`; none where keepalived has none.
pub fn read(statement: &Statement, context: &mut Context, writer: &mut Writer) -> Option<Server> {
    let place = statement.line();
    let listens = listens(statement, context, &place, writer)?;
    let mut server = Server {
        origin: statement.origin().clone(),
        place: place.clone(),
        listens,
        protocol: None,
        scheduler: None,
        method: None,
        persistence_timeout: None,
        netmask: None,
        family: None,
        inhibit: false,
        weight: 1,
        quorum: None,
        hysteresis: None,
        common: Common::default(),
        keys: Vec::new(),
        flags: Vec::new(),
        one_packet: None,
        alpha: None,
        sorry: None,
        sorry_keys: Vec::new(),
        sorry_method: None,
        reals: Vec::new(),
        fullnat: false,
        group: None,
    };
    let is_group = statement.words.get(1).is_some_and(|word| word == "group");
    if let ([Listen::Address(address)], false) = (server.listens.as_slice(), is_group) {
        server.family = Some(address.is_ipv6());
    }
    let mut reals = Vec::new();
    walk(statement.statements(), Block("virtual_server"), &place, writer, |statement, writer| {
        if statement.keyword() == "real_server" {
            // After everything that holds for all of them, wherever that stands; but a method of before holds for it.
            reals.push((statement, server.method.clone()));
        } else {
            server.take(statement, context, writer);
        }
    });
    server.keys = last_of_each(server.keys, |(_, key, _)| *key);
    server.keys.retain(|(_, _, value)| value != LEFT_OUT);
    for (real, before) in reals {
        if let Some(real) = server.real(real, before, context, writer) {
            server.add(real, writer);
        }
    }
    server.check_sorry(writer);
    if server.reals.is_empty() {
        let fault =
            Fault::new("no real server", "keepalived has no such virtual server", "add one, or remove it");
        writer.ignored(&server.origin, &place, fault);
        return None;
    }
    if let Some(wrong) = server.settle_family(is_group) {
        let holds = "keepalived has no such virtual server, for its real servers are of one family";
        let advice = "use a group for each family, or TUN, which crosses them";
        writer.ignored(&server.origin, &place, Fault::new(wrong, holds, advice));
        return None;
    }
    server.complete(writer);
    if server.listens.len() > 1 && server.reals.iter().any(|real| !real.checks.is_empty()) {
        // keepalived checks once for all members, and once for each virtual_server of a group.
        let name = statement.words.get(2).map_or("group", String::as_str);
        let is_free = |name: &String| !context.check_groups.contains(name);
        let mut names =
            std::iter::once(name.to_owned()).chain((2..).map(|number| format!("{name}-{number}")));
        server.group = names.find(is_free);
        context.check_groups.extend(server.group.clone());
    }
    context.vips.extend(server.listens.iter().filter_map(|listen| match listen {
        Listen::Address(address) => Some(address.ip()),
        Listen::Mark { .. } => None,
    }));
    context.reals.extend(server.reals.iter().map(|real| real.address.ip()));
    context.reals.extend(server.sorry.iter().map(|(_, address)| address.ip()));
    Some(server)
}

/// Writes the services of all of them. The kernel has each virtual server once, with the settings of the first that
/// keepalived brings, and with the real servers of all.
pub fn write(mut servers: Vec<Server>, writer: &mut Writer) {
    let mut seen: HashMap<(Listen, &'static str), usize> = HashMap::new();
    for index in 0..servers.len() {
        let (before, rest) = servers.split_at_mut(index);
        let Some(server) = rest.first_mut() else { break };
        let protocol = server.protocol();
        let mut first = None;
        server.listens.retain(|listen| {
            let key = (*listen, if matches!(listen, Listen::Address(_)) { protocol } else { "" });
            first = first.or(seen.get(&key).copied());
            let is_new = !seen.contains_key(&key);
            seen.entry(key).or_insert(index);
            is_new
        });
        if let Some(first) = first.and_then(|first| before.get_mut(first)) {
            // Its own settings reach its real servers all the same.
            server.own_settings(first);
            first.spread_alpha();
            let wrong = format!("the same virtual server stands at line {} already", first.origin.line);
            let holds = "its settings hold, as in the kernel, and these real servers are added to it";
            let fault = Fault::new(wrong, holds, "make one virtual_server of the two");
            writer.notice(&server.origin, &server.place, fault);
            first.reals.append(&mut server.reals);
            server.listens.clear();
        }
    }
    for server in &mut servers {
        server.name_ports();
        server.join(writer);
        server.write_alpha();
        for (number, listen) in server.listens.iter().enumerate() {
            server.write(listen, number, writer);
        }
    }
}

/// What it listens at; none where keepalived ignores it.
fn listens(
    statement: &Statement,
    context: &Context,
    place: &str,
    writer: &mut Writer,
) -> Option<Vec<Listen>> {
    let mut values = Values::of(statement, place, writer);
    match values.peek() {
        Some("fwmark") => {
            values.word();
            values.required("a firewall mark")?;
            let mut values = Values::of(statement, place, writer);
            values.word();
            values.integer(1..=u32::MAX).map(|mark| vec![Listen::mark(mark)])
        }
        Some("group") => {
            values.word();
            let name = values.required("the name of a virtual_server_group")?;
            if let Some(members) = context.groups.get(name) {
                return Some(members.clone());
            }
            let wrong = format!("there is no virtual_server_group {name}");
            let fault = Fault::new(wrong, "keepalived has no such virtual server", "correct it");
            writer.ignored(statement.origin(), place, fault);
            None
        }
        Some("match") => {
            let holds = "DPVS's services by match have no address that clients reach";
            let advice = "use `[[masquerade]]` for what hosts behind the director begin";
            values.refuse_line("a virtual_server by match is not supported yet", holds, advice);
            None
        }
        _ => {
            let listen = values.endpoint().map(Listen::Address);
            values.end();
            listen.map(|listen| vec![listen])
        }
    }
}

const METHODS: &[(&str, &str)] = &[("NAT", "nat"), ("DR", "dr"), ("TUN", "tun")];
/// What keepalived 2.2.7 takes as a scheduler.
const SCHEDULERS: &[(&str, &str)] = &[
    ("rr", "rr"),
    ("wrr", "wrr"),
    ("lc", "lc"),
    ("wlc", "wlc"),
    ("lblc", "lblc"),
    ("sh", "sh"),
    ("mh", "mh"),
    ("dh", "dh"),
    ("fo", "fo"),
    ("ovf", "ovf"),
    ("lblcr", "lblcr"),
    ("sed", "sed"),
    ("nq", "nq"),
    ("twos", "twos"),
];
/// The persistence of a service of all ports, and where no time is said, in seconds.
const PERSISTENCE: u32 = 360;
/// The largest weight of keepalived, and of this director.
const WEIGHTS: (u32, u32) = (i32::MAX as u32, WEIGHT_MAX);

/// `NAT`, `DR`, `TUN [type ipip|gue|gre] [port N] [nocsum|csum|remcsum]`. Of a tunnel that makes no sense the method holds, and the kind
/// of the method before.
fn method(values: &mut Values<'_, '_>, before: Option<&Method>) -> Option<Method> {
    for (word, name) in [("FNAT", "FULLNAT"), ("SNAT", "SNAT")] {
        if values.peek() == Some(word) {
            let holds = "clients would reach the real servers in another way";
            values.refuse_line(&format!("{name} is not supported yet"), holds, "use NAT, DR or TUN");
            return None;
        }
    }
    let forward = values.choice(METHODS)?;
    if forward != "tun" {
        values.end();
        return Some(Method { forward, tunnel: Vec::new() });
    }
    let tunnel = tunnel(values).or_else(|| before.map(|before| before.tunnel.clone()));
    Some(Method { forward, tunnel: tunnel.unwrap_or_default() })
}

/// The words behind `TUN`; none where keepalived passes over them.
fn tunnel(values: &mut Values<'_, '_>) -> Option<Vec<(&'static str, String)>> {
    let (mut kind, mut l4_port, mut checksum) = ("ipip", None, "none");
    while let Some(word) = values.peek() {
        match word {
            "type" => {
                values.word();
                kind = values.choice(&[("ipip", "ipip"), ("gre", "gre"), ("gue", "gue")])?;
            }
            "port" => {
                values.word();
                l4_port = Some(values.integer(1..=u16::MAX)?);
            }
            _ => checksum = values.choice(&[("nocsum", "none"), ("csum", "full"), ("remcsum", "remote")])?,
        }
    }
    let wrong = match (kind, l4_port, checksum) {
        ("gue", None, _) => "a gue tunnel without a port",
        ("ipip" | "gre", Some(_), _) => "a port of a tunnel that is not gue",
        ("ipip", _, "full" | "remote") => "a checksum of an ipip tunnel",
        ("gre", _, "remote") => "remcsum of a gre tunnel",
        _ => "",
    };
    if !wrong.is_empty() {
        let holds = "keepalived ignores what follows TUN";
        values.ignored(
            wrong,
            holds,
            "write TUN, TUN type gre [csum] or TUN type gue port NUMBER [csum|remcsum]",
        );
        return None;
    }
    let kind = (kind != "ipip").then(|| ("tunnel", quoted(kind)));
    let l4_port = l4_port.map(|l4_port| ("tunnel_port", l4_port.to_string()));
    let checksum = (checksum != "none").then(|| ("tunnel_checksum", quoted(checksum)));
    Some([kind, l4_port, checksum].into_iter().flatten().collect())
}

impl Server {
    fn protocol(&self) -> &'static str {
        self.protocol.unwrap_or("udp")
    }

    fn take(&mut self, statement: &Statement, context: &Context, writer: &mut Writer) {
        let place = self.place.clone();
        let place = &place;
        // Said once, and not of each check.
        if statement.keyword() != "alpha" && self.common.take(statement, 1, place, writer) {
            return;
        }
        let origin = || statement.origin().clone();
        let mut values = Values::of(statement, place, writer);
        let mut key = None;
        match statement.keyword() {
            "lvs_sched" | "lb_algo" => {
                // A line without a scheduler leaves the one of before.
                let named = values.required("a scheduler, such as wlc").is_some();
                if statement.values().first().is_some_and(|word| word == "conhash") {
                    let holds = "clients would be spread over the real servers in another way";
                    return values.refuse_line(
                        "DPVS's conhash is not supported yet",
                        holds,
                        "use mh, which hashes as consistently",
                    );
                }
                let mut values = Values::of(statement, place, writer);
                let scheduler = if named { values.choice(SCHEDULERS) } else { None };
                self.scheduler = scheduler.map(str::to_owned).or(self.scheduler.take());
            }
            "flag-1" | "flag-2" | "sh-fallback" | "mh-fallback" | "sh-port" | "mh-port" => {
                let keyword = statement.keyword();
                let scheduler = self.scheduler.as_deref().unwrap_or("wlc");
                let fits = match keyword.split_once('-') {
                    Some(("flag", _)) => ["sh", "mh"].contains(&scheduler),
                    Some((of, _)) => of == scheduler,
                    None => false,
                };
                if fits {
                    let port = keyword == "flag-2" || keyword.ends_with("-port");
                    self.flags.push(if port { "port" } else { "fallback" });
                } else {
                    let wrong = format!("{keyword} with the scheduler {scheduler}");
                    let holds =
                        "the scheduler that stands before it does not know it, and keepalived ignores it";
                    values.ignored(wrong, holds, "remove it, or write it behind lb_algo sh or mh");
                }
            }
            "flag-3" => values.ignored("flag-3", "no scheduler has a third flag", "remove it"),
            "ops" => self.one_packet = Some(origin()),
            "lvs_method" | "lb_kind" => {
                self.fullnat |= values.peek() == Some("FNAT");
                self.method = method(&mut values, self.method.as_ref()).or(self.method.take());
            }
            "persistence_timeout" if values.peek().is_none() => self.persistence_timeout = Some(PERSISTENCE),
            "persistence_timeout" => {
                self.persistence_timeout = values.integer(1..=31 * 86_400).or(self.persistence_timeout);
            }
            "persistence_granularity" => self.granularity(&mut values),
            "protocol" => {
                let known = [("TCP", "tcp"), ("UDP", "udp"), ("SCTP", "sctp")];
                self.protocol = values.choice_in_any_case(&known).or(self.protocol);
            }
            "ip_family" => {
                self.family = self.family.or(values.choice(&[("inet", false), ("inet6", true)]));
            }
            "inhibit_on_failure" => self.inhibit = true,
            "alpha" => self.alpha = Some(origin()),
            "omega" => key = Some(("omega", "true".to_owned())),
            "weight" => {
                self.weight = values.integer_as_far(1..=WEIGHTS.0).unwrap_or(self.weight);
            }
            "quorum" => {
                self.quorum = Some((origin(), values.integer_as_far(1..=u32::MAX).unwrap_or(1)));
            }
            "hysteresis" => {
                let said = values.integer_as_far(0..=u32::MAX).map(|weight| (origin(), weight));
                self.hysteresis = said.or(self.hysteresis.take());
            }
            "quorum_up" => {
                let is_said = self.keys.iter().any(|(_, said, _)| *said == "quorum_up");
                key = first_script("quorum_up", is_said, &mut values, context);
            }
            "quorum_down" => {
                let is_said = self.keys.iter().any(|(_, said, _)| *said == "quorum_down");
                key = first_script("quorum_down", is_said, &mut values, context);
            }
            "sorry_server" => {
                if let Some(sorry) = values.endpoint() {
                    if sorry.port() == 0 && matches!(self.listens.first(), Some(Listen::Address(_))) {
                        let holds = "it has the service's port, where keepalived names port 0 to the kernel";
                        values.differs("a sorry_server without a port", holds, "add it");
                    }
                    self.sorry = Some((origin(), sorry));
                    self.sorry_method = self.method.clone();
                    self.sorry_keys.clear();
                }
            }
            "sorry_server_inhibit" | "sorry_server_lvs_method" if self.sorry.is_none() => {
                let wrong = format!("{} before a sorry_server", statement.keyword());
                values.ignored(wrong, "keepalived ignores it", "write it behind sorry_server");
            }
            "sorry_server_inhibit" => self.sorry_keys = vec![("inhibit_on_failure", "true".to_owned())],
            "sorry_server_lvs_method" => {
                self.sorry_method =
                    method(&mut values, self.sorry_method.as_ref()).or(self.sorry_method.take());
            }
            _ => {}
        }
        self.keys.extend(key.map(|(key, value)| (origin(), key, value)));
    }

    /// `persistence_granularity`: bits of an IPv6 address, or a netmask, which may be any 32 bits to keepalived and the kernel.
    fn granularity(&mut self, values: &mut Values<'_, '_>) {
        let is_ipv6 = self.family.unwrap_or(values.peek().is_some_and(|word| !word.contains('.')));
        if is_ipv6 {
            let Some(bits) = values.integer(1..=128_u8) else { return };
            self.netmask = Some(bits);
        } else {
            let holds = "it is a netmask such as 255.255.255.0";
            let Some(mask) = values.parse(holds, mask_of) else { return };
            let solid = mask.leading_ones();
            let bits = match (solid, mask) {
                (0, 1..=32) => mask,
                (0, _) => 1,
                (bits, _) => bits,
            };
            if mask.leading_ones() + mask.trailing_zeros() < 32 || mask == 0 {
                let said = std::net::Ipv4Addr::from(mask);
                let wrong = format!("persistence_granularity {said} has gaps, or no bits");
                let wrong = if mask <= 32 {
                    format!("persistence_granularity {mask} is the mask {said}")
                } else {
                    wrong
                };
                let holds = format!(
                    "clients stay together by the first {bits} bits of their addresses, where keepalived's stay by those of the mask"
                );
                values.differs(wrong, holds, "write a netmask such as 255.255.255.0");
            }
            self.netmask = Some(bits as u8);
        }
        self.family = self.family.or(Some(is_ipv6));
        self.persistence_timeout = self.persistence_timeout.or(Some(PERSISTENCE));
    }

    /// Leaves out a sorry server of another family, which keepalived looks at when it has read the real servers.
    fn check_sorry(&mut self, writer: &mut Writer) {
        let Some((origin, sorry)) = self.sorry.take() else { return };
        if is_tunnel(self.sorry_method.as_ref()) || self.is_of_family(sorry.is_ipv6()) {
            self.sorry = Some((origin, sorry));
            return;
        }
        let holds = "keepalived ignores it, for only tunnels cross families";
        let advice = "name an address of the VIP's family";
        let fault = Fault::new("a sorry server of another address family", holds, advice);
        writer.ignored(&origin, &self.place, fault);
    }

    /// Whether a server is of the virtual server's family, which is that of the first one where nothing is said.
    fn is_of_family(&mut self, is_ipv6: bool) -> bool {
        *self.family.get_or_insert(is_ipv6) == is_ipv6
    }

    /// Gives its marks a family. In words, what keeps a group from being that of these real servers.
    fn settle_family(&mut self, is_group: bool) -> Option<&'static str> {
        let has = |is_ipv6: bool| self.listens.iter().any(|listen| listen.family() == Some(is_ipv6));
        let of_group = if is_group { (has(false), has(true)) } else { (false, false) };
        match (of_group, self.family) {
            ((true, true), Some(_)) => {
                return Some("a group of both families whose real servers are not all behind tunnels");
            }
            ((true, false), Some(true)) | ((false, true), Some(false)) => {
                return Some("a group of another family than its real servers");
            }
            _ => {}
        }
        if !is_group && self.family.is_none() {
            // All of them are behind tunnels.
            let sorry = self.sorry.iter().map(|(_, sorry)| *sorry);
            self.family =
                Some(sorry.chain(self.reals.iter().map(|real| real.address)).all(|one| one.is_ipv6()));
        }
        for listen in &mut self.listens {
            if let Listen::Mark { is_ipv6, .. } = listen {
                *is_ipv6 = is_ipv6.or(self.family).or(Some(false));
            }
        }
        None
    }

    fn real(
        &mut self,
        statement: &Statement,
        before: Option<Method>,
        context: &Context,
        writer: &mut Writer,
    ) -> Option<Real> {
        let place = format!("{}, {}", self.place, statement.line());
        let mut values = Values::of(statement, &place, writer);
        let address = values.endpoint()?;
        values.end();
        let mut real = Real {
            origin: statement.origin().clone(),
            place: place.clone(),
            address,
            weight: self.weight,
            method: None,
            keys: Vec::new(),
            checks: Vec::new(),
            is_kept: true,
        };
        let mut common = self.common.clone();
        let (mut inhibit, mut fullnat) = (None, self.fullnat);
        let mut checkers = Vec::new();
        walk(statement.statements(), Block("real_server"), &place, writer, |statement, writer| {
            if statement.block.is_some() {
                // Likewise after everything that holds for all of them.
                checkers.push(statement.clone());
                return;
            }
            if common.take(statement, 1, &place, writer) {
                return;
            }
            let mut values = Values::of(statement, &place, writer);
            let mut threshold = || {
                let most = values.integer_as_far(0..=u32::MAX)?;
                Some(most.min(THRESHOLD_MAX).to_string())
            };
            let key = match statement.keyword() {
                "uthreshold" => threshold().map(|most| ("u_threshold", most)),
                "lthreshold" => threshold().map(|least| ("l_threshold", least)),
                "weight" => {
                    real.weight = values.integer_as_far(0..=WEIGHTS.0).unwrap_or(real.weight);
                    None
                }
                "lvs_method" => {
                    fullnat |= values.peek() == Some("FNAT");
                    let said = real.method.as_ref().or(before.as_ref());
                    real.method = method(&mut values, said).or(real.method.take());
                    None
                }
                "inhibit_on_failure" => {
                    inhibit = values.boolean().or(inhibit);
                    None
                }
                "notify_up" => {
                    let is_said = real.keys.iter().any(|(said, _)| *said == "notify_up");
                    first_script("notify_up", is_said, &mut values, context)
                }
                "notify_down" => {
                    let is_said = real.keys.iter().any(|(said, _)| *said == "notify_down");
                    first_script("notify_down", is_said, &mut values, context)
                }
                _ => None,
            };
            real.keys.extend(key);
        });
        if before != self.method {
            real.method = real.method.or(before.clone());
        }
        let tunnelled = is_tunnel(real.method.as_ref().or(before.as_ref()));
        if !tunnelled && !fullnat && !self.is_of_family(address.is_ipv6()) {
            let holds = "keepalived ignores it, for only tunnels cross families";
            let fault = Fault::new(
                "a real server of another address family",
                holds,
                "use TUN, or name another address",
            );
            writer.ignored(&real.origin, &place, fault);
            return None;
        }
        let said = |key: &str| {
            let value = real.keys.iter().rfind(|(known, _)| *known == key);
            value.and_then(|(_, value)| value.parse::<u32>().ok()).unwrap_or(0)
        };
        let (lower, upper) = (said("l_threshold"), said("u_threshold"));
        if lower > upper {
            let wrong = format!("lthreshold {lower} above uthreshold {upper} of a real_server");
            let holds =
                "the kernel does not take it from keepalived, and no packet reaches it: it is left out";
            let fault = Fault::new(wrong, holds, "lower lthreshold, or raise uthreshold");
            writer.notice(&real.origin, &place, fault);
            real.is_kept = false;
        }
        if inhibit.unwrap_or(self.inhibit) {
            real.keys.push(("inhibit_on_failure", "true".to_owned()));
        }
        real.keys = last_of_each(real.keys, |(key, _)| *key);
        real.keys.retain(|(_, value)| value != LEFT_OUT);
        let knows_port =
            self.listens.iter().all(|listen| matches!(listen, Listen::Address(at) if at.port() > 0));
        for checker in &checkers {
            real.checks.extend(checks::read(checker, address, knows_port, &common, context, &place, writer));
        }
        Some(real)
    }

    /// Adds a real server, unless it is one of these already as it is written.
    fn add(&mut self, real: Real, writer: &mut Writer) {
        if let Some(first) = self.reals.iter().find(|other| other.address == real.address) {
            let wrong = format!("the real server stands at line {} already", first.origin.line);
            let advice = "remove one, and give the other its weight";
            let fault = Fault::new(wrong, "keepalived removes this one", advice);
            return writer.ignored(&real.origin, &real.place, fault);
        }
        self.reals.push(real);
    }

    /// Where packets to a real server go: by NAT to its port, or the service's, and else to the port that they were sent to, told as 0
    /// where there are several.
    fn reached(&self, real: &Real) -> SocketAddr {
        let l4_port = match (self.listens.as_slice(), real.address.port()) {
            ([Listen::Address(listen)], _) if !self.is_nat(real) => listen.port(),
            _ if !self.is_nat(real) => 0,
            ([Listen::Address(listen)], 0) => listen.port(),
            (_, port) => port,
        };
        SocketAddr::new(real.address.ip(), l4_port)
    }

    fn is_nat(&self, real: &Real) -> bool {
        real.method.as_ref().or(self.method.as_ref()).is_none_or(|one| one.forward == "nat")
    }

    /// A check asks for the port that is written, also where that is not the service's.
    fn name_ports(&mut self) {
        let is_known = |listen: &Listen, real: &Real, is_nat: bool| match listen {
            Listen::Address(at) => at.port() == real.address.port() || is_nat && at.port() > 0,
            Listen::Mark { .. } => false,
        };
        let nat: Vec<bool> = self.reals.iter().map(|real| self.is_nat(real)).collect();
        for (real, is_nat) in self.reals.iter_mut().zip(nat) {
            let l4_port = real.address.port();
            if l4_port == 0 || self.listens.iter().all(|listen| is_known(listen, real, is_nat)) {
                continue;
            }
            for check in real.checks.iter_mut().filter(|check| check.asks_a_port()) {
                check.keys.push(("port", l4_port.to_string()));
            }
        }
    }

    /// Joins real servers that are one to the kernel, as those of two ports are behind DR, or those of two virtual servers at one place: it has
    /// the first one's settings, and keepalived takes it out when a check of any of them fails.
    fn join(&mut self, writer: &mut Writer) {
        let (kept, left): (Vec<Real>, Vec<Real>) =
            std::mem::take(&mut self.reals).into_iter().partition(|real| real.is_kept);
        for real in kept.into_iter().chain(left) {
            let reached = self.reached(&real);
            let at = self.reals.iter().position(|other| self.reached(other) == reached);
            let Some(first) = at.and_then(|at| self.reals.get_mut(at)) else {
                if real.is_kept {
                    self.reals.push(real);
                }
                continue;
            };
            let wrong = format!("the real server stands at line {} already", first.origin.line);
            let holds = "the first one holds, as in the kernel, and it is up when the checks of both pass";
            let advice = "remove one, and give the other its weight";
            writer.notice(&real.origin, &real.place, Fault::new(wrong, holds, advice));
            for check in real.checks {
                if first.checks.iter().all(|other| other.keys != check.keys) {
                    first.checks.push(check);
                }
            }
        }
    }

    /// Gives its real servers what it says for all of them, where these are another one's.
    fn own_settings(&mut self, first: &Self) {
        let nat = || Method { forward: "nat", tunnel: Vec::new() };
        for real in self.reals.iter_mut().filter(|real| real.method.is_none() && self.method != first.method)
        {
            real.method = Some(self.method.clone().unwrap_or_else(nat));
        }
        self.spread_alpha();
    }

    /// `alpha` is about checks: a real server without any is up.
    fn write_alpha(&mut self) {
        if self.reals.is_empty() || self.reals.iter().any(|real| real.checks.is_empty()) {
            return self.spread_alpha();
        }
        self.keys.extend(self.alpha.take().map(|origin| (origin, "alpha", "true".to_owned())));
    }

    /// `alpha` as the checks' own.
    fn spread_alpha(&mut self) {
        if self.alpha.take().is_none() {
            return;
        }
        for check in self.reals.iter_mut().flat_map(|real| &mut real.checks) {
            if check.keys.iter().all(|(key, _)| *key != "alpha") {
                check.keys.push(("alpha", "true".to_owned()));
            }
        }
    }

    /// What keepalived makes of lines that do not go together.
    fn complete(&mut self, writer: &mut Writer) {
        let place = self.place.clone();
        let is_mark = self.listens.iter().all(|listen| matches!(listen, Listen::Mark { .. }));
        if let Some(origin) = self.one_packet.clone().filter(|_| !is_mark && self.protocol() != "udp") {
            self.one_packet = None;
            let holds = "keepalived ignores it, for only UDP has packets that stand alone";
            writer.ignored(&origin, &place, Fault::new("ops without UDP", holds, "remove it"));
        }
        let same =
            self.sorry.as_ref().and_then(|(_, sorry)| self.reals.iter().find(|real| real.address == *sorry));
        if let Some(real) = same {
            // As a real server it is one thing, and keepalived makes it so.
            let inhibits = |(key, _): &&(&str, String)| *key == "inhibit_on_failure";
            self.sorry_keys = real.keys.iter().filter(inhibits).cloned().collect();
        }
        self.scale(writer);
        let sum: u32 = self.reals.iter().map(|real| real.weight).fold(0, u32::saturating_add);
        // Checks that count in numbers of their own may raise a weight, to keepalived, too, only later.
        if let Some((origin, quorum)) = &mut self.quorum {
            if *quorum > sum {
                let wrong = format!("a quorum of {quorum} above the weights of all real servers");
                let holds = format!("it is {sum}, their sum, as in keepalived");
                writer.notice(origin, &place, Fault::new(wrong, holds, "correct it"));
                *quorum = sum;
            }
        }
        let quorum = self.quorum.as_ref().map_or(1, |(_, quorum)| *quorum);
        if let Some((origin, hysteresis)) = &mut self.hysteresis {
            if *hysteresis >= quorum {
                let lowered = quorum.saturating_sub(1);
                let wrong = format!("a hysteresis of {hysteresis} that is not below the quorum {quorum}");
                let holds = format!("it is {lowered}, as in keepalived");
                writer.notice(origin, &place, Fault::new(wrong, holds, "correct it"));
                *hysteresis = lowered;
            }
        }
    }

    /// Weights above this director's largest one: all of them are divided by the same number, and the quorum.
    fn scale(&mut self, writer: &mut Writer) {
        let most = self.reals.iter().map(|real| real.weight).max().unwrap_or_default();
        if most <= WEIGHTS.1 {
            return;
        }
        let scaled = |weight: u32| {
            let scaled = u64::from(weight) * u64::from(WEIGHTS.1) / u64::from(most);
            (scaled as u32).max(u32::from(weight > 0))
        };
        let holds = format!(
            "weights end at {}: all of this virtual server are divided by the same number",
            WEIGHTS.1
        );
        let fault = Fault::new(format!("a weight of {most}"), holds, "nothing needs to be done");
        writer.notice(&self.origin, &self.place, fault);
        for real in &mut self.reals {
            real.weight = scaled(real.weight);
        }
        for (_, weight) in self.quorum.iter_mut().chain(&mut self.hysteresis) {
            *weight = scaled(*weight);
        }
    }

    fn write(&self, listen: &Listen, number: usize, writer: &mut Writer) {
        let origin = &self.origin;
        let protocol = self.protocol();
        writer.table(origin, "[[service]]");
        let listens = match listen {
            Listen::Address(address) => {
                writer.key(origin, "name", quoted(&format!("{protocol}-{address}")));
                quoted(&address.to_string())
            }
            Listen::Mark { mark, is_ipv6 } => {
                let is_ipv6 = is_ipv6.unwrap_or(false);
                let family = if is_ipv6 { ", family = \"ipv6\"" } else { "" };
                writer.key(
                    origin,
                    "name",
                    quoted(&format!("fwmark-{mark}{}", if is_ipv6 { "-ipv6" } else { "" })),
                );
                format!("{{ fwmark = {mark}{family} }}")
            }
        };
        writer.key(origin, "listen", listens);
        if let Listen::Address(_) = listen {
            writer.key(origin, "protocol", quoted(protocol));
            if self.protocol.is_none() && number == 0 {
                let holds = "keepalived 2.2.7 takes udp where none is given";
                let fault = Fault::new("protocol is missing", holds, "add protocol TCP if that is meant");
                writer.notice(origin, &self.place, fault);
            }
        }
        if let Some(scheduler) = &self.scheduler {
            writer.key(origin, "scheduler", quoted(scheduler));
        }
        for (key, said) in [("quorum", &self.quorum), ("hysteresis", &self.hysteresis)] {
            if let Some((origin, weight)) = said {
                writer.key(origin, key, weight);
            }
        }
        if let Some(origin) = &self.one_packet {
            writer.key(origin, "one_packet", true);
        }
        if let Some(group) = &self.group {
            writer.key(origin, "check_group", quoted(group));
        }
        // Scripts run once, and not for each member of a group.
        let is_script = |key: &str| ["quorum_up", "quorum_down"].contains(&key);
        for (origin, key, value) in self.keys.iter().filter(|(_, key, _)| number == 0 || !is_script(key)) {
            writer.key(origin, key, value);
        }
        if !self.flags.is_empty() {
            let flags: Vec<String> = self.flags.iter().map(|flag| quoted(flag)).collect();
            writer.key(origin, "scheduler_flags", format!("[{}]", flags.join(", ")));
        }
        self.write_persistence(listen, writer);
        let method = self.method.clone().unwrap_or(Method { forward: "nat", tunnel: Vec::new() });
        writer.key(origin, "forward", quoted(method.forward));
        if let Some((origin, address)) = &self.sorry {
            let own = self.sorry_method.as_ref().unwrap_or(&method);
            let is_nat = own.forward == "nat";
            let address = if is_nat { *address } else { SocketAddr::new(address.ip(), 0) };
            let mut keys = vec![("address", real_address(address, own, listen))];
            keys.extend(differing(own, &method));
            keys.extend(self.sorry_keys.iter().cloned());
            writer.key(origin, "sorry_server", inline(&keys));
        }
        // One check for all is said once.
        let shared = self.reals.first().map(|first| &first.checks).filter(|first| {
            let same = |real: &Real| {
                real.checks.iter().map(|check| &check.keys).eq(first.iter().map(|check| &check.keys))
            };
            !first.is_empty() && self.reals.iter().all(same)
        });
        if let Some([first, ..]) = shared.map(Vec::as_slice) {
            writer.key(&first.origin, "check", checks_toml(shared.map_or(&[], Vec::as_slice)));
        }
        if self.reals.is_empty() {
            return writer.line(origin, "real = []");
        }
        writer.line(origin, "real = [");
        for real in &self.reals {
            let own = real.method.as_ref().unwrap_or(&method);
            self.tell_port(real, own, listen, number, writer);
            let mut keys = vec![("address", real_address(real.address, own, listen))];
            keys.push(("weight", real.weight.to_string()));
            keys.extend(differing(own, &method));
            let is_script = |key: &str| ["notify_up", "notify_down"].contains(&key);
            keys.extend(real.keys.iter().filter(|(key, _)| number == 0 || !is_script(key)).cloned());
            if shared.is_none() && !real.checks.is_empty() {
                keys.push(("check", checks_toml(&real.checks)));
            }
            writer.line(&real.origin, &format!("  {},", inline(&keys)));
        }
        writer.line(origin, "]");
    }

    fn write_persistence(&self, listen: &Listen, writer: &mut Writer) {
        // One member of all ports makes those of all a matter of persistence.
        let all_ports = matches!(listen, Listen::Address(_))
            && self.listens.iter().any(|listen| matches!(listen, Listen::Address(at) if at.port() == 0));
        if self.persistence_timeout.is_none() && self.netmask.is_none() && !all_ports {
            return;
        }
        let timeout = seconds(self.persistence_timeout.unwrap_or(PERSISTENCE).into());
        let netmask = self.netmask.map(|netmask| format!(", netmask = {netmask}")).unwrap_or_default();
        writer.key(&self.origin, "persistence", format!("{{ timeout = {timeout}{netmask} }}"));
    }

    /// DR and TUN leave the port as it is, whatever the file says.
    fn tell_port(&self, real: &Real, method: &Method, listen: &Listen, number: usize, writer: &mut Writer) {
        let Listen::Address(listen) = listen else { return };
        if number == 0 && method.forward != "nat" && ![0, listen.port()].contains(&real.address.port()) {
            let fault = Fault::new(
                format!("port {} of a {} real server has no effect", real.address.port(), method.forward),
                format!("packets reach it at the port of the service, {}", listen.port()),
                "correct the port, or use NAT",
            );
            writer.notice(&real.origin, &self.place, fault);
        }
    }
}

fn is_tunnel(method: Option<&Method>) -> bool {
    method.is_some_and(|method| method.forward == "tun")
}

fn inline(keys: &[(&'static str, String)]) -> String {
    let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{{ {} }}", keys.join(", "))
}

fn checks_toml(checks: &[Check]) -> String {
    match checks {
        [one] => one.toml(),
        several => format!("[{}]", several.iter().map(Check::toml).collect::<Vec<_>>().join(", ")),
    }
}

/// A real server's address, with its port where it can be another one than the service's.
fn real_address(address: SocketAddr, method: &Method, listen: &Listen) -> String {
    let kept = address.port() == 0 || (matches!(listen, Listen::Address(_)) && method.forward != "nat");
    quoted(&if kept { address.ip().to_string() } else { address.to_string() })
}

/// The keys of a method that say more than the service's.
fn differing(own: &Method, service: &Method) -> Vec<(&'static str, String)> {
    let forward = (own.forward != service.forward).then(|| ("forward", quoted(own.forward)));
    forward.into_iter().chain(own.tunnel.iter().cloned()).collect()
}

/// A netmask as keepalived reads it: up to four numbers, of which the last one fills what is left.
fn mask_of(word: &str) -> Option<u32> {
    let parts: Vec<u64> = word.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let (last, first) = parts.split_last().filter(|(_, first)| first.len() < 4)?;
    let rest = 32 - 8 * first.len() as u32;
    let fits = first.iter().all(|part| *part < 256) && *last < 1 << rest;
    let mask = first.iter().fold(0, |mask, part| mask << 8 | part) << rest | last;
    u32::try_from(mask).ok().filter(|_| fits)
}

/// Bits of a netmask.
pub(in crate::import) fn netmask(word: &str) -> Option<u8> {
    match word.parse::<IpAddr>() {
        Ok(IpAddr::V4(mask)) => {
            let bits = u32::from(mask);
            (bits.leading_ones() + bits.trailing_zeros() >= 32 && bits != 0)
                .then(|| bits.leading_ones() as u8)
        }
        _ => word.parse().ok().filter(|bits| (1..=128).contains(bits)),
    }
}

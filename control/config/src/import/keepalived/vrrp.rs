//! `vrrp_instance` and `vrrp_sync_group` become `[[vrrp]]` and `[[vrrp_group]]`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use shunt_model::fault::Origin;
use shunt_model::fault::{Fault, printable};
use shunt_model::limit::CHECK_COUNT_MAX;
use shunt_model::vrrp::PRIORITY_OWNER;

use super::auth_hmac::AuthHmac;
use super::keywords::Block;
use super::scripts::{self, LEFT_OUT, command, first_script, list, user};
use super::services::Context;
use super::tracking::{Track, Tracked, script_weight, tracks};
use super::tree::Statement;
use super::values::{Values, address, walk};
use crate::import::note::Fate;
use crate::import::vrrp::Router;
use crate::import::writer::{Writer, last_of_each, quoted, seconds};

/// The most failures, successes and repetitions that are counted here.
const COUNT_MAX: u32 = CHECK_COUNT_MAX as u32;

/// The priority where none is said.
const PRIORITY_DEFAULT: u8 = 100;
/// The longest time between two announcements, in seconds.
const ANNOUNCE_MAX: u32 = 3_600;
/// How many bytes of a password count.
const PASSWORD_MAX: usize = 8;

/// Reads a `vrrp_script`.
pub fn read_script(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    let place = statement.line();
    let Some(name) = Values::of(statement, &place, writer).required("a vrrp_script has a name") else {
        return;
    };
    let mut tracked = Tracked::default();
    let (mut interval, mut timeout) = (1, None);
    walk(statement.statements(), Block("vrrp_script"), &place, writer, |statement, writer| {
        let mut values = Values::of(statement, &place, writer);
        let key = match statement.keyword() {
            "script" => {
                let command = command(&mut values);
                if let Some(program) = command.as_ref().and_then(|words| words.first().cloned()) {
                    tracked.program = Some((statement.origin().clone(), program));
                }
                command.map(|command| ("command", list(&command)))
            }
            "user" => user(&mut values).map(|user| ("user", quoted(&user))),
            // 0 is 1, as before keepalived 2.0.7.
            "interval" => {
                interval =
                    values.integer_as_far(0..=scripts::SECONDS_MAX).map_or(interval, |time| time.max(1));
                None
            }
            "timeout" => {
                timeout = values.integer_as_far(0..=scripts::SECONDS_MAX).map(|time| time.max(1)).or(timeout);
                None
            }
            "rise" => Some(("rise", count(&mut values))),
            "fall" => Some(("fall", count(&mut values))),
            _ => {
                tracked.weight = script_weight(&mut values).unwrap_or(tracked.weight);
                None
            }
        };
        tracked.keys.extend(key);
    });
    if tracked.program.is_none() {
        let fault = Fault::new("a vrrp_script without script", "keepalived ignores it", "add script");
        return writer.ignored(statement.origin(), &place, fault);
    }
    tracked.keys.push(("interval", seconds(interval.into())));
    // A script that takes longer than its interval has failed, where nothing else is said.
    tracked.keys.push(("timeout", seconds(timeout.unwrap_or(interval).into())));
    tracked.keys = last_of_each(tracked.keys, |(key, _)| *key);
    if let Some(user) = context.script_user.as_ref() {
        if tracked.keys.iter().all(|(key, _)| *key != "user") {
            tracked.keys.push(("user", quoted(user)));
        }
    }
    context.scripts.insert(name.to_owned(), tracked);
}

/// `rise` and `fall`: 1 where the value is none.
fn count(values: &mut Values<'_, '_>) -> String {
    let said = values.integer_as_far(1..=i32::MAX as u32).unwrap_or(1);
    if said > COUNT_MAX {
        let wrong = format!("{} {said}", values.keyword());
        values.differs(wrong, format!("it is {COUNT_MAX}, the most here"), "see whether that will do");
    }
    said.min(COUNT_MAX).to_string()
}

/// A `vrrp_instance` as its lines say it, before they are compared with each other.
#[derive(Debug)]
pub struct Instance {
    origin: Origin,
    place: String,
    router: Router,
    /// `state`: true for MASTER.
    master: Option<bool>,
    strict: Option<bool>,
    accept: Option<bool>,
    /// Where `nopreempt` stands.
    nopreempt: Option<Origin>,
    preempt_delay: Option<(Origin, f64)>,
    auth: Auth,
    hmac: Option<AuthHmac>,
    /// Where adverts shall go to single hosts.
    unicast: Option<Origin>,
    advert_int: Option<Origin>,
    /// What it says itself that it depends on.
    tracks: Vec<Track>,
    /// NICs that its VIPs and routes name.
    links: Vec<String>,
}

/// What `authentication` says.
#[derive(Debug, Default)]
struct Auth {
    origin: Option<Origin>,
    kind: Option<&'static str>,
    password: Option<String>,
}

/// Reads a `vrrp_instance`; none where keepalived ignores it.
pub fn read(statement: &Statement, context: &mut Context, writer: &mut Writer) -> Option<Instance> {
    let place = statement.line();
    let origin = statement.origin().clone();
    let Some(name) = statement.values().first() else {
        let fault = Fault::new("an instance without a name", "keepalived ignores it", "give it a name");
        writer.ignored(&origin, &place, fault);
        return None;
    };
    if !context.instances.insert(name.to_owned()) {
        let wrong = format!("there is a vrrp_instance {name} already");
        let fault = Fault::new(wrong, "keepalived ignores this one", "give it a name of its own");
        writer.ignored(&origin, &place, fault);
        return None;
    }
    let mut instance = Instance {
        origin,
        place: place.clone(),
        router: Router { name: name.to_owned(), ..Router::default() },
        master: None,
        strict: None,
        accept: None,
        nopreempt: None,
        preempt_delay: None,
        auth: Auth::default(),
        hmac: None,
        unicast: None,
        advert_int: None,
        tracks: Vec::new(),
        links: Vec::new(),
    };
    instance.router.keys.extend(context.vrrp_defaults.iter().cloned());
    walk(statement.statements(), Block("vrrp_instance"), &place, writer, |statement, writer| {
        instance.take(statement, &place, context, writer);
    });
    tell_mac_on_lo(statement, &place, writer);
    Some(instance)
}

/// A VIP on `lo` with the virtual MAC: the interface for it cannot be made, and keepalived waits for it.
fn tell_mac_on_lo(statement: &Statement, place: &str, writer: &mut Writer) {
    let lines = statement.statements().iter();
    let of_all = lines.clone().any(|line| line.keyword() == "use_vmac_addr");
    let is_list = |line: &&Statement| line.keyword().starts_with("virtual_ipaddress");
    let asks = |vip: &&Statement| {
        let words = vip.values();
        let on_lo = words.windows(2).any(|pair| pair[0] == "dev" && pair[1] == "lo");
        on_lo && (of_all || words.iter().any(|word| word == "use_vmac"))
    };
    if let Some(vip) = lines.filter(is_list).flat_map(Statement::statements).find(asks) {
        let wrong = format!("{} dev lo with the virtual MAC", vip.keyword());
        let holds = "the instance works here; keepalived's is in fault, for the interface of the MAC cannot be made on lo";
        let advice = "remove dev lo, or use_vmac_addr";
        writer.notice(vip.origin(), place, Fault::new(wrong, holds, advice));
    }
}

impl Instance {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.router.name
    }

    /// Writes its `[[vrrp]]`.
    pub fn write(mut self, groups: &[SyncGroup], context: &Context, writer: &mut Writer) {
        let (origin, place) = (self.origin.clone(), self.place.clone());
        let group = groups.iter().find(|group| group.members.contains(&self.router.name));
        let tracks = self.tracked(group, &place, writer);
        self.router.tracks = tracks.iter().map(Track::toml).collect();
        let router = &self.router;
        for (present, keyword) in
            [(router.nic.is_some(), "interface"), (router.vrid.is_some(), "virtual_router_id")]
        {
            if !present {
                let holds = "keepalived's VRRP ends here, for every instance has one";
                let fault = Fault::new(format!("{keyword} is missing"), holds, "add it");
                writer.refuse(&origin, &place, fault);
            }
        }
        self.complete(&origin, &place, context, writer);
        self.router.keys = last_of_each(self.router.keys, |(_, key, _)| *key);
        self.router.keys.retain(|(_, _, value)| value != LEFT_OUT);
        self.router.write(&origin, writer);
    }

    /// Whether it has the priority of who owns the addresses, which is also that of a `MASTER` that names none.
    fn is_owner(&self) -> bool {
        let usual = if self.master == Some(true) { PRIORITY_OWNER } else { PRIORITY_DEFAULT };
        self.router.priority.unwrap_or(usual) == PRIORITY_OWNER
    }

    /// What it depends on: what it says, the links of its VIPs and routes, and what its group says.
    fn tracked(&mut self, group: Option<&SyncGroup>, place: &str, writer: &mut Writer) -> Vec<Track> {
        let is_owner = self.is_owner();
        let whose = if is_owner {
            Some("of the owner of the addresses (priority 255)")
        } else {
            group.filter(|group| !group.weights).map(|_| "of an instance of a group")
        };
        let mut tracks = Vec::new();
        for track in std::mem::take(&mut self.tracks) {
            let kept = if whose.is_some() { track.without_weight() } else { Some(track.clone()) };
            if kept.as_ref() != Some(&track) || is_owner && track.is_weighted_link() {
                let wrong = format!("a weight in the tracks {}", whose.unwrap_or_default());
                let holds = "keepalived ignores such scripts, files and, of an owner, interfaces, but for files of weight 1, which have 0";
                let advice = "remove it; in a group, track it there, or write sync_group_tracking_weight";
                writer.ignored(&self.origin, place, Fault::new(wrong, holds, advice));
            }
            kept.into_iter().for_each(|track| track.join(&mut tracks));
        }
        std::mem::take(&mut self.links).into_iter().for_each(|nic| Track::link(nic).join(&mut tracks));
        for track in group.iter().flat_map(|group| &group.tracks) {
            track.clone().join(&mut tracks);
        }
        let own = self.router.nic.as_deref();
        tracks.retain(|track| !(track.is_link(own) || is_owner && track.is_weighted_link()));
        tracks
    }

    fn take(&mut self, statement: &Statement, place: &str, context: &mut Context, writer: &mut Writer) {
        let router = &mut self.router;
        let origin = statement.origin();
        let mut values = Values::of(statement, place, writer);
        let key = match statement.keyword() {
            "interface" => {
                let Some(interface) = values.required("an interface") else { return };
                router.nic = context.interfaces.nic(interface, origin, place, writer);
                return;
            }
            "state" => {
                // BACKUP leaves a MASTER before it; an unknown word is BACKUP.
                let said = values.choice(&[("MASTER", true), ("BACKUP", false)]);
                let is_backup = said == Some(false) && self.master == Some(true);
                self.master = Some(said.unwrap_or(false) || is_backup);
                return;
            }
            "virtual_router_id" => {
                router.vrid = values.integer(1..=255).or(router.vrid);
                return;
            }
            "priority" => {
                router.priority = Some(values.integer(1..=255).unwrap_or(PRIORITY_DEFAULT));
                return;
            }
            "advert_int" => {
                if let Some(interval) = values.seconds(0.01..=255.0) {
                    router.interval = Some(interval);
                    self.advert_int = Some(origin.clone());
                }
                return;
            }
            "version" => {
                let Some(version) = values.integer_as_far(2..=3) else { return };
                match router.version {
                    Some(first) if first != version => {
                        let holds = format!("keepalived ignores it, for the version is {first} already");
                        values.ignored(format!("version {version}"), holds, "remove one of them");
                    }
                    _ => router.version = Some(version),
                }
                return;
            }
            "strict_mode" => {
                self.strict = values.boolean().or(self.strict);
                return;
            }
            "virtual_ipaddress" | "virtual_ipaddress_excluded" => {
                let told = statement.keyword() == "virtual_ipaddress";
                return addresses(statement, router, &mut self.links, told, place, context, writer);
            }
            "unicast_peer" => {
                self.unicast = Some(origin.clone());
                return peers(statement, router, place, writer);
            }
            "authentication" => return self.authentication(statement, place, writer),
            "auth_hmac" => {
                let hmac = self.hmac.get_or_insert_with(|| AuthHmac::new(origin.clone()));
                return hmac.read(statement, &context.key_files, place, writer);
            }
            "track_interface" | "track_script" | "track_file" | "track_process" => {
                let own = router.nic.clone();
                return tracks(statement, &mut self.tracks, own.as_deref(), place, context, writer);
            }
            "virtual_routes" => {
                for line in statement.statements() {
                    let tracked = !line.words.iter().any(|word| word == "no_track");
                    let dev = line.words.iter().position(|word| word == "dev");
                    let dev = dev.and_then(|at| line.words.get(at + 1)).filter(|_| tracked);
                    self.links.extend(dev.and_then(|dev| context.interfaces.find(dev)));
                }
                return;
            }
            "mcast_src_ip" => values.address().map(|address| ("source", quoted(&address.to_string()))),
            "unicast_src_ip" => {
                self.unicast = Some(origin.clone());
                values.address().map(|address| ("source", quoted(&address.to_string())))
            }
            "accept" | "no_accept" => {
                self.accept = Some(statement.keyword() == "accept");
                return;
            }
            "use_vmac" => virtual_mac(&mut values),
            "vmac_xmit_base" => Some(("vmac_xmit_base", "true".to_owned())),
            "preempt" => {
                self.nopreempt = None;
                return;
            }
            "nopreempt" => {
                self.nopreempt = Some(origin.clone());
                return;
            }
            "preempt_delay" => {
                let delay = values.seconds(0.0..=1000.0).filter(|delay| *delay > 0.0);
                self.preempt_delay = delay.map(|delay| (origin.clone(), delay));
                return;
            }
            keyword => match announcing(keyword, &mut values) {
                Some(key) => Some(key),
                None => {
                    let keys = router.keys.iter().map(|(_, key, _)| *key);
                    notify(keyword, keys, &mut values, context)
                }
            },
        };
        router.keys.extend(key.map(|(key, value)| (origin.clone(), key, value)));
    }

    fn authentication(&mut self, statement: &Statement, place: &str, writer: &mut Writer) {
        let auth = &mut self.auth;
        auth.origin = Some(statement.origin().clone());
        walk(statement.statements(), Block("authentication"), place, writer, |statement, writer| {
            let mut values = Values::of(statement, place, writer);
            if statement.keyword() == "auth_type" {
                auth.kind = values.choice(&[("PASS", "password"), ("AH", "header")]).or(auth.kind);
                return;
            }
            let Some(word) = values.required("a password of at most eight bytes") else { return };
            // What was read may stand for other bytes.
            if !word.is_ascii() {
                let holds = "a password is ASCII here: peers that have other bytes would not understand this director";
                let fault = Fault::new("a password that is not ASCII", holds, "choose another one");
                return writer.refuse(statement.origin(), place, fault);
            }
            if word.len() > PASSWORD_MAX {
                let holds = "its first eight bytes are the password, as in keepalived";
                values.differs("a password of more than eight bytes", holds, "shorten it");
            }
            auth.password = Some(word.chars().take(PASSWORD_MAX).collect());
        });
    }

    /// What keepalived makes of lines that do not go together, when it has read all of them.
    fn complete(&mut self, origin: &Origin, place: &str, context: &Context, writer: &mut Writer) {
        let strict = self.strict.unwrap_or(context.strict);
        let is_ipv6 = self.router.addresses.first().is_some_and(IpAddr::is_ipv6);
        let mut ignored = |origin: &Origin, wrong: &str, why: &str, advice: &str| {
            let holds = format!("{why}, and keepalived ignores it");
            writer.ignored(origin, place, Fault::new(wrong, holds, advice));
        };
        if is_ipv6 && strict && self.router.version == Some(2) {
            self.router.version = None;
        }
        // keepalived speaks version 2 where nothing is said, which knows no IPv6.
        let version = self.router.version.unwrap_or(if is_ipv6 { 3 } else { context.version.unwrap_or(2) });
        self.router.version = Some(version);
        let priority = self.router.priority.unwrap_or(match self.master {
            Some(true) => PRIORITY_OWNER,
            _ => PRIORITY_DEFAULT,
        });
        let is_owner = priority == PRIORITY_OWNER;
        let mut master = self.master.unwrap_or(is_owner);
        if strict {
            master = is_owner;
        }
        if let Some(at) = &self.auth.origin {
            let reason = match (self.auth.kind, &self.auth.password) {
                (None, _) => Some("auth_type is missing"),
                _ if self.hmac.as_ref().is_some_and(AuthHmac::has_effect) => {
                    Some("auth_hmac takes its place")
                }
                _ if strict => Some("vrrp_strict forbids authentication"),
                _ if version == 3 => Some("version 3 has no authentication"),
                (_, None) => Some("auth_pass is missing"),
                (Some("header"), _) if is_ipv6 => Some("there is no AH for IPv6 adverts"),
                _ => None,
            };
            if let Some(reason) = reason {
                self.auth.password = None;
                ignored(
                    at,
                    "authentication has no effect",
                    reason,
                    "remove it here and on the other directors",
                );
            } else if self.auth.kind == Some("header") && !is_owner {
                master = false;
            }
        }
        if let Some(at) = self.nopreempt.clone() {
            let reason = if is_owner {
                Some("the owner of the addresses (priority 255) always takes them")
            } else {
                master.then_some("the instance begins as MASTER")
            };
            if let Some(reason) = reason {
                self.nopreempt = None;
                ignored(&at, "nopreempt has no effect", reason, "write state BACKUP on both directors");
            }
        }
        if let Some((at, _)) = self.preempt_delay.clone() {
            let reason = match (master, strict, &self.nopreempt) {
                (true, ..) => Some("the instance begins as MASTER"),
                (_, true, _) => Some("vrrp_strict forbids it"),
                (.., Some(_)) => Some("nopreempt never takes over from a living master"),
                _ => None,
            };
            if let Some(reason) = reason {
                self.preempt_delay = None;
                ignored(&at, "preempt_delay has no effect", reason, "remove it");
            }
        }
        let key = |wanted: &str| self.router.keys.iter().position(|(_, key, _)| *key == wanted);
        if let (Some(base), None) = (key("vmac_xmit_base"), key("use_vmac")) {
            let (at, ..) = self.router.keys.remove(base);
            ignored(&at, "vmac_xmit_base without use_vmac", "there is no virtual MAC", "remove it");
        }
        let is_near = |peer: &IpAddr| self.router.addresses.is_empty() || peer.is_ipv6() == is_ipv6;
        let (peers, strangers) = std::mem::take(&mut self.router.peers).into_iter().partition(is_near);
        self.router.peers = peers;
        let strangers: Vec<IpAddr> = strangers;
        for (at, peer) in self.unicast.iter().flat_map(|at| strangers.iter().map(move |peer| (at, peer))) {
            let why = "adverts go by the family of the VIPs";
            ignored(
                at,
                &format!("the unicast peer {peer} is of another family"),
                why,
                "name another address",
            );
        }
        let of_family = |address: &str| address.contains(':') == is_ipv6 || self.router.addresses.is_empty();
        let strange = self.router.keys.iter().find(|(_, key, value)| *key == "source" && !of_family(value));
        if let Some((at, _, value)) = strange.cloned() {
            self.router.keys.retain(|(_, key, _)| *key != "source");
            let wrong = format!("the source {} is of another family than the VIPs", value.trim_matches('"'));
            ignored(&at, &wrong, "adverts go by the family of the VIPs", "name another address");
        }
        if let Some(at) = self.unicast.as_ref().filter(|_| self.router.peers.is_empty()) {
            let holds = "without a unicast_peer adverts go to the multicast group, as in keepalived";
            writer.notice(at, place, Fault::new("unicast without peers", holds, "name the peers"));
        }
        if self.router.peers.is_empty() {
            self.router.keys.retain(|(_, key, _)| *key != "ttl_min");
        }
        let impossible = if (strict || version == 3) && self.router.addresses.is_empty() {
            Some(("no VIP in an instance that needs one", "add virtual_ipaddress"))
        } else {
            None
        };
        if let Some((wrong, advice)) = impossible {
            let holds = "keepalived's VRRP ends when it reads this";
            writer.refuse(origin, place, Fault::new(wrong, holds, advice));
        } else if self.router.addresses.is_empty() {
            let holds = "adverts carry no address, and becoming master has no effect but its scripts";
            writer.notice(
                origin,
                place,
                Fault::new("no VIP", holds, "add virtual_ipaddress if one is meant"),
            );
        }
        if is_ipv6 && version == 2 {
            let holds = "other directors that follow it would not understand those of version 3";
            let wrong = "version 2 of VRRP with IPv6 addresses is not supported";
            let fault = Fault::new(wrong, holds, "write version 3 on all directors");
            writer.refuse(origin, place, fault);
            self.router.version = Some(3);
        }
        self.round(version, place, writer);
        if self.master == Some(true) && self.router.priority.is_none() {
            let holds =
                "state MASTER without a priority is 255, the owner of the addresses, as in keepalived";
            writer.notice(origin, place, Fault::new("priority is missing", holds, "write the priority"));
        }
        self.router.priority = Some(priority);
        self.write_keys(strict, is_owner, origin, place, writer);
    }

    /// What was left of the lines, as keys.
    fn write_keys(
        &mut self,
        strict: bool,
        is_owner: bool,
        origin: &Origin,
        place: &str,
        writer: &mut Writer,
    ) {
        let keys = &mut self.router.keys;
        if let Some(at) = self.nopreempt.take() {
            keys.push((at, "preempt", "false".to_owned()));
        }
        if let Some((at, delay)) = self.preempt_delay.take() {
            keys.push((at, "preempt_delay", seconds(delay)));
        }
        if let Some(hmac) = &self.hmac {
            let value = hmac.write(strict, place, writer);
            keys.extend(value.map(|value| (hmac.origin.clone(), "auth", value)));
        }
        if let (Some(at), Some(password)) = (&self.auth.origin, &self.auth.password) {
            let kind = self.auth.kind.unwrap_or("password");
            let value = format!("{{ kind = {}, secret = {} }}", quoted(kind), quoted(password));
            keys.push((at.clone(), "auth", value));
        }
        let said = self.accept;
        let accept = match said {
            // Version 2 has no mode of accepting.
            Some(true) if strict && !is_owner && self.router.version == Some(2) => false,
            Some(accept) => accept,
            None => is_owner || !strict,
        };
        if said.is_some() || !accept {
            keys.push((origin.clone(), "accept", accept.to_string()));
        }
        if !accept && said != Some(false) {
            let holds =
                "what is sent to the VIPs and is for no service is dropped, pings among it, as in keepalived";
            let advice = "write strict_mode off or accept if that is not meant";
            writer.notice(origin, place, Fault::new("vrrp_strict turns accept off", holds, advice));
        }
    }

    /// Whole seconds in version 2, hundredths of a second in version 3, half a one upwards.
    fn round(&mut self, version: u8, place: &str, writer: &mut Writer) {
        let (Some(interval), Some(at)) = (self.router.interval, &self.advert_int) else { return };
        let (step, most) = if version == 2 { (1.0, 255.0) } else { (0.01, 40.95) };
        // In microseconds, for a hundredth is no binary fraction.
        let (given, step_us) = ((interval * 1e6).round(), step * 1e6);
        let rounded = ((given / step_us).round() * step_us).max(step_us) / 1e6;
        let rounded = rounded.min(most);
        if (rounded - interval).abs() > 1e-7 {
            let wrong = format!("advert_int {interval} is none of version {version}");
            let holds = format!("adverts come every {rounded} s, as keepalived's do");
            writer.notice(at, place, Fault::new(wrong, holds, "write that, on both directors"));
            self.router.interval = Some(rounded);
        }
    }
}

/// `use_vmac [INTERFACE] [MAC]`: the interface is nobody's here.
fn virtual_mac(values: &mut Values<'_, '_>) -> Option<(&'static str, String)> {
    let holds = "the name of an interface: the MAC is that of the virtual_router_id, 00:00:5e:00:01:…";
    while values.peek().is_some() {
        values.parse(holds, |word| (!word.contains(':')).then_some(()))?;
    }
    Some(("use_vmac", "true".to_owned()))
}

/// `garp_…` of an instance, and `vrrp_garp_…` of `global_defs`.
pub fn announcing(keyword: &str, values: &mut Values<'_, '_>) -> Option<(&'static str, String)> {
    let (key, is_time) = match keyword.strip_prefix("vrrp_").unwrap_or(keyword) {
        "garp_master_delay" => ("garp_delay", true),
        "garp_master_repeat" => ("garp_repeat", false),
        "garp_master_refresh" => ("garp_refresh", true),
        "garp_master_refresh_repeat" => ("garp_refresh_repeat", false),
        _ => return None,
    };
    if !is_time {
        let said = values.integer_as_far(0..=u32::MAX)?;
        if said > COUNT_MAX {
            let wrong = format!("{} {said}", values.keyword());
            values.differs(wrong, format!("it is {COUNT_MAX}, the most here"), "nothing needs to be done");
        }
        return Some((key, said.clamp(1, COUNT_MAX).to_string()));
    }
    let is_refresh = key == "garp_refresh";
    let most = if is_refresh { u32::MAX } else { scripts::SECONDS_MAX };
    let said = values.integer_as_far(0..=most);
    // Of what cannot be read the refresh is none.
    let time = said.or(is_refresh.then_some(0))?;
    if time > ANNOUNCE_MAX {
        let holds = "VIPs are announced again every hour, the longest time here";
        values.differs(format!("{} {time}", values.keyword()), holds, "nothing needs to be done");
    }
    Some((key, seconds(time.min(ANNOUNCE_MAX).into())))
}

/// `notify_…` scripts of an instance or group; of one that is said twice the first one holds. `said` are the keys that
/// were said already.
fn notify(
    keyword: &str,
    mut said: impl Iterator<Item = &'static str>,
    values: &mut Values<'_, '_>,
    context: &Context,
) -> Option<(&'static str, String)> {
    let key = match keyword {
        "notify_master" => "notify_master",
        "notify_backup" => "notify_backup",
        "notify_fault" => "notify_fault",
        "notify_stop" => "notify_stop",
        "notify" => "notify",
        "notify_master_rx_lower_pri" => "notify_master_rx_lower_pri",
        _ => return None,
    };
    first_script(key, said.any(|said| said == key), values, context)
}

/// Lines of `virtual_ipaddress`: what follows the address sets up the kernel, but for the interface.
fn addresses(
    statement: &Statement,
    router: &mut Router,
    links: &mut Vec<String>,
    told: bool,
    place: &str,
    context: &mut Context,
    writer: &mut Writer,
) {
    for line in statement.statements() {
        let word = line.keyword();
        let network = if word == "default" { None } else { address(word).filter(|_| !word.contains('-')) };
        let Some(vip) = network else {
            let wrong = format!("{} is no VIP", printable(word, 60));
            let holds = "keepalived ignores the line, for it begins with no address such as 192.0.2.10/24";
            writer.ignored(line.origin(), place, Fault::new(wrong, holds, "correct it"));
            continue;
        };
        let first = router.addresses.first();
        if told && first.is_some_and(|first| first.is_ipv4() != vip.is_ipv4()) {
            let wrong = format!("{vip} is of another family than the VIPs before it");
            let holds = "keepalived ignores it, for an advert tells addresses of one family";
            let advice = "put it into virtual_ipaddress_excluded, or into an instance of its own";
            writer.ignored(line.origin(), place, Fault::new(wrong, holds, advice));
            continue;
        }
        if !address_words(line, vip, place, context, writer) {
            continue;
        }
        let words = line.values();
        let dev = words.iter().position(|word| word == "dev").and_then(|at| words.get(at + 1));
        let follows = dev.filter(|dev| *dev != "lo" && !words.iter().any(|word| word == "no_track"));
        links.extend(follows.and_then(|dev| context.interfaces.find(dev)));
        if router.addresses.contains(&vip) || router.excluded.contains(&vip) {
            let wrong = format!("{vip} is there twice");
            let holds = "an address is there once, and adverts tell it once; keepalived's count it twice";
            writer.notice(line.origin(), place, Fault::new(wrong, holds, "remove one"));
            continue;
        }
        context.vips.insert(vip);
        if told { router.addresses.push(vip) } else { router.excluded.push(vip) }
    }
}

/// What follows a VIP; false when keepalived ignores the address because of it.
fn address_words(
    line: &Statement,
    vip: IpAddr,
    place: &str,
    context: &mut Context,
    writer: &mut Writer,
) -> bool {
    let mut words = line.values().iter();
    while let Some(word) = words.next() {
        let takes_value = matches!(
            word.as_str(),
            "dev" | "brd" | "broadcast" | "scope" | "label" | "peer" | "preferred_lft"
        );
        let value = if takes_value { words.next() } else { None };
        if takes_value && value.is_none() {
            let wrong = format!("{word} of {vip} has no value");
            let fault = Fault::new(wrong, "keepalived ignores the address then", "add it");
            writer.ignored(line.origin(), place, fault);
            return false;
        }
        let known = ["home", "-nodad", "mngtmpaddr", "noprefixroute", "autojoin", "no_track", "use_vmac"];
        match (word.as_str(), value) {
            ("dev", Some(interface)) if interface == "lo" => {
                let instead = "the director answers for the VIP at the NIC of the instance; keepalived puts it on lo, where nobody asks for its MAC";
                writer.tell(line.origin(), place, &format!("{vip} dev lo"), Fate::Differs(instead));
            }
            ("dev", Some(interface)) => drop(context.interfaces.nic(interface, line.origin(), place, writer)),
            (word, None) if !known.contains(&word) => {
                let wrong = format!("unknown word {} behind {vip}", printable(word, 60));
                writer.ignored(line.origin(), place, Fault::new(wrong, "keepalived ignores it", "remove it"));
            }
            (word, _) => {
                let instead =
                    "the director answers for the VIP itself: it has no address of the kernel to set up";
                writer.tell(line.origin(), place, &format!("{vip} {word}"), Fate::Instead(instead));
            }
        }
    }
    true
}

fn peers(statement: &Statement, router: &mut Router, place: &str, writer: &mut Writer) {
    for line in statement.statements() {
        let Some(peer) = address(line.keyword()) else {
            let wrong = format!("{} is no address", printable(line.keyword(), 60));
            writer.ignored(
                line.origin(),
                place,
                Fault::new(wrong, "keepalived ignores this peer", "correct it"),
            );
            continue;
        };
        router.peers.push(peer);
        let mut values = Values::of(line, place, writer);
        while let Some(word) = values.word() {
            if values.peek().is_none() {
                break;
            }
            let ttl = values.integer(0..=255_u8);
            if word == "min_ttl" {
                let key = ttl.filter(|ttl| *ttl > 0);
                router.keys.extend(key.map(|ttl| (line.origin().clone(), "ttl_min", ttl.to_string())));
            }
        }
    }
    let mut seen = Vec::new();
    router.peers.retain(|peer| {
        !seen.contains(peer) && {
            seen.push(*peer);
            true
        }
    });
}

/// A `vrrp_sync_group`.
#[derive(Clone, Debug)]
pub struct SyncGroup {
    origin: Origin,
    name: String,
    members: Vec<String>,
    keys: Vec<(Origin, &'static str, String)>,
    /// What all members depend on.
    tracks: Vec<Track>,
    /// Whether weights count (`sync_group_tracking_weight`).
    weights: bool,
}

/// Reads a `vrrp_sync_group`.
pub fn read_group(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    let place = statement.line();
    let Some(name) = Values::of(statement, &place, writer).required("a group has a name") else { return };
    let mut group = SyncGroup {
        origin: statement.origin().clone(),
        name: name.to_owned(),
        members: Vec::new(),
        keys: Vec::new(),
        tracks: Vec::new(),
        weights: statement
            .statements()
            .iter()
            .any(|line| ["global_tracking", "sync_group_tracking_weight"].contains(&line.keyword())),
    };
    walk(
        statement.statements(),
        Block("vrrp_sync_group"),
        &place,
        writer,
        |statement, writer| match statement.keyword() {
            "group" => {
                // Several may stand on a line.
                let members = statement.statements().iter().flat_map(|line| &line.words);
                group.members.extend(members.cloned());
            }
            "track_interface" | "track_script" | "track_file" | "track_process" => {
                tracks(statement, &mut group.tracks, None, &place, context, writer);
            }
            keyword => {
                let mut values = Values::of(statement, &place, writer);
                let said = group.keys.iter().map(|(_, key, _)| *key);
                let key = notify(keyword, said, &mut values, context);
                group.keys.extend(key.map(|(key, value)| (statement.origin().clone(), key, value)));
            }
        },
    );
    if context.sync_groups.iter().any(|other| other.name == group.name) {
        let wrong = format!("there is a vrrp_sync_group {} already", group.name);
        let fault = Fault::new(wrong, "keepalived ignores this one", "give it a name of its own");
        return writer.ignored(&group.origin, &place, fault);
    }
    context.sync_groups.push(group);
}

impl SyncGroup {
    /// Leaves out members that there are not; false when none is left, and keepalived has no such group.
    pub fn complete(
        &mut self,
        instances: &[Instance],
        taken: &mut BTreeSet<String>,
        writer: &mut Writer,
    ) -> bool {
        let place = format!("vrrp_sync_group {}", self.name);
        let origin = &self.origin;
        self.members.retain(|member| {
            let (wrong, advice) = if instances.iter().all(|instance| instance.name() != member) {
                (format!("there is no vrrp_instance {member}"), "correct the name")
            } else if !taken.insert(member.clone()) {
                (format!("{member} is in a group already"), "remove it")
            } else {
                return true;
            };
            let fault = Fault::new(wrong, "keepalived leaves it out of the group", advice);
            writer.ignored(origin, &place, fault);
            false
        });
        if self.members.is_empty() {
            let fault = Fault::new("a group of nobody", "keepalived has no such group", "remove it");
            writer.ignored(origin, &place, fault);
        }
        let has_owner = |member: &String| instances.iter().any(|one| one.name() == member && one.is_owner());
        let weighted = self.tracks.iter().any(|track| *track != track.unweighted());
        if weighted && self.members.iter().any(has_owner) {
            let holds = "what the group tracks has a weight of 0 for all members, as in keepalived";
            let wrong = "a weight in a group with an owner of the addresses (priority 255)";
            let fault = Fault::new(wrong, holds, "remove the weights, or give all members a lower priority");
            writer.notice(origin, &place, fault);
            self.tracks = self.tracks.iter().map(Track::unweighted).collect();
        }
        !self.members.is_empty()
    }

    /// Writes its `[[vrrp_group]]`.
    pub fn write(&self, writer: &mut Writer) {
        writer.table(&self.origin, "[[vrrp_group]]");
        writer.key(&self.origin, "name", quoted(&self.name));
        let members: Vec<String> = self.members.iter().map(|member| quoted(member)).collect();
        writer.key(&self.origin, "members", format!("[{}]", members.join(", ")));
        let keys = last_of_each(self.keys.clone(), |(_, key, _)| *key);
        for (origin, key, value) in keys.iter().filter(|(_, _, value)| value != LEFT_OUT) {
            writer.key(origin, key, value);
        }
    }
}

//! What a new configuration changes, in words; and which changes a running director cannot take.

mod routers;
mod services;

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::hash::Hash;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shunt_dataplane::connections::{Share, TcpState, Timeouts};
use shunt_dataplane::forwarding::{End, ForwardRule};
use shunt_dataplane::id::NicId;
use shunt_dataplane::reverse_path::ReversePath;
use shunt_dataplane::service::mark::MarkRule;
use shunt_dataplane::service::masquerade::MasqueradeRule;
use shunt_dataplane::time::Ticks;
use shunt_model::duration;
use shunt_model::notify::{Mail, Settings, Webhook, What};

use super::{Config, Hugepages, Nic, Route, Runtime};

/// What happens to a part of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It has another value.
    Changed,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What happens.
    pub kind: Kind,
    /// To which part, such as `service "web", real 192.0.2.21:80`.
    #[serde(rename = "where")]
    pub place: String,
    /// From what to what.
    pub what: String,
    /// True when a running director cannot take it; it has to be started anew.
    pub needs_restart: bool,
}

impl Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind {
            Kind::Added => '+',
            Kind::Removed => '-',
            Kind::Changed => '~',
        };
        write!(f, "{sign} {}", self.place)?;
        if !self.what.is_empty() {
            write!(f, ": {}", self.what)?;
        }
        if self.needs_restart { f.write_str(" (needs a restart)") } else { Ok(()) }
    }
}

/// All changes, in the order of the sections of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The changes.
    #[serde(rename = "changes")]
    pub list: Vec<Change>,
}

impl Changes {
    /// True when nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The changes that a running director cannot take: a reload that has any is refused.
    pub fn needing_restart(&self) -> impl Iterator<Item = &Change> {
        self.list.iter().filter(|change| change.needs_restart)
    }

    fn add(&mut self, kind: Kind, place: &str, what: impl Into<String>, needs_restart: bool) {
        self.list.push(Change { kind, place: place.to_owned(), what: what.into(), needs_restart });
    }

    fn compare<T: PartialEq>(
        &mut self,
        place: &str,
        key: &str,
        old: &T,
        new: &T,
        show: impl Fn(&T) -> String,
        restart: bool,
    ) {
        if old != new {
            let (before, after) = (show(old), show(new));
            // A change is never told as `x -> x`, also where what changes is a secret.
            let what = if before == after {
                format!("{key} {after}: a part that is not shown changes")
            } else {
                format!("{key} {before} -> {after}")
            };
            self.add(Kind::Changed, place, what, restart);
        }
    }
}

impl Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.list.is_empty() {
            return f.write_str("no change");
        }
        for (number, change) in self.list.iter().enumerate() {
            write!(f, "{}{change}", if number == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

/// The keys of `[timeout]` with their values.
fn named(timeouts: &Timeouts) -> [(&'static str, Ticks); 3] {
    [
        ("tcp", timeouts.of(TcpState::Established)),
        ("tcpfin", timeouts.of(TcpState::FinWait)),
        ("udp", timeouts.udp),
    ]
}

/// What `new` changes of `old`.
///
/// Here and below each structure is taken apart by name, so that a field which is added to it and not compared does not compile.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Changes {
    let Config {
        runtime,
        timeouts,
        sysctls,
        nics,
        routes,
        marks,
        masquerades,
        forwards,
        notify,
        services: _,
        vrrp: _,
        vrrp_groups: _,
    } = old;
    let mut changes = Changes::default();
    runtimes(runtime, &new.runtime, &mut changes);
    for ((key, before), (_, after)) in named(timeouts).iter().zip(&named(&new.timeouts)) {
        let show = |ticks: &Ticks| duration::format(ticks.as_duration());
        changes.compare("timeout", key, before, after, show, false);
    }
    for (name, before) in sysctls.values() {
        changes.compare("sysctl", name, &before, &new.sysctls.value(name), u32::to_string, false);
    }
    notifications(notify, &new.notify, &mut changes);
    nic_tables(nics, &new.nics, &mut changes);
    for (place, pair) in paired(routes, &new.routes, |route| route.to) {
        let place = format!("route {place}");
        match pair {
            (None, Some(route)) => changes.add(Kind::Added, &place, show_route(route, new), false),
            (Some(route), None) => changes.add(Kind::Removed, &place, show_route(route, old), false),
            (Some(before), Some(after)) if before != after => {
                let what = format!("{} -> {}", show_route(before, old), show_route(after, new));
                changes.add(Kind::Changed, &place, what, false);
            }
            _ => {}
        }
    }
    shortest_netmasks(old, new, &mut changes);
    let show_marks =
        |marks: &Vec<MarkRule>| joined(&marks.iter().map(|rule| show_mark(rule, new)).collect::<Vec<_>>());
    let show_masquerades = |rules: &Vec<MasqueradeRule>| {
        joined(&rules.iter().map(|rule| show_masquerade(rule, new)).collect::<Vec<_>>())
    };
    changes.compare("masquerade", "rules", masquerades, &new.masquerades, show_masquerades, false);
    let show_forwards = |rules: &Vec<ForwardRule>| {
        joined(&rules.iter().map(|rule| show_forward(rule, |nic| new.nic_name(nic))).collect::<Vec<_>>())
    };
    changes.compare("forward", "rules", forwards, &new.forwards, show_forwards, false);
    changes.compare("mark", "rules", marks, &new.marks, show_marks, false);
    services::compare(old, new, &mut changes);
    routers::compare(old, new, &mut changes);
    if changes.is_empty() && old != new {
        changes.add(Kind::Changed, "file", "the order of its tables", false);
    }
    changes
}

/// A route for people: its router, or its NIC where the destinations are neighbours.
fn show_route(route: &Route, config: &Config) -> String {
    // What leads there by a router is the router's NIC.
    let Route { to: _, via, nic } = route;
    via.map_or_else(|| format!("nic \"{}\"", config.nic_name(*nic)), |via| format!("via {via}"))
}

fn runtimes(old: &Runtime, new: &Runtime, changes: &mut Changes) {
    let Runtime {
        control_core,
        workers,
        idle,
        hugepages,
        memory,
        socket,
        connections,
        fragments,
        replies,
        neighbours,
        reload_removes,
        client_share,
        adopt,
        reset_after,
    } = old;
    let place = "runtime";
    changes.compare(place, "control_core", control_core, &new.control_core, u16::to_string, true);
    changes.compare(place, "workers", workers, &new.workers, |workers| format!("{workers:?}"), true);
    changes.compare(place, "idle", idle, &new.idle, |idle| format!("{idle:?}").to_lowercase(), true);
    let word = |pages: &Hugepages| format!("{pages:?}").to_lowercase();
    changes.compare(place, "hugepages", hugepages, &new.hugepages, word, true);
    let mebibytes =
        |memory: &Option<u32>| memory.map_or_else(|| "unset".to_owned(), |memory| memory.to_string());
    changes.compare(place, "memory", memory, &new.memory, mebibytes, true);
    changes.compare(place, "socket", socket, &new.socket, |path| path.display().to_string(), true);
    changes.compare(place, "connections", connections, &new.connections, u32::to_string, true);
    changes.compare(place, "fragments", fragments, &new.fragments, u32::to_string, true);
    changes.compare(place, "replies", replies, &new.replies, u32::to_string, false);
    changes.compare(place, "neighbours", neighbours, &new.neighbours, u32::to_string, false);
    changes.compare(place, "reload_removes", reload_removes, &new.reload_removes, u8::to_string, false);
    changes.compare(place, "client_share", client_share, &new.client_share, share, false);
    changes.compare(place, "adopt", adopt, &new.adopt, time, false);
    changes.compare(place, "reset_after", reset_after, &new.reset_after, time, false);
}

fn share(share: &Share) -> String {
    format!("{} %", share.0)
}

fn time(time: &Duration) -> String {
    duration::format(*time)
}

/// Workers own clients by the shortest netmask of persistence; with several of them a shorter one would take connections
/// from the worker that has them.
fn shortest_netmasks(old: &Config, new: &Config, changes: &mut Changes) {
    let (before, after) = (old.client_netmasks(), new.client_netmasks());
    if new.runtime.workers.len() > 1 && (after.0 < before.0 || after.1 < before.1) {
        let what = format!("IPv4 /{} -> /{}, IPv6 /{} -> /{}", before.0, after.0, before.1, after.1);
        changes.add(
            Kind::Changed,
            "shortest netmask of persistence, by which workers own clients",
            what,
            true,
        );
    }
}

/// NICs are known by their place: the workers' numbers for them do not change while they run.
fn nic_tables(old: &[Nic], new: &[Nic], changes: &mut Changes) {
    for number in 0..old.len().max(new.len()) {
        match (old.get(number), new.get(number)) {
            (None, Some(nic)) => changes.add(Kind::Added, &nic_place(nic), nic.device.to_string(), true),
            (Some(nic), None) => changes.add(Kind::Removed, &nic_place(nic), nic.device.to_string(), true),
            (Some(before), Some(after)) => nic(before, after, changes),
            (None, None) => {}
        }
    }
}

fn nic(before: &Nic, after: &Nic, changes: &mut Changes) {
    let Nic { name, device, addresses, gateways, neighbours, mtu, reverse_path } = before;
    let place = &nic_place(before);
    changes.compare(place, "name", name, &after.name, Clone::clone, true);
    changes.compare(place, "device", device, &after.device, ToString::to_string, true);
    let show_mtu = |mtu: &Option<u16>| mtu.map_or("that of the interface".to_owned(), |mtu| mtu.to_string());
    changes.compare(place, "mtu", mtu, &after.mtu, show_mtu, true);
    changes.compare(place, "addresses", addresses, &after.addresses, |list| joined(list), false);
    let show = |how: &ReversePath| how.word().to_owned();
    changes.compare(place, "reverse_path", reverse_path, &after.reverse_path, show, false);
    changes.compare(place, "gateway", gateways, &after.gateways, |list| joined(list), false);
    changes.compare(place, "neighbours", neighbours, &after.neighbours, |list| joined(list), false);
}

/// A rule for people: `81 to 192.0.2.10/32 tcp port 80`.
fn show_mark(rule: &MarkRule, config: &Config) -> String {
    let MarkRule { mark, to, from, protocol, ports, nic } = rule;
    let mut text = mark.to_string();
    for (word, network) in [("to", to), ("from", from)] {
        text += &network.map_or_else(String::new, |network| format!(" {word} {network}"));
    }
    text += &protocol.map_or_else(String::new, |protocol| format!(" {protocol}"));
    let (first, last) = (*ports.start(), *ports.end());
    match (first, last) {
        (0, u16::MAX) => {}
        _ if first == last => text += &format!(" port {first}"),
        _ => text += &format!(" ports {first}-{last}"),
    }
    text + &nic.map_or_else(String::new, |nic| format!(" nic \"{}\"", config.nic_name(nic)))
}

/// A rule for people: `10.0.0.0/24 except 10.0.0.0/8 by 192.0.2.2`.
fn show_masquerade(rule: &MasqueradeRule, config: &Config) -> String {
    let MasqueradeRule { from, to, except, nic, address } = rule;
    let mut text = from.to_string();
    for (word, network) in [("to", to), ("except", except)] {
        text += &network.map_or_else(String::new, |network| format!(" {word} {network}"));
    }
    text += &nic.map_or_else(String::new, |nic| format!(" nic \"{}\"", config.nic_name(nic)));
    text + &address.map_or_else(String::new, |address| format!(" by {address}"))
}

/// A rule for people: `from back to front`, `from 10.0.0.0/24 both ways`.
#[must_use]
pub fn show_forward(rule: &ForwardRule, nic_name: impl Fn(NicId) -> String) -> String {
    let show = |word: &str, end: End| match end {
        End::Any => None,
        End::Nic(nic) => Some(format!("{word} {}", nic_name(nic))),
        End::Network(net) => Some(format!("{word} {net}")),
    };
    let ForwardRule { from, to, both } = rule;
    let both = both.then(|| "both ways".to_owned());
    [show("from", *from), show("to", *to), both].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Whole settings where they come or go, else key by key.
fn notifications(old: &Settings, new: &Settings, changes: &mut Changes) {
    let Settings { mail, webhook } = old;
    match (mail, &new.mail) {
        (Some(before), Some(after)) => mails(before, after, changes),
        (before, after) => {
            let show = |mail: &Option<Mail>| {
                mail.as_ref().map_or_else(
                    || "none".to_owned(),
                    |mail| {
                        let about =
                            mail.events.as_ref().map(|_| format!(" about {}", show_events(&mail.events)));
                        format!("{} by {}{}", joined(&mail.to), mail.server, about.unwrap_or_default())
                    },
                )
            };
            changes.compare("notify", "mail", before, after, show, false);
        }
    }
    match (webhook, &new.webhook) {
        (Some(before), Some(after)) => webhooks(before, after, changes),
        (before, after) => {
            let show = |webhook: &Option<Webhook>| {
                webhook.as_ref().map_or_else(|| "none".to_owned(), |webhook| webhook.url.to_string())
            };
            changes.compare("notify", "webhook", before, after, show, false);
        }
    }
}

fn mails(before: &Mail, after: &Mail, changes: &mut Changes) {
    let Mail { server, helo, from, to, gather, interval, timeout, events } = before;
    let place = "notify.mail";
    changes.compare(place, "server", server, &after.server, Clone::clone, false);
    let name = |helo: &Option<String>| helo.clone().unwrap_or_else(|| "the host's name".to_owned());
    changes.compare(place, "helo", helo, &after.helo, name, false);
    changes.compare(place, "from", from, &after.from, Clone::clone, false);
    changes.compare(place, "to", to, &after.to, |list| joined(list), false);
    changes.compare(place, "gather", gather, &after.gather, time, false);
    changes.compare(place, "interval", interval, &after.interval, time, false);
    changes.compare(place, "timeout", timeout, &after.timeout, time, false);
    changes.compare(place, "events", events, &after.events, show_events, false);
}

fn show_events(events: &Option<Vec<What>>) -> String {
    let words = |events: &Vec<What>| events.iter().map(|what| what.word()).collect::<Vec<_>>().join(", ");
    events.as_ref().map_or_else(|| "all".to_owned(), words)
}

fn webhooks(before: &Webhook, after: &Webhook, changes: &mut Changes) {
    let Webhook { url, verify, ca, timeout } = before;
    let place = "notify.webhook";
    changes.compare(place, "url", url, &after.url, ToString::to_string, false);
    changes.compare(place, "verify", verify, &after.verify, bool::to_string, false);
    let path = |ca: &Option<PathBuf>| {
        ca.as_ref().map_or_else(|| "that of the system".to_owned(), |path| path.display().to_string())
    };
    changes.compare(place, "ca", ca, &after.ca, path, false);
    changes.compare(place, "timeout", timeout, &after.timeout, time, false);
}

/// A thing before and after.
type Pair<'a, T> = (Option<&'a T>, Option<&'a T>);

/// Things old and new by their key: those that stay or go in their old order, then those that come.
fn paired<'a, T, K: Hash + Eq + Clone>(
    old: &'a [T],
    new: &'a [T],
    key: impl Fn(&T) -> K,
) -> Vec<(K, Pair<'a, T>)> {
    let before: HashMap<K, &T> = old.iter().map(|thing| (key(thing), thing)).collect();
    let after: HashMap<K, &T> = new.iter().map(|thing| (key(thing), thing)).collect();
    let stay_or_go = old.iter().map(|thing| (key(thing), (Some(thing), after.get(&key(thing)).copied())));
    let come = new
        .iter()
        .filter(|thing| !before.contains_key(&key(thing)))
        .map(|thing| (key(thing), (None, Some(thing))));
    stay_or_go.chain(come).collect()
}

fn joined<T: Display>(list: &[T]) -> String {
    let items: Vec<String> = list.iter().map(ToString::to_string).collect();
    format!("[{}]", items.join(", "))
}

fn nic_place(nic: &Nic) -> String {
    format!("nic \"{}\"", nic.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"
        [[nic]]
        name = "front"
        device = "af_packet:eth1"
        addresses = ["192.0.2.2/24"]
        [[route]]
        to = "198.51.100.0/24"
        via = "192.0.2.3"
        [[service]]
        name = "web"
        listen = "192.0.2.10:80"
        protocol = "tcp"
        real = [{ address = "192.0.2.21", weight = 3 }, { address = "192.0.2.22" }]
        [[service]]
        name = "dns"
        listen = "192.0.2.10:53"
        protocol = "udp"
        real = [{ address = "192.0.2.21" }]
    "#;

    fn config(text: &str) -> Config {
        Config::check("test", text).unwrap().config
    }

    #[test]
    fn nothing_changed() {
        assert_eq!(diff(&config(OLD), &config(OLD)).to_string(), "no change");
    }

    #[test]
    fn every_kind_of_change() {
        let new = OLD
            .replace("eth1", "eth2")
            .replace("192.0.2.3\"", "192.0.2.4\"")
            .replace("192.0.2.22", "192.0.2.23")
            .replace("weight = 3", "weight = 1, forward = \"tun\"")
            .replace("192.0.2.10:53", "192.0.2.10:5353")
            .replace("real = [", "scheduler = \"rr\"\n check = { kind = \"tcp\" }\n real = [");
        let new = format!("[runtime]\nworkers = [1, 2]\nreplies = 5\n{new}");
        let changes = diff(&config(OLD), &config(&new));
        let want = "\
~ runtime: workers [1] -> [1, 2] (needs a restart)
~ runtime: replies 1000 -> 5
~ nic \"front\": device af_packet:eth1 -> af_packet:eth2 (needs a restart)
~ route 198.51.100.0/24: via 192.0.2.3 -> via 192.0.2.4
~ service \"web\": scheduler wlc -> rr
~ service \"web\": check none -> tcp every 6s within 3s, fall 3, rise 2
~ service \"web\", real 192.0.2.21:80: weight 3 -> 1
~ service \"web\", real 192.0.2.21:80: forward dr -> tun
- service \"web\", real 192.0.2.22:80: dr, weight 1
+ service \"web\", real 192.0.2.23:80: dr, weight 1
- service \"dns\": udp 192.0.2.10:53 wlc, 1 real servers
+ service \"dns\": udp 192.0.2.10:5353 rr, 1 real servers";
        assert_eq!(changes.to_string(), want);
        assert_eq!(changes.needing_restart().count(), 2);
    }
    #[test]
    fn notifications_are_compared_key_by_key_and_secrets_are_not_shown() {
        let with = |mail: &str, webhook: &str| {
            let mail = format!("server = \"127.0.0.1\"\nfrom = \"a@b\"\nto = [\"c@d\"]\n{mail}");
            config(&format!("{OLD}\n[notify.mail]\n{mail}\n[notify.webhook]\n{webhook}"))
        };
        let (one, two) = ("url = \"https://127.0.0.1/one\"", "url = \"https://127.0.0.1/two\"");
        let hidden = "~ notify.webhook: url https://127.0.0.1:443/***: a part that is not shown changes";
        for (old, new, wanted) in [
            (("", one), ("helo = \"lb1\"", one), "~ notify.mail: helo the host's name -> lb1"),
            (("", one), ("gather = \"2s\"", one), "~ notify.mail: gather 5s -> 2s"),
            (("", one), ("events = [\"real_up\"]", one), "~ notify.mail: events all -> real_up"),
            (("", one), ("", two), hidden),
            (
                ("", one),
                ("", &*format!("{one}\nverify = false\ntimeout = \"1s\"")),
                "~ notify.webhook: verify true -> false\n~ notify.webhook: timeout 30s -> 1s",
            ),
        ] {
            assert_eq!(diff(&with(old.0, old.1), &with(new.0, new.1)).to_string(), wanted);
        }
    }
}

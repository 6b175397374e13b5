//! `vrrp_instance` and `vrrp_sync_group` become `[[vrrp]]` and `[[vrrp_group]]`.

use std::net::IpAddr;

use super::keywords::Block;
use super::scripts::script;
use super::services::Context;
use super::tracking::{Tracked, tracks, weight};
use super::tree::Statement;
use super::values::{Values, walk};
use crate::config::problem::Fault;
use crate::import::note::{Fate, Origin};
use crate::import::vrrp::Router;
use crate::import::writer::{Writer, last_of_each, quoted, seconds};

/// Reads a `vrrp_script`.
pub fn read_script(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    let place = statement.line();
    let Some(name) = Values::of(statement, &place, writer).required("a vrrp_script has a name") else {
        return;
    };
    let mut tracked = Tracked::default();
    walk(statement.statements(), Block("vrrp_script"), &place, writer, |statement, writer| {
        let mut values = Values::of(statement, &place, writer);
        let key = match statement.keyword() {
            "script" => values
                .rest("a program and its arguments")
                .map(|text| ("command", super::checks::command(&text))),
            "user" => {
                values.rest("a user, and a group if it is not the user's").map(|user| ("user", quoted(&user)))
            }
            "interval" => values.seconds(0.01..=86_400.0).map(|time| ("interval", seconds(time))),
            "timeout" => values.seconds(0.01..=86_400.0).map(|time| ("timeout", seconds(time))),
            "rise" => values.integer(1..=100_u8).map(|count| ("rise", count.to_string())),
            "fall" => values.integer(1..=100_u8).map(|count| ("fall", count.to_string())),
            _ => {
                tracked.weight = weight(&mut values).unwrap_or_default();
                None
            }
        };
        tracked.keys.extend(key);
    });
    tracked.keys = last_of_each(tracked.keys, |(key, _)| *key);
    if let Some(user) = context.script_user.as_ref() {
        if tracked.keys.iter().all(|(key, _)| *key != "user") {
            tracked.keys.push(("user", quoted(user)));
        }
    }
    context.scripts.insert(name.to_owned(), tracked);
}

/// Writes the `[[vrrp]]` of a `vrrp_instance`.
pub fn write(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    let place = statement.line();
    let Some(name) = Values::of(statement, &place, writer).required("an instance has a name") else { return };
    let mut router = Router { name: name.to_owned(), version: context.version, ..Router::default() };
    let origin = statement.origin();
    router.keys.extend(context.vrrp_defaults.iter().cloned());
    walk(statement.statements(), Block("vrrp_instance"), &place, writer, |statement, writer| {
        take(statement, &mut router, &place, context, writer);
    });
    for group in context.sync_groups.iter().filter(|group| group.members.iter().any(|member| member == name))
    {
        router.tracks.extend(group.tracks.iter().cloned());
    }
    router.keys = last_of_each(router.keys, |(_, key, _)| *key);
    for (present, keyword) in
        [(router.nic.is_some(), "interface"), (router.vrid.is_some(), "virtual_router_id")]
    {
        if !present {
            let fault = Fault::new(format!("{keyword} is missing"), "every instance has one", "add it");
            writer.refuse(origin, &place, fault);
        }
    }
    let is_ipv6 = router.addresses.first().is_some_and(IpAddr::is_ipv6);
    if router.version.is_none() {
        // keepalived speaks version 2 where nothing is said, which knows no IPv6.
        router.version = Some(if is_ipv6 { 3 } else { 2 });
    }
    router.write(origin, writer);
}

fn take(statement: &Statement, router: &mut Router, place: &str, context: &mut Context, writer: &mut Writer) {
    let origin = statement.origin();
    let mut values = Values::of(statement, place, writer);
    let key = match statement.keyword() {
        "interface" => {
            let Some(interface) = values.required("an interface") else { return };
            router.nic = context.interfaces.nic(interface, origin, place, writer);
            return;
        }
        "virtual_router_id" => {
            router.vrid = values.integer(1..=255);
            return;
        }
        "priority" => {
            router.priority = values.integer(1..=255);
            return;
        }
        "advert_int" => {
            router.interval = values.seconds(0.01..=255.0);
            return;
        }
        "version" => {
            router.version = values.integer(2..=3);
            return;
        }
        "virtual_ipaddress" => return addresses(statement, &mut router.addresses, place, context, writer),
        "virtual_ipaddress_excluded" => {
            return addresses(statement, &mut router.excluded, place, context, writer);
        }
        "unicast_peer" => return peers(statement, router, place, writer),
        "authentication" => return authentication(statement, router, place, writer),
        "track_interface" | "track_script" | "track_file" | "track_process" => {
            return tracks(statement, &mut router.tracks, place, context, writer);
        }
        "mcast_src_ip" | "unicast_src_ip" => {
            values.address().map(|address| ("source", quoted(&address.to_string())))
        }
        "accept" => Some(("accept", "true".to_owned())),
        "no_accept" => Some(("accept", "false".to_owned())),
        "use_vmac" => virtual_mac(&mut values),
        "vmac_xmit_base" => Some(("vmac_xmit_base", "true".to_owned())),
        "preempt" => Some(("preempt", "true".to_owned())),
        "nopreempt" => Some(("preempt", "false".to_owned())),
        "preempt_delay" => values.seconds(0.0..=1000.0).map(|delay| ("preempt_delay", seconds(delay))),
        keyword => match announcing(keyword, &mut values) {
            Some(key) => Some(key),
            None => notify(keyword, &mut values, context),
        },
    };
    router.keys.extend(key.map(|(key, value)| (origin.clone(), key, value)));
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
    let value = if is_time {
        values.seconds(0.0..=3_600.0).map(seconds)
    } else {
        values.integer(1..=100_u8).map(|count| count.to_string())
    };
    value.map(|value| (key, value))
}

/// `notify_…` scripts of an instance or group.
fn notify(keyword: &str, values: &mut Values<'_, '_>, context: &Context) -> Option<(&'static str, String)> {
    let key = match keyword {
        "notify_master" => "notify_master",
        "notify_backup" => "notify_backup",
        "notify_fault" => "notify_fault",
        "notify_stop" => "notify_stop",
        "notify" => "notify",
        "notify_master_rx_lower_pri" => "notify_master_rx_lower_pri",
        _ => return None,
    };
    script(values, context).map(|script| (key, script))
}

/// Lines of `virtual_ipaddress`: what follows the address sets up the kernel, but for the interface.
fn addresses(
    statement: &Statement,
    list: &mut Vec<IpAddr>,
    place: &str,
    context: &mut Context,
    writer: &mut Writer,
) {
    for line in statement.statements() {
        let word = line.keyword();
        let address = word.split('/').next().unwrap_or_default();
        let Ok(address) = address.parse() else {
            let wrong = format!("{} is no VIP", crate::config::problem::printable(word, 60));
            let holds = "an address, with or without a length, such as 192.0.2.10/24";
            writer.refuse(line.origin(), place, Fault::new(wrong, holds, "correct it"));
            continue;
        };
        list.push(address);
        context.vips.insert(address);
        let mut words = line.values().iter();
        while let Some(word) = words.next() {
            if word == "dev" {
                let interface = words.next().map(String::as_str).unwrap_or_default();
                let _ = context.interfaces.nic(interface, line.origin(), place, writer);
                continue;
            }
            // Words that have a value of their own.
            if ["brd", "broadcast", "scope", "label", "peer", "preferred_lft"].contains(&word.as_str()) {
                words.next();
            }
            let instead =
                "the director answers for the VIP itself: it has no address of the kernel to set up";
            writer.tell(line.origin(), place, &format!("{address} {word}"), Fate::Instead(instead));
        }
    }
}

fn peers(statement: &Statement, router: &mut Router, place: &str, writer: &mut Writer) {
    for line in statement.statements() {
        let Ok(peer) = line.keyword().parse() else {
            let wrong = format!("{} is no address", line.keyword());
            writer.refuse(line.origin(), place, Fault::new(wrong, "a peer is an address", "correct it"));
            continue;
        };
        router.peers.push(peer);
        let mut values = Values::of(line, place, writer);
        while let Some(word) = values.word() {
            let ttl = values.integer(1..=255_u8);
            if word == "min_ttl" {
                let key = ttl.map(|ttl| (line.origin().clone(), "ttl_min", ttl.to_string()));
                router.keys.extend(key);
            }
        }
    }
}

fn authentication(statement: &Statement, router: &mut Router, place: &str, writer: &mut Writer) {
    let (mut kind, mut password) = ("password", None);
    walk(statement.statements(), Block("authentication"), place, writer, |statement, writer| {
        let mut values = Values::of(statement, place, writer);
        if statement.keyword() == "auth_type" {
            kind = values.choice(&[("PASS", "password"), ("AH", "header")]).unwrap_or("password");
        } else {
            password = values.required("a password of at most eight characters").map(str::to_owned);
        }
    });
    let Some(password) = password else { return };
    let password: String = password.chars().take(8).collect();
    let value = format!("{{ kind = {}, secret = {} }}", quoted(kind), quoted(&password));
    router.keys.push((statement.origin().clone(), "auth", value));
}

/// A `vrrp_sync_group`.
#[derive(Clone, Debug)]
pub struct SyncGroup {
    origin: Origin,
    name: String,
    members: Vec<String>,
    keys: Vec<(Origin, &'static str, String)>,
    /// What all members depend on.
    tracks: Vec<String>,
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
    };
    walk(
        statement.statements(),
        Block("vrrp_sync_group"),
        &place,
        writer,
        |statement, writer| match statement.keyword() {
            "group" => {
                group.members.extend(statement.statements().iter().map(|member| member.keyword().to_owned()));
            }
            "track_interface" | "track_script" | "track_file" | "track_process" => {
                tracks(statement, &mut group.tracks, &place, context, writer);
            }
            keyword => {
                let mut values = Values::of(statement, &place, writer);
                let key = notify(keyword, &mut values, context);
                group.keys.extend(key.map(|(key, value)| (statement.origin().clone(), key, value)));
            }
        },
    );
    context.sync_groups.push(group);
}

impl SyncGroup {
    /// Writes its `[[vrrp_group]]`.
    pub fn write(&self, writer: &mut Writer) {
        writer.table(&self.origin, "[[vrrp_group]]");
        writer.key(&self.origin, "name", quoted(&self.name));
        let members: Vec<String> = self.members.iter().map(|member| quoted(member)).collect();
        writer.key(&self.origin, "members", format!("[{}]", members.join(", ")));
        for (origin, key, value) in &last_of_each(self.keys.clone(), |(_, key, _)| *key) {
            writer.key(origin, key, value);
        }
    }
}

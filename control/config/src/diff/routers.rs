//! Virtual routers and their groups. A running director takes all that changes of them.

use std::net::IpAddr;
use std::time::Duration;

use shunt_dataplane::id::NicId;
use shunt_model::duration;
use shunt_model::script::Script;
use shunt_model::vrrp::{Auth, Group, Notify, Track, Tracked, VirtualMac};

use super::super::{Config, Vrrp};
use super::{Changes, Kind, Pair, joined, paired};

/// What `new` changes of virtual routers and groups.
pub(super) fn compare(old: &Config, new: &Config, changes: &mut Changes) {
    for (name, pair) in paired(&old.vrrp, &new.vrrp, |vrrp| vrrp.name.clone()) {
        router(&format!("vrrp \"{name}\""), pair, new, changes);
    }
    for (name, pair) in paired(&old.vrrp_groups, &new.vrrp_groups, |group| group.name.clone()) {
        group(&format!("vrrp_group \"{name}\""), pair, changes);
    }
}

/// A group of virtual routers.
fn group(place: &str, pair: Pair<'_, Group>, changes: &mut Changes) {
    match pair {
        (None, Some(group)) => changes.add(Kind::Added, place, joined(&group.members), false),
        (Some(group), None) => changes.add(Kind::Removed, place, joined(&group.members), false),
        (Some(before), Some(after)) => {
            let members = |list: &Vec<String>| joined(list);
            changes.compare(place, "members", &before.members, &after.members, members, false);
            scripts(place, &before.notify, &after.notify, changes);
        }
        (None, None) => {}
    }
}

/// A virtual router: one that changes who it is on the wire is another one.
fn router(place: &str, pair: Pair<'_, Vrrp>, config: &Config, changes: &mut Changes) {
    let (before, after) = match pair {
        (None, Some(vrrp)) => return changes.add(Kind::Added, place, format!("vrid {}", vrrp.vrid), false),
        (Some(vrrp), None) => return changes.add(Kind::Removed, place, format!("vrid {}", vrrp.vrid), false),
        (Some(before), Some(after)) => (before, after),
        (None, None) => return,
    };
    // Whoever adds a field finds this place.
    let Vrrp {
        name: _,
        nic: _,
        vrid: _,
        version: _,
        priority: _,
        interval: _,
        source: _,
        addresses: _,
        excluded: _,
        peers: _,
        ttl_min: _,
        virtual_mac: _,
        accept: _,
        auth: _,
        preempt: _,
        start_grace: _,
        warn_after: _,
        adopt: _,
        announcing: _,
        tracks: _,
        watches: _,
        notify: _,
    } = after;
    let nic = |nic: &NicId| config.nics.get(nic.index()).map_or_else(String::new, |nic| nic.name.clone());
    let time = |time: &Duration| duration::format(*time);
    let addresses = |list: &Vec<IpAddr>| joined(list);
    let mut compare = |key: &str, pair: [String; 2]| {
        changes.compare(place, key, &pair[0], &pair[1], String::clone, false);
    };
    /// Compares a key by what is shown of it.
    macro_rules! key {
        ($key:literal, $show:expr, $($field:ident).+) => {
            compare($key, [&before.$($field).+, &after.$($field).+].map($show))
        };
    }
    key!("nic", nic, nic);
    key!("vrid", ToString::to_string, vrid);
    key!("version", |one| one.number().to_string(), version);
    key!("priority", u8::to_string, priority);
    key!("interval", time, interval);
    key!("addresses", addresses, addresses);
    key!("excluded", addresses, excluded);
    key!("source", |source| source.map_or("chosen".to_owned(), |source| source.to_string()), source);
    key!("peers", addresses, peers);
    key!("ttl_min", |least| least.map_or("chosen".to_owned(), |least: u8| least.to_string()), ttl_min);
    key!("accept", bool::to_string, accept);
    key!("use_vmac", |mac| mac.is_some().to_string(), virtual_mac);
    key!("vmac_xmit_base", |mac| mac.is_some_and(|mac: VirtualMac| mac.xmit_base).to_string(), virtual_mac);
    key!("preempt", |delay| delay.is_some().to_string(), preempt);
    key!("preempt_delay", |delay| time(&delay.unwrap_or_default()), preempt);
    key!("start_grace", time, start_grace);
    key!("warn_after", time, warn_after);
    key!("adopt", time, adopt);
    key!("garp_repeat", u8::to_string, announcing.repeat);
    key!("garp_delay", time, announcing.delay);
    key!("garp_refresh", time, announcing.refresh);
    key!("garp_refresh_repeat", u8::to_string, announcing.refresh_repeat);
    key!(
        "track",
        |tracks| joined(&tracks.iter().map(|track| shown(track, config)).collect::<Vec<_>>()),
        tracks
    );
    auth(place, before, after, changes);
    watches(place, before, after, changes);
    scripts(place, &before.notify, &after.notify, changes);
}

/// What a virtual router depends on, in a few words.
fn shown(track: &Track, config: &Config) -> String {
    let what = match &track.what {
        Tracked::Link(nic) => {
            let name = config.nics.get(nic.index()).map_or("?", |nic| nic.name.as_str());
            format!("nic {name}")
        }
        Tracked::Check(name) => format!("check {name}"),
    };
    let weight = if track.weight == 0 { String::new() } else { format!(" weight {}", track.weight) };
    format!("{what}{weight}{}", if track.reverse { " reverse" } else { "" })
}

/// The kind of authentication; a secret is not shown.
fn auth(place: &str, before: &Vrrp, after: &Vrrp, changes: &mut Changes) {
    let kind = |auth: &Auth| match auth {
        Auth::None => "none",
        Auth::Password(_) => "password",
        Auth::Header(_) => "header",
        Auth::Hmac(_) => "hmac",
    };
    let (old, new) = (kind(&before.auth), kind(&after.auth));
    if old != new {
        changes.add(Kind::Changed, place, format!("auth {old} -> {new}"), false);
    } else if before.auth != after.auth {
        changes.add(
            Kind::Changed,
            place,
            format!(
                "auth {new}: {}",
                if new == "hmac" { "other keys or settings" } else { "another secret" }
            ),
            false,
        );
    }
}

/// Checks of the same name that differ.
fn watches(place: &str, before: &Vrrp, after: &Vrrp, changes: &mut Changes) {
    for watch in &after.watches {
        let other =
            before.watches.iter().find(|other| other.name == watch.name && other.check != watch.check);
        if other.is_some() {
            changes.add(Kind::Changed, place, format!("track: the check {}", watch.name), false);
        }
    }
}

/// The scripts that are told, each by its key.
fn scripts(place: &str, before: &Notify, after: &Notify, changes: &mut Changes) {
    let script = |script: &Option<Script>| match script {
        None => "none".to_owned(),
        Some(Script { command, user }) => {
            let user = user.as_ref().map_or_else(String::new, |user| format!(" as {user}"));
            format!("\"{}\"{user}", command.join(" "))
        }
    };
    for (key, old, new) in [
        ("notify_master", &before.master, &after.master),
        ("notify_backup", &before.backup, &after.backup),
        ("notify_fault", &before.fault, &after.fault),
        ("notify_stop", &before.stop, &after.stop),
        ("notify", &before.any, &after.any),
        ("notify_master_rx_lower_pri", &before.lower_priority, &after.lower_priority),
    ] {
        changes.compare(place, key, old, new, script, false);
    }
}

#[cfg(test)]
mod tests {
    use super::super::diff;
    use super::*;

    fn config(routers: &str) -> Config {
        let nic = "[[nic]]\nname = \"front\"\ndevice = \"null:\"\naddresses = [\"192.0.2.2/24\", \"192.0.2.5/24\"]\n";
        Config::check("test", &format!("{nic}{routers}"))
            .unwrap_or_else(|problems| panic!("{problems}"))
            .config
    }

    fn router(name: &str, vrid: u8, more: &str) -> String {
        format!(
            "[[vrrp]]\nname = \"{name}\"\nnic = \"front\"\nvrid = {vrid}\naddresses = [\"192.0.2.{vrid}\"]\n{more}\n"
        )
    }

    /// Each key that nothing else is changed by.
    const ALL: &str = "source = \"192.0.2.5\"\npeers = [\"192.0.2.3\", \"192.0.2.4\"]\nttl_min = 254\naccept = false\n\
        use_vmac = true\nvmac_xmit_base = true\npreempt_delay = \"5s\"\nstart_grace = \"1s\"\nwarn_after = \"2s\"\nadopt = \"3s\"\n\
        garp_repeat = 2\ngarp_delay = \"4s\"\ngarp_refresh = \"6s\"\ngarp_refresh_repeat = 3\n\
        track = [{ nic = \"front\", weight = -9 }, { name = \"gw\", reverse = true, check = { kind = \"ping\", address = \"192.0.2.1\" } }]\n\
        notify_fault = [\"/bin/true\", \"x\"]";

    #[test]
    fn what_is_secret_or_lies_deeper_is_told_without_it() {
        let with = |more: &str| config(&router("a", 10, &format!("version = 2\n{more}")));
        let password =
            |secret: &str| with(&format!("auth = {{ kind = \"password\", secret = \"{secret}\" }}"));
        let gateway = |address: &str| {
            with(&format!(
                "track = [{{ name = \"gw\", check = {{ kind = \"ping\", address = \"{address}\" }} }}]"
            ))
        };
        for (old, new, want) in [
            (with(""), password("one"), "~ vrrp \"a\": auth none -> password"),
            (password("one"), password("two"), "~ vrrp \"a\": auth password: another secret"),
            (gateway("192.0.2.1"), gateway("192.0.2.9"), "~ vrrp \"a\": track: the check gw"),
        ] {
            assert_eq!(diff(&old, &new).to_string(), want);
        }
    }

    #[test]
    fn routers_and_groups_change_while_the_director_runs() {
        let group = |members: &str| format!("[[vrrp_group]]\nname = \"VG\"\nmembers = [{members}]\n");
        let three = [router("a", 10, ""), router("b", 11, ""), router("c", 12, "")].concat();
        let old = config(&(three + &group("\"a\", \"b\"")));
        let new = [
            router(
                "a",
                10,
                "priority = 150\ninterval = \"2s\"\npreempt = false\nexcluded = [\"192.0.2.99\"]",
            ),
            router("b", 11, ALL),
            router("d", 13, ""),
        ];
        let changes = diff(&old, &config(&(new.concat() + &group("\"a\", \"d\""))));
        let want = "\
~ vrrp \"a\": priority 100 -> 150
~ vrrp \"a\": interval 1s -> 2s
~ vrrp \"a\": excluded [] -> [192.0.2.99]
~ vrrp \"a\": preempt true -> false
~ vrrp \"b\": source 192.0.2.2 -> 192.0.2.5
~ vrrp \"b\": peers [] -> [192.0.2.3, 192.0.2.4]
~ vrrp \"b\": ttl_min chosen -> 254
~ vrrp \"b\": accept true -> false
~ vrrp \"b\": use_vmac false -> true
~ vrrp \"b\": vmac_xmit_base false -> true
~ vrrp \"b\": preempt_delay 0ms -> 5s
~ vrrp \"b\": start_grace 0ms -> 1s
~ vrrp \"b\": warn_after 0ms -> 2s
~ vrrp \"b\": adopt 15m -> 3s
~ vrrp \"b\": garp_repeat 5 -> 2
~ vrrp \"b\": garp_delay 5s -> 4s
~ vrrp \"b\": garp_refresh 0ms -> 6s
~ vrrp \"b\": garp_refresh_repeat 1 -> 3
~ vrrp \"b\": track [] -> [nic front weight -9, check gw reverse]
~ vrrp \"b\": notify_fault none -> \"/bin/true x\"
- vrrp \"c\": vrid 12
+ vrrp \"d\": vrid 13
~ vrrp_group \"VG\": members [a, b] -> [a, d]";
        assert_eq!(changes.to_string(), want);
        assert_eq!(changes.needing_restart().count(), 0);
    }
}

//! Virtual routers and their groups. A running director takes all that changes of them.

use std::net::IpAddr;
use std::time::Duration;

use shunt_model::duration;
use shunt_model::script::Script;
use shunt_model::vrrp::{Announcing, Auth, Group, Notify, Track, Tracked, VirtualMac};

use super::super::{Config, Vrrp, Watch};
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
            // They have one name.
            let Group { name: _, members, notify } = before;
            let show = |list: &Vec<String>| joined(list);
            changes.compare(place, "members", members, &after.members, show, false);
            scripts(place, notify, &after.notify, changes);
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
    // They have one name.
    let Vrrp {
        name: _,
        nic,
        vrid,
        version,
        priority,
        interval,
        source,
        addresses,
        excluded,
        peers,
        ttl_min,
        virtual_mac,
        accept,
        auth,
        preempt,
        start_grace,
        warn_after,
        adopt,
        announcing,
        tracks,
        watches,
        notify,
    } = before;
    let Announcing { repeat, delay, refresh, refresh_repeat } = announcing;
    let time = |time: &Duration| duration::format(*time);
    let list = |list: &Vec<IpAddr>| joined(list);
    let chosen = |source: &Option<IpAddr>| source.map_or("chosen".to_owned(), |source| source.to_string());
    let least = |least: &Option<u8>| least.map_or("chosen".to_owned(), |least| least.to_string());
    let show_tracks =
        |tracks: &Vec<Track>| joined(&tracks.iter().map(|track| shown(track, config)).collect::<Vec<_>>());
    changes.compare(place, "nic", nic, &after.nic, |nic| config.nic_name(*nic), false);
    changes.compare(place, "vrid", vrid, &after.vrid, ToString::to_string, false);
    changes.compare(place, "version", version, &after.version, |one| one.number().to_string(), false);
    changes.compare(place, "priority", priority, &after.priority, u8::to_string, false);
    changes.compare(place, "interval", interval, &after.interval, time, false);
    changes.compare(place, "addresses", addresses, &after.addresses, list, false);
    changes.compare(place, "excluded", excluded, &after.excluded, list, false);
    changes.compare(place, "source", source, &after.source, chosen, false);
    changes.compare(place, "peers", peers, &after.peers, list, false);
    changes.compare(place, "ttl_min", ttl_min, &after.ttl_min, least, false);
    changes.compare(place, "accept", accept, &after.accept, bool::to_string, false);
    macs(place, *virtual_mac, after.virtual_mac, changes);
    // One value stands for two keys.
    let (was, is) = (preempt.is_some(), after.preempt.is_some());
    changes.compare(place, "preempt", &was, &is, bool::to_string, false);
    let (was, is) = (preempt.unwrap_or_default(), after.preempt.unwrap_or_default());
    changes.compare(place, "preempt_delay", &was, &is, time, false);
    changes.compare(place, "start_grace", start_grace, &after.start_grace, time, false);
    changes.compare(place, "warn_after", warn_after, &after.warn_after, time, false);
    changes.compare(place, "adopt", adopt, &after.adopt, time, false);
    changes.compare(place, "garp_repeat", repeat, &after.announcing.repeat, u8::to_string, false);
    changes.compare(place, "garp_delay", delay, &after.announcing.delay, time, false);
    changes.compare(place, "garp_refresh", refresh, &after.announcing.refresh, time, false);
    let is = &after.announcing.refresh_repeat;
    changes.compare(place, "garp_refresh_repeat", refresh_repeat, is, u8::to_string, false);
    changes.compare(place, "track", tracks, &after.tracks, show_tracks, false);
    authentications(place, auth, &after.auth, changes);
    compare_watches(place, watches, &after.watches, changes);
    scripts(place, notify, &after.notify, changes);
}

/// One value stands for two keys.
fn macs(place: &str, before: Option<VirtualMac>, after: Option<VirtualMac>, changes: &mut Changes) {
    // The MAC follows from the VRID.
    let keys = |mac: Option<VirtualMac>| {
        mac.map_or((false, false), |VirtualMac { mac: _, xmit_base }| (true, xmit_base))
    };
    let (was, is) = (keys(before), keys(after));
    changes.compare(place, "use_vmac", &was.0, &is.0, bool::to_string, false);
    changes.compare(place, "vmac_xmit_base", &was.1, &is.1, bool::to_string, false);
}

/// What a virtual router depends on, in a few words.
fn shown(track: &Track, config: &Config) -> String {
    let Track { what, weight, reverse } = track;
    let what = match what {
        Tracked::Link(nic) => format!("nic {}", config.nic_name(*nic)),
        Tracked::Check(name) => format!("check {name}"),
    };
    let weight = if *weight == 0 { String::new() } else { format!(" weight {weight}") };
    format!("{what}{weight}{}", if *reverse { " reverse" } else { "" })
}

/// The kind of authentication; a secret is not shown.
fn authentications(place: &str, before: &Auth, after: &Auth, changes: &mut Changes) {
    let kind = |auth: &Auth| match auth {
        Auth::None => "none",
        Auth::Password(_) => "password",
        Auth::Header(_) => "header",
        Auth::Hmac(_) => "hmac",
    };
    let (old, new) = (kind(before), kind(after));
    if old != new {
        changes.add(Kind::Changed, place, format!("auth {old} -> {new}"), false);
    } else if before != after {
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
fn compare_watches(place: &str, before: &[Watch], after: &[Watch], changes: &mut Changes) {
    for watch in after {
        let other = before.iter().find(|other| other.name == watch.name && other.check != watch.check);
        if other.is_some() {
            changes.add(Kind::Changed, place, format!("track: the check {}", watch.name), false);
        }
    }
}

/// The scripts that are told, each by its key.
fn scripts(place: &str, before: &Notify, after: &Notify, changes: &mut Changes) {
    let script =
        |script: &Option<Script>| script.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    let Notify { master, backup, fault, stop, any, lower_priority } = before;
    for (key, old, new) in [
        ("notify_master", master, &after.master),
        ("notify_backup", backup, &after.backup),
        ("notify_fault", fault, &after.fault),
        ("notify_stop", stop, &after.stop),
        ("notify", any, &after.any),
        ("notify_master_rx_lower_pri", lower_priority, &after.lower_priority),
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
            (
                with(""),
                with("notify_fault = [\"/bin/tell\", \"--token=one\"]"),
                "~ vrrp \"a\": notify_fault none -> \"/bin/tell --token=***\"",
            ),
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

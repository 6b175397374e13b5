//! Virtual routers and their groups. A running director takes all that changes of them.

use std::net::IpAddr;
use std::time::Duration;

use shunt_dataplane::id::NicId;

use super::super::{Config, Vrrp, duration};
use super::{Changes, Kind, Pair, joined, paired};
use crate::vrrp::Group;

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
            if before.notify != after.notify {
                changes.add(Kind::Changed, place, "notify", false);
            }
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
    let nic = |nic: &NicId| config.nics.get(nic.index()).map_or_else(String::new, |nic| nic.name.clone());
    let time = |time: &Duration| duration::format(*time);
    let addresses = |list: &Vec<IpAddr>| joined(list);
    changes.compare(place, "nic", &before.nic, &after.nic, nic, false);
    changes.compare(place, "vrid", &before.vrid, &after.vrid, ToString::to_string, false);
    changes.compare(place, "version", &before.version, &after.version, |one| one.number().to_string(), false);
    changes.compare(place, "priority", &before.priority, &after.priority, u8::to_string, false);
    changes.compare(place, "interval", &before.interval, &after.interval, time, false);
    changes.compare(place, "addresses", &before.addresses, &after.addresses, addresses, false);
    changes.compare(place, "excluded", &before.excluded, &after.excluded, addresses, false);
    changes.compare(place, "peers", &before.peers, &after.peers, addresses, false);
    let preempt = |preempt: &Option<Duration>| preempt.map_or("never".to_owned(), |delay| time(&delay));
    changes.compare(place, "preempt", &before.preempt, &after.preempt, preempt, false);
    changes.compare(place, "adopt", &before.adopt, &after.adopt, time, false);
    // What is not shown one by one, a secret among it.
    let shown = after.clone();
    let rest = Vrrp {
        nic: shown.nic,
        vrid: shown.vrid,
        version: shown.version,
        priority: shown.priority,
        interval: shown.interval,
        addresses: shown.addresses,
        excluded: shown.excluded,
        peers: shown.peers,
        preempt: shown.preempt,
        adopt: shown.adopt,
        ..before.clone()
    };
    if rest != *after {
        changes.add(
            Kind::Changed,
            place,
            "source, ttl_min, auth, accept, use_vmac, times, announcements, track or notify",
            false,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::diff;
    use super::*;

    fn config(routers: &str) -> Config {
        let nic = "[[nic]]\nname = \"front\"\ndevice = \"null:\"\naddresses = [\"192.0.2.2/24\"]\n";
        Config::check("test", &format!("{nic}{routers}"))
            .unwrap_or_else(|problems| panic!("{problems}"))
            .config
    }

    fn router(name: &str, vrid: u8, more: &str) -> String {
        format!(
            "[[vrrp]]\nname = \"{name}\"\nnic = \"front\"\nvrid = {vrid}\naddresses = [\"192.0.2.{vrid}\"]\n{more}\n"
        )
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
            router("b", 11, "accept = false"),
            router("d", 13, ""),
        ];
        let changes = diff(&old, &config(&(new.concat() + &group("\"a\", \"d\""))));
        let want = "\
~ vrrp \"a\": priority 100 -> 150
~ vrrp \"a\": interval 1s -> 2s
~ vrrp \"a\": excluded [] -> [192.0.2.99]
~ vrrp \"a\": preempt 0ms -> never
~ vrrp \"b\": source, ttl_min, auth, accept, use_vmac, times, announcements, track or notify
- vrrp \"c\": vrid 12
+ vrrp \"d\": vrid 13
~ vrrp_group \"VG\": members [a, b] -> [a, d]";
        assert_eq!(changes.to_string(), want);
        assert_eq!(changes.needing_restart().count(), 0);
    }
}

//! Services and their real servers. A running director takes all that changes of them.
//!
//! Each structure is taken apart by name, so that a key which is added to it and not compared does not compile. What a service says for
//! all of its real servers is told once; a real server tells what it says itself.

use std::sync::Arc;
use std::time::Duration;

use shunt_dataplane::service::schedulers::Flags;
use shunt_dataplane::service::{self, Method, Persistence, ServiceTimeouts, Thresholds};
use shunt_model::duration;
use shunt_model::script::Script;

use super::super::{Check, Config, Notify, Passive, Pool, Real, Service};
use super::{Changes, Kind, joined, paired, share};

/// What `new` changes of services.
pub(super) fn compare(old: &Config, new: &Config, changes: &mut Changes) {
    for (_, pair) in paired(&old.services, &new.services, |service| (service.listen, service.protocol)) {
        let summary = |service: &Service| {
            format!("{} {}, {} real servers", service.subject(), service.scheduler, service.reals.len())
        };
        match pair {
            (None, Some(service)) => changes.add(Kind::Added, &place_of(service), summary(service), false),
            (Some(service), None) => changes.add(Kind::Removed, &place_of(service), summary(service), false),
            (Some(before), Some(after)) => services(before, after, changes),
            (None, None) => {}
        }
    }
}

fn place_of(service: &Service) -> String {
    format!("service \"{}\"", service.name)
}

fn services(before: &Service, after: &Service, changes: &mut Changes) {
    // Two of one VIP, port and protocol are the same service.
    let Service { name, listen: _, protocol: _, scheduler, settings, forward, checks, pool, reals } = before;
    let place = &place_of(before);
    changes.compare(place, "name", name, &after.name, Clone::clone, false);
    changes.compare(place, "scheduler", scheduler, &after.scheduler, ToString::to_string, false);
    settings_of(place, settings, &after.settings, changes);
    changes.compare(place, "forward", forward, &after.forward, ToString::to_string, false);
    changes.compare(place, "check", checks, &after.checks, show_checks, false);
    pools(place, pool, &after.pool, changes);
    for (address, pair) in paired(reals, &after.reals, |real| real.address) {
        let place = format!("{place}, real {address}");
        let summary = |real: &Real| format!("{}, weight {}", real.method, real.weight);
        match pair {
            (None, Some(real)) => changes.add(Kind::Added, &place, summary(real), false),
            (Some(real), None) => changes.add(Kind::Removed, &place, summary(real), false),
            (Some(old), Some(new)) => reals_of(&place, (before, old), (after, new), changes),
            (None, None) => {}
        }
    }
}

fn settings_of(place: &str, before: &service::Settings, after: &service::Settings, changes: &mut Changes) {
    let service::Settings { flags, one_packet, persistence, timeouts, mss_clamp, share: part } = before;
    changes.compare(place, "scheduler_flags", flags, &after.flags, show_flags, false);
    changes.compare(place, "one_packet", one_packet, &after.one_packet, bool::to_string, false);
    changes.compare(place, "mss_clamp", mss_clamp, &after.mss_clamp, bool::to_string, false);
    changes.compare(place, "share", part, &after.share, share, false);
    changes.compare(place, "persistence", persistence, &after.persistence, show_persistence, false);
    changes.compare(place, "timeout", timeouts, &after.timeouts, show_timeouts, false);
}

fn pools(place: &str, before: &Pool, after: &Pool, changes: &mut Changes) {
    let Pool {
        quorum,
        hysteresis,
        check_group,
        alpha,
        inhibit_on_failure,
        sorry_server,
        panic,
        slow_start,
        omega,
        quorum_up,
        quorum_down,
        notify,
        passive,
    } = before;
    changes.compare(place, "quorum", quorum, &after.quorum, u32::to_string, false);
    changes.compare(place, "hysteresis", hysteresis, &after.hysteresis, u32::to_string, false);
    let show_group = |group: &Option<Arc<str>>| group.as_deref().unwrap_or("none").to_owned();
    changes.compare(place, "check_group", check_group, &after.check_group, show_group, false);
    changes.compare(place, "alpha", alpha, &after.alpha, bool::to_string, false);
    let key = "inhibit_on_failure";
    changes.compare(place, key, inhibit_on_failure, &after.inhibit_on_failure, bool::to_string, false);
    changes.compare(place, "sorry_server", sorry_server, &after.sorry_server, show_sorry, false);
    changes.compare(place, "panic", panic, &after.panic, u8::to_string, false);
    changes.compare(place, "omega", omega, &after.omega, bool::to_string, false);
    changes.compare(place, "quorum_up", quorum_up, &after.quorum_up, show_script, false);
    changes.compare(place, "quorum_down", quorum_down, &after.quorum_down, show_script, false);
    changes.compare(place, "slow_start", slow_start, &after.slow_start, show_time, false);
    scripts(place, notify, &after.notify, changes);
    passives(place, *passive, after.passive, changes);
}

/// Two states of a real server, each with its service.
fn reals_of(
    place: &str,
    (of_before, before): (&Service, &Real),
    (of_after, after): (&Service, &Real),
    changes: &mut Changes,
) {
    // They have one address.
    let Real { address: _, weight, thresholds, method, tunnel, inhibit_on_failure, notify, checks, passive } =
        before;
    changes.compare(place, "weight", weight, &after.weight, u32::to_string, false);
    let Thresholds { upper, lower } = thresholds;
    changes.compare(place, "u_threshold", upper, &after.thresholds.upper, u32::to_string, false);
    changes.compare(place, "l_threshold", lower, &after.thresholds.lower, u32::to_string, false);
    changes.compare(place, "tunnel", tunnel, &after.tunnel, ToString::to_string, false);
    let own = |of_service: fn(&Service, &Real) -> bool| {
        !(of_service(of_before, before) && of_service(of_after, after))
    };
    if own(|service, real| real.method == service.forward) {
        changes.compare(place, "forward", method, &after.method, ToString::to_string, false);
    }
    if own(|service, real| real.inhibit_on_failure == service.pool.inhibit_on_failure) {
        let key = "inhibit_on_failure";
        changes.compare(place, key, inhibit_on_failure, &after.inhibit_on_failure, bool::to_string, false);
    }
    if own(|service, real| real.notify == service.pool.notify) {
        scripts(place, notify, &after.notify, changes);
    }
    if own(|service, real| real.passive == service.pool.passive) {
        passives(place, *passive, after.passive, changes);
    }
    if own(|service, real| real.checks == service.checks) {
        changes.compare(place, "check", checks, &after.checks, show_checks, false);
    }
}

fn scripts(place: &str, before: &Notify, after: &Notify, changes: &mut Changes) {
    let Notify { up, down } = before;
    changes.compare(place, "notify_up", up, &after.up, show_script, false);
    changes.compare(place, "notify_down", down, &after.down, show_script, false);
}

fn passives(place: &str, before: Passive, after: Passive, changes: &mut Changes) {
    let Passive { max_fails, fail_timeout } = before;
    changes.compare(place, "max_fails", &max_fails, &after.max_fails, u16::to_string, false);
    changes.compare(place, "fail_timeout", &fail_timeout, &after.fail_timeout, show_time, false);
}

fn show_time(time: &Duration) -> String {
    duration::format(*time)
}

fn show_sorry(sorry: &Option<Box<Real>>) -> String {
    let show = |real: &Real| {
        // It has no checks and no max_fails: a file that says so is refused. Scripts are the service's.
        let Real {
            address,
            weight,
            thresholds: Thresholds { upper, lower },
            method,
            tunnel,
            inhibit_on_failure,
            notify: _,
            checks: _,
            passive: _,
        } = real;
        let tunnel = if *method == Method::Tun { format!(" by {tunnel}") } else { String::new() };
        let thresholds = if *upper > 0 { format!(", thresholds {lower} to {upper}") } else { String::new() };
        let inhibit = if *inhibit_on_failure { ", inhibit_on_failure" } else { "" };
        format!("{method} {address}{tunnel}, weight {weight}{thresholds}{inhibit}")
    };
    sorry.as_deref().map_or_else(|| "none".to_owned(), show)
}

fn show_flags(flags: &Flags) -> String {
    let Flags { fallback, port, third } = *flags;
    let set = [("fallback", fallback), ("port", port), ("flag-3", third)];
    joined(&set.iter().filter(|(_, set)| *set).map(|(word, _)| *word).collect::<Vec<_>>())
}

fn show_persistence(persistence: &Option<Persistence>) -> String {
    persistence.as_ref().map_or_else(
        || "none".to_owned(),
        |Persistence { timeout, netmask }| {
            format!("{} by /{netmask}", duration::format(timeout.as_duration()))
        },
    )
}

fn show_timeouts(timeouts: &ServiceTimeouts) -> String {
    let ServiceTimeouts { tcp, tcp_fin, udp } = *timeouts;
    let named = [("tcp", tcp), ("tcpfin", tcp_fin), ("udp", udp)];
    let set = named.iter().filter(|(_, ticks)| ticks.0 > 0);
    joined(
        &set.map(|(key, ticks)| format!("{key} {}", duration::format(ticks.as_duration())))
            .collect::<Vec<_>>(),
    )
}

fn show_script(script: &Option<Arc<Script>>) -> String {
    script.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
}

fn show_checks(checks: &Arc<[Check]>) -> String {
    match &**checks {
        [] => "none".to_owned(),
        checks => checks.iter().map(show_check).collect::<Vec<_>>().join(" and "),
    }
}

fn show_check(check: &Check) -> String {
    let Check {
        kind,
        by_service,
        address,
        l4_port,
        from,
        interval,
        timeout,
        retry_interval,
        warmup,
        fall,
        rise,
        reentry,
        alpha,
    } = check;
    let mut text = kind.to_string();
    text += if *by_service { " by the service's way" } else { "" };
    let asked = [
        ("of", address.map(|address| address.to_string())),
        ("at port", l4_port.map(|port| port.to_string())),
        ("from", from.map(|from| from.to_string())),
    ];
    for (word, value) in asked {
        text += &value.map(|value| format!(" {word} {value}")).unwrap_or_default();
    }
    text += if *alpha { ", from down" } else { "" };
    let (interval, timeout) = (duration::format(*interval), duration::format(*timeout));
    text += &format!(" every {interval} within {timeout}, fall {fall}, rise {rise}");
    let held = Some(*reentry).filter(|reentry| !reentry.is_zero());
    let warmup = Some(*warmup).filter(|warmup| !warmup.is_zero());
    for (word, time) in [("retry", *retry_interval), ("reentry", held), ("warmup", warmup)] {
        text += &time.map(|time| format!(", {word} {}", duration::format(time))).unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::diff;

    const SERVICE: &str = r#"
        [[nic]]
        name = "front"
        device = "af_packet:eth1"
        addresses = ["192.0.2.2/24"]
        [[service]]
        name = "web"
        listen = "192.0.2.10:80"
        protocol = "tcp"
        KEY
        real = [REALS]
    "#;

    fn config(key: &str, reals: &str) -> Config {
        let text = SERVICE.replace("KEY", key).replace("REALS", reals);
        Config::check("test", &text).unwrap_or_else(|problems| panic!("{problems}")).config
    }

    #[test]
    fn what_a_service_says_for_all_is_told_once_and_what_a_real_server_says_by_it() {
        const PLAIN: &str = r#"{ address = "192.0.2.21" }, { address = "192.0.2.22" }"#;
        const OWN: &str = r#"{ address = "192.0.2.21", inhibit_on_failure = true }"#;
        const TUN: &str = r#"{ address = "192.0.2.21", forward = "tun" }"#;
        let (web, one) = ("~ service \"web\"", "~ service \"web\", real 192.0.2.21:80");
        for (old, new, reals, wanted) in [
            ("", "inhibit_on_failure = true", PLAIN, format!("{web}: inhibit_on_failure false -> true")),
            ("", "inhibit_on_failure = true", OWN, format!("{web}: inhibit_on_failure false -> true")),
            ("", "forward = \"nat\"", PLAIN, format!("{web}: forward dr -> nat")),
            ("", "forward = \"nat\"", "", format!("{web}: forward dr -> nat")),
            ("", "forward = \"nat\"", TUN, format!("{web}: forward dr -> nat")),
            ("forward = \"nat\"", "forward = \"tun\"", TUN, format!("{web}: forward nat -> tun")),
            (
                "sorry_server = { address = \"192.0.2.30:80\" }",
                "sorry_server = { address = \"192.0.2.30:80\", weight = 7 }",
                PLAIN,
                format!("{web}: sorry_server dr 192.0.2.30:80, weight 1 -> dr 192.0.2.30:80, weight 7"),
            ),
        ] {
            let changes = diff(&config(old, reals), &config(new, reals)).to_string();
            assert_eq!(changes, wanted, "{old} -> {new}, {reals}");
        }
        let changes =
            diff(&config("", PLAIN), &config("", &PLAIN.replace("21\"", "21\", inhibit_on_failure = true")));
        assert_eq!(changes.to_string(), format!("{one}: inhibit_on_failure false -> true"));
    }
}

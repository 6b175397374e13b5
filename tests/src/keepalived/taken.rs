//! The configuration that an import wrote, as objects of keepalived's names.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use nix::unistd::{Group, User};
use shunt_config::{Check, Config, Real, Service, Vrrp};
use shunt_dataplane::connections::TcpState;
use shunt_dataplane::service::Method;
use shunt_dataplane::service::mark::Mark;
use shunt_dataplane::service::tunnel::{Tunnel, TunnelChecksum};
use shunt_model::health::kind::{Body, CheckKind, Http};
use shunt_model::notify::What;
use shunt_model::script::Script;
use shunt_model::vrrp::{Auth, Tracked, Version};

use super::checks::{service, settle, write_checks};
use super::dump::TIMEOUTS;
use super::{Fields, Objects, add, object, program, set};

/// All that the configuration sets up.
#[must_use]
pub fn objects(config: &Config) -> Objects {
    let mut objects = Objects::new();
    globals(config, &mut objects);
    for route in &config.routes {
        let via = route.via.map_or_else(String::new, |via| via.to_string());
        set(object(&mut objects, "routes"), &route.to.to_string(), format!("via {via}").trim_end());
    }
    for vrrp in &config.vrrp {
        virtual_router(vrrp, config, &mut objects);
    }
    for group in &config.vrrp_groups {
        let fields = object(&mut objects, &format!("vrrp_sync_group {}", group.name));
        for member in &group.members {
            add(fields, "group", member);
        }
        notify(&group.notify, fields);
    }
    for service in &config.services {
        virtual_server(service, &mut objects);
    }
    objects
}

const fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn globals(config: &Config, objects: &mut Objects) {
    let fields = object(objects, "global_defs");
    let tcp = |state: TcpState| config.timeouts.tcp[state as usize];
    let times = [tcp(TcpState::Established), tcp(TcpState::FinWait), config.timeouts.udp];
    for ((word, usual), time) in TIMEOUTS.into_iter().zip(times) {
        let seconds = time.as_duration().as_secs();
        if seconds != u64::from(usual) {
            set(fields, &format!("lvs_timeouts {word}"), seconds);
        }
    }
    let Some(mail) = &config.notify.mail else { return };
    let (host, l4_port) = mail.server.rsplit_once(':').unwrap_or((&mail.server, "25"));
    // keepalived looks names up when it reads the file, this director when it sends a mail.
    let found = (host.trim_matches(['[', ']']), 25).to_socket_addrs().ok().and_then(|mut found| found.next());
    let Some(found) = found else { return };
    set(fields, "smtp_server", found.ip());
    set(fields, "smtp_server port", l4_port);
    set(fields, "notification_email_from", &mail.from);
    for to in &mail.to {
        add(fields, "notification_email", to);
    }
    if let Some(helo) = &mail.helo {
        set(fields, "smtp_helo_name", helo);
    }
    set(fields, "smtp_connect_timeout", mail.timeout.as_secs());
    let is_about = |what: What| mail.events.as_ref().is_none_or(|events| events.contains(&what));
    set(fields, "smtp_alert_vrrp", yes(is_about(What::VrrpMaster)));
    set(fields, "smtp_alert_checker", yes(is_about(What::RealDown)));
}

/// A user and a group by numbers, as keepalived tells them.
fn user(words: Option<&str>) -> String {
    let Some(words) = words else { return "0:0".to_owned() };
    let (name, group) = words.split_once(' ').map_or((words, None), |(name, group)| (name, Some(group)));
    let user = User::from_name(name).ok().flatten();
    let uid = user.as_ref().map(|user| user.uid.as_raw()).or_else(|| name.parse().ok());
    let gid = match group {
        Some(group) => {
            let known = Group::from_name(group).ok().flatten().map(|group| group.gid.as_raw());
            known.or_else(|| group.parse().ok())
        }
        None => user.map(|user| user.gid.as_raw()),
    };
    let word = |number: Option<u32>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    format!("{}:{}", word(uid), word(gid))
}

fn script(script: &Script) -> String {
    format!("{} as {}", command(script), user(script.user.as_deref()))
}

fn command(script: &Script) -> String {
    program(&script.command.join(" "))
}

fn notify(notify: &shunt_model::vrrp::Notify, fields: &mut Fields) {
    for (key, told) in [
        ("notify_master", &notify.master),
        ("notify_backup", &notify.backup),
        ("notify_fault", &notify.fault),
        ("notify_stop", &notify.stop),
        ("notify", &notify.any),
        ("notify_master_rx_lower_pri", &notify.lower_priority),
    ] {
        if let Some(told) = told {
            set(fields, key, script(told));
        }
    }
}

fn virtual_router(vrrp: &Vrrp, config: &Config, objects: &mut Objects) {
    let name = format!("vrrp_instance {}", vrrp.name);
    let fields = object(objects, &name);
    set(fields, "interface", config.nic_name(vrrp.nic));
    set(fields, "virtual_router_id", vrrp.vrid.0);
    set(fields, "version", if vrrp.version == Version::V2 { 2 } else { 3 });
    set(fields, "priority", vrrp.priority);
    set(fields, "advert_int", vrrp.interval.as_millis());
    set(fields, "accept", yes(vrrp.accept));
    set(fields, "preempt", yes(vrrp.preempt.is_some()));
    if let Some(delay) = vrrp.preempt.filter(|delay| !delay.is_zero()) {
        set(fields, "preempt_delay", delay.as_millis());
    }
    let password = |bytes: &[u8; 8]| {
        let bytes: Vec<u8> = bytes.iter().copied().take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    match &vrrp.auth {
        Auth::None => {}
        Auth::Password(secret) => {
            set(fields, "auth_type", "PASS");
            set(fields, "auth_pass", password(secret));
        }
        Auth::Header(_) => set(fields, "auth_type", "AH"),
        #[allow(unreachable_patterns, reason = "further kinds are keepalived 2.4's")]
        _ => set(fields, "auth_type", "other"),
    }
    for (key, addresses) in [
        ("virtual_ipaddress", &vrrp.addresses),
        ("virtual_ipaddress_excluded", &vrrp.excluded),
        ("unicast_peer", &vrrp.peers),
    ] {
        addresses.iter().for_each(|address| add(fields, key, &address.to_string()));
    }
    set(fields, "garp_master_delay", vrrp.announcing.delay.as_secs());
    set(fields, "garp_master_repeat", vrrp.announcing.repeat);
    set(fields, "garp_master_refresh", vrrp.announcing.refresh.as_secs());
    if !vrrp.announcing.refresh.is_zero() {
        set(fields, "garp_master_refresh_repeat", vrrp.announcing.refresh_repeat);
    }
    set(fields, "down_timer_adverts", 3);
    if let Some(mac) = &vrrp.virtual_mac {
        set(fields, "use_vmac", "yes");
        set(fields, "vmac_xmit_base", yes(mac.xmit_base));
    }
    notify(&vrrp.notify, fields);
    for track in &vrrp.tracks {
        let reverse = if track.reverse { " reverse" } else { "" };
        match &track.what {
            Tracked::Link(nic) => {
                let word = format!("{} weight {}{reverse}", config.nic_name(*nic), track.weight);
                add(object(objects, &name), "track_interface", &word);
            }
            Tracked::Check(check) => {
                let Some(watch) = vrrp.watches.iter().find(|watch| watch.name == *check) else { continue };
                let (kind, check, weight) = watched(check, &watch.check, track.weight);
                let word = format!("{check} weight {weight}{reverse}");
                add(object(objects, &name), kind, &word);
                *object(objects, &format!("{kind} {check}")) = watch_fields(&watch.check);
            }
        }
    }
}

/// The keyword that tracks a check, what keepalived calls it, and its weight.
fn watched<'a>(name: &'a str, check: &Check, weight: i16) -> (&'static str, &'a str, i32) {
    match &check.kind {
        CheckKind::File { factor, .. } => {
            let factor = factor.unwrap_or(1);
            let name = name.strip_suffix(&format!(":{factor}")).unwrap_or(name);
            ("track_file", name, factor)
        }
        CheckKind::Process(_) => ("track_process", name, weight.into()),
        _ => ("track_script", name, weight.into()),
    }
}

fn watch_fields(check: &Check) -> Fields {
    let mut fields = Fields::new();
    match &check.kind {
        CheckKind::Script { script, .. } => {
            set(&mut fields, "script", command(script));
            set(&mut fields, "user", user(script.user.as_deref()));
            set(&mut fields, "interval", check.interval.as_millis());
            set(&mut fields, "timeout", check.timeout.as_millis());
            set(&mut fields, "rise", check.rise);
            set(&mut fields, "fall", check.fall);
        }
        CheckKind::File { path, .. } => set(&mut fields, "file", path.display()),
        CheckKind::Process(process) => {
            set(&mut fields, "process", process.command.first().map_or("", String::as_str));
            set(&mut fields, "quorum", process.quorum);
            if let Some(most) = process.quorum_max {
                set(&mut fields, "quorum_max", most);
            }
        }
        _ => {}
    }
    fields
}

fn virtual_server(config: &Service, objects: &mut Objects) {
    let name = match Mark::of(config.listen) {
        Some(mark) => {
            let family = if config.listen.is_ipv6() { " inet6" } else { "" };
            service("fwmark", &format!("{}{family}", mark.number()))
        }
        None => service(&config.protocol.to_string(), &config.listen.to_string()),
    };
    let fields = object(objects, &name);
    set(fields, "lb_algo", config.scheduler);
    let hashes = ["sh", "mh"].contains(&config.scheduler.word());
    if hashes {
        set(fields, "flag port", yes(config.settings.flags.port));
        set(fields, "flag fallback", yes(config.settings.flags.fallback));
    }
    set(fields, "ops", yes(config.settings.one_packet));
    let persistence = config.settings.persistence;
    set(fields, "persistence_timeout", persistence.map_or(0, |one| one.timeout.as_duration().as_secs()));
    let all = if config.listen.is_ipv4() { 32 } else { 128 };
    if let Some(mask) = persistence.map(|one| one.netmask).filter(|mask| *mask != all) {
        set(fields, "persistence_granularity", mask);
    }
    let pool = &config.pool;
    set(fields, "omega", yes(pool.omega));
    set(fields, "quorum", pool.quorum);
    set(fields, "hysteresis", pool.hysteresis);
    for (key, told) in [("quorum_up", &pool.quorum_up), ("quorum_down", &pool.quorum_down)] {
        if let Some(told) = told {
            set(fields, key, script(told));
        }
    }
    if let Some(sorry) = &pool.sorry_server {
        set(fields, "sorry_server", sorry.address);
        set(fields, "sorry_server lvs_method", method(sorry));
        set(fields, "sorry_server_inhibit", yes(sorry.inhibit_on_failure));
    }
    for real in &config.reals {
        // Behind a mark a packet keeps its port, whatever the real server says.
        let marked = Mark::of(config.listen).is_some();
        let address = if marked { SocketAddr::new(real.address.ip(), 0) } else { real.address };
        real_server(&format!("{name}, real_server {address}"), real, config, objects);
    }
}

fn method(real: &Real) -> String {
    let checksum = |checksum: TunnelChecksum| match checksum {
        TunnelChecksum::None => "",
        TunnelChecksum::Full => " checksum",
        TunnelChecksum::Remote => " remote checksum",
    };
    match (real.method, real.tunnel) {
        (Method::Tun, Tunnel::Gre { checksum: has }) => {
            format!("tun gre{}", if has { " checksum" } else { "" })
        }
        (Method::Tun, Tunnel::Gue { l4_port, checksum: kind }) => {
            format!("tun gue {l4_port}{}", checksum(kind))
        }
        (method, _) => method.word().to_owned(),
    }
}

fn real_server(name: &str, real: &Real, service: &Service, objects: &mut Objects) {
    let fields = object(objects, name);
    set(fields, "weight", real.weight);
    set(fields, "lvs_method", method(real));
    set(fields, "uthreshold", real.thresholds.upper);
    set(fields, "lthreshold", real.thresholds.lower);
    set(fields, "inhibit_on_failure", yes(real.inhibit_on_failure));
    let told = [
        ("notify_up", real.notify.up.as_ref().or(service.pool.notify.up.as_ref())),
        ("notify_down", real.notify.down.as_ref().or(service.pool.notify.down.as_ref())),
    ];
    for (key, told) in told {
        if let Some(told) = told {
            set(fields, key, script(told));
        }
    }
    let checks = real.checks.iter().map(|one| check(one, real.address, service.pool.alpha)).collect();
    write_checks(name, checks, objects);
}

fn check(check: &Check, real: SocketAddr, alpha: bool) -> Fields {
    let mut fields = Fields::new();
    let address: IpAddr = check.address.unwrap_or(real.ip());
    let to = SocketAddr::new(address, check.l4_port.unwrap_or(real.port()));
    let kind = kind(&check.kind, &mut fields);
    set(&mut fields, "kind", kind);
    if kind == "FILE_CHECK" {
        return fields;
    }
    set(&mut fields, "alpha", yes(check.alpha || alpha));
    set(&mut fields, "delay_loop", check.interval.as_millis());
    set(&mut fields, "retry", check.fall.saturating_sub(1));
    set(&mut fields, "delay_before_retry", check.retry_interval.unwrap_or(check.interval).as_millis());
    if check.warmup > Duration::ZERO {
        set(&mut fields, "warmup", check.warmup.as_millis());
    }
    if kind == "MISC_CHECK" {
        set(&mut fields, "misc_timeout", check.timeout.as_millis());
    } else {
        set(&mut fields, "connect", to);
        set(&mut fields, "connect_timeout", check.timeout.as_millis());
        if let Some(from) = check.from {
            set(&mut fields, "bindto", from.ip());
        }
    }
    settle(&mut fields);
    fields
}

fn kind(kind: &CheckKind, fields: &mut Fields) -> &'static str {
    match kind {
        CheckKind::Tcp => "TCP_CHECK",
        CheckKind::Ping => "PING_CHECK",
        CheckKind::Http(http) => {
            url(http, fields);
            if http.tls.is_some() { "SSL_GET" } else { "HTTP_GET" }
        }
        CheckKind::Smtp { helo } => {
            if let Some(helo) = helo {
                set(fields, "helo_name", helo);
            }
            "SMTP_CHECK"
        }
        CheckKind::Dns { name, query } => {
            set(fields, "name", name);
            set(fields, "type", query);
            "DNS_CHECK"
        }
        CheckKind::Udp(udp) => {
            // What is sent where nothing is said is not told.
            if !udp.payload.is_empty() && udp.payload != b"keepalived check - keepalived ch" {
                set(fields, "payload", udp.payload.len());
            }
            set(fields, "require_reply", yes(udp.require_reply));
            set(fields, "min_reply_length", udp.min_reply);
            set(fields, "max_reply_length", udp.max_reply);
            "UDP_CHECK"
        }
        CheckKind::Script { script, dynamic } => {
            set(fields, "misc_path", command(script));
            set(fields, "user", user(script.user.as_deref()));
            set(fields, "misc_dynamic", yes(*dynamic));
            "MISC_CHECK"
        }
        CheckKind::File { path, factor, .. } => {
            set(fields, "track_file", path.display());
            set(fields, "weight", factor.unwrap_or(1));
            "FILE_CHECK"
        }
        CheckKind::Send { .. } | CheckKind::Process(_) => "other",
    }
}

fn url(http: &Http, fields: &mut Fields) {
    set(fields, "path", &http.path);
    // Who is named by no virtualhost is called by the address, which is not told.
    if let Some(host) = http.host.as_ref().filter(|host| !super::checks::is_address(host)) {
        set(fields, "virtualhost", host);
    }
    // keepalived has them in their order, whatever the file's.
    let mut ranges = http.status.clone();
    ranges.sort_by_key(|range| *range.start());
    let codes: Vec<String> = ranges
        .iter()
        .map(|range| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        })
        .collect();
    set(fields, "status_code", codes.join(" "));
    match &http.body {
        Some(Body::Digest(digest)) => set(fields, "digest", shunt_model::health::kind::hex(digest)),
        Some(Body::Answer(search)) => {
            let text = search.pattern.to_string();
            let text = text.trim_start_matches('/').trim_end_matches('/');
            let text =
                text.strip_prefix("(?").and_then(|rest| rest.split_once(')')).map_or(text, |(_, text)| text);
            set(fields, "regex", text);
            if search.without {
                set(fields, "regex_no_match", "yes");
            }
            if *search.begins.start() > 0 {
                set(fields, "regex_min_offset", search.begins.start());
            }
            if *search.begins.end() < usize::MAX {
                set(fields, "regex_max_offset", search.begins.end());
            }
        }
        Some(Body::Matches(_)) | None => {}
    }
}

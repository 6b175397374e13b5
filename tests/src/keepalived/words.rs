//! Values of keywords, ordinary ones and odd ones.

use crate::random::numbers::Numbers;

/// Addresses that files name, IPv4.
pub const ADDRESSES: &[&str] =
    &["192.0.2.31", "192.0.2.21", "192.0.2.22", "192.0.2.23", "10.1.0.11", "10.1.0.12", "203.0.113.5"];
/// Interfaces of the namespace that keepalived runs in.
pub const INTERFACES: &[&str] = &["eth0", "eth1"];

const SWITCH: &[&str] = &["", "", "on", "off", "true", "false", "yes", "no", "maybe"];
const NUMBERS: &[&str] = &[
    "0", "1", "2", "3", "5", "10", "60", "255", "256", "-1", "1.5", "x", "", "65536", "010", "0x10", "12abc",
    "-5x",
];
const SECONDS: &[&str] =
    &["1", "2", "3", "5", "10", "0.5", "1.25", "0", "30", "-1", "abc", "", "100000", "12abc", "1.5x", "1e3"];
const SMALL_SECONDS: &[&str] = &["1", "2", "3", "5", "10", "30", "60"];
const SCRIPTS: &[&str] = &[
    "/bin/true",
    "\"/bin/true\"",
    "\"/bin/true a b\"",
    "'/bin/true x'",
    "\"/bin/true a b\" root",
    "\"/bin/true\" nobody nogroup",
    "\"/usr/bin/nothere a\"",
    "/bin/true a b",
    "\"/bin/true '$1'\"",
    "true",
    "/bin/sh",
];
const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "sh", "mh", "dh", "fo", "ovf", "lblcr", "sed", "nq", "WRR", "wrr2", "",
];
const METHODS: &[&str] =
    &["NAT", "DR", "TUN", "nat", "dr", "TUN type gre", "TUN type gue port 6080 csum", "DR x", ""];
const WEIGHTS: &[&str] = &["1", "2", "3", "10", "100", "0", "255", "65535", "65536", "-1", "x", "7x"];
const TRACK_WEIGHTS: &[&str] =
    &["", "", "5", "-5", "20", "-254", "254", "253", "300", "2 reverse", "-3 reverse", "x", "5x"];
const HEXADECIMAL: &[&str] = &["00aabb", "0a xx 4x", "ff", "12 34", "zz", "1", ""];
const REGEX: &[&str] = &["\"ok\"", "ok", "\"^HTTP\"", "\"a b\"", "'x'"];
const NAMES: &[&str] = &["www.example.org", "\"a.example.org\"", "x", "a_b.example.org", ""];
const USERS: &[&str] = &["root", "nobody", "nobody nogroup", "nosuchuser", ""];

/// A value of a keyword that may stand anywhere; mostly one that makes sense to keepalived.
pub fn value(keyword: &str, numbers: &mut Numbers) -> String {
    let odd = numbers.percent(12);
    let pick = |numbers: &mut Numbers, usual: &[&str], all: &[&str]| {
        numbers.pick(if odd { all } else { usual }).to_owned()
    };
    let address = |numbers: &mut Numbers| numbers.pick(ADDRESSES).to_owned();
    match keyword {
        "connect_timeout" | "delay_before_retry" | "delay_loop" | "warmup" => {
            pick(numbers, SMALL_SECONDS, SECONDS)
        }
        "misc_timeout" | "interval" | "timeout" | "garp_master_delay" | "garp_lower_prio_delay" => {
            pick(numbers, SMALL_SECONDS, SECONDS)
        }
        "garp_master_refresh"
        | "vrrp_garp_master_refresh"
        | "vrrp_garp_master_delay"
        | "vrrp_garp_lower_prio_delay" => pick(numbers, SMALL_SECONDS, SECONDS),
        "retry" | "nb_get_retry" => pick(numbers, &["1", "2", "3", "0"], NUMBERS),
        "rise" | "fall" => pick(numbers, &["1", "2", "3"], NUMBERS),
        "advert_int" => pick(
            numbers,
            &["1", "2", "5", "0.5"],
            &["1", "0.1", "0", "1.5", "255", "256", "40", "40.95", "41", "x"],
        ),
        "preempt_delay" => pick(numbers, &["1", "30", "2.5"], &["0", "1000", "1001", "-1", "x"]),
        "priority" => {
            pick(numbers, &["100", "150", "200", "50", "1", "254"], &["255", "0", "256", "-1", "x", "1.5"])
        }
        "virtual_router_id" => (1 + numbers.below(254)).to_string(),
        "version" | "vrrp_version" => pick(numbers, &["2", "3"], &["1", "4", "x", ""]),
        "state" => pick(numbers, &["MASTER", "BACKUP"], &["master", "FAULT", "backup", "MASTER x"]),
        "interface" => numbers.pick(INTERFACES).to_owned(),
        "auth_type" => pick(numbers, &["PASS", "PASS", "AH"], &["pass", "NONE", ""]),
        "auth_pass" => pick(numbers, &["secret", "1111", "\"a b\"", "longerthan8"], &["a#b", "x", "'q'"]),
        "lvs_sched" | "lb_algo" => pick(numbers, &["rr", "wrr", "wlc", "lc", "sh", "mh"], SCHEDULERS),
        "lvs_method" | "lb_kind" | "sorry_server_lvs_method" => pick(numbers, &["NAT", "DR", "TUN"], METHODS),
        "protocol" => pick(numbers, &["TCP", "TCP", "UDP"], &["SCTP", "tcp", "udp", "ICMP", ""]),
        "persistence_timeout" => {
            pick(numbers, &["50", "300", "", "360"], &["0", "1", "2678400", "2678401", "x"])
        }
        "persistence_granularity" => {
            pick(numbers, &["255.255.255.0", "255.255.0.0"], &["24", "255.0.255.0", "0.0.0.0", "64", "x"])
        }
        "quorum" => pick(numbers, &["1", "2", "3"], &["0", "100", "1000000", "x", ""]),
        "hysteresis" => pick(numbers, &["0", "1"], &["2", "100", "x", ""]),
        "weight" => pick(numbers, &["1", "2", "3", "10", "100", "0"], WEIGHTS),
        "uthreshold" | "lthreshold" => pick(numbers, &["100", "10", "1000"], NUMBERS),
        "sorry_server" => format!("{} {}", address(numbers), pick(numbers, &["80", "8080"], &["0", "", "x"])),
        "virtualhost" | "helo_name" | "name" => pick(numbers, &["www.example.org", "a.example.org"], NAMES),
        "connect_ip" | "bindto" | "mcast_src_ip" => address(numbers),
        "connect_port" => pick(numbers, &["80", "8080", "443"], &["0", "65536", "x", ""]),
        "bind_port" | "fwmark" => pick(numbers, &["7", "8080"], NUMBERS),
        "type" => pick(numbers, &["A", "SOA", "MX"], &["a", "SRV", "ANY", ""]),
        "payload" | "require_reply" => pick(numbers, &["00aabb", "ff", "1234"], HEXADECIMAL),
        "min_reply_length" | "max_reply_length" => pick(numbers, &["4", "100"], NUMBERS),
        "path" => pick(numbers, &["/", "/health", "/a?b=c"], &["\"/a b\"", "health", ""]),
        "status_code" => {
            pick(numbers, &["200", "200-299", "200 204 301"], &["299-200", "99", "600", "200-", "x", ""])
        }
        "digest" => pick(
            numbers,
            &["9b3a0c85a887a256d6939da88aabd8cd"],
            &["9b3a", "x", "9B3A0C85A887A256D6939DA88AABD8CD"],
        ),
        "regex" => pick(numbers, &["\"ok\"", "\"a b\""], REGEX),
        "regex_options" => pick(numbers, &["caseless", "multiline"], &["caseless dotall", "nosuch", ""]),
        "regex_min_offset" | "regex_max_offset" => pick(numbers, &["1", "100"], NUMBERS),
        "regex_stack" => "1 100".to_owned(),
        "misc_path" | "script" => pick(numbers, &SCRIPTS[..3], SCRIPTS),
        "user" | "script_user" => pick(numbers, &["root", "nobody", "nobody nogroup"], USERS),
        "process" => pick(numbers, &["nginx", "\"/usr/sbin/haproxy -x\" a"], &["x", "nginx a b"]),
        "file" => pick(numbers, &["/etc/hostname", "/run/none"], &["relative", "\"/a b\""]),
        "init_file" => pick(numbers, &["", "3", "3 overwrite"], &["x"]),
        "lvs_timeouts" => pick(
            numbers,
            &["tcp 900 udp 300", "tcp 10 tcpfin 20 udp 30", "tcpfin 60"],
            &["tcp x", "tcp", "", "tcp 0"],
        ),
        "router_id" | "smtp_helo_name" | "snmp_name" => pick(numbers, &["LVS_1", "director"], NAMES),
        "smtp_server" => pick(
            numbers,
            &["192.0.2.25", "192.0.2.25 26", "127.0.0.1"],
            &["192.0.2.25 x", "mail", "2001:db8::25"],
        ),
        "smtp_connect_timeout" => pick(numbers, &["30", "5"], SECONDS),
        "notification_email_from" => {
            pick(numbers, &["lvs@example.org"], &["\"LVS <lvs@example.org>\"", "lvs", ""])
        }
        "smtp_alert" | "smtp_alert_vrrp" | "smtp_alert_checker" => pick(numbers, &["", "on"], SWITCH),
        "ip_family" => pick(numbers, &["inet", "inet6"], &["ipv4", ""]),
        "strict_mode" | "debug" | "accept_x" => pick(numbers, &["on", "off"], SWITCH),
        "unicast_src_ip" => address(numbers),
        "use_vmac" => pick(numbers, &[""], &["vrrp.7", "vrrp.7 02:00:00:00:00:01"]),
        "track_file" => "tf".to_owned(),
        "http_protocol" => pick(numbers, &["1.0", "1.1"], &["1.0C", "2", ""]),
        "virtual_server_group" => "G".to_owned(),
        keyword if keyword.starts_with("notify") && keyword != "notify_priority_changes" => {
            pick(numbers, &SCRIPTS[..5], SCRIPTS)
        }
        "quorum_up" | "quorum_down" => pick(numbers, &SCRIPTS[..5], SCRIPTS),
        keyword if keyword.contains("repeat") => pick(numbers, &["1", "3", "5"], NUMBERS),
        keyword if keyword.contains("delay") || keyword.contains("timeout") => {
            pick(numbers, SMALL_SECONDS, SECONDS)
        }
        // Words that stand alone, mostly, and what takes a number.
        _ => pick(numbers, &["", "1"], NUMBERS),
    }
}

/// A weight of what is tracked, behind its name.
pub fn track_weight(numbers: &mut Numbers) -> String {
    match numbers.pick(TRACK_WEIGHTS) {
        "" => String::new(),
        weight => format!(" weight {weight}"),
    }
}

//! `[[vrrp]]` and `[[vrrp_group]]`: virtual routers, and which of them move together.

use std::net::IpAddr;
use std::time::Duration;

use shunt_model::fault::{At, Fault, Span};
use shunt_model::limit;
use shunt_model::vrrp::{Auth, Notify, Version};
use toml::de::DeTable;

use super::auth;
use super::nic::host;
use super::service::within;
use super::{CheckDocument, Section, name, place, required};
use crate::problem::Findings;

/// A `[[vrrp]]` as written.
#[derive(Debug)]
pub struct VrrpDocument {
    /// How problems call it.
    pub place: String,
    /// Where it begins.
    pub at: Span,
    /// `name`.
    pub name: Option<At<String>>,
    /// `nic`.
    pub nic: Option<At<String>>,
    /// `vrid`.
    pub vrid: Option<At<u8>>,
    /// `version`.
    pub version: Option<At<Version>>,
    /// `priority`.
    pub priority: Option<At<u8>>,
    /// `interval`.
    pub interval: Option<At<Duration>>,
    /// `source`.
    pub source: Option<At<IpAddr>>,
    /// `addresses`.
    pub addresses: Vec<At<IpAddr>>,
    /// `excluded`.
    pub excluded: Vec<At<IpAddr>>,
    /// `peers`.
    pub peers: Vec<At<IpAddr>>,
    /// `ttl_min`.
    pub ttl_min: Option<At<u8>>,
    /// `auth`.
    pub auth: Option<At<Auth>>,
    /// `accept`.
    pub accept: Option<At<bool>>,
    /// `use_vmac`.
    pub use_vmac: Option<At<bool>>,
    /// `vmac_xmit_base`.
    pub vmac_xmit_base: Option<At<bool>>,
    /// `preempt`.
    pub preempt: Option<At<bool>>,
    /// `preempt_delay`.
    pub preempt_delay: Option<At<Duration>>,
    /// `start_grace`.
    pub start_grace: Option<At<Duration>>,
    /// `warn_after`.
    pub warn_after: Option<At<Duration>>,
    /// `adopt`.
    pub adopt: Option<At<Duration>>,
    /// `garp_repeat`.
    pub garp_repeat: Option<At<u8>>,
    /// `garp_delay`.
    pub garp_delay: Option<At<Duration>>,
    /// `garp_refresh`.
    pub garp_refresh: Option<At<Duration>>,
    /// `garp_refresh_repeat`.
    pub garp_refresh_repeat: Option<At<u8>>,
    /// `track`.
    pub track: Vec<TrackDocument>,
    /// `notify_…`.
    pub notify: Notify,
}

/// One entry of `track`.
#[derive(Debug)]
pub struct TrackDocument {
    /// Where it begins.
    pub at: Span,
    /// `nic`.
    pub nic: Option<At<String>>,
    /// `name`, of a check.
    pub name: Option<At<String>>,
    /// `check`.
    pub check: Option<CheckDocument>,
    /// `weight`.
    pub weight: Option<At<i16>>,
    /// `reverse`.
    pub reverse: Option<At<bool>>,
}

const KEYS: &[&str] = &[
    "name",
    "nic",
    "vrid",
    "version",
    "priority",
    "interval",
    "source",
    "addresses",
    "excluded",
    "peers",
    "ttl_min",
    "auth",
    "accept",
    "use_vmac",
    "vmac_xmit_base",
    "preempt",
    "preempt_delay",
    "start_grace",
    "warn_after",
    "adopt",
    "garp_repeat",
    "garp_delay",
    "garp_refresh",
    "garp_refresh_repeat",
    "track",
    "notify_master",
    "notify_backup",
    "notify_fault",
    "notify_stop",
    "notify",
    "notify_master_rx_lower_pri",
];
const GROUP_KEYS: &[&str] =
    &["name", "members", "notify_master", "notify_backup", "notify_fault", "notify_stop", "notify"];

impl VrrpDocument {
    pub(super) fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: Span, number: usize) -> Self {
        let place = place("vrrp", table, "name", number);
        let mut section = Section::new(findings, &place, table, &at, KEYS, &[]);
        let time = |section: &mut Section<'_, '_, '_, '_>, key: &str, most: Duration| {
            section.parse(key, |text| within(key, text, Duration::ZERO, most))
        };
        let vrrp = Self {
            name: section.parse("name", name),
            nic: section.parse("nic", name),
            vrid: section.integer("vrid", 1..=u8::MAX, "(a virtual router's number)"),
            version: version(&mut section),
            priority: section.integer("priority", 1..=u8::MAX, "(255 is for the owner of the addresses)"),
            interval: section.parse("interval", shunt_model::duration::parse),
            source: section.parse("source", vip),
            addresses: section.parse_list("addresses", vip),
            excluded: section.parse_list("excluded", vip),
            peers: section.parse_list("peers", vip),
            ttl_min: section.integer("ttl_min", 1..=u8::MAX, "(a TTL)"),
            auth: auth::read(&mut section),
            accept: section.boolean("accept"),
            use_vmac: section.boolean("use_vmac"),
            vmac_xmit_base: section.boolean("vmac_xmit_base"),
            preempt: section.boolean("preempt"),
            preempt_delay: time(&mut section, "preempt_delay", limit::VRRP_WAIT_MAX),
            start_grace: time(&mut section, "start_grace", limit::VRRP_WAIT_MAX),
            warn_after: time(&mut section, "warn_after", limit::VRRP_WAIT_MAX),
            adopt: time(&mut section, "adopt", limit::TIMEOUT_MAX),
            garp_repeat: section.integer("garp_repeat", 1..=limit::GARP_MAX, "announcements"),
            garp_delay: time(&mut section, "garp_delay", limit::VRRP_WAIT_MAX),
            garp_refresh: time(&mut section, "garp_refresh", limit::TIMEOUT_MAX),
            garp_refresh_repeat: section.integer("garp_refresh_repeat", 1..=limit::GARP_MAX, "announcements"),
            track: section
                .tables("track")
                .into_iter()
                .map(|(at, table)| TrackDocument::read(section.findings(), table, at, &place))
                .collect(),
            notify: notify(&mut section),
            place: place.clone(),
            at: at.clone(),
        };
        for (key, holds, example) in [
            ("name", "every virtual router has a name of its own", "name = \"VI_1\""),
            ("nic", "a virtual router belongs to the link of a NIC", "nic = \"front\""),
            ("vrid", "the directors of a pair have the same number, 1 to 255", "vrid = 51"),
            ("addresses", "a virtual router has VIPs", "addresses = [\"192.0.2.10\"]"),
        ] {
            if !section.has(key) {
                section.missing(required(key, holds, example));
            }
        }
        vrrp
    }
}

impl TrackDocument {
    fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: Span, vrrp: &str) -> Self {
        let place = format!("{vrrp}, track");
        let keys = ["nic", "name", "check", "weight", "reverse"];
        let mut section = Section::new(findings, &place, table, &at, &keys, &[]);
        let check = section.table("check");
        let check = check.map(|(at, table)| {
            CheckDocument::read(section.findings(), table, at, &format!("{place}, check"))
        });
        let track = Self {
            nic: section.parse("nic", name),
            name: section.parse("name", name),
            check,
            weight: section.integer("weight", -254..=254, "(0: no master while it fails)"),
            reverse: section.boolean("reverse"),
            at: at.clone(),
        };
        if section.has("nic") == section.has("check") {
            let holds = "what is tracked is the link of a NIC, or a check with a name";
            let example = "nic = \"back\", or name = \"gateway\" and check = { kind = \"ping\", address = \"192.0.2.1\" }";
            section.missing(required("one of nic and check", holds, example));
        } else if section.has("name") != section.has("check") {
            let holds =
                "a check that is tracked has a name, by which events and status call it; a NIC has its own";
            section.missing(required("one of name and check", holds, "name = \"gateway\""));
        }
        track
    }
}

/// A `[[vrrp_group]]` as written.
#[derive(Debug)]
pub struct VrrpGroupDocument {
    /// How problems call it.
    pub place: String,
    /// Where it begins.
    pub at: Span,
    /// `name`.
    pub name: Option<At<String>>,
    /// `members`.
    pub members: Vec<At<String>>,
    /// `notify_…`.
    pub notify: Notify,
}

impl VrrpGroupDocument {
    pub(super) fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: Span, number: usize) -> Self {
        let place = place("vrrp_group", table, "name", number);
        let mut section = Section::new(findings, &place, table, &at, GROUP_KEYS, &[]);
        let group = Self {
            name: section.parse("name", name),
            members: section.parse_list("members", name),
            notify: notify(&mut section),
            place: place.clone(),
            at: at.clone(),
        };
        for (key, holds, example) in [
            ("name", "every group has a name of its own", "name = \"VG_1\""),
            ("members", "a group has members", "members = [\"VI_1\", \"VI_2\"]"),
        ] {
            if !section.has(key) {
                section.missing(required(key, holds, example));
            }
        }
        group
    }
}

/// The scripts of a virtual router or a group.
fn notify(section: &mut Section<'_, '_, '_, '_>) -> Notify {
    let mut script = |key: &str| super::script::read(section, key);
    Notify {
        master: script("notify_master"),
        backup: script("notify_backup"),
        fault: script("notify_fault"),
        stop: script("notify_stop"),
        any: script("notify"),
        lower_priority: script("notify_master_rx_lower_pri"),
    }
}

fn vip(text: &str) -> Result<IpAddr, Fault> {
    let holds = "an address such as \"192.0.2.10\", without a prefix length";
    host(text.parse().map_err(|_| Fault::new("not an address", holds, "write it so"))?)
}

fn version(section: &mut Section<'_, '_, '_, '_>) -> Option<At<Version>> {
    let number: At<u8> = section.integer("version", 2..=3, "(of the protocol)")?;
    Some(At::new(if number.value == 2 { Version::V2 } else { Version::V3 }, number.at))
}

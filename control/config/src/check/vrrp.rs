//! Virtual routers: what each version can say, addresses that two of them have, groups of nobody.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use shunt_dataplane::address::Family;
use shunt_dataplane::id::NicId;
use shunt_model::duration;
use shunt_model::fault::{At, Fault};
use shunt_model::vrrp::{
    Announcing, Auth, Group, Hmac, PRIORITY_OWNER, TRAILER, Track, Tracked, Version, VirtualMac, Vrid,
};

use super::health::check_alone;
use super::networks::{Networks, is_link_local, nic_of, scoped};
use super::nics::find_nic;
use super::{Seen, unique_names};
use crate::document::{Document, VrrpDocument, VrrpGroupDocument, nearest};
use crate::problem::Findings;
use crate::{ADOPT_DEFAULT, MTU_DEFAULT, Vrrp, Watch};

/// The interval when none is configured.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
/// The priority when none is configured (RFC 9568, 5.2.4).
const PRIORITY_DEFAULT: u8 = 100;

/// Checks `[[vrrp]]`; none when one of them lacks something.
pub fn check(document: &Document, networks: &Networks, findings: &mut Findings<'_>) -> Option<Vec<Vrrp>> {
    let names = document.vrrp.iter().map(|vrrp| (vrrp.place.as_str(), &vrrp.name));
    unique_names("virtual routers", names, findings);
    let (mut numbers, mut vips) = (Seen::new(), Seen::new());
    for vrrp in &document.vrrp {
        let nic = vrrp.nic.as_ref().and_then(|name| find_nic(&vrrp.place, name, document, findings));
        check_number(vrrp, nic, &mut numbers, findings);
        check_addresses(vrrp, nic, networks, document, &mut vips, findings);
        check_version(vrrp, findings);
        check_preemption(vrrp, findings);
        check_virtual_mac(vrrp, findings);
        if let Some(nic) = nic {
            check_sources(vrrp, nic, networks, findings);
        }
    }
    let mut watches = Vec::new();
    let build_all = |vrrp| {
        let (tracks, own) = check_tracks(vrrp, document, networks, &mut watches, findings)?;
        build(vrrp, document, networks, tracks, own)
    };
    // Each of them, so that all problems are found.
    let built: Vec<Option<Vrrp>> = document.vrrp.iter().map(build_all).collect();
    built.into_iter().collect()
}

/// What it depends on, and the checks among that; `watches` are those of all.
fn check_tracks(
    vrrp: &VrrpDocument,
    document: &Document,
    networks: &Networks,
    watches: &mut Vec<Watch>,
    findings: &mut Findings<'_>,
) -> Option<(Vec<Track>, Vec<Watch>)> {
    let (mut tracks, mut own) = (Some(Vec::new()), Vec::new());
    for track in &vrrp.track {
        let nic = track.nic.as_ref().and_then(|name| find_nic(&vrrp.place, name, document, findings));
        let place = format!("{}, track, check", vrrp.place);
        let check = track.check.as_ref().and_then(|check| check_alone(&place, check, networks, findings));
        let watch =
            track.name.as_ref().zip(check).map(|(name, check)| Watch { name: name.value.clone(), check });
        if let (Some(watch), Some(name)) = (&watch, &track.name) {
            match watches.iter().find(|other| other.name == watch.name) {
                Some(other) if other != watch => {
                    let holds = "checks of one name are one check";
                    let fault = Fault::new("two different checks of this name", holds, "rename one");
                    findings.error(&format!("{}, track", vrrp.place), &name.at, fault);
                }
                Some(_) => {}
                None => watches.push(watch.clone()),
            }
        }
        let what =
            nic.map(Tracked::Link).or_else(|| watch.as_ref().map(|watch| Tracked::Check(watch.name.clone())));
        own.extend(watch);
        let weight = track.weight.as_ref().map_or(0, |weight| weight.value);
        let reverse = track.reverse.as_ref().is_some_and(|reverse| reverse.value);
        match (&mut tracks, what) {
            (Some(tracks), Some(what)) => tracks.push(Track { what, weight, reverse }),
            _ => tracks = None,
        }
    }
    tracks.map(|tracks| (tracks, own))
}

/// The family of its adverts: IPv4 where they carry no address.
fn family(vrrp: &VrrpDocument) -> Family {
    let first = vrrp.addresses.first().or_else(|| vrrp.peers.first());
    first.map_or(Family::V4, |address| Family::of(address.value))
}

fn check_virtual_mac(vrrp: &VrrpDocument, findings: &mut Findings<'_>) {
    let used = vrrp.use_vmac.as_ref().is_some_and(|key| key.value);
    if let Some(base) = vrrp.vmac_xmit_base.as_ref().filter(|base| base.value && !used) {
        let holds = "without a virtual MAC adverts come from the NIC's own one anyway";
        let fault = Fault::new("vmac_xmit_base without use_vmac", holds, "set use_vmac = true, or remove it");
        findings.error(&vrrp.place, &base.at, fault);
    }
}

fn check_number(
    vrrp: &VrrpDocument,
    nic: Option<NicId>,
    numbers: &mut Seen<(NicId, u8, Family)>,
    findings: &mut Findings<'_>,
) {
    let (Some(nic), Some(vrid)) = (nic, &vrrp.vrid) else { return };
    if let Some(line) = numbers.again((nic, vrid.value, family(vrrp)), &vrid.at, findings) {
        let holds = format!("the first is at line {line}, and a link has each number once for each family");
        let fault = Fault::new("two virtual routers of one vrid on one NIC", holds, "choose another vrid");
        findings.error(&vrrp.place, &vrid.at, fault);
    }
}

fn check_addresses(
    vrrp: &VrrpDocument,
    nic: Option<NicId>,
    networks: &Networks,
    document: &Document,
    seen: &mut Seen<(Option<NicId>, IpAddr)>,
    findings: &mut Findings<'_>,
) {
    let first = family(vrrp);
    for vip in vrrp.addresses.iter().filter(|vip| Family::of(vip.value) != first) {
        let holds = "an advert carries addresses of one family";
        let advice = "put it under excluded, or into a [[vrrp]] of its own";
        findings.error(&vrrp.place, &vip.at, Fault::new("addresses of both families", holds, advice));
    }
    for vip in vrrp.addresses.iter().chain(&vrrp.excluded) {
        if let Some(line) = seen.again(scoped(nic, vip.value), &vip.at, findings) {
            let holds = format!("the first is at line {line}");
            findings.error(&vrrp.place, &vip.at, Fault::new("a VIP is there twice", holds, "remove one"));
        } else if let Some(nic) = networks.owner_seen_from(nic, vip.value) {
            let name = document.nics.get(nic.index()).map_or("", |nic| nic.place.as_str());
            let holds = format!("it is an own address of {name}");
            let advice = "give the virtual router an address of its own";
            findings.error(&vrrp.place, &vip.at, Fault::new("a VIP that is an own address", holds, advice));
        }
    }
    let most = most_addresses(vrrp, document);
    if vrrp.addresses.len() > most {
        let wrong = format!("{} addresses are too many", vrrp.addresses.len());
        let holds = format!("an advert that fits the NIC's mtu holds {most}");
        findings.missing(&vrrp.place, &vrrp.at, Fault::new(wrong, holds, "put some under excluded"));
    }
}

/// How many addresses an advert of the NIC's MTU holds, with the headers of IP and authentication.
fn most_addresses(vrrp: &VrrpDocument, document: &Document) -> usize {
    let nic = vrrp.nic.as_ref().and_then(|name| nic_of(document, &name.value));
    let nic = nic.and_then(|nic| document.nics.get(nic.index()));
    let mtu = nic.and_then(|nic| nic.mtu.as_ref()).map_or(MTU_DEFAULT, |mtu| mtu.value);
    let signs = vrrp.auth.as_ref().and_then(|auth| auth.value.hmac()).is_some_and(Hmac::signs);
    let room = usize::from(mtu).saturating_sub(if signs { 60 + TRAILER } else { 60 });
    (if family(vrrp) == Family::V6 { room / 16 } else { room / 4 }).min(u8::MAX.into())
}

/// What the version can express.
fn check_version(vrrp: &VrrpDocument, findings: &mut Findings<'_>) {
    let version = vrrp.version.as_ref().map_or(Version::V3, |version| version.value);
    if let Some(written) = vrrp.version.as_ref().filter(|_| version == Version::V2) {
        if family(vrrp) == Family::V6 {
            let fault =
                Fault::new("version 2 with IPv6 addresses", "version 2 knows IPv4 alone", "choose version 3");
            findings.error(&vrrp.place, &written.at, fault);
        }
    }
    if let Some(auth) =
        vrrp.auth.as_ref().filter(|auth| version == Version::V3 && auth.value.hmac().is_none())
    {
        let holds = "version 3 has neither password nor header (RFC 9568, 9)";
        findings.error(
            &vrrp.place,
            &auth.at,
            Fault::new(
                "authentication in version 3",
                holds,
                "choose kind = \"hmac\" on all directors, or version = 2",
            ),
        );
    }
    let Some(interval) = &vrrp.interval else { return };
    let (least, most, step) = version.intervals();
    let fits = interval.value.as_nanos() % step.as_nanos() == 0;
    if !(least..=most).contains(&interval.value) || !fits {
        let holds = match version {
            Version::V2 => "version 2 says whole seconds, 1s to 255s".to_owned(),
            Version::V3 => {
                format!("version 3 says hundredths of a second, 10ms to {}", duration::format(most))
            }
        };
        let advice = match version {
            Version::V2 => "choose whole seconds, or version = 3",
            Version::V3 => "choose one of these",
        };
        let wrong = format!("an interval that version {} cannot express", version.number());
        findings.error(&vrrp.place, &interval.at, Fault::new(wrong, holds, advice));
    }
}

fn check_preemption(vrrp: &VrrpDocument, findings: &mut Findings<'_>) {
    let Some(preempt) = vrrp.preempt.as_ref().filter(|preempt| !preempt.value) else { return };
    if let Some(delay) = &vrrp.preempt_delay {
        let holds = "preempt = false never takes over from a living master";
        let fault = Fault::new("a delay of what never happens", holds, "remove one of the two");
        findings.error(&vrrp.place, &delay.at, fault);
    }
    if vrrp.priority.as_ref().is_some_and(|priority| priority.value == PRIORITY_OWNER) {
        let holds = "the owner of the addresses (priority 255) always takes them (RFC 9568, 6.1)";
        let fault = Fault::new("an owner that does not preempt", holds, "choose a priority below 255");
        findings.error(&vrrp.place, &preempt.at, fault);
    }
}

/// Where adverts come from, and whom they go to.
fn check_sources(vrrp: &VrrpDocument, nic: NicId, networks: &Networks, findings: &mut Findings<'_>) {
    let family = family(vrrp);
    if let Some(source) = &vrrp.source {
        let own = networks.own.iter().any(|(net, of)| *of == nic && net.addr() == source.value);
        if (!own && networks.known) || Family::of(source.value) != family {
            let holds = "adverts come from an own address of the NIC, of the family of addresses";
            findings.error(
                &vrrp.place,
                &source.at,
                Fault::new("not an own address", holds, "name one of the NIC's addresses"),
            );
        }
    } else if networks.known && own_source(vrrp, nic, networks).is_none() && family == Family::V4 {
        let fault = Fault::new(
            "its NIC has no IPv4 address",
            "adverts come from an own address of the NIC",
            "add one to the NIC's addresses",
        );
        findings.missing(&vrrp.place, &vrrp.at, fault);
    }
    for peer in &vrrp.peers {
        let fault = if Family::of(peer.value) != family {
            Fault::new(
                "a peer of another family",
                "adverts go by the family of addresses",
                "name another address",
            )
        } else if networks.owner_seen_from(Some(nic), peer.value).is_some() {
            Fault::new("a peer that is the director itself", "peers are the other directors", "remove it")
        } else if networks.known && networks.hop(peer.value).is_none() && !is_link_local(peer.value) {
            Fault::new(
                "no way to this peer",
                "a peer is in a NIC's network or behind a route",
                "add a [[route]]",
            )
        } else {
            continue;
        };
        findings.error(&vrrp.place, &peer.at, fault);
    }
    if let Some(ttl) = vrrp.ttl_min.as_ref().filter(|_| vrrp.peers.is_empty()) {
        let fault = Fault::new(
            "ttl_min without peers",
            "multicast adverts must arrive with 255",
            "remove it, or name peers",
        );
        findings.error(&vrrp.place, &ttl.at, fault);
    }
}

/// The own address that adverts come from when none is named: in the network of the first VIP or peer, else the first one. None
/// for IPv6 by multicast, which comes from the link-local address.
fn own_source(vrrp: &VrrpDocument, nic: NicId, networks: &Networks) -> Option<IpAddr> {
    let unsaid = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    let first = vrrp.peers.first().or(vrrp.addresses.first()).map_or(unsaid, |first| first.value);
    if first.is_ipv6() && (vrrp.peers.is_empty() || is_link_local(first)) {
        return None;
    }
    let own = || {
        let of_family = |(net, of): &&(ipnet::IpNet, NicId)| {
            *of == nic && net.addr().is_ipv4() == first.is_ipv4() && !is_link_local(net.addr())
        };
        networks.own.iter().filter(of_family).map(|(net, _)| *net)
    };
    own().find(|net| net.contains(&first)).or_else(|| own().next()).map(|net| net.addr())
}

fn build(
    vrrp: &VrrpDocument,
    document: &Document,
    networks: &Networks,
    tracks: Vec<Track>,
    watches: Vec<Watch>,
) -> Option<Vrrp> {
    let nic = nic_of(document, &vrrp.nic.as_ref()?.value)?;
    let value = |time: &Option<At<Duration>>| time.as_ref().map_or(Duration::ZERO, |time| time.value);
    let values = |list: &[At<IpAddr>]| list.iter().map(|one| one.value).collect::<Vec<_>>();
    let usual = Announcing::default();
    let number = |number: &Option<At<u8>>, usual| number.as_ref().map_or(usual, |number| number.value);
    Some(Vrrp {
        name: vrrp.name.as_ref()?.value.clone(),
        nic,
        vrid: Vrid(vrrp.vrid.as_ref()?.value),
        version: vrrp.version.as_ref().map_or(Version::V3, |version| version.value),
        priority: number(&vrrp.priority, PRIORITY_DEFAULT),
        interval: vrrp.interval.as_ref().map_or(INTERVAL_DEFAULT, |interval| interval.value),
        source: vrrp.source.as_ref().map(|source| source.value).or_else(|| own_source(vrrp, nic, networks)),
        addresses: values(&vrrp.addresses),
        excluded: values(&vrrp.excluded),
        peers: values(&vrrp.peers),
        ttl_min: vrrp.ttl_min.as_ref().map(|ttl| ttl.value),
        accept: vrrp.accept.as_ref().is_none_or(|accept| accept.value),
        virtual_mac: virtual_mac(vrrp),
        auth: vrrp.auth.as_ref().map_or(Auth::None, |auth| auth.value.clone()),
        preempt: vrrp
            .preempt
            .as_ref()
            .is_none_or(|preempt| preempt.value)
            .then(|| value(&vrrp.preempt_delay)),
        start_grace: value(&vrrp.start_grace),
        warn_after: value(&vrrp.warn_after),
        adopt: vrrp.adopt.as_ref().map_or(ADOPT_DEFAULT, |adopt| adopt.value),
        announcing: Announcing {
            repeat: number(&vrrp.garp_repeat, usual.repeat),
            delay: vrrp.garp_delay.as_ref().map_or(usual.delay, |delay| delay.value),
            refresh: value(&vrrp.garp_refresh),
            refresh_repeat: number(&vrrp.garp_refresh_repeat, usual.refresh_repeat),
        },
        tracks,
        watches,
        notify: Arc::new(vrrp.notify.clone()),
    })
}

/// Its own MAC, if it has one.
fn virtual_mac(vrrp: &VrrpDocument) -> Option<VirtualMac> {
    let is_set = |key: &Option<At<bool>>| key.as_ref().is_some_and(|key| key.value);
    let mac = Vrid(vrrp.vrid.as_ref()?.value).mac(family(vrrp));
    is_set(&vrrp.use_vmac).then(|| VirtualMac { mac, xmit_base: is_set(&vrrp.vmac_xmit_base) })
}

/// Checks `[[vrrp_group]]`; none when one of them lacks something.
pub fn check_groups(document: &Document, findings: &mut Findings<'_>) -> Option<Vec<Group>> {
    let names = document.vrrp_groups.iter().map(|group| (group.place.as_str(), &group.name));
    unique_names("groups", names, findings);
    let known: HashSet<&str> =
        document.vrrp.iter().filter_map(|vrrp| vrrp.name.as_ref()).map(|name| name.value.as_str()).collect();
    let mut seen = Seen::new();
    for group in &document.vrrp_groups {
        for member in &group.members {
            check_member(group, member, &known, &mut seen, findings);
        }
    }
    let build = |group: &VrrpGroupDocument| {
        let members = group.members.iter().map(|member| member.value.clone()).collect();
        let notify = Arc::new(group.notify.clone());
        Some(Group { name: group.name.as_ref()?.value.clone(), members, notify })
    };
    document.vrrp_groups.iter().map(build).collect()
}

fn check_member(
    group: &VrrpGroupDocument,
    member: &At<String>,
    known: &HashSet<&str>,
    seen: &mut Seen<String>,
    findings: &mut Findings<'_>,
) {
    if !known.contains(member.value.as_str()) {
        let mut names: Vec<&str> = known.iter().copied().collect();
        names.sort_unstable();
        let advice = nearest(&member.value, &names)
            .map_or_else(|| "name one of these".to_owned(), |near| format!("did you mean \"{near}\"?"));
        let holds = format!("the virtual routers are {}", names.join(", "));
        findings.error(&group.place, &member.at, Fault::new("no such virtual router", holds, advice));
    } else if let Some(line) = seen.again(member.value.clone(), &member.at, findings) {
        let holds = format!("it is a member at line {line} already, and has one group at most");
        let fault = Fault::new("a member of two groups", holds, "remove it from one");
        findings.error(&group.place, &member.at, fault);
    }
}

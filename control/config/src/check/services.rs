//! Services: VIPs and real servers against each other, against the NICs and the routes.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use shunt_dataplane::connections::Share;
use shunt_dataplane::id::Protocol;
use shunt_dataplane::service::mark::Mark;
use shunt_dataplane::service::schedulers::{Flags, Scheduler};
use shunt_dataplane::service::{Method, Persistence, Settings, Thresholds};
use shunt_dataplane::time::Ticks;
use shunt_model::fault::{At, Fault};
use shunt_model::limit;

use super::networks::{Networks, is_link_local};
use super::tunnels::{self, tunnel};
use super::{Seen, health, passive, pool, unique_names, ways};
use crate::document::{Document, PersistenceDocument, RealDocument, SchedulerFlag, ServiceDocument};
use crate::problem::Findings;
use crate::{Check, Notify, Pool, Real, SERVICE_SHARE_DEFAULT, Service};

/// How long clients persist where the file does not say (kernel: `IP_VS_TEMPLATE_TIMEOUT`, as ipvsadm has it).
const PERSISTENCE_DEFAULT: Duration = Duration::from_secs(360);

/// Checks `[[service]]`; none when one of them lacks something.
pub fn check(document: &Document, networks: &Networks, findings: &mut Findings<'_>) -> Option<Vec<Service>> {
    unique_names(
        "services",
        document.services.iter().map(|service| (service.place.as_str(), &service.name)),
        findings,
    );
    let vips: HashSet<IpAddr> = document
        .services
        .iter()
        .filter_map(|service| service.listen.as_ref())
        .filter(|listen| Mark::of(listen.value).is_none())
        .map(|listen| listen.value.ip())
        .collect();
    let served = ways::served(document, networks);
    let mut seen = Seen::new();
    let mut services = Some(Vec::new());
    for service in &document.services {
        if let Some(listen) = &service.listen {
            if Mark::of(listen.value).is_none() {
                check_vip(service, listen, document, networks, findings);
            }
            check_all_ports(service, listen, findings);
            let protocol = service.protocol.as_ref().map(|protocol| protocol.value);
            let again = protocol.and_then(|protocol| {
                let first = seen.again((listen.value, protocol), &listen.at, findings)?;
                Some((protocol, first))
            });
            if let Some((protocol, line)) = again {
                let wrong = format!("two {protocol} services at one address and port");
                let holds = format!("the first is at line {line}");
                findings.error(
                    &service.place,
                    &listen.at,
                    Fault::new(wrong, holds, "merge them, or change one"),
                );
            }
        }
        let checks = health::checks(service, networks, findings);
        let reals = check_reals(service, checks.as_ref(), &vips, networks, findings);
        ways::check(service, reals.as_deref().unwrap_or_default(), &served, networks, findings);
        let settings = settings(service, findings);
        let pool = pool::pool(service, checks.as_ref(), reals.as_deref(), &vips, networks, findings);
        if let (Some(pool), Some(reals)) = (&pool, &reals) {
            passive::check(service, pool, reals, findings);
        }
        let built = build(service, settings, reals, checks, pool);
        services = services.and_then(|mut services: Vec<Service>| {
            services.push(built?);
            Some(services)
        });
    }
    services
}

/// What a service is set to beside its scheduler.
fn settings(service: &ServiceDocument, findings: &mut Findings<'_>) -> Settings {
    let scheduler = scheduler(service);
    if let Some(flag) = service.scheduler_flags.first().filter(|_| !scheduler.takes_flags()) {
        let holds = format!("it has no effect, as in the kernel: sh and mh have flags, {scheduler} has none");
        let fault = Fault::new("a flag that the scheduler does not know", holds, "remove scheduler_flags");
        findings.warn(&service.place, &flag.at, fault);
    }
    let one_packet = service.one_packet.as_ref().filter(|one_packet| one_packet.value);
    let is_udp = service.protocol.as_ref().is_none_or(|protocol| protocol.value == Protocol::Udp);
    // Of a mark's packets those of UDP stand alone.
    let is_mark = service.listen.as_ref().is_some_and(|listen| Mark::of(listen.value).is_some());
    if let Some(one_packet) = one_packet.filter(|_| !is_udp && !is_mark) {
        let holds = "only udp has packets that stand alone";
        findings.error(
            &service.place,
            &one_packet.at,
            Fault::new("one-packet scheduling of connections", holds, "remove one_packet"),
        );
    }
    if let Some(one_packet) = one_packet.filter(|_| is_udp && has_nat(service)) {
        let fault = Fault::new(
            "answers of nat real servers are not translated",
            "one_packet keeps no connection to translate them by, as in the kernel: they leave from the real server's own address, and only where \
             a [[forward]] lets them pass",
            "use forward = \"dr\" or \"tun\", or remove one_packet",
        );
        findings.warn(&service.place, &one_packet.at, fault);
    }
    let has = |flag| service.scheduler_flags.iter().any(|other| other.value == flag);
    Settings {
        flags: Flags {
            fallback: has(SchedulerFlag::Fallback),
            port: has(SchedulerFlag::Port),
            third: has(SchedulerFlag::Third),
        },
        one_packet: one_packet.is_some(),
        timeouts: service.timeouts,
        mss_clamp: service.mss_clamp.as_ref().is_some_and(|clamp| clamp.value),
        share: service.share.as_ref().map_or(SERVICE_SHARE_DEFAULT, |share| Share(share.value)),
        persistence: service
            .persistence
            .as_ref()
            .map(|persistence| build_persistence(persistence, service, findings)),
    }
}

/// True when a real server of a service is reached by nat.
fn has_nat(service: &ServiceDocument) -> bool {
    let is_nat = |forward: &Option<At<Method>>| forward.as_ref().map(|forward| forward.value == Method::Nat);
    let by_service = is_nat(&service.forward).unwrap_or(false);
    service.reals.iter().any(|real| is_nat(&real.forward).unwrap_or(by_service))
}

fn build_persistence(
    persistence: &PersistenceDocument,
    service: &ServiceDocument,
    findings: &mut Findings<'_>,
) -> Persistence {
    let is_v4 = service.listen.as_ref().is_some_and(|listen| listen.value.is_ipv4());
    let bits = if is_v4 { 32 } else { 128 };
    if let Some(netmask) = persistence.netmask.as_ref().filter(|netmask| netmask.value > bits) {
        let fault = Fault::new(
            "a netmask longer than an address",
            "an IPv4 address has 32 bits",
            "choose 32, or less for clients that stay together",
        );
        findings.error(&format!("{}, persistence", service.place), &netmask.at, fault);
    }
    let timeout = persistence.timeout.as_ref().map_or(PERSISTENCE_DEFAULT, |timeout| timeout.value);
    Persistence {
        timeout: Ticks::from_duration(timeout),
        netmask: persistence.netmask.as_ref().map_or(bits, |netmask| netmask.value),
    }
}

/// A service of all ports is persistent (kernel: `ip_vs_add_service`), and only NAT can give packets another port: of a firewall mark, as
/// long as clients do not persist (kernel: `ip_vs_sched_persist`). Elsewhere checks alone use the port of a real server.
fn check_all_ports(service: &ServiceDocument, listen: &At<SocketAddr>, findings: &mut Findings<'_>) {
    if listen.value.port() != 0 {
        return;
    }
    if service.persistence.is_none() && Mark::of(listen.value).is_none() {
        let fault = Fault::new(
            "a service of all ports without persistence",
            "the connections of a client to different ports go to one real server",
            "add persistence = { timeout = \"360s\" }, or name one port",
        );
        findings.error(&service.place, &listen.at, fault);
    }
    let is_mark = Mark::of(listen.value).is_some();
    for real in &service.reals {
        let method =
            real.forward.as_ref().or(service.forward.as_ref()).map_or(Method::Dr, |method| method.value);
        let Some(address) =
            real.address.as_ref().filter(|address| address.value.1.is_some_and(|port| port.0 > 0))
        else {
            continue;
        };
        if method == Method::Nat && service.persistence.is_some() {
            let fault = Fault::new(
                "a port that no packet gets",
                "a client that persists keeps its real server for all ports, so that connections keep the port that the client asks \
                 for, as in the kernel; checks alone use this one",
                if is_mark { "leave the port out, or remove persistence" } else { "leave the port out" },
            );
            findings.warn(&real.place, &address.at, fault);
        }
        if method == Method::Nat || is_mark {
            continue;
        }
        let fault = Fault::new(
            "a port in a service of all ports",
            "connections keep the port that the client asks for",
            "leave the port out",
        );
        findings.error(&real.place, &address.at, fault);
    }
}

fn scheduler(service: &ServiceDocument) -> Scheduler {
    service.scheduler.as_ref().map_or(Scheduler::Wlc, |scheduler| scheduler.value)
}

fn build(
    service: &ServiceDocument,
    settings: Settings,
    reals: Option<Vec<Real>>,
    checks: Option<Arc<[Check]>>,
    pool: Option<Pool>,
) -> Option<Service> {
    Some(Service {
        name: service.name.as_ref()?.value.clone(),
        listen: service.listen.as_ref()?.value,
        protocol: service.protocol.as_ref()?.value,
        scheduler: scheduler(service),
        settings,
        forward: service.forward.as_ref().map_or(Method::Dr, |forward| forward.value),
        checks: checks?,
        pool: pool?,
        reals: reals?,
    })
}

fn check_vip(
    service: &ServiceDocument,
    listen: &At<SocketAddr>,
    document: &Document,
    networks: &Networks,
    findings: &mut Findings<'_>,
) {
    let vip = listen.value.ip();
    let nic_name =
        |nic: shunt_dataplane::id::NicId| document.nics.get(nic.index()).map_or("", |nic| nic.place.as_str());
    let network = networks.network_of(vip);
    let fault = if let Some(nic) = networks.owner(vip) {
        let holds = format!("it is an own address of {}", nic_name(nic));
        Fault::new("a VIP that is an own address", holds, "give the service an address of its own")
    } else if is_link_local(vip) {
        Fault::new(
            "a link-local VIP",
            "its clients are on one link, and real servers on others cannot answer them",
            "choose a global or unique local address",
        )
    } else if document.nics.iter().flat_map(|nic| &nic.gateways).any(|gateway| gateway.value == vip) {
        Fault::new(
            "a VIP that is the gateway",
            "two hosts must not share an address",
            "choose another address",
        )
    } else if let Some((net, _)) = network.filter(|(net, _)| {
        net.prefix_len() < 31 && vip.is_ipv4() && (vip == net.network() || vip == net.broadcast())
    }) {
        let holds = format!("it is the network's own or its broadcast address in {}", net.trunc());
        Fault::new("not a host's address", holds, "choose another address")
    } else if network.is_none() && networks.known && !networks.own.is_empty() {
        let fault = Fault::new(
            "a VIP in no network of a NIC",
            "nobody asks for its MAC then, so the routers before the director need a route for it",
            "see that they have one, or choose an address of a NIC's network",
        );
        findings.warn(&service.place, &listen.at, fault);
        return;
    } else {
        return;
    };
    findings.error(&service.place, &listen.at, fault);
}

fn check_reals(
    service: &ServiceDocument,
    checks: Option<&Arc<[Check]>>,
    vips: &HashSet<IpAddr>,
    networks: &Networks,
    findings: &mut Findings<'_>,
) -> Option<Vec<Real>> {
    let mut seen = Seen::new();
    let mut reals = Some(Vec::with_capacity(service.reals.len()));
    for real in &service.reals {
        let checks = match &real.checks {
            Some(_) => health::checks_of_real(service, real, networks, findings),
            None => checks.cloned(),
        };
        let built = build_real(service, real, checks);
        if let (Some(built), Some(at)) = (&built, real.address.as_ref().map(|address| &address.at)) {
            if let Some(line) = seen.again(built.address, at, findings) {
                let holds = format!("the first is at line {line}");
                let fault = Fault::new(
                    "a real server is there twice",
                    holds,
                    "remove one and give the other its weight",
                );
                findings.error(&real.place, at, fault);
            }
            check_thresholds(real, built.thresholds, findings);
            tunnels::check(real, built.method, findings);
            if let Err(fault) = check_real(service, built, vips, networks) {
                findings.error(&real.place, at, fault);
            }
        }
        reals = reals.and_then(|mut reals: Vec<Real>| {
            reals.push(built?);
            Some(reals)
        });
    }
    if service.reals.is_empty() && service.reals_known {
        let fault = Fault::new(
            "no real server",
            "its clients are told by ICMP that nobody answers",
            "add real = [{ address = \"…\" }]",
        );
        findings.warn_missing(&service.place, &service.at, fault);
    } else if reals
        .as_ref()
        .is_some_and(|reals| !reals.is_empty() && reals.iter().all(|real| real.weight == 0))
    {
        let fault = Fault::new(
            "every weight is 0",
            "no real server takes new connections",
            "give one a weight above 0",
        );
        findings.warn_missing(&service.place, &service.at, fault);
    }
    if service.reals.len() > limit::REALS_MAX {
        let wrong = format!("{} real servers are too many", service.reals.len());
        let holds = format!("a service has at most {}", limit::REALS_MAX);
        findings.missing(&service.place, &service.at, Fault::new(wrong, holds, "remove some"));
    }
    reals
}

/// A real server that was full takes connections again when it has fewer than the lower threshold.
fn check_thresholds(real: &RealDocument, thresholds: Thresholds, findings: &mut Findings<'_>) {
    let Some(lower) = &real.lower_threshold else { return };
    if thresholds.upper == 0 && lower.value > 0 {
        let fault = Fault::new(
            "l_threshold without u_threshold",
            "l_threshold says when a real server that reached u_threshold takes connections again",
            "add u_threshold, or remove l_threshold",
        );
        findings.error(&real.place, &lower.at, fault);
    } else if lower.value > thresholds.upper {
        let holds = format!("u_threshold is {}", thresholds.upper);
        let fault =
            Fault::new("l_threshold above u_threshold", holds, "lower l_threshold or raise u_threshold");
        findings.error(&real.place, &lower.at, fault);
    }
}

pub(super) fn build_real(
    service: &ServiceDocument,
    real: &RealDocument,
    checks: Option<Arc<[Check]>>,
) -> Option<Real> {
    let (address, l4_port) = real.address.as_ref()?.value;
    let l4_port = l4_port
        .map_or_else(|| service.listen.as_ref().map(|listen| listen.value.port()), |port| Some(port.0))?;
    let method =
        real.forward.as_ref().or(service.forward.as_ref()).map_or(Method::Dr, |forward| forward.value);
    Some(Real {
        address: SocketAddr::new(address, l4_port),
        weight: real.weight.as_ref().map_or(1, |weight| weight.value),
        thresholds: Thresholds {
            upper: real.upper_threshold.as_ref().map_or(0, |upper| upper.value),
            lower: real.lower_threshold.as_ref().map_or(0, |lower| lower.value),
        },
        method,
        tunnel: tunnel(real),
        inhibit_on_failure: (real.inhibit_on_failure.as_ref())
            .or(service.pool.inhibit_on_failure.as_ref())
            .is_some_and(|inhibit| inhibit.value),
        notify: Notify {
            up: real.notify_up.as_ref().or(service.pool.notify_up.as_ref()).cloned().map(Arc::new),
            down: real.notify_down.as_ref().or(service.pool.notify_down.as_ref()).cloned().map(Arc::new),
        },
        checks: checks?,
        passive: passive::passive(&real.passive, &service.pool.passive),
    })
}

pub(super) fn check_real(
    service: &ServiceDocument,
    real: &Real,
    vips: &HashSet<IpAddr>,
    networks: &Networks,
) -> Result<(), Fault> {
    let address = real.address.ip();
    if let Some(listen) = &service.listen {
        if listen.value.is_ipv4() != real.address.is_ipv4() && real.method != Method::Tun {
            let holds = format!("its service listens at {}; only tun crosses families", listen.value);
            return Err(Fault::new(
                "a real server of another address family",
                holds,
                "name an address of the same family, or use forward = \"tun\"",
            ));
        }
        let all_ports = listen.value.port() == 0;
        if real.method != Method::Nat && !all_ports && real.address.port() != listen.value.port() {
            let holds =
                format!("{} leaves the port at {}; only nat changes it", real.method, listen.value.port());
            return Err(Fault::new(
                "a port other than the service's",
                holds,
                "leave the port out, or use forward = \"nat\"",
            ));
        }
    }
    if networks.owner(address).is_some() || address.is_loopback() {
        if real.method == Method::Dr {
            return Ok(());
        }
        let holds = format!("the director serves by itself what it gets as it is, not by {}", real.method);
        return Err(Fault::new(
            "an own address as real server",
            holds,
            "use forward = \"dr\", or name another host",
        ));
    }
    if vips.contains(&address) {
        return Err(Fault::new(
            "a VIP as real server",
            "a real server has an address of its own",
            "name that address",
        ));
    }
    if is_link_local(address) {
        let holds = "a link-local address belongs to one NIC";
        return Err(Fault::new("a link-local real server", holds, "name a global or unique local address"));
    }
    check_way(real, networks)
}

/// Is there a way to the real server that its method can use?
fn check_way(real: &Real, networks: &Networks) -> Result<(), Fault> {
    let address = real.address.ip();
    if !networks.known {
        return Ok(());
    }
    let Some(hop) = networks.hop(address) else {
        let holds = "it is in no network of a NIC and no route leads there";
        return Err(Fault::new(
            "no way to the real server",
            holds,
            "add an address to a NIC, a gateway or a [[route]]",
        ));
    };
    if let (Method::Dr, Some(via)) = (real.method, hop.via) {
        let holds = format!("dr reaches neighbours only, and the way there leads through {via}");
        return Err(Fault::new(
            "a dr real server behind a router",
            holds,
            "use forward = \"tun\" or \"nat\"",
        ));
    }
    let same_family = |net: &ipnet::IpNet| net.addr().is_ipv4() == address.is_ipv4();
    if real.method == Method::Tun
        && !networks.own.iter().any(|(net, nic)| *nic == hop.nic && same_family(net))
    {
        let holds = "the NIC that leads there has no address of its family";
        return Err(Fault::new("nowhere for the tunnel to start", holds, "add one to the NIC's addresses"));
    }
    Ok(())
}

//! Between the table that ipvsadm speaks of and what a director is configured with: the one place that says what of it
//! this director can take. What it cannot is refused by name, never passed over.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use shunt_dataplane::address;
use shunt_dataplane::connections::{TcpState, Timeouts as ConnectionTimeouts};
use shunt_dataplane::counters::RealCounters;
use shunt_dataplane::id;
use shunt_dataplane::service::mark::Mark;
use shunt_dataplane::service::schedulers::{Flags, Scheduler};
use shunt_dataplane::service::{self, Method, ServiceTimeouts, Settings, Thresholds, tunnel};
use shunt_dataplane::snapshot::{RealPlan, ServicePlan};
use shunt_dataplane::time::Ticks;
use shunt_model::ipvsadm::table::{
    Counters, Destination, Family, Forward, Key, Netmask, Numbers, Persistence, Protocol, Refused,
    SchedulerFlags, Service, Timeouts, Tunnel, TunnelChecksum, TunnelKind,
};
use shunt_model::limit::TIMEOUT_MAX;

/// What a service is known by.
#[must_use]
pub fn key(listen: SocketAddr, protocol: id::Protocol) -> Key {
    match Mark::of(listen) {
        Some(mark) if listen.is_ipv4() => Key::Mark(mark.number(), Family::V4),
        Some(mark) => Key::Mark(mark.number(), Family::V6),
        None => Key::Address(protocol.into(), listen),
    }
}

/// Where a service listens; a mark's has a place of its own.
///
/// # Errors
/// What this director cannot do yet.
pub fn place(key: Key) -> Result<(SocketAddr, id::Protocol), Refused> {
    match key {
        Key::Address(_, listen) if Mark::of(listen).is_some() => {
            Err(cannot(key, "an address that no host has, with port 0", "name the VIP, or a mark by -f"))
        }
        Key::Address(Protocol::Tcp, listen) => Ok((listen, id::Protocol::Tcp)),
        Key::Address(Protocol::Udp, listen) => Ok((listen, id::Protocol::Udp)),
        Key::Address(Protocol::Sctp, listen) => Ok((listen, id::Protocol::Sctp)),
        Key::Mark(number, family) => {
            let mark = Mark::new(number).ok_or_else(|| {
                cannot(key, &format!("the mark {number}"), &format!("choose one from 1 to {}", Mark::MAX))
            })?;
            let family = match family {
                Family::V4 => address::Family::V4,
                Family::V6 => address::Family::V6,
            };
            // The mark takes all protocols; this one only fills the place.
            Ok((mark.listen(family), id::Protocol::Tcp))
        }
    }
}

/// A service as ipvsadm shows it; nothing is counted yet.
#[must_use]
pub fn shown(plan: &ServicePlan) -> Service {
    let ServicePlan { name: _, listen, protocol, scheduler, settings, reals } = plan;
    let Settings { flags, one_packet, persistence, timeouts: _, mss_clamp: _, share: _ } = settings;
    let bit = |set: bool, flag: SchedulerFlags| if set { flag.0 } else { 0 };
    Service {
        key: key(*listen, *protocol),
        scheduler: scheduler.word().to_owned(),
        flags: SchedulerFlags(
            bit(flags.fallback, SchedulerFlags::FALLBACK)
                | bit(flags.port, SchedulerFlags::PORT)
                | bit(flags.third, SchedulerFlags::THIRD),
        ),
        persistence: persistence.map(|persistence| shown_persistence(persistence, *listen)),
        engine: None,
        one_packet: *one_packet,
        destinations: reals.iter().map(|real| shown_real(real, *listen)).collect(),
        counters: Counters::default(),
    }
}

fn shown_persistence(persistence: service::Persistence, listen: SocketAddr) -> Persistence {
    let service::Persistence { timeout, netmask } = persistence;
    Persistence {
        timeout: timeout.as_duration().as_secs() as u32,
        netmask: match listen {
            SocketAddr::V4(_) => {
                let zeros = 32_u32.saturating_sub(netmask.into());
                Netmask::V4(Ipv4Addr::from_bits(u32::MAX.checked_shl(zeros).unwrap_or(0)))
            }
            SocketAddr::V6(_) => Netmask::V6(netmask.min(128)),
        },
    }
}

/// Persistence as this director runs it: a mask is the length of a prefix.
fn persistence(key: Key, persistence: Persistence) -> Result<service::Persistence, Refused> {
    let netmask = match persistence.netmask {
        Netmask::V6(length) => length,
        Netmask::V4(mask) if mask.to_bits().leading_ones() == mask.to_bits().count_ones() => {
            mask.to_bits().count_ones() as u8
        }
        Netmask::V4(mask) => {
            let what = format!("the netmask {mask}, whose bits are not together");
            return Err(cannot(key, &what, "name one such as 255.255.255.0"));
        }
    };
    if persistence.timeout > TIMEOUT_MAX.as_secs() as u32 {
        let what = format!("a persistence of {} s", persistence.timeout);
        return Err(cannot(key, &what, &format!("name at most {}", TIMEOUT_MAX.as_secs())));
    }
    Ok(service::Persistence { timeout: Ticks::from_seconds(persistence.timeout), netmask })
}

fn shown_real(real: &RealPlan, listen: SocketAddr) -> Destination {
    let RealPlan { address, method, tunnel, weight, thresholds, up: _ } = *real;
    Destination {
        // A method that does not rewrite keeps the service's port, where it has one: a mark's has none.
        address: match method {
            Method::Dr | Method::Tun if Mark::of(listen).is_none() => {
                SocketAddr::new(address.ip(), listen.port())
            }
            Method::Dr | Method::Tun | Method::Nat => address,
        },
        forward: match method {
            Method::Nat => Forward::Masquerade,
            Method::Dr => Forward::Route,
            Method::Tun => Forward::Tunnel(shown_tunnel(tunnel)),
        },
        weight,
        upper: thresholds.upper,
        lower: thresholds.lower,
        counters: Counters::default(),
    }
}

/// A service as this director runs it, under this name.
///
/// # Errors
/// What it cannot do yet.
pub fn plan(service: &Service, name: &str) -> Result<ServicePlan, Refused> {
    let Service {
        key,
        scheduler,
        flags,
        persistence: persists,
        engine,
        one_packet,
        destinations,
        counters: _,
    } = service;
    let (listen, protocol) = place(*key)?;
    if let Some(engine) = engine {
        return Err(cannot(*key, &format!("the persistence engine {engine}"), "leave --pe out"));
    }
    let known = Scheduler::ALL.iter().copied().find(|known| known.word() == scheduler);
    let scheduler =
        known.ok_or_else(|| cannot(*key, &format!("the scheduler {scheduler}"), "name another"))?;
    let has = |flag: SchedulerFlags| flags.0 & flag.0 != 0;
    let flags = Flags {
        fallback: has(SchedulerFlags::FALLBACK),
        port: has(SchedulerFlags::PORT),
        third: has(SchedulerFlags::THIRD),
    };
    Ok(ServicePlan {
        name: name.to_owned(),
        listen,
        protocol,
        scheduler,
        settings: Settings {
            flags,
            one_packet: *one_packet,
            persistence: persists.map(|persists| persistence(*key, persists)).transpose()?,
            timeouts: ServiceTimeouts::default(),
            mss_clamp: false,
            share: shunt_config::SERVICE_SHARE_DEFAULT,
        },
        reals: destinations.iter().map(real_plan).collect(),
    })
}

fn real_plan(destination: &Destination) -> RealPlan {
    let Destination { address, forward, weight, upper, lower, counters: _ } = *destination;
    let (method, tunnel) = match forward {
        Forward::Masquerade => (Method::Nat, tunnel::Tunnel::Ipip),
        Forward::Route => (Method::Dr, tunnel::Tunnel::Ipip),
        Forward::Tunnel(tunnel) => (Method::Tun, planned_tunnel(tunnel)),
    };
    RealPlan { address, method, tunnel, weight, thresholds: Thresholds { upper, lower }, up: true }
}

fn shown_tunnel(tunnel: tunnel::Tunnel) -> Tunnel {
    let of = |checksum| match checksum {
        tunnel::TunnelChecksum::None => TunnelChecksum::None,
        tunnel::TunnelChecksum::Full => TunnelChecksum::Checksum,
        tunnel::TunnelChecksum::Remote => TunnelChecksum::Remote,
    };
    match tunnel {
        tunnel::Tunnel::Ipip => Tunnel::IPIP,
        tunnel::Tunnel::Gre { checksum } => Tunnel {
            kind: TunnelKind::Gre,
            port: 0,
            checksum: if checksum { TunnelChecksum::Checksum } else { TunnelChecksum::None },
        },
        tunnel::Tunnel::Gue { l4_port, checksum } => {
            Tunnel { kind: TunnelKind::Gue, port: l4_port.0, checksum: of(checksum) }
        }
    }
}

fn planned_tunnel(Tunnel { kind, port, checksum }: Tunnel) -> tunnel::Tunnel {
    match kind {
        TunnelKind::Ipip => tunnel::Tunnel::Ipip,
        TunnelKind::Gre => tunnel::Tunnel::Gre { checksum: checksum != TunnelChecksum::None },
        TunnelKind::Gue => tunnel::Tunnel::Gue {
            l4_port: id::L4Port(port),
            checksum: match checksum {
                TunnelChecksum::None => tunnel::TunnelChecksum::None,
                TunnelChecksum::Checksum => tunnel::TunnelChecksum::Full,
                TunnelChecksum::Remote => tunnel::TunnelChecksum::Remote,
            },
        },
    }
}

/// A service as it is configured: what ipvsadm does not know of (its name, its health check) is taken from `old`.
///
/// # Errors
/// What this director cannot do yet.
pub fn configured(
    service: &Service,
    old: Option<&shunt_config::Service>,
) -> Result<shunt_config::Service, Refused> {
    let name = match service.key {
        Key::Address(protocol, listen) => format!("{}-{listen}", protocol.word()),
        Key::Mark(mark, Family::V4) => format!("fwmark-{mark}"),
        Key::Mark(mark, Family::V6) => format!("fwmark-{mark}-ipv6"),
    };
    let ServicePlan { name, listen, protocol, scheduler, settings, reals } =
        plan(service, old.map_or(&name, |old| &old.name))?;
    // ipvsadm does not know of these.
    let timeouts = old.map_or_else(ServiceTimeouts::default, |old| old.settings.timeouts);
    let mss_clamp = old.is_some_and(|old| old.settings.mss_clamp);
    let share = old.map_or(settings.share, |old| old.settings.share);
    let settings = Settings { timeouts, mss_clamp, share, ..settings };
    let pool = old.map(|old| old.pool.clone()).unwrap_or_default();
    let checks: Arc<[shunt_config::Check]> = old.map(|old| old.checks.clone()).unwrap_or_default();
    let reals = reals.into_iter().map(|real| {
        let RealPlan { address, method, tunnel, weight, thresholds, up: _ } = real;
        let before = old.and_then(|old| old.reals.iter().find(|real| real.address == address));
        let checks = before.map_or_else(|| checks.clone(), |real| real.checks.clone());
        let inhibit_on_failure = before.map_or(pool.inhibit_on_failure, |real| real.inhibit_on_failure);
        let notify = before.map_or_else(|| pool.notify.clone(), |real| real.notify.clone());
        let passive = before.map_or(pool.passive, |real| real.passive);
        shunt_config::Real {
            address,
            weight,
            thresholds,
            method,
            tunnel,
            inhibit_on_failure,
            notify,
            checks,
            passive,
        }
    });
    Ok(shunt_config::Service {
        name,
        listen,
        protocol,
        scheduler,
        settings,
        forward: old.map_or(Method::Dr, |old| old.forward),
        reals: reals.collect(),
        checks,
        pool: pool.clone(),
    })
}

fn cannot(key: Key, what: &str, advice: &str) -> Refused {
    Refused::Director(format!(
        "ipvsadm: {key}: {what}: this director cannot do that yet: nothing was changed: {advice}"
    ))
}

/// Timeouts as ipvsadm shows them, in whole seconds.
#[must_use]
pub fn shown_timeouts(timeouts: &ConnectionTimeouts) -> Timeouts {
    let seconds = |ticks: Ticks| ticks.as_duration().as_secs() as u32;
    Timeouts {
        tcp: seconds(timeouts.of(TcpState::Established)),
        tcp_fin: seconds(timeouts.of(TcpState::FinWait)),
        udp: seconds(timeouts.udp),
    }
}

/// Timeouts after `--set`.
#[must_use]
pub fn timeouts(before: &ConnectionTimeouts, set: Timeouts) -> ConnectionTimeouts {
    let Timeouts { tcp, tcp_fin, udp } = set;
    let [tcp, tcp_fin, udp] = [tcp, tcp_fin, udp].map(Ticks::from_seconds);
    before.clone().with(tcp, tcp_fin, udp)
}

/// What was counted for a real server.
#[must_use]
pub fn counted(counters: &RealCounters) -> Counters {
    Counters {
        active: counters.sum(|cell| &cell.active),
        inactive: counters.sum(|cell| &cell.inactive),
        persistent: counters.sum(|cell| &cell.persistent),
        totals: Numbers {
            connections: counters.sum(|cell| &cell.connections),
            packets_in: counters.sum(|cell| &cell.packets_in),
            packets_out: counters.sum(|cell| &cell.packets_out),
            bytes_in: counters.sum(|cell| &cell.bytes_in),
            bytes_out: counters.sum(|cell| &cell.bytes_out),
        },
        rates: Numbers::default(),
    }
}

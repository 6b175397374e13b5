//! Services that stand in no file, written as a file would have them, so that the same checks hold for them.

use std::net::SocketAddr;

use shunt_dataplane::id::L4Port;
use shunt_model::fault::At;

use super::tunnels;
use crate::document::{
    PassiveDocument, PersistenceDocument, PoolDocument, RealDocument, SchedulerFlag, ServiceDocument,
};
use crate::{Real, Service};

/// A value that stands nowhere.
const fn nowhere<T>(value: T) -> At<T> {
    At::new(value, 0..0)
}

/// A service. Its health check is left out: what a file says about it was checked when that was read.
pub fn service(service: &Service) -> ServiceDocument {
    let place = format!("service \"{}\"", service.name);
    let flags = service.settings.flags;
    let flags = [
        (flags.fallback, SchedulerFlag::Fallback),
        (flags.port, SchedulerFlag::Port),
        (flags.third, SchedulerFlag::Third),
    ];
    ServiceDocument {
        at: 0..0,
        name: Some(nowhere(service.name.clone())),
        listen: Some(nowhere(service.listen)),
        protocol: Some(nowhere(service.protocol)),
        scheduler: Some(nowhere(service.scheduler)),
        scheduler_flags: flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| nowhere(flag)).collect(),
        one_packet: Some(nowhere(service.settings.one_packet)),
        mss_clamp: Some(nowhere(service.settings.mss_clamp)),
        share: Some(nowhere(service.settings.share.0)),
        timeouts: service.settings.timeouts,
        persistence: service.settings.persistence.map(|persistence| PersistenceDocument {
            timeout: Some(nowhere(persistence.timeout.as_duration())),
            netmask: Some(nowhere(persistence.netmask)),
        }),
        forward: Some(nowhere(service.forward)),
        checks: None,
        pool: PoolDocument::default(),
        reals: service.reals.iter().map(|one| real(one, service.listen, &place)).collect(),
        reals_known: true,
        place,
    }
}

fn real(real: &Real, listen: SocketAddr, service: &str) -> RealDocument {
    let address = real.address;
    // As a file would name it: without the service's port.
    let shown = if address.port() == listen.port() { address.ip().to_string() } else { address.to_string() };
    let (tunnel, tunnel_port, tunnel_checksum) = tunnels::written(real.tunnel, real.method);
    RealDocument {
        place: format!("{service}, real \"{shown}\""),
        address: Some(nowhere((address.ip(), Some(L4Port(address.port()))))),
        weight: Some(nowhere(real.weight)),
        upper_threshold: Some(nowhere(real.thresholds.upper)),
        lower_threshold: Some(nowhere(real.thresholds.lower)),
        forward: Some(nowhere(real.method)),
        tunnel: tunnel.map(nowhere),
        tunnel_port: tunnel_port.map(nowhere),
        tunnel_checksum: tunnel_checksum.map(nowhere),
        inhibit_on_failure: None,
        passive: PassiveDocument::default(),
        notify_up: None,
        notify_down: None,
        checks: None,
    }
}

//! What real servers' tunnels are made of.

use shunt_dataplane::id::L4Port;
use shunt_dataplane::service::Method;
use shunt_dataplane::service::tunnel::{Tunnel, TunnelChecksum};
use shunt_model::fault::Fault;

use crate::document::{RealDocument, TunnelKind};
use crate::problem::Findings;

/// The tunnel of a real server as far as it is described.
pub(super) fn tunnel(real: &RealDocument) -> Tunnel {
    let checksum = real.tunnel_checksum.as_ref().map_or(TunnelChecksum::None, |checksum| checksum.value);
    match real.tunnel.as_ref().map_or(TunnelKind::Ipip, |kind| kind.value) {
        TunnelKind::Ipip => Tunnel::Ipip,
        TunnelKind::Gre => Tunnel::Gre { checksum: checksum != TunnelChecksum::None },
        TunnelKind::Gue => {
            Tunnel::Gue { l4_port: L4Port(real.tunnel_port.as_ref().map_or(0, |port| port.value)), checksum }
        }
    }
}

/// A tunnel as a file would describe it.
pub(super) fn written(
    tunnel: Tunnel,
    method: Method,
) -> (Option<TunnelKind>, Option<u16>, Option<TunnelChecksum>) {
    match tunnel {
        _ if method != Method::Tun => (None, None, None),
        Tunnel::Ipip => (Some(TunnelKind::Ipip), None, None),
        Tunnel::Gre { checksum: true } => (Some(TunnelKind::Gre), None, Some(TunnelChecksum::Full)),
        Tunnel::Gre { checksum: false } => (Some(TunnelKind::Gre), None, None),
        Tunnel::Gue { l4_port, checksum } => (Some(TunnelKind::Gue), Some(l4_port.0), Some(checksum)),
    }
}

/// Says what of a tunnel does not fit the rest of it.
pub(super) fn check(real: &RealDocument, method: Method, findings: &mut Findings<'_>) {
    let kind = real.tunnel.as_ref().map_or(TunnelKind::Ipip, |kind| kind.value);
    let mut wrong = |at, wrong: &str, holds: &str, advice: &str| {
        findings.error(&real.place, at, Fault::new(wrong, holds.to_owned(), advice.to_owned()));
    };
    if method != Method::Tun {
        let keys = [
            ("tunnel", real.tunnel.as_ref().map(|value| &value.at)),
            ("tunnel_port", real.tunnel_port.as_ref().map(|value| &value.at)),
            ("tunnel_checksum", real.tunnel_checksum.as_ref().map(|value| &value.at)),
        ];
        for (key, at) in keys {
            let Some(at) = at else { continue };
            let holds = format!("it is reached by {method}");
            let advice = format!("remove {key}, or use forward = \"tun\"");
            wrong(at, "a tunnel's key for a real server without tunnel", &holds, &advice);
        }
        return;
    }
    match (kind, &real.tunnel_port) {
        (TunnelKind::Gue, None) => {
            if let Some(kind) = &real.tunnel {
                let holds = "GUE is UDP to a port of the real server";
                wrong(
                    &kind.at,
                    "a gue tunnel without tunnel_port",
                    holds,
                    "add one, such as tunnel_port = 6080",
                );
            }
        }
        (TunnelKind::Ipip | TunnelKind::Gre, Some(port)) => {
            let holds = "only gue has a port";
            wrong(
                &port.at,
                "tunnel_port of a tunnel that is not gue",
                holds,
                "remove it, or use tunnel = \"gue\"",
            );
        }
        _ => {}
    }
    let Some(checksum) = &real.tunnel_checksum else { return };
    match (kind, checksum.value) {
        (TunnelKind::Ipip, _) => {
            let holds = "an IP header inside another has its own checksum";
            wrong(&checksum.at, "tunnel_checksum of an ipip tunnel", holds, "remove it");
        }
        (TunnelKind::Gre, TunnelChecksum::Remote) => {
            let holds = "remote checksum offload is GUE's";
            wrong(&checksum.at, "a gre tunnel with remote checksum", holds, "use \"full\" or \"none\"");
        }
        _ => {}
    }
}

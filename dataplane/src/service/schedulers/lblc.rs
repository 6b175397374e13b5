//! Locality-based least connection (kernel: `ip_vs_lblc.c`): an address that clients ask for keeps its real server, chosen
//! like `wlc`, until that one is overloaded while another has hardly anything to do.

use super::locality::{self, Learned, Localities, Locality};
use super::{Client, wlc};
use crate::service::Service;
use crate::time::Tick;

pub(super) fn choose(
    service: &Service,
    client: &Client,
    localities: &Localities,
    now: Tick,
) -> Option<(usize, Learned)> {
    let known = localities.get(service, client.destination, now);
    if let Some(place) = known.and_then(|locality| usable(service, locality)) {
        return Some((place, Learned::Used));
    }
    let place = wlc::choose(service)?;
    Some((place, Learned::Alone(service.candidates[place].real)))
}

/// The real server of a locality, if it takes connections.
fn usable(service: &Service, locality: &Locality) -> Option<usize> {
    let place = locality.reals().first()?.find(&service.candidates)?;
    let candidate = &service.candidates[place];
    (candidate.weight > 0 && !locality::is_overloaded(service, candidate)).then_some(place)
}

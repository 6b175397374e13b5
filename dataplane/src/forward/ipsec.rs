//! IPsec beside IKE: ESP and AH have no ports, and go where the client's connection by UDP port 500 goes (kernel: `ip_vs_proto_ah_esp`).
//! They begin no connection.

use super::decide::Asked;
use super::decision::{Case, Decided, Decision, Subject};
use super::{Aside, Forwarder, Tables};
use crate::address::Address;
use crate::flow::Flow;
use crate::id::{L4Port, Protocol};
use crate::reason::DropReason;
use crate::service::Standing;
use crate::snapshot::Local;
use crate::wire::{Fragment, Headers, IpVersion};

/// IP protocol of the encapsulating security payload (RFC 4303).
const ESP: u8 = 50;
/// IP protocol of the authentication header (RFC 4302).
const AH: u8 = 51;
/// Where IKE is asked for, and asks from (RFC 7296, 2).
const IKE: L4Port = L4Port(500);

/// The flow of the IKE packets beside an IPsec packet.
pub(super) fn ike_beside<A: Address>(headers: &Headers<A>) -> Option<Flow<A>> {
    let is_ipsec = matches!(headers.protocol, ESP | AH) && headers.fragment != Fragment::Later;
    is_ipsec.then_some(Flow {
        source: headers.source,
        destination: headers.destination,
        source_port: IKE,
        destination_port: IKE,
        protocol: Protocol::Udp,
    })
}

impl Forwarder {
    /// What becomes of an IPsec packet of somebody who has a connection of IKE; none for any other packet.
    pub(super) fn ipsec<'s, A: Tables + IpVersion>(
        &self,
        asked: &Asked<'s, '_, A>,
    ) -> Option<Decided<'s, A>> {
        let headers = asked.headers;
        let flow = ike_beside(headers).filter(|_| !headers.link_group)?;
        // Without services the kernel's IPVS does not see packets.
        if asked.tables.services.is_empty() {
            return None;
        }
        match asked.local() {
            Err(aside) => return Some(Err(aside)),
            Ok(Some(Local::Elsewhere)) => return None,
            Ok(_) => {}
        }
        if asked.snapshot.owners.workers > 1 && !asked.packet.handed_over {
            let owned = self.own(asked.snapshot, asked.packet.nic, flow.source, flow.destination);
            if let Err(Case::HandOver(owner)) = owned {
                return Some(Err(Aside::HandOver(owner)));
            }
        }
        let table = A::table(&self.connections);
        let Some(found) = table.find(table.hash(&flow), &flow, asked.now) else {
            return asked.comes_from_service(&flow).then(|| self.passing_by(asked, &flow, asked.now));
        };
        let entry = table.entry(found.index);
        let real = asked.snapshot.real(entry.real()).filter(|real| !real.is_masquerade())?;
        if real.standing == Standing::Removed {
            return Some(Err(Aside::Drop(DropReason::RealRemoved)));
        }
        Some(Ok(Decision { subject: Subject::Found(found, real), then: asked.along(found, entry, real) }))
    }
}

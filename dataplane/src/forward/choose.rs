//! Which real server a new connection goes to: the one that its client persists at, else the one that the scheduler chooses
//! (kernel: `ip_vs_sched_persist`, `ip_vs_schedule`).

use super::{Forwarder, Tables};
use crate::address::Address;
use crate::connections::{NewTemplate, TemplateIndex, TemplateKey};
use crate::flow::Flow;
use crate::id::L4Port;
use crate::service::mark::Mark;
use crate::service::schedulers::{self, Choice, Client, Cursor};
use crate::service::table::FTP;
use crate::service::{Persistence, Real, Service, Standing};
use crate::snapshot::Snapshot;
use crate::time::Tick;

/// The template of a new connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Controlling {
    /// None: its service is not persistent.
    None,
    /// One that exists.
    Existing(TemplateIndex),
    /// One to be made ([`new_template`]), in the place of this one.
    New(Option<TemplateIndex>),
}

/// What was chosen, by the scheduler or by a template.
pub(super) type Chosen<'s> = (Option<Choice>, Controlling, &'s Real);

impl Forwarder {
    /// Chooses a real server for a new connection; `locality` is the address that it is for, in the eyes of the schedulers that go by that.
    ///
    /// # Errors
    /// When nobody takes it: the template that the client had is stale then.
    pub(super) fn choose<'s, A: Tables>(
        &self,
        snapshot: &'s Snapshot,
        service: &Service,
        (flow, locality): (&Flow<A>, A),
        now: Tick,
    ) -> Result<Chosen<'s>, Option<TemplateIndex>> {
        match service.settings.persistence {
            // Only a client that persists has its FTP data go where its FTP went.
            None if is_ftp_data(service, flow) => Err(None),
            None => {
                let (choice, real) = self.schedule(snapshot, service, (flow, locality), now).ok_or(None)?;
                Ok((Some(choice), Controlling::None, real))
            }
            Some(persistence) => self.persist(snapshot, service, persistence, (flow, locality), now),
        }
    }

    fn schedule<'s, A: Tables>(
        &self,
        snapshot: &'s Snapshot,
        service: &Service,
        (flow, locality): (&Flow<A>, A),
        now: Tick,
    ) -> Option<(Choice, &'s Real)> {
        let client =
            Client { address: flow.source.into(), l4_port: flow.source_port, destination: locality.into() };
        let fresh = Cursor::default();
        let cursor = self.cursors.get(service.id.index()).unwrap_or(&fresh);
        let choice = schedulers::choose(service, cursor, &self.localities, &client, now)?;
        Some((choice, snapshot.real(service.candidates.get(choice.candidate)?.real)?))
    }

    #[inline(never)]
    fn persist<'s, A: Tables>(
        &self,
        snapshot: &'s Snapshot,
        service: &Service,
        persistence: Persistence,
        (flow, locality): (&Flow<A>, A),
        now: Tick,
    ) -> Result<Chosen<'s>, Option<TemplateIndex>> {
        let key = template_key(service, persistence, flow);
        let templates = A::table(&self.connections).templates();
        let found = templates.find(&key, now);
        if let Some(index) = found {
            let real = snapshot.real(templates.get(index).real());
            if let Some(real) = real.filter(|real| takes_its_clients(snapshot, real)) {
                return Ok((None, Controlling::Existing(index), real));
            }
        }
        let (choice, real) = self.schedule(snapshot, service, (flow, locality), now).ok_or(found)?;
        Ok((Some(choice), Controlling::New(found), real))
    }
}

/// True when a service of FTP has a packet that is for another port than its own: data, perhaps (kernel: `ip_vs_leave`).
pub(super) fn is_ftp_data<A>(service: &Service, flow: &Flow<A>) -> bool {
    service.listen.port() == FTP.0 && flow.destination_port != FTP
}

/// The port that a new connection for `asked` reaches its real server at: the real server's, or that of the packet where it has
/// none, and where a persistent service has other ports than the one that it listens at: FTP's data, all ports, a firewall mark
/// (kernel: `ip_vs_sched_persist`).
pub(super) fn real_port(service: &Service, real: &Real, asked: L4Port) -> L4Port {
    let is_kept = service.settings.persistence.is_some() && asked.0 != service.listen.port();
    if is_kept || real.l4_port.0 == 0 { asked } else { real.l4_port }
}

/// The template by which the connections of a flow's client go to a real server; none when the service is not persistent.
pub(super) fn new_template<A: Address>(
    service: &Service,
    real: &Real,
    flow: &Flow<A>,
) -> Option<NewTemplate<A>> {
    let persistence = service.settings.persistence?;
    let own_port = asks_for_its_port(service, flow) && flow.destination_port != FTP;
    Some(NewTemplate {
        key: template_key(service, persistence, flow),
        real: real.id,
        real_address: A::from_ip(real.address).unwrap_or(A::UNSPECIFIED),
        real_port: if own_port { real_port(service, real, flow.destination_port) } else { L4Port(0) },
        timeout: persistence.timeout,
    })
}

/// True for a packet to the very port that the service listens at: 0, for one of all ports or of a firewall mark.
fn asks_for_its_port<A>(service: &Service, flow: &Flow<A>) -> bool {
    flow.destination_port.0 == service.listen.port()
}

/// By what the template of a flow is found. That of FTP is one of all ports, so that it holds for data, and for a service of all
/// ports beside it.
fn template_key<A: Address>(service: &Service, persistence: Persistence, flow: &Flow<A>) -> TemplateKey<A> {
    let client = flow.source.masked(persistence.netmask);
    let own_port = asks_for_its_port(service, flow);
    if Mark::of(service.listen).is_some() && !own_port {
        let vip = A::from_ip(service.listen.ip()).unwrap_or(A::UNSPECIFIED);
        return TemplateKey { client, vip, vip_port: L4Port(0), protocol: None };
    }
    let vip_port = if own_port && flow.destination_port != FTP { flow.destination_port } else { L4Port(0) };
    TemplateKey { client, vip: flow.destination, vip_port, protocol: Some(flow.protocol) }
}

/// True when a real server takes new connections of clients that persist at it (kernel: `ip_vs_check_template`), whichever
/// service it is of. One that fails its check takes none, of which the kernel knows nothing.
fn takes_its_clients(snapshot: &Snapshot, real: &Real) -> bool {
    let quiesced = real.weight == 0 && snapshot.sysctls.expire_quiescent_template;
    matches!(real.standing, Standing::Up | Standing::Divided) && !quiesced
}

//! Which real server a new connection goes to: the one that its client persists at, else the one that the scheduler chooses
//! (kernel: `ip_vs_sched_persist`, `ip_vs_schedule`).

use super::decide::real_port;
use super::{Forwarder, Tables};
use crate::address::Address;
use crate::connections::{NewTemplate, TemplateIndex, TemplateKey};
use crate::flow::Flow;
use crate::id::L4Port;
use crate::service::mark::Mark;
use crate::service::schedulers::{self, Choice, Client, Cursor};
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
            if let Some(real) = real.filter(|real| takes_its_clients(snapshot, service, real)) {
                return Ok((None, Controlling::Existing(index), real));
            }
        }
        let (choice, real) = self.schedule(snapshot, service, (flow, locality), now).ok_or(found)?;
        Ok((Some(choice), Controlling::New(found), real))
    }
}

/// The template by which the connections of a flow's client go to a real server; none when the service is not persistent.
pub(super) fn new_template<A: Address>(
    service: &Service,
    real: &Real,
    flow: &Flow<A>,
) -> Option<NewTemplate<A>> {
    let persistence = service.settings.persistence?;
    let key = template_key(service, persistence, flow);
    let all_ports = key.vip_port == L4Port(0);
    Some(NewTemplate {
        key,
        real: real.id,
        real_address: A::from_ip(real.address).unwrap_or(A::UNSPECIFIED),
        real_port: if all_ports { L4Port(0) } else { real_port(real, flow.destination_port) },
        timeout: persistence.timeout,
    })
}

/// By what the template of a flow is found.
fn template_key<A: Address>(service: &Service, persistence: Persistence, flow: &Flow<A>) -> TemplateKey<A> {
    let client = flow.source.masked(persistence.netmask);
    if Mark::of(service.listen).is_some() {
        let vip = A::from_ip(service.listen.ip()).unwrap_or(A::UNSPECIFIED);
        return TemplateKey { client, vip, vip_port: L4Port(0), protocol: None };
    }
    TemplateKey {
        client,
        vip: flow.destination,
        vip_port: L4Port(service.listen.port()),
        protocol: Some(flow.protocol),
    }
}

/// True when a real server takes new connections of clients that persist at it (kernel: `ip_vs_check_template`). One
/// that fails its check takes none, of which the kernel knows nothing.
fn takes_its_clients(snapshot: &Snapshot, service: &Service, real: &Real) -> bool {
    let quiesced = real.weight == 0 && snapshot.sysctls.expire_quiescent_template;
    real.service == service.id && matches!(real.standing, Standing::Up | Standing::Divided) && !quiesced
}

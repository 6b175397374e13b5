//! What the director would do with a packet, and why: `decide` on a built packet, told in steps. Nothing is
//! changed by asking.

use std::net::{IpAddr, SocketAddr};

use super::decision::{Decision, Subject, Then};
use super::{Aside, Forwarder, Parsed, Punt, Staged, Tables};
use crate::address::Address;
use crate::connections::Direction;
use crate::id::{L4Port, NicId, RealId, WorkerId};
use crate::packet::Packet;
use crate::reason::{DropReason, ReplyKind};
use crate::service::{Method, NextHop};
use crate::snapshot::Snapshot;
use crate::time::Tick;
use crate::wire::IpVersion;

/// The steps of a decision, in order.
pub type Explanation = Vec<Step>;

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The worker that owns the client.
    Owner(WorkerId),
    /// A connection exists, in this state.
    Connection {
        /// Its state, in `ipvsadm`'s word.
        state: &'static str,
        /// True for a packet from the real server.
        from_real: bool,
    },
    /// No connection: this service's scheduler is asked.
    Service {
        /// Its name.
        name: String,
        /// Its scheduler's word.
        scheduler: &'static str,
    },
    /// No connection: the client persists at a real server of this service.
    Persistence {
        /// Its name.
        name: String,
    },
    /// The real server that has, or would get, the connection.
    Real {
        /// Which.
        id: RealId,
        /// RIP.
        address: IpAddr,
        /// How packets reach it.
        method: Method,
    },
    /// No real server takes it: on to its own destination.
    Bypass,
    /// It leaves, or comes back, by an address of the director's.
    Masquerade {
        /// The masqueraded host.
        host: SocketAddr,
        /// What others see of it.
        address: SocketAddr,
    },
    /// The next hop.
    NextHop(NextHop),
    /// It would be answered.
    Reply(ReplyKind, NicId),
    /// It would go to the control core.
    Punt(Punt),
    /// It would go to another worker.
    HandOver(WorkerId),
    /// It is a fragment, and would be put together with the others of its datagram.
    Gather,
    /// It would be dropped.
    Drop(DropReason),
}

impl Forwarder {
    /// Explains what would become of `packet` now.
    #[must_use]
    pub fn explain(&self, snapshot: &Snapshot, packet: &Packet<'_>, now: Tick) -> Explanation {
        match self.parse(snapshot, packet) {
            Ok(Parsed::V4(staged)) => self.explain_decision(snapshot, packet, &staged, now),
            Ok(Parsed::V6(staged)) => self.explain_decision(snapshot, packet, &staged, now),
            Err(aside) => vec![aside.into()],
        }
    }

    fn explain_decision<A: Tables + IpVersion>(
        &self,
        snapshot: &Snapshot,
        packet: &Packet<'_>,
        staged: &Staged<A>,
        now: Tick,
    ) -> Explanation {
        match self.decide(snapshot, packet, staged, now) {
            Ok(decision) => {
                let mut steps = vec![Step::Owner(self.worker)];
                self.explain_subject(snapshot, &decision, &mut steps);
                steps.push(match decision.then {
                    Then::Forward(hop) | Then::Fragment(hop) => Step::NextHop(*hop),
                    Then::Reply(answer, hop) => Step::Reply(answer.kind(), hop.nic),
                    Then::Punt(unresolved) => Step::Punt(Punt::Unresolved(unresolved)),
                    Then::Local => Step::Punt(Punt::Local),
                    Then::Drop(reason) => Step::Drop(reason),
                });
                steps
            }
            Err(aside) => vec![aside.into()],
        }
    }

    fn explain_subject<A: Tables>(
        &self,
        snapshot: &Snapshot,
        decision: &Decision<'_, A>,
        steps: &mut Explanation,
    ) {
        let real = match &decision.subject {
            Subject::None | Subject::Over(..) | Subject::Untaken(..) => return,
            Subject::Tunnel(error) => error.real,
            Subject::Found(found, real) | Subject::Error(found, real) | Subject::Echo(found, real) => {
                let entry = A::table(&self.connections).entry(found.index);
                let from_real = found.direction == Direction::FromReal;
                steps.push(Step::Connection { state: entry.state_word(), from_real });
                if real.is_masquerade() {
                    let host = (entry.real_address(), entry.real_port());
                    return steps.push(masqueraded(host, (entry.vip(), entry.vip_port())));
                }
                if real.is_bypass() {
                    return steps.push(Step::Bypass);
                }
                real
            }
            Subject::Bypass(_) => return steps.push(Step::Bypass),
            Subject::Masqueraded(new, ..) => {
                let (host, flow) = ((new.real_address, new.real_port), &new.flow);
                return steps.push(masqueraded(host, (flow.destination, flow.destination_port)));
            }
            Subject::New(new) | Subject::NewError(new, _) => {
                if let Some(service) = snapshot.service(new.service) {
                    let (name, scheduler) = (service.name.to_string(), service.scheduler.word());
                    steps.push(match new.choice {
                        Some(_) => Step::Service { name, scheduler },
                        None => Step::Persistence { name },
                    });
                }
                new.real
            }
        };
        steps.push(Step::Real { id: real.id, address: real.address, method: real.method });
    }
}

fn masqueraded<A: Address>(host: (A, L4Port), address: (A, L4Port)) -> Step {
    let place = |(address, l4_port): (A, L4Port)| SocketAddr::new(address.into(), l4_port.0);
    Step::Masquerade { host: place(host), address: place(address) }
}

impl From<Aside> for Step {
    fn from(aside: Aside) -> Self {
        match aside {
            Aside::Drop(reason) => Self::Drop(reason),
            Aside::Punt(punt) => Self::Punt(punt),
            Aside::HandOver(worker) => Self::HandOver(worker),
            Aside::Gather => Self::Gather,
        }
    }
}

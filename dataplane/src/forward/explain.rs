//! What the director would do with a packet, and why: `decide` on a built packet, told in steps. Nothing is
//! changed by asking.

use std::net::{IpAddr, SocketAddr};

use super::decide::Asked;
use super::decision::{Decision, Subject, Then};
use super::{Aside, Forwarder, Parsed, Punt, Staged, Tables};
use crate::address::Address;
use crate::connections::Direction;
use crate::forwarding::{Nature, RuleNumber};
use crate::id::{L4Port, NicId, RealId, WorkerId};
use crate::packet::Packet;
use crate::reason::{DropReason, ReplyKind};
use crate::service::{Method, NextHop};
use crate::snapshot::{Family, Snapshot};
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
    /// No service's: whether it is passed on.
    Transit(Transit),
    /// The way back to its source leaves by this NIC, not by the one that it came in by; none: there is no way back.
    WayBack {
        /// Its source.
        source: IpAddr,
        /// The NIC that it came in by.
        from: NicId,
        /// The NIC that leads to the source.
        leads: Option<NicId>,
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

/// A packet of no service and what lets it pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transit {
    /// The NIC that it comes in by.
    pub from: NicId,
    /// The NIC that it would leave by; none without a route.
    pub to: Option<NicId>,
    /// Its addresses.
    pub addresses: (IpAddr, IpAddr),
    /// What lets it pass, if it passes.
    pub passes: Option<Passes>,
    /// The rule by which it would pass if that said `both`, or if the packet showed that it answers.
    pub both: Option<RuleNumber>,
}

/// What lets a packet of no service pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// A rule.
    Rule(RuleNumber),
    /// The connection that it answers.
    Connection,
}

impl Forwarder {
    /// Explains what would become of `packet` now. As when it is forwarded, tags that name no VLAN are taken off.
    #[must_use]
    pub fn explain(&self, snapshot: &Snapshot, packet: &mut Packet<'_>, now: Tick) -> Explanation {
        match self.parse_untagged(snapshot, packet) {
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
        let asked = Asked::new(snapshot, packet, &staged.headers, now);
        let decided = match A::malformed(packet.bytes(), &staged.headers) {
            Some(error) => self.tell_of_option(&asked, error),
            None => self.decide(snapshot, packet, staged, now),
        };
        let decided = if matches!(decided, Err(Aside::Gather)) { asked.gathers() } else { decided };
        match decided {
            Ok(decision) => {
                let mut steps = vec![Step::Owner(self.worker)];
                self.explain_subject(snapshot, &decision, &mut steps);
                steps.extend(asked.explain_passing(&decision));
                steps.push(match decision.then {
                    Then::Forward(hop) | Then::Fragment(hop) => Step::NextHop(*hop),
                    Then::Reply(answer, hop) => Step::Reply(answer.kind(), hop.nic),
                    Then::Punt(unresolved) => Step::Punt(Punt::Unresolved(unresolved)),
                    Then::Local => Step::Punt(Punt::Local),
                    Then::Drop(reason) => Step::Drop(reason),
                });
                steps
            }
            Err(aside) => asked.explain_refusal(aside).into_iter().chain([aside.into()]).collect(),
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
            Subject::Noticed(real) => real,
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
                let (id, address, method) = (real.id, real.address, entry.method());
                return steps.push(Step::Real { id, address, method });
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

impl<A: IpVersion + Family> Asked<'_, '_, A> {
    /// What lets a packet pass that is routed.
    fn explain_passing(&self, decision: &Decision<'_, A>) -> Option<Step> {
        let routed = match decision.subject {
            Subject::None | Subject::Noticed(_) => !self.is_to_us(),
            // Others begin with a masqueraded host.
            Subject::Masqueraded(_, direction, _) => direction == Direction::FromClient,
            _ => false,
        };
        let passes = self.rule().map_or(Passes::Connection, Passes::Rule);
        routed.then(|| Step::Transit(self.explain_transit(Some(passes))))
    }

    /// What would have to be otherwise for a packet that is dropped by a rule.
    fn explain_refusal(&self, aside: Aside) -> Option<Step> {
        match aside {
            Aside::Drop(DropReason::NotForwarded) => Some(Step::Transit(self.explain_transit(None))),
            Aside::Drop(DropReason::ReversePath) => Some(Step::WayBack {
                source: self.headers.source.into(),
                from: self.packet.nic,
                leads: self.way_back(),
            }),
            _ => None,
        }
    }

    fn explain_transit(&self, passes: Option<Passes>) -> Transit {
        let transit = self.transit();
        let addresses = (transit.source.into(), transit.destination.into());
        let both = self.tables.forwarding.passes(&transit, || Nature::Answers);
        Transit { from: transit.from, to: transit.to, addresses, passes, both }
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

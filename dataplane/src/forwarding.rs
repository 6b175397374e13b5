//! Which packets of no service the director passes on from one network to another (`[[forward]]`; kernel: `ip_forward` with a policy of
//! DROP for FORWARD, and rules before it). Rules look at each packet by itself: nothing is remembered of those that pass.

use std::fmt;

use ipnet::IpNet;

use crate::address::Address;
use crate::id::NicId;

/// One end of a rule: where packets come from, or where they go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// Anywhere.
    #[default]
    Any,
    /// The network of this NIC and all behind it: packets come in by it, or leave by it.
    Nic(NicId),
    /// This network, whichever NIC it is at.
    Network(IpNet),
}

/// A rule as it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwardRule {
    /// Where packets come from.
    pub from: End,
    /// Where they go to.
    pub to: End,
    /// True when everything passes in the other direction too, and not only what answers.
    pub both: bool,
}

/// The number of a rule, in the order of the file, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleNumber(pub u16);

impl fmt::Display for RuleNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0 + 1).fmt(f)
    }
}

/// Where a packet comes from and where it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transit<A> {
    /// Its source address.
    pub source: A,
    /// Its destination address.
    pub destination: A,
    /// The NIC that it came in by.
    pub from: NicId,
    /// The NIC that it leaves by; none without a route.
    pub to: Option<NicId>,
}

impl<A: Copy> Transit<A> {
    /// The same of a packet that goes the other way.
    #[must_use]
    fn reversed(&self) -> Option<Self> {
        let Self { source, destination, from, to } = *self;
        Some(Self { source: destination, destination: source, from: to?, to: Some(from) })
    }
}

/// What a packet shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It may begin something.
    Asks,
    /// It answers: TCP with ACK or RST, SCTP that begins no association, an ICMP echo reply.
    Answers,
}

/// The rules of one address family, in order.
#[derive(Clone, Debug, Default)]
pub struct Forwarding<A> {
    rules: Box<[Rule<A>]>,
}

#[derive(Clone, Debug)]
struct Rule<A> {
    number: RuleNumber,
    from: (Option<NicId>, (A, u8)),
    to: (Option<NicId>, (A, u8)),
    both: bool,
}

impl<A: Address> Rule<A> {
    fn new(number: u16, rule: &ForwardRule) -> Option<Self> {
        let end = |end: End| match end {
            End::Any => Some((None, (A::UNSPECIFIED, 0))),
            End::Nic(nic) => Some((Some(nic), (A::UNSPECIFIED, 0))),
            End::Network(net) => Some((None, (A::from_ip(net.network())?, net.prefix_len()))),
        };
        Some(Self { number: RuleNumber(number), from: end(rule.from)?, to: end(rule.to)?, both: rule.both })
    }

    fn holds(&self, transit: &Transit<A>) -> bool {
        self.from.0.is_none_or(|nic| nic == transit.from)
            && self.to.0.is_none_or(|nic| Some(nic) == transit.to)
            && transit.source.masked(self.from.1.1) == self.from.1.0
            && transit.destination.masked(self.to.1.1) == self.to.1.0
    }
}

impl<A: Address> Forwarding<A> {
    /// The rules that can hold for packets of this family.
    #[must_use]
    pub fn new(rules: &[ForwardRule]) -> Self {
        Self { rules: (0..).zip(rules).filter_map(|(number, rule)| Rule::new(number, rule)).collect() }
    }

    /// The first rule that lets a packet pass. Its `nature` counts where it goes the other way.
    #[must_use]
    pub fn passes(&self, transit: &Transit<A>, nature: impl Fn() -> Nature) -> Option<RuleNumber> {
        let answers = |rule: &Rule<A>| {
            transit.reversed().is_some_and(|reversed| rule.holds(&reversed))
                && (rule.both || nature() == Nature::Answers)
        };
        let passes = |rule: &&Rule<A>| rule.holds(transit) || answers(rule);
        self.rules.iter().find(passes).map(|rule| rule.number)
    }

    /// The first rule that lets an ICMP error pass: one that lets packets such as the one that it quotes pass, which was sent from
    /// `source` to `destination` by the way that the error comes.
    #[must_use]
    pub fn passes_error(&self, error: &Transit<A>, source: A, destination: A) -> Option<RuleNumber> {
        let quoted = Transit { source, destination, ..error.reversed()? };
        self.passes(error, || Nature::Asks).or_else(|| self.passes(&quoted, || Nature::Answers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const FRONT: NicId = NicId(0);
    const BACK: NicId = NicId(1);

    fn network(text: &str) -> End {
        End::Network(text.parse().unwrap())
    }

    fn transit(source: [u8; 4], destination: [u8; 4], from: NicId, to: NicId) -> Transit<Ipv4Addr> {
        Transit { source: source.into(), destination: destination.into(), from, to: Some(to) }
    }

    const OUTSIDE: [u8; 4] = [203, 0, 113, 9];
    const INSIDE: [u8; 4] = [10, 1, 0, 13];

    #[test]
    fn without_a_rule_nothing_passes() {
        let forwarding = Forwarding::new(&[]);
        for nature in [Nature::Asks, Nature::Answers] {
            assert_eq!(forwarding.passes(&transit(OUTSIDE, INSIDE, FRONT, BACK), || nature), None);
        }
    }

    #[test]
    fn a_rule_lets_pass_in_its_direction_and_what_answers() {
        let rules =
            [ForwardRule::default(), ForwardRule { both: true, ..ForwardRule::default() }].map(|rule| {
                let by_nic = ForwardRule { from: End::Nic(BACK), to: End::Nic(FRONT), ..rule };
                let by_network = ForwardRule { from: network("10.1.0.0/24"), to: End::Any, ..rule };
                [by_nic, by_network]
            });
        let (out, back) = (transit(INSIDE, OUTSIDE, BACK, FRONT), transit(OUTSIDE, INSIDE, FRONT, BACK));
        for (rules, both) in rules.iter().zip([false, true]) {
            for rule in rules {
                let forwarding = Forwarding::new(&[*rule]);
                let passes = |transit, nature| forwarding.passes(transit, || nature).is_some();
                assert!(passes(&out, Nature::Asks) && passes(&out, Nature::Answers), "{rule:?}");
                assert_eq!(passes(&back, Nature::Asks), both, "{rule:?}");
                assert!(passes(&back, Nature::Answers), "{rule:?}");
                let other = transit([10, 2, 0, 1], [10, 3, 0, 1], FRONT, FRONT);
                assert!(!passes(&other, Nature::Answers), "{rule:?}");
            }
        }
    }

    #[test]
    fn the_first_rule_that_holds_is_told_and_families_are_apart() {
        let rules = [
            ForwardRule { from: network("2001:db8::/32"), ..ForwardRule::default() },
            ForwardRule { to: network("203.0.113.0/24"), ..ForwardRule::default() },
            ForwardRule { from: End::Nic(BACK), ..ForwardRule::default() },
        ];
        let v4 = Forwarding::<Ipv4Addr>::new(&rules);
        let out = transit(INSIDE, OUTSIDE, BACK, FRONT);
        assert_eq!(v4.passes(&out, || Nature::Asks), Some(RuleNumber(1)));
        assert_eq!(
            v4.passes(&Transit { destination: Ipv4Addr::LOCALHOST, ..out }, || Nature::Asks),
            Some(RuleNumber(2))
        );
        let v6 = Forwarding::<Ipv6Addr>::new(&rules);
        let out =
            Transit { source: Ipv6Addr::LOCALHOST, destination: Ipv6Addr::LOCALHOST, from: FRONT, to: None };
        assert_eq!(v6.passes(&out, || Nature::Asks), None);
        let source = "2001:db8::1".parse().unwrap();
        assert_eq!(v6.passes(&Transit { source, ..out }, || Nature::Asks), Some(RuleNumber(0)));
        assert_eq!(RuleNumber(0).to_string(), "1");
    }

    #[test]
    fn an_error_passes_that_speaks_of_what_passes() {
        let rule = ForwardRule {
            from: network("10.1.0.0/24"),
            to: network("203.0.113.0/24"),
            ..ForwardRule::default()
        };
        let forwarding = Forwarding::new(&[rule]);
        // A router on the way tells the host inside.
        let error = transit([198, 51, 100, 1], INSIDE, FRONT, BACK);
        let told = |source: [u8; 4], destination: [u8; 4]| {
            forwarding.passes_error(&error, source.into(), destination.into()).is_some()
        };
        assert!(told(INSIDE, OUTSIDE));
        assert!(!told(INSIDE, [192, 0, 2, 9]));
        // And one inside tells who asked, of an answer's answer.
        let error = transit([10, 1, 0, 254], OUTSIDE, BACK, FRONT);
        assert!(forwarding.passes_error(&error, OUTSIDE.into(), INSIDE.into()).is_some());
    }
}

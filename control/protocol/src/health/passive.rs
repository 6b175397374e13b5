//! What workers see pass by of a real server, and when that takes it out: `max_fails` and `fail_timeout`, with the meaning that nginx
//! gives them.
//!
//! `max_fails` failures within `fail_timeout` take a real server out for `fail_timeout`. Then it is tried: one failure takes it out
//! again, one answered client ends the trial. A client that is answered wipes out the failures before it, so that a lost packet here
//! and there, and a client that one real server refuses (a ban, for one), take nobody out:
//!
//! ```text
//!   max_fails = 3       ✗ ✗ ✓ ✗ ✗ ✗ ┄ fail_timeout ┄ ✗ ┄ fail_timeout ┄ ✓ ✗ ✗ ✓
//!   opinion             up          out              tried: out          tried: up
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use shunt_dataplane::counters::RealCounters;
use shunt_dataplane::id::Protocol;
use shunt_dataplane::reason::Evidence;
use shunt_model::duration;
use shunt_model::health::passive::Rules;

/// How often the counters of the workers are looked at.
pub const TICK: Duration = Duration::from_millis(200);

/// What was counted of a real server since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Clients that it answered: connections of TCP, packets of other protocols. None come by of `dr` and `tun`.
    pub answered: u64,
    /// What failed.
    pub fails: Fails,
}

/// How many failures of each kind, in the order of [`KINDS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fails(pub [u64; KINDS.len()]);

/// What evidence is a failure: a connection that the real server refused by RST, a SYN that a client had to send again, an ICMP error of a packet
/// that did not reach it; and the words for one and for several.
pub const KINDS: [(Evidence, &str, &str); 3] = [
    (Evidence::Refused, "connection refused", "connections refused"),
    (Evidence::Unanswered, "SYN without answer", "SYNs without answer"),
    (Evidence::Unreachable, "ICMP unreachable", "ICMP unreachable"),
];

impl Seen {
    /// Reads the counters of a real server.
    #[must_use]
    pub fn of(counters: &RealCounters, protocol: Protocol) -> Self {
        let answered = match protocol {
            Protocol::Tcp => counters.evidence(Evidence::Answered),
            // Errors that pass are counted as packets to clients, too.
            _ => {
                let errors =
                    counters.evidence(Evidence::Unreachable) + counters.evidence(Evidence::TimeExceeded);
                counters.sum(|cell| &cell.packets_out).saturating_sub(errors)
            }
        };
        Self { answered, fails: Fails(KINDS.map(|(kind, ..)| counters.evidence(kind))) }
    }

    /// What came since `before`; nothing where counters began anew.
    fn since(self, before: Self) -> Self {
        Self {
            answered: self.answered.saturating_sub(before.answered),
            fails: self.fails.with(before.fails, u64::saturating_sub),
        }
    }
}

impl Fails {
    fn count(self) -> u64 {
        self.0.iter().sum()
    }

    /// Kind by kind.
    fn with(self, other: Self, both: impl Fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|kind| both(self.0[kind], other.0[kind])))
    }
}

impl fmt::Display for Fails {
    /// `2 connections refused and 1 SYN without answer`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = self.0.iter().zip(KINDS).filter(|(count, _)| **count > 0);
        let words = counted
            .map(|(count, (_, one, many))| format!("{count} {}", if *count == 1 { one } else { many }));
        f.write_str(&words.collect::<Vec<_>>().join(" and "))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opinion {
    /// It serves.
    Up,
    /// It is out until then.
    Out(Instant),
    /// It serves again, and nobody was answered yet.
    Tried,
}

/// The opinion about one real server. It begins with up.
#[derive(Clone, Debug)]
pub struct Watch {
    rules: Rules,
    opinion: Opinion,
    /// What was counted when it was looked at last; none before the first time.
    seen: Option<Seen>,
    /// Failures that count still: at most as many as `max_fails`.
    fails: VecDeque<(Instant, Fails)>,
    /// Why it was taken out last.
    why: String,
}

impl Watch {
    /// Nothing was seen yet; what was counted before the first look does not matter.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, opinion: Opinion::Up, seen: None, fails: VecDeque::new(), why: String::new() }
    }

    /// The same opinion under other rules. One that is out stays so no longer than these say.
    #[must_use]
    pub fn with(mut self, now: Instant, rules: Rules) -> Self {
        if let Opinion::Out(until) = self.opinion {
            self.opinion = Opinion::Out(until.min(now + rules.fail_timeout));
        }
        self.rules = rules;
        self
    }

    /// Whether the real server serves, as far as this goes.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        !matches!(self.opinion, Opinion::Out(_))
    }

    /// Takes notice of what was counted until now; to be told again and again. True when the real server came up or went down.
    pub fn hear(&mut self, now: Instant, seen: Seen) -> bool {
        let new = seen.since(self.seen.replace(seen).unwrap_or(seen));
        match self.opinion {
            // What fails now began before.
            Opinion::Out(until) if now < until => return false,
            Opinion::Out(_) => {
                self.opinion = Opinion::Tried;
                return true;
            }
            Opinion::Up | Opinion::Tried if new.answered > 0 => {
                self.opinion = Opinion::Up;
                self.fails.clear();
                return false;
            }
            Opinion::Up | Opinion::Tried => {}
        }
        if new.fails.count() > 0 {
            self.fails.push_back((now, new.fails));
        }
        let Rules { max_fails, fail_timeout } = self.rules;
        while self.fails.front().is_some_and(|(at, _)| now.duration_since(*at) > fail_timeout) {
            self.fails.pop_front();
        }
        let all = self.fails.iter().fold(Fails::default(), |all, (_, fails)| all.with(*fails, |a, b| a + b));
        let is_tried = self.opinion == Opinion::Tried;
        if all.count() == 0 || (!is_tried && all.count() < u64::from(max_fails)) {
            return false;
        }
        let within = duration::format(fail_timeout);
        self.why = if is_tried { format!("{all} when tried again") } else { format!("{all} in {within}") };
        self.fails.clear();
        self.opinion = Opinion::Out(now + fail_timeout);
        true
    }

    /// Why it is up or out, for an operator.
    #[must_use]
    pub fn words(&self) -> String {
        let fail_timeout = duration::format(self.rules.fail_timeout);
        match self.opinion {
            Opinion::Up => "no failures".to_owned(),
            Opinion::Out(_) => format!("{}: out for {fail_timeout}", self.why),
            Opinion::Tried => format!("tried again after {fail_timeout}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use shunt_dataplane::id::WorkerId;
    use shunt_dataplane::time::Tick;

    use super::*;

    /// Plays a story: at these milliseconds so many are answered, refused, unanswered and unreachable; then this is the opinion.
    fn play(rules: Rules, story: &[(u64, [u64; 4], &str)]) {
        let start = Instant::now();
        let mut watch = Watch::new(rules);
        let mut seen = Seen { answered: 7, fails: Fails([9, 0, 0]) };
        assert!(!watch.hear(start, seen), "what was counted before does not matter");
        for (at, [answered, refused, unanswered, unreachable], wanted) in story {
            let fails = Fails([*refused, *unanswered, *unreachable]);
            seen = Seen { answered: seen.answered + answered, fails: seen.fails.with(fails, |a, b| a + b) };
            let before = watch.is_up();
            let turned = watch.hear(start + Duration::from_millis(*at), seen);
            assert_eq!(turned, before != watch.is_up(), "{at}");
            assert_eq!(watch.words(), *wanted, "{at}");
        }
    }

    const THREE: Rules = Rules { max_fails: 3, fail_timeout: Duration::from_secs(10) };

    #[test]
    fn a_closed_port_is_left_alone_and_tried_again() {
        play(
            THREE,
            &[
                (200, [5, 0, 0, 0], "no failures"),
                (400, [0, 2, 0, 0], "no failures"),
                (600, [0, 1, 0, 0], "3 connections refused in 10s: out for 10s"),
                // What is on its way does not prolong it.
                (800, [0, 4, 0, 0], "3 connections refused in 10s: out for 10s"),
                (10_400, [0, 0, 0, 0], "3 connections refused in 10s: out for 10s"),
                (10_600, [0, 0, 0, 0], "tried again after 10s"),
                (10_800, [0, 0, 0, 0], "tried again after 10s"),
                (11_000, [0, 1, 0, 0], "1 connection refused when tried again: out for 10s"),
                (21_000, [0, 0, 0, 0], "tried again after 10s"),
                (21_200, [1, 0, 0, 0], "no failures"),
                (21_400, [0, 2, 0, 0], "no failures"),
            ],
        );
    }

    #[test]
    fn an_answered_client_wipes_out_what_failed_before() {
        play(
            THREE,
            &[
                (200, [0, 0, 2, 0], "no failures"),
                (400, [1, 0, 0, 0], "no failures"),
                (600, [0, 0, 2, 0], "no failures"),
                (800, [100, 3, 9, 0], "no failures"),
                (1000, [0, 0, 1, 1], "no failures"),
                (
                    1200,
                    [0, 1, 0, 0],
                    "1 connection refused and 1 SYN without answer and 1 ICMP unreachable in 10s: out for 10s",
                ),
            ],
        );
    }

    #[test]
    fn failures_count_for_fail_timeout() {
        play(
            THREE,
            &[
                (0, [0, 0, 2, 0], "no failures"),
                (10_200, [0, 0, 1, 0], "no failures"),
                (12_000, [0, 0, 1, 0], "no failures"),
                (20_200, [0, 0, 1, 0], "3 SYNs without answer in 10s: out for 10s"),
            ],
        );
        let one = Rules { max_fails: 1, fail_timeout: Duration::from_secs(1) };
        play(
            one,
            &[
                (0, [0, 0, 0, 1], "1 ICMP unreachable in 1s: out for 1s"),
                (1000, [0; 4], "tried again after 1s"),
            ],
        );
    }

    #[test]
    fn counters_are_read_by_protocol() {
        let counters = RealCounters::new(2);
        let cell = counters.of(WorkerId(1));
        cell.packets_out.add(10);
        for evidence in Evidence::ALL {
            cell.witness(*evidence, Tick(7));
        }
        let fails = Fails([1; 3]);
        assert_eq!(Seen::of(&counters, Protocol::Tcp), Seen { answered: 1, fails });
        // Two of the packets to clients were errors.
        assert_eq!(Seen::of(&counters, Protocol::Udp), Seen { answered: 8, fails });
    }

    #[test]
    fn other_rules_keep_the_opinion() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut watch = Watch::new(THREE);
        let seen = |refused| Seen { answered: 0, fails: Fails([refused, 0, 0]) };
        watch.hear(start, seen(0));
        assert!(watch.hear(at(1), seen(3)) && !watch.is_up());
        let mut watch = watch.with(at(2), Rules { max_fails: 9, fail_timeout: Duration::from_secs(2) });
        assert!(!watch.hear(at(3), seen(3)));
        assert!(watch.hear(at(4), seen(3)) && watch.is_up());
        // Counters that began anew are no evidence.
        let mut watch = Watch::new(THREE);
        watch.hear(start, seen(100));
        assert!(!watch.hear(at(1), seen(3)) && !watch.hear(at(2), seen(5)) && watch.is_up());
    }
}

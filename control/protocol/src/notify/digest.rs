//! When a mail is due, and what stands in it: events are gathered, and mails are rare.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use shunt_model::notify::{Event, What};

/// Events of which a mail has the text; further ones are only counted.
pub const SHOWN_MAX: usize = 200;

/// A mail that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// One line.
    pub subject: String,
    /// Its text, in lines that end with a line feed.
    pub text: String,
}

/// Events that wait for their mail.
#[derive(Debug, Default)]
pub struct Digests {
    events: Vec<Event>,
    more: usize,
    /// When the first of them came.
    first: Option<Instant>,
    /// When the last mail was due.
    sent: Option<Instant>,
}

impl Digests {
    /// Takes an event.
    pub fn add(&mut self, now: Instant, event: &Event) {
        self.first.get_or_insert(now);
        if self.events.len() < SHOWN_MAX {
            self.events.push(event.clone());
        } else {
            self.more += 1;
        }
    }

    /// When the next mail is due: events are gathered for a while, and mails keep a distance.
    #[must_use]
    pub fn deadline(&self, gather: Duration, interval: Duration) -> Option<Instant> {
        let gathered = self.first? + gather;
        Some(self.sent.map_or(gathered, |sent| gathered.max(sent + interval)))
    }

    /// The mail that is due; [`Digests::deadline`] says when.
    pub fn take(&mut self, now: Instant) -> Digest {
        (self.first, self.sent) = (None, Some(now));
        let events = std::mem::take(&mut self.events);
        let more = std::mem::take(&mut self.more);
        let subject = match &events[..] {
            [only] => only.text.clone(),
            _ => {
                let count = |what| events.iter().filter(|event| event.what == what).count();
                let counted = [
                    (What::RealDown, "real servers down"),
                    (What::RealUp, "up"),
                    (What::QuorumDown, "quorums lost"),
                    (What::QuorumUp, "gained"),
                    (What::VrrpMaster, "times master"),
                    (What::VrrpBackup, "times backup"),
                    (What::VrrpFault, "virtual routers in fault"),
                    (What::SplitBrain, "split brains"),
                    (What::LinkDown, "links down"),
                    (What::NoReal, "services without a real server"),
                ];
                let parts = counted.map(|(what, words)| (count(what), words));
                let parts = parts.iter().filter(|(count, _)| *count > 0);
                let parts: Vec<String> = parts.map(|(count, words)| format!("{count} {words}")).collect();
                format!("{} events: {}", events.len() + more, parts.join(", "))
            }
        };
        let mut text = String::new();
        for event in &events {
            let _ = writeln!(text, "{} {}: {}", clock(event.at), event.what.word(), event.text);
        }
        if more > 0 {
            let _ = writeln!(text, "and {more} more: see the director's log");
        }
        Digest { subject, text }
    }
}

/// The time of day, UTC.
fn clock(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: What, text: &str) -> Event {
        Event { at: 3_723_000, what, service: "web".into(), real: None, text: text.into() }
    }

    #[test]
    fn the_first_mail_waits_shortly_and_the_next_for_the_interval() {
        let (gather, interval) = (Duration::from_secs(5), Duration::from_secs(300));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut digests = Digests::default();
        assert_eq!(digests.deadline(gather, interval), None);
        digests.add(at(0), &event(What::RealDown, "a is down"));
        digests.add(at(3), &event(What::RealDown, "b is down"));
        digests.add(at(4), &event(What::QuorumDown, "quorum lost"));
        assert_eq!(digests.deadline(gather, interval), Some(at(5)));
        let mail = digests.take(at(5));
        assert_eq!(mail.subject, "3 events: 2 real servers down, 1 quorums lost");
        assert!(
            mail.text.starts_with("01:02:03Z real_down: a is down\n01:02:03Z real_down: b"),
            "{}",
            mail.text
        );
        assert_eq!(digests.deadline(gather, interval), None);
        // A flapping server is one mail in five minutes.
        for seconds in 6..300 {
            digests.add(at(seconds), &event(What::RealUp, "a is up"));
            assert_eq!(digests.deadline(gather, interval), Some(at(305)));
        }
        let mail = digests.take(at(305));
        assert!(mail.subject.starts_with("294 events: 200 up"), "{}", mail.subject);
        assert!(mail.text.ends_with("and 94 more: see the director's log\n"));
        digests.add(at(900), &event(What::RealUp, "a is up"));
        assert_eq!(digests.deadline(gather, interval), Some(at(905)));
        assert_eq!(digests.take(at(905)).subject, "a is up");
    }
}

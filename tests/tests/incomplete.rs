//! Datagrams that stay incomplete, where no recording of the kernel can tell: the VIP is another director's meanwhile.

use std::time::Duration;

use shunt_dataplane::forward::Verdict;
use shunt_dataplane::id::Protocol;
use shunt_dataplane::reassembly::{KEPT_V4, KEPT_V6};
use shunt_dataplane::service::Method;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::time::TICKS_PER_SECOND;
use shunt_tests::director::Director;
use shunt_tests::network::{self, FRONT, Form, ROUTER, nic_mac};
use shunt_tests::packets::{Ip, ethernet};

/// The number of IPv6's fragment header.
const FRAGMENT: u8 = 44;
const UDP: u8 = 17;
const MORE_FRAGMENTS: u16 = 1 << 13;

/// A director that has the first fragment of a datagram and waits for the others.
fn with_a_first_fragment(form: Form) -> Director {
    let service = network::service(form, Protocol::Udp, 53, Scheduler::Rr, Method::Dr, 2);
    let mut director = Director::new(1, 64, network::plan(vec![service]));
    let ip = Ip::new(&form.client(1), form.vip());
    let data = [0x9c, 0x40, 0, 53, 0, 200, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let packet = match form {
        Form::V4 => Ip { fragment: MORE_FRAGMENTS, ..ip }.carry(UDP, &data),
        Form::V6 => ip.carry(FRAGMENT, &[&[UDP, 0, 0, 1, 0, 0, 0, 9][..], &data].concat()),
    };
    let outcome = director.take(FRONT, &ethernet(nic_mac(FRONT), ROUTER, &packet));
    assert_eq!(outcome.verdict, Verdict::Gather);
    director
}

fn kept(form: Form) -> Duration {
    let ticks = if form == Form::V4 { KEPT_V4 } else { KEPT_V6 };
    Duration::from_secs(u64::from(ticks.0) / u64::from(TICKS_PER_SECOND))
}

#[test]
fn a_backup_tells_nobody() {
    for form in Form::BOTH {
        let mut director = with_a_first_fragment(form);
        director.publish(|plan| plan.elsewhere = std::mem::take(&mut plan.vips));
        director.advance(kept(form) + Duration::from_secs(1));
        assert!(director.take_told().is_empty(), "{form:?}");
        assert_eq!(director.workers()[0].counters().incomplete.sum(), 1);
    }
}

#[test]
fn a_master_tells_once_and_not_too_early() {
    for form in Form::BOTH {
        let mut director = with_a_first_fragment(form);
        director.advance(kept(form) - Duration::from_secs(1));
        assert!(director.take_told().is_empty());
        director.advance(Duration::from_secs(2));
        assert_eq!(director.take_told().len(), 1, "{form:?}");
        director.advance(2 * kept(form));
        assert!(director.take_told().is_empty());
        assert_eq!(director.held(), 0);
    }
}

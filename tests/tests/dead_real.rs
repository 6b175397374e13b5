//! A real server that fails its check: new connections never reach it, not even those whose client uses the ports of an
//! older connection again; connections that stand stay where they are, and UDP, which has none, goes to another one.

use shunt_dataplane::forward::Verdict;
use shunt_dataplane::id::{Mac, NicId, Protocol};
use shunt_dataplane::reason::{DropReason, ReplyKind};
use shunt_dataplane::service::Method;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_tests::director::Director;
use shunt_tests::network::{self, BACK, FRONT, Form, ROUTER, nic_mac, real_mac};
use shunt_tests::packets::{Ip, Tcp, ethernet};

/// For a packet of UDP, instead of TCP flags.
const UDP: &str = "UDP";

fn from_client(form: Form, flags: &str) -> Vec<u8> {
    let ip = Ip::new(&form.client(1), form.vip());
    let packet = match flags {
        UDP => ip.udp(40000, 80, b"question"),
        flags => ip.tcp(&Tcp::new(40000, 80, flags)),
    };
    ethernet(nic_mac(FRONT), ROUTER, &packet)
}

/// A director with two real servers and a connection to the one added last, which then fails its check.
fn with_a_dead_real(form: Form) -> Director {
    with_a_dead_real_after(form, Protocol::Tcp, &["S", "A"])
}

fn with_a_dead_real_after(form: Form, protocol: Protocol, packets: &[&str]) -> Director {
    let service = network::service(form, protocol, 80, Scheduler::Rr, Method::Dr, 2);
    let mut director = Director::new(1, 64, network::plan(vec![service]));
    for packet in packets {
        assert_eq!(reached(&mut director, form, packet), Some(real_mac(2)));
    }
    director.publish(|plan| plan.services[0].reals[1].up = false);
    director
}

/// The MAC that a packet of the connection is sent to.
fn reached(director: &mut Director, form: Form, flags: &str) -> Option<Mac> {
    let outcome = director.take(FRONT, &from_client(form, flags));
    let (nic, frame) = outcome.sent()?;
    assert_eq!(nic, BACK);
    Some(Mac(frame[..6].try_into().unwrap()))
}

#[test]
fn ports_used_again_reach_a_living_real() {
    for form in Form::BOTH {
        let mut director = with_a_dead_real(form);
        assert_eq!(reached(&mut director, form, "S"), Some(real_mac(1)), "a new connection by old ports");
        assert_eq!(reached(&mut director, form, "A"), Some(real_mac(1)));
        director.publish(|plan| plan.services[0].reals[1].up = true);
        assert_eq!(
            reached(&mut director, form, "A"),
            Some(real_mac(1)),
            "and stays there when the other returns"
        );
        assert_eq!(director.connections().len(), 1);
    }
}

#[test]
fn a_standing_connection_stays() {
    for form in Form::BOTH {
        let mut director = with_a_dead_real(form);
        for flags in ["A", "PA", "SA", "FA"] {
            assert_eq!(reached(&mut director, form, flags), Some(real_mac(2)), "{flags}");
        }
    }
}

/// A resolver that asks again and again by one port is not left with a server that is dead.
#[test]
fn udp_goes_to_a_living_real() {
    for form in Form::BOTH {
        let mut director = with_a_dead_real_after(form, Protocol::Udp, &[UDP, UDP]);
        assert_eq!(reached(&mut director, form, UDP), Some(real_mac(1)));
        director.publish(|plan| plan.services[0].reals[1].up = true);
        assert_eq!(reached(&mut director, form, UDP), Some(real_mac(1)), "and stays there");
        assert_eq!(director.connections().len(), 1);
        director.publish(|plan| plan.services[0].reals.iter_mut().for_each(|real| real.up = false));
        let outcome = director.take(FRONT, &from_client(form, UDP));
        assert_eq!(outcome.verdict, Verdict::Reply(NicId(0), ReplyKind::NoReal));
        assert!(director.connections().is_empty());
    }
}

#[test]
fn a_backup_schedules_nothing_anew() {
    for (protocol, packets) in [(Protocol::Tcp, ["S", "A"]), (Protocol::Udp, [UDP, UDP])] {
        let mut director = with_a_dead_real_after(Form::V4, protocol, &packets);
        director.publish(|plan| plan.elsewhere = std::mem::take(&mut plan.vips));
        let again =
            |director: &mut Director| director.take(FRONT, &from_client(Form::V4, packets[0])).verdict;
        assert_eq!(again(&mut director), Verdict::Drop(DropReason::NotMaster), "{protocol:?}");
        director.publish(|plan| {
            plan.services[0].reals.pop();
            plan.sysctls.expire_nodest_conn = true;
        });
        assert_eq!(again(&mut director), Verdict::Drop(DropReason::NotMaster), "{protocol:?}, removed");
    }
}

#[test]
fn with_no_living_real_the_client_is_told() {
    let mut director = with_a_dead_real(Form::V4);
    director.publish(|plan| plan.services[0].reals[0].up = false);
    let outcome = director.take(FRONT, &from_client(Form::V4, "S"));
    assert_eq!(outcome.verdict, Verdict::Reply(NicId(0), ReplyKind::NoReal));
}

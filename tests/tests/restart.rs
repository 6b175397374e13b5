//! What a director does with connections that it does not know, for a while after its start or a takeover.

use shunt_dataplane::forward::Verdict;
use shunt_dataplane::id::Protocol;
use shunt_dataplane::reason::{DropReason, ReplyKind};
use shunt_dataplane::service::Method;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::snapshot::Plan;
use shunt_tests::director::Director;
use shunt_tests::network::{self, Form};
use shunt_tests::packets::{self, Ip, Tcp};

fn plan(form: Form, scheduler: Scheduler, method: Method, reals: u8) -> Plan {
    network::plan(vec![network::service(form, Protocol::Tcp, 80, scheduler, method, reals)])
}

/// As it is after a start.
fn begun(plan: &mut Plan) {
    plan.adopting = plan.vips.clone();
    plan.silent = plan.vips.clone();
}

fn from_client(form: Form, port: u16, flags: &str) -> Vec<u8> {
    let packet = Ip::new(&form.client(1), form.vip()).tcp(&Tcp::new(port, 80, flags));
    packets::ethernet(network::nic_mac(network::FRONT), network::ROUTER, &packet)
}

fn sent_to(director: &mut Director, frame: &[u8]) -> Option<Vec<u8>> {
    let outcome = director.take(network::FRONT, frame);
    match outcome.verdict {
        Verdict::Send(nic) if nic == network::BACK => Some(outcome.frame[..6].to_vec()),
        _ => None,
    }
}

#[test]
fn open_connections_meet_the_real_server_that_they_had_where_the_scheduler_chooses_again() {
    for form in Form::BOTH {
        for (scheduler, reals) in [
            (Scheduler::Mh, 4),
            (Scheduler::Sh, 4),
            (Scheduler::Dh, 4),
            (Scheduler::Fo, 4),
            (Scheduler::Rr, 1),
        ] {
            let mut before = Director::new(1, 1024, plan(form, scheduler, Method::Dr, reals));
            let mut after_start = plan(form, scheduler, Method::Dr, reals);
            begun(&mut after_start);
            let mut after = Director::new(1, 1024, after_start);
            for port in 1000..1100 {
                let had = sent_to(&mut before, &from_client(form, port, "S"));
                assert!(had.is_some());
                assert_eq!(
                    sent_to(&mut after, &from_client(form, port, "PA")),
                    had,
                    "{form:?} {scheduler:?}"
                );
            }
        }
    }
}

#[test]
fn with_other_schedulers_nobody_is_reset_for_a_while_and_then_as_the_kernel_does() {
    let delayed = Verdict::Drop(DropReason::ResetDelayed);
    for form in Form::BOTH {
        for scheduler in
            [Scheduler::Rr, Scheduler::Wrr, Scheduler::Lc, Scheduler::Wlc, Scheduler::Lblc, Scheduler::Twos]
        {
            let mut director = Director::new(1, 1024, plan(form, scheduler, Method::Nat, 3));
            director.publish(begun);
            for flags in ["A", "PA", "FA"] {
                assert_eq!(director.take(network::FRONT, &from_client(form, 1000, flags)).verdict, delayed);
            }
            // What its real server sends goes no further either, whatever nat_icmp_send says.
            let answer = Ip::new(&form.real(1), &form.client(1)).tcp(&Tcp::new(8080, 1000, "PA"));
            let answer = packets::ethernet(network::nic_mac(network::BACK), network::real_mac(1), &answer);
            for send in [0, 1] {
                director.publish(|plan| assert!(plan.sysctls.set("nat_icmp_send", send)));
                assert_eq!(director.take(network::BACK, &answer).verdict, delayed);
            }
            // Who begins is served, and an address without a service answers as ever.
            assert!(sent_to(&mut director, &from_client(form, 2000, "S")).is_some());
            assert!(sent_to(&mut director, &from_client(form, 2000, "A")).is_some());
            let closed = Ip::new(&form.client(1), form.vip()).tcp(&Tcp::new(1000, 81, "A"));
            let closed = packets::ethernet(network::nic_mac(network::FRONT), network::ROUTER, &closed);
            let reset = Verdict::Reply(network::FRONT, ReplyKind::Reset);
            assert_eq!(director.take(network::FRONT, &closed).verdict, reset);
            director.publish(|plan| {
                plan.silent.clear();
                plan.adopting.clear();
            });
            assert_eq!(director.take(network::FRONT, &from_client(form, 1000, "A")).verdict, reset);
        }
    }
}

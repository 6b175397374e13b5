//! What packets of one burst do to each other: nothing but what they do one by one.

use shunt_dataplane::id::{Protocol, WorkerId};
use shunt_dataplane::service::Method;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_tests::director::{Arrival, Director};
use shunt_tests::network::{self, Form};
use shunt_tests::packets::{Ip, Tcp};

use crate::case::{from_front, from_real, word};

/// Two services with one NAT real server at one port: an answer is of the connection that a client's port made last (kernel:
/// `ip_vs_conn_out_get`), be it in the same burst.
#[test]
fn an_answer_beside_the_connection_that_takes_it_over() {
    for (form, protocol) in
        Form::BOTH.into_iter().flat_map(|form| [(form, Protocol::Tcp), (form, Protocol::Udp)])
    {
        let service = |port| network::service(form, protocol, port, Scheduler::Rr, Method::Nat, 1);
        let mut plan = network::plan(vec![service(80), service(81)]);
        plan.services[1].reals[0].address = plan.services[0].reals[0].address;
        let real_port = plan.services[0].reals[0].address.port();
        let packet = |ends: Ip, (from, to): (u16, u16), flags| match protocol {
            Protocol::Udp => ends.udp(from, to, b"question"),
            _ => ends.tcp(&Tcp::new(from, to, flags)),
        };
        let asks = |port| from_front(&packet(Ip::new(&form.client(1), form.vip()), (40_000, port), "S"));
        let answer =
            from_real(1, &packet(Ip::new(&form.real(1), &form.client(1)), (real_port, 40_000), "SA"));
        let other = from_front(&packet(Ip::new(&form.client(2), form.vip()), (40_000, 80), "S"));
        let bursts: [Vec<Arrival>; 3] = [
            vec![asks(80), answer.clone()],
            vec![other, asks(81), answer.clone(), answer.clone()],
            vec![answer.clone(), asks(80), asks(81), answer],
        ];
        let (mut together, mut singly) =
            (Director::new(1, 64, plan.clone()), Director::new(1, 64, plan.clone()));
        for burst in bursts {
            let want =
                burst.iter().map(|arrival| singly.take(arrival.nic, &arrival.frame)).collect::<Vec<_>>();
            assert!(want.iter().all(|outcome| outcome.sent().is_some()), "{want:?}");
            assert_eq!(together.burst(WorkerId(0), &burst), want, "{} {protocol}", word(form));
        }
    }
}

//! Packets whose neighbour does not answer: who is told, from which address, and what counts.

use shunt_dataplane::forward::{Punt, Verdict};
use shunt_dataplane::id::Protocol;
use shunt_dataplane::reason::{DropReason, ReplyKind};
use shunt_dataplane::service::Method;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::snapshot::Plan;
use shunt_tests::director::{Arrival, Director};
use shunt_tests::network::{self, BACK, FRONT, Form, ROUTER, everything_passes, nic_mac, real_mac};
use shunt_tests::oracle::compare::masked;
use shunt_tests::packets::{Ip, Tcp, ethernet};

/// A director that knows nobody behind `unknown`.
fn director(form: Form, method: Method, unknown: shunt_dataplane::id::NicId) -> Director {
    let service = network::service(form, Protocol::Tcp, 80, Scheduler::Rr, method, 1);
    let mut plan = Plan { forwards: vec![everything_passes()], ..network::plan(vec![service]) };
    plan.neighbours.retain(|neighbour| neighbour.nic != unknown);
    Director::new(1, 64, plan)
}

fn from_front(packet: &[u8]) -> Arrival {
    Arrival { nic: FRONT, frame: ethernet(nic_mac(FRONT), ROUTER, packet) }
}

fn from_real(packet: &[u8]) -> Arrival {
    Arrival { nic: BACK, frame: ethernet(nic_mac(BACK), real_mac(1), packet) }
}

/// Host unreachable about a packet, from `source` to `to`.
fn error(form: Form, source: &str, to: &str, about: &[u8]) -> Vec<u8> {
    let (kind, code, tos) = if form == Form::V4 { (3, 1, 0xc0) } else { (1, 3, 0) };
    Ip::new(source, to).tos(tos).icmp(kind, code, 0, about)
}

/// Hands a packet up, and then tells that nobody answers.
fn wait_in_vain(director: &mut Director, arrival: &Arrival) -> (Verdict, Vec<u8>) {
    let verdict = director.take(arrival.nic, &arrival.frame).verdict;
    assert!(matches!(verdict, Verdict::Punt(Punt::Unresolved(_))), "{verdict:?}");
    let outcome = director.unreachable(arrival);
    assert_eq!(director.held(), 0);
    (outcome.verdict, masked(&outcome.frame))
}

#[test]
fn clients_are_told_that_a_real_server_does_not_answer() {
    let told = |nic| Verdict::Reply(nic, ReplyKind::HostUnreachable);
    for form in Form::BOTH {
        for method in [Method::Dr, Method::Nat, Method::Tun] {
            let mut director = director(form, method, BACK);
            let packet = |ttl| Ip::new(&form.client(1), form.vip()).ttl(ttl).tcp(&Tcp::new(40000, 80, "S"));
            let (verdict, frame) = wait_in_vain(&mut director, &from_front(&packet(64)));
            let source = if method == Method::Dr { form.own(FRONT) } else { form.vip() };
            let want = error(form, source, &form.client(1), &packet(63));
            assert_eq!(verdict, told(FRONT), "{form:?} {method}");
            assert_eq!(frame, masked(&ethernet(ROUTER, nic_mac(FRONT), &want)), "{form:?} {method}");
            let real = director.snapshot().reals.iter().flatten().next().expect("a real server");
            let sum =
                |of: fn(&shunt_dataplane::counters::RealCell) -> &shunt_dataplane::counters::Counter| {
                    real.counters.sum(of)
                };
            let out = u64::from(method != Method::Nat);
            assert_eq!((sum(|cell| &cell.packets_in), sum(|cell| &cell.packets_out)), (1, out), "{method}");
        }
    }
}

#[test]
fn so_is_who_sends_past_the_services_and_who_answers() {
    for form in Form::BOTH {
        let told = |nic| Verdict::Reply(nic, ReplyKind::HostUnreachable);
        let mut behind = director(form, Method::Nat, BACK);
        let packet = |ttl| Ip::new(&form.client(1), &form.real(2)).ttl(ttl).udp(9, 9, b"q");
        let (verdict, frame) = wait_in_vain(&mut behind, &from_front(&packet(64)));
        let want = error(form, form.own(FRONT), &form.client(1), &packet(63));
        assert_eq!((verdict, frame), (told(FRONT), masked(&ethernet(ROUTER, nic_mac(FRONT), &want))));

        let mut front = director(form, Method::Nat, FRONT);
        let asked = Ip::new(&form.client(1), form.vip()).tcp(&Tcp::new(40000, 80, "S"));
        assert!(front.take(FRONT, &from_front(&asked).frame).sent().is_some());
        let answer = |ttl| Ip::new(&form.real(1), &form.client(1)).ttl(ttl).tcp(&Tcp::new(8080, 40000, "SA"));
        let (verdict, frame) = wait_in_vain(&mut front, &from_real(&answer(64)));
        let want = error(form, form.own(BACK), &form.real(1), &answer(63));
        assert_eq!((verdict, frame), (told(BACK), masked(&ethernet(real_mac(1), nic_mac(BACK), &want))));
    }
}

/// Errors about errors are not told, nor anything to whom nobody reaches either.
#[test]
fn nobody_is_told_of_errors_or_without_a_way_back() {
    for form in Form::BOTH {
        let mut behind = director(form, Method::Dr, BACK);
        let kind = if form == Form::V4 { 3 } else { 1 };
        let packet = Ip::new(&form.client(1), &form.real(2)).icmp(kind, 1, 0, &[0; 48]);
        let (verdict, _) = wait_in_vain(&mut behind, &from_front(&packet));
        assert_eq!(verdict, Verdict::Drop(DropReason::NoRoute));
        behind.publish(|plan| plan.neighbours.clear());
        let packet = Ip::new(&form.client(1), &form.real(2)).udp(9, 9, b"q");
        let (verdict, _) = wait_in_vain(&mut behind, &from_front(&packet));
        assert_eq!(verdict, Verdict::Drop(DropReason::NoRoute));
    }
}

//! `mss_clamp`: SYNs to tunnels, and the answers that come by, tell of no larger segments than the tunnel takes.

use shunt_dataplane::forward::Verdict;
use shunt_dataplane::id::Protocol;
use shunt_dataplane::reverse_path::ReversePath;
use shunt_dataplane::service::Method;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::snapshot::Plan;
use shunt_tests::director::Director;
use shunt_tests::network::{self, BACK, FRONT, Form, ROUTER, nic_mac, real_mac};
use shunt_tests::packets::{Ip, Tcp, ethernet};
use shunt_tests::text;

fn plan(form: Form, method: Method, clamp: bool) -> Plan {
    let mut service = network::service(form, Protocol::Tcp, 80, Scheduler::Rr, method, 1);
    service.settings.mss_clamp = clamp;
    network::plan(vec![service])
}

fn syn(form: Form, options: &[u8]) -> Vec<u8> {
    let tcp = Tcp { options: options.to_vec(), ..Tcp::new(40_000, 80, "S") };
    ethernet(nic_mac(FRONT), ROUTER, &Ip::new(&form.client(1), form.vip()).tcp(&tcp))
}

/// The options of the TCP header inside the IP in IP packet of a frame, whose checksum is right.
fn options_inside(form: Form, frame: &[u8]) -> Vec<u8> {
    let read = text::frame(frame);
    assert!(!read.contains("BADSUM"), "{read}");
    let tcp = &frame[14 + 2 * if form == Form::V4 { 20 } else { 40 }..];
    tcp[20..usize::from(tcp[12] >> 4) * 4].to_vec()
}

#[test]
fn syns_tell_what_the_tunnel_takes() {
    for (form, most) in [(Form::V4, 1440_u16), (Form::V6, 1400)] {
        let [high, low] = most.to_be_bytes();
        for (told, wanted) in [
            (vec![2, 4, 5, 180], vec![2, 4, high, low]),
            // Behind an odd number of bytes, which moves it across words.
            (vec![1, 2, 4, 5, 180, 1, 1, 1], vec![1, 2, 4, high, low, 1, 1, 1]),
            (
                vec![8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 2, 4, 35, 40, 1, 0],
                vec![8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 2, 4, high, low, 1, 0],
            ),
            // What fits stays, and so does what is no option.
            (vec![2, 4, 2, 24], vec![2, 4, 2, 24]),
            (vec![0, 2, 4, 5, 180, 0, 0, 0], vec![0, 2, 4, 5, 180, 0, 0, 0]),
            (vec![8, 0, 2, 4, 5, 180, 0, 0], vec![8, 0, 2, 4, 5, 180, 0, 0]),
            (vec![1, 1, 2, 4], vec![1, 1, 2, 4]),
            (vec![], vec![]),
        ] {
            let mut director = Director::new(1, 16, plan(form, Method::Tun, true));
            // The second one is of an open connection.
            for _ in 0..2 {
                let outcome = director.take(FRONT, &syn(form, &told));
                let (_, frame) = outcome.sent().unwrap_or_else(|| panic!("{outcome:?}"));
                assert_eq!(options_inside(form, frame), wanted, "{form:?} {told:?}");
            }
        }
        let mut director = Director::new(1, 16, plan(form, Method::Tun, false));
        let outcome = director.take(FRONT, &syn(form, &[2, 4, 5, 180]));
        assert_eq!(options_inside(form, outcome.sent().unwrap().1), [2, 4, 5, 180], "off");
    }
}

/// Only tunnels are narrower than the way there.
#[test]
fn other_methods_leave_it() {
    let mut director = Director::new(1, 16, plan(Form::V4, Method::Dr, true));
    let frame = syn(Form::V4, &[2, 4, 5, 180]);
    let outcome = director.take(FRONT, &frame);
    assert_eq!(outcome.sent().unwrap().1[34..], frame[34..]);
}

/// The answer of a real server that has the director for a router tells the client.
#[test]
fn answers_that_come_by_tell_it_too() {
    let form = Form::V6;
    let mut director = Director::new(1, 16, plan(form, Method::Tun, true));
    assert!(director.take(FRONT, &syn(form, &[])).sent().is_some());
    director.publish(|plan| {
        plan.vips.clear();
        // The VIP's network is in front.
        plan.nics[BACK.index()].reverse_path = ReversePath::Off;
    });
    let tcp = Tcp { options: vec![2, 4, 5, 180], ..Tcp::new(80, 40_000, "SA") };
    let answer = Ip::new(form.vip(), &form.client(1)).tcp(&tcp);
    let outcome = director.take(BACK, &ethernet(nic_mac(BACK), real_mac(1), &answer));
    assert_eq!(outcome.verdict, Verdict::Send(FRONT));
    let (_, frame) = outcome.sent().unwrap();
    assert_eq!(frame[14 + 40 + 20..], [2, 4, 5, 120]);
    assert!(!text::frame(frame).contains("BADSUM"), "{}", text::frame(frame));
}

//! Datagrams that come in fragments of any size: which of the sender's cuts are kept, and what a first fragment may lack.

use shunt_dataplane::forward::Verdict;
use shunt_dataplane::id::Protocol;
use shunt_dataplane::reason::{DropReason, ReplyKind};
use shunt_dataplane::service::Method;
use shunt_dataplane::service::masquerade::MasqueradeRule;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::snapshot::Plan;
use shunt_tests::director::{Arrival, Director, Outcome};
use shunt_tests::network::{self, BACK, FRONT, Form, ROUTER, everything_passes, nic_mac, real_mac};
use shunt_tests::packets::{Ip, Tcp, ethernet, number};

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// One real server by this method, for each protocol, behind a router that lets everything pass.
fn director(form: Form, method: Method) -> Director {
    let service = |protocol| network::service(form, protocol, 80, Scheduler::Rr, method, 1);
    let plan = network::plan(PROTOCOLS.map(service).to_vec());
    Director::new(1, 64, Plan { forwards: vec![everything_passes()], ..plan })
}

/// A packet that begins a connection, with `data` bytes behind its transport header.
fn packet(ip: &Ip, protocol: Protocol, (from, to): (u16, u16), data: usize) -> Vec<u8> {
    let bytes = (0..data).map(|byte| byte as u8).collect::<Vec<_>>();
    match protocol {
        Protocol::Udp => ip.udp(from, to, &bytes),
        Protocol::Sctp => {
            let length = (4 + data as u16).to_be_bytes();
            ip.sctp(from, to, &[&[1, 0][..], &length, &bytes].concat())
        }
        Protocol::Tcp | Protocol::Icmp => ip.tcp(&Tcp::new(from, to, "S").data(&bytes)),
    }
}

/// The packet cut at these places of its data, in order.
fn cut(packet: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let is_v4 = packet[0] >> 4 == 4;
    let (header, data) = packet.split_at(if is_v4 { 20 } else { 40 });
    let starts = [&[0], cuts].concat();
    let ends = [cuts, &[data.len()]].concat();
    let fragment = |(&start, &end): (&usize, &usize)| {
        let more = end < data.len();
        if is_v4 {
            let word = (start / 8) as u16 | u16::from(more) << 13;
            let mut fragment = [header, &data[start..end]].concat();
            let length = fragment.len() as u16;
            fragment[2..4].copy_from_slice(&length.to_be_bytes());
            fragment[6..8].copy_from_slice(&word.to_be_bytes());
            fragment[10..12].fill(0);
            let sum = shunt_tests::text::checksum(&[&fragment[..20]]);
            fragment[10..12].copy_from_slice(&sum.to_be_bytes());
            return fragment;
        }
        let [high, low] = (start as u16 | u16::from(more)).to_be_bytes();
        let mut fragment = [header, &[header[6], 0, high, low, 0, 0, 0, 9], &data[start..end]].concat();
        let payload = (fragment.len() - 40) as u16;
        fragment[4..6].copy_from_slice(&payload.to_be_bytes());
        fragment[6] = number::FRAGMENT;
        fragment
    };
    starts.iter().zip(&ends).map(fragment).collect()
}

fn from_front(packet: &[u8]) -> Arrival {
    Arrival { nic: FRONT, frame: ethernet(nic_mac(FRONT), ROUTER, packet) }
}

fn from_real(packet: &[u8]) -> Arrival {
    Arrival { nic: BACK, frame: ethernet(nic_mac(BACK), real_mac(1), packet) }
}

/// Where the data of each fragment that leaves begins and ends, when the last of these came.
fn take(director: &mut Director, arrivals: &[Arrival]) -> Vec<(usize, usize)> {
    let mut outcomes = arrivals.iter().map(|arrival| director.take(arrival.nic, &arrival.frame));
    let last = outcomes.by_ref().take(arrivals.len()).fold(None, |before: Option<Outcome>, outcome| {
        assert!(before.is_none_or(|before| before.all_sent().next().is_none()), "too early");
        Some(outcome)
    });
    assert_eq!(director.held(), 0);
    last.expect("fragments").all_sent().map(|(_, frame)| part(frame)).collect()
}

fn part(frame: &[u8]) -> (usize, usize) {
    let word = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    match frame[12..14] {
        [8, 0] => {
            let start = (word(20) & 0x1fff) * 8;
            (start, start + frame.len() - 34)
        }
        _ if frame[20] == number::FRAGMENT => {
            let start = word(56) & !7;
            (start, start + frame.len() - 62)
        }
        _ => (0, frame.len() - 54),
    }
}

/// Cuts of a packet with so many bytes of data behind the IP header.
fn as_cut(cuts: &[usize], length: usize) -> Vec<(usize, usize)> {
    let starts = [&[0], cuts].concat();
    let ends = [cuts, &[length]].concat();
    starts.into_iter().zip(ends).collect()
}

/// The data at a time as large as its largest fragment.
fn even(cuts: &[usize], length: usize) -> Vec<(usize, usize)> {
    let largest = as_cut(cuts, length).iter().map(|(start, end)| end - start).max().unwrap_or(0);
    let chunk = if largest >= length { length } else { largest & !7 };
    let starts = (0..length).step_by(chunk);
    let mut all = starts.map(|start| (start, (start + chunk).min(length))).collect::<Vec<_>>();
    // The last one may be as large as the largest.
    if let [.., (start, _), (_, end)] = all[..] {
        if end - start <= largest {
            all.truncate(all.len() - 2);
            all.push((start, end));
        }
    }
    all
}

const CUTS: [&[usize]; 5] = [&[8], &[16], &[24], &[24, 40, 400], &[8, 16, 24, 32]];

/// What is for the VIP is joined in memory, and cut anew at the size of its largest fragment.
#[test]
fn clients_cuts_of_ipv4_are_made_anew() {
    for protocol in PROTOCOLS {
        for method in [Method::Dr, Method::Nat] {
            for cuts in CUTS {
                let mut director = director(Form::V4, method);
                let ip = Ip::new(&Form::V4.client(1), Form::V4.vip());
                let whole = packet(&ip, protocol, (40000, 80), 600);
                let arrivals = cut(&whole, cuts).iter().map(|part| from_front(part)).collect::<Vec<_>>();
                let want = even(cuts, whole.len() - 20);
                assert_eq!(take(&mut director, &arrivals), want, "{protocol} {method} {cuts:?}");
            }
        }
    }
}

/// Answers that only pass keep them, where the first fragment holds what NAT writes to.
#[test]
fn answers_keep_the_cuts_that_they_came_with() {
    let form = Form::V4;
    for protocol in PROTOCOLS {
        for cuts in CUTS {
            let mut director = director(form, Method::Nat);
            let asked = packet(&Ip::new(&form.client(1), form.vip()), protocol, (40000, 80), 8);
            assert!(!take(&mut director, &[from_front(&asked)]).is_empty());
            let ip = Ip::new(&form.real(1), &form.client(1));
            let answer = |port| packet(&ip, protocol, (port, 40000), 600);
            let header = match protocol {
                Protocol::Tcp => 20,
                Protocol::Sctp => 12,
                Protocol::Udp | Protocol::Icmp => 8,
            };
            // Of the connection, and of none: then nothing is written.
            for (port, is_written) in [(8080, true), (9, false)] {
                let whole = answer(port);
                let arrivals = cut(&whole, cuts).iter().map(|part| from_real(part)).collect::<Vec<_>>();
                let keeps = !is_written || cuts[0] >= header;
                let length = whole.len() - 20;
                let want = if keeps { as_cut(cuts, length) } else { even(cuts, length) };
                assert_eq!(take(&mut director, &arrivals), want, "{protocol} {port} {cuts:?}");
            }
        }
    }
}

/// The same for hosts behind an address of the director's.
#[test]
fn masqueraded_hosts_keep_their_cuts() {
    let form = Form::V4;
    let rule = MasqueradeRule {
        from: "10.1.0.0/24".parse().expect("a network"),
        to: None,
        except: None,
        nic: Some(FRONT),
        address: None,
    };
    let plan = Plan { masquerades: vec![rule], ..network::plan(Vec::new()) };
    let mut director = Director::new(1, 64, plan);
    let whole = packet(&Ip::new(&form.real(1), "203.0.113.9"), Protocol::Udp, (40000, 53), 600);
    let arrivals = cut(&whole, &[8, 400]).iter().map(|part| from_real(part)).collect::<Vec<_>>();
    assert_eq!(take(&mut director, &arrivals), [(0, 8), (8, 400), (400, 608)]);
    let back = packet(&Ip::new("203.0.113.9", form.own(FRONT)), Protocol::Udp, (53, 40000), 600);
    let arrivals = cut(&back, &[8, 400]).iter().map(|part| from_front(part)).collect::<Vec<_>>();
    assert_eq!(take(&mut director, &arrivals), [(0, 8), (8, 400), (400, 608)]);
}

/// A way that is narrower than the largest fragment: all are made anew.
#[test]
fn cuts_that_do_not_fit_are_made_anew() {
    let form = Form::V4;
    let mut director = director(form, Method::Nat);
    director.publish(|plan| plan.nics[0].mtu = 500);
    let ip = Ip::new(&form.real(1), &form.client(1));
    let whole = packet(&ip, Protocol::Udp, (9, 40000), 992);
    let arrivals = cut(&whole, &[400]).iter().map(|part| from_real(part)).collect::<Vec<_>>();
    assert_eq!(take(&mut director, &arrivals), [(0, 480), (480, 960), (960, 1000)]);
    // The last one may fill the MTU, though that is no multiple of eight.
    director.publish(|plan| plan.nics[0].mtu = 503);
    let whole = packet(&ip, Protocol::Udp, (9, 40000), 480 + 483 - 8);
    let arrivals = cut(&whole, &[8]).iter().map(|part| from_real(part)).collect::<Vec<_>>();
    assert_eq!(take(&mut director, &arrivals), [(0, 480), (480, 963)]);
}

/// IPv6 keeps them where all are small or large, as the kernel's buffers have room.
#[test]
fn ipv6_keeps_small_and_large_cuts() {
    let form = Form::V6;
    for (method, cuts, data, keeps) in [
        (Method::Dr, &[64, 128][..], 150, true),
        (Method::Nat, &[64, 128], 150, true),
        (Method::Dr, &[1400, 1464], 2700, true),
        (Method::Nat, &[1400, 1464], 2700, true),
        (Method::Tun, &[1400, 1464], 2700, false),
        (Method::Dr, &[1408, 2344], 3400, false),
        (Method::Nat, &[464, 696], 2000, false),
    ] {
        let mut director = director(form, method);
        let whole = packet(&Ip::new(&form.client(1), form.vip()), Protocol::Udp, (40000, 80), data);
        let arrivals = cut(&whole, cuts).iter().map(|part| from_front(part)).collect::<Vec<_>>();
        let length = whole.len() - 40;
        let sent = take(&mut director, &arrivals);
        assert_eq!(sent == as_cut(cuts, length), keeps, "{method} {cuts:?}: {sent:?}");
    }
}

/// IPv6 puts nothing together whose TCP header is cut; what only passes goes on as it is.
#[test]
fn ipv6_first_fragments_hold_a_tcp_header() {
    let form = Form::V6;
    for cuts in [&[8][..], &[16]] {
        let mut director = director(form, Method::Nat);
        let asked = packet(&Ip::new(&form.client(1), form.vip()), Protocol::Tcp, (40000, 80), 8);
        let first = from_front(&cut(&asked, cuts)[0]);
        let refused = Verdict::Drop(DropReason::TransportHeader);
        assert_eq!(director.take(FRONT, &first.frame).verdict, refused);
        assert!(!take(&mut director, &[from_front(&asked)]).is_empty());
        let answer = |port| packet(&Ip::new(&form.real(1), &form.client(1)), Protocol::Tcp, (port, 40000), 8);
        let first = |port| from_real(&cut(&answer(port), cuts)[0]).frame;
        assert_eq!(director.take(BACK, &first(8080)).verdict, refused, "of the connection");
        assert_eq!(director.take(BACK, &first(9)).verdict, Verdict::Send(FRONT), "of none");
    }
}

/// Headers between fragment header and transport header are no more to be cut than that (RFC 7112; kernel: `ipv6frag_thdr_truncated`).
#[test]
fn ipv6_first_fragments_that_end_within_extension_headers_are_told_of() {
    let form = Form::V6;
    let mut director = director(form, Method::Dr);
    let asked = packet(&Ip::new(&form.client(1), form.vip()), Protocol::Tcp, (40000, 80), 8);
    // Destination options of 16 bytes.
    let options = [&[6, 1, 1, 12][..], &[0; 12]].concat();
    let whole = Ip::new(&form.client(1), form.vip()).carry(60, &[&options, &asked[40..]].concat());
    let arrivals = cut(&whole, &[8]).iter().map(|part| from_front(part)).collect::<Vec<_>>();
    let verdicts = arrivals.iter().map(|arrival| director.take(arrival.nic, &arrival.frame).verdict);
    assert_eq!(
        verdicts.collect::<Vec<_>>(),
        [Verdict::Reply(FRONT, ReplyKind::ParameterProblem), Verdict::Gather]
    );
}

/// What is beyond a multiple of eight bytes in a fragment that is not the last is left out, as the kernel does it in IPv4: the next fragment has it again.
#[test]
fn bytes_beyond_a_multiple_of_eight_are_left_out() {
    let form = Form::V4;
    let whole = packet(&Ip::new(&form.client(1), form.vip()).id(9), Protocol::Udp, (40000, 80), 100);
    let [first, later] = &cut(&whole, &[64])[..] else { panic!("two fragments") };
    let mut longer = [&first[..], &[0xee; 5]].concat();
    let length = longer.len() as u16;
    longer[2..4].copy_from_slice(&length.to_be_bytes());
    longer[10..12].fill(0);
    let sum = shunt_tests::text::checksum(&[&longer[..20]]);
    longer[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut director = director(form, Method::Dr);
    let cuts = take(&mut director, &[from_front(&longer), from_front(later)]);
    assert_eq!(cuts, [(0, 64), (64, 108)]);
}

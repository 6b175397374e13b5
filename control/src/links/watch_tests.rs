//! What becomes of links, told by a kernel that is made up.

use super::*;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use shunt_model::interface::Interface;

const FRONT: NicId = NicId(0);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn interface(name: &str) -> Interface {
    Interface {
        name: name.into(),
        up: true,
        carrier: true,
        mtu: 1500,
        mac: Some(MAC),
        ..Interface::default()
    }
}

fn message(index: u32, name: &str, flags: LinkFlags, mac: Mac, mtu: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    (link.header.index, link.header.flags) = (index, flags);
    link.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::Mtu(mtu),
    ];
    link
}

fn up(index: u32, name: &str, mac: Mac, mtu: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewLink(message(index, name, LinkFlags::Up | LinkFlags::LowerUp, mac, mtu))
}

fn gone(index: u32, name: &str) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelLink(message(index, name, LinkFlags::empty(), MAC, 1500))
}

/// A watch over one NIC on `eth1`, index 5, which is up; what follows from that is told already.
fn watch(maker: Maker) -> Watch {
    let watched =
        Watched { interface: Some(("eth1".into(), maker)), connects: false, index: Some(5), mac: MAC };
    let mut watch = Watch::new(vec![watched]);
    let mut all = Interfaces::default();
    all.set(5, interface("eth1"));
    watch.resync(all);
    let events = watch.events(Instant::now());
    assert!(
        matches!(events[..], [Event::Mtu(FRONT, 1500), Event::Link(FRONT, ref link)] if link.state.is_up()),
        "{events:?}"
    );
    watch
}

fn states(events: &[Event]) -> Vec<State> {
    let of = |event: &Event| match event {
        Event::Link(_, link) => Some(link.state),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn opens(events: &[Event]) -> Vec<&str> {
    let of = |event: &Event| match event {
        Event::Open(_, name) => Some(name.clone().unwrap_or_default()),
        _ => None,
    };
    events.iter().filter_map(of).map(|name| &*name.leak()).collect()
}

#[test]
fn set_down_no_carrier_and_up_again_are_told_once_each() {
    let (mut watch, now) = (watch(Maker::Others), Instant::now());
    for (flags, state) in [
        (LinkFlags::empty(), State::SetDown),
        (LinkFlags::Up, State::NoCarrier),
        // The kernel follows with its operational state (IFF_RUNNING) when it has time.
        (LinkFlags::Up | LinkFlags::LowerUp, State::Up),
    ] {
        for _ in 0..2 {
            watch.hear(&RouteNetlinkMessage::NewLink(message(5, "eth1", flags, MAC, 1500)));
        }
        assert_eq!(states(&watch.events(now)), [state]);
        assert_eq!(watch.events(now), []);
        assert_eq!(watch.waits_for_carrier(), state == State::NoCarrier);
    }
}

#[test]
fn an_interface_that_is_made_anew_is_opened_and_again_until_that_succeeds() {
    let (mut watch, now) = (watch(Maker::Others), Instant::now());
    watch.hear(&gone(5, "eth1"));
    assert_eq!(states(&watch.events(now)), [State::Gone]);
    watch.hear(&up(6, "other", OTHER, 1500));
    assert_eq!(watch.events(now), []);
    watch.hear(&up(7, "eth1", OTHER, 1400));
    let events = watch.events(now);
    assert_eq!((opens(&events), states(&events)), (vec!["eth1"], vec![State::Closed]));
    assert_eq!(watch.events(now + RETRY / 2), []);
    assert_eq!(opens(&watch.events(now + RETRY)), ["eth1"]);
    watch.opened(FRONT, Some(7), OTHER);
    let events = watch.events(now + RETRY);
    assert!(
        matches!(events[..], [Event::Mtu(FRONT, 1400), Event::Link(FRONT, ref link)] if link.state.is_up()),
        "{events:?}"
    );
}

/// Even when it has its old number, and nobody looked meanwhile: the sockets of before are of no use.
#[test]
fn an_interface_that_was_away_and_is_back_is_opened_again() {
    let (mut watch, now) = (watch(Maker::Others), Instant::now());
    watch.hear(&gone(5, "eth1"));
    watch.hear(&up(5, "eth1", MAC, 1500));
    let events = watch.events(now);
    assert_eq!((opens(&events), states(&events)), (vec!["eth1"], vec![State::Closed]));
}

#[test]
fn an_interface_that_comes_back_under_another_name_is_known_by_its_index_and_mac() {
    let (mut watch, now) = (watch(Maker::Others), Instant::now());
    watch.hear(&gone(5, "eth1"));
    assert_eq!(states(&watch.events(now)), [State::Gone]);
    // Another one got its number.
    watch.hear(&up(5, "veth9", OTHER, 1500));
    assert_eq!(watch.events(now), []);
    watch.hear(&gone(5, "veth9"));
    watch.hear(&up(5, "eth7", MAC, 1500));
    assert_eq!(opens(&watch.events(now)), ["eth7"]);
}

#[test]
fn a_missed_deletion_is_seen_when_all_is_read_again() {
    let (mut watch, now) = (watch(Maker::Others), Instant::now());
    let mut all = Interfaces::default();
    all.set(9, interface("eth1"));
    watch.resync(all);
    assert_eq!(opens(&watch.events(now)), ["eth1"]);
}

#[test]
fn what_the_driver_makes_is_made_again_at_once() {
    let (mut watch, now) = (watch(Maker::Driver), Instant::now());
    watch.hear(&gone(5, "eth1"));
    assert_eq!(opens(&watch.events(now)), ["eth1"]);
}

#[test]
fn another_mac_another_mtu_and_another_name_are_told() {
    let (mut watch, now) = (watch(Maker::Others), Instant::now());
    watch.hear(&up(5, "eth1", OTHER, 1500));
    assert_eq!(watch.events(now), [Event::Mac(FRONT, OTHER)]);
    watch.hear(&up(5, "eth1", OTHER, 1400));
    assert_eq!(watch.events(now), [Event::Mtu(FRONT, 1400)]);
    watch.hear(&up(5, "wan", OTHER, 1400));
    assert_eq!(watch.events(now), [Event::Renamed(FRONT, "eth1".into(), "wan".into())]);
    // It is known by its new name from now on.
    watch.hear(&gone(5, "wan"));
    watch.hear(&up(6, "wan", OTHER, 1400));
    assert_eq!(opens(&watch.events(now)), ["wan"]);
}

#[test]
fn addresses_that_the_kernel_takes_and_gives_up_are_told_on_whichever_interface() {
    let (mut watch, now) = (watch(Maker::Others), Instant::now());
    let (vip, own) = ("192.0.2.10".parse().unwrap(), "2001:db8::2".parse().unwrap());
    let local = "fe80::2".parse().unwrap();
    let claim = |address, own, link| Claim { address, own, link };
    watch.set_claims(vec![claim(vip, false, None), claim(own, true, None), claim(local, true, Some(FRONT))]);
    watch.interfaces.set(1, interface("lo"));
    watch.interfaces.hold("192.0.2.99".parse().unwrap(), 5, true);
    watch.interfaces.hold(local, 1, true);
    assert_eq!(watch.events(now), []);
    for (address, index, is_own, name) in
        [(vip, 5, false, "eth1"), (vip, 1, false, "lo"), (own, 5, true, "eth1"), (local, 5, true, "eth1")]
    {
        watch.interfaces.hold(address, index, true);
        let held = Held { address, own: is_own, interface: name.into() };
        assert_eq!(watch.events(now), [Event::Holds(held.clone())]);
        assert_eq!(watch.events(now), []);
        assert_eq!(watch.held().collect::<Vec<_>>(), [&held]);
        watch.interfaces.hold(address, index, false);
        assert_eq!(watch.events(now), [Event::HoldsNoMore(held)]);
    }
    // An interface takes its addresses with it.
    watch.interfaces.hold(vip, 5, true);
    assert_eq!(watch.events(now).len(), 1);
    watch.hear(&gone(5, "eth1"));
    assert!(watch.events(now).iter().any(|event| matches!(event, Event::HoldsNoMore(_))));
}

#[test]
fn what_only_a_driver_knows_is_up_until_it_says_otherwise() {
    let mut watch = Watch::new(vec![Watched { interface: None, connects: false, index: None, mac: MAC }]);
    let now = Instant::now();
    assert_eq!(watch.without_interface().collect::<Vec<_>>(), [FRONT]);
    for (said, state) in [
        (None, vec![State::Up]),
        (Some(false), vec![State::DriverDown]),
        (Some(true), vec![State::Up]),
        (None, vec![]),
    ] {
        watch.driver_says(FRONT, said);
        assert_eq!(states(&watch.events(now)), state);
    }
}

/// A driver that connects once is of no use when the other end is gone, and has a while to connect after it was opened.
#[test]
fn a_nic_whose_other_end_is_gone_is_opened_again_until_it_is_connected() {
    let mut watch = Watch::new(vec![Watched { interface: None, connects: true, index: None, mac: MAC }]);
    let start = Instant::now();
    let at = |milliseconds| start + Duration::from_millis(milliseconds);
    let opened = |events: &[Event]| opens(events).len();
    let most = CONNECT_MAX.as_millis() as u64;
    // At the start it connects, as after each opening.
    for begin in [0, 10_000] {
        watch.driver_says(FRONT, Some(false));
        let events = watch.events(at(begin));
        assert_eq!((states(&events).len(), opened(&events)), (usize::from(begin == 0), 0), "{begin}");
        assert_eq!(watch.events(at(begin + most - 1)), []);
        watch.driver_says(FRONT, Some(true));
        assert_eq!(states(&watch.events(at(begin + most))), [State::Up]);
        // From then on nothing is waited for.
        watch.driver_says(FRONT, Some(false));
        let events = watch.events(at(begin + most + 1));
        assert_eq!((states(&events), opened(&events)), (vec![State::Disconnected], 1));
        // It is closed while it is tried: there is no driver to ask.
        watch.driver_says(FRONT, None);
        assert_eq!(watch.events(at(begin + most + 500)), []);
        let events = watch.events(at(begin + most + 501));
        assert_eq!((states(&events), opened(&events)), (vec![], 1));
        watch.opened(FRONT, None, OTHER);
    }
    // The other end takes it and never answers.
    watch.driver_says(FRONT, Some(false));
    assert_eq!(watch.events(at(20_000)), []);
    assert_eq!(opened(&watch.events(at(20_000 + most))), 1);
}

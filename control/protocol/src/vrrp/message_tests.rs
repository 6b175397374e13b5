//! Adverts byte by byte, beside those of keepalived 2.2.7.

use std::sync::Arc;

use proptest::prelude::*;
use shunt_dataplane::id::NicId;
use shunt_model::secret::Secret;
use shunt_model::vrrp::{Announcing, HmacKey, Peer, Replay};

use super::*;

/// The sequence number of the draft's examples, and its time.
const TRAILED: u64 = 0x6800_0000_8000_0000;
const TRAILED_AT: Duration = Duration::new(0x6800_0000, 500_000_000);
const MAC: Mac = Mac([2, 0, 0, 0, 0xd0, 1]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn instance(version: Version, interval: u64, source: &str, addresses: &[&str]) -> Instance {
    Instance {
        name: "VI_1".into(),
        nic: NicId(0),
        vrid: Vrid(51),
        version,
        priority: 150,
        interval: Duration::from_millis(interval),
        source: ip(source),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        excluded: Vec::new(),
        peers: Vec::new(),
        auth: Auth::None,
        preempt: Some(Duration::ZERO),
        start_grace: Duration::ZERO,
        warn_after: Duration::ZERO,
        announcing: Announcing::default(),
        tracks: Vec::new(),
        notify: Arc::default(),
        virtual_mac: None,
    }
}

/// The frame around an IP packet, to everybody.
fn frame(packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&[0xff; 6][..], &[2, 0, 0, 0, 0xa, 1], &kind, packet].concat()
}

/// keepalived's adverts, the settings that made them, and where they go.
fn recorded() -> Vec<(&'static str, Instance, &'static str, Vec<u8>)> {
    let v2 = |addresses: &[&str]| instance(Version::V2, 1000, "192.0.2.3", addresses);
    let password = Auth::Password(*b"secret12");
    let header = Auth::Header(*b"k3y\0\0\0\0\0");
    let peer = Peer { address: ip("192.0.2.3"), hop: ip("192.0.2.3"), ttl_min: 255 };
    vec![
        (
            "version 2",
            v2(&["192.0.2.10"]),
            "224.0.0.18",
            bytes(
                "45c0 0028 0001 0000 ff70 188f c000 0203 e000 0012
                 2133 9601 0001 86bf c000 020a 0000 0000 0000 0000",
            ),
        ),
        (
            "version 2, password",
            Instance { auth: password, ..v2(&["192.0.2.10", "192.0.2.11"]) },
            "224.0.0.18",
            bytes(
                "45c0 002c 0001 0000 ff70 188b c000 0203 e000 0012
                 2133 9602 0101 5634 c000 020a c000 020b 7365 6372 6574 3132",
            ),
        ),
        (
            "version 2, authentication header",
            Instance { auth: header.clone(), ..v2(&["192.0.2.10"]) },
            "224.0.0.18",
            bytes(
                "45c0 0040 0001 0000 ff33 18b4 c000 0203 e000 0012
                 7004 0000 c000 0203 0000 0001 9a0c e3d6 221e 5f59 cf9d 0a53
                 2133 9601 0201 84bf c000 020a 0000 0000 0000 0000",
            ),
        ),
        (
            "version 3",
            instance(Version::V3, 100, "192.0.2.3", &["192.0.2.10"]),
            "224.0.0.18",
            bytes("45c0 0020 0001 0000 ff70 1897 c000 0203 e000 0012 3133 9601 000a d423 c000 020a"),
        ),
        (
            "version 3, unicast",
            Instance { peers: vec![peer], ..instance(Version::V3, 1000, "192.0.2.3", &["192.0.2.10"]) },
            "192.0.2.2",
            bytes("45c0 0020 0001 0000 ff70 36a7 c000 0203 c000 0202 3133 9601 0064 f1d9 c000 020a"),
        ),
        (
            // keepalived lets the kernel choose a flow label; the director sends none.
            "version 3, IPv6",
            instance(Version::V3, 250, "fe80::ff:fe00:a01", &["fe80::10", "2001:db8::10"]),
            "ff02::12",
            bytes(
                "6c00 0000 0028 70ff fe80 0000 0000 0000 0000 00ff fe00 0a01 ff02 0000 0000 0000 0000 0000 0000 0012
                 3133 9602 0019 0528 fe80 0000 0000 0000 0000 0000 0000 0010 2001 0db8 0000 0000 0000 0000 0000 0010",
            ),
        ),
        (
            // The TTL is not covered.
            "version 2, authentication header, unicast",
            Instance {
                peers: vec![Peer { address: ip("192.0.2.4"), hop: ip("192.0.2.4"), ttl_min: 255 }],
                auth: header.clone(),
                ..instance(Version::V2, 1000, "192.0.2.4", &["192.0.2.10"])
            },
            "192.0.2.5",
            bytes(
                "45c0 0040 0001 0000 ff33 36c0 c000 0204 c000 0205
                 7004 0000 c000 0204 0000 0001 b733 d62c 9a1c 1c48 7734 cf0f
                 2133 9601 0201 84bf c000 020a 0000 0000 0000 0000",
            ),
        ),
    ]
}

fn envelope(sequence: u32) -> Envelope {
    Envelope { identification: 1, sequence, trailer: TRAILED }
}

#[test]
fn what_is_built_is_keepaliveds_byte_for_byte() {
    for (what, settings, destination, want) in recorded() {
        assert_eq!(build(&settings, 150, ip(destination), envelope(1)), want, "{what}");
    }
}

#[test]
fn keepaliveds_adverts_are_believed() {
    for (what, settings, destination, packet) in recorded() {
        let heard = Heard::read(&frame(&packet), MAC).unwrap();
        let Instance { version, vrid, interval, addresses, .. } = settings.clone();
        assert_eq!(heard.advert, Advert { version, vrid, priority: 150, interval, addresses }, "{what}");
        assert_eq!((heard.source, heard.destination, heard.ttl), (settings.source, ip(destination), 255));
        assert_eq!(heard.check(&settings, &Past::default()), Ok(()), "{what}");
    }
}

#[test]
fn no_bit_of_an_advert_may_change_but_those_that_routers_change() {
    for (what, settings, _, packet) in recorded() {
        // In front of the message stand fields that no checksum of version 2 covers.
        let message = packet.len() - if packet[0] == 0x60 { 40 } else { 12 };
        for bit in 8 * message..8 * packet.len() {
            let mut changed = packet.clone();
            changed[bit / 8] ^= 0x80 >> (bit % 8);
            let believed = Heard::read(&frame(&changed), MAC).is_some_and(|heard| {
                heard.advert.vrid == Vrid(51) && heard.check(&settings, &Past::default()).is_ok()
            });
            assert!(!believed, "{what}: bit {bit}");
        }
    }
}

#[test]
fn what_is_wrong_is_told() {
    use Refusal::{AuthKind, Checksum, Digest, Interval, Multicast, NotPeer, Password, Replay, Ttl, Unicast};
    let v3 = instance(Version::V3, 100, "192.0.2.3", &["192.0.2.10"]);
    let v2 = instance(Version::V2, 1000, "192.0.2.3", &["192.0.2.10"]);
    let with = |auth| Instance { auth, ..v2.clone() };
    let [one, other] = [*b"one\0\0\0\0\0", *b"other\0\0\0"];
    let peer = |address: &str, ttl_min| Peer { address: ip(address), hop: ip(address), ttl_min };
    let unicast = |peer| Instance { peers: vec![peer], ..v3.clone() };
    let (group, host) = ("224.0.0.18", "192.0.2.2");
    let seconds = Duration::from_secs;
    for (sent, to, ttl, ours, last, want) in [
        (&v3, group, 255, &v3, None, Ok(())),
        (&v3, group, 254, &v3, None, Err(Ttl { left: 254, least: 255 })),
        (&v3, group, 255, &v2, None, Err(Refusal::Version { theirs: Version::V3, ours: Version::V2 })),
        (&v3, host, 255, &v3, None, Err(Unicast)),
        (&v3, group, 255, &unicast(peer("192.0.2.3", 255)), None, Err(Multicast)),
        (&v3, host, 255, &unicast(peer("192.0.2.3", 255)), None, Ok(())),
        (&v3, host, 250, &unicast(peer("192.0.2.3", 250)), None, Ok(())),
        (&v3, host, 249, &unicast(peer("192.0.2.3", 250)), None, Err(Ttl { left: 249, least: 250 })),
        (&v3, host, 255, &unicast(peer("192.0.2.4", 255)), None, Err(NotPeer)),
        (&v2, group, 255, &with(Auth::Password(one)), None, Err(AuthKind { theirs: 0, ours: 1 })),
        (&with(Auth::Password(one)), group, 255, &v2, None, Err(AuthKind { theirs: 1, ours: 0 })),
        (&with(Auth::Password(one)), group, 255, &with(Auth::Password(one)), None, Ok(())),
        (&with(Auth::Password(one)), group, 255, &with(Auth::Password(other)), None, Err(Password)),
        (&with(Auth::Header(one)), group, 255, &with(Auth::Header(one)), Some(6), Ok(())),
        (&with(Auth::Header(one)), group, 255, &with(Auth::Header(other)), None, Err(Digest)),
        (
            &with(Auth::Header(one)),
            group,
            255,
            &with(Auth::Header(one)),
            Some(7),
            Err(Replay { sequence: 7, last: 7 }),
        ),
        (&with(Auth::Header(one)), group, 255, &v2, None, Err(AuthKind { theirs: 2, ours: 0 })),
        (
            &v2,
            group,
            255,
            &Instance { interval: seconds(2), ..v2.clone() },
            None,
            Err(Interval { theirs: seconds(1), ours: seconds(2) }),
        ),
    ] {
        let mut packet = build(sent, 150, ip(to), envelope(7));
        if ttl != 255 {
            packet[8] = ttl;
            packet[10..12].fill(0);
            let sum = Sum::of(&packet[..20]).checksum();
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        // A unicast frame is for the NIC's MAC.
        let mut frame = frame(&packet);
        if to == host {
            frame[..6].copy_from_slice(&MAC.0);
        }
        let heard = Heard::read(&frame, MAC).unwrap();
        assert_eq!(
            heard.check(ours, &Past { header: last, ..Past::default() }),
            want,
            "{sent:?} to {ours:?}"
        );
        if let Err(refusal) = want {
            assert!(!refusal.to_string().is_empty());
        }
    }
    let mut broken = build(&v3, 150, ip(group), envelope(7));
    broken[26] ^= 1;
    let heard = Heard::read(&frame(&broken), MAC).unwrap();
    assert_eq!(heard.check(&v3, &Past::default()), Err(Checksum));
}

#[test]
fn what_is_cut_or_of_another_kind_is_no_advert() {
    for (what, _, _, packet) in recorded() {
        let whole = frame(&packet);
        for length in 0..whole.len() {
            assert_eq!(Heard::read(&whole[..length], MAC), None, "{what}: {length} bytes");
        }
    }
    let v3 =
        build(&instance(Version::V3, 100, "192.0.2.3", &["192.0.2.10"]), 150, ip("224.0.0.18"), envelope(1));
    for (what, at, value) in [
        ("version 4", 20, 0x41),
        ("not an advert", 20, 0x32),
        ("version 2 without its eight bytes", 20, 0x21),
        ("more addresses than there are", 23, 2),
        ("an interval of zero", 25, 0),
    ] {
        let mut packet = v3.clone();
        packet[at] = value;
        assert_eq!(Heard::read(&frame(&packet), MAC), None, "{what}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(tail in proptest::collection::vec(any::<u8>(), 0..80), kind in 0..3_usize) {
        let (_, settings, _, packet) = recorded().swap_remove([0, 2, 5][kind]);
        let header = if kind == 2 { 40 } else { 20 };
        let mut packet = packet[..header].to_vec();
        packet.extend(&tail);
        let length = if kind == 2 { tail.len() } else { packet.len() } as u16;
        let at = if kind == 2 { 4 } else { 2 };
        packet[at..at + 2].copy_from_slice(&length.to_be_bytes());
        if kind != 2 {
            packet[10..12].fill(0);
            let sum = Sum::of(&packet[..20]).checksum();
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        if let Some(heard) = Heard::read(&frame(&packet), MAC) {
            let _ = heard.check(&settings, &Past::default());
        }
    }
}

/// The key of the draft's examples.
fn hmac(mode: HmacMode, replay: Replay) -> Auth {
    let keys = vec![HmacKey { id: 1, secret: Secret::new((0..32).collect()) }];
    Auth::Hmac(Arc::new(Hmac { keys, active: 1, replay, mode }))
}

#[test]
fn a_signed_advert_is_the_drafts_byte_by_byte() {
    let mut settings = instance(Version::V3, 1000, "fe80::10", &["fe80::100"]);
    settings.auth = hmac(HmacMode::Enforce, Replay::Time(Some(5)));
    settings.peers = vec![Peer { address: ip("fe80::20"), hop: ip("fe80::20"), ttl_min: 255 }];
    let packet = build(&settings, 200, ip("fe80::20"), envelope(1));
    let want = bytes(
        "3133c8010064a2e9 fe800000000000000000000000000100 010100006800000080000000 c8c56146ebfd66ee10ec4d8186461b78",
    );
    assert_eq!(packet[40..], want);
    let v4 =
        Instance { auth: settings.auth, ..instance(Version::V3, 1000, "198.51.100.10", &["192.0.2.100"]) };
    let packet = build(&v4, 200, ip("224.0.0.18"), envelope(1));
    // The draft's example has the checksum of the message alone; here it covers the pseudo header, as keepalived's.
    let mut want =
        bytes("3133c80100644402 c0000264 010100006800000080000000 1b84bc4e8e43892dc6d98448f8ee2265");
    want[6..8].copy_from_slice(&packet[26..28]);
    assert_eq!(packet[20..], want);
}

#[test]
fn what_is_wrong_with_a_trailer_is_told() {
    use Refusal::{AuthKind, Digest, KeyId, Replay as Again, Stale, Trailer as Unknown};
    let (time, monotonic) = (Replay::Time(Some(5)), Replay::Monotonic);
    let of = |version, auth| Instance { auth, ..instance(version, 1000, "192.0.2.3", &["192.0.2.10"]) };
    for version in [Version::V2, Version::V3] {
        let with = |mode, replay| of(version, hmac(mode, replay));
        let (enforce, plain) = (with(HmacMode::Enforce, time), of(version, Auth::None));
        let mut other = hmac(HmacMode::Enforce, time);
        let mut second = hmac(HmacMode::Enforce, time);
        if let (Auth::Hmac(other), Auth::Hmac(second)) = (&mut other, &mut second) {
            Arc::make_mut(other).keys[0].secret = Secret::new(vec![7; 64]);
            let second = Arc::make_mut(second);
            (second.active, second.keys[0].id) = (2, 2);
        }
        let at = |seconds: i64| Duration::from_secs((TRAILED_AT.as_secs() as i64 + seconds) as u64);
        let past = |trailer, unix| Past { header: None, trailer, unix };
        let new = |seconds| past(None, at(seconds));
        for (sent, ours, past, want) in [
            (&enforce, &enforce, new(5), Ok(())),
            (&enforce, &enforce, new(-5), Ok(())),
            (&enforce, &enforce, new(6), Err(Stale { behind: 6, window: 5 })),
            (&enforce, &enforce, new(-6), Err(Stale { behind: -6, window: 5 })),
            (&enforce, &with(HmacMode::Enforce, monotonic), new(90_000), Ok(())),
            (&enforce, &with(HmacMode::Permissive, time), new(0), Ok(())),
            (&enforce, &with(HmacMode::ReceiveOnly, time), new(0), Ok(())),
            (&enforce, &plain, new(0), Err(AuthKind { theirs: 3, ours: 0 })),
            (&plain, &enforce, new(0), Err(AuthKind { theirs: 0, ours: 3 })),
            (&plain, &with(HmacMode::Permissive, time), new(0), Ok(())),
            (&plain, &with(HmacMode::ReceiveOnly, time), new(0), Ok(())),
            (&with(HmacMode::ReceiveOnly, time), &plain, new(0), Ok(())),
            (&of(version, other), &enforce, new(0), Err(Digest)),
            (&of(version, second), &enforce, new(0), Err(KeyId(2))),
            (&enforce, &enforce, past(Some(TRAILED - 1), at(0)), Ok(())),
            (&enforce, &enforce, past(Some(TRAILED), at(0)), Err(Again { sequence: TRAILED, last: TRAILED })),
            // What was heard last is itself outside the window: the clock of whoever sent it was put back.
            (&enforce, &enforce, past(Some(TRAILED + (6 << 32)), at(0)), Ok(())),
            (
                &enforce,
                &with(HmacMode::Enforce, monotonic),
                past(Some(TRAILED + (6 << 32)), at(0)),
                Err(Again { sequence: TRAILED, last: TRAILED + (6 << 32) }),
            ),
        ] {
            let packet = build(sent, 150, ip("224.0.0.18"), envelope(7));
            let heard = Heard::read(&frame(&packet), MAC).unwrap();
            assert_eq!(heard.check(ours, &past), want, "{sent:?} to {ours:?}");
            if let Err(refusal) = want {
                assert!(!refusal.to_string().is_empty());
            }
        }
        let whole = build(&enforce, 150, ip("224.0.0.18"), envelope(7));
        for bit in 8 * 20..8 * whole.len() {
            let mut packet = whole.clone();
            packet[bit / 8] ^= 0x80 >> (bit % 8);
            let verdict = Heard::read(&frame(&packet), MAC)
                .filter(|heard| heard.advert.vrid == Vrid(51))
                .map(|heard| heard.check(&enforce, &new(0)));
            assert!(!matches!(verdict, Some(Ok(()))), "{version:?}: bit {bit}");
            if (bit / 8 + 28).checked_sub(whole.len()).is_some_and(|at| [0, 2, 3].contains(&at)) {
                assert_eq!(verdict, Some(Err(Unknown)), "{version:?}: bit {bit}");
            }
        }
    }
}

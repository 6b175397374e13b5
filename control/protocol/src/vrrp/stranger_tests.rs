//! Adverts of this VRID that are not what they should be: another cluster's, another configuration's, forged ones.

use super::*;

/// One that became master at 3610 ms.
fn master(instance: Instance) -> Timeline {
    let priority = instance.priority;
    let mut timeline = Timeline::new(vec![instance], Vec::new());
    let wait = timeline.machine.deadline().unwrap();
    timeline.run((wait - timeline.start).as_millis() as u64 + 1, Tick);
    assert_eq!((role(&timeline), timeline.machine.list()[0].priority), (Role::Master, priority));
    timeline
}

fn role(timeline: &Timeline) -> Role {
    timeline.machine.list()[0].role
}

/// An advert of another director of such settings, and what follows.
fn heard(timeline: &mut Timeline, at: u64, theirs: &Instance, last: u8, priority: u8) -> Vec<String> {
    let frame = frame(theirs, last, priority, at as u32);
    arrived(timeline, at, &frame)
}

fn arrived(timeline: &mut Timeline, at: u64, frame: &[u8]) -> Vec<String> {
    let out = &mut Vec::new();
    timeline.machine.frame(timeline.start + Duration::from_millis(at), FRONT, MAC, frame, out);
    out.iter().filter_map(|output| timeline.show(output)).collect()
}

fn with(vips: &[&str]) -> Instance {
    Instance { addresses: vips.iter().map(|vip| ip(vip)).collect(), ..front() }
}

/// keepalived 2.2.7 compares the number of VIPs and looks for each of its own, and keeps what it was.
#[test]
fn adverts_with_other_vips_change_nothing() {
    for theirs in [
        &["192.0.2.77"][..],
        &[],
        &["192.0.2.10", "192.0.2.11"],
        &["192.0.2.10", "192.0.2.10"],
        &["192.0.2.77", "192.0.2.78", "192.0.2.79", "192.0.2.80", "192.0.2.81"],
    ] {
        for priority in [0, 50, 250, 255] {
            let mut timeline = master(front());
            let out = heard(&mut timeline, 4000, &with(theirs), 9, priority);
            assert_eq!(out.len(), 1, "{out:?}");
            let shown = Vips::of(&with(theirs).addresses);
            let want = format!("refused 192.0.2.9: its VIPs are {shown}, this director's 192.0.2.10: ");
            assert!(out[0].starts_with(&want), "{out:?}");
            assert_eq!(role(&timeline), Role::Master);
            let listed = &timeline.machine.list()[0];
            assert_eq!((listed.refused.as_slice(), listed.peers[0].received), (&[("addresses", 1)][..], 0));
            assert_eq!(timeline.machine.counters().refused, 1);
            // A backup does not wait for it, and a better one that is its master does not hide it.
            let mut timeline = Timeline::new(vec![front()], Vec::new());
            heard(&mut timeline, 100, &front(), 8, 200);
            let before = timeline.machine.deadline();
            heard(&mut timeline, 500, &with(theirs), 9, priority);
            assert_eq!(timeline.machine.deadline(), before);
        }
    }
    assert_eq!(
        Vips::of(&["192.0.2.5", "192.0.2.4", "192.0.2.3", "192.0.2.2", "192.0.2.1"].map(ip)).to_string(),
        "192.0.2.1, 192.0.2.2, 192.0.2.3 and 2 more"
    );
    // The order of the VIPs is nobody's.
    let mut timeline = master(with(&["192.0.2.10", "192.0.2.11"]));
    heard(&mut timeline, 4000, &with(&["192.0.2.11", "192.0.2.10"]), 9, 150);
    assert_eq!(role(&timeline), Role::Backup);
}

/// Two clusters with one VRID and VIPs of their own are two masters, and no split brain.
#[test]
fn another_cluster_is_no_rival() {
    let mut timeline = master(front());
    let mut told = Vec::new();
    for at in (4000..90_000).step_by(500) {
        told.extend(heard(&mut timeline, at, &with(&["192.0.2.77"]), 9, 200));
        timeline.run(at, Tick);
    }
    assert_eq!(told.iter().filter(|line| line.starts_with("refused")).count(), 2, "once a minute: {told:?}");
    assert_eq!(timeline.machine.list()[0].split_brain, None);
    // With one of the VIPs it is.
    let mut told = Vec::new();
    for at in (90_000..100_000).step_by(500) {
        told.extend(heard(&mut timeline, at, &with(&["192.0.2.10", "192.0.2.77"]), 9, 200));
        timeline.run(at, Tick);
    }
    told.retain(|line| line.starts_with("split"));
    assert_eq!(told, ["split brain with 192.0.2.9: its adverts are refused"]);
}

/// VIPs are added and removed on one director after the other, with no second master in between.
#[test]
fn a_master_whose_vips_were_changed_first_is_followed() {
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    heard(&mut timeline, 100, &front(), 9, 150);
    let out = heard(&mut timeline, 1100, &with(&["192.0.2.10", "192.0.2.11"]), 9, 150);
    assert_eq!(
        out,
        [
            "odd 192.0.2.9: its VIPs are 192.0.2.10, 192.0.2.11, this director's 192.0.2.10: the others are nobody's: \
          set the same on both"
        ]
    );
    assert!(heard(&mut timeline, 2100, &with(&["192.0.2.10", "192.0.2.11"]), 9, 150).is_empty());
    let since = timeline.start + Duration::from_millis(2100);
    assert_eq!(timeline.machine.deadline(), Some(since + front().master_down(100, front().interval)));
    assert!(timeline.machine.list()[0].peers[0].complaint.is_some());
    // One that has none of them any more is not.
    let out = heard(&mut timeline, 3100, &with(&["192.0.2.11"]), 9, 150);
    assert!(out[0].starts_with("refused 192.0.2.9: its VIPs are 192.0.2.11, "), "{out:?}");
    assert_eq!(timeline.machine.deadline(), Some(since + front().master_down(100, front().interval)));
    // All is well again.
    heard(&mut timeline, 4100, &front(), 9, 150);
    let peer = &timeline.machine.list()[0].peers[0];
    assert_eq!((peer.refused, peer.complaint), (None, None));
}

#[test]
fn an_absurd_interval_and_a_second_owner_are_told() {
    let slow = Instance { interval: Duration::from_millis(40_950), ..front() };
    let mut timeline = Timeline::new(vec![front()], Vec::new());
    let want = "odd 192.0.2.9: its interval is 40.95s, this director's 1s: it is waited for as if it were 4s: set the same on both";
    assert_eq!(heard(&mut timeline, 100, &slow, 9, 150), [want]);
    assert!(heard(&mut timeline, 200, &slow, 9, 150).is_empty());

    let mut timeline = master(Instance { priority: 255, ..front() });
    let out = heard(&mut timeline, 100, &front(), 9, 255);
    assert!(
        out[0].starts_with("odd 192.0.2.9: it owns the VIPs (priority 255), and so does this director"),
        "{out:?}"
    );
    // The owner of the VIPs is master, whoever was before.
    let mut timeline = master(front());
    heard(&mut timeline, 4000, &front(), 9, 255);
    assert_eq!(timeline.machine.list()[0].reason, Reason::Outranked(ip("192.0.2.9"), 255));
    assert_eq!(timeline.machine.list()[0].peers[0].complaint, None);
}

#[test]
fn another_host_with_the_own_address_is_named() {
    let own = frame(&front(), 5, 150, 0);
    let mut back_again = own.clone();
    back_again[6..12].copy_from_slice(&MAC.0);
    for begins_as_master in [true, false] {
        let mut timeline =
            if begins_as_master { master(front()) } else { Timeline::new(vec![front()], Vec::new()) };
        let before = role(&timeline);
        assert!(arrived(&mut timeline, 3700, &back_again).is_empty());
        assert_eq!(timeline.machine.counters().looped, 1);
        let out = arrived(&mut timeline, 3700, &own);
        let want = "refused 192.0.2.5: it comes from 02:00:00:00:00:05 and from the address that this director's adverts \
                    come from: two hosts have it: give one of them another one";
        assert_eq!(out.first().map(String::as_str), Some(want));
        assert_eq!(role(&timeline), before);
        assert_eq!(timeline.machine.list()[0].refused, [("own_address", 1)]);
    }
    // Both have the virtual router's MAC: who just spoke hears itself.
    let virtual_mac = VirtualMac { mac: Vrid(51).mac(Family::V4), xmit_base: false };
    let with_mac = Instance { virtual_mac: Some(virtual_mac), ..front() };
    let mut by_virtual_mac = own;
    by_virtual_mac[6..12].copy_from_slice(&virtual_mac.mac.0);
    let mut timeline = master(with_mac.clone());
    assert!(arrived(&mut timeline, 3700, &by_virtual_mac).is_empty());
    let mut timeline = Timeline::new(vec![with_mac], Vec::new());
    assert_eq!(arrived(&mut timeline, 100, &by_virtual_mac).len(), 1);
}

/// Whoever sends forged adverts from many addresses, or of many kinds, neither fills the log nor makes the others forgotten.
#[test]
fn a_flood_of_forged_adverts_is_told_in_part_and_pushes_nobody_out() {
    let ours = Instance { version: Version::V2, auth: Auth::Header(*b"key\0\0\0\0\0"), ..front() };
    let mut timeline = Timeline::new(vec![ours.clone()], Vec::new());
    heard(&mut timeline, 100, &ours, 4, 150);
    let kinds = [
        Instance { auth: Auth::None, ..ours.clone() },
        Instance { auth: Auth::Header(*b"other\0\0\0"), ..ours.clone() },
        Instance { version: Version::V3, auth: Auth::None, ..ours.clone() },
    ];
    let mut told = 0;
    for at in 0..5000_u64 {
        let kind = &kinds[at as usize % kinds.len()];
        told += heard(&mut timeline, 200 + at / 100, kind, 10 + (at / 7 % 200) as u8, 250).len();
    }
    assert_eq!(told, COMPLAINTS_MAX as usize);
    let listed = &timeline.machine.list()[0];
    assert_eq!(listed.peers.len(), PEERS_MAX);
    assert_eq!(listed.peers[0].address, ip("192.0.2.4"));
    assert_eq!(listed.refused.iter().map(|(_, count)| count).sum::<u64>(), 5000);
    assert_eq!(
        listed.refused.iter().map(|(word, _)| *word).collect::<Vec<_>>(),
        ["auth_kind", "digest", "version"]
    );
}

/// What a virtual router of another family, number or link says is not about this one.
#[test]
fn other_virtual_routers_are_counted_alone() {
    let mut timeline = master(front());
    let other = Instance { vrid: Vrid(50), ..front() };
    assert!(heard(&mut timeline, 4000, &other, 9, 255).is_empty());
    let source = ip("fe80::9");
    let other = Instance { source, addresses: vec![ip("2001:db8::10")], ..front() };
    let packet = message::build(
        &other,
        255,
        message::group(Family::V6),
        Envelope { identification: 1, sequence: 1, trailer: 0 },
    );
    let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &[0x86, 0xdd], &packet].concat();
    assert!(arrived(&mut timeline, 4100, &frame).is_empty());
    assert_eq!((timeline.machine.counters().unknown, role(&timeline)), (2, Role::Master));
}

//! Link-local addresses: one of them on two links is two (RFC 4007), for VIPs, own addresses and clients.

use shunt_tests::topology::arms::Arms;
use shunt_tests::topology::frames::{Mac, icmp, ip, ping};
use shunt_tests::topology::hosts::Hosts;
use shunt_tests::topology::wait_for;

const VIP: &str = "fe80::10";
const OWN: &str = "fe80::1";
const CLIENT: &str = "fe80::c";
/// The client of each link: `f0` and `b0`.
const CLIENTS: [(&str, Mac); 2] = [("f0", [2, 0, 0, 0, 0xc, 0]), ("b0", [2, 0, 0, 0, 0xc, 1])];

const ROUTERS: &str = r#"
[[vrrp]]
name = "F"
nic = "front"
vrid = 51
interval = "100ms"
addresses = ["fe80::10", "2001:db8:f::10"]
[[vrrp]]
name = "B"
nic = "back"
vrid = 52
interval = "100ms"
addresses = ["fe80::10", "2001:db8:1::fffe"]
"#;

#[test]
fn one_link_local_address_on_two_links_is_two() {
    let arms = Arms::new();
    let _clients = CLIENTS.map(|(interface, mac)| Hosts::on(interface, &[(ip(CLIENT), mac)]));
    let configuration = arms.configuration(ROUTERS);
    let configuration = ["2001:db8:f::2/64\"", "2001:db8:1::1/64\""]
        .iter()
        .fold(configuration, |text, own| text.replace(own, &format!("{own}, \"{OWN}/64\"")));
    let director = shunt_tests::topology::director::Director::start(&arms.lab, &configuration);
    // A role is there a moment before the VIPs that follow from it.
    let status = director.wait_until("both VIPs", |status| {
        let owned = |vip: &str| status.vips.iter().any(|one| one.owned && one.address == vip);
        owned("fe80::10%front") && owned("fe80::10%back")
    });
    for (place, (wire, (_, client))) in [&arms.front, &arms.back].into_iter().zip(CLIENTS).enumerate() {
        let own = shunt_tests::topology::arms::mac(&status, place);
        for asked in [VIP, OWN] {
            // The kernel side has its addresses a moment after the start: it is asked again, as `ping` does.
            wait_for(&format!("an answer from {asked} on link {place}"), || {
                wire.send(&ping([client, own], ip(CLIENT), ip(asked), 1));
                let frames = wire.drain();
                let answered = frames.iter().any(|frame| {
                    frame.starts_with(&client)
                        && icmp(frame).is_some_and(|(from, _, kind, _)| (from, kind) == (ip(asked), 129))
                });
                if answered { Ok(()) } else { Err("none yet") }
            });
        }
    }
    let clients = director.status().neighbours;
    let known = clients.iter().filter(|one| one.address == CLIENT && one.mac.is_some()).count();
    assert_eq!(known, 2, "{clients:?}");
}

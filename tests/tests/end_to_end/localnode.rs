//! A real server that is the director itself.

use shunt_tests::topology::arms::{Arms, ROUTER};
use shunt_tests::topology::director::real;
use shunt_tests::topology::frames::{Packet, Transport, at};

const SERVICES: &str = r#"
[[service]]
name = "web4"
listen = "192.0.2.10:80"
protocol = "tcp"
real = [{ address = "10.1.0.1" }]
[[service]]
name = "web6"
listen = "[2001:db8:f::10]:80"
protocol = "tcp"
real = [{ address = "2001:db8:1::1" }]
"#;

/// The kernel side gets the packets and answers from the VIP; here nobody listens, so it resets, and the connection that it
/// resets is over.
#[test]
fn the_kernel_side_answers() {
    let arms = Arms::new();
    let running = arms.start(SERVICES);
    let macs = [ROUTER, running.front];
    for (client, vip, address) in [
        ("198.51.100.7:40000", "192.0.2.10:80", "10.1.0.1:80"),
        ("[2001:db8:c::7]:40000", "[2001:db8:f::10]:80", "[2001:db8:1::1]:80"),
    ] {
        let syn = Packet::new(Transport::Tcp("S"), macs, at(client), at(vip));
        arms.front.send(&syn.bytes());
        let (transport, protocol) = if vip.starts_with('[') { (54, 20) } else { (34, 23) };
        arms.front.expect("a reset from the VIP", |frame| {
            let from_service = frame.get(protocol) == Some(&6)
                && frame.get(..6) == Some(&ROUTER)
                && frame.get(transport..transport + 2) == Some(&[0, 80]);
            (from_service && frame.get(transport + 13)? & 4 != 0).then_some(())
        });
        let status = running.director.settled();
        let real = real(&status, address);
        let counted = (real.connections_active, real.connections_inactive, real.packets_out);
        assert_eq!(counted, (0, 1, 1), "{address}");
    }
}

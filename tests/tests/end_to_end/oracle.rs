//! What the kernel's IPVS did, the running director does: recordings, from wire to wire.

use shunt_tests::oracle::real::{self, Nics};
use shunt_tests::oracle::scenario::{self, Recording, Scenario};
use shunt_tests::oracle::{compare, pinned};

fn passes(nics: Nics, name: &str) {
    let file = |kind: &str| pinned().join(kind).join(format!("{name}.json"));
    let scenario: Scenario = scenario::read(&file("scenarios")).unwrap();
    let want: Recording = scenario::read(&file("golden")).unwrap();
    let got = real::play(nics, &scenario, &want);
    let compared = compare::compare(&want, &got);
    let differences = &compared.differences;
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    assert!(compared.frames > 0, "{name}: no frame was compared");
}

macro_rules! scenarios {
    ($($nics:ident: $($name:ident)*;)*) => {
        $($(#[test]
        fn $name() {
            passes(Nics::$nics, stringify!($name));
        })*)*
    };
}

scenarios! {
    AfPacket:
    tcp_dr tcp6_dr udp6_dr sctp_dr icmp_dr
    tcp_nat tcp6_nat udp_nat sctp6_nat icmp6_nat
    tcp_tun tcp6_tun sctp_tun icmp_tun mixed6
    fwmark persist sched_wrr states_nat;
    Taps:
    tun_gre_csum tun_gre_nocsum tun_gue tun_gue_csum tun_gue_nocsum tun_gue_remcsum
    frag_dr frag6_nat udp6_tun;
}

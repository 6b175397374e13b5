//! This director does what the kernel's IPVS did, scenario by scenario.

use std::path::Path;
use std::process::Command;

use shunt_tests::oracle::drawn::{self, BOUND};
use shunt_tests::oracle::play::play;
use shunt_tests::oracle::scenario::{self, Recording, Scenario};
use shunt_tests::oracle::{self, pinned};
use shunt_tests::text;

fn passes(name: &str) {
    let folder = pinned();
    let report = oracle::check(&folder.join("scenarios"), &folder.join("golden"), name, None);
    assert!(report.passed(), "\n{report}");
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            passes(stringify!($name));
        })*

        #[test]
        fn every_scenario_has_its_test() {
            let mut tested = vec![$(stringify!($name)),*];
            tested.sort_unstable();
            for folder in ["scenarios", "golden"] {
                assert_eq!(oracle::names(&pinned().join(folder)).unwrap(), tested, "{folder}");
            }
        }
    };
}

scenarios! {
    admin stats_changes_dr stats_changes_nat
    tcp_dr tcp_nat tcp_tun tcp6_dr tcp6_nat tcp6_tun
    udp_dr udp_nat udp_tun udp6_dr udp6_nat udp6_tun
    sched_rr sched_wrr sched_lc sched_wlc sched_lblc sched_lblcr sched_dh sched_sh sched_mh sched_sed sched_nq sched_fo
    sched_ovf sched_ops sched_thresholds sched_sh_fallback sched_sh_port sched_mh_fallback sched_mh_port
    sched_wrr_changes sched_wlc_changes sched_sh_changes sched_mh_changes
    states_dr states_nat states_tun states6_dr states6_nat states6_tun
    mtu6_dr mtu6_nat mtu6_tun
    reuse_mode0 reuse_mode1 delete delete_expire_nodest_conn timeouts
    odd_dr odd_nat odd_tun odd6_dr odd6_nat odd6_tun
    icmp_dr icmp_nat icmp_tun icmp6_dr icmp6_nat icmp6_tun
    mtu_dr mtu_nat mtu_tun
    tun_gre_csum tun_gre_nocsum tun_gue tun_gue_csum tun_gue_nocsum tun_gue_remcsum mixed6
    fwmark fwmark_p fwmark_ports thresholds_edit random_reuse_refused random_reuse_close
    random_threshold_edit random_stale_refused random_locality_reused random_threshold_wrr random_crossing_fragments random_crossing_mh mixed6_mtu_v4 mixed6_mtu_v6 persist persist_expire persist_mask persist_port0 persist_quiescent mh_weights persist6_mask persist_edit
    persist_many persist_nodest persist_ops persist_reuse persist_udp reuse_mode2 reuse_weight0 sched6_dh
    sched6_mh sched6_sh sched_dh_changes sched_fo_changes sched_lblc_changes sched_lblcr_changes
    sched_ovf_changes sched_rr_changes sched_sed_changes thresholds_dh thresholds_fo
    thresholds_lblc thresholds_lblcr thresholds_mh thresholds_nq thresholds_ovf thresholds_sed thresholds_sh
    thresholds_wlc thresholds_wrr
    incomplete_dr incomplete_nat incomplete6_dr incomplete6_nat
    nat_icmp_send_order nat_icmp_send_order6
    incomplete_known_dr incomplete_known_nat incomplete_known_tun incomplete6_known_dr
    frag_dr frag_nat frag_tun frag6_dr frag6_nat frag6_tun
    sctp_dr sctp_nat sctp_tun sctp6_dr sctp6_nat sctp6_tun states_sctp_dr states_sctp_nat_1 states_sctp_nat_2 states_sctp_nat_3 states_sctp_nat_4
    localnode field_client_port_20 field_ftp_plain field_ftp_persistent field_persist_mark_nat_port field_persist_zero_nat_port field_port_zero field_nat_same_real_port field_method_changes field_errors_pass_dr field_errors_pass_dr6 field_error_to_vip field_error_to_vip6 field_esp_follows_ike field_service_at_own_address
    frag_odd_dr frag_odd_nat frag_odd_tun
    frag6_odd_dr frag6_odd_nat frag6_odd_tun
    frag6_ext_dr frag6_ext_nat
    bypass bypass6 schedule_icmp_dr schedule_icmp_nat schedule_icmp_tun schedule_icmp6_dr schedule_icmp6_nat schedule_icmp6_tun
    frag6_small_dr frag6_small_nat frag6_small_tun
    sched6_rr sched6_wrr sched6_lc sched6_wlc sched6_lblc sched6_lblcr sched6_sed sched6_nq sched6_fo sched6_ovf
    sched_lc_changes sched_nq_changes tun6_gue tun6_gue_nocsum tun6_gue_csum tun6_gre_nocsum tun6_gre_csum
    mtu6_tun_pmtu_disc icmp_unserved_dr icmp_unserved_tun icmp6_unserved_dr icmp6_unserved_tun fwmark6
    reuse_syn_rst thresholds_lc
    delete_reuse icmp_tun_known odd6_own_source ops_refused ops6_refused states_sctp_closed thresholds_reuse
    answers6_deleted reuse_refused reuse6_refused drop_packet udp6_unsummed mtu_gue_nobody mtu_gue_one_packet
    schedule_icmp_lblc schedule_icmp_lblcr schedule_icmp_dh schedule_icmp_states mh_mark_ports options_end error_to_own_address error_to_own_address6 error_to_own_marked error_to_own_marked6 error_to_own_marked_tun list_conflicts
    options6 options6_no_service options6_nat first_fragment6 tunnel_errors_to_vip schedule_icmp_ways
    field_no_neighbour overlong_fragments6 seldom_headers
    field_ipvsadm_errors
    field_one_armed
    field_atomic_fragment6
    field_no_route
    field_udp_length
    field_tcp_data_offset
    field_no_next_header6
    field_parameter_problem
    field_last_fragment6
    field_last_fragment
    field_frag6_mixed
    field_answer_cuts
    field_tiny_fragments6
    field_tiny_fragments
    field_longer_than_mtu6
    field_longer_than_mtu
}

/// `twos` draws at random: each real server is taken about as often as the kernel took it, whatever weights, connections and
/// thresholds they have.
#[test]
fn what_is_drawn_is_drawn_by_the_odds_of_the_kernel() {
    let folder = pinned().join("drawn");
    let names = oracle::names(&folder.join("scenarios")).unwrap();
    assert_eq!(names, ["twos_loads", "twos_open", "twos_weights"]);
    for name in names {
        let file = format!("{name}.json");
        let scenario: Scenario = scenario::read(&folder.join("scenarios").join(&file)).unwrap();
        let recorded: Recording = scenario::read(&folder.join("golden").join(&file)).unwrap();
        assert!(recorded.setup.is_empty(), "{name}: {:?}", recorded.setup);
        let played = play(&scenario).unwrap();
        let [kernel, own] = [&recorded, &played].map(|recording| drawn::series(&scenario, recording));
        assert_eq!(kernel.len(), own.len());
        for (kernel, own) in kernel.iter().zip(&own) {
            let distance = drawn::distance(kernel, own);
            println!("{name}: {distance:.1} kernel {:?} own {:?}", kernel.chosen, own.chosen);
            assert!(distance < BOUND, "{name}: {distance:.1} of {BOUND}\nkernel {kernel:?}\nown {own:?}");
        }
    }
}

/// Frames read here as they read in the recordings.
#[test]
fn texts_are_those_of_the_recordings() {
    let folder = pinned().join("golden");
    for name in oracle::names(&folder).unwrap() {
        let recording: Recording = scenario::read(&folder.join(format!("{name}.json"))).unwrap();
        for out in recording.steps.iter().flat_map(|step| &step.out) {
            assert_eq!(text::frame(&out.frame.0), out.text, "{name}");
        }
    }
}

/// The recordings are what they were: each file has the hash in SHA256SUMS, and each file is named there.
#[test]
fn recordings_are_pinned() {
    are_pinned(&pinned());
    are_pinned(&pinned().join("drawn"));
}

fn are_pinned(folder: &Path) {
    let sums = std::fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    let mut named =
        sums.lines().filter_map(|line| line.split_once("  ")).map(|(_, file)| file).collect::<Vec<_>>();
    named.sort_unstable();
    let mut there = Vec::new();
    for kind in ["golden", "scenarios"] {
        there.extend(
            oracle::names(&folder.join(kind)).unwrap().iter().map(|name| format!("{kind}/{name}.json")),
        );
    }
    assert_eq!(named, there);
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(folder)
        .output()
        .expect("sha256sum of coreutils");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

//! `shunt bench --device`: the worker on NICs of software, with the generator at their far ends, in one process.

use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use shunt::director::claims;
use shunt_config::device::Device;

/// One at a time: each takes two CPUs.
static ONE: Mutex<()> = Mutex::new(());

fn bench(arguments: &[&str]) -> Output {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    Command::new(env!("CARGO_BIN_EXE_shunt"))
        .args(["bench", "--seconds", "0.02", "--repetitions", "2", "--hugepages", "false", "--flows", "200"])
        .args(arguments)
        .output()
        .unwrap()
}

fn cells(arguments: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("out.json");
    let output = bench(&[arguments, &["--json", json.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap()
}

/// All cells were compared byte by byte and timed.
fn all_measured(cells: &[Value]) {
    for cell in cells {
        assert_eq!(cell["kind"], "device", "{cell}");
        assert!(cell["verified"]["packets_compared"].as_u64() >= Some(16_384), "{cell}");
        assert_eq!(cell["verified"]["connections"], 200, "{cell}");
        assert!(cell["ns_per_packet"]["min"].as_f64() > Some(0.0), "{cell}");
        assert!(cell["device"]["delivered_per_second"]["min"].as_f64() > Some(0.0), "{cell}");
    }
}

#[test]
fn every_method_and_family_on_two_memifs() {
    let folder = tempfile::tempdir().unwrap();
    let device = |name: &str| format!("memif:{}", folder.path().join(name).display());
    let (front, back) = (device("front.sock"), device("back.sock"));
    let cells = cells(&["--device", &front, "--device", &back, "--protocol", "tcp", "--frame", "64,imix"]);
    // DR and TUN once, NAT in both directions; two families, two sizes.
    assert_eq!(cells.len(), 4 * 2 * 2);
    all_measured(&cells);
    assert_eq!(cells[0]["device"]["devices"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_rate_without_loss_on_rings() {
    let cells = cells(&[
        "--device",
        "ring:a",
        "--method",
        "dr",
        "--family",
        "ipv4",
        "--protocol",
        "udp",
        "--zero-loss",
        "--trial",
        "0.05",
        "--resolution",
        "10",
        "--tolerate",
        "50",
    ]);
    all_measured(&cells);
    let found = &cells[0]["device"]["zero_loss"];
    assert!(found["packets_per_second"].as_f64() > Some(0.0), "{found}");
    let trials = found["trials"].as_array().unwrap();
    assert!((1..=15).contains(&trials.len()), "{found}");
    for trial in trials {
        assert!(trial["received"].as_u64() <= trial["offered"].as_u64(), "{trial}");
    }
}

/// All of RFC 2544's on memif: what was offered and delivered at the highest rate stands in the same trials as the rate without loss.
#[test]
fn all_benchmarks_of_rfc_2544_on_memif() {
    let folder = tempfile::tempdir().unwrap();
    let device = format!("memif:{}", folder.path().join("m.sock").display());
    let json = folder.path().join("out.json");
    let output = bench(&[
        "--device",
        &device,
        "--method",
        "nat",
        "--family",
        "ipv4",
        "--protocol",
        "udp",
        "--rfc2544",
        "--trial",
        "0.05",
        "--resolution",
        "20",
        "--tolerate",
        "100",
        "--searches",
        "2",
        "--json",
        json.to_str().unwrap(),
    ]);
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && complained.is_empty(), "{complained}");
    for wanted in [
        "throughput (RFC 2544, 26.1)",
        "ASKED MPPS",
        "as much as is taken",
        "frame loss rate (26.3)",
        "back-to-back frames (26.4)",
        "GBIT/S",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let cells: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(cells.len(), 2);
    for cell in &cells {
        let on_device = &cell["device"];
        let found = &on_device["zero_loss"];
        let highest = found["highest"].as_array().unwrap();
        assert_eq!(highest.len(), 2, "{found}");
        let delivered = |trial: &Value| {
            (trial["received"].as_f64().unwrap() / trial["seconds"].as_f64().unwrap()).round()
        };
        let least = highest.iter().map(delivered).fold(f64::MAX, f64::min);
        assert_eq!(on_device["delivered_per_second"]["min"].as_f64(), Some(least), "{found}");
        let rate = found["packets_per_second"].as_f64().unwrap();
        let gigabits = found["gigabits_per_second"].as_f64().unwrap();
        assert!((gigabits - rate * (64.0 + 20.0) * 8.0 / 1e9).abs() < 1e-3, "{found}");
        assert!(found["part_of_link"].is_null(), "a virtual NIC has no rate: {found}");
        let [least, most] = ["min", "max"].map(|which| found["searches"][which].as_f64().unwrap());
        assert!(0.0 < least && least <= rate && rate <= most, "{found}");
        assert!((2..=10).contains(&found["frame_loss"].as_array().unwrap().len()), "{found}");
        assert!(found["back_to_back"]["max"].as_f64() >= Some(1.0), "{found}");
    }
}

#[test]
fn virtio_user_before_vhost() {
    let folder = tempfile::tempdir().unwrap();
    let device = format!("virtio_user:{}", folder.path().join("vhost.sock").display());
    let cells = cells(&["--device", &device, "--method", "dr", "--family", "ipv6", "--protocol", "udp"]);
    assert_eq!(cells.len(), 1);
    all_measured(&cells);
}

#[test]
fn what_cannot_be_measured_says_what_to_do() {
    let said = |arguments: &[&str]| {
        let output = bench(arguments);
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let lonely = said(&["--device", "af_packet:lo", "--method", "dr"]);
    assert!(lonely.contains("name the generator's device by --generator"), "{lonely}");
    let unequal = said(&["--device", "ring:a", "--device", "ring:b", "--generator", "ring:c"]);
    assert!(unequal.contains("--generator is given as often as --device"), "{unequal}");
    let device = Device::parse("af_packet:lo").unwrap();
    let claims = claims::take([("the test".to_owned(), &device)]).unwrap();
    let held = said(&["--device", "ring:a", "--generator", "af_packet:lo"]);
    let holder = format!("--generator: process {}", std::process::id());
    assert!(held.contains(&holder) && held.contains(" has af_packet:lo: "), "{held}");
    drop(claims);
    let same = said(&["--device", "ring:a", "--core", "1", "--generator-core", "1"]);
    assert!(same.contains("--generator-core is 1, which is the worker's"), "{same}");
    let no_search = said(&["--device", "ring:a", "--searches", "3"]);
    assert!(no_search.contains("--zero-loss") && no_search.contains("--rfc2544"), "{no_search}");
    let unknown = said(&["--device", "eth1"]);
    assert!(unknown.contains("af_packet:eth1"), "{unknown}");
}

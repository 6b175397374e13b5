//! `shunt bench --device`: the worker on NICs of software, with the generator at their far ends, in one process.

use std::process::{Command, Output};

use serde_json::Value;
use shunt::config::device::Device;
use shunt::director::claims;

fn bench(arguments: &[&str]) -> Output {
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
    let unknown = said(&["--device", "eth1"]);
    assert!(unknown.contains("af_packet:eth1"), "{unknown}");
}

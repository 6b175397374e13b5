//! `shunt bench` forwards every kind of packet right, which it checks itself, and says what it measured.

use std::process::Command;

use serde_json::Value;

fn bench(arguments: &[&str]) -> (String, Vec<Value>, String) {
    let folder = tempfile::tempdir().unwrap();
    let (json, svg) = (folder.path().join("out.json"), folder.path().join("out.svg"));
    let output = Command::new(env!("CARGO_BIN_EXE_shunt"))
        .args(["bench", "--seconds", "0.002", "--repetitions", "2", "--hugepages", "false", "--json"])
        .arg(&json)
        .arg("--svg")
        .arg(&svg)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |path| std::fs::read_to_string(path).unwrap();
    let cells = serde_json::from_str(&read(json)).unwrap();
    (String::from_utf8(output.stdout).unwrap(), cells, read(svg))
}

#[test]
fn every_kind_of_packet_is_forwarded_right_and_timed() {
    let (table, cells, svg) = bench(&["--flows", "100", "--frame", "64,imix", "--reals", "3"]);
    // DR and TUN once, NAT in both directions; two families, protocols, sizes of frames.
    assert_eq!(cells.len(), 4 * 2 * 2 * 2, "{table}");
    for cell in &cells {
        let spread = &cell["ns_per_packet"];
        let (min, median) = (spread["min"].as_f64().unwrap(), spread["median"].as_f64().unwrap());
        assert!(min > 0.0 && min <= median && median <= spread["max"].as_f64().unwrap(), "{cell}");
        assert!(cell["verified"]["packets_compared"].as_u64() >= Some(65_536), "{cell}");
        assert_eq!(cell["verified"]["connections"], cell["flows"], "{cell}");
    }
    let sizes: Vec<_> = cells.iter().map(|cell| cell["frame"].to_string()).collect();
    assert!(
        ["64", "66", "78", "\"imix\""].iter().all(|size| sizes.iter().any(|have| have == size)),
        "{sizes:?}"
    );
    assert!(svg.starts_with("<svg") && svg.contains("nat answer ipv6 tcp 78"));
}

#[test]
fn connections_begin_end_and_outlive_a_flood() {
    let (table, cells, _svg) = bench(&["--new", "--method", "nat", "--family", "ipv4", "--flows", "2000"]);
    assert_eq!(cells.len(), 4, "{table}");
    for pair in cells.chunks(2) {
        assert_eq!(
            (&pair[0]["kind"], pair[0]["growth"]["steps"].as_array().map(Vec::len)),
            (&"new".into(), Some(10))
        );
        assert!(pair[0]["expiry"]["per_second"].as_f64() > Some(0.0), "{}", pair[0]);
        assert_eq!((&pair[1]["kind"], &pair[1]["flood"]["lost"]), (&"flood".into(), &0.into()));
        assert!(pair[1]["flood"]["refused"].as_u64() > Some(0), "{}", pair[1]);
    }
}

#[test]
fn one_flow_has_one_connection() {
    let (_table, cells, _svg) =
        bench(&["--flows", "1", "--method", "nat", "--protocol", "tcp", "--burst", "7"]);
    assert_eq!(cells.iter().map(|cell| cell["verified"]["connections"].clone()).collect::<Vec<_>>(), [1; 4]);
}

#[test]
fn many_services() {
    let (_table, cells, _svg) =
        bench(&["--services", "1,50", "--method", "dr", "--protocol", "udp", "--flows", "1000"]);
    let services: Vec<_> = cells.iter().map(|cell| cell["services"].clone()).collect();
    assert_eq!(services, [1, 50, 1, 50]);
    assert!(cells[1]["compile_ms"].as_f64() > Some(0.0));
}

#[test]
fn several_workers_forward_at_once_and_hand_over() {
    let arguments = ["--workers", "1,2", "--method", "dr", "--protocol", "udp", "--flows", "1000"];
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("out.json");
    let output = Command::new(env!("CARGO_BIN_EXE_shunt"))
        .args(["bench", "--seconds", "0.02", "--repetitions", "2", "--hugepages", "false", "--json"])
        .arg(&json)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let measured: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let (steps, model) = (&measured[0]["steps"], &measured[0]["model"]);
    assert_eq!(steps.as_array().map(Vec::len), Some(2));
    // Not a bound on time: two that lock each other out would not reach half.
    assert!(steps[1]["reached"].as_f64() > Some(0.5), "{steps}");
    assert_eq!(model.as_array().and_then(|rows| rows.last()).map(|row| &row["workers"]), Some(&64.into()));
}

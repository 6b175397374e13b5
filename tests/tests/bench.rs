//! `shunt bench` as an operator runs it: briefly, with small tables, and what it writes.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use shunt_tests::topology::binary;

/// Runs `shunt bench` with these words; it has to succeed. What it printed.
fn bench(words: &[&str]) -> String {
    let effort = ["--repetitions", "2", "--seconds", "0.02"];
    let output = Command::new(binary::shunt()).arg("bench").args(words).args(effort).output().unwrap();
    let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "shunt bench {words:?}: {said}{out}");
    out.into_owned()
}

/// The cells that `shunt bench` measures with these words.
fn cells(words: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cells.json");
    bench(&[words, &["--json", path(&file)]].concat());
    serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// What every cell of open connections must have.
fn assert_is_whole(cell: &Value) {
    assert!(number(&cell["verified"]["packets_compared"]) >= 65_536.0, "{cell}");
    assert_eq!(cell["verified"]["lost"], 0, "{cell}");
    for what in ["ns_per_packet", "source_ns_per_packet", "total_ns_per_packet", "cycles_per_packet"] {
        let [min, median, max] = ["min", "median", "max"].map(|part| number(&cell[what][part]));
        assert!(0.0 < min && min <= median && median <= max, "{what}: {cell}");
    }
    let turns = ["p50", "p90", "p99", "p999", "max"].map(|part| number(&cell["turn_ns"][part]));
    assert!(turns[0] > 0.0 && turns.is_sorted(), "{turns:?}");
    let counted: f64 =
        cell["turn_ns"]["histogram"].as_array().unwrap().iter().map(|pair| number(&pair[1])).sum();
    assert_eq!(counted, number(&cell["turn_ns"]["count"]), "every turn is in the histogram");
    let latency = cell["latency"].as_array().unwrap();
    let loads: Vec<_> = latency.iter().map(|latency| latency["load_percent"].as_u64().unwrap()).collect();
    assert_eq!(loads, [50, 90]);
    assert!(number(&latency[0]["packets_per_second"]) < number(&latency[1]["packets_per_second"]));
    assert!(latency.iter().all(|latency| number(&latency["ns"]["p50"]) > 0.0));
}

#[test]
fn cells_are_whole_and_become_a_document_and_a_plot() {
    let folder = tempfile::tempdir().unwrap();
    let [json, svg, markdown] = ["run.json", "run.svg", "run.md"].map(|name| folder.path().join(name));
    bench(&["--flows", "100,5000", "--json", path(&json)]);
    let cells: Vec<Value> = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(cells.len(), (3 + 1) * 2 * 2 * 2, "methods and directions, families, protocols, flows");
    cells.iter().for_each(assert_is_whole);
    let both = format!("{0},{0}", path(&json));
    let out =
        bench(&["--from", &both, "--report", path(&markdown), "--svg", path(&svg), "--compare", path(&json)]);
    assert!(out.contains("within repetitions"), "{out}");
    let document = std::fs::read_to_string(&markdown).unwrap();
    assert!(
        document.contains("## Packets of open connections")
            && document.contains("| NAT answer, IPv6, TCP | 5 k |")
    );
    assert!(std::fs::read_to_string(&svg).unwrap().contains("nat answer ipv6 tcp 78"));
}

#[test]
fn every_scheduler_is_verified_with_and_without_new_connections() {
    let cells = cells(&[
        "--method",
        "nat",
        "--protocol",
        "tcp",
        "--flows",
        "3000",
        "--scheduler",
        "rr,wrr,lc,wlc,sh",
        "--new-share",
        "0,30",
    ]);
    // Answers are measured where no connection begins.
    assert_eq!(cells.len(), 5 * 2 * 3);
    cells.iter().for_each(assert_is_whole);
}

#[test]
fn connections_begin_and_end_and_a_flood_takes_none() {
    let cells =
        cells(&["--new", "--method", "dr", "--family", "ipv4", "--protocol", "tcp", "--flows", "6400"]);
    let (new, flood) = (&cells[0], &cells[1]);
    let percents: Vec<_> = new["growth"]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["percent"].as_u64().unwrap())
        .collect();
    assert_eq!(percents, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
    assert_eq!(new["steady"]["refused_per_second"], 0.0, "{new}");
    assert!(number(&new["steady"]["expired_per_second"]) > 0.0 && number(&new["expiry"]["per_second"]) > 0.0);
    assert_eq!(flood["flood"]["lost"], 0);
    assert!(number(&flood["flood"]["refused"]) > 0.0);
    assert_eq!(flood["verified"]["connections"], 6400);
}

#[test]
fn a_reload_under_full_traffic_drops_nothing() {
    for method in ["dr", "nat", "tun"] {
        let cells = cells(&[
            "--reload",
            "--services",
            "50",
            "--method",
            method,
            "--protocol",
            "tcp",
            "--flows",
            "1000",
        ]);
        assert_eq!(cells.len(), 2, "IPv4 and IPv6");
        for cell in cells {
            let reload = &cell["reload"];
            assert_eq!(
                (reload["reloads"].as_u64(), reload["dropped"].as_u64()),
                (Some(2), Some(0)),
                "{cell}"
            );
            assert!(number(&reload["packets"]) > 0.0 && number(&reload["parse_ms"]["median"]) > 0.0);
            assert_eq!(cell["verified"]["lost"], 0);
        }
    }
}

#[test]
fn many_services_are_compared_with_one() {
    let cells = cells(&[
        "--services",
        "1,200",
        "--method",
        "dr",
        "--family",
        "ipv6",
        "--protocol",
        "tcp",
        "--flows",
        "1000",
    ]);
    assert!(cells[0].get("against_one").is_none());
    let against = &cells[1]["against_one"];
    assert!(
        ["many_ns", "one_ns", "many_new_ns", "one_new_ns"]
            .iter()
            .all(|what| number(&against[what]["min"]) > 0.0)
    );
}

//! `shunt bench --idle`: what a worker costs and how soon it wakes. Alone in its binary, since other benchmarks keep every core busy.

use std::process::Command;

use serde_json::Value;

/// How often the machine may be busy with something else.
const ATTEMPTS: usize = 6;

/// Those that need nothing of the machine.
const NICS: usize = 4;

/// Measures every NIC that needs nothing of the machine.
fn measure() -> Value {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("out.json");
    let output = Command::new(env!("CARGO_BIN_EXE_shunt"))
        .args(["bench", "--idle", "--seconds", "0.3", "--repetitions", "2", "--hugepages", "false", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap()
}

/// The middle one of the first packets after pauses, in microseconds: far below the time that a worker sleeps when nothing wakes it, and
/// what a busy machine keeps, too. How soon it is on a quiet one is in docs/performance.md.
const WAKES_WITHIN_US: f64 = 20_000.0;

/// What keeps no bound.
fn broken(nic: &Value, floor: f64) -> Option<String> {
    let told = ["af_packet", "tap"].contains(&nic["pmd"].as_str().unwrap());
    assert_eq!(nic["told"], told, "{nic}");
    let used = nic["core_used"].as_f64().unwrap();
    // A worker that polls takes a whole core.
    let bound = if told { 0.05 } else { 0.05_f64.max(floor * 3.0) };
    if used >= bound {
        return Some(format!("{used} of a core, {bound} is the bound: {nic}"));
    }
    let in_time = nic["first_packet"]["p50_us"].as_f64() < Some(WAKES_WITHIN_US);
    (!in_time).then(|| format!("too late: {nic}"))
}

/// Without traffic a worker uses less than 5 % of a core where its NIC can tell of a packet, and the first packet after a
/// pause wakes it.
#[test]
fn an_idle_worker_is_quiet_and_wakes_in_time() {
    let mut last = Vec::new();
    for _ in 0..ATTEMPTS {
        let measured = measure();
        let nap = &measured["nap"];
        let floor = nap["cpu_us"].as_f64().unwrap() / nap["took_us"].as_f64().unwrap();
        let nics = measured["nics"].as_array().unwrap();
        last = nics.iter().filter_map(|nic| broken(nic, floor)).collect();
        if last.is_empty() && nics.len() == NICS {
            return;
        }
        last.push(format!("{} NICs were measured, {NICS} are to be", nics.len()));
    }
    panic!("in each of {ATTEMPTS} attempts; in the last one:\n{}", last.join("\n"));
}

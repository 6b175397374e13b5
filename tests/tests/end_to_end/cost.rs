//! What the loop costs, as a running director tells it.

use serde_json::Value;
use shunt_tests::topology::arms::{Arms, ROUTER};
use shunt_tests::topology::frames::{Packet, Transport, at};

const SERVICE: &str = r#"
[[service]]
name = "dns"
listen = "192.0.2.10:53"
protocol = "udp"
scheduler = "rr"
forward = "dr"
real = [{ address = "10.1.0.11:53" }]
"#;
const PACKETS: u64 = 200;

#[test]
fn a_packets_cycles_are_told_by_stage() {
    let mut arms = Arms::new();
    arms.runtime = "connections = 4096".to_owned();
    let running = arms.start(SERVICE);
    let director = &running.director;
    for number in 0..PACKETS {
        let client = format!("198.51.100.{}:40000", number % 250 + 1);
        let macs = [ROUTER, running.front];
        arms.front.send(&Packet::new(Transport::Udp, macs, at(&client), at("192.0.2.10:53")).bytes());
    }
    director.wait_until("all packets", |status| status.workers[0].received >= PACKETS);
    let status = director.settled();
    assert!(status.nics.iter().all(|nic| nic.placement == "owner"), "{status:#?}");
    let cost = &status.workers[0].cost;
    assert!(cost.packets >= PACKETS && cost.cycles_per_packet > 0, "{cost:?}");
    assert!(cost.busy_cycles < cost.cycles && cost.cycles_per_second > 100_000_000, "{cost:?}");
    assert_eq!((cost.connections, cost.capacity), ([PACKETS, 0], 4096));
    let turns: u64 = cost.turns.iter().map(|bucket| bucket.count).sum();
    let sampled: u64 = cost.sampled.iter().map(|stage| stage.cycles).sum();
    assert!(cost.sampled_packets > 0 && cost.sampled_packets <= cost.packets, "{cost:?}");
    assert!(sampled > 0 && sampled <= cost.busy_cycles, "{cost:?}");
    assert!(turns > 0 && turns <= cost.packets, "{cost:?}");

    let said = director.command(&arms.lab, &["status", "--workers", "--seconds", "0"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("CYCLES/PACKET") && said.out.contains("TAKE OVER"), "{}", said.out);
    let said = director.command(&arms.lab, &["status", "--workers", "--seconds", "0.1", "--json"]);
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    let seconds = report["seconds"].as_f64().expect("seconds");
    assert!((0.1..10.0).contains(&seconds), "{seconds}");
    assert_eq!(report["workers"].as_array().map(Vec::len), Some(1));
}

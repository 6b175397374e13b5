//! What it costs to choose a real server for a new connection, by scheduler and number of real servers, whose weights go from
//! 1 to 10.
//!
//! `cargo bench -p shunt-dataplane --bench schedulers` prints a Markdown table.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use shunt_dataplane::flow::{HashKey, Owners};
use shunt_dataplane::id::{L4Port, Protocol, WorkerId};
use shunt_dataplane::service::schedulers::{Client, Cursor, Flags, Localities, Scheduler, choose};
use shunt_dataplane::service::{Method, Service, Settings, Thresholds};
use shunt_dataplane::snapshot::{Plan, RealPlan, Registry, ServicePlan, Snapshot};
use shunt_dataplane::time::Tick;

const REALS: [u32; 4] = [10, 100, 1_000, 4_000];
const REPETITIONS: usize = 5;
/// The linear ones take long.
const CHOICES: u32 = 20_000;

fn main() {
    println!(
        "Nanoseconds to choose a real server for a new connection, the least of {REPETITIONS} times {CHOICES} choices; weights \
         from 1 to 10, every connection stays active.\n"
    );
    println!("| scheduler |{}", REALS.map(|reals| format!(" {reals} real servers |")).concat());
    println!("|---|{}", "---|".repeat(REALS.len()));
    for &scheduler in Scheduler::ALL {
        let cells = REALS.map(|reals| format!(" {:.0} |", measure(scheduler, reals)));
        println!("| {scheduler} |{}", cells.concat());
    }
}

fn measure(scheduler: Scheduler, reals: u32) -> f64 {
    let snapshot = snapshot(scheduler, reals);
    let service = snapshot.services[0].as_ref().expect("the service is there");
    let (mut cursor, mut localities) = (Cursor::default(), Localities::default());
    localities.prepare();
    let mut least = f64::MAX;
    for _ in 0..REPETITIONS {
        let start = Instant::now();
        for number in 0..CHOICES {
            open(service, &mut cursor, &mut localities, number);
        }
        least = least.min(start.elapsed().as_nanos() as f64 / f64::from(CHOICES));
    }
    least
}

/// One connection is scheduled and counted.
fn open(service: &Service, cursor: &mut Cursor, localities: &mut Localities, number: u32) {
    let client = Client {
        address: IpAddr::V4(Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b9))),
        l4_port: L4Port(40_000),
        destination: service.listen.ip(),
    };
    let Some(choice) = black_box(choose(service, cursor, localities, &client, Tick(1))) else { return };
    *cursor = choice.cursor;
    localities.learn(service, client.destination, choice.learned, Tick(1));
    service.candidates[choice.candidate].counters.of(WorkerId(0)).active.add(1);
}

fn snapshot(scheduler: Scheduler, reals: u32) -> Snapshot {
    let real = |number: u32| RealPlan {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 + number)), 80),
        method: Method::Dr,
        tunnel: Default::default(),
        weight: number % 10 + 1,
        thresholds: Thresholds::default(),
        up: true,
    };
    let service = ServicePlan {
        name: "web".to_owned(),
        listen: SocketAddr::from(([192, 0, 2, 10], 80)),
        protocol: Protocol::Tcp,
        scheduler,
        settings: Settings { flags: Flags { fallback: true, ..Flags::default() }, ..Settings::default() },
        reals: (1..=reals).map(real).collect(),
    };
    let owners = Owners { workers: 1, netmask_v4: 32, netmask_v6: 128, key: HashKey::random() };
    Registry::new(owners).compile(&Plan { services: vec![service], ..Plan::default() })
}

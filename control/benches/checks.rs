//! What health checks cost: 2,000 real servers, each checked every second, on one thread of the control core.
//!
//! `cargo bench -p shunt --bench checks [-- SECONDS]` prints the processor time of the threads of the checks, in percent
//! of one core. The servers are on loopback: what the kernel does for their ends while a check sends is counted with it. How much
//! the kernel takes by itself is measured beside it, by plain blocking sockets that do the same and nothing else.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shunt::health::Health;
use shunt::kernel::ServiceWays;
use shunt_dataplane::id::Protocol;
use shunt_model::health::kind::{CheckKind, Http};
use shunt_model::health::{Check, RealKey};
use shunt_protocol::health::{Change, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const REALS: u32 = 2_000;
const INTERVAL: Duration = Duration::from_secs(1);
/// The thread of plain sockets.
const PLAIN: &str = "plain";
const ASKED: &[u8] =
    b"GET / HTTP/1.1\r\nhost: 192.0.2.10\r\nuser-agent: shunt/0.1.0\r\nconnection: close\r\n\r\n";

fn main() {
    let seconds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(10);
    let (address, served) = serve();
    let http = Http { path: "/".into(), host: None, status: vec![200..=299], body: None, tls: None };
    for (word, kind) in [("tcp", CheckKind::Tcp), ("http", CheckKind::Http(http))] {
        // A busy machine may let some connections wait for too long.
        let told = |changes: Vec<Change>| eprintln!("{} real servers changed", changes.len());
        let health =
            Health::start(None, ServiceWays::default(), std::sync::Arc::default(), told).expect("a thread");
        health.set_targets((0..REALS).map(|number| target(number, address, &kind)).collect());
        // All have begun.
        while health.list().iter().any(|listed| listed.last.is_none()) {
            std::thread::sleep(Duration::from_millis(100));
        }
        let threads = ["shunt-health", "shunt-scripts"];
        let (begin, before, counted) =
            (Instant::now(), processor_time(&threads), served.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_secs(seconds));
        let elapsed = begin.elapsed().as_secs_f64();
        let used = processor_time(&threads).saturating_sub(before).as_secs_f64();
        let checks = (served.load(Ordering::Relaxed) - counted) as f64 / elapsed;
        drop(health);
        let plain = plain(address, seconds, word == "http");
        println!(
            "{word}: {checks:.0} checks a second: {:.1} % of a core, {:.1} us a check, both ends' sockets included, \
             which take {plain:.1} us by themselves",
            100.0 * used / elapsed,
            1e6 * used / elapsed / checks
        );
    }
}

/// What a check's sockets cost by themselves, in microseconds: ten at a time, as many a second.
fn plain(server: SocketAddr, seconds: u64, asks: bool) -> f64 {
    const TOGETHER: u32 = 10;
    let work = move || {
        let before = processor_time(&[PLAIN]);
        let begin = Instant::now();
        let rounds = seconds as u32 * REALS / TOGETHER;
        for round in 0..rounds {
            let to = |number| Ipv4Addr::from_bits(0x7f01_0000 + (round * TOGETHER + number) % REALS);
            let open = |number| TcpStream::connect((to(number), server.port())).expect("a connection");
            let mut streams: Vec<TcpStream> = (0..TOGETHER).map(open).collect();
            if asks {
                streams
                    .iter_mut()
                    .for_each(|stream| stream.write_all(ASKED).expect("a request that is sent"));
                for stream in &mut streams {
                    assert!(stream.read(&mut [0; 1024]).expect("an answer") > 0);
                }
            }
            drop(streams);
            let next = begin + INTERVAL * (round + 1) * TOGETHER / REALS;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        let used = processor_time(&[PLAIN]).saturating_sub(before).as_secs_f64();
        1e6 * used / f64::from(rounds * TOGETHER)
    };
    let thread = std::thread::Builder::new().name(PLAIN.to_owned()).spawn(work).expect("a thread");
    thread.join().expect("a thread that does not panic")
}

fn target(number: u32, server: SocketAddr, kind: &CheckKind) -> Target {
    let listen = SocketAddr::from(([192, 0, 2, 10], 80));
    let address = Ipv4Addr::from_bits(0x7f01_0000 + number);
    let to = SocketAddr::new(address.into(), server.port());
    let check = Check {
        kind: kind.clone(),
        to,
        way: None,
        from: None,
        interval: INTERVAL,
        timeout: INTERVAL,
        retry_interval: None,
        warmup: Duration::ZERO,
        fall: 3,
        rise: 2,
        reentry: Duration::ZERO,
        alpha: false,
    };
    let key = RealKey { listen, protocol: Protocol::Tcp, address: to };
    Target { key, checks: vec![Arc::new(check)], passive: None, slow_start: Duration::ZERO, group: None }
}

/// A server at every address of loopback, and how many connections it took.
fn serve() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a listener");
    let address = listener.local_addr().expect("its address");
    listener.set_nonblocking(true).expect("a listener that does not block");
    let served = Arc::new(AtomicU64::new(0));
    let count = served.clone();
    let work = async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener of tokio");
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut asked = [0; 1024];
                if matches!(stream.read(&mut asked).await, Ok(1..)) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
            });
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    std::thread::spawn(move || runtime.block_on(work));
    (address, served)
}

/// What the threads of these names have used of the processor.
fn processor_time(names: &[&str]) -> Duration {
    let mut total = Duration::ZERO;
    for task in std::fs::read_dir("/proc/self/task").expect("/proc").flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if names.contains(&read("comm").trim()) {
            let nanoseconds = read("schedstat").split(' ').next().and_then(|word| word.parse().ok());
            total += Duration::from_nanos(nanoseconds.unwrap_or_default());
        }
    }
    total
}

//! One EAL for all tests of a process, in ordinary memory, and what they share.
#![allow(dead_code)]

pub mod namespace;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dpdk_sys::{
    Device, Eal, EalSettings, Mbuf, MbufBurst, Mempool, Nic, NicSettings, RxQueue, TxQueue, mempool,
};

/// The EAL of this process, started by the first test that asks.
pub fn eal() -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| start("dpdk-sys-test", 256))
}

/// Starts DPDK under a name that no other process has.
pub fn start(name: &str, mebibytes: usize) -> Eal {
    let settings =
        EalSettings::ordinary(&format!("{name}-{}", std::process::id()), allowed_core(), mebibytes);
    Eal::start(&settings).unwrap_or_else(|error| panic!("{error}"))
}

/// The first CPU that this process may use.
pub fn allowed_core() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let list =
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list of CPUs");
    let first = list.trim().split(['-', ',']).next().expect("a first CPU");
    first.parse().expect("a number")
}

/// A pool of `mbufs` mbufs; every test makes its own, so that counting them means something.
pub fn pool(mbufs: u32) -> Mempool {
    pool_with_cache(mbufs, 0)
}

/// As [`pool`], with a cache for each registered thread.
pub fn pool_with_cache(mbufs: u32, cache: u32) -> Mempool {
    Mempool::new(eal(), "test", mbufs, cache, mempool::DATA_ROOM, None)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// A number that no other caller gets, for names of devices.
pub fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A device of this driver, under a name of its own, with these options after the comma.
pub fn device(driver: &str, options: &str) -> Device {
    let devargs = format!("{driver}{}{options}", number());
    eal().probe(&devargs).unwrap_or_else(|error| panic!("{error}"))
}

/// Opens a device with one queue each way.
pub fn open(device: Device, pool: &Mempool) -> (Nic, RxQueue, TxQueue) {
    let (nic, mut rx, mut tx) =
        Nic::open(device, &NicSettings::new(pool.clone())).unwrap_or_else(|error| panic!("{error}"));
    let (rx, tx) = (rx.pop().expect("a queue"), tx.pop().expect("a queue"));
    (nic, rx, tx)
}

/// A frame of 60 bytes that carries a number.
pub fn frame(number: u16) -> [u8; 60] {
    let mut bytes = [0; 60];
    bytes[..6].fill(0xff);
    bytes[6] = 0x02;
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    bytes[14..16].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The number in a frame made by [`frame`].
pub fn number_in(mbuf: &Mbuf) -> u16 {
    u16::from_be_bytes([mbuf.data()[14], mbuf.data()[15]])
}

/// A burst of frames that carry these numbers.
pub fn burst_of(pool: &Mempool, numbers: std::ops::Range<u16>) -> MbufBurst {
    let mut burst = MbufBurst::new();
    for number in numbers {
        let mut mbuf = pool.alloc().expect("an mbuf");
        assert!(mbuf.fill(&frame(number)));
        burst.push(mbuf).expect("room in the burst");
    }
    burst
}

/// Receives until `count` packets are there; panics when they do not come within 10 s.
pub fn receive(queue: &mut RxQueue, count: usize) -> MbufBurst {
    let mut burst = MbufBurst::new();
    wait_for("packets", || {
        queue.burst(&mut burst);
        burst.len() >= count
    });
    burst
}

/// Polls until the condition holds; panics when it does not within 10 s.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "no {what} within 10 s");
        std::thread::yield_now();
    }
}

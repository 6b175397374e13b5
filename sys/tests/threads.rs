//! Packets from thread to thread through a ring.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{burst_of, eal, frame, number_in, pool, pool_with_cache, wait_for};
use dpdk_sys::{Clock, Cycles, MbufBurst, ring::mbuf_ring};

#[test]
fn a_full_ring_leaves_the_rest_and_frees_what_is_inside() {
    let pool = pool(127);
    let (sender, mut receiver) = mbuf_ring(eal(), "full", 20, None).expect("a ring");
    assert_eq!((sender.capacity(), sender.is_empty()), (20, true));
    let mut burst = burst_of(&pool, 0..30);
    assert_eq!(sender.send_burst(&mut burst), 20);
    assert_eq!((burst.len(), burst.first().map(number_in)), (10, Some(20)));
    assert_eq!(sender.send_burst(&mut burst), 0);
    drop(burst);
    assert_eq!((pool.in_use(), receiver.len()), (20, 20));
    let mut burst = burst_of(&pool, 100..159);
    assert_eq!(receiver.receive_burst(&mut burst), 5, "the burst has room for five");
    assert_eq!(number_in(&burst[63]), 4);
    drop((burst, sender));
    assert_eq!(pool.in_use(), 15, "one end keeps the ring");
    drop(receiver);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn two_senders_one_receiver_nothing_lost_each_in_order() {
    const EACH: u16 = 20_000;
    let pool = pool_with_cache(4095, 64);
    let (sender, mut receiver) = mbuf_ring(eal(), "order", 256, None).expect("a ring");
    thread::scope(|scope| {
        for lane in 0..2_u8 {
            let (sender, pool) = (sender.clone(), &pool);
            scope.spawn(move || {
                let _registered = eal().register_thread().expect("a place");
                let mut next = 0;
                while next < EACH {
                    let mut burst = MbufBurst::new();
                    for number in next..(next + 32).min(EACH) {
                        let Some(mut mbuf) = pool.alloc() else { break };
                        let mut bytes = frame(number);
                        bytes[20] = lane;
                        assert!(mbuf.fill(&bytes));
                        burst.push(mbuf).expect("room");
                    }
                    next += burst.len() as u16;
                    while !burst.is_empty() {
                        if sender.send_burst(&mut burst) == 0 {
                            thread::yield_now();
                        }
                    }
                }
            });
        }
        let mut expected = [0_u16; 2];
        wait_for("all packets", || {
            let mut burst = MbufBurst::new();
            receiver.receive_burst(&mut burst);
            for mbuf in burst.drain() {
                let lane = usize::from(mbuf.data()[20]);
                assert_eq!(number_in(&mbuf), expected[lane], "lane {lane}");
                expected[lane] += 1;
            }
            expected == [EACH; 2]
        });
    });
    assert!(receiver.is_empty());
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_ring_of_impossible_size_is_refused() {
    for capacity in [0, 1 << 30, (1 << 30) + 1, u32::MAX] {
        let error = mbuf_ring(eal(), "huge", capacity, None).map(|_| ()).expect_err("refused").to_string();
        let expected =
            format!("ring huge: no ring for {capacity} packets, 1 to 1073741824 as memory allows (");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn the_clock_agrees_with_the_systems() {
    let clock = Clock::new(eal());
    assert!(clock.cycles_per_second() > 1_000_000);
    let before = clock.start().elapsed();
    let reading = Cycles::now();
    wait_for("20 ms", || clock.start().elapsed() > before + std::time::Duration::from_millis(20));
    let passed = clock.duration(Cycles::now().since(reading));
    let system = clock.start().elapsed() - before;
    let ratio = passed.as_secs_f64() / system.as_secs_f64();
    assert!((0.9..1.1).contains(&ratio), "{ratio}");
}

/// A thread in real time that interrupts another one in the midst of the pool does not wait for it, which would never end: the other
/// one is kept from the CPU for as long.
#[test]
fn nobody_waits_at_a_pool_for_who_was_interrupted() {
    const TURNS: u32 = 20_000;
    const LATE: Duration = Duration::from_millis(500);
    let pool = pool_with_cache(4095, 0);
    let over = AtomicBool::new(false);
    let late = thread::scope(|scope| {
        scope.spawn(|| {
            dpdk_sys::thread::bind(0).expect("CPU 0");
            while !over.load(Ordering::Relaxed) {
                drop(pool.alloc());
            }
        });
        let urgent = scope.spawn(|| {
            dpdk_sys::thread::bind(0).expect("CPU 0");
            dpdk_sys::thread::set_timer_slack(1).expect("short sleeps");
            dpdk_sys::thread::real_time(10).expect("the right to real time");
            let turn = |_| {
                thread::sleep(Duration::from_micros(20));
                let begin = Instant::now();
                drop(pool.alloc());
                begin.elapsed()
            };
            let late = (0..TURNS).map(turn).find(|took| *took >= LATE);
            over.store(true, Ordering::Relaxed);
            late
        });
        urgent.join().expect("the thread in real time")
    });
    assert_eq!(late, None);
}

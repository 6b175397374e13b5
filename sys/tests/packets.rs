//! Packets and pools: who owns an mbuf, when it is freed, and what its accessors let a caller do.

mod common;

use common::{burst_of, eal, frame, number_in, pool, pool_with_cache};
use dpdk_sys::{BURST, Checksum, MbufBurst, Mempool, NicId, mempool};

#[test]
fn dropping_a_packet_frees_it() {
    let pool = pool(127);
    assert_eq!((pool.free_count(), pool.in_use()), (127, 0));
    let first = pool.alloc().expect("an mbuf");
    let second = pool.alloc().expect("an mbuf");
    assert_eq!(pool.in_use(), 2);
    drop(first);
    assert_eq!(pool.in_use(), 1);
    drop(second);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn an_empty_pool_gives_nothing_until_something_comes_back() {
    let pool = pool(31);
    let all: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(all.len(), 31);
    assert!(pool.alloc().is_none());
    drop(all);
    assert_eq!(pool.free_count(), 31);
}

#[test]
fn a_burst_is_allocated_whole_or_not_at_all() {
    let pool = pool(63);
    let mut burst = MbufBurst::new();
    assert!(!pool.alloc_burst(BURST, &mut burst), "the pool has fewer");
    assert!(burst.is_empty());
    assert!(pool.alloc_burst(40, &mut burst));
    assert!(!pool.alloc_burst(25, &mut burst), "the burst has no room for them");
    assert_eq!((burst.len(), burst.room(), pool.in_use()), (40, 24, 40));
    assert_eq!(burst.clear(), 40);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_is_left_in_a_burst_is_freed_with_it() {
    let pool = pool(127);
    let mut burst = burst_of(&pool, 0..10);
    let kept = burst.pop().expect("a packet");
    let taken = burst.swap_remove(0).expect("a packet");
    assert_eq!((number_in(&kept), number_in(&taken)), (9, 0));
    assert_eq!(burst.drain().next().map(|mbuf| number_in(&mbuf)), Some(8));
    assert_eq!(pool.in_use(), 2, "a drain that is not finished frees the rest");
    let burst = burst_of(&pool, 0..5);
    drop((burst, kept, taken));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_full_burst_gives_the_packet_back() {
    let pool = pool(127);
    let mut burst = burst_of(&pool, 0..64);
    assert!(burst.is_full());
    let refused = burst.push(pool.alloc().expect("an mbuf"));
    assert!(refused.is_err());
    assert_eq!(pool.in_use(), 65);
}

#[test]
fn a_packet_moves_within_its_buffer_and_not_beyond() {
    let pool = pool(31);
    let mut mbuf = pool.alloc().expect("an mbuf");
    assert!(mbuf.is_empty() && mbuf.segments() == 1);
    assert!(mbuf.fill(&frame(7)));
    assert_eq!((mbuf.headroom(), mbuf.len(), mbuf.tailroom()), (128, 60, 2048 - 60));
    // A header of 20 bytes in front, as a tunnel adds one.
    let mut room = mbuf.room_mut();
    assert_eq!((room.start(), room.len(), room.tail_room()), (128, 60, 2048 - 60));
    assert!(room.prepend(20) && room.is_moved());
    room.bytes_mut()[..20].fill(0x45);
    let (start, length) = (room.start(), room.len());
    assert!(mbuf.set_data(start, length));
    assert_eq!(&mbuf.data()[..20], [0x45; 20]);
    assert_eq!(&mbuf.data()[20..], frame(7));
    assert_eq!(mbuf.packet_len(), 80);
    // The whole buffer, and one byte more.
    assert!(mbuf.set_data(0, 2176));
    for (start, len) in [(0, 2177), (2176, 1), (2177, 0), (usize::MAX, 1), (1, usize::MAX)] {
        assert!(!mbuf.set_data(start, len), "{start} {len}");
    }
    assert!(!mbuf.fill(&[0; 2049]));
    assert_eq!((mbuf.headroom(), mbuf.len()), (0, 2176), "a refusal changes nothing");
    assert!(mbuf.set_data(2176, 0));
    assert!(mbuf.data().is_empty());
}

#[test]
fn a_packet_carries_its_nic_and_no_judgement_of_checksums() {
    let pool = pool(31);
    let mut mbuf = pool.alloc().expect("an mbuf");
    mbuf.set_nic(NicId(3));
    mbuf.prefetch();
    assert_eq!(mbuf.nic(), NicId(3));
    assert_eq!((mbuf.ip_checksum(), mbuf.l4_checksum()), (Checksum::Unknown, Checksum::Unknown));
}

#[test]
fn a_reused_mbuf_starts_empty() {
    let pool = pool(1);
    for _ in 0..3 {
        let mut mbuf = pool.alloc().expect("the only mbuf");
        assert_eq!((mbuf.headroom(), mbuf.len(), mbuf.packet_len()), (128, 0, 0));
        assert!(mbuf.set_data(5, 100));
    }
}

#[test]
fn a_registered_thread_keeps_some_for_itself_and_they_count_as_free() {
    let pool = pool_with_cache(511, 32);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let registered = eal().register_thread().expect("a place");
            let text = eal().register_thread().expect_err("it is known already").to_string();
            assert_eq!(text, "DPDK knows this thread already");
            let mbuf = pool.alloc().expect("an mbuf");
            assert_eq!((pool.in_use(), pool.free_count()), (1, 510));
            drop(mbuf);
            drop(registered);
            assert!(eal().register_thread().is_ok(), "its place is free again");
        });
    });
    assert_eq!(pool.free_count(), 511);
}

#[test]
fn packets_may_outlive_their_pool_and_the_next_pool_gets_the_memory() {
    let measures = 1000;
    let first = pool(measures);
    let mut kept = first.alloc().expect("an mbuf");
    drop(first);
    assert!(kept.fill(&frame(1)), "its memory is still there");
    let second = pool(measures);
    assert_eq!(second.free_count(), measures, "not the one with a packet outside");
    drop(kept);
    drop(second);
    // More than the memory holds at once, one after the other.
    for _ in 0..500 {
        assert_eq!(pool(measures).free_count(), measures);
    }
}

#[test]
fn impossible_pools_are_refused() {
    let error = |mbufs, cache, room| {
        Mempool::new(eal(), "front", mbufs, cache, room, None).map(|_| ()).expect_err("refused").to_string()
    };
    let text = error(10_000_000, 0, mempool::DATA_ROOM);
    assert!(text.starts_with("mempool front: no room for 10000000 mbufs, about 22584 MiB ("), "{text}");
    assert!(text.contains("give DPDK more memory"), "{text}");
    assert_eq!(
        error(100, 80, mempool::DATA_ROOM),
        "mempool front: a cache of 80 mbufs is too large: at most 512, and two thirds of the 100 mbufs"
    );
    assert_eq!(
        error(100, 0, 128),
        "mempool front: a data room of 128 bytes holds nothing after 128 of headroom"
    );
}

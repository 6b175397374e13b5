//! NICs made of rings: what goes in at one end comes out at the other, and who has the packets meanwhile.

mod common;

use common::{burst_of, eal, number_in, pool};
use dpdk_sys::{MbufBurst, RingNic, RingNicError, ring};

#[test]
fn packets_pass_both_ways() {
    let pool = pool(1023);
    let mut ring = RingNic::open(eal(), "both", 2, 256, &pool).unwrap();
    assert_eq!((ring.rx.len(), ring.tx.len(), ring.feeds.len(), ring.drains.len()), (2, 2, 2, 2));
    assert_eq!(ring.nic.driver_name(), "net_ring");
    for queue in 0..2 {
        let first = queue as u16 * 100;
        assert_eq!(ring.feeds[queue].send_burst(&mut burst_of(&pool, first..first + 32)), 32);
    }
    for queue in 0..2 {
        let first = queue as u16 * 100;
        let mut burst = MbufBurst::new();
        assert_eq!(ring.rx[queue].burst(&mut burst), 32);
        assert!(burst.iter().map(number_in).eq(first..first + 32), "queue {queue} has its own packets");
        assert_eq!(ring.tx[queue].burst(&mut burst), 32);
        assert_eq!(ring.drains[queue].receive_burst(&mut burst), 32);
        assert!(burst.iter().map(number_in).eq(first..first + 32));
    }
    assert_eq!(ring.nic.statistics().map(|counted| counted.sent_packets), Ok(64));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_does_not_fit_stays_with_the_sender() {
    let pool = pool(1023);
    let mut ring = RingNic::open(eal(), "full", 1, 40, &pool).unwrap();
    let mut burst = burst_of(&pool, 0..64);
    assert_eq!((ring.feeds[0].send_burst(&mut burst), burst.len()), (40, 24));
    assert_eq!(burst.first().map(number_in), Some(40));
    assert_eq!((ring.feeds[0].len(), ring.feeds[0].capacity()), (40, 40));
    let mut received = MbufBurst::new();
    ring.rx[0].burst(&mut received);
    assert_eq!((ring.tx[0].burst(&mut received), received.len()), (40, 0));
    assert_eq!(ring.tx[0].burst(&mut burst), 0, "nobody drains it");
}

#[test]
fn a_ring_with_one_sender() {
    let pool = pool(127);
    let (mut feed, mut receiver) = ring::single_sender_ring(eal(), "pipe", 40, None).unwrap();
    let mut burst = burst_of(&pool, 0..64);
    assert_eq!((feed.send_burst(&mut burst), burst.len(), receiver.len()), (40, 24, 40));
    let mut received = MbufBurst::new();
    assert_eq!(receiver.receive_burst(&mut received), 40);
    assert!(received.iter().map(number_in).eq(0..40) && receiver.is_empty());
    feed.send_burst(&mut burst);
    drop((received, burst, receiver, feed));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn nothing_is_lost_when_ends_go_in_any_order() {
    let pool = pool(1023);
    for order in 0..3 {
        let mut ring = RingNic::open(eal(), "order", 1, 64, &pool).unwrap();
        ring.feeds[0].send_burst(&mut burst_of(&pool, 0..20));
        ring.tx[0].burst(&mut burst_of(&pool, 20..30));
        assert_eq!(pool.in_use(), 30);
        let RingNic { nic, rx, tx, feeds, drains } = ring;
        match order {
            0 => drop(((nic, rx, tx), (feeds, drains))),
            1 => drop(((feeds, drains), (nic, rx, tx))),
            _ => drop((rx, drains, nic, feeds, tx)),
        }
        assert_eq!(pool.in_use(), 0, "order {order}");
    }
}

#[test]
fn impossible_measures_are_refused() {
    let pool = pool(63);
    for queues in [0, 17] {
        let refusal = RingNic::open(eal(), "x", queues, 64, &pool).map(drop);
        assert_eq!(refusal, Err(RingNicError::Queues { name: "x".to_owned(), wanted: queues }));
    }
    let refusal = RingNic::open(eal(), "x", 1, 0, &pool).unwrap_err();
    assert!(matches!(refusal, RingNicError::Ring(_)), "{refusal}");
    assert!(RingNic::open(eal(), "x", 16, 64, &pool).is_ok(), "refusals leave nothing behind");
}

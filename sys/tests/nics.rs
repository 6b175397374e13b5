//! NICs: opening and refusing, sending and receiving, and who has the packets then.

mod common;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};

use common::{burst_of, device, eal, frame, number_in, open, pool, receive};
use dpdk_sys::{MbufBurst, Mempool, Nic, NicError, NicSettings, mempool};

#[test]
fn a_ring_gives_back_what_it_is_given() {
    let pool = pool(1023);
    let (nic, mut rx, mut tx) = open(device("net_ring", ""), &pool);
    let mut burst = burst_of(&pool, 0..32);
    assert_eq!(tx.burst(&mut burst), 32);
    assert!(burst.is_empty(), "sent packets are not the caller's any more");
    assert_eq!(pool.in_use(), 32, "nor are they free");
    let received = receive(&mut rx, 32);
    assert_eq!(received.iter().map(number_in).collect::<Vec<_>>(), (0..32).collect::<Vec<_>>());
    assert!(received.iter().all(|mbuf| mbuf.data() == frame(number_in(mbuf))));
    assert_eq!(nic.statistics().map(|counted| counted.sent_packets), Ok(32));
    drop(received);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn receiving_stops_where_the_caller_says() {
    let pool = pool(1023);
    let (_nic, mut rx, mut tx) = open(device("net_ring", ""), &pool);
    tx.burst(&mut burst_of(&pool, 0..20));
    let mut burst = burst_of(&pool, 100..160);
    assert_eq!(rx.burst(&mut burst), 4, "the burst has room for four more");
    assert_eq!(rx.burst(&mut burst), 0);
    burst.clear();
    assert_eq!(rx.burst_at_most(&mut burst, 10), 10);
    assert_eq!(burst.first().map(number_in), Some(4));
}

#[test]
fn what_the_nic_does_not_take_stays_in_front() {
    let pool = pool(4095);
    let (nic, _rx, mut tx) = open(device("net_ring", ""), &pool);
    let mut sent: u16 = 0;
    let mut burst = loop {
        let mut burst = burst_of(&pool, sent..sent + 50);
        sent += tx.burst(&mut burst) as u16;
        if !burst.is_empty() {
            break burst;
        }
        assert!(sent < 4000, "the ring never fills");
    };
    assert_eq!(burst.first().map(number_in), Some(sent), "the first that was not taken");
    let rest = burst.len() as u32;
    assert_eq!(pool.in_use(), u32::from(sent) + rest);
    assert_eq!(tx.burst(&mut burst), 0, "it is still full");
    assert_eq!(burst.clear() as u32, rest);
    assert_eq!(pool.in_use(), u32::from(sent));
    drop((nic, _rx, tx));
    assert_eq!(pool.in_use(), 0, "closing frees what was inside");
}

#[test]
fn the_null_nic_receives_without_end_and_sends_to_nowhere() {
    let pool = pool(511);
    let (nic, mut rx, mut tx) = open(device("net_null", ",size=100"), &pool);
    assert_eq!(nic.driver_name(), "net_null");
    assert_eq!((nic.mtu(), nic.name().starts_with("net_null")), (1500, true));
    let mut burst = MbufBurst::new();
    let mut received = 0;
    for _ in 0..100 {
        received += rx.burst(&mut burst);
        assert!(burst.iter().all(|mbuf| mbuf.len() == 100 && mbuf.nic() == nic.id()));
        tx.burst(&mut burst);
        burst.clear();
    }
    assert!(received > 1000);
    assert_eq!(pool.in_use(), 0);
    // With the pool empty nothing comes, and nothing breaks.
    let all: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(rx.burst(&mut burst), 0);
    drop(all);
    assert!(rx.burst(&mut burst) > 0);
}

#[test]
fn queues_keep_the_nic_open_and_work_on_other_threads() {
    let pool = pool(1023);
    let mut settings = NicSettings::new(pool.clone());
    (settings.rx_queues, settings.tx_queues) = (2, 2);
    let (nic, rx, tx) = Nic::open(device("net_ring", ""), &settings).expect("two queues");
    drop(nic);
    let threads: Vec<_> = rx
        .into_iter()
        .zip(tx)
        .map(|(mut rx, mut tx)| {
            let pool = pool.clone();
            std::thread::spawn(move || {
                let _registered = eal().register_thread().expect("a place");
                let first = rx.queue().0 * 1000;
                tx.burst(&mut burst_of(&pool, first..first + 30));
                let received = receive(&mut rx, 30);
                assert!(received.iter().all(|mbuf| number_in(mbuf) / 1000 == rx.queue().0));
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_larger_packet_than_the_driver_takes_is_refused() {
    let name = format!("net_memif{}", common::number());
    let socket = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    let device =
        eal().probe(&format!("{name},socket={},socket-abstract=no", socket.display())).expect("a memif");
    let most = device.offer().expect("its offer").mtu;
    let large = Mempool::new(eal(), "large", 63, 0, 16_384, None).expect("a pool");
    let settings = NicSettings { mtu: most + 1, ..NicSettings::new(large) };
    let error = Nic::open(device, &settings).expect_err("too large");
    let said = format!("mtu {} wanted, driver net_memif takes packets of at most {most} bytes", most + 1);
    assert!(error.to_string().contains(&said), "{error}");
    let _ = fs::remove_file(socket);
}

#[test]
fn a_name_can_be_used_again_after_closing() {
    let pool = pool(127);
    let name = format!("net_null{}", common::number());
    for _ in 0..3 {
        let nic = open(eal().probe(&name).unwrap_or_else(|error| panic!("{error}")), &pool);
        let error = eal().probe(&name).expect_err("it is open").to_string();
        assert!(
            error.ends_with("it is in use in this process already: give each NIC its own device"),
            "{error}"
        );
        drop(nic);
    }
    drop(eal().probe(&name).expect("a device that is not opened goes away too"));
    drop(eal().probe(&name).expect("and comes back"));
}

#[test]
fn more_queues_than_offered_are_refused() {
    let offered = device("net_ring", "").offer().expect("an offer");
    assert!(offered.rx_queues >= 1 && offered.driver == "net_ring", "{offered:?}");
    let device = device("net_ring", "");
    let name = device.name().to_owned();
    let mut settings = NicSettings::new(pool(127));
    settings.rx_queues = offered.rx_queues + 1;
    let error = Nic::open(device, &settings).map(|_| ()).expect_err("refused");
    assert_eq!(
        error.to_string(),
        format!(
            "nic {name}: {} rx queues wanted, driver net_ring offers 1 to {}",
            offered.rx_queues + 1,
            offered.rx_queues
        )
    );
    settings.rx_queues = 0;
    let again = eal().probe(&name).expect("a refusal leaves nothing behind");
    assert!(matches!(Nic::open(again, &settings), Err(NicError::Queues { wanted: 0, .. })));
}

#[test]
fn pools_that_do_not_fit_are_refused() {
    let mut settings = NicSettings::new(pool(127));
    settings.mtu = 9000;
    let error = Nic::open(device("net_null", ""), &settings).map(|_| ()).expect_err("refused").to_string();
    assert!(
        error.ends_with(
            "mempool test holds 2048 bytes a packet, frames may have 9022: use a larger data room or a smaller MTU"
        ),
        "{error}"
    );
    let mut settings = NicSettings::new(pool(127));
    settings.rx_queues = 3;
    settings.pools.push(pool(127));
    let error = Nic::open(device("net_null", ""), &settings).map(|_| ()).expect_err("refused").to_string();
    assert!(error.ends_with("2 mempools for 3 rx queues: give one, or one for each"), "{error}");
}

#[test]
fn devices_that_are_not_there_are_refused() {
    for (devargs, expected) in [
        ("net_af_packet9,iface=nosuch0", "device \"net_af_packet9,iface=nosuch0\": DPDK cannot use it"),
        ("net_nosuch0", "device \"net_nosuch0\": no driver of DPDK goes by that name"),
        ("0000:fe:1f.7", "device \"0000:fe:1f.7\": DPDK cannot use it"),
        (
            "net_pcap9,rx_pcap=/nosuch/file.pcap",
            "device \"net_pcap9,rx_pcap=/nosuch/file.pcap\": DPDK cannot use it",
        ),
        ("", "device \"\": the name before the first comma must have 1 to 63 bytes"),
        ("net_null\0", "device \"net_null\\0\": the name before the first comma must have"),
    ] {
        let error = eal().probe(devargs).map(|_| ()).expect_err(devargs).to_string();
        println!("{error}");
        assert!(error.starts_with(expected), "{error}");
    }
    let error =
        eal().probe("net_af_packet9,iface=nosuch0").map(|_| ()).expect_err("no interface").to_string();
    assert!(error.contains("DPDK says: "), "{error}");
}

#[test]
fn pcap_files_in_and_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let (input, output) = (directory.path().join("in.pcap"), directory.path().join("out.pcap"));
    let short = frame(1);
    let long = [7_u8; 1400];
    fs::write(&input, pcap(&[&short, &long])).expect("a file");
    let pool = pool(1023);
    let options = format!(",rx_pcap={},tx_pcap={}", input.display(), output.display());
    let (nic, mut rx, mut tx) = open(device("net_pcap", &options), &pool);
    let mut burst = receive(&mut rx, 2);
    assert_eq!(burst[0].data(), short);
    assert_eq!((burst[1].len(), burst[1].segments()), (1400, 1));
    burst[1].data_mut()[0] = 8;
    assert_eq!(tx.burst(&mut burst), 2);
    drop((nic, rx, tx));
    assert_eq!(pool.in_use(), 0);
    let written = fs::read(&output).expect("the file");
    assert!(written.ends_with(&[&[8], &long[1..]].concat()));
}

/// A capture file, little endian, with Ethernet frames.
fn pcap(frames: &[&[u8]]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for frame in frames {
        let length = frame.len() as u32;
        for word in [0, 0, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(*frame);
    }
    file
}

#[test]
fn a_frame_in_several_segments_says_so_and_is_not_resized() {
    let directory = tempfile::tempdir().expect("a directory");
    let input = directory.path().join("in.pcap");
    fs::write(&input, pcap(&[&[9; 5000]])).expect("a file");
    let pool = pool(1023);
    let options =
        format!(",rx_pcap={},tx_pcap={}", input.display(), directory.path().join("out.pcap").display());
    let (nic, mut rx, tx) = open(device("net_pcap", &options), &pool);
    let mut burst = receive(&mut rx, 1);
    let mbuf = &mut burst[0];
    assert_eq!((mbuf.segments(), mbuf.packet_len()), (3, 5000));
    assert_eq!(mbuf.data().len(), 2048);
    assert!(!mbuf.set_data(128, 60) && !mbuf.fill(&frame(1)));
    burst.clear();
    assert_eq!(pool.in_use(), 0, "all segments are freed");
    drop((nic, rx, tx));
}

/// One at a time: this driver shares an interface's packets out among all its devices of a process.
static LOOPBACK: Mutex<()> = Mutex::new(());

#[test]
fn af_packet_on_loopback_sees_the_hosts_packets() {
    let _alone = LOOPBACK.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = pool(4095);
    let (nic, mut rx, tx) = open(device("net_af_packet", ",iface=lo"), &pool);
    assert_eq!((nic.driver_name(), nic.mac(), nic.link_up()), ("net_af_packet", [0; 6], true));
    let target = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address: SocketAddr = target.local_addr().expect("an address");
    let marker = b"shunt-sys-marker-on-loopback";
    let mut burst = MbufBurst::new();
    common::wait_for("marked packet", || {
        target.send_to(marker, address).expect("sent");
        burst.clear();
        rx.burst(&mut burst);
        burst.iter().any(|mbuf| mbuf.data().ends_with(marker))
    });
    drop((burst, nic, rx, tx));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn af_packet_wants_room_for_its_frame_size() {
    let _alone = LOOPBACK.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = Mempool::new(eal(), "small", 127, 0, 1700, None).expect("a pool");
    let error = Nic::open(device("net_null", ""), &NicSettings::new(pool.clone()));
    assert!(error.is_ok(), "an ordinary NIC is content with its MTU");
    let error = Nic::open(device("net_af_packet", ",iface=lo"), &NicSettings::new(pool))
        .map(|_| ())
        .expect_err("this driver does not look")
        .to_string();
    assert!(error.contains("mempool small holds 1572 bytes a packet, frames may have 2048"), "{error}");
    let pool = Mempool::new(eal(), "usual", 127, 0, mempool::DATA_ROOM, None).expect("a pool");
    let error = Nic::open(
        device("net_af_packet", ",iface=lo,framesz=4096,blocksz=8192,framecnt=64"),
        &NicSettings::new(pool),
    )
    .map(|_| ())
    .expect_err("larger frames than the pool holds")
    .to_string();
    assert!(error.contains("frames may have 4096"), "{error}");
}

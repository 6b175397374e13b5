//! Fragments in any order, what does not fit, and who gives way to whom.

use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn part(identification: u32, offset: usize, data: &[u8], more: bool) -> Part<'_, Ipv4Addr> {
    const HEADER: [u8; 20] = [7; 20];
    Part {
        key: Key {
            source: Ipv4Addr::new(198, 51, 100, 1),
            destination: Ipv4Addr::new(192, 0, 2, 10),
            identification,
            protocol: 17,
        },
        header: &HEADER,
        protocol: (9, 17),
        offset,
        more,
        data,
        length: (20 + data.len()) as u16,
        dont_fragment: false,
        ecn: 0,
    }
}

fn whole(reassembly: &mut Reassembly<Ipv4Addr>, added: Result<Added, DropReason>) -> (Vec<u8>, Whole) {
    let Ok(Added::Whole(place)) = added else { panic!("{added:?}") };
    let mut whole = reassembly.lend(place);
    let data = whole.bytes[whole.start..whole.start + whole.length].to_vec();
    reassembly.give_back(place, std::mem::take(&mut whole.bytes), false);
    assert!(reassembly.is_empty());
    (data, whole)
}

proptest! {
    #[test]
    fn whole_in_any_order(
        sizes in proptest::collection::vec(1_usize..40, 2..30),
        order in any::<u64>(),
        twice in any::<prop::sample::Index>(),
    ) {
        let data = (0..sizes.iter().sum::<usize>() * 8).map(|n| (n * 7) as u8).collect::<Vec<_>>();
        let mut cut = 0;
        let mut parts = Vec::new();
        for size in &sizes {
            parts.push((cut, cut + size * 8));
            cut += size * 8;
        }
        let twice = parts[twice.index(parts.len())];
        let mut shuffled = parts.clone();
        for place in (1..shuffled.len()).rev() {
            shuffled.swap(place, (order >> (place % 48)) as usize % (place + 1));
        }
        let mut reassembly = Reassembly::<Ipv4Addr>::new(MEMORY_MIN);
        let mut added = Ok(Added::Kept);
        for (number, (from, to)) in shuffled.into_iter().enumerate() {
            prop_assert_eq!(added, Ok(Added::Kept));
            added = reassembly.add(&part(1, from, &data[from..to], to < cut), NicId(0), Tick(0), |_| panic!());
            if (from, to) == twice && number + 1 < parts.len() {
                let again = reassembly.add(&part(1, from, &data[from..to], to < cut), NicId(0), Tick(0), |_| panic!());
                prop_assert_eq!(again, Ok(Added::Kept), "one that comes twice");
            }
        }
        let (found, whole) = whole(&mut reassembly, added);
        prop_assert_eq!(&found[..9], &[7; 9]);
        prop_assert_eq!(found[9], 17);
        prop_assert_eq!(&found[20..], &data[..]);
        prop_assert_eq!(&whole.cuts[..], &parts.iter().map(|part| part.0).collect::<Vec<_>>()[..]);
        prop_assert_eq!(usize::from(whole.largest), 20 + sizes.iter().max().unwrap() * 8);
    }
}

#[test]
fn what_does_not_fit_ends_the_datagram() {
    let first = part(1, 0, &[1; 16], true);
    for (what, second) in [
        ("overlaps its end", part(1, 8, &[2; 16], false)),
        ("overlaps its beginning", part(1, 0, &[2; 24], true)),
        ("ends within", part(1, 0, &[2; 8], false)),
        ("is no multiple of eight", part(1, 24, &[2; 7], true)),
        ("is too long", part(1, 65528, &[2; 8], false)),
        ("can tell of congestion", Part { ecn: 2, ..part(1, 16, &[2; 8], false) }),
    ] {
        let mut reassembly = Reassembly::new(MEMORY_MIN);
        let mut given_up = 0;
        assert_eq!(reassembly.add(&first, NicId(0), Tick(0), |_| given_up += 1), Ok(Added::Kept));
        assert_eq!(
            reassembly.add(&second, NicId(0), Tick(0), |_| given_up += 1),
            Err(DropReason::Fragment),
            "{what}"
        );
        assert!(reassembly.is_empty() && given_up == 1);
    }
    let mut reassembly = Reassembly::new(MEMORY_MIN);
    let last = part(1, 16, &[1; 5], false);
    assert_eq!(reassembly.add(&last, NicId(0), Tick(0), |_| ()), Ok(Added::Kept));
    let beyond = part(1, 24, &[1; 8], true);
    assert_eq!(reassembly.add(&beyond, NicId(0), Tick(0), |_| ()), Err(DropReason::Fragment));
}

#[test]
fn congestion_and_df_are_those_of_all() {
    let mut reassembly = Reassembly::new(MEMORY_MIN);
    let large = Part { dont_fragment: true, ecn: 2, ..part(1, 0, &[1; 16], true) };
    assert_eq!(reassembly.add(&large, NicId(0), Tick(0), |_| ()), Ok(Added::Kept));
    let small = Part { ecn: 3, ..part(1, 16, &[1; 5], false) };
    let added = reassembly.add(&small, NicId(0), Tick(0), |_| ());
    let (_, whole) = whole(&mut reassembly, added);
    assert!(whole.dont_fragment && whole.congestion);
}

/// A first fragment of so many bytes of this client's.
fn of_client(client: u32, identification: u32, data: &[u8]) -> Part<'_, Ipv4Addr> {
    let part = part(identification, 0, data, true);
    Part { key: Key { source: Ipv4Addr::from(0x0a00_0000 + client), ..part.key }, ..part }
}

/// The other one of two.
fn last_of_client(client: u32, identification: u32, offset: usize) -> Part<'static, Ipv4Addr> {
    let first = of_client(client, identification, &[]);
    Part { offset, more: false, data: &[9; 100], length: 120, ..first }
}

#[test]
fn bounded_in_memory_and_in_time() {
    const DATA_BYTES: usize = 1480;
    let mut reassembly = Reassembly::new(MEMORY_MIN);
    let (begin, mut given_up) = (Tick(0), Vec::new());
    for client in 0..5000 {
        let part = of_client(client, 1, &[1; DATA_BYTES]);
        assert_eq!(reassembly.add(&part, NicId(0), begin, |why| given_up.push(why)), Ok(Added::Kept));
    }
    let (used, all) = reassembly.memory();
    assert_eq!(all, MEMORY_MIN.into());
    assert!(used <= all && used > all - 4096, "{used}");
    assert!(reassembly.len() > 300, "{}", reassembly.len());
    assert_eq!(given_up, vec![Incomplete::Memory; 5000 - reassembly.len()], "the oldest went");
    let kept = reassembly.len() as u32;
    for (client, want) in [(5000 - kept - 1, false), (5000 - kept, true), (4999, true)] {
        let last = last_of_client(client, 1, DATA_BYTES);
        let added = reassembly.add(&last, NicId(0), begin, |_| ()).unwrap();
        let Added::Whole(place) = added else {
            assert!(!want, "{client}");
            continue;
        };
        assert!(want, "{client}");
        let whole = reassembly.lend(place);
        reassembly.give_back(place, whole.bytes, false);
    }
    assert!(reassembly.overdue(Tick(KEPT_V4.0 - 1)).is_none());
    let mut ended = 0;
    while let Some(overdue) = reassembly.overdue(Tick(KEPT_V4.0 + 1)) {
        ended += usize::from(overdue.first.is_some());
        reassembly.give_back(overdue.place, overdue.bytes, false);
    }
    assert!(
        ended + 4 > kept as usize && reassembly.is_empty(),
        "{ended} of {kept}, {} left",
        reassembly.len()
    );
    assert_eq!(reassembly.memory().0, 0, "all of it is back");
}

/// Clients whose fragments come between each other's, and one that sends first fragments without end.
#[test]
fn one_client_pushes_nobody_out() {
    const CLIENTS: u32 = 1000;
    const ATTACKER: u32 = 70_000;
    let mut reassembly = Reassembly::new(MEMORY_DEFAULT);
    let mut number = 0;
    let mut given_up = 0;
    let mut attack = |reassembly: &mut Reassembly<Ipv4Addr>, given_up: &mut u32| {
        for _ in 0..40 {
            number += 1;
            let part = of_client(ATTACKER, number, &[6; 1480]);
            assert_eq!(reassembly.add(&part, NicId(0), Tick(0), |_| *given_up += 1), Ok(Added::Kept));
        }
    };
    for client in 0..CLIENTS {
        attack(&mut reassembly, &mut given_up);
        let first = of_client(client, 7, &[1; 1480]);
        assert_eq!(reassembly.add(&first, NicId(0), Tick(0), |_| given_up += 1), Ok(Added::Kept));
    }
    assert!(given_up > 30_000, "{given_up}");
    for client in 0..CLIENTS {
        attack(&mut reassembly, &mut given_up);
        let added =
            reassembly.add(&last_of_client(client, 7, 1480), NicId(0), Tick(0), |_| panic!("{client}"));
        let Ok(Added::Whole(place)) = added else { panic!("{client}: {added:?}") };
        let whole = reassembly.lend(place);
        assert_eq!(whole.bytes[DATA..DATA + 1580], [[1; 1480].as_slice(), &[9; 100]].concat());
        reassembly.give_back(place, whole.bytes, false);
    }
}

#[test]
fn the_largest_datagram_fits_the_least_memory() {
    let mut reassembly = Reassembly::new(0);
    for client in 0..20 {
        for number in 0..63 {
            let part = Part { offset: number * 1024, ..of_client(client, 1, &[3; 1024]) };
            assert_eq!(
                reassembly.add(&part, NicId(0), Tick(0), |_| ()),
                Ok(Added::Kept),
                "{client} {number}"
            );
        }
        let added = reassembly.add(&last_of_client(client, 1, 63 * 1024), NicId(0), Tick(0), |_| ());
        let Ok(Added::Whole(place)) = added else { panic!("{added:?}") };
        let whole = reassembly.lend(place);
        assert_eq!(whole.length, 20 + 63 * 1024 + 100);
        // Those that wait for a neighbour stay.
        reassembly.give_back(place, whole.bytes, true);
    }
}

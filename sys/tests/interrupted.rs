//! A thread that is stopped between any two instructions of an operation keeps nobody else from it.
//!
//! The processor's trap flag (x86-64) stops the thread after each of its instructions, in a signal handler. After one of them, another one each
//! time, the handler does what others would do meanwhile, and more of it than anybody may do in advance. So each place at which
//! a busy machine may take a thread from its CPU, or an urgent thread may interrupt it, is tried once.
#![cfg(target_arch = "x86_64")]

mod common;

use std::arch::asm;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use common::{eal, pool_with_cache};
use dpdk_sys::ring::mbuf_ring;
use dpdk_sys::{Mbuf, MbufBurst, Mempool, RingReceiver, RingSender};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static POOL: OnceLock<Mempool> = OnceLock::new();
static RING: OnceLock<RingSender> = OnceLock::new();
/// What others do in their turn; whether they got what they must get.
static OTHERS: Mutex<fn() -> bool> = Mutex::new(|| true);
/// One test at a time: the signal is the process's.
static ONE: Mutex<()> = Mutex::new(());
/// Instructions of this run up to now, and the one after which others have their turn.
static INSTRUCTIONS: AtomicU32 = AtomicU32::new(0);
static STOP_AFTER: AtomicU32 = AtomicU32::new(u32::MAX);
/// Turns of others.
static TURNS: AtomicU32 = AtomicU32::new(0);
/// Times that others did not get what they must get.
static MISSING: AtomicU32 = AtomicU32::new(0);
/// Packets that others put into the ring.
static PUT: AtomicU32 = AtomicU32::new(0);

/// The processor's flag that stops it after each instruction.
const TRAP_FLAG: i64 = 0x100;
const MBUFS: u32 = 1023;
/// What the ring holds; DPDK's own bound of how far a sender may be ahead of one that is stopped is an eighth of it.
const PACKETS: u32 = 64;
/// Far more than a few million operations take, on a busy machine, too.
const PATIENCE: Duration = Duration::from_secs(60);

extern "C" fn stopped(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let number = INSTRUCTIONS.fetch_add(1, Ordering::SeqCst);
    if number != STOP_AFTER.load(Ordering::SeqCst) {
        return;
    }
    // Its other instructions need no stop.
    // SAFETY: sigaction(2): with SA_SIGINFO that is the thread's state, which it goes on with.
    unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_EFL as usize] &= !TRAP_FLAG };
    // Nobody else holds it while a thread is stepped.
    let others = OTHERS.try_lock().map(|others| *others);
    MISSING.fetch_add(u32::from(!others.is_ok_and(|others| others())), Ordering::SeqCst);
}

/// Others take most of what the pool has, and give it back, many at a time and one by one.
fn others_at_the_pool() -> bool {
    let Some(pool) = POOL.get() else { return false };
    let mut bursts: [MbufBurst; 10] = std::array::from_fn(|_| MbufBurst::new());
    let all = bursts.iter_mut().all(|burst| pool.alloc_burst(60, burst));
    drop(bursts);
    all && (0..200).all(|_| pool.alloc().is_some())
}

/// Others put as much into the ring as it takes, which is all but what a sender that is stopped may have a place for.
fn others_at_the_ring() -> bool {
    let (Some(pool), Some(ring)) = (POOL.get(), RING.get()) else { return false };
    let mut put = 0;
    for _ in 0..2 * PACKETS / 8 {
        let mut burst = MbufBurst::new();
        let got = pool.alloc_burst(8, &mut burst);
        put += ring.send_burst(&mut burst) as u32;
        if !got {
            return false;
        }
    }
    PUT.fetch_add(put, Ordering::SeqCst);
    put + 3 >= PACKETS
}

/// Does something with a stop after each instruction, until others had their turn.
fn stepped(act: impl FnOnce()) {
    // SAFETY: the flag is set for this thread alone, and its signal is handled.
    unsafe { asm!("pushfq", "or dword ptr [rsp], 0x100", "popfq") };
    act();
    // SAFETY: as above; it is cleared again.
    unsafe { asm!("pushfq", "and dword ptr [rsp], 0xfffffeff", "popfq") };
}

/// What the thread has.
struct Kept {
    one: Option<Mbuf>,
    some: MbufBurst,
    receiver: Option<RingReceiver>,
    /// Packets that it put into the ring, and that it took from there.
    put: u32,
    taken: u32,
}

/// An operation.
type Operation = fn(&mut Kept, &Mempool);

const ONE_OUT: Operation = |kept, pool| kept.one = pool.alloc();
const ONE_BACK: Operation = |kept, _| kept.one = None;
const SOME_OUT: Operation = |kept, pool| _ = pool.alloc_burst(3, &mut kept.some);
const SOME_BACK: Operation = |kept, _| _ = kept.some.clear();
const PUT_SOME: Operation = |kept, _| {
    let Some(ring) = RING.get() else { return };
    kept.put += ring.send_burst(&mut kept.some) as u32;
};
const TAKE_SOME: Operation = |kept, _| {
    let Some(receiver) = &mut kept.receiver else { return };
    kept.taken += receiver.receive_burst(&mut kept.some) as u32;
};
/// Empties the ring, and has three packets to put in.
const RING_READY: Operation = |kept, pool| {
    let Some(receiver) = &mut kept.receiver else { return };
    let mut taken = MbufBurst::new();
    while receiver.receive_burst(&mut taken) > 0 {
        kept.taken += taken.len() as u32;
        taken.clear();
    }
    kept.some.clear();
    assert!(pool.alloc_burst(3, &mut kept.some));
};
/// Empties the ring, and puts three packets in that can be taken.
const RING_FILLED: Operation = |kept, pool| {
    RING_READY(kept, pool);
    PUT_SOME(kept, pool);
    kept.some.clear();
};

/// Does an operation again and again, with a turn of others after another instruction each time.
fn stop_everywhere(act: Operation, undo: Operation, kept: &mut Kept, pool: &Mempool) {
    // What is given back has to be there.
    undo(kept, pool);
    for stop_after in 0.. {
        STOP_AFTER.store(stop_after, Ordering::SeqCst);
        INSTRUCTIONS.store(0, Ordering::SeqCst);
        stepped(|| act(kept, pool));
        if INSTRUCTIONS.load(Ordering::SeqCst) <= stop_after {
            return;
        }
        TURNS.fetch_add(1, Ordering::SeqCst);
        undo(kept, pool);
    }
}

/// Tries operations with others that do this; gives the places at which they had a turn, and what the thread had at the end.
fn tried(
    others: fn() -> bool,
    receiver: Option<RingReceiver>,
    operations: &'static [[Operation; 2]],
) -> (u32, Kept) {
    let action = SigAction::new(SigHandler::SigAction(stopped), SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: what the handler does is what is tried here; it allocates no other memory and waits for nobody.
    unsafe { sigaction(Signal::SIGTRAP, &action) }.expect("a handler");
    let pool = POOL.get_or_init(|| pool_with_cache(MBUFS, 0));
    *OTHERS.lock().expect("nobody panics with it") = others;
    TURNS.store(0, Ordering::SeqCst);
    MISSING.store(0, Ordering::SeqCst);
    let (tell, told) = channel();
    // Nobody joins it: if it waits it does so for ever.
    thread::spawn(move || {
        let mut kept = Kept { one: None, some: MbufBurst::new(), receiver, put: 0, taken: 0 };
        for [act, undo] in operations {
            stop_everywhere(*act, *undo, &mut kept, pool);
        }
        kept.some.clear();
        let _ = tell.send(kept);
    });
    let ended = told.recv_timeout(PATIENCE);
    let turns = TURNS.load(Ordering::SeqCst);
    let kept =
        ended.unwrap_or_else(|_| panic!("at the {turns}th place: others wait for whoever is stopped there"));
    (turns, kept)
}

#[test]
fn nobody_waits_at_a_pool_for_who_is_stopped_in_it() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    const OPERATIONS: &[[Operation; 2]] = &[
        [ONE_OUT, ONE_BACK],
        [SOME_OUT, SOME_BACK],
        [ONE_BACK, ONE_OUT],
        [SOME_BACK, SOME_OUT],
        // Nothing stays out.
        [ONE_OUT, ONE_BACK],
    ];
    let (turns, kept) = tried(others_at_the_pool, None, OPERATIONS);
    drop(kept);
    assert!(turns > 200, "{turns} places: nothing was stopped");
    let pool = POOL.get().expect("a pool");
    assert_eq!((MISSING.load(Ordering::SeqCst), pool.in_use()), (0, 0), "of {turns} turns");
}

#[test]
fn nobody_waits_at_a_ring_for_who_is_stopped_in_it_and_nothing_is_lost() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (sender, receiver) = mbuf_ring(eal(), "stopped", PACKETS, None).expect("a ring");
    RING.set(sender).expect("one ring");
    const OPERATIONS: &[[Operation; 2]] = &[[PUT_SOME, RING_READY], [TAKE_SOME, RING_FILLED]];
    let (turns, mut kept) = tried(others_at_the_ring, Some(receiver), OPERATIONS);
    assert!(turns > 100, "{turns} places: nothing was stopped");
    RING_READY(&mut kept, POOL.get().expect("a pool"));
    let put = kept.put + PUT.load(Ordering::SeqCst);
    assert_eq!((MISSING.load(Ordering::SeqCst), kept.taken), (0, put), "of {turns} turns");
}

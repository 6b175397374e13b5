//! A thread that is stopped between any two instructions of an operation keeps nobody else from it.
//!
//! The processor's trap flag (x86-64) stops the thread after each of its instructions, in a signal handler. After one of them, another one each
//! time, the handler does what others would do meanwhile, and more of it than anybody may do in advance. So each place at which
//! a busy machine may take a thread from its CPU, or an urgent thread may interrupt it, is tried once.
#![cfg(target_arch = "x86_64")]

mod common;

use std::arch::asm;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use common::pool_with_cache;
use dpdk_sys::{Mbuf, MbufBurst, Mempool};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static POOL: OnceLock<Mempool> = OnceLock::new();
/// Instructions of this run up to now, and the one after which others have their turn.
static INSTRUCTIONS: AtomicU32 = AtomicU32::new(0);
static STOP_AFTER: AtomicU32 = AtomicU32::new(0);
/// Turns of others.
static TURNS: AtomicU32 = AtomicU32::new(0);
/// Times that others found less in the pool than must be there.
static MISSING: AtomicU32 = AtomicU32::new(0);

/// The processor's flag that stops it after each instruction.
const TRAP_FLAG: i64 = 0x100;
const MBUFS: u32 = 1023;
/// Far more than a few million operations take, on a busy machine, too.
const PATIENCE: Duration = Duration::from_secs(60);

/// What others do: they take most of what the pool has, and give it back, many at a time and one by one.
extern "C" fn others(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let number = INSTRUCTIONS.fetch_add(1, Ordering::SeqCst);
    let Some(pool) = POOL.get().filter(|_| number == STOP_AFTER.load(Ordering::SeqCst)) else { return };
    // Its other instructions need no stop.
    // SAFETY: sigaction(2): with SA_SIGINFO that is the thread's state, which it goes on with.
    unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_EFL as usize] &= !TRAP_FLAG };
    let mut bursts: [MbufBurst; 10] = std::array::from_fn(|_| MbufBurst::new());
    let all = bursts.iter_mut().all(|burst| pool.alloc_burst(60, burst));
    drop(bursts);
    let one_by_one = (0..200).all(|_| pool.alloc().is_some());
    MISSING.fetch_add(u32::from(!all || !one_by_one), Ordering::SeqCst);
}

/// Does something with a stop after each instruction, until others had their turn.
fn stepped(act: impl FnOnce()) {
    // SAFETY: the flag is set for this thread alone, and its signal is handled.
    unsafe { asm!("pushfq", "or dword ptr [rsp], 0x100", "popfq") };
    act();
    // SAFETY: as above; it is cleared again.
    unsafe { asm!("pushfq", "and dword ptr [rsp], 0xfffffeff", "popfq") };
}

/// What the thread has of the pool.
#[derive(Default)]
struct Kept {
    one: Option<Mbuf>,
    some: MbufBurst,
}

/// An operation of the pool.
type Operation = fn(&mut Kept, &Mempool);

const ONE_OUT: Operation = |kept, pool| kept.one = pool.alloc();
const ONE_BACK: Operation = |kept, _| kept.one = None;
const SOME_OUT: Operation = |kept, pool| _ = pool.alloc_burst(3, &mut kept.some);
const SOME_BACK: Operation = |kept, _| _ = kept.some.clear();

/// Does an operation again and again, with a turn of others after another instruction each time.
fn stop_everywhere(act: Operation, undo: Operation, pool: &Mempool) {
    let mut kept = Kept::default();
    // What is given back has to be there.
    undo(&mut kept, pool);
    for stop_after in 0.. {
        STOP_AFTER.store(stop_after, Ordering::SeqCst);
        INSTRUCTIONS.store(0, Ordering::SeqCst);
        stepped(|| act(&mut kept, pool));
        if INSTRUCTIONS.load(Ordering::SeqCst) <= stop_after {
            return;
        }
        TURNS.fetch_add(1, Ordering::SeqCst);
        undo(&mut kept, pool);
    }
}

#[test]
fn nobody_waits_at_a_pool_for_who_is_stopped_in_it() {
    let action = SigAction::new(SigHandler::SigAction(others), SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: what the handler does is what is tried here; it allocates no other memory and takes no lock.
    unsafe { sigaction(Signal::SIGTRAP, &action) }.expect("a handler");
    let pool = POOL.get_or_init(|| pool_with_cache(MBUFS, 0));
    let (tell, told) = channel();
    // Nobody joins it: if it waits it does so for ever.
    thread::spawn(move || {
        stop_everywhere(ONE_OUT, ONE_BACK, pool);
        stop_everywhere(SOME_OUT, SOME_BACK, pool);
        stop_everywhere(ONE_BACK, ONE_OUT, pool);
        stop_everywhere(SOME_BACK, SOME_OUT, pool);
        let _ = tell.send(());
    });
    let ended = told.recv_timeout(PATIENCE).is_ok();
    let turns = TURNS.load(Ordering::SeqCst);
    assert!(ended, "at the {turns}th place: others wait for whoever is stopped there");
    assert!(turns > 200, "{turns} places: nothing was stopped");
    assert_eq!((MISSING.load(Ordering::SeqCst), pool.in_use()), (0, 0), "of {turns} turns");
}

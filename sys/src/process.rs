//! Other processes: one that is forked before there is anything to inherit, and programs started from it that inherit nothing but
//! what they are given.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::libc;
use nix::unistd::Pid;

/// How many signals the kernel has.
const SIGNALS: libc::c_long = 64;
/// The first descriptor behind standard input, output and error.
const FIRST: i32 = 3;

/// Forks a process that does `serve` with one end of a connection, in a session of its own, with nothing open but that (as descriptor
/// 3) and `/dev/null`, without a signal that would end it but SIGKILL, and ends. The other end is returned, with the process's number; nothing but this process holds it, so
/// that the end of this process is the end of the connection. Whoever wants the process to be small and to know nothing forks it before there
/// are threads, packet memory, and secrets.
///
/// # Errors
///
/// The system's: `EAGAIN` and `ENOMEM` of fork(2), `EMFILE`.
pub fn fork(serve: impl FnOnce(UnixStream)) -> io::Result<(Pid, UnixStream)> {
    let (near, far) = UnixStream::pair()?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    // SAFETY: fork(2). The child has this thread alone. It runs on the memory of this one, in which no other thread holds a lock that it
    // takes: before there are threads there are none, and glibc's own (malloc, stdio) are taken for the fork.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let status = i32::from(keep_only(&far, &null).is_err());
            std::mem::forget((near, far, null));
            if status == 0 {
                // SAFETY: FIRST is the copy of the connection that keep_only made, and nobody else's.
                let connection = UnixStream::from(unsafe { OwnedFd::from_raw_fd(FIRST) });
                // A panic must not run on into the parent's stack, which this is a copy of.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(connection)));
            }
            // SAFETY: _exit(2): the exit handlers are the parent's.
            unsafe { libc::_exit(status) }
        }
        pid => Ok((Pid::from_raw(pid), near)),
    }
}

/// Signals that are for the process that forked, or that a terminal or a service manager sends to all.
const NOT_FOR_THE_FORKED: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGPIPE,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
];

/// In the child: a session of its own, `/dev/null` in the standard places, the connection behind them, nothing else; no signal is handled.
fn keep_only(connection: &UnixStream, null: &std::fs::File) -> io::Result<()> {
    let (connection, null) = (connection.as_raw_fd(), null.as_raw_fd());
    // SAFETY: setsid(2), signal(2), fcntl(2), dup2(2) and close(2) on numbers. Copies above FIRST keep what is copied from being written over; owners of
    // the other descriptors never run again in this process.
    unsafe {
        libc::setsid();
        for signal in 1..=libc::SIGRTMAX() {
            let ignored = NOT_FOR_THE_FORKED.contains(&signal);
            libc::signal(signal, if ignored { libc::SIG_IGN } else { libc::SIG_DFL });
        }
        let connection = libc::fcntl(connection, libc::F_DUPFD, FIRST + 1);
        let null = libc::fcntl(null, libc::F_DUPFD, FIRST + 1);
        if connection < 0 || null < 0 {
            return Err(io::Error::last_os_error());
        }
        for standard in 0..FIRST {
            if libc::dup2(null, standard) < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        if libc::dup3(connection, FIRST, libc::O_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
        close_from(FIRST + 1);
    }
    Ok(())
}

/// Closes every descriptor from this one on.
///
/// # Safety
///
/// Nobody may use any of them afterwards.
unsafe fn close_from(first: i32) {
    // SAFETY: close_range(2) takes numbers; an older kernel than 5.9 says ENOSYS.
    if unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) } == 0 {
        return;
    }
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit(2) writes the structure.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    let last = if known { i32::try_from(limit.rlim_cur).unwrap_or(1 << 20) } else { 1 << 16 };
    for descriptor in first..last {
        // SAFETY: close(2); the caller says that nobody uses it.
        unsafe { libc::close(descriptor) };
    }
}

/// A program to be started, and all that it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Its arguments, without its own name.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The numbers of its user and group; without supplementary groups then. None for those of this process.
    pub user: Option<(u32, u32)>,
}

/// Starts a program that inherits `/dev/null` in the standard places and nothing else: a process group of its own, no
/// other descriptor, no signal blocked or ignored, the root folder, mask 022, ordinary scheduling, no protection from the OOM killer; as another user no
/// capability, not even an inheritable one. It is killed when the calling thread ends, which it has to be waited for by.
///
/// # Errors
///
/// Those of fork(2), execve(2), setuid(2).
pub fn start(program: &Program) -> io::Result<Pid> {
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).env_clear();
    command.envs(program.environment.iter().map(|(name, value)| (name, value)));
    command.current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let other = program.user.is_some();
    if let Some((user, group)) = program.user {
        command.uid(user).gid(group);
    }
    // SAFETY: getpid(2).
    let parent = unsafe { libc::getpid() };
    // SAFETY: prepare calls async-signal-safe functions alone and allocates nothing.
    unsafe { command.pre_exec(move || prepare(parent, other)) };
    let child = command.spawn()?;
    Ok(Pid::from_raw(child.id() as i32))
}

/// Runs between fork and exec, as the program's user already.
fn prepare(parent: i32, other_user: bool) -> io::Result<()> {
    // SAFETY: sigaction(2), umask(2), sched_setscheduler(2), open(2), write(2), prctl(2), capset(2), getppid(2), close_range(2): all are
    // system calls on numbers and on structures that live here.
    unsafe {
        for signal in 1..=SIGNALS {
            // All of the kernel's structure is 0: the default action. SIGKILL and SIGSTOP are refused; glibc would refuse its own two as well.
            let default = [0_u64; 4];
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u8>(),
                SIGNALS / 8,
            );
        }
        libc::umask(0o022);
        if libc::sched_getscheduler(0) != libc::SCHED_OTHER {
            let ordinary = libc::sched_param { sched_priority: 0 };
            libc::sched_setscheduler(0, libc::SCHED_OTHER, &ordinary);
        }
        if libc::getpriority(libc::PRIO_PROCESS, 0) < 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        }
        expose_to_oom();
        if other_user {
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
            crate::capability::set_raw(0, 0, 0)?;
        }
        // After the user was set, which undoes it.
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::getppid() != parent {
            libc::_exit(1);
        }
        // What std needs to tell that exec failed closes by exec, too. Older kernels than 5.11 do not know this; here everything does anyway.
        libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
    Ok(())
}

/// A director that the OOM killer is kept from starts programs that it is not kept from.
///
/// # Safety
///
/// Async-signal-safe.
unsafe fn expose_to_oom() {
    // SAFETY: open(2), read(2), write(2) and close(2) on a constant path and a buffer that lives here.
    unsafe {
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if file < 0 {
            return;
        }
        let mut first = [0_u8; 1];
        if libc::read(file, first.as_mut_ptr().cast(), 1) == 1 && first[0] == b'-' {
            libc::write(file, c"0".as_ptr().cast(), 1);
        }
        libc::close(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn what_is_forked_has_its_connection_alone_and_ends_with_it() {
        let kept = std::fs::File::open("/proc/self/status").unwrap();
        let (pid, mut near) = fork(|mut far| {
            let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
            // The directory itself is one.
            far.write_all(&[open as u8 - 1]).unwrap();
            let _ = far.read(&mut [0]);
        })
        .unwrap();
        let mut count = [0];
        near.read_exact(&mut count).unwrap();
        assert_eq!(count, [4]);
        drop((near, kept));
        let ended = nix::sys::wait::waitpid(pid, None).unwrap();
        assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(pid, 0));
    }

    #[test]
    fn a_panic_ends_the_child_alone() {
        let (pid, mut near) = fork(|_| panic!("on purpose")).unwrap();
        assert_eq!(near.read(&mut [0]).unwrap(), 0);
        assert!(nix::sys::wait::waitpid(pid, None).is_ok());
    }
}

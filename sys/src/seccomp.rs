//! A filter of system calls (seccomp(2)) for threads that read what strangers send.

use std::io;

use nix::libc;

/// What no such thread ever does: start programs, look into other processes, change what the system is.
const DENIED: [libc::c_long; 30] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
];

/// The architecture that numbers of system calls are of (`linux/audit.h`).
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;
/// Numbers from here on are those of the x32 interface.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// Where `seccomp_data` has the number and the architecture.
const NUMBER: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;

/// From now on the calling thread, and those that it starts, are refused (`EPERM`) what only a thread that was taken over would ask for. It
/// cannot be undone, and sets `no_new_privs` of the thread, which it needs.
///
/// # Errors
///
/// `EINVAL` and `ENOSYS` where the kernel has no filters.
pub fn deny_takeover() -> io::Result<()> {
    let mut filter = vec![
        load(ARCHITECTURE_AT),
        jump_if_equal(ARCHITECTURE, 1, 0),
        answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        load(NUMBER),
    ];
    #[cfg(target_arch = "x86_64")]
    filter.extend([jump_if_at_least(X32, 0, 1), answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32)]);
    for number in DENIED {
        filter.extend([
            jump_if_equal(number as u32, 0, 1),
            answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        ]);
    }
    filter.push(answer(libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: prctl(2) takes numbers; seccomp(2) copies the program, which points at `filter`, and keeps nothing of it.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                &raw const program,
            ) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const fn load(offset: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

const fn jump_if_equal(value: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt, jf, k: value }
}

#[cfg(target_arch = "x86_64")]
const fn jump_if_at_least(value: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16, jt, jf, k: value }
}

const fn answer(action: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: action }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_denied_is_refused_and_all_else_goes_on() {
        let thread = std::thread::spawn(|| {
            deny_takeover().unwrap();
            let program = std::process::Command::new("/bin/true").status().unwrap_err();
            assert_eq!(program.raw_os_error(), Some(libc::EPERM));
            // A thread that it starts as well.
            let child = std::thread::spawn(|| std::process::Command::new("/bin/true").status().is_err());
            assert!(child.join().unwrap());
            std::fs::read("/proc/self/status").unwrap();
            std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        });
        thread.join().unwrap();
        assert!(
            std::process::Command::new("/bin/true").status().unwrap().success(),
            "others are not touched"
        );
    }
}

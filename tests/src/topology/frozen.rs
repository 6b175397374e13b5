//! A thread of another process that is stopped where it is, as one that hangs; the others go on (ptrace(2)).

use std::fs;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// A stopped thread; it goes on when this is dropped. To be used on the thread that made it.
#[derive(Debug)]
pub struct Frozen {
    thread: Pid,
    /// It is the process's first, whose end is the process's own.
    main: bool,
}

/// Characters of a thread's name that the kernel keeps.
const NAME_MAX: usize = 15;

/// The thread of this name.
fn find(pid: u32, name: &str) -> Option<Pid> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks.flatten().find_map(|task| {
        let known = fs::read_to_string(task.path().join("comm")).ok()?;
        let wanted = name.get(..NAME_MAX).unwrap_or(name);
        // A worker's name has its core, too.
        let same =
            known.trim_end() == wanted || (name.contains(' ') && known.starts_with(&format!("{name}/")));
        same.then(|| task.file_name().to_str()?.parse().ok().map(Pid::from_raw)).flatten()
    })
}

impl Frozen {
    /// Stops the thread of this name; `main` is the process's first.
    ///
    /// # Panics
    /// When there is none, or it cannot be stopped.
    #[must_use]
    pub fn new(pid: u32, name: &str) -> Self {
        let main = (name == "main").then(|| Pid::from_raw(pid as i32));
        let thread = main.or_else(|| find(pid, name)).unwrap_or_else(|| panic!("no thread {name}"));
        ptrace::seize(thread, ptrace::Options::empty()).expect("the right to stop threads of others");
        ptrace::interrupt(thread).expect("a thread to stop");
        waitpid(thread, Some(WaitPidFlag::__WALL)).expect("a thread that stops");
        Self { thread, main: main.is_some() }
    }

    /// Takes note of its end, which its process's own end waits for.
    pub fn let_end(&self) {
        if !self.main {
            let _ = waitpid(self.thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG));
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.thread, None);
        self.let_end();
    }
}

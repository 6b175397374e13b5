//! Locks between processes, in a folder that nobody else may enter: who wants to hold one up has to be this user or root.
//!
//! A lock is `flock(2)` of a file in [`folder`]. The kernel lets it go with its holder, however that ends; the file says who that
//! is. Nobody waits for one: a lock is had at once, or told to be held.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::unistd::{Pid, geteuid};

/// Where root's locks are.
const FOLDER: &str = "/run/shunt";
/// How often the holder's number is looked for: it is written just after the lock was had.
const LOOKS: u32 = 20;
/// The time between two looks.
const LOOK_PERIOD: Duration = Duration::from_millis(5);

/// A lock that this process holds, until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    // Its file goes before the lock does.
    path: PathBuf,
    _file: Flock<File>,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number, where it could be read.
    pub pid: Option<Pid>,
}

impl fmt::Display for Holder {
    /// The process, and its command line as far as `/proc` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.pid else { return f.write_str("a process that did not say its number") };
        write!(f, "process {pid}")?;
        let Ok(words) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return Ok(()) };
        let words: Vec<_> = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let line = words.join(" ");
        if line.trim().is_empty() { Ok(()) } else { write!(f, " ({})", line.trim().escape_debug()) }
    }
}

/// Why a lock was not had.
#[derive(Debug)]
pub enum LockError {
    /// Another process holds it.
    Held(Holder),
    /// The folder of locks is open to others, or not this user's.
    Folder(PathBuf, String),
    /// The system refuses.
    System(PathBuf, io::Error),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(holder) => write!(f, "{holder} holds it"),
            Self::Folder(path, why) => write!(
                f,
                "{}: {why}: locks are kept in a folder that only user {} may enter: remove it, or `chown {1} {0}; chmod 700 {0}`",
                path.display(),
                geteuid()
            ),
            Self::System(path, error) => write!(
                f,
                "{}: the lock cannot be made ({error}): it takes a folder that can be written: make it so",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LockError {}

/// The folder of this user's locks: `/run/shunt` for root; for others `shunt` in `XDG_RUNTIME_DIR`, or in the folder of temporary files with the user's number behind it.
#[must_use]
pub fn folder() -> PathBuf {
    let user = geteuid();
    if user.is_root() {
        return PathBuf::from(FOLDER);
    }
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute()) {
        Some(runtime) => runtime.join("shunt"),
        None => std::env::temp_dir().join(format!("shunt-{user}")),
    }
}

impl Lock {
    /// Takes the lock of this name, at once or not at all. Any name will do: what a file name cannot hold is escaped.
    ///
    /// # Errors
    /// [`LockError::Held`] with the holder; [`LockError::Folder`] and [`LockError::System`] when there can be no lock.
    pub fn take(name: &str) -> Result<Self, LockError> {
        Self::take_in(&folder(), name)
    }

    fn take_in(folder: &Path, name: &str) -> Result<Self, LockError> {
        own_folder(folder)?;
        let path = folder
            .join(format!("{}.lock", name.replace('%', "%25").replace('/', "%2F").replace('\0', "%00")));
        let system = |error| LockError::System(path.clone(), error);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
                .open(&path)
                .map_err(system)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut file) => {
                    // Whoever held it before may have removed the file meanwhile: then this is the lock of nothing.
                    if !is_still(&file, &path) {
                        continue;
                    }
                    write_pid(&mut file).map_err(system)?;
                    return Ok(Self { path, _file: file });
                }
                Err((file, Errno::EWOULDBLOCK)) => match holder(file, &path) {
                    Some(holder) => return Err(LockError::Held(holder)),
                    None => continue,
                },
                Err((_, error)) => return Err(system(error.into())),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is held: nobody else's file is removed.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Makes the folder, and looks whether nobody but this user may enter it.
fn own_folder(folder: &Path) -> Result<(), LockError> {
    let system = |error| LockError::System(folder.to_owned(), error);
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(system(error)),
    }
    let metadata = std::fs::symlink_metadata(folder).map_err(system)?;
    let refused = |why: &str| Err(LockError::Folder(folder.to_owned(), why.to_owned()));
    if !metadata.is_dir() {
        return refused("this is not a folder");
    }
    if metadata.uid() != geteuid().as_raw() {
        return refused(&format!("it belongs to user {}", metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return refused(&format!("others may write in it (mode {:o})", metadata.mode() & 0o7777));
    }
    // What others could read until now, they could not make: `RuntimeDirectory=` of systemd makes such a folder.
    if metadata.mode() & 0o055 != 0 {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(system)?;
    }
    Ok(())
}

fn is_still(file: &File, path: &Path) -> bool {
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let held = file.metadata().map(identity);
    held.is_ok_and(|held| std::fs::symlink_metadata(path).map(identity).is_ok_and(|there| there == held))
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Who holds it; none when it was let go meanwhile.
fn holder(mut file: File, path: &Path) -> Option<Holder> {
    for _ in 0..LOOKS {
        let mut text = String::new();
        let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
        if let (Ok(_), Ok(pid)) = (read, text.trim().parse()) {
            return Some(Holder { pid: Some(Pid::from_raw(pid)) });
        }
        std::thread::sleep(LOOK_PERIOD);
        if !is_still(&file, path) {
            return None;
        }
    }
    Some(Holder { pid: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locks() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let locks = folder.path().join("locks");
        (folder, locks)
    }

    fn held(taken: Result<Lock, LockError>) -> Option<Pid> {
        match taken {
            Err(LockError::Held(holder)) => holder.pid,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_holder_at_a_time_who_is_told_and_leaves_nothing_behind() {
        let (_folder, locks) = locks();
        let first = Lock::take_in(&locks, "nic-4026531840-virtio_user:/tmp/100%/s").unwrap();
        let pid = held(Lock::take_in(&locks, "nic-4026531840-virtio_user:/tmp/100%/s"));
        assert_eq!(pid, Some(Pid::this()));
        let other = Lock::take_in(&locks, "another").unwrap();
        drop((first, other));
        assert_eq!(std::fs::read_dir(&locks).unwrap().count(), 0);
        drop(Lock::take_in(&locks, "another").unwrap());
    }

    #[test]
    fn a_file_that_a_killed_holder_left_is_taken_over() {
        let (_folder, locks) = locks();
        own_folder(&locks).unwrap();
        std::fs::write(locks.join("a.lock"), "4999999\n").unwrap();
        let _lock = Lock::take_in(&locks, "a").unwrap();
        assert_eq!(held(Lock::take_in(&locks, "a")), Some(Pid::this()));
    }

    #[test]
    fn a_lock_of_a_file_that_was_removed_is_none() {
        let (_folder, locks) = locks();
        let first = Lock::take_in(&locks, "a").unwrap();
        let waiting = std::fs::File::open(&first.path).unwrap();
        assert!(is_still(&waiting, &first.path));
        let path = first.path.clone();
        drop(first);
        assert!(!is_still(&waiting, &path));
        let _next = Lock::take_in(&locks, "a").unwrap();
        assert!(!is_still(&waiting, &path));
    }

    #[test]
    fn of_many_that_begin_at_once_one_has_it() {
        let (_folder, locks) = locks();
        for _ in 0..20 {
            let begin = std::sync::Barrier::new(8);
            let taken: Vec<_> = std::thread::scope(|scope| {
                let threads = [(); 8].map(|()| {
                    scope.spawn(|| {
                        begin.wait();
                        let lock = Lock::take_in(&locks, "a");
                        // Nobody lets go before all have asked.
                        begin.wait();
                        lock
                    })
                });
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(taken.iter().filter(|lock| lock.is_ok()).count(), 1);
            for lost in taken.into_iter().filter(Result::is_err) {
                assert_eq!(held(lost), Some(Pid::this()));
            }
        }
    }

    #[test]
    fn a_folder_that_others_may_write_in_is_refused() {
        let (_folder, locks) = locks();
        std::fs::create_dir(&locks).unwrap();
        for mode in [0o777, 0o1777, 0o770, 0o702] {
            std::fs::set_permissions(&locks, std::fs::Permissions::from_mode(mode)).unwrap();
            let refused = Lock::take_in(&locks, "a").unwrap_err().to_string();
            assert!(refused.contains("others may write in it") && refused.contains("chmod 700"), "{refused}");
        }
        std::fs::set_permissions(&locks, std::fs::Permissions::from_mode(0o755)).unwrap();
        drop(Lock::take_in(&locks, "a").unwrap());
        assert_eq!(std::fs::metadata(&locks).unwrap().mode() & 0o777, 0o700);
        std::fs::remove_dir(&locks).unwrap();
        std::os::unix::fs::symlink("/tmp", &locks).unwrap();
        assert!(matches!(Lock::take_in(&locks, "a"), Err(LockError::Folder(..))));
        let nowhere = locks.join("no/such");
        assert!(matches!(Lock::take_in(&nowhere, "a"), Err(LockError::Folder(..) | LockError::System(..))));
    }
}

//! The Unix socket of the API: for its owner only, never two directors at one, none left behind.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::lock::{Holder, Lock, LockError};

/// Clients whose connection the kernel keeps until the director takes it.
const BACKLOG_MAX: i32 = 64;

/// Why there is no socket.
#[derive(Debug)]
pub enum SocketError {
    /// Another director answers there.
    Taken(PathBuf),
    /// Another process has it, though nobody answers there.
    Held(PathBuf, Holder),
    /// There is no lock to be had.
    Lock(PathBuf, LockError),
    /// Something else is at this path.
    NotASocket(PathBuf),
    /// The system refuses.
    System(PathBuf, io::Error),
}

impl std::fmt::Display for SocketError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (path, what) = match self {
            Self::Taken(path) => (
                path,
                "another director answers at this socket: each director has one of its own: \
                 stop that one, or change runtime.socket"
                    .to_owned(),
            ),
            Self::Held(path, holder) => (
                path,
                format!(
                    "{holder} has this socket: each director has one of its own: stop that one, or change runtime.socket"
                ),
            ),
            Self::Lock(path, error) => (path, error.to_string()),
            Self::NotASocket(path) => (
                path,
                "this is a file, not a socket: the director does not replace files: \
                 remove it, or change runtime.socket"
                    .to_owned(),
            ),
            Self::System(path, error) => (
                path,
                format!(
                    "the socket cannot be made ({error}): its folder has to exist and to be writable: \
                     make it so, or change runtime.socket"
                ),
            ),
        };
        write!(f, "{}: {what}", path.display())
    }
}

impl std::error::Error for SocketError {}

/// A listening socket; its file goes away with it.
#[derive(Debug)]
pub struct OwnedListener {
    listener: Option<UnixListener>,
    file: SocketFile,
}

/// The file of a socket; dropping this removes it if it still is the same.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// The first one's; one that listens again is under that, too.
    _lock: Option<Lock>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl OwnedListener {
    /// Listens at a path. A socket that nobody listens at any more is replaced.
    ///
    /// # Errors
    /// Another director is there, or a file; the system refuses.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let system = |error| SocketError::System(path.to_owned(), error);
        // Two directors that start at once must not both find the old socket dead, and one whose socket was removed keeps it.
        let lock = Lock::take(&lock_name(path).map_err(system)?).map_err(|error| match error {
            LockError::Held(holder) => SocketError::Held(path.to_owned(), holder),
            error => SocketError::Lock(path.to_owned(), error),
        })?;
        clear(path)?;
        let listener = listen(path).map_err(system)?;
        let file = SocketFile {
            path: path.to_owned(),
            identity: identity(path).map_err(system)?,
            _lock: Some(lock),
        };
        Ok(Self { listener: Some(listener), file })
    }

    /// Where it listens.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { path: self.file.path.clone(), identity: self.file.identity }
    }

    /// The listener, and the file to drop when it is done.
    #[must_use]
    pub fn split(mut self) -> (Option<UnixListener>, SocketFile) {
        (self.listener.take(), self.file)
    }
}

/// Where a socket is, or should be.
#[derive(Clone, Debug)]
pub struct Place {
    path: PathBuf,
    identity: (u64, u64),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.display().fmt(f)
    }
}

impl Place {
    /// Whether the socket is still there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|identity| identity == self.identity)
    }

    /// Listens there again, under the lock of the listener that this is the place of.
    ///
    /// # Errors
    /// Somebody else is there now, or a file; the system refuses.
    pub fn listen_again(&self) -> Result<OwnedListener, SocketError> {
        let (path, system) = (&self.path, |error| SocketError::System(self.path.clone(), error));
        clear(path)?;
        let listener = listen(path).map_err(system)?;
        let file = SocketFile { path: path.clone(), identity: identity(path).map_err(system)?, _lock: None };
        Ok(OwnedListener { listener: Some(listener), file })
    }
}

/// The same for all paths to one socket, which need not exist.
fn lock_name(path: &Path) -> io::Result<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (device, inode) = std::fs::metadata(folder).map(|folder| (folder.dev(), folder.ino()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("socket-{device:x}-{inode:x}-{name}"))
}

/// Removes a socket that nobody listens at.
fn clear(path: &Path) -> Result<(), SocketError> {
    let system = |error| SocketError::System(path.to_owned(), error);
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(system)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(system(error)),
        Ok(_) | Err(_) => Err(SocketError::Taken(path.to_owned())),
    }
}

/// Makes the socket with the permissions that it keeps: the kernel gives the file the socket's own mode, so there is no
/// moment in which others could connect, whatever the umask.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    fchmod(socket.as_fd(), Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG_MAX)?;
    socket.set_nonblocking(true)?;
    Ok(std::os::fd::OwnedFd::from(socket).into())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{Flock, FlockArg};

    #[test]
    fn only_its_owner_may_connect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = OwnedListener::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_living_director_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let first = OwnedListener::bind(&path).unwrap();
        assert!(matches!(OwnedListener::bind(&path), Err(SocketError::Held(..))));
        // Another way to the same place.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert!(matches!(OwnedListener::bind(&link.join("s")), Err(SocketError::Held(..))));
        // Also when its socket was deleted.
        std::fs::remove_file(&path).unwrap();
        let refused = OwnedListener::bind(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {} (", std::process::id())), "{refused}");
        drop(first);
        OwnedListener::bind(&path).unwrap();
    }

    #[test]
    fn who_answers_without_a_lock_is_left_alone_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(OwnedListener::bind(&path), Err(SocketError::Taken(_))));
        drop(listener);
    }

    #[test]
    fn a_lock_of_the_folder_keeps_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::open(folder.path()).unwrap();
        let _lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
        OwnedListener::bind(&folder.path().join("s")).unwrap();
    }

    #[test]
    fn a_dead_directors_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = OwnedListener::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(listener);
    }

    #[test]
    fn a_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(OwnedListener::bind(&path), Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        let nowhere = folder.path().join("no/such/folder");
        assert!(matches!(OwnedListener::bind(&nowhere), Err(SocketError::System(..))));
    }

    #[test]
    fn another_ones_socket_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let first = OwnedListener::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = UnixListener::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
    }
}

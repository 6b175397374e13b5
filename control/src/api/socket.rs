//! The Unix socket of the API: for its owner only, never two directors at one, none left behind.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

/// Clients whose connection the kernel keeps until the director takes it.
const BACKLOG_MAX: i32 = 64;

/// Why there is no socket.
#[derive(Debug)]
pub enum SocketError {
    /// Another director answers there.
    Taken(PathBuf),
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
        // Two directors that start at once must not both find the old socket dead. The lock is on the folder, so that no
        // file is left behind.
        let folder = path.parent().unwrap_or(Path::new("/"));
        let folder = File::open(folder).map_err(system)?;
        let _lock =
            Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, error)| system(error.into()))?;
        clear(path)?;
        let listener = listen(path).map_err(system)?;
        let file = SocketFile { path: path.to_owned(), identity: identity(path).map_err(system)? };
        Ok(Self { listener: Some(listener), file })
    }

    /// The listener, and the file to drop when it is done.
    #[must_use]
    pub fn split(mut self) -> (Option<UnixListener>, SocketFile) {
        (self.listener.take(), self.file)
    }
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
        assert!(matches!(OwnedListener::bind(&path), Err(SocketError::Taken(_))));
        drop(first);
        OwnedListener::bind(&path).unwrap();
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
    fn a_successors_socket_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let first = OwnedListener::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = OwnedListener::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }
}

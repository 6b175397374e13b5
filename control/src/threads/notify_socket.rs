//! What the supervisor is told: datagrams of sd_notify(3) to `$NOTIFY_SOCKET`. Nobody waits for it: what it does not take is lost.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::LazyLock;
use std::time::Duration;

/// The way to the supervisor; none without one.
static SUPERVISOR: LazyLock<Option<(UnixDatagram, SocketAddr)>> = LazyLock::new(|| {
    let name = std::env::var_os("NOTIFY_SOCKET")?;
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&name),
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address.ok()?))
});

/// Tells the supervisor, as `READY=1` or `STOPPING=1`, one word to a line.
pub fn tell(words: &str) {
    if let Some((socket, address)) = &*SUPERVISOR {
        let _ = socket.send_to_addr(words.as_bytes(), address);
    }
}

/// The time of the system's monotonic clock, in microseconds, as `MONOTONIC_USEC=` wants it.
pub fn monotonic_us() -> i64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000)
}

/// How often the supervisor wants to hear from this process (`$WATCHDOG_USEC`); none when it does not.
pub(super) fn watchdog() -> Option<Duration> {
    let microseconds = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    let other = std::env::var("WATCHDOG_PID").is_ok_and(|pid| pid != std::process::id().to_string());
    (microseconds > 0 && !other).then(|| Duration::from_micros(microseconds))
}

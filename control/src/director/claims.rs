//! Each device belongs to one director: two at the same NICs would both serve nobody.
//!
//! What is claimed is what the device stands for: an interface within its network namespace, a PCI function, a socket's end, a file that is
//! written. The kernel lets a claim go with its holder.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use shunt_config::Config;
use shunt_config::device::{Device, Kind};
use shunt_model::interface::Interfaces;

use super::StartError;
use crate::lock::{Lock, LockError};

/// Claims the devices of a configuration until it is dropped.
///
/// # Errors
/// One for each device that another process has, with who that is.
pub fn of_config(config: &Config) -> Result<Vec<Lock>, Vec<StartError>> {
    take(config.nics.iter().map(|nic| (format!("nic \"{}\"", nic.name), &nic.device)))
}

/// Claims devices, each with the place that names it, until it is dropped.
///
/// # Errors
/// One for each device that another process has, with who that is.
pub fn take<'d>(
    devices: impl IntoIterator<Item = (String, &'d Device)>,
) -> Result<Vec<Lock>, Vec<StartError>> {
    let interfaces = crate::links::interfaces::here().unwrap_or_default();
    let (mut locks, mut problems) = (Vec::new(), Vec::new());
    for (place, device) in devices {
        let Some(name) = name(device, &interfaces) else { continue };
        match Lock::take(&name) {
            Ok(lock) => {
                locks.push(lock);
                remove_dead_socket(device);
            }
            Err(LockError::Held(holder)) => problems.push(StartError::new(
                place,
                format!("{holder} has {device}"),
                "a device belongs to one director: two would both serve nobody".to_owned(),
                "stop that one, or name another device".to_owned(),
            )),
            Err(error) => problems.push(StartError::of(&place, &error)),
        }
    }
    if problems.is_empty() { Ok(locks) } else { Err(problems) }
}

/// Claims an interface of this network namespace, for one that got another name.
///
/// # Errors
/// When another process has it, or there can be no claim.
pub fn interface(name: &str) -> Result<Lock, LockError> {
    Lock::take(&of_interface(name))
}

/// The name of the claim to a device; none for one that others may use, too.
fn name(device: &Device, interfaces: &Interfaces) -> Option<String> {
    if let Some((interface, _)) = device.kernel_interface() {
        // It may be called by an alternative name.
        let known = interfaces.named(interface).map_or(interface, |(_, found)| &found.name);
        return Some(of_interface(known));
    }
    match &device.kind {
        Kind::Pci(address) => Some(format!("nic-pci-{address}")),
        Kind::Memif(path) => {
            // Its two ends are one socket, and an end may have several interfaces.
            let role = option(&device.extra, "role").unwrap_or_else(|| "client".to_owned());
            let id = option(&device.extra, "id").unwrap_or_else(|| "0".to_owned());
            Some(format!("nic-memif-{}-{role}-{id}", of_path(path)))
        }
        Kind::VirtioUser(path) => Some(format!("nic-virtio_user-{}", of_path(path))),
        Kind::Pcap { transmit: Some(path), .. } => Some(format!("nic-pcap-{}", of_path(path))),
        Kind::Raw(text) => {
            let driver =
                text.split(',').next().unwrap_or_default().trim_end_matches(|c: char| c.is_ascii_digit());
            let path = option(text, "iface").or(option(text, "path")).or(option(text, "socket"))?;
            Some(format!("nic-{driver}-{}", of_path(&path)))
        }
        _ => None,
    }
}

/// The value of a device argument.
fn option(text: &str, key: &str) -> Option<String> {
    text.split(',').find_map(|part| part.trim().strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
}

/// Removes the socket that a killed director left where the driver listens: it would find the place taken.
fn remove_dead_socket(device: &Device) {
    let path = match &device.kind {
        Kind::Memif(path) if option(&device.extra, "role").as_deref() == Some("server") => Some(path.clone()),
        Kind::VirtioUser(path) if option(&device.extra, "server").as_deref() == Some("1") => {
            Some(path.clone())
        }
        Kind::Raw(text)
            if text.starts_with("net_vhost") && option(text, "client").as_deref() != Some("1") =>
        {
            option(text, "iface")
        }
        Kind::Raw(text)
            if text.starts_with("net_virtio_user") && option(text, "server").as_deref() == Some("1") =>
        {
            option(text, "path")
        }
        Kind::Raw(text) if text.starts_with("net_memif") && text.contains("role=server") => {
            option(text, "socket")
        }
        _ => None,
    };
    let Some(path) = path else { return };
    let is_socket = std::fs::symlink_metadata(&path).is_ok_and(|there| there.file_type().is_socket());
    // Only one that nobody listens at refuses. These are no sockets of datagrams, so that who listens learns of nothing: a connection
    // would be virtio_user's first and last client.
    let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    let tried = UnixDatagram::unbound().and_then(|socket| socket.connect(&path));
    if is_socket && tried.is_err_and(refused) {
        let _ = std::fs::remove_file(&path);
    }
}

fn of_interface(name: &str) -> String {
    let namespace = std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |namespace| namespace.ino());
    format!("nic-{namespace}-{name}")
}

/// The same for all paths to one file, which need not exist.
fn of_path(path: &str) -> String {
    let path = Path::new(path);
    let folder = path.parent().and_then(|folder| std::fs::metadata(folder).ok());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    folder.map_or_else(
        || path.display().to_string(),
        |folder| format!("{:x}-{:x}-{name}", folder.dev(), folder.ino()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::os::unix::net::UnixListener;

    fn claim(device: &str) -> Option<String> {
        name(&Device::parse(device).unwrap(), &Interfaces::default())
    }

    #[test]
    fn one_thing_has_one_claim_however_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("link")).unwrap();
        for (one, other) in [
            ("af_packet:eth1".to_owned(), "af_xdp:eth1".to_owned()),
            ("af_packet:eth1".to_owned(), "net_af_packet7,iface=eth1,qpairs=2".to_owned()),
            ("tap:eth1".to_owned(), "af_packet:eth1".to_owned()),
            ("3b:00.0".to_owned(), "0000:3b:00.0,rx_vec=1".to_owned()),
            (format!("memif:{path}/m,role=server"), format!("memif:{path}/link/m,role=server,id=0")),
            (format!("memif:{path}/m"), format!("memif:{path}/m,role=client")),
            (format!("virtio_user:{path}/v"), format!("virtio_user:{path}/link/v,server=1")),
            (format!("net_vhost0,iface={path}/v"), format!("net_vhost3,iface={path}/v")),
            (format!("pcap:{path}/a,{path}/out"), format!("pcap:{path}/b,{path}/link/out")),
        ] {
            assert_eq!(claim(&one), claim(&other), "{one} {other}");
            assert!(claim(&one).is_some(), "{one}");
        }
    }

    #[test]
    fn a_dead_socket_is_removed_and_who_listens_at_a_live_one_learns_of_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listens =
            ["virtio_user:PATH,server=1", "net_virtio_user0,path=PATH,server=1", "net_vhost0,iface=PATH"]
                .into_iter()
                .chain(["memif:PATH,role=server", "net_memif0,socket=PATH,role=server"]);
        let connects =
            ["virtio_user:PATH", "net_vhost0,iface=PATH,client=1", "memif:PATH", "net_memif0,socket=PATH"];
        for (device, removes) in
            listens.map(|device| (device, true)).chain(connects.map(|device| (device, false)))
        {
            let device = Device::parse(&device.replace("PATH", &path.display().to_string())).unwrap();
            let listener = UnixListener::bind(&path).unwrap();
            listener.set_nonblocking(true).unwrap();
            remove_dead_socket(&device);
            let waiting = listener.accept().map_err(|error| error.kind());
            assert!(path.exists() && waiting.is_err_and(|kind| kind == ErrorKind::WouldBlock), "{device}");
            drop(listener);
            remove_dead_socket(&device);
            assert_eq!(path.exists(), !removes, "{device}");
            let _ = std::fs::remove_file(&path);
        }
    }

    #[test]
    fn different_things_have_different_claims() {
        for (one, other) in [
            ("af_packet:eth1", "af_packet:eth2"),
            ("memif:/run/m,role=server", "memif:/run/m,role=client"),
            ("memif:/run/m,role=server,id=1", "memif:/run/m,role=server,id=2"),
            ("virtio_user:/run/v", "net_vhost0,iface=/run/v"),
            ("0000:3b:00.0", "0000:3b:00.1"),
        ] {
            assert_ne!(claim(one), claim(other), "{one} {other}");
        }
        for shared in ["ring:a", "null:", "pcap:/tmp/in.pcap"] {
            assert_eq!(claim(shared), None, "{shared}");
        }
    }
}

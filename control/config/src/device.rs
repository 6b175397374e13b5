//! Devices: what a `[[nic]]` runs on, and the DPDK device arguments that bring it up.

use std::fmt;

use dpdk_sys::packet_socket::WAITING_MOST;
use shunt_model::fault::Fault;

/// Bytes in front of a frame in af_packet's ring: TPACKET2_HDRLEN, alignment and the VLAN tag that the kernel may
/// put there. A ring frame of 2048 bytes cuts Ethernet frames at 1982 bytes.
const AF_PACKET_OVERHEAD: usize = 66;
/// Bytes of the largest IP packet of NICs whose driver takes frames of Ethernet's usual size and no larger (DPDK 22.11).
const MTU_OF_USUAL_FRAMES: u16 = 1500;
/// Bytes of the largest IP packet whose buffer, with all that is in front of it, fits into a page: XDP sockets take no larger ones.
pub const MTU_OF_A_PAGE: u16 = 1964;
/// Bytes of the Ethernet header, with a VLAN tag.
const ETHERNET_HEADER: usize = 18;

/// How the packets of a NIC reach DPDK.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A PCI function, `0000:3b:00.0`.
    Pci(String),
    /// `af_packet:IFACE`: an interface of the kernel through packet sockets of the director's own, with what senders leave to a NIC.
    AfPacket(String),
    /// `af_xdp:IFACE`: an interface of the kernel through XDP sockets.
    AfXdp(String),
    /// `tap:NAME`: a tap interface that DPDK creates.
    Tap(String),
    /// `virtio_user:PATH`: a vhost-user socket.
    VirtioUser(String),
    /// `memif:PATH`: a memif socket.
    Memif(String),
    /// `ring:NAME`: an rte_ring of this process, what is sent comes back.
    Ring(String),
    /// `pcap:RX[,TX]`: capture files.
    Pcap {
        /// Read from this file.
        receive: String,
        /// Write to this one.
        transmit: Option<String>,
    },
    /// `null:`: endless empty frames, for measurements.
    Null,
    /// Device arguments as DPDK takes them, `net_…`.
    Raw(String),
}

/// A device: its kind and further DPDK arguments, given after a comma and passed on as they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    /// What it is.
    pub kind: Kind,
    /// Further arguments, without the leading comma; empty for none.
    pub extra: String,
}

const FORMS: &str = "af_packet:IFACE, af_xdp:IFACE, tap:NAME, virtio_user:PATH, memif:PATH, ring:NAME, pcap:RX,TX, null:, \
                     a PCI address such as 0000:3b:00.0, or DPDK device arguments that start with net_";

impl Device {
    /// Reads a device.
    ///
    /// # Errors
    /// An unknown form, an empty or overlong name, characters that DPDK's arguments cannot carry.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Fault::new("not a device", FORMS, "write one of these, without blanks"));
        }
        if text.starts_with("net_") {
            return Ok(Self { kind: Kind::Raw(text.to_owned()), extra: String::new() });
        }
        if let Some((address, extra)) = pci(text) {
            return Ok(Self { kind: Kind::Pci(address), extra });
        }
        let Some((word, rest)) = text.split_once(':') else {
            let advice = format!("for the kernel's interface {text} write \"af_packet:{text}\"");
            return Err(Fault::new(
                "not a device",
                FORMS,
                if interface(text).is_ok() { &advice } else { "write one of these" },
            ));
        };
        let (first, extra) = rest.split_once(',').unwrap_or((rest, ""));
        let kind = match word {
            "af_packet" => Kind::AfPacket(interface(first)?),
            "af_xdp" => Kind::AfXdp(interface(first)?),
            "tap" => Kind::Tap(interface(first)?),
            "virtio_user" => Kind::VirtioUser(path(first)?),
            "memif" => Kind::Memif(path(first)?),
            "ring" => Kind::Ring(ring(first)?),
            "pcap" => {
                let (transmit, extra) = extra.split_once(',').unwrap_or((extra, ""));
                let transmit = if transmit.is_empty() { None } else { Some(path(transmit)?) };
                return Ok(Self {
                    kind: Kind::Pcap { receive: path(first)?, transmit },
                    extra: extra.to_owned(),
                });
            }
            "null" => {
                return Ok(Self { kind: Kind::Null, extra: rest.to_owned() });
            }
            _ => {
                let known = ["af_packet", "af_xdp", "tap", "virtio_user", "memif", "ring", "pcap", "null"];
                let advice = super::document::nearest(word, &known).map_or_else(
                    || "write one of these".to_owned(),
                    |near| format!("did you mean \"{near}:{rest}\"?"),
                );
                return Err(Fault::new("unknown kind of device", FORMS, advice));
            }
        };
        Ok(Self { kind, extra: extra.to_owned() })
    }

    /// The kernel's interface that packets come through, which must exist before the start and must not hold a VIP.
    #[must_use]
    pub fn interface(&self) -> Option<&str> {
        self.kernel_interface().filter(|(_, made)| !made).map(|(name, _)| name)
    }

    /// The kernel's interface behind it, and whether its driver makes that one when the NIC is opened.
    #[must_use]
    pub fn kernel_interface(&self) -> Option<(&str, bool)> {
        match &self.kind {
            Kind::AfPacket(name) | Kind::AfXdp(name) => Some((name, false)),
            Kind::Tap(name) => Some((name, true)),
            Kind::Raw(text) => {
                let made = text.starts_with("net_tap");
                let known = made || text.starts_with("net_af_packet") || text.starts_with("net_af_xdp");
                let name = text.split(',').find_map(|option| option.trim().strip_prefix("iface="))?;
                // Elsewhere it is a socket, or a template of names.
                (known && interface(name).is_ok()).then_some((name, made))
            }
            _ => None,
        }
    }

    /// The same device on another interface of the kernel.
    #[must_use]
    pub fn on_interface(&self, name: &str) -> Self {
        let mut device = self.clone();
        let before = self.kernel_interface().map(|(name, _)| name.to_owned()).unwrap_or_default();
        match &mut device.kind {
            Kind::AfPacket(of) | Kind::AfXdp(of) | Kind::Tap(of) => name.clone_into(of),
            Kind::Raw(text) => *text = text.replacen(&format!("iface={before}"), &format!("iface={name}"), 1),
            _ => {}
        }
        device
    }

    /// True where the driver connects to the socket of another program when the NIC is opened, and not again when that program is
    /// started anew (DPDK 22.11 to 24.11). Where it listens, or is vhost's client, it takes up whoever comes.
    #[must_use]
    pub fn connects_once(&self) -> bool {
        let option = |of: &str, option: &str| of.split(',').any(|part| part.trim() == option);
        match &self.kind {
            Kind::VirtioUser(path) => !is_kernel_side(path) && !option(&self.extra, "server=1"),
            Kind::Memif(_) => !option(&self.extra, "role=server"),
            Kind::Raw(text) if text.starts_with("net_memif") => !option(text, "role=server"),
            Kind::Raw(text) if text.starts_with("net_virtio_user") => {
                let kernel = text.split(',').filter_map(|part| part.trim().strip_prefix("path="));
                !kernel.into_iter().any(is_kernel_side) && !option(text, "server=1")
            }
            _ => false,
        }
    }

    /// The socket at which the driver waits for its first client while the NIC is opened.
    #[must_use]
    pub fn waits_at(&self) -> Option<&str> {
        let serves = |of: &str| of.split(',').any(|part| part.trim() == "server=1");
        match &self.kind {
            Kind::VirtioUser(path) => serves(&self.extra).then_some(path),
            Kind::Raw(text) if text.starts_with("net_virtio_user") && serves(text) => {
                text.split(',').find_map(|part| part.trim().strip_prefix("path="))
            }
            _ => None,
        }
    }

    /// True for a PCI function, which EAL allows by address; everything else is a virtual device that EAL creates.
    #[must_use]
    pub const fn is_pci(&self) -> bool {
        matches!(self.kind, Kind::Pci(_))
    }

    /// The name under which DPDK knows the NIC: `net_af_packet0` or a PCI address. `index` is the NIC's number.
    #[must_use]
    pub fn port_name(&self, index: usize) -> String {
        let driver = match &self.kind {
            Kind::Pci(address) => return address.clone(),
            Kind::Raw(text) => return text.split(',').next().unwrap_or_default().to_owned(),
            Kind::AfPacket(_) => "af_packet",
            Kind::AfXdp(_) => "af_xdp",
            Kind::Tap(_) => "tap",
            Kind::VirtioUser(_) => "virtio_user",
            Kind::Memif(_) => "memif",
            Kind::Ring(_) => "ring",
            Kind::Pcap { .. } => "pcap",
            Kind::Null => "null",
        };
        format!("net_{driver}{index}")
    }

    /// DPDK's device arguments, the value of `--vdev` or (for PCI) `--allow`.
    ///
    /// `index` numbers the NIC, `queues` is the number of workers.
    #[must_use]
    pub fn devargs(&self, index: usize, queues: u16) -> String {
        let mut text = self.port_name(index);
        match &self.kind {
            // A ring is known by its driver's name; its own name tells two of them apart in a file.
            Kind::Pci(_) | Kind::Null | Kind::Ring(_) => {}
            Kind::Raw(raw) => text.clone_from(raw),
            // The driver lends its name; the smallest rings that it takes are never used.
            Kind::AfPacket(name) => {
                text += &format!(",iface={name},qpairs={queues},blocksz=4096,framesz=2048,framecnt=2");
            }
            Kind::AfXdp(name) => text += &format!(",iface={name},start_queue=0,queue_count={queues}"),
            Kind::Tap(name) => text += &format!(",iface={name}"),
            Kind::VirtioUser(path) => text += &format!(",path={path},queues={queues}"),
            Kind::Memif(path) => text += &format!(",socket={path},socket-abstract=no"),
            Kind::Pcap { receive, transmit } => {
                text += &format!(",rx_pcap={receive}");
                if let Some(transmit) = transmit {
                    text += &format!(",tx_pcap={transmit}");
                }
            }
        }
        if !self.extra.is_empty() {
            text += &format!(",{}", self.extra);
        }
        text
    }

    /// The largest frame, with the driver's own header, that the driver may write into a buffer: the data room of an mbuf
    /// must not be smaller. A power of two: af_packet does not check bounds when it copies, and e1000 counts a buffer in such.
    #[must_use]
    pub fn frame_size(&self, mtu: u16) -> usize {
        (usize::from(mtu) + ETHERNET_HEADER + AF_PACKET_OVERHEAD).next_power_of_two().max(2048)
    }

    fn is_raw(&self, driver: &str) -> bool {
        matches!(&self.kind, Kind::Raw(text) if text.starts_with(driver))
    }

    /// Bytes of the largest IP packet that its driver takes, and why no larger one; none where the driver is asked when the NIC is opened.
    #[must_use]
    pub fn mtu_most(&self) -> Option<(u16, &'static str)> {
        let taps = matches!(self.kind, Kind::Tap(_)) || self.is_raw("net_tap");
        if taps || matches!(self.kind, Kind::Memif(_)) || self.is_raw("net_memif") {
            return Some((MTU_OF_USUAL_FRAMES, "DPDK's driver of it takes frames of the usual size alone"));
        }
        let xdp = matches!(self.kind, Kind::AfXdp(_)) || self.is_raw("net_af_xdp");
        xdp.then_some((MTU_OF_A_PAGE, "XDP sockets want a packet's buffer within a page of memory"))
    }

    /// True where frames come as their senders gave them to a NIC: checksums not filled in, and larger than any MTU.
    #[must_use]
    pub const fn takes_offloads(&self) -> bool {
        matches!(self.kind, Kind::AfPacket(_))
    }

    /// Frames that a receive queue holds, where the driver is not told how many.
    #[must_use]
    pub const fn frames_held(&self) -> Option<usize> {
        match self.kind {
            Kind::AfPacket(_) => Some(WAITING_MOST),
            _ => None,
        }
    }

    /// The most queues that this kind of device has, where that is known before it is opened.
    #[must_use]
    pub const fn queues_max(&self) -> Option<usize> {
        match self.kind {
            // net_ring has as many as EAL has lcores, which is one.
            Kind::Pcap { .. } | Kind::Ring(_) => Some(1),
            Kind::Tap(_) => Some(16),
            _ => None,
        }
    }

    /// What two NICs must not share: the interface, file, socket or address behind the device. None for a device that may
    /// be used twice.
    #[must_use]
    pub fn resource(&self) -> Option<String> {
        match &self.kind {
            Kind::Pci(address) => Some(address.clone()),
            Kind::AfPacket(name) | Kind::AfXdp(name) | Kind::Tap(name) => Some(format!("interface {name}")),
            Kind::VirtioUser(path) | Kind::Memif(path) | Kind::Pcap { receive: path, .. } => {
                Some(path.clone())
            }
            Kind::Ring(name) => Some(format!("ring {name}")),
            Kind::Null => None,
            Kind::Raw(_) => match self.kernel_interface() {
                Some((name, _)) => Some(format!("interface {name}")),
                None => Some(self.port_name(0)),
            },
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Pci(address) => f.write_str(address)?,
            Kind::AfPacket(name) => write!(f, "af_packet:{name}")?,
            Kind::AfXdp(name) => write!(f, "af_xdp:{name}")?,
            Kind::Tap(name) => write!(f, "tap:{name}")?,
            Kind::VirtioUser(path) => write!(f, "virtio_user:{path}")?,
            Kind::Memif(path) => write!(f, "memif:{path}")?,
            Kind::Ring(name) => write!(f, "ring:{name}")?,
            Kind::Pcap { receive, transmit: None } if self.extra.is_empty() => write!(f, "pcap:{receive}")?,
            Kind::Pcap { receive, transmit } => {
                write!(f, "pcap:{receive},{}", transmit.as_deref().unwrap_or_default())?;
            }
            Kind::Null => return write!(f, "null:{}", self.extra),
            Kind::Raw(text) => f.write_str(text)?,
        }
        if self.extra.is_empty() { Ok(()) } else { write!(f, ",{}", self.extra) }
    }
}

/// Whether the other end of a virtio_user device is the kernel (vhost-net, vDPA) and no program's socket.
fn is_kernel_side(path: &str) -> bool {
    path.starts_with("/dev/vhost-")
}

/// A PCI address with or without its domain, and what follows a comma.
fn pci(text: &str) -> Option<(String, String)> {
    let (address, extra) = text.split_once(',').unwrap_or((text, ""));
    let (rest, function) = address.rsplit_once('.')?;
    let mut parts: Vec<&str> = rest.split(':').collect();
    if parts.len() == 2 {
        parts.insert(0, "0000");
    }
    let [domain, bus, device] = parts[..] else { return None };
    let hex = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let good = hex(domain, 4) && hex(bus, 2) && hex(device, 2) && function.len() == 1;
    if !good || !(b'0'..=b'7').contains(&function.as_bytes()[0]) {
        return None;
    }
    Some((format!("{domain}:{bus}:{device}.{function}").to_ascii_lowercase(), extra.to_owned()))
}

/// The name of a kernel interface (kernel: `dev_valid_name`).
fn interface(name: &str) -> Result<String, Fault> {
    let good = (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.contains(['/', ':']);
    if good && name.is_ascii() {
        return Ok(name.to_owned());
    }
    Err(Fault::new(
        "not the name of an interface",
        "the kernel's interfaces have names of 1 to 15 characters without slash and colon",
        "write the name that `ip link` shows",
    ))
}

/// A path that DPDK's device arguments can carry.
fn path(path: &str) -> Result<String, Fault> {
    if path.starts_with('/') && path.len() <= 107 {
        return Ok(path.to_owned());
    }
    Err(Fault::new(
        "not an absolute path",
        "a path that starts with / and has at most 107 bytes",
        "write the whole path",
    ))
}

/// The name of a ring.
fn ring(name: &str) -> Result<String, Fault> {
    let good = (1..=16).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if good {
        return Ok(name.to_owned());
    }
    Err(Fault::new(
        "not the name of a ring",
        "1 to 16 letters, digits, _ or -",
        "write a name such as \"ring:loop\"",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_arguments() {
        for (text, want) in [
            ("af_packet:eth1", "net_af_packet3,iface=eth1,qpairs=2,blocksz=4096,framesz=2048,framecnt=2"),
            ("af_xdp:eth1", "net_af_xdp3,iface=eth1,start_queue=0,queue_count=2"),
            ("tap:front", "net_tap3,iface=front"),
            ("tap:front,mac=fixed", "net_tap3,iface=front,mac=fixed"),
            ("virtio_user:/run/vhost.sock", "net_virtio_user3,path=/run/vhost.sock,queues=2"),
            (
                "memif:/run/memif.sock,role=client",
                "net_memif3,socket=/run/memif.sock,socket-abstract=no,role=client",
            ),
            ("ring:loop", "net_ring3"),
            ("pcap:/tmp/in.pcap", "net_pcap3,rx_pcap=/tmp/in.pcap"),
            ("pcap:/tmp/in.pcap,/tmp/out.pcap", "net_pcap3,rx_pcap=/tmp/in.pcap,tx_pcap=/tmp/out.pcap"),
            ("pcap:/tmp/in.pcap,,infinite_rx=1", "net_pcap3,rx_pcap=/tmp/in.pcap,infinite_rx=1"),
            ("null:size=64", "net_null3,size=64"),
            ("null:", "net_null3"),
            ("0000:3B:00.0", "0000:3b:00.0"),
            ("3b:00.1,rx_vec=1", "0000:3b:00.1,rx_vec=1"),
            ("net_vhost0,iface=/run/v.sock", "net_vhost0,iface=/run/v.sock"),
        ] {
            let device = Device::parse(text).unwrap();
            assert_eq!(device.devargs(3, 2), want);
            assert_eq!(Device::parse(&device.to_string()).unwrap(), device, "{text}");
        }
    }

    #[test]
    fn frames_hold_the_mtu() {
        let device = Device::parse("net_af_packet0,iface=eth1").unwrap();
        assert_eq!([1500, 1964, 1965, 9000].map(|mtu| device.frame_size(mtu)), [2048, 2048, 4096, 16384]);
    }

    #[test]
    fn the_largest_packets_of_drivers() {
        for (text, want) in [
            ("tap:t0", Some(1500)),
            ("net_tap3,iface=t0", Some(1500)),
            ("memif:/m.sock", Some(1500)),
            ("net_memif0,socket=/m", Some(1500)),
            ("af_xdp:eth1", Some(MTU_OF_A_PAGE)),
            ("net_af_xdp0,iface=eth1", Some(MTU_OF_A_PAGE)),
            ("af_packet:eth1", None),
            ("net_af_packet0,iface=eth1", None),
            ("0000:3b:00.0", None),
            ("virtio_user:/v.sock", None),
        ] {
            let most = Device::parse(text).unwrap().mtu_most();
            assert_eq!(most.map(|(most, _)| most), want, "{text}");
        }
        let xdp = Device::parse("af_xdp:eth1").unwrap();
        assert_eq!([MTU_OF_A_PAGE, MTU_OF_A_PAGE + 1].map(|mtu| xdp.frame_size(mtu)), [2048, 4096]);
    }

    #[test]
    fn who_connects_once() {
        for (text, once) in [
            ("virtio_user:/v.sock", true),
            ("virtio_user:/v.sock,server=1", false),
            ("virtio_user:/dev/vhost-net", false),
            ("net_virtio_user0,path=/v.sock,queues=2", true),
            ("net_virtio_user0,server=1,path=/v.sock", false),
            ("net_virtio_user0,path=/dev/vhost-vdpa-0", false),
            ("memif:/m.sock", true),
            ("memif:/m.sock,id=1,role=client", true),
            ("memif:/m.sock,role=server", false),
            ("net_memif0,socket=/m.sock,role=server", false),
            ("net_memif0,socket=/m.sock", true),
            ("net_vhost0,iface=/v.sock,client=1", false),
            ("net_vhost0,iface=/v.sock", false),
            ("tap:t0", false),
            ("0000:3b:00.0", false),
        ] {
            let device = Device::parse(text).unwrap();
            assert_eq!(device.connects_once(), once, "{text}");
            let waits = text.contains("virtio_user") && text.contains("server=1");
            assert_eq!(device.waits_at(), waits.then_some("/v.sock"), "{text}");
        }
    }

    #[test]
    fn wrong_devices() {
        for text in [
            "",
            "eth1",
            "af_packet:",
            "af_packet:name-of-16-chars",
            "tap:a/b",
            "memif:x",
            "pcap:",
            "ring:",
            "3b:00.9",
            "a b",
            "dpdk:1",
        ] {
            assert!(Device::parse(text).is_err(), "{text}");
        }
    }
}

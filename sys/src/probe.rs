//! From devargs to a device: makes DPDK find or create it and checks that a NIC came of it.

use std::error::Error;
use std::ffi::{CStr, CString};
use std::fmt;
use std::sync::Arc;

use crate::capability::{self, Capability};
use crate::eal::Eal;
use crate::errno::Errno;
use crate::ffi;
use crate::log::{self, Said};
use crate::mempool::{NumaNode, socket, unique_name};
use crate::nic::{NicId, packet_sockets};
use crate::ring::Ring;

/// A NIC that DPDK knows and nobody has opened yet. Dropping it takes it away from DPDK again.
#[derive(Debug)]
pub struct Device {
    id: NicId,
    name: String,
    devargs: String,
    eal: Eal,
    /// The kernel joins fragments in front of it, and that could not be turned off.
    joins_fragments: bool,
    /// The rings that a NIC made of rings uses until it is closed; fields are dropped after that.
    _rings: Vec<Arc<Ring>>,
}

impl Eal {
    /// Makes a device of rings: one receive queue for each of `rx`, one transmit queue for each of `tx`. Nobody else
    /// takes from the former or puts into the latter.
    pub(crate) fn device_of_rings(
        &self,
        name: &str,
        rx: &[Arc<Ring>],
        tx: &[Arc<Ring>],
        node: Option<NumaNode>,
    ) -> Result<Device, (Errno, Said)> {
        let pointers = |rings: &[Arc<Ring>]| rings.iter().map(|ring| ring.as_ptr()).collect::<Vec<_>>();
        let (rx_pointers, tx_pointers) = (pointers(rx), pointers(tx));
        let unique = unique_name(name);
        let mut claimed = self.claimed_nics();
        let id = log::listen(|| {
            // SAFETY: rte_eth_ring.h: rte_eth_from_rings reads a terminated name and so many pointers to rings each,
            // all of which it copies. The rings live until the device is closed: the Device holds them.
            let id = unsafe {
                ffi::rte_eth_from_rings(
                    unique.as_ptr(),
                    rx_pointers.as_ptr(),
                    rx_pointers.len() as u32,
                    tx_pointers.as_ptr(),
                    tx_pointers.len() as u32,
                    socket(node) as u32,
                )
            };
            u16::try_from(id).map(NicId).map_err(|_negative| Errno::last())
        })?;
        claimed.insert(id.0);
        let rings = rx.iter().chain(tx).cloned().collect();
        Ok(Device {
            id,
            name: nic_name(id),
            devargs: name.to_owned(),
            eal: self.clone(),
            joins_fragments: false,
            _rings: rings,
        })
    }

    /// Finds or creates the device that `devargs` describes: a virtual one (`net_af_packet0,iface=eth1`,
    /// `net_ring0`, `net_tap0,iface=x`) or a PCI address that [`EalSettings`](crate::EalSettings) allows, each with
    /// options after commas as the guide of its driver says.
    ///
    /// # Errors
    ///
    /// See [`ProbeError`]. Where this process lacks a capability that the driver uses, the error names it.
    pub fn probe(&self, devargs: &str) -> Result<Device, ProbeError> {
        let fail = |problem| ProbeError { devargs: devargs.to_owned(), problem };
        let device = match (device_name(devargs), CString::new(devargs)) {
            (Some(name), Ok(text)) => (name, text),
            _ => return Err(fail(Problem::Devargs)),
        };
        let (name, text) = device;
        // Held throughout: what is found must not be removed by another thread before it is claimed.
        let mut claimed = self.claimed_nics();
        let id = match find(&name, &text) {
            Some(id) => id,
            None => log::listen(|| probe(&name, &text)).map_err(|(error, said)| {
                let missing = capability::missing(devargs);
                let said = said.without(&["Failed to attach device", "Driver cannot attach the device"]);
                fail(match error {
                    Some(error) => Problem::Refused { error, said, missing },
                    None => Problem::NoNic { said, missing },
                })
            })?,
        };
        if !claimed.insert(id.0) {
            return Err(fail(Problem::InUse));
        }
        let mut device = Device {
            id,
            name: nic_name(id),
            devargs: devargs.to_owned(),
            eal: self.clone(),
            joins_fragments: false,
            _rings: Vec::new(),
        };
        drop(claimed);
        let sockets = device.has_packet_sockets().then(|| packet_sockets::replace(&device));
        match sockets {
            Some(Ok(replaced)) => device.joins_fragments = !replaced,
            Some(Err(error)) => {
                let error = Errno(error.raw_os_error().unwrap_or_default());
                return Err(fail(Problem::Sockets { error, missing: capability::missing(devargs) }));
            }
            None => {}
        }
        Ok(device)
    }
}

/// The part before the first comma, PCI addresses in full; nothing when it is empty or too long for DPDK.
fn device_name(devargs: &str) -> Option<CString> {
    let name = devargs.split(',').next().unwrap_or_default().trim();
    if name.is_empty() || name.len() >= 64 {
        return None;
    }
    let short_pci = name.len() == 7 && name.as_bytes()[2] == b':' && name.as_bytes()[5] == b'.';
    CString::new(if short_pci { format!("0000:{name}") } else { name.to_owned() }).ok()
}

/// The NIC of that name, or for a bus address the first NIC of the device there.
fn find(name: &CStr, devargs: &CStr) -> Option<NicId> {
    let mut id = 0;
    // SAFETY: rte_ethdev.h: rte_eth_dev_get_port_by_name reads a terminated name and writes the number on success.
    if unsafe { ffi::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) } == 0 {
        return Some(NicId(id));
    }
    if !name.to_bytes().contains(&b':') {
        return None;
    }
    // SAFETY: rte_ethdev.h: rte_eth_iterator_init reads terminated devargs; the shim ends the iteration.
    let id = unsafe { ffi::shim_eth_matching(devargs.as_ptr()) };
    (u32::from(id) < ffi::RTE_MAX_ETHPORTS).then_some(NicId(id))
}

/// Probes; without an error number it went well and still there is no NIC.
fn probe(name: &CStr, devargs: &CStr) -> Result<NicId, Option<Errno>> {
    // SAFETY: rte_dev.h: rte_dev_probe reads terminated devargs, which it copies; the EAL is up.
    let result = unsafe { ffi::rte_dev_probe(devargs.as_ptr()) };
    if result < 0 {
        return Err(Some(Errno::from_return(result)));
    }
    find(name, devargs).ok_or(None)
}

fn nic_name(id: NicId) -> String {
    // RTE_ETH_NAME_MAX_LEN, which is RTE_DEV_NAME_MAX_LEN, is 64.
    let mut name = [0_u8; 64];
    // SAFETY: rte_ethdev.h: rte_eth_dev_get_name_by_port writes at most RTE_ETH_NAME_MAX_LEN bytes, terminated.
    unsafe { ffi::rte_eth_dev_get_name_by_port(id.0, name.as_mut_ptr().cast()) };
    CStr::from_bytes_until_nul(&name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Device {
    /// The NIC's number, as its packets will carry it.
    pub fn id(&self) -> NicId {
        self.id
    }

    /// DPDK's name for it: the devargs up to the first comma, or the bus address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The devargs it was probed with.
    pub fn devargs(&self) -> &str {
        &self.devargs
    }

    /// The value of `key=value` in the devargs, of the first where there are several.
    pub(crate) fn option(&self, key: &str) -> Option<&str> {
        self.options(key).next()
    }

    /// The same of the last.
    pub(crate) fn last_option(&self, key: &str) -> Option<&str> {
        self.options(key).last()
    }

    fn options<'d, 'k>(&'d self, key: &'k str) -> impl Iterator<Item = &'d str> + use<'d, 'k> {
        let options = self.devargs.split(',').skip(1);
        options.filter_map(move |option| option.trim().strip_prefix(key)?.strip_prefix('='))
    }

    fn has_packet_sockets(&self) -> bool {
        self.offer().is_ok_and(|offer| offer.driver == packet_sockets::DRIVER)
    }

    pub(crate) fn joins_fragments(&self) -> bool {
        self.joins_fragments
    }

    /// What its driver says of it.
    pub(crate) fn info(&self) -> Result<ffi::rte_eth_dev_info, Errno> {
        let mut info = ffi::rte_eth_dev_info::default();
        // SAFETY: rte_ethdev.h: rte_eth_dev_info_get fills the structure of a valid port, which a Device is.
        match unsafe { ffi::rte_eth_dev_info_get(self.id.0, &mut info) } {
            0 => Ok(info),
            error => Err(Errno::from_return(error)),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let mut claimed = self.eal.claimed_nics();
        let parent = self.info().map(|info| info.device);
        // SAFETY: rte_ethdev.h: rte_eth_dev_close takes a stopped port; a device that is not open was never started, and
        // an open NIC stops it first. rte_dev.h: rte_dev_remove takes a device that was probed, here once none of its
        // NICs is left; its pointer belongs to the bus and stays valid until then.
        let _ = log::listen(|| unsafe {
            ffi::rte_eth_dev_close(self.id.0);
            match parent {
                Ok(parent)
                    if !parent.is_null()
                        && u32::from(ffi::rte_eth_find_next_of(0, parent)) >= ffi::RTE_MAX_ETHPORTS =>
                {
                    ffi::rte_dev_remove(parent);
                }
                _ => {}
            }
            Ok::<(), ()>(())
        });
        claimed.remove(&self.id.0);
    }
}

/// Why there is no device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeError {
    devargs: String,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    Devargs,
    InUse,
    NoNic {
        said: Said,
        missing: Vec<Capability>,
    },
    Refused {
        error: Errno,
        said: Said,
        missing: Vec<Capability>,
    },
    /// Its packet sockets could not be replaced by those that leave fragments alone.
    Sockets {
        error: Errno,
        missing: Vec<Capability>,
    },
}

impl ProbeError {
    /// The capabilities that the driver uses and this process lacks, when probing failed.
    pub fn missing_capabilities(&self) -> &[Capability] {
        match &self.problem {
            Problem::Devargs | Problem::InUse => &[],
            Problem::NoNic { missing, .. }
            | Problem::Refused { missing, .. }
            | Problem::Sockets { missing, .. } => missing,
        }
    }
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {:?}: ", self.devargs)?;
        match &self.problem {
            Problem::Devargs => {
                f.write_str("the name before the first comma must have 1 to 63 bytes, none of them zero")?
            }
            Problem::InUse => {
                f.write_str("it is in use in this process already: give each NIC its own device")?
            }
            Problem::NoNic { said, .. } => write!(f, "DPDK took it, yet there is no NIC of that name{said}")?,
            Problem::Refused { said, .. }
                if said.lines().any(|line| line.contains("failed to parse device")) =>
            {
                f.write_str(
                    "no driver of DPDK goes by that name: use a driver's name and a number, such as net_af_packet0, \
                     or a PCI address such as 0000:3b:00.0",
                )?;
            }
            Problem::Sockets { error, .. } => {
                write!(f, "no packet sockets that leave IPv4 fragments alone ({error})")?;
            }
            // The number is often that of DPDK's own clean-up: what it says is nearer to the cause.
            Problem::Refused { said, .. } if !said.is_empty() => write!(f, "DPDK cannot use it{said}")?,
            Problem::Refused { error, .. } => write!(f, "DPDK cannot use it ({error})")?,
        }
        for (index, capability) in self.missing_capabilities().iter().enumerate() {
            write!(f, "{}{capability}", if index == 0 { "; this process lacks " } else { ", " })?;
        }
        if !self.missing_capabilities().is_empty() {
            f.write_str(": run as root or grant it with setcap or AmbientCapabilities=")?;
        }
        Ok(())
    }
}

impl Error for ProbeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        let name = |devargs: &str| device_name(devargs).map(|name| name.to_string_lossy().into_owned());
        assert_eq!(name("net_af_packet0,iface=eth1").as_deref(), Some("net_af_packet0"));
        assert_eq!(name("3b:00.0").as_deref(), Some("0000:3b:00.0"));
        assert_eq!(name("0000:3b:00.0,x=1").as_deref(), Some("0000:3b:00.0"));
        assert_eq!(name(",iface=eth1"), None);
        assert_eq!(name(&"x".repeat(64)), None);
    }

    #[test]
    fn an_error_names_the_missing_capability() {
        let missing = vec![Capability::NetRaw, Capability::NetAdmin];
        let problem = Problem::Refused { error: Errno(1), said: Said::default(), missing };
        let error = ProbeError { devargs: "net_af_packet0,iface=eth1".to_owned(), problem };
        assert_eq!(
            error.to_string(),
            "device \"net_af_packet0,iface=eth1\": DPDK cannot use it (Operation not permitted); this process lacks \
             CAP_NET_RAW, CAP_NET_ADMIN: run as root or grant it with setcap or AmbientCapabilities="
        );
    }
}

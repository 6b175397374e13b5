//! Where things lie: which worker a NIC's packets arrive at, and which NUMA node memory, NICs and cores are on.

use dpdk_sys::{NumaNode, Offer};

/// The word for NICs all of whose packets arrive at the worker that owns them.
pub const OWNER: &str = "owner";
/// The word for NICs whose packets arrive at any worker, which hands them over.
pub const HAND_OVER: &str = "hand-over";

/// How packets of a NIC reach the worker that owns their client, and why so.
#[must_use]
pub fn of(offer: &Offer, workers: usize) -> (&'static str, &'static str) {
    match offer {
        _ if workers == 1 => (OWNER, "one worker owns every client"),
        Offer { rss_one_sided: true, .. } => (
            HAND_OVER,
            "its driver can hash the source or the destination address alone, which is not made use of yet",
        ),
        Offer { rss: true, .. } => (
            HAND_OVER,
            "its driver hashes both addresses together, which does not lead to the worker that owns the client",
        ),
        _ => (HAND_OVER, "its driver offers no hash of addresses (RSS)"),
    }
}

/// The NUMA node of a core, where the kernel tells of nodes.
#[must_use]
pub fn node_of_core(core: u16) -> Option<NumaNode> {
    let folder = std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}")).ok()?;
    let mut names = folder.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.find_map(|name| name.strip_prefix("node")?.parse().ok()).map(NumaNode)
}

/// What to say of a worker and a NIC that are on different nodes.
#[must_use]
pub fn advice(nic: &str, near: Option<NumaNode>, core: u16, of_core: Option<NumaNode>) -> Option<String> {
    let (NumaNode(near), NumaNode(far)) = (near?, of_core?);
    (near != far).then(|| {
        format!(
            "nic \"{nic}\" is on NUMA node {near} and the worker on core {core} on node {far}: each packet crosses between them: put the worker on a core of node {near}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(rss: bool, rss_one_sided: bool) -> Offer {
        Offer {
            driver: "net_x".to_owned(),
            rx_queues: 4,
            tx_queues: 4,
            mtu: 1500,
            rss,
            rss_one_sided,
            numa_node: None,
        }
    }

    #[test]
    fn packets_reach_their_owner_at_once_or_are_handed_over() {
        assert_eq!(of(&offer(true, true), 1).0, OWNER);
        let whys: std::collections::HashSet<_> =
            [(false, false), (true, false), (true, true)].map(|(rss, one)| of(&offer(rss, one), 2)).into();
        assert_eq!(whys.len(), 3);
        assert!(whys.iter().all(|(word, _)| *word == HAND_OVER));
    }

    #[test]
    fn nodes_that_differ_are_told() {
        assert_eq!(advice("front", Some(NumaNode(0)), 9, Some(NumaNode(0))), None);
        assert_eq!(advice("front", None, 9, Some(NumaNode(0))), None);
        let text = advice("front", Some(NumaNode(1)), 9, Some(NumaNode(0))).unwrap();
        assert!(text.contains("node 1") && text.contains("core 9"), "{text}");
    }
}

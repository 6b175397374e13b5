//! Listens to the kernel for [`Watch`].

use std::io;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::{MulticastGroup, new_multicast_connection};

use super::Watch;

/// How often drivers are asked for the links that the kernel does not know, and the director for its addresses.
pub const PERIOD: Duration = Duration::from_millis(50);
/// How long until the kernel is asked again: after it refused to tell, and while a NIC waits for a carrier.
const AGAIN: Duration = Duration::from_secs(1);

/// Listens until `follow` says that it is the end: it is called after each thing that was heard, and every [`PERIOD`]. The network
/// namespace is that of the calling thread, and it may wait there.
///
/// # Errors
/// When there is no runtime to be had.
pub fn run(watch: &mut Watch, mut follow: impl FnMut(&mut Watch) -> bool) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut told = false;
        loop {
            match listen(watch, &mut follow).await {
                Ok(()) => return,
                Err(error) if !told => {
                    tracing::error!(
                        "links: the kernel does not tell of interfaces: {error}: it is asked again"
                    );
                    told = true;
                }
                Err(_) => {}
            }
            if !follow(watch) {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    });
    Ok(())
}

async fn listen(watch: &mut Watch, follow: &mut impl FnMut(&mut Watch) -> bool) -> io::Result<()> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let (connection, handle, mut messages) = new_multicast_connection(&groups)?;
    let connection = tokio::spawn(connection);
    // From here on nothing is missed: what changes while it is read comes as a message, too.
    watch.resync(super::interfaces::read(&handle).await?);
    let mut asked = Instant::now();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = messages.next() => match message.map(|(message, _)| message.payload) {
                Some(NetlinkPayload::InnerMessage(message)) => watch.hear(&message),
                // The socket was full: some were lost.
                Some(NetlinkPayload::Overrun(_)) => watch.resync(super::interfaces::read(&handle).await?),
                Some(_) => continue,
                None => return Err(io::Error::other("the socket was closed")),
            },
            _ = ticks.tick() => {}
        }
        if watch.waits_for_carrier() && asked.elapsed() >= AGAIN {
            watch.resync(super::interfaces::read(&handle).await?);
            asked = Instant::now();
        }
        if !follow(watch) {
            connection.abort();
            return Ok(());
        }
    }
}

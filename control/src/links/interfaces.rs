//! What the host's kernel says of its interfaces, kept up by its messages (rtnetlink(7)).

use std::io;

use futures_util::TryStreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, Prop};
use shunt_dataplane::id::Mac;
use shunt_model::interface::Interfaces;

/// Those of the calling thread's network namespace, now.
///
/// # Errors
/// What the kernel refused.
pub fn here() -> io::Result<Interfaces> {
    // A caller may be within a runtime, which does not wait for another.
    let look = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            read(&handle).await
        })
    };
    std::thread::scope(|scope| {
        let read = scope.spawn(look).join();
        read.unwrap_or_else(|_panic| Err(io::Error::other("reading the interfaces failed")))
    })
}

/// Asks the kernel for all of them.
///
/// # Errors
/// What it refused.
pub async fn read(handle: &Handle) -> io::Result<Interfaces> {
    let mut all = Interfaces::default();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await.map_err(io::Error::other)? {
        hear_link(&mut all, &link);
    }
    let mut addresses = handle.address().get().execute();
    while let Some(address) = addresses.try_next().await.map_err(io::Error::other)? {
        hear_address(&mut all, &address, true);
    }
    Ok(all)
}

/// Takes note of a message; gives the index of an interface that is gone from the namespace.
pub fn hear(all: &mut Interfaces, message: &RouteNetlinkMessage) -> Option<u32> {
    match message {
        RouteNetlinkMessage::NewLink(link) => hear_link(all, link),
        RouteNetlinkMessage::DelLink(link) if is_of_interface(link) => {
            let index = link.header.index;
            all.remove(index);
            return Some(index);
        }
        RouteNetlinkMessage::NewAddress(address) => hear_address(all, address, true),
        RouteNetlinkMessage::DelAddress(address) => hear_address(all, address, false),
        _ => {}
    }
    None
}

fn hear_link(all: &mut Interfaces, link: &LinkMessage) {
    if !is_of_interface(link) {
        return;
    }
    let flags = link.header.flags;
    let interface = all.entry(link.header.index);
    interface.up = flags.contains(LinkFlags::Up);
    interface.carrier = flags.contains(LinkFlags::LowerUp);
    let mut queues = (None, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::PropList(properties) => {
                let name = |property: &Prop| match property {
                    Prop::AltIfName(name) => Some(name.clone()),
                    _ => None,
                };
                interface.other_names = properties.iter().filter_map(name).collect();
            }
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::Address(mac) => {
                interface.mac = <[u8; 6]>::try_from(mac.as_slice()).ok().map(Mac);
            }
            LinkAttribute::NumRxQueues(count) => queues.0 = Some(*count),
            LinkAttribute::NumTxQueues(count) => queues.1 = Some(*count),
            _ => {}
        }
    }
    interface.queues = queues.0.zip(queues.1).or(interface.queues);
}

fn hear_address(all: &mut Interfaces, message: &AddressMessage, there: bool) {
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(of) => local = Some(*of),
            AddressAttribute::Address(of) => address = Some(*of),
            _ => {}
        }
    }
    // Of an interface from point to point `Address` is the other end's.
    let Some(held) = local.or(address) else { return };
    all.hold(held, message.header.index, there);
}

/// Bridges tell of their ports under a family of their own: that is not about the interface.
fn is_of_interface(link: &LinkMessage) -> bool {
    link.header.interface_family == rtnetlink::packet_route::AddressFamily::Unspec
}

//! Requests to the API: whatever a client writes, it gets an answer or its connection ends, and the next client is served.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use shunt::api::connections::Connection;
use shunt::api::director::{Connections, Director, Later, Refusal, Reloaded, Running};
use shunt::api::explain::{Explanation, Probe};
use shunt::api::ipvsadm::{Change, Changed, Table};
use shunt::api::server::serve;
use shunt::api::socket::OwnedListener;
use shunt::api::{Asked, Drops, ReloadOptions, Status};
use shunt::ipvsadm::convert;
use shunt_dataplane::id::Mac;
use tokio::sync::{mpsc, watch};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Services that the table is allowed to have; with more it is emptied.
const SERVICES_MAX: usize = 64;

/// Writes the bytes to the API and reads until it closes.
pub fn run(input: &[u8]) {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    let mut client = UnixStream::connect(SOCKET.get_or_init(start)).expect("the API is served");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // It may have said enough before it has heard all.
    let _ = client.write_all(input);
    let _ = client.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match client.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&answer));
}

/// Serves a director on a thread for as long as this process lives.
fn start() -> PathBuf {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let socket = folder.join("api.sock");
    let listener = OwnedListener::bind(&socket).expect("a socket");
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (_go_on, stop) = watch::channel(false);
        runtime.block_on(serve(listener, Arc::new(Desk::default()), stop)).expect("the API is served");
    };
    std::thread::Builder::new().name("api".into()).spawn(work).expect("a thread");
    socket
}

/// A director that has a table and nothing else.
#[derive(Default)]
struct Desk {
    table: Mutex<Table>,
}

impl Director for Desk {
    fn status(&self) -> Status {
        Status::default()
    }

    fn drops(&self) -> Drops {
        Drops::default()
    }

    fn neighbours(&self) -> shunt::api::neighbours::Neighbours {
        shunt::api::neighbours::Neighbours::default()
    }

    fn connections(&self) -> Connections {
        let (to, from) = mpsc::channel::<Result<Connection, Refusal>>(1);
        drop(to);
        from
    }

    fn explain(&self, probe: Probe) -> Later<Result<Explanation, Refusal>> {
        let frame = probe.frame(Mac([2, 0, 0, 0, 0, 1]));
        Box::pin(async move { frame.map(|_| Explanation::default()) })
    }

    fn configuration(&self) -> Running {
        Running { file: String::new(), text: String::new(), generation: 1, not_in_file: Vec::new() }
    }

    fn reload(&self, _: Asked, _: ReloadOptions) -> Later<Result<Reloaded, Refusal>> {
        Box::pin(async { Err(Refusal::new("there is no file")) })
    }

    fn ipvsadm(&self) -> Later<Result<Table, Refusal>> {
        let table = self.table.lock().expect("no panic").clone();
        Box::pin(async move { Ok(table) })
    }

    fn change_ipvsadm(&self, _: Asked, changes: Vec<Change>) -> Later<Result<Changed, Refusal>> {
        let mut table = self.table.lock().expect("no panic");
        let refused = changes.iter().map(|change| table.apply(change).err()).collect();
        for service in &table.services {
            let _ = convert::configured(service, None);
            let _ = convert::plan(service, "fuzz");
        }
        if table.services.len() > SERVICES_MAX {
            table.services.clear();
        }
        Box::pin(async move { Ok(Changed { generation: 1, refused }) })
    }

    fn stop(&self, _: Asked) {}
}

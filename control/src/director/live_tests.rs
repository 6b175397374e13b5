//! A reload that workers are late to run.

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use shunt_dataplane::flow::{HashKey, Owners};
use shunt_dataplane::id::{Mac, NicId, WorkerId};
use shunt_dataplane::worker::Ticket;

use super::super::packets::Publications;
use super::super::workers;
use super::*;
use crate::control_loop::{ControlLoop, Rings};
use crate::kernel::Kernel;
use crate::publish::Publisher;
use crate::punt::{Origin, Punted};

/// Rings to workers that never turn.
struct Idle;

impl Rings for Idle {
    type Packet = Vec<u8>;

    fn punted(&mut self) -> Option<Punted<Vec<u8>>> {
        None
    }

    fn transmit(&mut self, _: NicId, _: &[u8]) -> bool {
        true
    }

    fn transmit_timed(&mut self, _: NicId, _: &[u8], _: Ticket) -> bool {
        true
    }

    fn left(&mut self) -> Option<(Ticket, Instant)> {
        None
    }

    fn receive(&mut self, _: Origin, _: Vec<u8>) -> bool {
        true
    }

    fn unreachable(&mut self, _: Origin, _: Vec<u8>) -> bool {
        true
    }
}

/// A director of a virtual router that only listens meanwhile, perhaps with a check that never says anything.
fn file(priority: u8, service: &str) -> String {
    format!(
        "[[nic]]\nname = \"front\"\ndevice = \"null:\"\naddresses = [\"192.0.2.2/24\"]\n\
         [[vrrp]]\nname = \"VI_1\"\nnic = \"front\"\nvrid = 51\ninterval = \"40s\"\npriority = {priority}\n\
         addresses = [\"192.0.2.10\"]\n{service}"
    )
}

const CHECKED: &str = "[[service]]\nname = \"web\"\nlisten = \"192.0.2.10:80\"\nprotocol = \"tcp\"\n\
    check = { kind = \"script\", command = [\"sleep\", \"600\"], interval = \"600s\", timeout = \"600s\" }\n\
    real = [{ address = \"192.0.2.21:80\" }]\n";

/// A director whose only worker never turns, and the control loop's thread.
fn start(path: PathBuf) -> (Live, std::thread::JoinHandle<()>) {
    let checked =
        Config::load(&path, &crate::machine::here()).unwrap_or_else(|problems| panic!("{problems}"));
    let config = checked.config;
    let cpus = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpu = (0..CpuSet::count()).find(|&cpu| cpus.is_set(cpu) == Ok(true)).unwrap();
    let settings = dpdk_sys::EalSettings::ordinary(&format!("live-{}", std::process::id()), cpu, 64);
    let eal = dpdk_sys::Eal::start(&settings).unwrap();
    let pool = Mempool::new(&eal, "packets", 63, 0, dpdk_sys::mempool::DATA_ROOM, None).unwrap();
    let macs = vec![Mac([2, 0, 0, 0, 0xd0, 1])];
    let workers = workers::shared(&config);
    let owners = Owners { workers: 1, netmask_v4: 32, netmask_v6: 128, key: HashKey::random() };
    let publisher = Publisher::new(owners, macs.clone(), workers.clone(), &config);
    let (kernel, taps) = Kernel::start(&targets::sides(&config, &macs, &[1500])).unwrap();
    let (namespace, ways) = (kernel.namespace().clone(), kernel.ways().clone());
    let notifier = Notifier::start(config.notify.clone()).unwrap();
    let core = Core::start(publisher, config, notifier.clone()).unwrap();
    let publications = Publications::new(
        core.messages(),
        core.applied().clone(),
        vec!["front".to_owned()],
        notifier.clone(),
    );
    let (mut control_loop, control) = ControlLoop::new(Idle, publications, kernel);
    let control_loop = std::thread::spawn(move || control_loop.run(|| {}));
    let health = Health::start(Some(namespace.clone()), ways, Arc::default(), |_| ()).unwrap();
    let tracking = Tracking::start(Some(namespace), Arc::default(), |_| ()).unwrap();
    let live = Live::new(Pieces {
        file: path,
        text: checked.text,
        known: macs.iter().map(|mac| NicNow::new(*mac, 1500, None)).collect(),
        nics: Vec::new(),
        reopening: super::super::reopen::Reopening::new(eal.clone(), None, Vec::new()),
        workers,
        questions: Vec::new(),
        pool,
        taps,
        hugepages: false,
        node: None,
        clock: Clock::new(&eal),
        parts: Parts { health, tracking, lacks: Arc::default(), control, core, notifier },
        stop: watch::channel(false).0,
    });
    (live, control_loop)
}

#[test]
fn a_reload_is_followed_also_where_a_worker_is_late() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shunt.toml");
    std::fs::write(&path, file(100, "")).unwrap();
    let (live, control_loop) = start(path.clone());
    let priority = || live.with_parts(|parts| parts.control.report().vrrp.routers[0].priority);
    let checked = || live.with_parts(|parts| parts.health.list().len());
    assert_eq!((priority(), checked()), (Some(100), Some(0)));

    std::fs::write(&path, file(150, CHECKED)).unwrap();
    let refusal =
        live.reload_now(Asked::Unknown, ReloadOptions::default()).expect_err("a worker that never turns");
    assert!(refusal.to_string().contains("published, but workers 0 do not run it yet"), "{refusal}");
    assert_eq!((priority(), checked()), (Some(150), Some(1)), "VRRP and health checks have it");
    let (running, view) = (lock(&live.running).generation, live.view.load_full());
    assert_eq!(running, view.snapshot.generation.0);
    assert_eq!(lock(&live.of_file).services.len(), 1, "it is what the file says now");
    assert!(live.workers[WorkerId(0).index()].acknowledged() < view.snapshot.generation);
    live.end();
    control_loop.join().unwrap();
}

//! The life of the process: everything up in order, signals, everything down in the other order.

use std::path::Path;
use std::sync::Arc;

use shunt_dataplane::flow::{HashKey, Owners};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::core::{Core, Message};
use super::links::{self, Known, NicNow};
use super::live::{Handle, Live, Parts, Pieces};
use super::nics::{self, Ports};
use super::packets::{Publications, WorkerRings};
use super::workers::{self, Workers};
use super::{StartError, targets};
use crate::api;
use crate::api::director::Director;
use crate::api::socket::OwnedListener;
use crate::config::check::Checked;
use crate::control_loop::ControlLoop;
use crate::health::Health;
use crate::kernel::Kernel;
use crate::notify::Notifier;
use crate::publish::Publisher;
use crate::tracking::{Tracking, Turn};
use crate::vrrp::{Reading, Tracked};

/// Runs the director until it is told to stop.
///
/// # Errors
/// Why it does not start, one for each problem where several can be told at once.
pub fn run(file: &Path, checked: Checked) -> Result<(), Vec<StartError>> {
    let problems = nics::preflight(&checked.config);
    if !problems.is_empty() {
        return Err(problems);
    }
    let socket = &checked.config.runtime.socket;
    let listener =
        OwnedListener::bind(socket).map_err(|error| vec![StartError::of("runtime.socket", &error)])?;
    let mut running = start(file, checked).map_err(|error| vec![error])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| vec![StartError::of("runtime", &error)])?;
    let served = runtime.block_on(serve(listener, &mut running));
    served.map_err(|error| vec![StartError::of("runtime.socket", &error)])
}

/// What runs.
struct Running {
    live: Arc<Live>,
    workers: Workers,
    control_loop: Option<std::thread::JoinHandle<()>>,
    links: Option<std::thread::JoinHandle<()>>,
    /// Ends the watch over links.
    unwatch: watch::Sender<bool>,
    stop: watch::Receiver<bool>,
    // Last: DPDK goes after all that uses it.
    ports: Ports,
}

fn start(file: &Path, checked: Checked) -> Result<Running, StartError> {
    let Checked { config, text, .. } = checked;
    let mut ports = nics::open(&config)?;
    let known: Vec<_> = ports.nics.iter().map(|nic| NicNow::new(nic.mac, nic.room, nic.taken)).collect();
    let known = Known { nics: known, held: Vec::new() };
    let macs = known.macs();
    let key = HashKey::random();
    let (netmask_v4, netmask_v6) = config.client_netmasks();
    let owners = Owners { workers: config.runtime.workers.len() as u8, netmask_v4, netmask_v6, key };
    let shared = workers::shared(&config);
    let mut publisher = Publisher::new(owners, macs.clone(), shared.clone(), &config);
    publisher.set_nics(known.states());
    // Where an interface takes other packets than is usual.
    publisher.publish(&config);
    let (kernel, taps) = Kernel::start(&targets::sides(&config, &macs, &known.mtus()))
        .map_err(|error| StartError::of("kernel-side interface", &error))?;
    let (namespace, ways) = (kernel.namespace().clone(), kernel.ways().clone());
    let mut workers =
        workers::start(&config, &mut ports, publisher.snapshots(), shared.clone(), HashKey::random())?;
    let names = config.nics.iter().map(|nic| nic.name.clone()).collect();
    let started = config.clone();
    let notifier = Notifier::start(config.notify.clone());
    let notifier = notifier.map_err(|error| StartError::of("notifications", &error))?;
    let core = Core::start(publisher, config, notifier.clone())
        .map_err(|error| StartError::of("runtime", &error))?;
    let rings = WorkerRings::new(std::mem::take(&mut workers.packets), shared.clone(), ports.pool.clone());
    let publications = Publications::new(core.messages(), core.applied().clone(), names, notifier.clone());
    let (control_loop, control) = ControlLoop::new(rings, publications, kernel);
    let eal = ports.eal.clone();
    let control_loop = std::thread::Builder::new()
        .name("shunt-neighbours".into())
        .spawn(move || {
            // With packet memory of its own it seldom meets a worker at that of all, where one waits for the other. It goes without, too.
            let _registered = eal.register_thread();
            control_loop.run();
        })
        .map_err(|error| StartError::of("runtime", &error))?;
    let messages = core.messages();
    let on_changes = move |changes| drop(messages.send(Message::Health(changes)));
    let health = Health::start(Some(namespace.clone()), ways, on_changes)
        .map_err(|error| StartError::of("health checks", &error))?;
    let watcher = control.watcher();
    let on_turn = move |turn: Turn| {
        let Turn { name, reading, reason } = turn;
        tracing::info!(
            "tracked \"{name}\" {}: {reason}",
            if reading == Reading::Fails { "fails" } else { "passes" }
        );
        watcher(Tracked::Check(name), reading);
    };
    let tracking =
        Tracking::start(Some(namespace), on_turn).map_err(|error| StartError::of("tracking", &error))?;
    let (stop_sender, stop) = watch::channel(false);
    let watched = links::watched(&started, &ports);
    let live = Arc::new(Live::new(Pieces {
        file: file.to_owned(),
        text,
        known: known.nics,
        nics: ports.nics.drain(..).map(|nic| nic.nic).collect(),
        workers: shared,
        questions: std::mem::take(&mut workers.questions),
        pool: ports.pool.clone(),
        taps,
        hugepages: ports.hugepages,
        node: ports.node,
        clock: workers.clock,
        parts: Parts { health, tracking, control, core, notifier },
        stop: stop_sender,
    }));
    let (unwatch, end_of_watch) = watch::channel(false);
    let links = links::start(live.clone(), watched, end_of_watch);
    let links = links.map_err(|error| StartError::of("links", &error))?;
    Ok(Running { live, workers, control_loop: Some(control_loop), links: Some(links), unwatch, stop, ports })
}

/// Serves the API and signals until the end; the socket goes last.
async fn serve(listener: OwnedListener, running: &mut Running) -> std::io::Result<()> {
    let handle = Arc::new(Handle(running.live.clone()));
    let (ended, end_of_service) = watch::channel(false);
    let api = tokio::spawn(api::serve(listener, handle.clone(), end_of_service));
    let memory = if running.ports.hugepages { "hugepages" } else { "ordinary pages" };
    tracing::info!(
        "running: generation {}, packet memory in {memory}",
        super::live::generation(&running.live)
    );
    let rates = tokio::spawn(estimate(running.live.clone()));
    let signals = obey_signals(&handle, running.stop.clone()).await;
    rates.abort();
    tracing::info!("stopping");
    end(running);
    tracing::info!("stopped");
    ended.send_replace(true);
    let served = api.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    signals.and(served)
}

/// Looks at the counters again and again, for rates.
async fn estimate(live: Arc<Live>) {
    let mut ticks = tokio::time::interval(crate::ipvsadm::rate::PERIOD);
    loop {
        ticks.tick().await;
        live.estimate();
    }
}

/// SIGHUP reloads; SIGTERM, SIGINT and the API's stop end it.
async fn obey_signals(handle: &Arc<Handle>, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                let reload = handle.reload();
                tokio::spawn(async move {
                    match reload.await {
                        Ok(done) => tracing::info!("reload: generation {}:\n{}", done.generation, done.changes),
                        Err(refusal) => tracing::error!("reload: {refusal}"),
                    }
                });
            }
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

/// The watch over links, checks and control loop first, then the core, then the workers, so that each finds those that it speaks to.
fn end(running: &mut Running) {
    running.unwatch.send_replace(true);
    if running.links.take().is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("the watch over links ended by a panic");
    }
    running.live.end();
    if running.control_loop.take().is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("the control loop ended by a panic");
    }
    running.workers.stop();
}

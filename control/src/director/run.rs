//! The life of the process: everything up in order, signals, everything down in the other order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shunt_config::check::Checked;
use shunt_dataplane::flow::{HashKey, Owners};
use shunt_dataplane::id::WorkerId;
use shunt_dataplane::worker::Shared;
use shunt_model::notify::What;
use shunt_model::vrrp::{Reading, Tracked};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::claims;
use super::core::{Core, Message};
use super::links::{self, Known, NicNow};
use super::live::{Handle, Live, Parts, Pieces};
use super::nics::{self, Ports};
use super::packets::{Publications, WorkerRings};
use super::reopen::Reopening;
use super::workers::{self, Workers};
use super::{StartError, targets};
use crate::api::director::Director;
use crate::api::socket::{OwnedListener, Place};
use crate::api::{self, Asked, ReloadOptions};
use crate::control_loop::{Control, ControlLoop};
use crate::health::{Health, Lacks};
use crate::kernel::Kernel;
use crate::notify;
use crate::notify::Notifier;
use crate::publish::Publisher;
use crate::rights;
use crate::signals;
use crate::starter::Starter;
use crate::threads::watcher::{self, Hooks};
use crate::threads::{Duty, Pulse, tell_supervisor};
use crate::tracking::{Tracking, Turn};

/// Runs the director until it is told to stop.
///
/// # Errors
/// Why it does not start, one for each problem where several can be told at once.
pub fn run(file: &Path, checked: Checked) -> Result<(), Vec<StartError>> {
    super::descriptors::raise();
    let problems = nics::preflight(&checked.config);
    if !problems.is_empty() {
        return Err(problems);
    }
    let socket = &checked.config.runtime.socket;
    let listener =
        OwnedListener::bind(socket).map_err(|error| vec![StartError::of("runtime.socket", &error)])?;
    let claims = claims::of_config(&checked.config)?;
    let mut running = match start(file, checked) {
        Err(error) if error.is_end() => {
            tracing::info!("stopped during the start");
            return Ok(());
        }
        started => started.map_err(|error| vec![error])?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| vec![StartError::of("runtime", &error)])?;
    let pulse = Pulse::start("main", Duty::Decides);
    let serving = || runtime.block_on(pulse.over(serve(listener, &mut running)));
    let Ok(served) = catch_unwind(AssertUnwindSafe(serving)) else {
        drop(pulse);
        // The watcher gives the virtual routers up by what still runs, and ends the process.
        loop {
            std::thread::park();
        }
    };
    pulse.done();
    // Whatever still waits for something inside the director is not waited for.
    runtime.shutdown_background();
    // NICs are closed before others may have their devices.
    drop(running);
    drop(claims);
    served.map_err(|error| vec![StartError::of("runtime.socket", &error)])
}

/// An end that was asked for during the start comes between its steps.
fn go_on() -> Result<(), StartError> {
    signals::end_asked().map_or(Ok(()), |signal| Err(StartError::end(signal.as_str())))
}

/// How long the first checks of real servers may take before the director counts as ready.
const FIRST_CHECKS_MAX: Duration = Duration::from_secs(5);
/// How often they are looked at.
const FIRST_CHECKS_LOOK: Duration = Duration::from_millis(200);
/// How often tables and queues are looked at that may be full.
const LIMIT_PERIOD: Duration = Duration::from_secs(1);

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
    go_on()?;
    let starter = Starter::of_this_process().map_err(|error| StartError::of("runtime", &error))?;
    starter.avoid(config.runtime.workers.iter().copied());
    let mut ports = nics::open(&config)?;
    go_on()?;
    let known: Vec<_> = ports.nics.iter().map(|nic| NicNow::new(nic.mac, nic.room, nic.taken)).collect();
    let known = Known { nics: known, ..Known::default() };
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
    go_on()?;
    let names = config.nics.iter().map(|nic| nic.name.clone()).collect();
    let started = config.clone();
    let notifier = Notifier::start(config.notify.clone());
    let notifier = notifier.map_err(|error| StartError::of("notifications", &error))?;
    let core = Core::start(publisher, config, notifier.clone())
        .map_err(|error| StartError::of("runtime", &error))?;
    let rings = WorkerRings::new(
        std::mem::take(&mut workers.packets),
        shared.clone(),
        ports.pool.clone(),
        workers.clock,
    );
    let publications = Publications::new(core.messages(), core.applied().clone(), names, notifier.clone());
    let (mut control_loop, control) = ControlLoop::new(rings, publications, kernel);
    let eal = ports.eal.clone();
    let control_loop = std::thread::Builder::new()
        .name("shunt-neighbours".into())
        .spawn(move || {
            // With packet memory of its own it seldom meets a worker at that of all, where one waits for the other. It goes without, too.
            let _registered = eal.register_thread();
            let pulse = Pulse::start("shunt-neighbours", Duty::Forwards);
            let ran = catch_unwind(AssertUnwindSafe(|| control_loop.run(|| pulse.beat())));
            if ran.is_ok() {
                pulse.done();
            } else {
                // The other directors should hear of it; what is broken here may break that, too.
                let _ = catch_unwind(AssertUnwindSafe(|| control_loop.resign(Instant::now())));
            }
        })
        .map_err(|error| StartError::of("runtime", &error))?;
    let messages = core.messages();
    let on_changes = move |changes| drop(messages.send(Message::Health(changes)));
    let lacks = Arc::new(Lacks::new(Box::new(notifier.clone())));
    let health = Health::start(Some(namespace.clone()), ways, lacks.clone(), on_changes)
        .map_err(|error| StartError::of("health checks", &error))?;
    let (watcher, teller) = (control.watcher(), notifier.clone());
    let on_turn = move |turn: Turn| {
        let Turn { name, reading, reason } = turn;
        let fails = reading == Reading::Fails;
        let text = format!("tracked \"{name}\" {}: {reason}", if fails { "fails" } else { "passes" });
        if fails {
            tracing::warn!("{text}");
        } else {
            tracing::info!("{text}");
        }
        teller.tell(notify::event(What::Tracked, name.as_str(), None, text), Vec::new());
        watcher(Tracked::Check(name), reading);
    };
    let tracking = Tracking::start(Some(namespace), lacks.clone(), on_turn)
        .map_err(|error| StartError::of("tracking", &error))?;
    act_on_threads(&control, &notifier, &shared);
    go_on()?;
    if let Err(error) = rights::give_up(&core.view().load().config) {
        tracing::error!("the director keeps capabilities that it does not need: {error}");
    }
    let (stop_sender, stop) = watch::channel(false);
    let watched = links::watched(&started, &ports);
    let live = Arc::new(Live::new(Pieces {
        file: file.to_owned(),
        text,
        known: known.nics,
        nics: ports.nics.drain(..).map(|nic| nic.nic).collect(),
        reopening: Reopening::new(ports.eal.clone(), ports.large.clone(), std::mem::take(&mut workers.nics)),
        workers: shared,
        questions: std::mem::take(&mut workers.questions),
        pool: ports.pool.clone(),
        taps,
        hugepages: ports.hugepages,
        node: ports.node,
        clock: workers.clock,
        parts: Parts { health, tracking, lacks, control, core, notifier },
        stop: stop_sender,
    }));
    let (unwatch, end_of_watch) = watch::channel(false);
    let links = links::start(live.clone(), watched, end_of_watch);
    let links = links.map_err(|error| StartError::of("links", &error))?;
    Ok(Running { live, workers, control_loop: Some(control_loop), links: Some(links), unwatch, stop, ports })
}

/// What the watcher does when a thread is late, or hangs.
fn act_on_threads(control: &Control, notifier: &Notifier, workers: &[Arc<Shared>]) {
    let (stop, tell, workers) = (control.stopper(), notifier.teller(), workers.to_vec());
    watcher::act_through(Hooks {
        give_up: Box::new(move |silent| {
            for (number, worker) in workers.iter().enumerate() {
                if silent.contains(&workers::name(WorkerId(number as u8))) {
                    worker.give_up();
                }
            }
            stop();
        }),
        tell: Box::new(move |name, late, text| {
            let what = if late { What::ThreadLate } else { What::ThreadLateOver };
            tell(notify::event(what, name, None, text));
        }),
    });
}

/// Serves the API and signals until the end; the socket goes last.
async fn serve(listener: OwnedListener, running: &mut Running) -> std::io::Result<()> {
    let handle = Arc::new(Handle(running.live.clone()));
    let (ended, end_of_service) = watch::channel(false);
    let place = listener.place();
    let api = tokio::spawn(api::serve(listener, handle.clone(), end_of_service.clone()));
    let kept = tokio::spawn(keep_socket(place, handle.clone(), end_of_service));
    let memory = if running.ports.hugepages { "hugepages" } else { "ordinary pages" };
    tracing::info!(
        "running: generation {}, packet memory in {memory}",
        super::live::generation(&running.live)
    );
    let rates = tokio::spawn(estimate(running.live.clone()));
    let limits = tokio::spawn(watch_limits(running.live.clone()));
    let ready = tokio::spawn(tell_ready(running.live.clone()));
    let signals = obey_signals(&handle, running.stop.clone()).await;
    ready.abort();
    rates.abort();
    limits.abort();
    watcher::ending();
    tell_supervisor("STOPPING=1");
    tracing::info!("stopping");
    end(running);
    tracing::info!("stopped");
    ended.send_replace(true);
    let served = api.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    let _ = kept.await;
    signals.and(served)
}

/// How often the socket is looked for.
const SOCKET_PERIOD: Duration = Duration::from_millis(500);

/// Listens again where the socket was taken away, until the end.
async fn keep_socket(mut place: Place, director: Arc<Handle>, mut end: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(SOCKET_PERIOD);
    let (mut servers, mut told) = (Vec::new(), false);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = end.wait_for(|end| *end) => break,
        }
        if place.is_there() {
            continue;
        }
        match place.listen_again() {
            Ok(listener) => {
                tracing::warn!("runtime.socket: {place}: the socket was taken away: it is there again");
                place = listener.place();
                servers.push(tokio::spawn(api::serve(listener, director.clone(), end.clone())));
                told = false;
            }
            Err(error) if !told => {
                tracing::error!("runtime.socket: the socket was taken away: {error}");
                told = true;
            }
            Err(_) => {}
        }
    }
    for server in servers {
        let _ = server.await;
    }
}

/// Looks at the counters again and again, for rates.
async fn estimate(live: Arc<Live>) {
    let mut ticks = tokio::time::interval(shunt_protocol::ipvsadm::rate::PERIOD);
    loop {
        ticks.tick().await;
        live.estimate();
    }
}

/// Looks at tables and queues again and again.
async fn watch_limits(live: Arc<Live>) {
    let mut ticks = tokio::time::interval(LIMIT_PERIOD);
    let mut known = super::status::Fullness::default();
    loop {
        ticks.tick().await;
        let live = live.clone();
        let look = move || {
            live.watch_limits(&mut known);
            known
        };
        let Ok(looked) = tokio::task::spawn_blocking(look).await else { return };
        known = looked;
    }
}

/// Tells the supervisor that clients are served: workers run, and real servers have been checked once, or had [`FIRST_CHECKS_MAX`].
async fn tell_ready(live: Arc<Live>) {
    let began = Instant::now();
    while began.elapsed() < FIRST_CHECKS_MAX {
        // Not kept: checks end when nobody can ask any more.
        let asker = live.with_parts(|parts| parts.health.asker()).flatten();
        let Some(listed) = asker.and_then(|asker| asker.list(FIRST_CHECKS_LOOK)) else { break };
        if listed.iter().all(|listed| !listed.checked || listed.last.is_some()) {
            break;
        }
        tokio::time::sleep(FIRST_CHECKS_LOOK).await;
    }
    tell_supervisor("READY=1");
}

/// SIGHUP reloads; SIGTERM, SIGINT, SIGQUIT and the API's stop end it. Those that came during the start count.
async fn obey_signals(handle: &Arc<Handle>, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut processor_time = signal(SignalKind::from_raw(nix::libc::SIGXCPU))?;
    let mut reloads = JoinSet::new();
    // SIGHUPs that come during a reload are one more, however many.
    let mut wanted = signals::hangup_came();
    while signals::end_asked().is_none() {
        if wanted && reloads.is_empty() {
            wanted = false;
            // What comes of it is in the log.
            reloads.spawn(handle.reload(Asked::Signal("SIGHUP"), ReloadOptions::default()));
        }
        tokio::select! {
            _ = hangup.recv() => wanted = true,
            Some(_) = reloads.join_next() => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
            _ = processor_time.recv() => {}
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
    }
    tracing::info!("stop {}", Asked::Signal(signals::end_asked().map_or("signal", |signal| signal.as_str())));
    Ok(())
}

/// Checks and control loop first, then the core, the watch over links, and the workers: each finds those that it speaks to, and nothing
/// comes before the farewell that may take its time.
fn end(running: &mut Running) {
    running.unwatch.send_replace(true);
    running.live.end();
    if running.links.take().is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("the watch over links ended by a panic");
    }
    if running.control_loop.take().is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("the control loop ended by a panic");
    }
    running.workers.stop();
}

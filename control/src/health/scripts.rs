//! Commands of the operator's, run by the [`Starter`] in the host's ordinary network namespace, and waited for by a thread of their own.
//!
//! Each has a time, after which it and all that it started are killed; who may run how many at once is for [`Places`] to say, and
//! the others wait without losing of their time.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use shunt_model::health::Lack;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::places::Places;
use crate::kernel::KernelError;
use crate::starter::environment::{self, Identity, Unknown};
use crate::starter::{End, Process, Program, Starter};
use crate::threads::{Duty, Pulse};
use shunt_model::script::Script;

/// How long the place of a command that was killed waits for its end: one that waits for a dead disk may never end.
const KILL_PATIENCE: Duration = Duration::from_secs(1);

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code.
    Code(i32),
    /// By a signal that we did not send.
    Signal(i32),
    /// Its time was over.
    Killed,
    /// It could not be started, in words.
    NotRun(String),
    /// The director lacked what it takes to start it.
    Lack(Lack),
}

#[derive(Debug)]
struct Request {
    owner: String,
    script: Script,
    environment: Vec<(String, String)>,
    time: Duration,
    ended: oneshot::Sender<Ended>,
}

/// The thread of the scripts. When the last clone goes, what still runs is killed.
#[derive(Clone, Debug)]
pub struct Scripts(Arc<Thread>);

#[derive(Debug)]
struct Thread {
    requests: Option<UnboundedSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Scripts {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`KernelError::Thread`] when there is no thread, or no process, to be had.
    pub fn start() -> Result<Self, KernelError> {
        let starter = Starter::of_this_process().map_err(KernelError::Thread)?;
        let (requests, inbox) = unbounded_channel();
        let (started, start) = mpsc::channel();
        let work = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                crate::rights::give_up_all();
                let _ = started.send(Ok(()));
                let pulse = Pulse::start("shunt-scripts", Duty::Tells);
                runtime.block_on(pulse.over(serve(inbox, &starter)));
                pulse.done();
            }
            Err(error) => drop(started.send(Err(error))),
        };
        let thread = thread::Builder::new().name("shunt-scripts".to_owned()).spawn(work);
        let thread = thread.map_err(KernelError::Thread)?;
        let ready = start.recv().unwrap_or_else(|_| Err(io::Error::other("it ended early")));
        ready.map_err(KernelError::Thread)?;
        Ok(Self(Arc::new(Thread { requests: Some(requests), thread: Some(thread) })))
    }

    /// Runs a command with these variables beside those of a login, and waits for its end. Commands of one owner wait for
    /// each other rather than those of another.
    pub async fn run(
        &self,
        owner: String,
        script: Script,
        environment: Vec<(String, String)>,
        time: Duration,
    ) -> Ended {
        let (ended, end) = oneshot::channel();
        let request = Request { owner, script, environment, time, ended };
        let sent = self.0.requests.as_ref().is_some_and(|requests| requests.send(request).is_ok());
        let stopping = || Ended::Lack(Lack::Stopping);
        if sent { end.await.unwrap_or_else(|_| stopping()) } else { stopping() }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(mut inbox: UnboundedReceiver<Request>, starter: &Arc<Starter>) {
    let mut places = Places::default();
    let mut running = JoinSet::new();
    loop {
        while let Some((owner, request)) = places.take() {
            let starter = starter.clone();
            running.spawn(async move {
                carry_out(request, &starter).await;
                owner
            });
        }
        tokio::select! {
            request = inbox.recv() => match request {
                Some(request) => places.add(&request.owner.clone(), request),
                None => return,
            },
            Some(Ok(owner)) = running.join_next() => places.ended(&owner),
        }
    }
}

/// Whoever asked may have gone: nobody needs the script any more then.
async fn carry_out(request: Request, starter: &Arc<Starter>) {
    let Request { script, environment, time, mut ended, .. } = request;
    if ended.is_closed() {
        return;
    }
    let mut process = match ordered(script, environment, starter) {
        Ok(process) => process,
        Err(how) => return drop(ended.send(how)),
    };
    tokio::select! {
        how = end_of(&mut process, time) => drop(ended.send(how)),
        () = ended.closed() => {}
    }
    // Its place is another's when it is gone.
    let _ = timeout(KILL_PATIENCE, process.kill()).await;
}

/// Orders it to be started.
fn ordered(script: Script, told: Vec<(String, String)>, starter: &Arc<Starter>) -> Result<Process, Ended> {
    let identity = match Identity::of(script.user.as_deref()) {
        Ok(identity) => identity,
        Err(Unknown { why, errno }) => {
            return Err(errno
                .and_then(crate::health::lack::of_errno)
                .map_or(Ended::NotRun(why), Ended::Lack));
        }
    };
    let environment = environment::whole(&identity, told);
    Ok(starter.start(Program { command: script.command, environment, user: identity.numbers }))
}

/// Its time begins when it runs. What it leaves running when it ends is meant to run, until the director ends.
async fn end_of(process: &mut Process, time: Duration) -> Ended {
    process.started().await;
    match timeout(time, process.end()).await {
        Err(_late) => Ended::Killed,
        Ok(End::Code(code)) => Ended::Code(code),
        Ok(End::Signal(signal)) => Ended::Signal(signal),
        Ok(End::NotStarted(why)) => Ended::NotRun(why),
        Ok(End::Refused(why, errno)) => {
            let lack = crate::health::lack::of_forking(&io::Error::from_raw_os_error(errno));
            lack.map_or(Ended::NotRun(why), Ended::Lack)
        }
        Ok(End::NoStarter) => Ended::Lack(Lack::Processes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_now(script: &str, time: Duration) -> Ended {
        let scripts = Scripts::start().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let script = Script { command, user: None };
        runtime.block_on(scripts.run(
            String::new(),
            script,
            vec![("SHUNT_REAL".into(), "10.0.0.1".into())],
            time,
        ))
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn commands_end_in_their_ways() {
        assert_eq!(run_now("exit 7", LONG), Ended::Code(7));
        assert_eq!(run_now("test \"$SHUNT_REAL\" = 10.0.0.1", LONG), Ended::Code(0));
        assert_eq!(run_now("kill -TERM $$", LONG), Ended::Signal(15));
        let scripts = Scripts::start().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let script = |command: &[&str], user: Option<&str>| Script {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            user: user.map(str::to_owned),
        };
        let missing =
            runtime.block_on(scripts.run(String::new(), script(&["/no/such"], None), Vec::new(), LONG));
        assert!(matches!(&missing, Ended::NotRun(why) if why.starts_with("/no/such: ")), "{missing:?}");
        let is_nobody =
            script(&["/bin/sh", "-c", "test $(id -un):$(id -gn) = nobody:daemon"], Some("nobody daemon"));
        assert_eq!(runtime.block_on(scripts.run(String::new(), is_nobody, Vec::new(), LONG)), Ended::Code(0));
        let stranger = runtime.block_on(scripts.run(
            String::new(),
            script(&["/bin/true"], Some("no_such")),
            Vec::new(),
            LONG,
        ));
        assert_eq!(stranger, Ended::NotRun("there is no user no_such".into()));
    }

    #[test]
    fn scripts_that_hang_do_not_hold_those_of_others() {
        let scripts = Scripts::start().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let script = |text: &str| {
            let command = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
            Script { command, user: None }
        };
        runtime.block_on(async {
            let mut hanging = JoinSet::new();
            for _ in 0..200 {
                let (scripts, script) = (scripts.clone(), script("sleep 3600"));
                hanging.spawn(async move { scripts.run("hangs".into(), script, Vec::new(), LONG).await });
            }
            tokio::task::yield_now().await;
            let other = scripts.run("other".into(), script("exit 0"), Vec::new(), LONG);
            let ended = timeout(LONG / 2, other).await;
            assert_eq!(ended, Ok(Ended::Code(0)));
            hanging.abort_all();
        });
    }

    #[test]
    fn who_takes_too_long_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("alive");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // The grandchild holds the pipe open; reading its end means that it is gone. Where it was too slow to open it, it gets more time.
        let script = format!("(exec 3>{}; echo open >&3; sleep 3600) & wait", pipe.display());
        let heard = (0..8).map(|doubled| {
            let writer = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
            let pipe = pipe.clone();
            let reader = thread::spawn(move || std::fs::read(pipe).unwrap());
            assert_eq!(run_now(&script, Duration::from_millis(300) * (1 << doubled)), Ended::Killed);
            drop(writer);
            reader.join().unwrap()
        });
        let mut heard = heard.filter(|heard| !heard.is_empty());
        assert_eq!(heard.next().as_deref(), Some(&b"open\n"[..]));
    }
}

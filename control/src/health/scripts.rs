//! Commands of the operator's, run on a thread of their own in the host's ordinary network namespace.
//!
//! Each has a time, after which it and all that it started are killed; who may run how many at once is for [`Places`] to say, and
//! the others wait without losing of their time.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::lack::Lack;
use super::places::Places;
use crate::kernel::KernelError;
use crate::threads::{Duty, Pulse};

/// A command of the operator's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Who runs it: a user, and a group if it is not the user's; none for the director's own.
    pub user: Option<String>,
}

impl Script {
    /// Adds words to the command: to its arguments, or to the line that the shell reads.
    pub fn extend(&mut self, words: &[String]) {
        match &mut self.command[..] {
            [shell, option, line] if shell == "/bin/sh" && option == "-c" => {
                for word in words {
                    *line += &format!(" '{}'", word.replace('\'', r"'\''"));
                }
            }
            _ => self.command.extend_from_slice(words),
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.command[..] {
            [shell, option, line] if shell == "/bin/sh" && option == "-c" => write!(f, "{line:?}")?,
            words => write!(f, "{:?}", words.join(" "))?,
        }
        self.user.as_ref().map_or(Ok(()), |user| write!(f, " as {user}"))
    }
}

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
    /// Starts the thread in the caller's network namespace.
    ///
    /// # Errors
    /// [`KernelError::Thread`] when there is no thread to be had.
    pub fn start() -> Result<Self, KernelError> {
        let (requests, inbox) = unbounded_channel();
        let (started, start) = mpsc::channel();
        let work = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let _ = started.send(Ok(()));
                let pulse = Pulse::start("shunt-scripts", Duty::Tells);
                runtime.block_on(pulse.over(serve(inbox)));
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

    /// Runs a command with these variables beside the director's own, and waits for its end. Commands of one owner wait for
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

async fn serve(mut inbox: UnboundedReceiver<Request>) {
    let mut places = Places::default();
    let mut running = JoinSet::new();
    loop {
        while let Some((owner, request)) = places.take() {
            running.spawn(async move {
                carry_out(request).await;
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
async fn carry_out(request: Request) {
    let Request { script, environment, time, mut ended, .. } = request;
    if ended.is_closed() {
        return;
    }
    tokio::select! {
        how = run(&script, environment, time) => drop(ended.send(how)),
        () = ended.closed() => {}
    }
}

/// Kills a group of processes unless it is told that it ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// The numbers of a user and a group by their names.
fn identify(names: &str) -> Result<(u32, u32), Ended> {
    let mut words = names.split_whitespace();
    let name = words.next().unwrap_or_default();
    let none = |what: &str| Ended::NotRun(format!("there is no {what}"));
    let asked =
        |errno| Lack::of_errno(errno).map_or_else(|| none(&format!("answer about {name}")), Ended::Lack);
    let user =
        nix::unistd::User::from_name(name).map_err(asked)?.ok_or_else(|| none(&format!("user {name}")))?;
    let Some(name) = words.next() else { return Ok((user.uid.as_raw(), user.gid.as_raw())) };
    let group = nix::unistd::Group::from_name(name).map_err(asked)?;
    let group = group.ok_or_else(|| none(&format!("group {name}")))?;
    Ok((user.uid.as_raw(), group.gid.as_raw()))
}

async fn run(script: &Script, environment: Vec<(String, String)>, time: Duration) -> Ended {
    let Some((program, arguments)) = script.command.split_first() else {
        return Ended::NotRun("there is no command".into());
    };
    let mut command = Command::new(program);
    if let Some(user) = &script.user {
        match identify(user) {
            // Without the director's supplementary groups, which setting the user drops.
            Ok((user, group)) => drop(command.uid(user).gid(group)),
            Err(why) => return why,
        }
    }
    let child = command
        .args(arguments)
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            let not_run = || Ended::NotRun(format!("{program}: {error}"));
            return Lack::of_forking(&error).map_or_else(not_run, Ended::Lack);
        }
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let mut group = Group(group);
    let waited = match timeout(time, child.wait()).await {
        Err(_late) => return Ended::Killed,
        Ok(waited) => waited,
    };
    // What it left running is meant to run.
    group.0 = None;
    waited.map_or_else(|error| Ended::NotRun(format!("{program}: {error}")), ended)
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, signal) => Ended::Signal(signal.unwrap_or_default()),
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
        // The grandchild holds the pipe open; reading its end means that it is gone.
        let script = format!("(exec 3>{}; sleep 3600) & wait", pipe.display());
        let reader = thread::spawn(move || std::fs::read(pipe).unwrap());
        assert_eq!(run_now(&script, Duration::from_millis(300)), Ended::Killed);
        assert_eq!(reader.join().unwrap(), b"");
    }
}

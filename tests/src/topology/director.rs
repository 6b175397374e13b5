//! The binary `shunt` as a running director, and everything that can be asked of it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use shunt::api::status::{Limit, Real};
use shunt::api::{Drops, Status};

use super::frozen::Frozen;
use super::{Lab, PATIENCE, POLL, Said, binary, wait_for};

/// A director that runs. It is killed when dropped.
#[derive(Debug)]
pub struct Director {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
    /// The other end of a standard error that nobody reads.
    _unread: Option<UnixStream>,
    /// Its configuration.
    pub file: PathBuf,
}

impl Director {
    /// Starts a director with this configuration and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(lab: &Lab, configuration: &str) -> Self {
        Self::spawn(lab, configuration).answering()
    }

    /// The same with a standard error that nobody reads, and that is full from the beginning.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn start_unread(lab: &Lab, configuration: &str) -> Self {
        let (mut said, unread) = UnixStream::pair().expect("a standard error");
        said.set_nonblocking(true).expect("a socket that can be filled");
        while said.write(&[b'.'; 4096]).is_ok() {}
        said.set_nonblocking(false).expect("a socket that waits");
        let mut director = Self::spawn_to(lab, configuration, Some(OwnedFd::from(said).into()));
        // Without another end what it says would be an error.
        director._unread = Some(unread);
        director.answering()
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn answering(mut self) -> Self {
        let deadline = Instant::now() + PATIENCE;
        while self.ask::<Status>("status").is_err() {
            let ended = self.child.try_wait().expect("its end");
            assert!(ended.is_none(), "the director ended: {ended:?}:\n{}", self.log());
            assert!(Instant::now() < deadline, "the director does not answer:\n{}", self.log());
            std::thread::sleep(POLL);
        }
        self
    }

    /// Starts a director without waiting for it.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn spawn(lab: &Lab, configuration: &str) -> Self {
        Self::spawn_to(lab, configuration, None)
    }

    /// The same with further variables in its environment.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn spawn_with(lab: &Lab, configuration: &str, variables: &[(&str, &str)]) -> Self {
        Self::spawned(lab, configuration, None, variables)
    }

    fn spawn_to(lab: &Lab, configuration: &str, error: Option<Stdio>) -> Self {
        Self::spawned(lab, configuration, error, &[])
    }

    fn spawned(lab: &Lab, configuration: &str, error: Option<Stdio>, variables: &[(&str, &str)]) -> Self {
        let log = lab.path("log");
        let output = File::create(&log).expect("a log");
        let file = lab.write("shunt.toml", configuration);
        // It ends with the test's thread even when that cannot end it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(binary::shunt())
            .args(["run", "-c"])
            .arg(&file)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a log"))
            .stderr(error.unwrap_or_else(|| output.into()))
            .spawn()
            .expect("setpriv of util-linux");
        Self { child, socket: lab.socket(), log, file, _unread: None }
    }

    /// A start that must be refused: what it says, and that it ends with 1.
    ///
    /// # Panics
    /// When the director starts.
    #[must_use]
    pub fn refused(lab: &Lab, configuration: &str) -> String {
        let director = Self::spawn(lab, configuration);
        let log = director.log.clone();
        let status = director.ended();
        let said = std::fs::read_to_string(log).unwrap_or_default();
        assert_eq!(status.code(), Some(1), "{status}: {said}");
        said
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything about now.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn status(&self) -> Status {
        self.ask("status").unwrap_or_else(|error| panic!("status: {error}:\n{}", self.log()))
    }

    /// The counted reasons.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn drops(&self) -> Drops {
        self.ask("drops").unwrap_or_else(|error| panic!("drops: {error}:\n{}", self.log()))
    }

    /// Packets dropped for a reason.
    ///
    /// # Panics
    /// When there is no such reason.
    #[must_use]
    pub fn dropped(&self, reason: &str) -> u64 {
        let drops = self.drops();
        let found = drops.drops.iter().find(|count| count.reason == reason);
        found.unwrap_or_else(|| panic!("no reason {reason}")).count
    }

    /// All reasons that occurred, as `reason count`.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let occurred = self.drops().drops.into_iter().filter(|count| count.count > 0);
        occurred.map(|count| format!("{} {}", count.reason, count.count)).collect()
    }

    /// Waits until packets of a reason were dropped so often.
    pub fn wait_for_drops(&self, reason: &str, count: u64) {
        wait_for(&format!("{count} drops of {reason}"), || match self.dropped(reason) {
            found if found >= count => Ok(()),
            found => Err(format!("{found}; {:?}", self.reasons())),
        });
    }

    /// Waits until its status is as `wanted` has it.
    ///
    /// # Panics
    /// When it does not become so.
    pub fn wait_until(&self, what: &str, mut wanted: impl FnMut(&Status) -> bool) -> Status {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}: {status:#?}");
            std::thread::sleep(POLL);
        }
    }

    /// Waits until every neighbour that the configuration names is known and in use.
    pub fn wait_resolved(&self) -> Status {
        self.wait_until("neighbours", |status| {
            let mut reals = status.services.iter().flat_map(|service| &service.reals);
            reals.all(|real| real.next_hop != "unresolved")
                && !status.advice.iter().any(|line| line.contains("does not answer"))
        })
    }

    /// Waits until the books balance and nothing is on its way, then tells how they stand. A worker that waits for its
    /// CPU looks like one at rest, so it is looked at several times.
    pub fn settled(&self) -> Status {
        let (mut before, mut times) = (Status::default(), 0);
        self.wait_until("books that balance at rest", |status| {
            let at_rest = status.books == before.books && status.books.held == 0 && status.books.balanced;
            times = if at_rest { times + 1 } else { 0 };
            before = status.clone();
            times == SAME
        })
    }

    /// Waits until no more than `most` packet buffers are in use.
    pub fn wait_for_buffers(&self, most: u64) {
        self.wait_until(&format!("no more than {most} packet buffers in use"), |status| {
            buffers(status) <= most
        });
    }

    /// Asks for `/v1/WHAT`.
    ///
    /// # Errors
    /// The system's words, or the answer when it is none.
    pub fn ask<T: DeserializeOwned>(&self, what: &str) -> Result<T, String> {
        let mut stream = UnixStream::connect(&self.socket).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        let request = format!("GET /v1/{what} HTTP/1.1\r\nHost: shunt\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| answer.clone())?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(answer.clone());
        }
        serde_json::from_str(body).map_err(|error| format!("{error}: {answer}"))
    }

    /// A command of the operator's, such as `reload`, about this director.
    #[must_use]
    pub fn command(&self, lab: &Lab, words: &[&str]) -> Said {
        let socket = self.socket.to_string_lossy().into_owned();
        let words: Vec<&str> = words.iter().copied().chain(["-s", &socket]).collect();
        lab.run(binary::shunt(), &words)
    }

    /// Writes another configuration; nobody is told.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn rewrite(&self, configuration: &str) {
        std::fs::write(&self.file, configuration).expect("the configuration");
    }

    /// Rewrites the configuration and has it taken.
    ///
    /// # Panics
    /// When it is refused.
    pub fn reload(&self, lab: &Lab, configuration: &str) -> String {
        self.rewrite(configuration);
        let said = self.command(lab, &["reload"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        said.out
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("a director to signal");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn ended(mut self) -> ExitStatus {
        wait_for("the director's end", || self.child.try_wait().expect("its end").ok_or("it runs"))
    }

    /// Waits for its end while one of its threads is stopped.
    ///
    /// # Panics
    /// When it does not end.
    pub fn ended_with(mut self, frozen: &Frozen) -> ExitStatus {
        let deadline = Instant::now() + 3 * PATIENCE;
        loop {
            frozen.let_end();
            if let Some(status) = self.child.try_wait().expect("its end") {
                return status;
            }
            assert!(Instant::now() < deadline, "the director does not end:\n{}", self.log());
            std::thread::sleep(POLL);
        }
    }

    /// Waits until its log has these words: it is written by a thread of its own, a little later than things happen.
    ///
    /// # Panics
    /// When it does not get them.
    pub fn wait_logged(&self, words: &str) {
        wait_for(&format!("{words} in the log"), || {
            let log = self.log();
            if log.contains(words) { Ok(()) } else { Err(log) }
        });
    }

    /// Its log up to now, but for what is still to be written.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// How often the same status says that a director is at rest.
const SAME: u32 = 5;

/// A limit in a status.
///
/// # Panics
/// When there is none of this name.
#[must_use]
pub fn limit<'s>(status: &'s Status, name: &str) -> &'s Limit {
    status.limits.iter().find(|limit| limit.name == name).unwrap_or_else(|| panic!("no limit {name}"))
}

/// Packet buffers that the queues of so many workers at two NICs of `af_packet` have ready.
#[must_use]
pub const fn buffers_ready(workers: u64) -> u64 {
    workers * 2 * dpdk_sys::packet_socket::PLACES as u64
}

/// Packet buffers in use.
#[must_use]
pub fn buffers(status: &Status) -> u64 {
    limit(status, "packet buffers").used
}

/// The real server of this address in a status.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn real<'s>(status: &'s Status, address: &str) -> &'s Real {
    let mut reals = status.services.iter().flat_map(|service| &service.reals);
    reals.find(|real| real.address == address).unwrap_or_else(|| panic!("no real {address}"))
}

impl Drop for Director {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the director's log:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! Log lines are written by a thread of their own, so that nobody waits for whoever reads them: standard error may be a pipe whose reader
//! hangs, or a terminal that was stopped, and an advert must not be late for that.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shunt_model::notify::time_of;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::threads::channel::{Receiver, Sender, channel};
use crate::threads::{BEAT, Duty, Pulse};

pub mod repeats;

/// Bytes of lines that wait to be written; what has no room is lost and counted.
pub const WAITING_MAX: usize = 16 << 20;
/// How long the end of the process waits for lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which lines are written.
#[derive(Debug)]
pub struct Levels {
    /// As `tracing` has it.
    pub filter: EnvFilter,
    /// What is wrong with what was asked for, where something is: lines of level info and above are written then.
    pub odd: Option<String>,
}

impl Levels {
    /// Reads the variable `SHUNT_LOG`: a level, or a list of levels and `module=level`. None, or nothing in it, is info.
    #[must_use]
    pub fn of(asked: Option<&str>) -> Self {
        let asked = asked.map(str::trim).filter(|asked| !asked.is_empty()).unwrap_or("info");
        let words = asked.split(',').map(str::trim).filter(|word| !word.is_empty());
        let read = |word: &str| match word.split_once('=') {
            None => level(word).map(str::to_owned),
            Some((module, word)) => Some(format!("{}={}", module.trim(), level(word.trim())?)),
        };
        let words: Option<Vec<String>> = words.map(read).collect();
        let filter = words.and_then(|words| EnvFilter::builder().parse(words.join(",")).ok());
        let odd = filter.is_none().then(|| {
            format!(
                "SHUNT_LOG: no such level ({asked:?}): levels are error, warn, info, debug, trace and off: info holds: name one of these"
            )
        });
        Self { filter: filter.unwrap_or_else(|| EnvFilter::new("info")), odd }
    }
}

/// A level by the words that people use for it (syslog's among them).
fn level(word: &str) -> Option<&'static str> {
    Some(match &*word.to_ascii_lowercase() {
        "error" | "err" | "crit" | "critical" | "alert" | "emerg" | "fatal" | "1" => "error",
        "warn" | "warning" | "2" => "warn",
        "info" | "notice" | "informational" | "3" => "info",
        "debug" | "4" => "debug",
        "trace" | "all" | "5" => "trace",
        "off" | "none" | "0" => "off",
        _ => return None,
    })
}

enum Message {
    Line(Vec<u8>),
    /// All lines before this one are written.
    Flush(Sender<()>),
}

/// Where log lines go.
#[derive(Clone, Debug)]
pub struct Log {
    lines: Sender<Message>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Starts the thread that writes to `sink`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, inbox) = channel();
        let log = Self { lines, waiting: Arc::default(), lost: Arc::default() };
        let (waiting, lost) = (log.waiting.clone(), log.lost.clone());
        thread::Builder::new().name("shunt-log".to_owned()).spawn(move || {
            crate::rights::give_up_all();
            let pulse = Pulse::start("shunt-log", Duty::Tells);
            write(sink, &inbox, &waiting, &lost, || pulse.beat());
            pulse.done();
        })?;
        Ok(log)
    }

    /// Waits until all lines are written, but no longer than a second.
    ///
    /// False when they were not.
    pub fn flush(&self) -> bool {
        let (done, written) = channel();
        self.lines.send(Message::Flush(done)).is_ok() && written.recv_timeout(PATIENCE).is_ok()
    }

    fn take(&self, line: &[u8]) {
        let waiting = self.waiting.fetch_add(line.len(), Ordering::Relaxed);
        let taken =
            waiting + line.len() <= WAITING_MAX && self.lines.send(Message::Line(line.to_vec())).is_ok();
        if !taken {
            self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes lines until nobody is left to say any.
fn write(
    sink: impl Write,
    inbox: &Receiver<Message>,
    waiting: &AtomicUsize,
    lost: &AtomicU64,
    beat: impl Fn(),
) {
    let mut paper = Paper { sink, unwritten: 0, why: String::new() };
    loop {
        beat();
        let message = match inbox.try_recv() {
            Err(TryRecvError::Empty) => {
                paper.tell_lost(lost);
                // What could not be written is told as soon as there is room, also when nothing more is said.
                match inbox.recv_timeout(BEAT) {
                    Ok(message) => Some(message),
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => None,
                }
            }
            Err(TryRecvError::Disconnected) => None,
            Ok(message) => Some(message),
        };
        match message {
            Some(Message::Line(line)) => {
                paper.write(&line);
                waiting.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Some(Message::Flush(done)) => {
                paper.tell_lost(lost);
                let _ = done.send(());
            }
            None => return,
        }
    }
}

/// What lines are written on, and how many could not be.
struct Paper<W> {
    sink: W,
    unwritten: u64,
    why: String,
}

impl<W: Write> Paper<W> {
    /// Writes a line, or counts it.
    fn write(&mut self, line: &[u8]) {
        if self.unwritten == 0 || self.tell_unwritten() {
            self.put(line);
        } else {
            self.unwritten += 1;
        }
    }

    /// Tells that lines could not be written, when some could not and it can be told now.
    fn tell_unwritten(&mut self) -> bool {
        let (lost, why) = (std::mem::take(&mut self.unwritten), std::mem::take(&mut self.why));
        // Half of a line may stand there.
        let line = format!("\n{} WARN {lost} log lines were lost: they could not be written: {why}\n", now());
        let told = self.put(line.as_bytes());
        if !told {
            // The count of the line that failed is that of the lines before it.
            self.unwritten = lost;
        }
        told
    }

    /// Tells how many lines were lost, when some were: there is room again.
    fn tell_lost(&mut self, lost: &AtomicU64) {
        if self.unwritten > 0 && !self.tell_unwritten() {
            return;
        }
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let line =
                format!("{} WARN {count} log lines were lost: standard error was not read in time\n", now());
            if !self.put(line.as_bytes()) {
                self.unwritten = count;
            }
        }
    }

    fn put(&mut self, mut line: &[u8]) -> bool {
        while !line.is_empty() {
            match self.sink.write(line) {
                Ok(written @ 1..) => line = &line[written..],
                Ok(_) => return self.failed("nothing was taken".to_owned()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody made it so for himself: a terminal or a pipe that is shared.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return self.failed(error.to_string()),
            }
        }
        true
    }

    fn failed(&mut self, why: String) -> bool {
        self.unwritten += 1;
        self.why = why;
        false
    }
}

fn now() -> String {
    time_of(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
}

/// Each write is a line, as `tracing` makes them.
impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.take(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard};

    use super::*;

    /// A reader that reads while nobody holds its lock.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        fn read(&self) -> MutexGuard<'_, Vec<u8>> {
            self.0.lock().unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.read().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_order_and_before_the_end() {
        let sink = Sink::default();
        let log = Log::start(sink.clone()).unwrap();
        for line in ["one\n", "two\n", "three\n"] {
            log.make_writer().write_all(line.as_bytes()).unwrap();
        }
        log.flush();
        assert_eq!(*sink.read(), b"one\ntwo\nthree\n");
    }

    #[test]
    fn nobody_waits_for_a_reader_that_hangs_and_what_is_lost_is_told() {
        let sink = Sink::default();
        let log = Log::start(sink.clone()).unwrap();
        let line = vec![b'x'; 1 << 20];
        let hangs = sink.read();
        for _ in 0..WAITING_MAX / line.len() + 3 {
            log.make_writer().write_all(&line).unwrap();
        }
        assert_eq!(log.lost.load(Ordering::Relaxed), 3);
        drop(hangs);
        log.flush();
        log.make_writer().write_all(b"last\n").unwrap();
        log.flush();
        let read = sink.read();
        assert_eq!(read.len() - line.len() * (WAITING_MAX / line.len()), read.len() % line.len());
        let rest = String::from_utf8_lossy(&read[WAITING_MAX..]).into_owned();
        let (time, rest) = rest.split_at("2026-11-30T08:15:30Z".len());
        assert!(time.ends_with('Z'), "{time}");
        assert_eq!(rest, " WARN 3 log lines were lost: standard error was not read in time\nlast\n");
    }

    /// A disk that has room or not.
    #[derive(Clone, Default)]
    struct Disk {
        sink: Sink,
        full: Arc<std::sync::atomic::AtomicBool>,
    }

    impl Write for Disk {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            match self.full.load(Ordering::SeqCst) {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => self.sink.write(line),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_a_full_disk_did_not_take_are_told_when_there_is_room_again() {
        let disk = Disk::default();
        let log = Log::start(disk.clone()).unwrap();
        let say = |line: &str| {
            log.make_writer().write_all(line.as_bytes()).unwrap();
            log.flush();
        };
        say("before\n");
        disk.full.store(true, Ordering::SeqCst);
        for line in ["one\n", "two\n", "three\n"] {
            say(line);
        }
        disk.full.store(false, Ordering::SeqCst);
        // Nobody says anything more.
        let begin = std::time::Instant::now();
        while !disk.sink.read().ends_with(b"no storage space\n") && begin.elapsed() < Duration::from_secs(20)
        {
            thread::sleep(Duration::from_millis(10));
        }
        say("after\n");
        let text = String::from_utf8(disk.sink.read().clone()).unwrap();
        assert!(text.starts_with("before\n") && text.ends_with("\nafter\n"), "{text}");
        assert!(
            text.contains(" WARN 3 log lines were lost: they could not be written: no storage space\n"),
            "{text}"
        );
    }

    #[test]
    fn levels_are_read_as_people_write_them() {
        for (asked, filter, is_odd) in [
            (None, "info", false),
            (Some(""), "info", false),
            (Some("  "), "info", false),
            (Some("warning"), "warn", false),
            (Some("WARN"), "warn", false),
            (Some("err"), "error", false),
            (Some("debug"), "debug", false),
            (Some("off"), "off", false),
            (Some("waring"), "info", true),
            (Some("info,"), "info", false),
            (Some("warn,shunt::health=loud"), "info", true),
            (Some("warn, shunt::health=Debug"), "shunt::health=debug,warn", false),
        ] {
            let levels = Levels::of(asked);
            assert_eq!(levels.filter.to_string(), filter, "{asked:?}");
            assert_eq!(levels.odd.is_some(), is_odd, "{asked:?}");
        }
    }
}

//! Log lines are written by a thread of their own, so that nobody waits for whoever reads them: standard error may be a pipe whose reader
//! hangs, or a terminal that was stopped, and an advert must not be late for that.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that wait to be written; what has no room is lost and counted.
pub const WAITING_MAX: usize = 16 << 20;
/// How long the end of the process waits for lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);

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
        thread::Builder::new()
            .name("shunt-log".to_owned())
            .spawn(move || write(sink, &inbox, &waiting, &lost))?;
        Ok(log)
    }

    /// Waits until all lines are written, but no longer than a second.
    pub fn flush(&self) {
        let (done, written) = channel();
        if self.lines.send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(PATIENCE);
        }
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

/// Writes lines until nobody is left to say any. What cannot be written is nobody's loss: there is no other place to say so.
fn write(mut sink: impl Write, inbox: &Receiver<Message>, waiting: &AtomicUsize, lost: &AtomicU64) {
    loop {
        let message = match inbox.try_recv() {
            Err(TryRecvError::Empty) => {
                tell_lost(&mut sink, lost);
                inbox.recv().ok()
            }
            Err(TryRecvError::Disconnected) => None,
            Ok(message) => Some(message),
        };
        match message {
            Some(Message::Line(line)) => {
                let _ = sink.write_all(&line);
                waiting.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Some(Message::Flush(done)) => {
                tell_lost(&mut sink, lost);
                let _ = done.send(());
            }
            None => return,
        }
    }
}

/// Tells how many lines were lost, when some were: there is room again.
fn tell_lost(sink: &mut impl Write, lost: &AtomicU64) {
    let lost = lost.swap(0, Ordering::Relaxed);
    if lost > 0 {
        let _ = writeln!(sink, "{lost} log lines were lost: standard error was not read in time");
    }
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
        assert_eq!(rest, "3 log lines were lost: standard error was not read in time\nlast\n");
    }
}

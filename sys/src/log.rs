//! What DPDK says: every message goes to one sink, and what is said while a call fails becomes part of its error.

use std::cell::RefCell;
use std::ffi::c_char;
use std::fmt;
use std::sync::OnceLock;

use crate::ffi;

/// How serious a message is, in the words of `rte_log.h` (and of syslog).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `RTE_LOG_EMERG` to `RTE_LOG_ERR`: something does not work.
    Error,
    /// `RTE_LOG_WARNING`.
    Warning,
    /// `RTE_LOG_NOTICE` and `RTE_LOG_INFO`.
    Info,
    /// `RTE_LOG_DEBUG`.
    Debug,
}

/// Receives each line, without its line feed. It is called on the thread that logs, which may be any, and must not
/// call DPDK.
pub type LogSink = Box<dyn Fn(LogLevel, &str) + Send + Sync>;

/// Lines kept for the error of one failing call; what comes after is only counted by its absence.
const LINES_KEPT: usize = 8;

static SINK: OnceLock<LogSink> = OnceLock::new();

thread_local! {
    static CAPTURED: RefCell<Option<Vec<(LogLevel, String)>>> = const { RefCell::new(None) };
}

/// Sends DPDK's messages to `sink` instead of standard error. Only the first call counts; it returns whether this
/// was it. Call it before [`Eal::start`](crate::Eal::start) to miss nothing.
pub fn set_sink(sink: LogSink) -> bool {
    SINK.set(sink).is_ok()
}

/// What DPDK said while a call ran: shown after an error, as `: DPDK says: ...`, or as nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said(Vec<(LogLevel, String)>);

impl Said {
    /// Passes the lines on to the sink, for a call that went well.
    fn forward(self) {
        for (level, line) in &self.0 {
            deliver(*level, line);
        }
    }

    /// Leaves out lines that hold one of these texts, unless nothing would be left.
    pub(crate) fn without(mut self, texts: &[&str]) -> Said {
        let dull = |line: &str| texts.iter().any(|text| line.contains(text));
        if self.lines().any(|line| !dull(line)) {
            self.0.retain(|(_, line)| !dull(line));
        }
        self
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines, in order.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(_, line)| line.as_str())
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines().enumerate() {
            f.write_str(if index == 0 { ": DPDK says: " } else { "; " })?;
            f.write_str(line)?;
        }
        Ok(())
    }
}

/// Runs `call`; what DPDK says on this thread meanwhile goes to the sink if it succeeds and into the error otherwise.
pub(crate) fn listen<T, E>(call: impl FnOnce() -> Result<T, E>) -> Result<T, (E, Said)> {
    CAPTURED.with(|captured| *captured.borrow_mut() = Some(Vec::new()));
    let result = call();
    let said = Said(CAPTURED.with(|captured| captured.borrow_mut().take()).unwrap_or_default());
    match result {
        Ok(value) => {
            said.forward();
            Ok(value)
        }
        Err(error) => Err((error, said)),
    }
}

/// Makes DPDK send its messages here.
pub(crate) fn attach() {
    // SAFETY: rte_log.h: rte_openlog_stream may be called before rte_eal_init; the sink is a function that lives as
    // long as the program and accepts any bytes.
    unsafe { ffi::shim_log_to(Some(receive)) };
}

unsafe extern "C" fn receive(level: u32, text: *const c_char, length: usize) {
    // SAFETY: shim.h: text points at length bytes that stay valid during the call.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
    let level = match level {
        0..=ffi::RTE_LOG_ERR => LogLevel::Error,
        ffi::RTE_LOG_WARNING => LogLevel::Warning,
        ffi::RTE_LOG_NOTICE | ffi::RTE_LOG_INFO => LogLevel::Info,
        _ => LogLevel::Debug,
    };
    // A panic must not reach C; a sink that panics loses its line and nothing else.
    let _ = std::panic::catch_unwind(|| {
        for line in String::from_utf8_lossy(bytes).lines().map(str::trim).filter(|line| !line.is_empty()) {
            if !capture(level, line) {
                deliver(level, line);
            }
        }
    });
}

/// Keeps the line for the call that listens on this thread, if there is one.
fn capture(level: LogLevel, line: &str) -> bool {
    let kept = CAPTURED.try_with(|captured| match captured.try_borrow_mut() {
        Ok(mut captured) => match captured.as_mut() {
            Some(lines) => {
                if lines.len() < LINES_KEPT {
                    lines.push((level, line.to_owned()));
                }
                true
            }
            None => false,
        },
        Err(_) => false,
    });
    kept.unwrap_or(false)
}

fn deliver(level: LogLevel, line: &str) {
    match SINK.get() {
        Some(sink) => sink(level, line),
        None => eprintln!("{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(text: &str) {
        // SAFETY: text is valid for its length during the call.
        unsafe { receive(ffi::RTE_LOG_ERR, text.as_ptr().cast(), text.len()) };
    }

    #[test]
    fn a_failing_call_takes_what_was_said() {
        let failed: Result<(), _> = listen(|| {
            say("EAL: first\nEAL: second\n");
            Err(7)
        });
        let Err((error, said)) = failed else { panic!("the call failed") };
        assert_eq!(error, 7);
        assert_eq!(said.to_string(), ": DPDK says: EAL: first; EAL: second");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let failed: Result<(), _> = listen(|| {
            (0..100).for_each(|_| say("again\n"));
            Err(())
        });
        assert_eq!(failed.map_err(|(_, said)| said.lines().count()), Err(LINES_KEPT));
    }

    #[test]
    fn silence_adds_nothing_to_an_error() {
        assert_eq!(Said::default().to_string(), "");
    }
}

//! Writing to the terminal, the pipe or the file that standard output is: every command writes through here.
//!
//! What cannot be written is remembered, and [`finish`] makes it the command's failure. A reader that went away (`| head`) is no error.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Mutex;
use std::sync::PoisonError;

use serde::Serialize;

use super::Outcome;

/// Why something could not be written, the first time.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Writes a text and a line feed to standard output; false when nothing more can be written: its reader went away, or [`finish`] will
/// tell why.
pub fn say(text: &str) -> bool {
    write(format!("{text}\n").as_bytes())
}

/// Writes bytes to standard output; false as [`say`] says.
pub fn write(bytes: &[u8]) -> bool {
    let mut out = io::stdout().lock();
    // At once: what is left in the buffer until the end of the process would be lost without a word.
    note(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Remembers why something could not be written; false when it could not.
fn note(written: io::Result<()>) -> bool {
    match written {
        Ok(()) => true,
        Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => false,
        Err(error) => {
            FAILED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            false
        }
    }
}

/// Standard output for who writes bytes by himself.
#[derive(Debug)]
pub struct Out;

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut out = io::stdout().lock();
        let written = out.write_all(bytes).and_then(|()| out.flush());
        if note(written) { Ok(bytes.len()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The end of a command: where not all could be written, that is told and the answer is no.
#[must_use]
pub fn finish(outcome: Outcome) -> Outcome {
    note(io::stdout().lock().flush());
    let failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(error) = failed else { return outcome };
    complain(&format!(
        "shunt: standard output: not all could be written ({error}): make room, or write elsewhere, and run it again"
    ));
    if outcome == Outcome::Done { Outcome::No } else { outcome }
}

/// Writes JSON as it came, with a line feed behind it; false as [`say`] says.
pub fn say_bytes(json: &[u8]) -> bool {
    write(json) && (json.ends_with(b"\n") || write(b"\n"))
}

/// Writes a text and a line feed to standard error.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes a value as indented JSON to standard output; false as [`say`] says.
pub fn say_json(value: &impl Serialize) -> bool {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say(&text),
        Err(error) => {
            complain(&format!("shunt: the answer cannot be written as JSON ({error})"));
            false
        }
    }
}

/// True when a person reads standard output and wants colour (<https://no-color.org>).
#[must_use]
pub fn colour() -> bool {
    is_terminal() && wanted()
}

/// True when a person reads standard error and wants colour.
#[must_use]
pub fn colour_of_errors() -> bool {
    io::stderr().is_terminal() && wanted()
}

fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// True when standard output is a terminal.
#[must_use]
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

//! Writing to the terminal, the pipe or the file that standard output is.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

/// Writes a text and a line feed to standard output; false when its reader went away (`| head`), which is no error.
pub fn say(text: &str) -> bool {
    write(format!("{text}\n").as_bytes())
}

/// Writes bytes to standard output; false when its reader went away.
pub fn write(bytes: &[u8]) -> bool {
    std::io::stdout().lock().write_all(bytes).is_ok()
}

/// Writes JSON as it came, with a line feed behind it.
pub fn say_bytes(json: &[u8]) {
    if write(json) && !json.ends_with(b"\n") {
        write(b"\n");
    }
}

/// Writes a text and a line feed to standard error.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes a value as indented JSON to standard output.
pub fn say_json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            say(&text);
        }
        Err(error) => complain(&format!("shunt: the answer cannot be written as JSON ({error})")),
    }
}

/// True when a person reads standard output and wants colour (<https://no-color.org>).
#[must_use]
pub fn colour() -> bool {
    is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// True when standard output is a terminal.
#[must_use]
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

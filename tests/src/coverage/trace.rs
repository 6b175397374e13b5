//! Where the pieces of code begin that an emulated processor runs.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::kernel::guest::{Guest, Start};
use crate::kernel::{Failed, Image};

/// What was said is read when nothing more came for so long.
const QUIET: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
struct Read {
    begins: BTreeSet<u64>,
    lines: u64,
}

/// Reads what the emulator says until it has ended.
#[derive(Debug)]
pub struct Trace {
    read: Arc<Mutex<Read>>,
    reader: JoinHandle<()>,
}

impl Trace {
    /// Starts a guest from the saved state whose emulator tells what runs between these addresses.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(image: &Image, (begin, end): (u64, u64)) -> Result<(Guest, Self), Failed> {
        let range = format!("{begin:#x}..{end:#x}");
        let (guest, said) = Guest::start_traced(image, Start::Saved, &range)?;
        let read = Arc::<Mutex<Read>>::default();
        let taken = read.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(said).split(b'\n').map_while(Result::ok) {
                let mut read = lock(&taken);
                read.lines += 1;
                read.begins.extend(address(&line));
            }
        });
        Ok((guest, Self { read, reader }))
    }

    /// Forgets what ran until now: code that ran once may have given its place to other code.
    pub fn forget(&self) {
        let mut lines = None;
        loop {
            let before = lines.replace(lock(&self.read).lines);
            if before == lines {
                break;
            }
            // The emulator cannot be asked whether it has said all.
            std::thread::sleep(QUIET);
        }
        lock(&self.read).begins.clear();
    }

    /// The addresses; the guest must have ended.
    ///
    /// # Errors
    /// When reading them failed.
    pub fn end(self) -> Result<BTreeSet<u64>, Failed> {
        self.reader.join().map_err(|_| Failed("reading the trace failed".to_owned()))?;
        Ok(std::mem::take(&mut lock(&self.read).begins))
    }
}

fn lock(read: &Mutex<Read>) -> MutexGuard<'_, Read> {
    read.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of a line `Trace 0: 0x7f… [cs_base/pc/flags/cflags] …` the pc.
fn address(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line.strip_prefix(b"Trace ")?).ok()?;
    let (_, inside) = text.split_once('[')?;
    u64::from_str_radix(inside.split('/').nth(1)?, 16).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_has_an_address() {
        let line = b"Trace 0: 0x7f5f2c0000c0 [0000000000000000/ffffffffc0a01234/0x0040c0b3/ff020000] ";
        assert_eq!(super::address(line), Some(0xffff_ffff_c0a0_1234));
        assert_eq!(super::address(b"cpu_io_recompile: rewound execution of TB"), None);
    }
}

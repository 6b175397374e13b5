//! Where the pieces of code begin that an emulated processor runs.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::ChildStderr;
use std::thread::JoinHandle;

use crate::kernel::guest::{Guest, Start};
use crate::kernel::{Failed, Image};

/// Reads what the emulator says until it has ended.
#[derive(Debug)]
pub struct Trace {
    reader: JoinHandle<BTreeSet<u64>>,
}

impl Trace {
    /// Starts a guest from the saved state whose emulator tells what runs between these addresses.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(image: &Image, (begin, end): (u64, u64)) -> Result<(Guest, Self), Failed> {
        let range = format!("{begin:#x}..{end:#x}");
        let (guest, said): (Guest, ChildStderr) = Guest::start_traced(image, Start::Saved, &range)?;
        let lines = BufReader::new(said).split(b'\n').map_while(Result::ok);
        Ok((guest, Self { reader: std::thread::spawn(|| begins(lines)) }))
    }

    /// The addresses; the guest must have ended.
    ///
    /// # Errors
    /// When reading them failed.
    pub fn end(self) -> Result<BTreeSet<u64>, Failed> {
        self.reader.join().map_err(|_| Failed("reading the trace failed".to_owned()))
    }
}

/// Of each piece, `IN: ` and then its instructions line by line, the first address.
fn begins(lines: impl Iterator<Item = Vec<u8>>) -> BTreeSet<u64> {
    let mut begins = BTreeSet::new();
    let mut is_first = false;
    for line in lines {
        if line.starts_with(b"IN:") {
            is_first = true;
        } else if std::mem::take(&mut is_first) {
            begins.extend(address(&line));
        }
    }
    begins
}

/// Of a line `0xffffffffc0a01234:  55   pushq %rbp` the address.
fn address(line: &[u8]) -> Option<u64> {
    let (address, _) = std::str::from_utf8(line).ok()?.split_once(':')?;
    u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_piece_begins_with_its_first_instruction() {
        let said = "----------------
IN: 
0xffffffffc0a01234:  55                       pushq    %rbp
0xffffffffc0a01235:  c3                       retq     

----------------
IN: ip_vs_in
0xffffffffc0a02000:  eb fe                    jmp      0xffffffffc0a02000
";
        let lines = said.lines().map(|line| line.as_bytes().to_vec());
        assert_eq!(
            super::begins(lines).into_iter().collect::<Vec<_>>(),
            [0xffff_ffff_c0a0_1234, 0xffff_ffff_c0a0_2000]
        );
    }
}

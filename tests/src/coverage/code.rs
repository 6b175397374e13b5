//! The blocks of a module's code: what runs from its first instruction to its last, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::kernel::Failed;

/// A block: where it begins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The module.
    pub module: String,
    /// The function.
    pub function: String,
    /// How far into the function, in bytes.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}+{:#x}", self.module, self.function, self.offset)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Goes on with the next one.
    Straight,
    /// The code that an emulator translates at once ends here.
    Branch,
    /// So does all of what goes on from here.
    End,
    /// Fills up.
    Filling,
}

#[derive(Clone, Debug)]
struct Instruction {
    kind: Kind,
    target: Option<u64>,
}

#[derive(Debug, Default)]
struct Section {
    instructions: BTreeMap<u64, Instruction>,
    functions: BTreeMap<u64, String>,
    /// Where blocks begin.
    blocks: BTreeSet<u64>,
    end: u64,
}

/// The code of modules.
#[derive(Debug, Default)]
pub struct Code(BTreeMap<(String, String), Section>);

/// The names of the modules in a folder.
///
/// # Errors
/// When it cannot be read.
pub fn names(folder: &Path) -> Result<Vec<String>, Failed> {
    let files = fs::read_dir(folder).map_err(Failed::because(folder.display()))?;
    let name = |file: std::io::Result<fs::DirEntry>| {
        let name = file.ok()?.file_name().into_string().ok()?;
        Some(name.strip_suffix(".ko")?.to_owned())
    };
    let mut names: Vec<String> = files.filter_map(name).collect();
    names.sort_unstable();
    Ok(names)
}

impl Code {
    /// That of all modules in a folder.
    ///
    /// # Errors
    /// When objdump (binutils) does not read one.
    pub fn read(folder: &Path) -> Result<Self, Failed> {
        let mut code = Self::default();
        for name in names(folder)? {
            let file = folder.join(format!("{name}.ko"));
            let said = Command::new("objdump")
                .args(["-d", "-r", "--no-show-raw-insn", "-j", ".text", "-j", ".text.unlikely"])
                .arg(&file)
                .output()
                .map_err(Failed::because("objdump"))?;
            if !said.status.success() {
                let why = String::from_utf8_lossy(&said.stderr);
                return Err(Failed(format!("objdump {}: {why}", file.display())));
            }
            code.take(&name, &String::from_utf8_lossy(&said.stdout));
        }
        Ok(code)
    }

    fn take(&mut self, module: &str, text: &str) {
        let mut sections: Vec<(String, Section)> = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("Disassembly of section ") {
                sections.push((name.trim_end_matches(':').to_owned(), Section::default()));
            } else if let Some((_, section)) = sections.last_mut() {
                section.take(line);
            }
        }
        for (name, mut section) in sections {
            section.find_blocks();
            self.0.insert((module.to_owned(), name), section);
        }
    }

    /// Bytes of a section.
    #[must_use]
    pub fn size(&self, module: &str, section: &str) -> u64 {
        self.section(module, section).map_or(0, |section| section.end)
    }

    fn section(&self, module: &str, section: &str) -> Option<&Section> {
        self.0.get(&(module.to_owned(), section.to_owned()))
    }

    /// All blocks.
    #[must_use]
    pub fn blocks(&self) -> BTreeSet<Place> {
        let of = |((module, _), section): (&(String, String), &Section)| {
            section.blocks.iter().filter_map(|at| section.place(module, *at)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }

    /// The blocks that run when code that was translated at once begins here.
    #[must_use]
    pub fn run_from(&self, module: &str, section: &str, begin: u64) -> Vec<Place> {
        let Some(section) = self.section(module, section) else { return Vec::new() };
        let mut ran = Vec::new();
        for (at, instruction) in section.instructions.range(begin..) {
            if section.blocks.contains(at) {
                ran.extend(section.place(module, *at));
            }
            if matches!(instruction.kind, Kind::Branch | Kind::End) {
                break;
            }
        }
        ran
    }
}

impl Section {
    /// A line of objdump's.
    fn take(&mut self, line: &str) {
        if let Some((address, name)) = line.split_once(" <").filter(|_| line.ends_with(">:")) {
            if let Ok(address) = u64::from_str_radix(address, 16) {
                self.functions.insert(address, name.trim_end_matches(">:").to_owned());
            }
            return;
        }
        let Some((address, rest)) = line.split_once(':') else { return };
        let Ok(address) = u64::from_str_radix(address.trim(), 16) else { return };
        let words: Vec<&str> = rest.split_whitespace().collect();
        match words[..] {
            // A relocation: what it speaks of is elsewhere.
            [kind, symbol, ..] if kind.starts_with("R_X86_64") => self.relocate(symbol),
            [mnemonic, ..] => {
                let instruction = read(mnemonic, &words[1..]);
                self.instructions.insert(address, instruction);
                self.end = address + 1;
            }
            [] => {}
        }
    }

    fn relocate(&mut self, symbol: &str) {
        let Some(mut last) = self.instructions.last_entry() else { return };
        let instruction = last.get_mut();
        if symbol.starts_with("__fentry__") {
            // Patched out when the module is loaded.
            instruction.kind = Kind::Straight;
        }
        instruction.target = None;
    }

    fn find_blocks(&mut self) {
        let mut blocks: BTreeSet<u64> = self.functions.keys().copied().collect();
        let mut before = None;
        for (at, instruction) in &self.instructions {
            if before == Some(Kind::Branch) || before == Some(Kind::End) {
                blocks.insert(*at);
            }
            blocks.extend(instruction.target);
            before = Some(instruction.kind);
        }
        // What fills up between functions never runs, and a trap is the end of a kernel that is wrong.
        blocks.retain(|at| {
            self.instructions.get(at).is_some_and(|instruction| instruction.kind != Kind::Filling)
        });
        self.blocks = blocks;
    }

    fn place(&self, module: &str, at: u64) -> Option<Place> {
        let (begin, function) = self.functions.range(..=at).next_back()?;
        Some(Place { module: module.to_owned(), function: function.clone(), offset: at - begin })
    }
}

fn read(mnemonic: &str, arguments: &[&str]) -> Instruction {
    let kind = match mnemonic {
        "ret" | "jmp" | "ud2" => Kind::End,
        "int3" | "nop" | "nopw" | "nopl" | "xchg" if mnemonic != "xchg" || arguments == ["%ax,%ax"] => {
            Kind::Filling
        }
        "cs" | "data16" if arguments.iter().any(|word| word.starts_with("nop")) => Kind::Filling,
        "call" | "loop" | "iret" | "syscall" | "hlt" => Kind::Branch,
        jump if jump.starts_with('j') => Kind::Branch,
        _ => Kind::Straight,
    };
    let jumps = mnemonic.starts_with('j');
    let target = arguments.first().filter(|_| jumps).and_then(|word| u64::from_str_radix(word, 16).ok());
    let kind = if mnemonic == "ud2" { Kind::Filling } else { kind };
    Instruction { kind, target }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
Disassembly of section .text:

0000000000000000 <first>:
   0:\tcall   5 <first+0x5>
\t\t\t1: R_X86_64_PLT32\t__fentry__-0x4
   5:\ttest   %edi,%edi
   7:\tje     12 <first+0x12>
   9:\tcall   e <first+0xe>
\t\t\ta: R_X86_64_PLT32\tother-0x4
   e:\tjmp    13 <first+0x13>
\t\t\tf: R_X86_64_PLT32\t__x86_return_thunk-0x4
  12:\tpush   %rax
  13:\tjmp    18 <first+0x18>
\t\t\t14: R_X86_64_PLT32\t__x86_return_thunk-0x4
  18:\tint3
  19:\tnopl   0x0(%rax)

0000000000000020 <second>:
  20:\tret
";

    fn offsets(places: impl IntoIterator<Item = Place>) -> Vec<(String, u64)> {
        places.into_iter().map(|place| (place.function, place.offset)).collect()
    }

    #[test]
    fn blocks_end_where_code_branches_and_begin_where_it_is_led() {
        let mut code = Code::default();
        code.take("m", TEXT);
        let first = |at| ("first".to_owned(), at);
        let all = [first(0), first(9), first(0xe), first(0x12), ("second".to_owned(), 0)];
        assert_eq!(offsets(code.blocks()), all);
        assert_eq!(offsets(code.run_from("m", ".text", 0)), [first(0)]);
        assert_eq!(offsets(code.run_from("m", ".text", 0x12)), [first(0x12)]);
        // In the midst of an instruction that was patched: from the next one on.
        assert_eq!(offsets(code.run_from("m", ".text", 0xb)), [first(0xe)]);
        assert_eq!(code.run_from("m", ".data", 0), []);
    }
}

//! How much of the kernel's own IPVS a scenario reaches: blocks of its modules' code that ran while the scenario was played.
//!
//! The guest's processor is emulated, and says where each piece of code that it runs begins ([`trace`]). Which blocks of which functions
//! lie behind that is read from the modules themselves ([`code`]). What no scenario can reach is told by [`excluded`].

pub mod code;
pub mod excluded;
pub mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::kernel::guest::{Guest, Start};
use crate::kernel::{Failed, Image, Setup, play_in};
use crate::oracle::scenario::{Recording, Scenario};
use code::{Code, Place};
use trace::Trace;

/// How far modules may lie from where they were in another guest.
const MARGIN: u64 = 16 << 20;

/// The IPVS modules of a kernel.
#[derive(Debug)]
pub struct Modules {
    code: Code,
    /// What loads all of them in a guest and says where they are.
    load: String,
    /// Addresses between which they lie in every guest.
    range: (u64, u64),
}

impl Modules {
    /// Those of a guest's kernel.
    ///
    /// # Errors
    /// When the guest does not answer, or the modules cannot be read.
    pub fn of(image: &Image) -> Result<Self, Failed> {
        let mut guest = Guest::start(image, Start::Saved)?;
        let release = guest.command("uname -r")?.0;
        let folder = Path::new("/lib/modules").join(release.trim()).join("kernel/net/netfilter/ipvs");
        let code = Code::read(&folder)?;
        let load = load(&folder)?;
        let sections = Sections::of(&mut guest, &load, &code)?;
        let begin = sections.0.keys().next().copied().unwrap_or_default();
        let end = sections.0.values().map(|section| section.end).max().unwrap_or_default();
        Ok(Self { code, load, range: (begin - MARGIN, end + MARGIN) })
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> &Code {
        &self.code
    }

    /// Plays a scenario, and tells which blocks of the modules ran after they were loaded.
    ///
    /// # Errors
    /// As [`crate::kernel::play`].
    pub fn play(
        &self,
        image: &Image,
        scenario: &Scenario,
        setup: Setup,
    ) -> Result<(Recording, BTreeSet<Place>), Failed> {
        let (mut guest, trace) = Trace::start(image, self.range)?;
        let sections = Sections::of(&mut guest, &self.load, &self.code)?;
        trace.forget();
        let recording = play_in(guest, scenario, setup)?;
        Ok((recording, sections.blocks(&self.code, &trace.end()?)))
    }
}

/// The command that loads all modules of a folder.
fn load(folder: &Path) -> Result<String, Failed> {
    let names = code::names(folder)?.join(" ");
    Ok(format!(
        "for name in {names}; do modprobe $name; done; \
         for module in /sys/module/ip_vs*; do for section in .text .text.unlikely; do \
         [ ! -e $module/sections/$section ] || \
         echo ${{module##*/}} $section $(cat $module/sections/$section); done; done"
    ))
}

#[derive(Debug)]
struct Section {
    end: u64,
    module: String,
    name: String,
}

/// Where code lies in a guest, by the address where it begins.
#[derive(Debug)]
struct Sections(BTreeMap<u64, Section>);

impl Sections {
    fn of(guest: &mut Guest, load: &str, code: &Code) -> Result<Self, Failed> {
        let (text, status) = guest.command(load)?;
        let wrong =
            |line: &str| Failed(format!("where the modules of IPVS are: {line:?} (exit status {status})"));
        let mut sections = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [module, name, address] = words[..] else { return Err(wrong(line)) };
            let begin = u64::from_str_radix(address.trim_start_matches("0x"), 16).map_err(|_| wrong(line))?;
            let end = begin + code.size(module, name);
            sections.insert(begin, Section { end, module: module.to_owned(), name: name.to_owned() });
        }
        if sections.is_empty() { Err(wrong(&text)) } else { Ok(Self(sections)) }
    }

    /// The blocks that code which begins at these addresses runs through.
    fn blocks(&self, code: &Code, begins: &BTreeSet<u64>) -> BTreeSet<Place> {
        let of = |&begin: &u64| {
            let (start, section) = self.0.range(..=begin).next_back()?;
            let inside = begin < section.end;
            inside.then(|| code.run_from(&section.module, &section.name, begin - start))
        };
        begins.iter().filter_map(of).flatten().collect()
    }
}

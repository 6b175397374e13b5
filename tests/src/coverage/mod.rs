//! How much of the kernel's own IPVS a scenario reaches: blocks of its modules' code that ran while the scenario was played.
//!
//! The guest's processor is emulated, and says where each piece of code that it runs begins ([`trace`]). Which blocks of which functions
//! lie behind that is read from the modules themselves ([`code`]). What no scenario can reach is told by [`excluded`];
//! [`reached`] adds several runs up.

pub mod code;
pub mod excluded;
pub mod reached;
pub mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::kernel::guest::{Guest, Start};
use crate::kernel::{Failed, Image, Setup, play_in};
use crate::oracle::scenario::{Recording, Scenario};
use code::{Code, Place};
use trace::Trace;

/// The IPVS modules of a kernel.
#[derive(Debug)]
pub struct Modules {
    code: Code,
    /// A guest that has all of them loaded.
    image: Image,
    sections: Sections,
}

impl Modules {
    /// Those of a guest's kernel.
    ///
    /// # Errors
    /// When the guest does not answer, or the modules cannot be read.
    pub fn of(image: &Image) -> Result<Self, Failed> {
        let release = Guest::start(image, Start::Saved)?.command("uname -r")?.0;
        let folder = Path::new("/lib/modules").join(release.trim()).join("kernel/net/netfilter/ipvs");
        let code = Code::read(&folder)?;
        let names = code::names(&folder)?.join(" ");
        let load = format!("for name in {names}; do modprobe $name || exit; done");
        let image = image.after("-modules", load)?;
        let sections = Sections::of(&mut Guest::start(&image, Start::Saved)?, &code)?;
        Ok(Self { code, image, sections })
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
    pub fn play(&self, scenario: &Scenario, setup: Setup) -> Result<(Recording, BTreeSet<Place>), Failed> {
        let (guest, trace) = Trace::start(&self.image, self.sections.range())?;
        let recording = play_in(guest, scenario, setup)?;
        Ok((recording, self.sections.blocks(&self.code, &trace.end()?)))
    }
}

/// Says where all modules lie: a name, a section and its address in each line.
const SECTIONS: &str = "for module in /sys/module/ip_vs*; do for section in .text .text.unlikely; do \
     [ ! -e $module/sections/$section ] || \
     echo ${module##*/} $section $(cat $module/sections/$section); done; done";

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
    fn of(guest: &mut Guest, code: &Code) -> Result<Self, Failed> {
        let (text, status) = guest.command(SECTIONS)?;
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

    /// Addresses between which they lie.
    fn range(&self) -> (u64, u64) {
        let begin = self.0.keys().next().copied().unwrap_or_default();
        (begin, self.0.values().map(|section| section.end).max().unwrap_or_default())
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

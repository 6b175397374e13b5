//! The blocks that scenarios reached, and a file in which those of several runs add up.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::code::Place;
use crate::kernel::Failed;

/// What is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A recording of the oracle.
    Recordings,
    /// A random case.
    Random,
}

/// The blocks that were reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// By the recordings.
    pub recordings: BTreeSet<Place>,
    /// By random cases.
    pub random: BTreeSet<Place>,
}

impl Reached {
    /// What a file has; nothing where there is none yet.
    ///
    /// # Errors
    /// When it cannot be read, or has a block that this code does not have: it is of another kernel.
    pub fn read(file: &Path, code: &BTreeSet<Place>) -> Result<Self, Failed> {
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            read => read.map_err(Failed::because(file.display()))?,
        };
        let mut reached = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let (from, place) = parse(line).filter(|(_, place)| code.contains(place)).ok_or_else(|| {
                let place = format!("{}:{number}: {line:?}", file.display());
                Failed(format!("{place} is no block of this kernel's modules: give another file to --keep"))
            })?;
            reached.add(from, [place]);
        }
        Ok(reached)
    }

    /// Writes it to a file, line by line: by what, and where the block begins.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &Path) -> Result<(), Failed> {
        let mut text = String::new();
        for (word, places) in [("recordings", &self.recordings), ("random", &self.random)] {
            for place in places {
                // To a string it cannot fail.
                let _ = writeln!(text, "{word} {place}");
            }
        }
        fs::write(file, text).map_err(Failed::because(file.display()))
    }

    /// Adds blocks.
    pub fn add(&mut self, from: From, places: impl IntoIterator<Item = Place>) {
        match from {
            From::Recordings => self.recordings.extend(places),
            From::Random => self.random.extend(places),
        }
    }

    /// How many blocks were reached by either.
    #[must_use]
    pub fn count(&self) -> usize {
        self.recordings.union(&self.random).count()
    }
}

fn parse(line: &str) -> Option<(From, Place)> {
    let (word, place) = line.split_once(' ')?;
    let from = match word {
        "recordings" => From::Recordings,
        "random" => From::Random,
        _ => return None,
    };
    let (module, rest) = place.split_once(':')?;
    let (function, offset) = rest.rsplit_once("+0x")?;
    let offset = u64::from_str_radix(offset, 16).ok()?;
    Some((from, Place { module: module.to_owned(), function: function.to_owned(), offset }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(function: &str, offset: u64) -> Place {
        Place { module: "ip_vs".to_owned(), function: function.to_owned(), offset }
    }

    #[test]
    fn what_is_kept_is_read_again_and_another_kernels_is_refused() {
        let file = std::env::temp_dir().join(format!("shunt-reached-{}", std::process::id()));
        let code = BTreeSet::from([place("a", 0), place("b.cold", 0x1f)]);
        assert_eq!(Reached::read(&file, &code).expect("no file has nothing"), Reached::default());
        let mut reached = Reached::default();
        reached.add(From::Recordings, [place("a", 0)]);
        reached.add(From::Random, code.clone());
        reached.write(&file).expect("written");
        let again = Reached::read(&file, &code);
        let other = Reached::read(&file, &BTreeSet::from([place("a", 0)]));
        fs::remove_file(&file).expect("removed");
        assert_eq!(again.expect("read"), reached);
        assert_eq!(reached.count(), 2);
        let said = other.expect_err("it is of another kernel").to_string();
        assert!(said.contains(":3: \"random ip_vs:b.cold+0x1f\""), "{said}");
    }
}

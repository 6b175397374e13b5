//! The files that an import reads.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use shunt_model::ipvsadm::names::Services;
use shunt_model::ipvsadm::table::Protocol;

/// Where files come from: the disk, or a test's own.
pub trait Files {
    /// The text of a file; UTF-8, or else Latin-1.
    ///
    /// # Errors
    /// What keeps it from being read.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// What a pattern names, as glob(3) finds it, with or without csh's braces.
    fn matching(&self, pattern: &str, braces: bool) -> Vec<PathBuf>;

    /// True for a file that is none to be run, which is what keepalived includes.
    fn is_plain(&self, _path: &Path) -> bool {
        true
    }

    /// The addresses that a name has on this machine now; none where nobody is asked.
    fn addresses(&self, _name: &str) -> Vec<IpAddr> {
        Vec::new()
    }

    /// True when this machine has such a user.
    fn has_user(&self, name: &str) -> bool {
        name != super::keepalived::SCRIPT_USER
    }

    /// True when a path leads to a program that can be started.
    fn is_program(&self, _path: &Path) -> bool {
        true
    }

    /// The interfaces of this machine, each with one of its addresses but for link-local ones; none where nobody is asked.
    fn interfaces(&self) -> Vec<(String, IpNet)> {
        Vec::new()
    }

    /// Whether this machine has an address.
    fn is_own(&self, _address: IpAddr) -> bool {
        false
    }

    /// The routers of this machine's default routes, with their interfaces; none where nobody is asked.
    fn routers(&self) -> Vec<(String, IpAddr)> {
        Vec::new()
    }
}

/// The largest file that is imported, in bytes.
pub const FILE_MAX: u64 = 16 << 20;

/// A port, by its number or by its name in this machine's services(5).
#[must_use]
pub fn l4_port(word: &str, udp: bool, files: &dyn Files) -> Option<u16> {
    word.parse().ok().or_else(|| {
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        Services::read(&files.read(Path::new("/etc/services")).ok()?).port(word, protocol)
    })
}

/// A line without what stands behind a `#` that is in no quotation marks.
#[must_use]
pub fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let end = line.char_indices().find(|(_, c)| {
        quoted ^= *c == '"';
        *c == '#' && !quoted
    });
    end.map_or(line, |(at, _)| &line[..at])
}

/// UTF-8, or else Latin-1, as comments of old files are.
#[must_use]
pub fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| error.as_bytes().iter().copied().map(char::from).collect())
}

/// What csh's braces in a pattern stand for, as glob(3) reads them: `a{b,{c,d}}` for `ab`, `ac` and `ad`. A brace behind a backslash is
/// none, and one that is not closed neither.
#[must_use]
pub fn braces(pattern: &str) -> Vec<String> {
    let mut marks = Marks(pattern.bytes().enumerate());
    let Some((open, _)) = marks.by_ref().find(|(_, byte)| *byte == b'{') else {
        return vec![pattern.to_owned()];
    };
    let mut depth = 1;
    let mut parts = vec![open + 1];
    for (at, byte) in marks {
        match byte {
            b'{' => depth += 1,
            b',' if depth == 1 => parts.push(at + 1),
            b'}' if depth == 1 => {
                parts.push(at + 1);
                let (before, after) = (&pattern[..open], &pattern[at + 1..]);
                let choices = parts.windows(2).map(|pair| &pattern[pair[0]..pair[1] - 1]);
                return choices.flat_map(|choice| braces(&format!("{before}{choice}{after}"))).collect();
            }
            b'}' => depth -= 1,
            _ => {}
        }
    }
    vec![pattern.to_owned()]
}

/// The bytes of a pattern that are not behind a backslash, with their places.
struct Marks<'p>(std::iter::Enumerate<std::str::Bytes<'p>>);

impl Iterator for Marks<'_> {
    type Item = (usize, u8);

    fn next(&mut self) -> Option<(usize, u8)> {
        let (at, byte) = self.0.next()?;
        if byte == b'\\' {
            self.0.next();
        }
        Some((at, byte))
    }
}

#[cfg(test)]
mod tests {
    use super::braces;

    #[test]
    fn braces_stand_for_all_choices() {
        assert_eq!(
            braces("/etc/{a/{,b,c},d}.conf"),
            ["/etc/a/.conf", "/etc/a/b.conf", "/etc/a/c.conf", "/etc/d.conf"]
        );
        assert_eq!(braces("a{b"), ["a{b"]);
        assert_eq!(braces("{a}{b,c}"), ["ab", "ac"]);
        assert_eq!(braces("a\\{b,c}{d,e\\,f}"), ["a\\{b,c}d", "a\\{b,c}e\\,f"]);
    }
}

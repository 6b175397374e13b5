//! glob(3): what the C library makes of patterns, to the last bracket.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use nix::libc;

/// The result of a call, which is given back to the C library.
struct Found(libc::glob_t);

impl Drop for Found {
    fn drop(&mut self) {
        // SAFETY: glob(3): globfree is for what a call of glob filled in.
        unsafe { libc::globfree(&mut self.0) }
    }
}

/// The paths that match a pattern, in the order of glob(3); with `braces`, what csh's braces stand for one after another (`GLOB_BRACE`).
/// None match a pattern with a zero byte.
///
/// # Errors
///
/// Without memory.
pub fn glob(pattern: &OsStr, braces: bool) -> io::Result<Vec<PathBuf>> {
    let Ok(pattern) = CString::new(pattern.as_bytes()) else { return Ok(Vec::new()) };
    let flags = if braces { libc::GLOB_BRACE } else { 0 };
    let mut found = MaybeUninit::zeroed();
    // SAFETY: glob(3): the pattern ends in a zero byte, no function is told of errors, and the result is a structure to be filled in.
    let code = unsafe { libc::glob(pattern.as_ptr(), flags, None, found.as_mut_ptr()) };
    // SAFETY: it was zero before, which is a value of it, and holds what the call wrote.
    let found = Found(unsafe { found.assume_init() });
    match code {
        0 => {}
        libc::GLOB_NOMATCH => return Ok(Vec::new()),
        code => return Err(io::Error::other(format!("glob(3) returned {code}"))),
    }
    let path = |number: usize| {
        // SAFETY: glob(3): gl_pathv has gl_pathc strings, which live until globfree.
        let path = unsafe { CStr::from_ptr(*found.0.gl_pathv.add(number)) };
        PathBuf::from(OsStr::from_bytes(path.to_bytes()))
    };
    Ok((0..found.0.gl_pathc).map(path).collect())
}

/// A path as a pattern that matches it alone.
#[must_use]
pub fn escape(path: &OsStr) -> std::ffi::OsString {
    let mut pattern = Vec::with_capacity(path.len());
    for &byte in path.as_bytes() {
        if br"*?[]{},\-!^".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    std::os::unix::ffi::OsStringExt::from_vec(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_find_what_the_shell_finds_and_escaped_ones_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let odd = ["a", "b", "B", "1", ".hidden", "x[1]", "x{a,b}", "back\\slash", "st*r", "-"];
        for name in odd {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = |pattern: &OsStr, braces| {
            let found = glob(folder.path().join(pattern).as_os_str(), braces).unwrap();
            found
                .iter()
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        for (pattern, braces, wanted) in [
            ("[^ab]", false, vec!["-", "1", "B"]),
            ("[[:lower:]]", false, vec!["a", "b"]),
            ("{b,a}", true, vec!["b", "a"]),
            ("{b,a}", false, vec![]),
        ] {
            assert_eq!(found(OsStr::new(pattern), braces), wanted, "{pattern}");
        }
        for name in odd {
            assert_eq!(found(&escape(OsStr::new(name)), true), [name]);
        }
        assert!(glob(OsStr::new("a\0b"), true).unwrap().is_empty());
    }
}

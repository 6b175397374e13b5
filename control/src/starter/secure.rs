//! Who may write what the director starts, as keepalived's `enable_script_security` asks: a script that somebody else may change, or
//! put another one in the place of, is that person's way to the director's rights.

use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::unistd::geteuid;
use shunt_model::script::Objection;

/// Symbolic links that are followed at most (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// Bytes of a script's first line that are looked at (execve(2)).
const FIRST_LINE_MAX: u64 = 255;
/// Bits of a folder in which files can be removed by their owners alone.
const STICKY: u32 = 0o1000;
/// Programs whose first argument is a program, too.
const INTERPRETERS: [&str; 22] = [
    "sh", "bash", "dash", "ash", "ksh", "zsh", "busybox", "python", "perl", "ruby", "node", "php", "lua",
    "tclsh", "env", "nice", "timeout", "sudo", "exec", "setsid", "stdbuf", "flock",
];
/// Words of the shell behind which a command stands.
const BEFORE_COMMANDS: [&str; 11] =
    ["if", "then", "else", "elif", "while", "until", "do", "!", "{", "exec", "time"];

/// Where a program is: a name without a slash in the first folder of `path` that has it, another one from where this process is.
#[must_use]
pub fn find(name: &str, path: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return std::path::absolute(name).ok();
    }
    let folders = path.split(':').filter(|folder| folder.starts_with('/'));
    let mut found =
        folders.map(|folder| Path::new(folder).join(name)).filter(|path| executable(path).is_ok());
    found.next()
}

/// What stands against starting this command: of it, of what it interprets, and of what interprets it. The worst comes first.
#[must_use]
pub fn objections(command: &[String], path: &str) -> Vec<Objection> {
    let mut objections: Vec<Objection> = Vec::new();
    for (number, program) in programs(command).into_iter().enumerate() {
        // What a line for the shell begins with may be a word of the shell's own.
        let of_shell = number > 0;
        match find(&program, path) {
            None if of_shell => {}
            None => {
                objections.push(Objection::Unusable(format!("{program}: there is no such program in {path}")))
            }
            Some(file) => objections.extend(objection(&file)),
        }
    }
    objections.sort_by_key(|objection| matches!(objection, Objection::Unusable(_)));
    objections.dedup();
    objections
}

fn objection(file: &Path) -> Vec<Objection> {
    let mut objections = Vec::new();
    if let Err(error) = writers(file, &mut objections) {
        return vec![Objection::Unusable(format!("{}: {}", file.display(), words(&error)))];
    }
    match executable(file) {
        Err(why) => objections.push(Objection::Unusable(format!("{}: {why}", file.display()))),
        Ok(()) => {
            for interpreter in interpreters(file) {
                // It says itself when it is not there.
                let _ = writers(&interpreter, &mut objections);
            }
        }
    }
    objections
}

fn executable(file: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(file).map_err(|error| words(&error))?;
    if !metadata.is_file() {
        return Err("it is not a file".into());
    }
    if metadata.permissions().mode() & 0o111 == 0 { Err("it is not executable".into()) } else { Ok(()) }
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it is not there".into(),
        _ => error.to_string(),
    }
}

/// Everything on the way to a file that others may write, links and their own ways included.
fn writers(file: &Path, objections: &mut Vec<Objection>) -> io::Result<()> {
    let mut rest: Vec<PathBuf> = parts(file);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    objections.extend(writable(&at)?);
    while let Some(part) = rest.pop() {
        if part == Path::new("..") {
            at.pop();
            continue;
        }
        at.push(part);
        objections.extend(writable(&at)?);
        if at.symlink_metadata()?.is_symlink() {
            links += 1;
            if links > LINKS_MAX {
                return Err(io::Error::other("too many symbolic links"));
            }
            let target = std::fs::read_link(&at)?;
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            rest.extend(parts(&target));
        }
    }
    Ok(())
}

/// The names in a path, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    names.map(|part| PathBuf::from(part.as_os_str())).rev().collect()
}

/// What is wrong with a file, a folder or a link of a path.
fn writable(path: &Path) -> io::Result<Option<Objection>> {
    let metadata = path.symlink_metadata()?;
    let (owner, group, mode) = (metadata.uid(), metadata.gid(), metadata.mode());
    let objection = |who: String| Ok(Some(Objection::Writable(path.to_owned(), who)));
    if owner != 0 && owner != geteuid().as_raw() {
        return objection(format!("belongs to {}", name_of(owner)));
    }
    if metadata.is_symlink() || metadata.is_dir() && mode & STICKY != 0 {
        return Ok(None);
    }
    if mode & 0o002 != 0 {
        return objection(format!("may be written by everybody (mode {:o})", mode & 0o7777));
    }
    if mode & 0o020 != 0 && group != 0 {
        return objection(format!("may be written by group {group} (mode {:o})", mode & 0o7777));
    }
    Ok(None)
}

fn name_of(user: u32) -> String {
    let known = nix::unistd::User::from_uid(user.into()).ok().flatten();
    known.map_or_else(|| format!("user {user}"), |user| format!("user {}", user.name))
}

/// What the first line of a script names: the interpreter, and what `env` is to find.
fn interpreters(file: &Path) -> Vec<PathBuf> {
    let mut first = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(FIRST_LINE_MAX).read_to_end(&mut first));
    let text = String::from_utf8_lossy(&first);
    let Some(line) = text.lines().next().filter(|_| read.is_ok()).and_then(|line| line.strip_prefix("#!"))
    else {
        return Vec::new();
    };
    let mut words = line.split_whitespace();
    let interpreter = words.next().filter(|word| word.starts_with('/'));
    let is_env = interpreter.is_some_and(|path| path.ends_with("/env"));
    let found = words.find(|word| !word.starts_with('-') && !word.contains('=')).filter(|_| is_env);
    let found = found.and_then(|name| find(name, &super::environment::path()));
    interpreter.map(PathBuf::from).into_iter().chain(found).collect()
}

/// The programs that a command starts, as far as they can be told without running it.
fn programs(command: &[String]) -> Vec<String> {
    match command {
        [shell, option, line, ..] if is_shell(shell) && option.starts_with('-') && option.ends_with('c') => {
            let mut programs = vec![shell.clone()];
            programs.extend(commands_of_line(line));
            programs
        }
        words => interpreted(words),
    }
}

fn is_shell(program: &str) -> bool {
    ["sh", "bash", "dash", "ash", "ksh", "zsh"].contains(&name(program))
}

fn name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// A program, and where it is an interpreter the script that is its first argument; one that is a name alone is not looked for.
fn interpreted(words: &[String]) -> Vec<String> {
    let Some((program, arguments)) = words.split_first() else { return Vec::new() };
    let mut programs = vec![program.clone()];
    let plain = name(program).trim_end_matches(|end: char| end.is_ascii_digit() || end == '.');
    if INTERPRETERS.contains(&plain) {
        // Options may have values, which are no paths.
        let script = arguments
            .iter()
            .position(|word| word.contains('/') && !word.starts_with('-') && !word.contains('='));
        if let Some(at) = script {
            programs.extend(interpreted(&arguments[at..]));
        }
    }
    programs
}

/// The paths of programs that a line for the shell starts: what stands where a command does. Quoting is followed; variables are not.
fn commands_of_line(line: &str) -> Vec<String> {
    let mut programs = Vec::new();
    for command in simple_commands(line) {
        let mut words = &command[..];
        let is_before = |word: &String| {
            BEFORE_COMMANDS.contains(&word.as_str())
                || word.split_once('=').is_some_and(|(name, _)| {
                    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                })
        };
        while let Some((first, rest)) = words.split_first() {
            if !is_before(first) {
                break;
            }
            words = rest;
        }
        programs.extend(
            interpreted(words).into_iter().filter(|program| program.contains('/') && !program.contains('$')),
        );
    }
    programs
}

/// A line taken apart at what separates commands, into words; redirections and their files are left out.
fn simple_commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut redirected = false;
    let mut characters = line.chars();
    let mut end = |word: &mut Option<String>, redirected: &mut bool, next: bool| {
        if let (Some(word), false, Some(command)) =
            (word.take(), std::mem::take(redirected), commands.last_mut())
        {
            command.push(word);
        }
        if next {
            commands.push(Vec::new());
        }
    };
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.get_or_insert_default().extend(characters.next()),
            quote @ ('\'' | '"') => {
                let word = word.get_or_insert_default();
                while let Some(quoted) = characters.next().filter(|quoted| *quoted != quote) {
                    match quoted {
                        '\\' if quote == '"' => word.extend(characters.next()),
                        quoted => word.push(quoted),
                    }
                }
            }
            '<' | '>' => {
                end(&mut word, &mut redirected, false);
                redirected = true;
            }
            ';' | '|' | '&' | '(' | ')' | '`' | '\n' => {
                end(&mut word, &mut redirected, true);
                redirected = false;
            }
            space if space.is_whitespace() => {
                if word.is_some() {
                    end(&mut word, &mut redirected, false);
                }
            }
            letter => word.get_or_insert_default().push(letter),
        }
    }
    end(&mut word, &mut redirected, false);
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{chown, symlink};

    const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

    fn command(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// A folder with a script that is in order.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o755);
        let script = folder.path().join("check");
        std::fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
        set_mode(&script, 0o755);
        (folder, script)
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn at_fault(words: &[&str]) -> Vec<PathBuf> {
        let objections = objections(&command(words), PATH);
        let path = |objection| match objection {
            Objection::Writable(path, _) => Some(path),
            Objection::Unusable(_) => None,
        };
        objections.into_iter().filter_map(path).collect()
    }

    #[test]
    fn what_others_may_write_is_named() {
        let (folder, script) = folder();
        let name = script.to_str().unwrap();
        assert_eq!(objections(&command(&[name]), PATH), []);
        for mode in [0o777, 0o757, 0o755 | 0o020] {
            set_mode(&script, mode);
            chown(&script, None, Some(1)).unwrap();
            assert_eq!(at_fault(&[name]), std::slice::from_ref(&script), "{mode:o}");
        }
        set_mode(&script, 0o755);
        for mode in [0o777, 0o757] {
            set_mode(folder.path(), mode);
            assert_eq!(at_fault(&[name]), [folder.path().to_owned()], "{mode:o}");
        }
        // Root's group is root's.
        set_mode(folder.path(), 0o775);
        assert_eq!(at_fault(&[name]), Vec::<PathBuf>::new());
        // In a sticky folder nobody replaces what is another's.
        set_mode(folder.path(), 0o1777);
        assert_eq!(at_fault(&[name]), Vec::<PathBuf>::new());
        chown(&script, Some(65534), None).unwrap();
        assert_eq!(at_fault(&[name]), [script]);
    }

    #[test]
    fn links_are_followed_to_what_is_behind_them() {
        let (folder, script) = folder();
        let (open, link) = (folder.path().join("open"), folder.path().join("link"));
        std::fs::create_dir(&open).unwrap();
        set_mode(&open, 0o777);
        std::fs::rename(&script, open.join("check")).unwrap();
        symlink("open/../open/check", &link).unwrap();
        assert_eq!(at_fault(&[link.to_str().unwrap()]), std::slice::from_ref(&open));
        // A way through a folder that others may write is theirs, though it ends elsewhere.
        std::fs::rename(open.join("check"), &script).unwrap();
        symlink(&script, open.join("to")).unwrap();
        assert_eq!(at_fault(&[open.join("to").to_str().unwrap()]), [open]);
        std::fs::remove_file(&link).unwrap();
        symlink(&link, &link).unwrap();
        let endless = objections(&command(&[link.to_str().unwrap()]), PATH);
        assert!(matches!(&endless[..], [Objection::Unusable(why)] if why.contains("links")), "{endless:?}");
    }

    #[test]
    fn what_is_interpreted_counts_and_what_interprets() {
        let (_folder, script) = folder();
        let path = script.to_str().unwrap();
        set_mode(&script, 0o757);
        for words in [
            vec!["/bin/sh", path],
            vec!["/usr/bin/env", "-i", "A=/b", path, "x"],
            vec!["bash", "-e", path],
            vec!["/bin/sh", "-c", &format!("{path} >/tmp/log 2>&1")],
            vec!["/bin/sh", "-ec", &format!("if A=1 '{path}' | cat; then exit 0; fi")],
            vec!["/bin/sh", "-c", &format!("x=$({path}); test \"$x\" = 1")],
            vec!["/bin/sh", "-c", &format!("test -e /x && timeout 5 {path}")],
        ] {
            assert_eq!(at_fault(&words), std::slice::from_ref(&script), "{words:?}");
        }
        for words in [
            vec!["/bin/echo", path],
            vec!["/bin/sh", "-c", &format!("echo {path} >>{path}")],
            vec!["/bin/sh", "-c", &format!("grep x <{path}")],
        ] {
            assert_eq!(at_fault(&words), Vec::<PathBuf>::new(), "{words:?}");
        }
        let (_folder, other) = self::folder();
        for first in [format!("#!{path}"), format!("#! {path} -x")] {
            std::fs::write(&other, first).unwrap();
            assert_eq!(at_fault(&[other.to_str().unwrap()]), std::slice::from_ref(&script));
        }
    }

    #[test]
    fn what_cannot_be_started_is_told() {
        let (folder, script) = folder();
        let gone = folder.path().join("gone");
        let told = |words: &[&str]| {
            let objections = objections(&command(words), PATH);
            objections.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told(&[gone.to_str().unwrap()]), format!("{}: it is not there", gone.display()));
        set_mode(&script, 0o644);
        assert_eq!(told(&[script.to_str().unwrap()]), format!("{}: it is not executable", script.display()));
        assert_eq!(
            told(&[folder.path().to_str().unwrap()]),
            format!("{}: it is not a file", folder.path().display())
        );
        assert!(
            told(&["no_such_program"])
                .starts_with("no_such_program: there is no such program in /usr/local/bin:")
        );
        assert_eq!(told(&["/bin/sh", "-c", "nothing; such"]), "");
        assert_eq!(told(&["ls"]), "");
    }
}

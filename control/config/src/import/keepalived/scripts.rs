//! Scripts, with the user that they run as.

use std::collections::BTreeSet;
use std::path::Path;

use super::services::Context;
use super::tree::Statement;
use super::values::Values;
use super::words::quoted_words;
use crate::import::files::Files;
use crate::import::writer::quoted;

/// Seconds of a script that keepalived can count in microseconds.
pub const SECONDS_MAX: u32 = 4294;
/// Where programs without a path are looked for.
const PROGRAMS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The value of a script that is left out, which is not written.
pub const LEFT_OUT: &str = "";
/// Whom scripts run as where no user is named, if there is such a user.
pub const USER: &str = "keepalived_script";

/// A script and, if it is said, its user and group: `"PATH ARGUMENTS" [user [group]]`, as TOML has it.
fn script(values: &mut Values<'_, '_>, context: &Context) -> Option<String> {
    let (command, user) =
        values.script("a program and its arguments, in quotation marks where it has some")?;
    let named_user: Vec<_> = user.first().map(|user| ("user", quoted(user))).into_iter().collect();
    if let Some(wrong) = command.first().and_then(|program| context.gone.lack(program, &named_user)) {
        let holds = "keepalived leaves the script out then";
        values.ignored(wrong, holds, "install it, and import or reload anew");
        // One of a program that is not there stands in the way of a second one all the same.
        let program = command.first().is_some_and(|program| context.gone.programs.contains(program));
        return program.then(|| LEFT_OUT.to_owned());
    }
    let user = if user.is_empty() { context.script_user.clone() } else { Some(named(&user)) };
    Some(match user {
        Some(user) => format!("{{ command = {}, user = {} }}", list(&command), quoted(&user)),
        None => list(&command),
    })
}

/// A user and a group; keepalived 2.4 takes a colon in front of the group.
fn named(words: &[String]) -> String {
    let words = words.iter().enumerate();
    let words = words.map(|(at, word)| if at == 1 { word.strip_prefix(':').unwrap_or(word) } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// All values that are left: a user, and a group if it is not the user's.
pub fn user(values: &mut Values<'_, '_>) -> Option<String> {
    let words = values.rest("a user, and a group if it is not the user's")?;
    Some(named(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>()))
}

/// A script under a key that may have been said already: of two the first one holds.
pub fn first_script(
    key: &'static str,
    is_said: bool,
    values: &mut Values<'_, '_>,
    context: &Context,
) -> Option<(&'static str, String)> {
    if is_said && values.peek().is_some() {
        values.ignored(
            format!("{key} is said twice"),
            "keepalived runs the first one",
            "remove one of the two",
        );
        return None;
    }
    script(values, context).map(|script| (key, script))
}

/// What scripts need and this machine does not have.
#[derive(Clone, Debug, Default)]
pub struct Gone {
    programs: BTreeSet<String>,
    users: BTreeSet<String>,
    /// Scripts without a user of their own have none at all.
    pub default_user: bool,
    /// Whom scripts without a user of their own run as, if not as root.
    pub script_user: Option<String>,
}

impl Gone {
    /// In words, what a program and the user among keys, as TOML has it, lack.
    pub fn lack(&self, program: &str, keys: &[(&'static str, String)]) -> Option<String> {
        if self.programs.contains(program) {
            return Some(format!("{program} is no program on this machine"));
        }
        let said = keys.iter().find(|(key, _)| *key == "user").map(|(_, user)| user.trim_matches('"'));
        let runs_as = said.or(self.script_user.as_deref()).and_then(|user| user.split(' ').next());
        // keepalived looks for its path as that user, whose groups it may not set then.
        let without_path = |name: &&str| {
            !program.contains('/') && !["root", "0"].contains(name) && !self.users.contains(*name)
        };
        if let Some(name) = runs_as.filter(without_path) {
            return Some(format!("{program} is named without its path, and runs as {name}"));
        }
        let Some(user) = said else {
            let wrong =
                format!("enable_script_security without script_user, and {USER} is no user of this machine");
            return self.default_user.then_some(wrong);
        };
        let name = user.split(' ').next().filter(|name| self.users.contains(*name))?;
        Some(format!("{name} is no user of this machine"))
    }
}

/// Adds what is not there of what statements name.
pub fn gone(statements: &[Statement], files: &dyn Files, found: &mut Gone) {
    for statement in statements {
        gone(statement.statements(), files, found);
        let keyword = statement.keyword();
        if keyword == "user" {
            let name = statement.words.get(1);
            found.users.extend(name.filter(|name| !files.has_user(name)).cloned());
        }
        if !(keyword.starts_with("notify")
            || ["script", "misc_path", "quorum_up", "quorum_down"].contains(&keyword))
        {
            continue;
        }
        let words = statement.raw.as_deref().map_or_else(|| Ok(statement.words.clone()), quoted_words);
        if let Some(name) = words.as_ref().ok().and_then(|words| words.get(2)) {
            found.users.extend((!files.has_user(name)).then(|| name.clone()));
        }
        let command = words.ok().and_then(|words| quoted_words(words.get(1)?).ok());
        let program = command.and_then(|words| words.into_iter().next());
        found.programs.extend(program.filter(|program| !is_there(program, files)));
    }
}

/// True when a program can be started: by its path, or where programs are looked for. `</dev/tcp/127.0.0.1/80` is the shell's.
fn is_there(program: &str, files: &dyn Files) -> bool {
    if program.contains('/') {
        return program.starts_with('<') || files.is_program(&Path::new("/").join(program));
    }
    PROGRAMS.iter().any(|folder| files.is_program(&Path::new(folder).join(program)))
}

/// The command of a check: nothing may follow it.
pub fn command(values: &mut Values<'_, '_>) -> Option<Vec<String>> {
    let (command, rest) =
        values.script("a program and its arguments, in quotation marks where it has some")?;
    if !rest.is_empty() {
        let wrong = format!("{} stands behind the program {}", rest.join(" "), command.join(" "));
        let holds = "keepalived starts the program without it: quotation marks hold a program and its arguments together";
        values.ignored(wrong, holds, "write \"PROGRAM ARGUMENTS\"");
    }
    Some(command)
}

/// Words as a list of TOML.
pub fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(", "))
}

//! Scripts, with the user that they run as.

use super::services::Context;
use super::values::Values;
use crate::import::writer::quoted;

/// A script and, if it is said, its user and group: `"PATH ARGUMENTS" [user [group]]`, as TOML has it.
fn script(values: &mut Values<'_, '_>, context: &Context) -> Option<String> {
    let (command, user) =
        values.script("a program and its arguments, in quotation marks where it has some")?;
    let user = if user.is_empty() { context.script_user.clone() } else { Some(user.join(" ")) };
    Some(match user {
        Some(user) => format!("{{ command = {}, user = {} }}", list(&command), quoted(&user)),
        None => list(&command),
    })
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

//! Scripts of notifications, with the user that they run as.

use super::checks::command as words;
use super::services::Context;
use super::values::Values;
use crate::import::writer::quoted;

/// A script and, if it is said, its user and group: `"PATH ARGUMENTS" [user [group]]`, as TOML has it.
pub fn script(values: &mut Values<'_, '_>, context: &Context) -> Option<String> {
    let command = values.required("a program and its arguments, in quotation marks where it has some")?;
    let user = values.rest_or_none().or_else(|| context.script_user.clone());
    Some(match user {
        Some(user) => format!("{{ command = {}, user = {} }}", words(command), quoted(&user)),
        None => words(command),
    })
}

//! What changes the running configuration, in the log and as an event: one line for each change, with who asked and the generation.

use shunt_config::Config;
use shunt_config::diff::Changes;
use shunt_dataplane::id::Generation;
use shunt_model::notify::What;

use crate::api::{Asked, Refusal};
use crate::notify;
use crate::notify::Notifier;

/// Changes of one generation that are told one by one; of more the number is told.
pub const LINES_MAX: usize = 1024;
/// Changes that the text of an event has.
const TEXT_MAX: usize = 8;

/// By what the configuration changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The file was taken anew.
    Reload,
    /// `ipvsadm`.
    Ipvsadm,
}

impl By {
    const fn word(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Ipvsadm => "ipvsadm",
        }
    }

    const fn event(self) -> What {
        match self {
            Self::Reload => What::Reload,
            Self::Ipvsadm => What::Ipvsadm,
        }
    }
}

/// A configuration that was checked, on its way to be published.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What holds from now on.
    pub config: Config,
    /// The difference to what held before.
    pub changes: Changes,
    /// By what it changes.
    pub by: By,
    /// Who asked.
    pub asked: Asked,
    /// The file that it is from, or that it changes the services of.
    pub file: String,
}

/// A configuration as it was published.
#[derive(Debug)]
pub struct Published {
    /// What changed.
    pub changes: Changes,
    /// By what.
    pub by: By,
    /// Who asked.
    pub asked: Asked,
    /// The file.
    pub file: String,
}

impl Published {
    /// Tells it: a line for each change, and one event.
    pub fn tell(&self, generation: Generation, notifier: &Notifier) {
        let Self { changes, by, asked, file } = self;
        let (word, list) = (by.word(), &changes.list);
        if list.is_empty() {
            tracing::info!("{word}: no change generation={generation} {asked}");
            return;
        }
        for change in list.iter().take(LINES_MAX) {
            tracing::info!("{word}: {change} generation={generation} {asked}");
        }
        if let Some(more) = list.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
            tracing::info!(
                "{word}: {more} more changes, not told one by one generation={generation} {asked}"
            );
        }
        let mut text: Vec<String> = list.iter().take(TEXT_MAX).map(ToString::to_string).collect();
        if let Some(more) = list.len().checked_sub(TEXT_MAX).filter(|more| *more > 0) {
            text.push(format!("{more} more"));
        }
        let text = format!("{word}: {} generation={generation} {asked}", text.join("; "));
        notifier.tell(notify::event(by.event(), file.as_str(), None, text), Vec::new());
    }
}

/// Tells of a reload that changed nothing since it was refused.
pub fn tell_refused(file: &str, refusal: &Refusal, asked: Asked, notifier: Option<&Notifier>) {
    for line in refusal.lines.iter().take(LINES_MAX) {
        tracing::error!("reload refused: {line} {asked}");
    }
    tracing::error!("reload refused: {} {asked}", refusal.error);
    if let Some(notifier) = notifier {
        let text = match &refusal.lines[..] {
            [] => refusal.error.clone(),
            [first, ..] => format!("{}: {first}", refusal.error),
        };
        let text = format!("reload refused: {text} {asked}");
        notifier.tell(notify::event(What::ReloadRefused, file, None, text), Vec::new());
    }
}

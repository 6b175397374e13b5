//! Scripts that are told what virtual routers and their groups become, in keepalived's ways (`notify_…`).

use super::Role;
use crate::script::Script;

/// The scripts of a virtual router or a group; those of a group know no lower priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// Run when it becomes master.
    pub master: Option<Script>,
    /// Run when it becomes backup.
    pub backup: Option<Script>,
    /// Run when it is in fault, or taken out of the configuration.
    pub fault: Option<Script>,
    /// Run when the director stops.
    pub stop: Option<Script>,
    /// Run after each of those, with four words more: see [`Subject::arguments`].
    pub any: Option<Script>,
    /// Run when a master hears an advert of a lower priority (keepalived: `notify_master_rx_lower_pri`).
    pub lower_priority: Option<Script>,
}

/// What a script is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// A role.
    Role(Role),
    /// The director stops.
    Stop,
}

impl Told {
    /// As operators read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Role(role) => role.word(),
            Self::Stop => "stopped",
        }
    }

    /// keepalived's word for it.
    const fn state(self) -> &'static str {
        match self {
            Self::Role(Role::Master) => "MASTER",
            Self::Role(Role::Backup) => "BACKUP",
            Self::Role(Role::Fault) => "FAULT",
            Self::Stop => "STOP",
        }
    }
}

/// Whom it is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A virtual router of this name and priority.
    Instance(&'a str, u8),
    /// A group of this name.
    Group(&'a str),
}

impl Subject<'_> {
    /// What keepalived adds to the words of `notify`: kind, name, state, priority; that of a group is 0.
    fn arguments(self, told: Told) -> [String; 4] {
        let (kind, name, priority) = match self {
            Self::Instance(name, priority) => ("INSTANCE", name, priority),
            Self::Group(name) => ("GROUP", name, 0),
        };
        [kind.to_owned(), name.to_owned(), told.state().to_owned(), priority.to_string()]
    }
}

impl Notify {
    /// What has to be run, in this order.
    #[must_use]
    pub fn scripts(&self, subject: Subject<'_>, told: Told) -> Vec<Script> {
        let own = match told {
            Told::Role(Role::Master) => &self.master,
            Told::Role(Role::Backup) => &self.backup,
            Told::Role(Role::Fault) => &self.fault,
            Told::Stop => &self.stop,
        };
        let any = self.any.clone().map(|mut any| {
            any.extend(&subject.arguments(told));
            any
        });
        own.clone().into_iter().chain(any).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(words: &[&str]) -> Script {
        Script { command: words.iter().map(|&word| word.to_owned()).collect(), user: Some("nobody".into()) }
    }

    #[test]
    fn the_script_of_the_state_comes_first_and_notify_has_four_words_more() {
        let notify = Notify {
            master: Some(script(&["/m", "x"])),
            any: Some(script(&["/n", "y"])),
            ..Notify::default()
        };
        let told = Told::Role(Role::Master);
        let wanted = [script(&["/m", "x"]), script(&["/n", "y", "INSTANCE", "VI_1", "MASTER", "100"])];
        assert_eq!(notify.scripts(Subject::Instance("VI_1", 100), told), wanted);
        let wanted = [script(&["/n", "y", "GROUP", "VG_1", "STOP", "0"])];
        assert_eq!(notify.scripts(Subject::Group("VG_1"), Told::Stop), wanted);
    }

    #[test]
    fn a_line_of_the_shell_is_told_the_same() {
        let line = |line: &str| Some(script(&["/bin/sh", "-c", line]));
        let notify = Notify { any: line("echo"), ..Notify::default() };
        let told = notify.scripts(Subject::Instance("it's", 1), Told::Role(Role::Fault));
        assert_eq!(told.first().cloned(), line(r"echo 'INSTANCE' 'it'\''s' 'FAULT' '1'"));
    }
}

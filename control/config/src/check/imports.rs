//! `[import]`: files of other programs, read as if they stood at the end of the configuration.

use std::path::Path;

use shunt_model::fault::Origin;
use shunt_model::fault::Severity;

use super::{Checked, Machine, NoHost};
use crate::document::Document;
use crate::import::{Files, Imported, Interfaces, host_name, keepalived};
use crate::problem::{Findings, Problem, Problems};

/// A configuration with what it imports.
pub struct Expanded {
    /// Both.
    pub text: String,
    /// How many lines are the configuration's own.
    pub lines: usize,
    /// Where each line after them comes from.
    pub origins: Vec<Option<Origin>>,
    notes: Vec<Problem>,
}

/// The configuration at `path` with what it imports; none when it imports nothing.
pub fn expand(path: &Path, text: &str, machine: &Machine) -> Option<Expanded> {
    let document = Document::read(&mut Findings::new("", text));
    let wanted = document.import.keepalived?.value;
    let wanted = path.parent().map_or(wanted.clone(), |folder| folder.join(&wanted));
    let config_id = document.import.config_id.map_or_else(host_name, |config_id| config_id.value);
    let nics = document.nics.iter().filter_map(|nic| Some((nic.name.as_ref()?, nic.device.as_ref()?)));
    let interfaces =
        nics.map(|(name, device)| (device.value.interface().map(str::to_owned), name.value.clone()));
    let files: &dyn Files = machine.host.map_or(&NoHost as &dyn Files, |host| host);
    let interfaces = Interfaces::of_nics(interfaces.collect());
    let Imported { text: imported, origins, notes } =
        keepalived::import(&wanted, files, &config_id, interfaces);
    let mut text = text.to_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let lines = text.lines().count();
    text.push_str(&imported);
    let problem =
        |note: crate::import::Note| Problem::imported(note.severity(), &note.origin, &note.place, note.fault);
    Some(Expanded { text, lines, origins, notes: notes.into_iter().map(problem).collect() })
}

impl Expanded {
    /// What was found, with what there is to tell of the imported files.
    pub fn tell(self, checked: Result<Checked, Problems>) -> Result<Checked, Problems> {
        let refused = self.notes.iter().any(|note| note.severity == Severity::Error);
        match checked {
            Ok(mut checked) => {
                checked.warnings.list.extend(self.notes);
                if refused { Err(checked.warnings) } else { Ok(checked) }
            }
            Err(mut problems) => {
                problems.list.extend(self.notes);
                Err(problems)
            }
        }
    }
}

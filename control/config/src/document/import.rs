//! `[import]`: set-ups of other programs that are a part of this configuration.

use std::path::PathBuf;

use shunt_model::fault::{At, Fault, Span};
use toml::de::DeTable;

use super::Section;
use crate::problem::Findings;

/// `[import]` as written.
#[derive(Debug, Default)]
pub struct ImportDocument {
    /// `keepalived`; a path that is not absolute begins at the folder of the configuration.
    pub keepalived: Option<At<PathBuf>>,
    /// `config_id`.
    pub config_id: Option<At<String>>,
}

impl ImportDocument {
    pub(super) fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: &Span) -> Self {
        let mut section = Section::new(findings, "import", table, at, &["keepalived", "config_id"], &[]);
        Self {
            keepalived: section.parse("keepalived", path),
            config_id: section.parse("config_id", super::name),
        }
    }
}

fn path(text: &str) -> Result<PathBuf, Fault> {
    if !text.is_empty() && text.len() <= 4096 && !text.contains('\0') {
        return Ok(PathBuf::from(text));
    }
    let holds = "the path of a file";
    Err(Fault::new("not a path", holds, "write one such as \"/etc/keepalived/keepalived.conf\""))
}

//! What the recordings hold: a scenario that was played to a kernel, and what came of it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use shunt_dataplane::id::NicId;

use super::compare::is_announcement;
use crate::text;

/// Commands that set the director up, then frames, commands and pauses, then commands that look at the end.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Scenario {
    /// What it is about.
    #[serde(default)]
    pub note: String,
    /// Shell commands.
    #[serde(default)]
    pub setup: Vec<String>,
    /// What happens.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Shell commands.
    #[serde(default)]
    pub end: Vec<String>,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Step {
    /// A frame arrives.
    Frame {
        /// At this NIC.
        nic: u8,
        /// The frame.
        frame: Hex,
        /// It begins a connection: which real server is taken is recorded apart.
        #[serde(default, skip_serializing_if = "is_false")]
        new: bool,
        /// What it is.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        note: String,
    },
    /// A shell command.
    Command {
        /// The command line.
        cmd: String,
    },
    /// Time passes.
    Wait {
        /// Seconds.
        wait: f64,
    },
}

/// What a director did with a scenario: recorded of the kernel, or played by this one.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Recording {
    /// The release of the kernel that it was recorded of; none when this director played.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Of the commands of the setup, those that failed or said something.
    #[serde(default)]
    pub setup: Vec<CommandResult>,
    /// Of each step.
    pub steps: Vec<StepResult>,
    /// Of the commands at the end.
    #[serde(default)]
    pub end: Vec<CommandResult>,
    /// Of the steps that begin a connection, the destination MAC of the first frame that left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<Option<String>>,
}

/// What a command said.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct CommandResult {
    /// The command line.
    pub cmd: String,
    /// Its exit status.
    pub rc: i32,
    /// What it printed.
    pub output: String,
}

/// What came of a step.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct StepResult {
    /// What a command printed; none when the step was no command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Its exit status.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rc: i32,
    /// The frames that left.
    #[serde(default)]
    pub out: Vec<FrameOut>,
}

/// A frame that left.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct FrameOut {
    /// By this NIC.
    #[serde(with = "NicNumber")]
    pub nic: NicId,
    /// The frame in one readable line.
    pub text: String,
    /// The frame.
    pub frame: Hex,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "NicId")]
struct NicNumber(u8);

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde asks for it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde asks for it")]
const fn is_zero(value: &i32) -> bool {
    *value == 0
}

impl Recording {
    /// Of the steps that begin a connection, the destination MAC of the first frame that left: what [`Self::chosen`]
    /// should hold.
    #[must_use]
    pub fn choices(&self, scenario: &Scenario) -> Vec<Option<String>> {
        let begins = |(step, _): &(&Step, &StepResult)| matches!(step, Step::Frame { new: true, .. });
        let first = |(_, result): (&Step, &StepResult)| {
            let mut chosen = result.out.iter().filter(|out| !is_announcement(&out.frame.0));
            chosen.next().map(|out| text::hex(&out.frame.0[..6]))
        };
        scenario.steps.iter().zip(&self.steps).filter(begins).map(first).collect()
    }
}

/// Bytes, written as hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Hex(pub Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text::hex(&self.0))
    }
}

impl FrameOut {
    /// A frame that left by `nic`.
    #[must_use]
    pub fn new(nic: NicId, frame: &[u8]) -> Self {
        Self { nic, text: text::frame(frame), frame: Hex(frame.to_vec()) }
    }
}

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(digits: String) -> Result<Self, String> {
        text::unhex(&digits).map(Self).ok_or_else(|| format!("not pairs of hexadecimal digits: {digits:?}"))
    }
}

/// Why a file cannot be used.
#[derive(Debug)]
pub struct Unreadable {
    path: PathBuf,
    why: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for Unreadable {}

/// Reads a scenario or a recording.
///
/// # Errors
/// When the file cannot be read or is not what it should be.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Unreadable> {
    let unreadable = |why: String| Unreadable { path: path.to_owned(), why };
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))
}

/// Writes a scenario or a recording as those of the repository are written.
///
/// # Errors
/// When the file cannot be written.
pub fn write<T: Serialize>(path: &Path, value: &T) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let pretty = serde_json::ser::PrettyFormatter::with_indent(b" ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, pretty))?;
    bytes.push(b'\n');
    std::fs::write(path, bytes)
}

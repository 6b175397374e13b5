//! Plays a scenario to the kernel and records what it does.

use std::time::Duration;

use shunt_dataplane::id::NicId;

use super::guest::{Guest, NICS, SENTINEL, Start};
use super::{Failed, Image};
use crate::oracle::scenario::{CommandResult, FrameOut, Recording, Scenario, Step, StepResult};

/// A step takes so long at least, by the guest's clock: what goes at the kernel's next tick is gone by the next step.
const STEP: Duration = Duration::from_millis(20);

/// How the commands of a setup are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// One after the other.
    OneByOne,
    /// `ip` commands that follow each other in one `ip -batch`, which takes a tenth of the time.
    Batched,
}

/// Plays a scenario from the start.
///
/// # Errors
/// When the guest does not answer, or when an `ip` command of a batch fails.
pub fn play(image: &Image, scenario: &Scenario, setup: Setup) -> Result<Recording, Failed> {
    play_in(Guest::start(image, Start::Saved)?, scenario, setup)
}

/// Plays it in a guest that was started from the saved state; the guest ends with it.
///
/// # Errors
/// As [`play`].
pub fn play_in(mut guest: Guest, scenario: &Scenario, setup: Setup) -> Result<Recording, Failed> {
    let kernel = guest.command("uname -r")?.0.trim().to_owned();
    let mut recording = Recording { kernel: Some(kernel), ..Recording::default() };
    let up = (0..NICS).map(|nic| format!("; ip link set eth{nic} up")).collect::<String>();
    guest.command(&format!("ip addr add {SENTINEL}/32 scope host dev lo{up}"))?;
    for line in lines(&scenario.setup, setup) {
        let (output, rc) = guest.command(&line)?;
        if line.contains("ip -batch") && (rc != 0 || !output.is_empty()) {
            return Err(Failed(format!("{line}: {output}")));
        }
        if rc != 0 || !output.is_empty() {
            recording.setup.push(CommandResult { cmd: line, rc, output });
        }
    }
    guest.settle(0)?;
    guest.take();
    for step in &scenario.steps {
        recording.steps.push(play_step(step, &mut guest)?);
    }
    for line in &scenario.end {
        let (output, rc) = guest.command(line)?;
        recording.end.push(CommandResult { cmd: line.clone(), rc, output });
    }
    recording.chosen = recording.choices(scenario);
    Ok(recording)
}

fn lines(setup: &[String], how: Setup) -> Vec<String> {
    if how == Setup::OneByOne {
        return setup.to_vec();
    }
    let alike = |line: &str| line.starts_with("ip ") && !line.contains([';', '&', '|', '#', '\'', '>']);
    let chunks = setup.chunk_by(|a, b| alike(a) && alike(b));
    let line = |chunk: &[String]| {
        if !alike(&chunk[0]) {
            return chunk.concat();
        }
        let words = chunk.iter().map(|line| format!(" '{}'", &line[3..])).collect::<String>();
        format!("printf '%s\\n'{words} | ip -batch -")
    };
    chunks.map(line).collect()
}

fn play_step(step: &Step, guest: &mut Guest) -> Result<StepResult, Failed> {
    let mut result = StepResult::default();
    match step {
        Step::Frame { nic, frame, .. } => {
            let end = guest.clock()? + STEP;
            guest.send((*nic).into(), &frame.0)?;
            guest.settle((*nic).into())?;
            while guest.clock()? < end {}
        }
        Step::Command { cmd } => {
            let (output, rc) = guest.command(cmd)?;
            (result.output, result.rc) = (Some(output), rc);
            guest.settle(0)?;
        }
        Step::Wait { wait } => {
            guest.command(&format!("sleep {wait}"))?;
            guest.settle(0)?;
        }
    }
    let frame = |(nic, frame): (usize, Vec<u8>)| FrameOut::new(NicId(nic as u8), &frame);
    result.out = guest.take().into_iter().map(frame).collect();
    Ok(result)
}

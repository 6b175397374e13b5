//! Processes of this host, counted as `/proc` has them: no program is started for it.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use shunt_model::health::kind::{Compare, Process};
use shunt_model::health::{Failure, Lack, Success};
use tokio::sync::OwnedSemaphorePermit;

use super::without_number;

/// Bytes of a command line that are compared.
const COMMAND_MAX: u64 = 64 << 10;
/// Bytes of a name that the kernel keeps (`TASK_COMM_LEN`, without the zero).
const NAME_MAX: usize = 15;

pub async fn run(process: &Process, place: OwnedSemaphorePermit) -> Result<Success, Failure> {
    let asked = process.clone();
    let counted = tokio::task::spawn_blocking(move || {
        let _place = place;
        count(Path::new("/proc"), &asked)
    });
    let counted = counted.await.map_err(|_panic| Failure::Lack(Lack::Inside))?;
    let running = counted.map_err(|error| match crate::health::lack::of_reading(&error) {
        Some(lack) => Failure::Lack(lack),
        None => Failure::Unreadable(without_number(&error)),
    })?;
    let enough = running >= process.quorum && process.quorum_max.is_none_or(|most| running <= most);
    if enough { Ok(Success::Up) } else { Err(Failure::Processes { running, wanted: process.wanted() }) }
}

/// How many processes there are; one that ends meanwhile counts or not.
fn count(proc: &Path, asked: &Process) -> io::Result<u32> {
    let mut running = 0;
    for entry in fs::read_dir(proc)? {
        let entry = entry?;
        let is_process = entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
        if !is_process {
            continue;
        }
        match is_asked(&entry.path(), asked) {
            Ok(is_asked) => running += u32::from(is_asked),
            // It was not looked at: who counts on would count too few.
            Err(error) if crate::health::lack::of_reading(&error).is_some() => return Err(error),
            Err(_gone) => {}
        }
    }
    Ok(running)
}

fn is_asked(folder: &Path, asked: &Process) -> io::Result<bool> {
    let stat = fs::read(folder.join("stat"))?;
    let name = stat.iter().position(|byte| *byte == b'(');
    let end = stat.iter().rposition(|byte| *byte == b')');
    let (Some(name), Some(end)) = (name, end) else { return Ok(false) };
    // One that has ended and that nobody asked for yet.
    if matches!(stat.get(end + 2), None | Some(b'Z' | b'X')) {
        return Ok(false);
    }
    if asked.compare == Compare::Name {
        return Ok(stat.get(name + 1..end) == asked.command.first().map(|program| kernel_name(program)));
    }
    let mut line = Vec::new();
    fs::File::open(folder.join("cmdline"))?.take(COMMAND_MAX).read_to_end(&mut line)?;
    Ok(matches(&line, asked))
}

/// What the kernel calls a program.
fn kernel_name(program: &str) -> &[u8] {
    let name = program.rsplit('/').next().unwrap_or_default().as_bytes();
    &name[..name.len().min(NAME_MAX)]
}

/// Whether a command line, whose words end with a zero each, is one that is asked for.
fn matches(line: &[u8], asked: &Process) -> bool {
    let line = line.strip_suffix(&[0]).unwrap_or(line);
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let wanted: Vec<&[u8]> = asked.command.iter().map(String::as_bytes).collect();
    let Some((last, before)) = wanted.split_last() else { return false };
    match asked.compare {
        Compare::Name => false,
        Compare::Command => words == wanted,
        Compare::First => words.starts_with(&wanted),
        Compare::Beginning => {
            words.starts_with(before) && words.get(before.len()).is_some_and(|word| word.starts_with(last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(command: &[&str], compare: Compare) -> Process {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Process { command, compare, quorum: 1, quorum_max: None }
    }

    #[test]
    fn command_lines_are_compared_as_asked() {
        let line = b"/usr/sbin/haproxy\0-f\0/etc/haproxy.cfg\0";
        for (command, compare, want) in [
            (&["/usr/sbin/haproxy", "-f", "/etc/haproxy.cfg"][..], Compare::Command, true),
            (&["/usr/sbin/haproxy", "-f"], Compare::Command, false),
            (&["/usr/sbin/haproxy", "-f"], Compare::First, true),
            (&["/usr/sbin/haproxy", "-g"], Compare::First, false),
            (&["/usr/sbin/haproxy", "-f", "/etc/"], Compare::First, false),
            (&["/usr/sbin/haproxy", "-f", "/etc/"], Compare::Beginning, true),
            (&["/usr/sbin/haproxy", "-x", "/etc/"], Compare::Beginning, false),
            (&["haproxy"], Compare::Command, false),
        ] {
            assert_eq!(matches(line, &process(command, compare)), want, "{command:?} {compare:?}");
        }
        assert_eq!(kernel_name("/usr/sbin/a-very-long-program"), b"a-very-long-pro");
    }

    #[test]
    fn those_that_live_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let add = |number: &str, stat: &str, line: &[u8]| {
            let path = folder.path().join(number);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("stat"), stat).unwrap();
            fs::write(path.join("cmdline"), line).unwrap();
        };
        add("1", "1 (init) S 0", b"/sbin/init\0");
        add("20", "20 (haproxy) S 1", b"/usr/sbin/haproxy\0-f\0x\0");
        add("21", "21 (haproxy) R 20", b"/usr/sbin/haproxy\0-f\0y\0");
        add("22", "22 (haproxy) Z 20", b"");
        add("23", "23 (a) b(c)) S 1", b"a) b(c)\0");
        add("irq", "", b"");
        let counted = |command: &[&str], compare| count(folder.path(), &process(command, compare)).unwrap();
        assert_eq!(counted(&["haproxy"], Compare::Name), 2);
        assert_eq!(counted(&["/usr/sbin/haproxy"], Compare::Name), 2);
        assert_eq!(counted(&["haprox"], Compare::Name), 0);
        assert_eq!(counted(&["a) b(c)"], Compare::Name), 1);
        assert_eq!(counted(&["/usr/sbin/haproxy", "-f"], Compare::First), 2);
        assert_eq!(counted(&["/usr/sbin/haproxy", "-f", "x"], Compare::Command), 1);
    }

    #[tokio::test]
    async fn this_process_runs_and_another_does_not() {
        let places = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
        let place = async || places.clone().acquire_owned().await.unwrap();
        let own = fs::read_to_string("/proc/self/comm").unwrap();
        let own = process(&[own.trim_end()], Compare::Name);
        assert_eq!(run(&own, place().await).await, Ok(Success::Up));
        let too_many = Process { quorum: 0, quorum_max: Some(0), ..own };
        let failure = run(&too_many, place().await).await.unwrap_err().to_string();
        assert!(failure.ends_with("processes run, wanted none"), "{failure}");
        let none = run(&process(&["no-such-program"], Compare::Name), place().await).await.unwrap_err();
        assert_eq!(none.to_string(), "0 processes run, wanted 1 or more");
    }
}

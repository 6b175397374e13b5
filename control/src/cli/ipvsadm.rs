//! `shunt ipvsadm`, and this program called as `ipvsadm`: ipvsadm's own command line in front of the running director.

use std::ffi::OsString;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use shunt_model::ipvsadm::table::Protocol;
use shunt_protocol::ipvsadm::connections::Connection;
use shunt_protocol::ipvsadm::session::{Session, Target};
use tokio::runtime::Runtime;

use super::client::{Client, Failure, Target as Socket};
use super::output::Out;
use super::{Outcome, connections, output};
use crate::api::ipvsadm::{Change, Changed, Refused, Table};
use crate::ipvsadm::names::Machine;

#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = "\
The command line of ipvsadm 1.31: `shunt ipvsadm -h` lists it. Link this program as `ipvsadm`, and scripts find it under that name.
The director is found at /run/shunt.sock, or where SHUNT_SOCKET says.

Examples:
  shunt ipvsadm -Ln
  ln -s $(command -v shunt) /usr/local/sbin/ipvsadm && ipvsadm -A -t 192.0.2.10:80 -s wrr"
)]
pub struct Arguments {
    /// Words of ipvsadm
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
    words: Vec<OsString>,
}

/// The words before those of the command line when this program was called by the name of one of ipvsadm's; none when
/// it was not.
pub fn called_as(program: &Path) -> Option<Vec<OsString>> {
    match program.file_name()?.to_str()? {
        "ipvsadm" => Some(Vec::new()),
        "ipvsadm-save" => Some(vec!["-S".into()]),
        "ipvsadm-restore" => Some(vec!["-R".into()]),
        _ => None,
    }
}

/// Runs `shunt ipvsadm`.
pub fn run(arguments: &Arguments) -> ExitCode {
    run_words(&arguments.words)
}

/// Runs a command line of ipvsadm; the exit status is ipvsadm's.
pub fn run_words(words: &[OsString]) -> ExitCode {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut director = Director::default();
    let mut out = BufWriter::new(Out);
    let mut err = std::io::stderr().lock();
    let names = Machine::here();
    let mut session = Session { target: &mut director, names: &names, out: &mut out, err: &mut err };
    let status = session.run(&words, &mut std::io::stdin().lock());
    // What could not be written is remembered.
    let _ = out.flush();
    match (status, output::finish(Outcome::Done)) {
        (0, failed) => failed.into(),
        (status, _) => status.into(),
    }
}

/// The running director behind its API, asked when there is something to ask.
#[derive(Default)]
struct Director {
    open: Option<(Runtime, Client)>,
}

impl Director {
    fn open(&mut self) -> Result<&mut (Runtime, Client), String> {
        if self.open.is_none() {
            let path = Socket::default().path().map_err(told)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| format!("ipvsadm: no runtime ({error})"))?;
            let client = runtime.block_on(Client::connect(&path)).map_err(told)?;
            self.open = Some((runtime, client));
        }
        self.open.as_mut().ok_or_else(|| "ipvsadm: no director".to_owned())
    }
}

fn told(failure: Failure) -> String {
    format!("ipvsadm: {}", failure.text)
}

impl Target for Director {
    fn table(&mut self) -> Result<Table, String> {
        let (runtime, client) = self.open()?;
        runtime.block_on(client.get("/v1/ipvsadm")).map_err(told)
    }

    fn change(&mut self, changes: Vec<Change>) -> Result<Vec<Result<(), Refused>>, String> {
        let (runtime, client) = self.open()?;
        let changed: Changed = runtime.block_on(client.post("/v1/ipvsadm", &changes)).map_err(told)?;
        Ok(changed.refused.into_iter().map(|refused| refused.map_or(Ok(()), Err)).collect())
    }

    fn connections(&mut self, each: &mut dyn FnMut(&Connection<'_>) -> bool) -> Result<(), String> {
        let (runtime, client) = self.open()?;
        let listed = connections::each(client, "/v1/connections", |connection| {
            // The kernel's IPVS knows nothing of masqueraded hosts.
            if connection.masquerade {
                return true;
            }
            each(&Connection {
                protocol: Protocol::named(&connection.protocol),
                left: Duration::from_secs(connection.expires_in),
                state: &connection.state,
                client: connection.client,
                vip: connection.vip,
                real: connection.real,
            })
        });
        runtime.block_on(listed).map_err(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_it_is_called_by() {
        assert_eq!(called_as(Path::new("/usr/local/sbin/ipvsadm")), Some(vec![]));
        assert_eq!(called_as(Path::new("ipvsadm-restore")), Some(vec!["-R".into()]));
        assert_eq!(called_as(Path::new("/usr/bin/shunt")), None);
    }
}

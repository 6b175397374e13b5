//! A run of ipvsadm: a command line read, a director asked or changed, what is printed and the exit status.

use std::io::{self, BufRead, Write};

use shunt_model::ipvsadm::arguments::{Command, List, Listed, Mistake, parse};
use shunt_model::ipvsadm::names::Names;
use shunt_model::ipvsadm::table::{Change, Refused, Table};

use super::connections::{self, Connection};
use super::help::{HELP, VERSION};
use super::listing;

/// Changes of `-R` that are made together, as one generation: what the API takes in one request.
pub const CHANGES_MAX: usize = 4000;

/// The exit status when there is no director to ask: that of ipvsadm without its kernel module.
const NO_DIRECTOR: u8 = 2;

/// Where the table is: a running director.
pub trait Target {
    /// The table and what was counted.
    ///
    /// # Errors
    /// Why it cannot be had.
    fn table(&mut self) -> Result<Table, String>;

    /// Makes changes, one after the other; those that are refused leave the others as they are.
    ///
    /// # Errors
    /// Why none can be made.
    fn change(&mut self, changes: Vec<Change>) -> Result<Vec<Result<(), Refused>>, String>;

    /// Gives every connection to `each` until that says false.
    ///
    /// # Errors
    /// Why they cannot be had, or not all of them.
    fn connections(&mut self, each: &mut dyn FnMut(&Connection<'_>) -> bool) -> Result<(), String>;
}

/// What a run of ipvsadm has to do with the world.
pub struct Session<'a> {
    /// The director.
    pub target: &'a mut dyn Target,
    /// Names of hosts and services.
    pub names: &'a dyn Names,
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
}

/// Why a run ends before its time, with the exit status; what is to be told was told.
struct Ended(u8);

impl From<io::Error> for Ended {
    /// Nobody reads any more, which is no error.
    fn from(_gone: io::Error) -> Self {
        Self(0)
    }
}

type Run<T> = Result<T, Ended>;

impl Session<'_> {
    /// Runs a command line, the program's name not among its words, and gives the exit status.
    pub fn run(&mut self, words: &[String], input: &mut dyn BufRead) -> u8 {
        self.command_line(words, input).unwrap_or_else(|Ended(status)| status)
    }

    fn command_line(&mut self, words: &[String], input: &mut dyn BufRead) -> Run<u8> {
        match self.read(words, false)? {
            Command::Restore => self.restore(input),
            Command::Change(change) => self.change(vec![change]),
            command => self.show(&command),
        }
    }

    fn read(&mut self, words: &[String], restoring: bool) -> Run<Command> {
        parse(words, restoring, self.names).map_err(|mistake| {
            let _ = self.err.write_all(mistake.text.as_bytes());
            Ended(mistake.status)
        })
    }

    /// Takes a command from each line. A mistake ends it; a refusal does not. The exit status is the last command's.
    fn restore(&mut self, input: &mut dyn BufRead) -> Run<u8> {
        let (mut status, mut waiting) = (0, Vec::new());
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = input.read_until(b'\n', &mut line);
            if !matches!(read, Ok(1..)) {
                break;
            }
            let text = String::from_utf8_lossy(&line);
            let words = text.split_whitespace().skip_while(|word| *word == "ipvsadm");
            let words: Vec<String> = words.map(str::to_owned).collect();
            let command = match parse(&words, true, self.names) {
                Ok(command) => command,
                Err(Mistake { text, status }) => {
                    self.change(waiting)?;
                    // Who does not read why is told by the status.
                    let _ = self.err.write_all(text.as_bytes());
                    return Err(Ended(status));
                }
            };
            match command {
                Command::Nothing => {}
                Command::Change(change) => {
                    waiting.push(change);
                    if waiting.len() >= CHANGES_MAX {
                        status = self.change(std::mem::take(&mut waiting))?;
                    }
                }
                command => {
                    self.change(std::mem::take(&mut waiting))?;
                    status = self.show(&command)?;
                }
            }
        }
        if waiting.is_empty() { Ok(status) } else { self.change(waiting) }
    }

    /// Makes changes and tells of those that were refused; gives the status of the last one.
    fn change(&mut self, changes: Vec<Change>) -> Run<u8> {
        if changes.is_empty() {
            return Ok(0);
        }
        let results = self.target.change(changes);
        let results = self.or_tell(results)?;
        let mut status = 0;
        for result in results {
            status = match result {
                Ok(()) => 0,
                Err(refused) => {
                    let _ = writeln!(self.err, "{refused}");
                    Mistake::MINUS_ONE
                }
            };
        }
        Ok(status)
    }

    /// Commands that change nothing.
    fn show(&mut self, command: &Command) -> Run<u8> {
        match command {
            Command::Help => {
                self.out.write_all(HELP.as_bytes())?;
                return Err(Ended(0));
            }
            Command::Version => {
                self.out.write_all(VERSION.as_bytes())?;
                return Err(Ended(0));
            }
            Command::Save(numeric) => {
                let table = self.table()?;
                let rules = listing::rules(&table, *numeric, self.names);
                self.out.write_all(rules.as_bytes())?;
            }
            Command::List(list) => self.list(list)?,
            Command::Daemon(task) => {
                let word = task.word();
                let _ = writeln!(
                    self.err,
                    "ipvsadm: --{word}: this director does not synchronise its state yet: nothing was changed: leave it out"
                );
                return Ok(Mistake::MINUS_ONE);
            }
            Command::Nothing | Command::Restore | Command::Change(_) => {}
        }
        Ok(0)
    }

    fn list(&mut self, list: &List) -> Run<()> {
        match list.what {
            Listed::Connections(engines) => return self.list_connections(engines, list.numeric),
            // No synchronisation runs, so there is nothing to tell.
            Listed::Daemon => {}
            Listed::Timeouts => {
                let table = self.table()?;
                self.out.write_all(listing::timeouts(&table).as_bytes())?;
            }
            _ => {
                let table = self.table()?;
                let Some(text) = listing::services(&table, list, self.names) else {
                    let _ = writeln!(self.err, "{}", Refused::NoSuchService);
                    return Err(Ended(1));
                };
                self.out.write_all(text.as_bytes())?;
            }
        }
        Ok(())
    }

    fn list_connections(&mut self, engines: bool, numeric: bool) -> Run<()> {
        self.out.write_all(connections::head(engines).as_bytes())?;
        let names = (!numeric).then_some(self.names);
        let Self { target, out, .. } = self;
        let listed = target.connections(&mut |connection| {
            out.write_all(connections::line(connection, names).as_bytes()).is_ok()
        });
        self.or_tell(listed)
    }

    fn table(&mut self) -> Run<Table> {
        let table = self.target.table();
        self.or_tell(table)
    }

    /// The answer, or the end with what is wrong told.
    fn or_tell<T>(&mut self, answer: Result<T, String>) -> Run<T> {
        answer.map_err(|wrong| {
            let _ = writeln!(self.err, "{wrong}");
            Ended(NO_DIRECTOR)
        })
    }
}

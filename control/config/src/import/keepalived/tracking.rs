//! What instances and groups depend on: `track_interface`, `track_script`, `track_file`, `track_process`.

use shunt_model::fault::Origin;
use shunt_model::fault::{Fault, printable};

use super::keywords::Block;
use super::services::Context;
use super::tree::Statement;
use super::values::{Values, walk};
use crate::import::note::Fate;
use crate::import::writer::{Writer, last_of_each, quoted, seconds};

/// Weights of what is tracked; the outermost count as the next ones, as in keepalived.
const WEIGHT: std::ops::RangeInclusive<i32> = -254..=254;
/// The largest weight that counts.
const WEIGHT_MAX: i32 = 253;
/// Weights of files.
pub const FILE_WEIGHT: std::ops::RangeInclusive<i32> = -2_147_483_647..=2_147_483_647;
/// Between two looks at files and processes, which keepalived is told of by the kernel, in seconds.
const LOOK: f64 = 0.5;

/// A weight, and whether it counts the other way round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// The number.
    pub number: i32,
    /// `reverse`.
    pub reverse: bool,
}

/// What a script or process that is tracked says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tracked {
    /// The kind of the check; none for a script.
    pub kind: Option<&'static str>,
    /// Keys and values as TOML has them.
    pub keys: Vec<(&'static str, String)>,
    /// Its weight where none is said.
    pub weight: Weight,
    /// The program of a script, and where it stands.
    pub program: Option<(Origin, String)>,
}

/// A file that is tracked.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackedFile {
    /// Its path.
    pub path: String,
    /// Its weight where none is said.
    pub weight: Weight,
    /// The number where there is no file.
    pub missing: i64,
}

/// Something that an instance depends on, and with which weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    name: String,
    what: What,
    weight: Weight,
}

/// What is tracked.
#[derive(Clone, Debug, PartialEq)]
enum What {
    /// The link of the NIC of this name.
    Link,
    File(TrackedFile),
    /// A script or a process.
    Check(Tracked),
}

impl Track {
    fn of(name: &str, what: What, weight: Weight) -> Self {
        Self { name: name.to_owned(), what, weight }
    }

    /// The link of a NIC, without which an instance is in fault.
    pub fn link(nic: String) -> Self {
        Self { name: nic, what: What::Link, weight: Weight::default() }
    }

    /// As a part of `track`.
    pub fn toml(&self) -> String {
        match &self.what {
            What::Link => format!("{{ nic = {}{} }}", quoted(&self.name), self.weight.toml()),
            What::File(file) => file.toml(&self.name, self.weight),
            What::Check(tracked) => tracked.toml(&self.name, self.weight),
        }
    }

    /// Whether it is the link of this NIC.
    pub fn is_link(&self, nic: Option<&str>) -> bool {
        self.what == What::Link && nic == Some(self.name.as_str())
    }

    /// Whether it is a link that changes the priority, which that of who owns the addresses does not.
    pub fn is_weighted_link(&self) -> bool {
        self.what == What::Link && self.weight.number != 0
    }

    /// What keepalived makes of it in an instance of a group without weights, or of who owns the addresses: scripts and files with a
    /// weight are left out, but for files of weight 1, which have none then. Interfaces and processes keep theirs.
    pub fn without_weight(&self) -> Option<Self> {
        let is_weighted = self.weight.number != 0;
        match &self.what {
            What::File(_) if self.weight.number == 1 => Some(self.unweighted()),
            What::File(_) => (!is_weighted).then(|| self.clone()),
            What::Check(tracked) if tracked.kind.is_none() => (!is_weighted).then(|| self.clone()),
            What::Link | What::Check(_) => Some(self.clone()),
        }
    }

    /// The same, with a weight of 0.
    pub fn unweighted(&self) -> Self {
        Self { weight: Weight { number: 0, ..self.weight }, ..self.clone() }
    }

    fn is_same(&self, other: &Self) -> bool {
        let what = match (&self.what, &other.what) {
            (What::Link, What::Link) | (What::File(_), What::File(_)) => true,
            (What::Check(one), What::Check(other)) => one.kind == other.kind,
            _ => false,
        };
        what && self.name == other.name
    }

    /// Adds it. Of what is tracked already the later weight holds, unless that of before is 0.
    pub fn join(self, tracks: &mut Vec<Self>) {
        match tracks.iter_mut().find(|track| track.is_same(&self)) {
            None => tracks.push(self),
            Some(track) if track.weight.number != 0 => track.weight = self.weight,
            Some(_) => {}
        }
    }
}

impl Tracked {
    /// As a part of `track`, with keepalived's defaults where they differ from ours.
    fn toml(&self, name: &str, weight: Weight) -> String {
        let said = |key: &str| self.keys.iter().any(|(known, _)| *known == key);
        let usual = [("interval", quoted("1s")), ("fall", "1".to_owned()), ("rise", "1".to_owned())];
        let usual = usual.into_iter().filter(|(key, _)| !said(key));
        let keys = self.keys.iter().cloned().chain(usual).map(|(key, value)| format!(", {key} = {value}"));
        let keys: String = keys.collect();
        let kind = quoted(self.kind.unwrap_or("script"));
        format!("{{ name = {}, check = {{ kind = {kind}{keys} }}{} }}", quoted(name), weight.toml())
    }
}

impl TrackedFile {
    /// As a part of `track`: its number is added to the priority, as often as the weight says.
    fn toml(&self, name: &str, weight: Weight) -> String {
        let Weight { number, reverse } = weight;
        let factor = if reverse { -number } else { number };
        // A check of another factor is another check.
        let name = if weight == self.weight { name.to_owned() } else { format!("{name}:{factor}") };
        let reverse = Weight { number: 0, reverse: reverse && number == 0 };
        format!(
            "{{ name = {}, check = {{ kind = \"file\", path = {}, factor = {factor}, missing = {}, interval = {}, fall = 1, rise = 1 }}{} }}",
            quoted(&name),
            quoted(&self.path),
            self.missing,
            seconds(LOOK),
            reverse.toml()
        )
    }
}

impl Weight {
    /// `, weight = …, reverse = true` as far as it is not the default.
    fn toml(self) -> String {
        let weight = if self.number == 0 { String::new() } else { format!(", weight = {}", self.number) };
        if self.reverse { weight + ", reverse = true" } else { weight }
    }
}

/// A weight of a script, a process or an interface.
pub fn weight(values: &mut Values<'_, '_>) -> Option<Weight> {
    largest(weight_within(values, WEIGHT)?, values)
}

/// A weight of a script: keepalived takes any.
pub fn script_weight(values: &mut Values<'_, '_>) -> Option<Weight> {
    largest(weight_within(values, i32::MIN + 1..=i32::MAX)?, values)
}

/// The largest weight that counts: a priority is 1 to 254.
fn largest(said: Weight, values: &mut Values<'_, '_>) -> Option<Weight> {
    let number = said.number.clamp(-WEIGHT_MAX, WEIGHT_MAX);
    if number != said.number {
        let holds = format!("{number} changes a priority as much");
        values.differs(format!("a weight of {}", said.number), holds, "nothing needs to be done");
    }
    Some(Weight { number, ..said })
}

/// A weight within bounds, and `reverse` or `noreverse`.
pub fn weight_within(values: &mut Values<'_, '_>, bounds: std::ops::RangeInclusive<i32>) -> Option<Weight> {
    let number = values.integer_as_far(bounds)?;
    let words = [("reverse", true), ("noreverse", false), ("no_reverse", false)];
    let reverse = values.peek().is_some() && values.choice(&words).unwrap_or(false);
    Some(Weight { number, reverse })
}

/// Reads a `track_file`.
pub fn read_file(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    let place = statement.line();
    let Some(name) = Values::of(statement, &place, writer).required("a track_file has a name") else {
        return;
    };
    let mut path = None;
    let mut file =
        TrackedFile { path: String::new(), weight: Weight { number: 1, reverse: false }, missing: 0 };
    walk(statement.statements(), Block("track_file"), &place, writer, |statement, writer| {
        let mut values = Values::of(statement, &place, writer);
        match statement.keyword() {
            "file" => path = values.required("a path").map(str::to_owned).or(path.take()),
            // keepalived knows one that was said by its not being 1.
            "weight" if file.weight.number != 1 && values.peek().is_some() => {
                values.ignored("weight is said twice", "the first one holds", "remove one of the two");
            }
            "weight" => file.weight = weight_within(&mut values, WEIGHT).unwrap_or(file.weight),
            _ => {
                if values.peek().is_some_and(|word| word != "overwrite") {
                    file.missing = values.integer(i64::from(i32::MIN)..=i64::from(i32::MAX)).unwrap_or(0);
                }
                if values.peek() == Some("overwrite") {
                    let instead = "a file that is missing counts as this number, and none is written";
                    writer.tell(statement.origin(), &place, "init_file overwrite", Fate::Instead(instead));
                }
            }
        }
    });
    match path {
        Some(path) => drop(context.track_files.insert(name.to_owned(), TrackedFile { path, ..file })),
        None => {
            let holds = "keepalived ignores the block, for a track_file names its file";
            let fault = Fault::new("file is missing", holds, "add file \"/run/…\"");
            writer.ignored(statement.origin(), &place, fault);
        }
    }
}

/// Leaves out a script whose program is not there, as keepalived does.
pub fn disable(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    let Some(name) = statement.words.get(1) else { return };
    let Some((origin, program)) = context.scripts.get(name).and_then(|script| script.program.clone()) else {
        return;
    };
    let keys = context.scripts.get(name).map(|script| script.keys.as_slice()).unwrap_or_default();
    let Some(wrong) = context.gone.lack(&program, keys) else { return };
    let holds = format!("keepalived disables {name} then, and so nothing depends on it");
    writer.ignored(
        &origin,
        &statement.line(),
        Fault::new(wrong, holds, "add what is missing, and import or reload anew"),
    );
    context.scripts.remove(name);
    context.disabled.insert(name.clone());
}

/// How many processes there shall be.
struct Count {
    least: u32,
    most: Option<u32>,
}

impl Count {
    /// `quorum` and `quorum_max`: one that does not go with the other one before it is passed over.
    fn take(&mut self, keyword: &str, values: &mut Values<'_, '_>) {
        let least = u32::from(keyword == "quorum");
        let Some(said) = values.integer_as_far(least..=65_535) else { return };
        let (wrong, advice) = match (keyword, self.most) {
            ("quorum", Some(most)) if said > most => {
                (format!("quorum {said} above quorum_max {most}"), "lower it")
            }
            ("quorum_max", _) if said < self.least && (said > 0 || self.least > 1) => {
                (format!("quorum_max {said} below quorum {}", self.least), "raise it")
            }
            ("quorum", _) => return self.least = said,
            _ => {
                self.most = Some(said);
                self.least = if said == 0 { 0 } else { self.least.max(1) };
                return;
            }
        };
        values.ignored(wrong, "keepalived ignores the line", advice);
    }
}

/// Reads a `vrrp_track_process`.
pub fn read_process(statement: &Statement, context: &mut Context, writer: &mut Writer) {
    let place = statement.line();
    let Some(name) = Values::of(statement, &place, writer).required("a vrrp_track_process has a name") else {
        return;
    };
    let (mut words, mut compare, mut full) = (Vec::new(), None, false);
    let mut count = Count { least: 1, most: None };
    let mut tracked = Tracked {
        kind: Some("process"),
        keys: vec![("interval", seconds(LOOK))],
        // keepalived.conf(5) says 1, and keepalived 2.2.7 takes 0: without the process the instance is in fault.
        weight: Weight::default(),
        program: None,
    };
    walk(statement.statements(), Block("vrrp_track_process"), &place, writer, |statement, writer| {
        let mut values = Values::of(statement, &place, writer);
        // The first look that finds the change counts when nothing is to be waited for.
        let looks = |time: f64| ((time / LOOK).ceil() as u32 + 1).to_string();
        let delay = 0.0..=45.0;
        match statement.keyword() {
            "process" if !words.is_empty() => {
                while values.word().is_some() {}
                values.ignored(
                    "process is said twice",
                    "keepalived looks for the first one",
                    "remove one of the two",
                );
            }
            "process" => words.extend(std::iter::from_fn(|| values.word()).map(quoted)),
            "param_match" => {
                compare = values.choice(&[("initial", "beginning"), ("partial", "first")]).or(compare);
            }
            "full_command" => full = true,
            "weight" => tracked.weight = weight(&mut values).unwrap_or(tracked.weight),
            "quorum" | "quorum_max" => count.take(statement.keyword(), &mut values),
            "fork_delay" => tracked.keys.extend(values.seconds(delay).map(|time| ("rise", looks(time)))),
            "terminate_delay" => tracked.keys.extend(values.seconds(delay).map(|time| ("fall", looks(time)))),
            _ => {
                let time = values.seconds(delay);
                tracked
                    .keys
                    .extend(time.into_iter().flat_map(|time| [("rise", looks(time)), ("fall", looks(time))]));
            }
        }
    });
    if words.is_empty() {
        let holds = "keepalived ignores the block, for it names a program";
        let fault = Fault::new("process is missing", holds, "add process \"haproxy\"");
        return writer.ignored(statement.origin(), &place, fault);
    }
    let usual = count.most.map_or(1, |most| most.min(1));
    tracked.keys.extend((count.least != usual).then(|| ("quorum", count.least.to_string())));
    tracked.keys.extend(count.most.map(|most| ("quorum_max", most.to_string())));
    // `param_match` with a program alone: one that has no parameters.
    let alone = words.len() == 1;
    let compare = match (compare, full || !alone) {
        (Some(_), _) if alone => "command",
        (Some(compare), _) => compare,
        (None, true) => "command",
        (None, false) => "name",
    };
    let mut keys = vec![("process", format!("[{}]", words.join(", "))), ("compare", quoted(compare))];
    keys.extend(last_of_each(tracked.keys, |(key, _)| *key));
    context.processes.insert(name.to_owned(), Tracked { keys, ..tracked });
}

/// Lines of `track_…`: a name, and a weight if it is not the one it has itself. `own` is the NIC of the instance, whose
/// link counts anyway.
pub fn tracks(
    statement: &Statement,
    tracks: &mut Vec<Track>,
    own: Option<&str>,
    place: &str,
    context: &mut Context,
    writer: &mut Writer,
) {
    let mut seen: Vec<&str> = Vec::new();
    for line in statement.statements() {
        let name = line.keyword();
        let ignored = |wrong: String, why: &str, advice: &str, writer: &mut Writer| {
            let holds = format!("{why}, and keepalived ignores the line");
            writer.ignored(line.origin(), place, Fault::new(wrong, holds, advice));
        };
        if seen.contains(&name) {
            ignored(format!("{name} is tracked twice"), "the first one holds", "remove one", writer);
            continue;
        }
        seen.push(name);
        if let Some(word) = line.values().first().filter(|word| *word != "weight") {
            let wrong = format!("unknown word {} behind {name}", printable(word, 60));
            ignored(wrong, "weight may follow a name", &format!("write {name} weight NUMBER"), writer);
            continue;
        }
        if line.values().len() == 1 {
            ignored(format!("the weight of {name} is missing"), "a number follows weight", "add it", writer);
            continue;
        }
        let mut values = Values::of(line, place, writer);
        let said = values.word().and_then(|_| match statement.keyword() {
            "track_file" => weight_within(&mut values, WEIGHT),
            _ => weight(&mut values),
        });
        let (kind, found) = match statement.keyword() {
            "track_interface" => {
                let Some(nic) = context.interfaces.nic(name, line.origin(), place, writer) else { continue };
                if own == Some(nic.as_str()) {
                    let why = "its link counts anyway";
                    ignored(
                        format!("{name} is the instance's own interface"),
                        why,
                        "remove the line",
                        writer,
                    );
                    continue;
                }
                let weight = said.unwrap_or_default();
                ("", Some(Track { name: nic, what: What::Link, weight }))
            }
            "track_file" => {
                let file = context.track_files.get(name).cloned();
                let track = file.map(|file| (file.weight, What::File(file)));
                ("track_file", track.map(|(weight, what)| Track::of(name, what, said.unwrap_or(weight))))
            }
            "track_process" => {
                let process = context.processes.get(name).cloned();
                let track = process.map(|one| (one.weight, What::Check(one)));
                (
                    "vrrp_track_process",
                    track.map(|(weight, what)| Track::of(name, what, said.unwrap_or(weight))),
                )
            }
            _ => {
                let script = context.scripts.get(name).cloned();
                let track = script.map(|script| (script.weight, What::Check(script)));
                ("vrrp_script", track.map(|(weight, what)| Track::of(name, what, said.unwrap_or(weight))))
            }
        };
        match found {
            Some(track) => tracks.push(track),
            None if context.disabled.contains(name) => {
                let wrong = format!("the script {name} is disabled");
                ignored(
                    wrong,
                    "its program or its user is not there",
                    "add what is missing, and import or reload anew",
                    writer,
                );
            }
            None => {
                let wrong = format!("there is no {kind} {name} in front of this line");
                ignored(
                    wrong,
                    "only one that is defined before can be tracked",
                    "correct the name, or move the line",
                    writer,
                );
            }
        }
    }
}

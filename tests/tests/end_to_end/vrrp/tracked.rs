//! What priority an instance has with what it tracks, beside keepalived: both read one file, and what they say is taken from their
//! links.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use shunt_tests::topology::director::Director;
use shunt_tests::topology::keepalived::{Keepalived, with_globals};
use shunt_tests::topology::place::Place;
use shunt_tests::topology::wait_for;
use shunt_tests::topology::wire::Wire;

use super::adverts::is_advert;
use super::link::{Link, join};

/// One that was not heard for so long, six intervals, is no master.
const SILENT: Duration = Duration::from_millis(600);
/// What stands for no adverts at all: the instance is in fault.
const FAULT: u8 = 0;

/// What an instance tracks.
enum Track {
    /// A file of this weight; what the instance says of it.
    File(&'static str, &'static str),
    /// A script that passes or fails, of this weight.
    Script(bool, &'static str),
    /// The other interface.
    Interface(&'static str),
}
use Track::{File, Interface, Script};

/// What is tracked, and the priority: while there is no file and the link is up; with the number 7 and the link down; without
/// the file again.
const CASES: &[(Track, [u8; 3])] = &[
    (File("2", ""), [100, 114, 100]),
    (File("-2", ""), [100, 86, 100]),
    (File("2 reverse", ""), [100, 86, 100]),
    (File("2", "weight 3 reverse"), [100, 79, 100]),
    (File("50", ""), [100, 254, 100]),
    (File("-50", ""), [100, FAULT, 100]),
    (File("0", ""), [100, FAULT, 100]),
    (File("0", "weight 0 reverse"), [FAULT, 100, FAULT]),
    (Script(true, "20"), [120; 3]),
    (Script(false, "20"), [100; 3]),
    (Script(true, "-20"), [100; 3]),
    (Script(false, "-20"), [80; 3]),
    (Script(true, "0"), [100; 3]),
    (Script(false, "0"), [FAULT; 3]),
    (Script(true, "20 reverse"), [80; 3]),
    (Script(false, "20 reverse"), [100; 3]),
    (Script(true, "-20 reverse"), [100; 3]),
    (Script(false, "-20 reverse"), [120; 3]),
    (Script(true, "0 reverse"), [FAULT; 3]),
    (Script(false, "0 reverse"), [100; 3]),
    (Interface("weight 20"), [120, 100, 100]),
    (Interface("weight -20"), [100, 80, 80]),
    (Interface(""), [100, FAULT, FAULT]),
    (Interface("weight 20 reverse"), [80, 100, 100]),
    (Interface("weight -20 reverse"), [100, 120, 120]),
    (Interface("weight 0 reverse"), [FAULT, 100, 100]),
];

/// keepalived.conf with an instance for each case, whose VRID is the number of its case and one.
fn keepalived_conf(file: &Path) -> String {
    let mut text = String::new();
    for (number, (track, _)) in CASES.iter().enumerate() {
        let vrid = number + 1;
        let tracked = match track {
            File(weight, line) => {
                text += &format!("track_file f{vrid} {{\nfile \"{}\"\nweight {weight}\n}}\n", file.display());
                format!("track_file {{\nf{vrid} {line}\n}}\n")
            }
            Script(passes, weight) => {
                text += &format!(
                    "vrrp_script s{vrid} {{\nscript /bin/{passes}\ninterval 1\nweight {weight}\n}}\n"
                );
                format!("track_script {{\ns{vrid}\n}}\n")
            }
            Interface(weight) => format!("track_interface {{\nback {weight}\n}}\n"),
        };
        text += &format!(
            "vrrp_instance VI_{vrid} {{\ninterface front\nversion 3\nadvert_int 0.1\nvirtual_router_id {vrid}\npriority 100\n\
             virtual_ipaddress {{\n192.0.2.{}\n}}\n{tracked}}}\n",
            100 + vrid
        );
    }
    text
}

/// What one says on its link: the priority of each VRID, and when it was said.
struct Said {
    wire: Wire,
    last: BTreeMap<u8, (u8, Instant)>,
}

impl Said {
    fn on(link: &Link, port: &'static str) -> Self {
        Self { wire: link.hub.run(move || Wire::open(port)), last: BTreeMap::new() }
    }

    /// The priority of each case now.
    fn priorities(&mut self) -> Vec<u8> {
        let until = Instant::now() + SILENT / 6;
        while Instant::now() < until {
            let Some(frame) = self.wire.receive() else { continue };
            if let (true, Some(&[vrid, priority])) = (is_advert(&frame), frame.get(35..37)) {
                self.last.insert(vrid, (priority, Instant::now()));
            }
        }
        let priority = |number: usize| {
            let said = self.last.get(&(number as u8 + 1)).filter(|(_, at)| at.elapsed() < SILENT);
            said.map_or(FAULT, |(priority, _)| *priority)
        };
        (0..CASES.len()).map(priority).collect()
    }
}

#[test]
fn what_is_tracked_counts_as_in_keepalived() {
    let link = Link::new("192.0.2.10");
    link.back();
    let place = Place::new();
    link.join_back(&place, "front", 4);
    join(&link.hub, &place, "back");
    let file = link.lab.path("number");
    let text = keepalived_conf(&file);
    let own = link.lab.write("own.conf", &with_globals("shunt", &text));
    let mut said = [Said::on(&link, "port-front"), Said::on(&link, "port-one")];

    let _keepalived = Keepalived::start_all(&link.lab, &place, "theirs", &text);
    let _director = Director::start(
        &link.lab,
        &format!(
            "{}\n[[nic]]\nname = \"front\"\ndevice = \"af_packet:one\"\naddresses = [\"192.0.2.2/24\"]\n\
             [[nic]]\nname = \"back\"\ndevice = \"af_packet:one-b\"\naddresses = [\"10.1.0.2/24\"]\n\
             [import]\nkeepalived = \"{}\"\n",
            link.lab.runtime(1, "connections = 4096"),
            own.display()
        ),
    );
    for phase in 0..3 {
        match phase {
            0 => {}
            1 => {
                std::fs::write(&file, "7\n").unwrap();
                link.cut("back");
                link.cut("one-b");
            }
            _ => std::fs::remove_file(&file).unwrap(),
        }
        let wanted: Vec<u8> = CASES.iter().map(|(_, priorities)| priorities[phase]).collect();
        wait_for(&format!("priorities of phase {phase}"), || {
            let [theirs, ours] = [0, 1].map(|who: usize| said[who].priorities());
            if theirs == wanted && ours == wanted {
                return Ok(());
            }
            Err(format!("wanted\n{wanted:?}, keepalived says\n{theirs:?}, shunt\n{ours:?}"))
        });
    }
}

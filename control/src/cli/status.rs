//! `shunt status`: role, VIPs, NICs, workers, services, and real servers and why each is up or down.

use std::time::Duration;

use clap::Args;
use hyper::Method;

use super::Outcome;
use super::client::{Client, Failure, Target, run as speak};
use super::output::{is_terminal, say, say_bytes, say_json};
use super::summary::{View, counts};
use super::table::{Table, seconds};
use super::{neighbours, workers};
use crate::api::Status;
use crate::api::status::{
    Books, Evidence, Masquerade, Nic, Quorum, Real, Service, SplitBrain, VirtualRouter,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Of many services those are shown with which something is wrong.

Examples:
  shunt status
  shunt status web                      one service, by its name or its VIP and port
  shunt status --down                   what does not serve, and why
  shunt status --watch=5                again and again, each 5 s
  shunt status --workers                what a packet costs now: looks twice, a second apart
  shunt status --workers --seconds 0    the same since the start
  shunt status --json | jq '.services[].reals[] | {address, state, reason}'")]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
    /// One service: its name, or its VIP and port
    #[arg(value_name = "SERVICE", conflicts_with_all = ["down", "all", "workers"])]
    service: Option<String>,
    /// The services and real servers that do not serve
    #[arg(long, conflicts_with = "all")]
    down: bool,
    /// All services, VIPs and pieces of advice, however many
    #[arg(long)]
    all: bool,
    /// Again and again, each so many seconds [default: 2]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = clap::value_parser!(u16).range(1..=3600), conflicts_with = "workers")]
    watch: Option<u16>,
    /// Answer in JSON (docs/api.md)
    #[arg(long)]
    json: bool,
    /// What the workers' loops cost: load, cycles for a packet by stage, bursts, turns, tables
    #[arg(long)]
    workers: bool,
    /// Seconds that --workers looks at, at most 3600; 0 is since the start
    #[arg(long, default_value_t = 1.0, requires = "workers", value_parser = length)]
    seconds: f64,
}

fn length(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("0 to 3600 seconds".to_owned()),
    }
}

/// Asks and prints.
pub fn run(arguments: &Arguments) -> Outcome {
    let view = match &arguments.service {
        Some(service) => View::Service(service.clone()),
        None if arguments.down => View::Down,
        None if arguments.all => View::All,
        None => View::Summary,
    };
    speak(&arguments.target, async |client: &mut Client| {
        if arguments.workers {
            return workers::show(client, Duration::from_secs_f64(arguments.seconds), arguments.json).await;
        }
        loop {
            let bytes = client.bytes(Method::GET, "/v1/status").await?;
            let written = match (&view, arguments.json) {
                (View::All | View::Summary, true) => say_bytes(&bytes),
                (view, json) => {
                    let mut status: Status = client.read(&bytes)?;
                    if json {
                        status.services = view.services(&status.services)?.0;
                        say_json(&status)
                    } else {
                        show(&text(&status, view)?, arguments.watch.is_some())
                    }
                }
            };
            match arguments.watch {
                Some(seconds) if written => tokio::time::sleep(Duration::from_secs(seconds.into())).await,
                _ => return Ok::<(), Failure>(()),
            }
        }
    })
}

/// Writes a status; one that is looked at again and again takes the place of the one before on a terminal.
fn show(text: &str, again: bool) -> bool {
    match (again, is_terminal()) {
        (true, true) => say(&format!("\x1b[H\x1b[2J{text}")),
        (true, false) => say(&format!("{text}\n")),
        (false, _) => say(text),
    }
}

/// One service, or what does not serve.
fn part(status: &Status, view: &View) -> Result<String, Failure> {
    let (shown, _) = view.services(&status.services)?;
    if shown.is_empty() {
        return Ok(format!("{}\nall services and real servers serve", counts(status)));
    }
    let mut text = match view {
        View::Down => format!("{}\n\n", counts(status)),
        _ => String::new(),
    };
    text += &services(&shown);
    text.push('\n');
    text += &evidence(&shown);
    for advice in &status.advice {
        if shown.iter().any(|service| advice.contains(&format!("\"{}\"", service.name))) {
            text += &format!("advice: {advice}\n");
        }
    }
    Ok(text.trim_end().to_owned())
}

/// The status for people.
fn text(status: &Status, view: &View) -> Result<String, Failure> {
    if matches!(view, View::Down | View::Service(_)) {
        return part(status, view);
    }
    let Status { version, pid, role, uptime, file, generation, .. } = status;
    let owned = |owned: bool| {
        let vips = status.vips.iter().filter(|vip| vip.owned == owned);
        let vips: Vec<String> = vips.map(|vip| vip.address.clone()).collect();
        let (shown, more) = view.bound(&vips);
        let shown: Vec<String> = shown.iter().cloned().chain(more).collect();
        if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
    };
    let mut text = format!(
        "shunt {version}, {role}, up {}, generation {generation}, process {pid}, {file}\n",
        seconds(*uptime)
    );
    text += &format!("VIPs: {}\n", owned(true));
    if status.vips.iter().any(|vip| !vip.owned) {
        text += &format!("VIPs of another director: {}\n", owned(false));
    }
    text.push('\n');
    text += &virtual_routers(&status.vrrp);
    text += &nics(status);
    text += &placement(status);
    text.push('\n');
    text += &workers_of(status);
    text.push('\n');
    let (shown, hidden) = view.services(&status.services)?;
    text += &format!("{}\n\n", counts(status));
    if !shown.is_empty() {
        text += &services(&shown);
    }
    if let Some(hidden) = hidden {
        text += &format!("{hidden}\n");
    }
    text.push('\n');
    text += &evidence(&shown);
    text += &masquerades(&status.masquerades);
    text += &neighbours::conflicts(&status.conflicts);
    text += &not_in_file(&status.not_in_file, view);
    text += &books(&status.books);
    text += &limits(status);
    text += &many_neighbours(status);
    let (advice, more) = view.bound(&status.advice);
    for advice in advice.iter().chain(&more) {
        text += &format!("advice: {advice}\n");
    }
    Ok(text.trim_end().to_owned())
}

/// Neighbours at which operators of other balancers look for limits of the kernel (`gc_thresh2` is 512).
const MANY_NEIGHBOURS: usize = 512;

/// With many neighbours, what bounds them and what does not.
fn many_neighbours(status: &Status) -> String {
    let known = status.neighbours.iter().filter(|one| one.mac.is_some()).count();
    if known < MANY_NEIGHBOURS {
        return String::new();
    }
    format!(
        "neighbours: {known} known, in the director's own table: neigh.default.gc_thresh3 of the kernel does not bound them\n"
    )
}

/// What ipvsadm changed.
fn not_in_file(changes: &[String], view: &View) -> String {
    if changes.is_empty() {
        return String::new();
    }
    let head = "changed by ipvsadm and not in the file: `shunt reload` undoes it:\n";
    let (shown, more) = view.bound(changes);
    let lines: String = shown.iter().chain(&more).map(|change| format!("  {change}\n")).collect();
    format!("{head}{lines}\n")
}

/// Virtual routers, who else was heard of each, and two masters at a time.
fn virtual_routers(routers: &[VirtualRouter]) -> String {
    if routers.is_empty() {
        return String::new();
    }
    let mut table =
        Table::new(&["VRRP", "NIC", "VRID", "VERSION", "ROLE", "PRIORITY", "SINCE", "WHY"], &[2, 3, 5, 6]);
    for router in routers {
        let VirtualRouter { name, nic, vrid, version, role, priority, since, reason, .. } = router;
        let numbers = [vrid, version].map(ToString::to_string);
        let [vrid, version] = numbers;
        let words = [name.clone(), nic.clone(), vrid, version, role.clone(), priority.to_string()];
        table.row(words.into_iter().chain([seconds(*since), reason.clone()]).collect());
        let blank = String::new;
        let mut more = |name: String, said: String| {
            table.row([name].into_iter().chain(std::iter::repeat_n(blank(), 6)).chain([said]).collect());
        };
        if let Some(said) = adverts(router) {
            more("  adverts".to_owned(), said);
        }
        if let (Some(mac), Some(by)) = (&router.virtual_mac, &router.virtual_mac_by) {
            more(format!("  at {mac}"), format!("by {by}"));
        }
        for peer in &router.peers {
            let priority = peer.priority.map_or_else(String::new, |priority| priority.to_string());
            let said = match (&peer.refused, &peer.complaint) {
                (Some(refused), _) => format!("refused: {refused}"),
                (None, Some(complaint)) => complaint.clone(),
                (None, None) => format!("{} adverts, the last one {} ms ago", peer.received, peer.heard),
            };
            let name = format!("  heard {}", peer.address);
            table.row(vec![name, blank(), blank(), blank(), blank(), priority, blank(), said]);
        }
    }
    let split = |router: &VirtualRouter| {
        let split = router.split_brain.as_ref()?;
        let SplitBrain { rival, since, cause } = split;
        Some(format!("split brain: {}: {rival} for {}: {cause}\n", router.name, seconds(*since)))
    };
    let splits: String = routers.iter().filter_map(split).collect();
    format!("{}{splits}\n", table.text())
}

/// How late a virtual router's adverts were; none before it was master for an interval.
fn adverts(router: &VirtualRouter) -> Option<String> {
    let all: u64 = router.lateness.iter().map(|bucket| bucket.count).sum();
    // The upper end of the bucket in which the advert of this place lies.
    let late = |place: u64| {
        let mut before = 0;
        let found = router.lateness.iter().find(|bucket| {
            before += bucket.count;
            before >= place
        });
        found.map(|bucket| milliseconds(2 * bucket.from))
    };
    let (most, all_of_them) = (late(all - all / 100)?, late(all)?);
    let gap = milliseconds(router.longest_gap);
    Some(format!(
        "{} sent, 99 % within {most} of their time, all within {all_of_them}, longest gap {gap}",
        router.sent
    ))
}

/// Microseconds as milliseconds.
fn milliseconds(microseconds: u64) -> String {
    format!("{}.{} ms", microseconds / 1000, microseconds % 1000 / 100)
}

fn nics(status: &Status) -> String {
    let head = ["NIC", "DEVICE", "MAC", "LINK", "MTU", "QUEUES", "RECEIVED", "SENT", "MISSED", "ERRORS"];
    let mut table = Table::new(&head, &[4, 5, 6, 7, 8, 9]);
    for nic in &status.nics {
        let numbers =
            [nic.mtu.into(), nic.queues.into(), nic.received, nic.sent].map(|number: u64| number.to_string());
        let words = [&nic.name, &nic.device, &nic.mac, &nic.link].map(Clone::clone);
        let lost = [missed(nic), nic.errors.to_string()];
        table.row(words.into_iter().chain(numbers).chain(lost).collect());
    }
    table.text()
}

/// What a NIC lost; `-` where only its senders know.
fn missed(nic: &Nic) -> String {
    match nic.missed {
        None if nic.no_buffer == 0 => "-".to_owned(),
        missed => (missed.unwrap_or_default() + nic.no_buffer).to_string(),
    }
}

/// How packets reach their workers, where there are several.
fn placement(status: &Status) -> String {
    let several = status.nics.iter().filter(|_| status.workers.len() > 1);
    several.map(|nic| format!("{}: {}: {}\n", nic.name, nic.placement, nic.placement_reason)).collect()
}

fn workers_of(status: &Status) -> String {
    let head = [
        "WORKER",
        "CORE",
        "GENERATION",
        "CONNECTIONS",
        "CAPACITY",
        "RECEIVED",
        "SENT",
        "DROPPED",
        "HANDED OVER",
        "IDLE",
    ];
    let mut table = Table::new(&head, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for worker in &status.workers {
        let numbers = [
            worker.id.into(),
            worker.core.into(),
            worker.generation,
            worker.connections,
            worker.capacity,
            worker.received,
            worker.sent,
            worker.dropped,
            worker.handed_over,
        ];
        let idle = format!("{}.{}%", worker.idle_per_mille / 10, worker.idle_per_mille % 10);
        table.row(numbers.iter().map(u64::to_string).chain([idle]).collect());
    }
    table.text()
}

/// Services as `ipvsadm -Ln` lists them, with what it does not know behind.
fn services(services: &[Service]) -> String {
    let head = [
        "Prot LocalAddress:Port",
        "Scheduler",
        "Forward",
        "Weight",
        "ActiveConn",
        "InActConn",
        "State",
        "NextHop",
    ];
    let mut table = Table::new(&head, &[3, 4, 5]);
    for service in services {
        let place = format!("{:<4} {}", service.protocol.to_uppercase(), service.listen);
        let name = format!("\"{}\"", service.name);
        let mut row = vec![place, service.scheduler.clone(), name];
        let Quorum { quorum, weight, held, .. } = service.quorum;
        if !held && (quorum > 1 || service.sorry_server.is_some()) {
            row.extend([String::new(), String::new(), String::new()]);
            row.push(format!("quorum lost: weight {weight}, quorum {quorum}"));
        }
        table.row(row);
        let sorry = service.sorry_server.iter().map(|real| ("  sorry", real));
        for (arrow, real) in service.reals.iter().map(|real| ("  ->", real)).chain(sorry) {
            table.row(vec![
                format!("{arrow} {}", real.address),
                String::new(),
                real.forward.clone(),
                real.weight.to_string(),
                real.connections_active.to_string(),
                real.connections_inactive.to_string(),
                state(real),
                real.next_hop.clone(),
            ]);
        }
    }
    table.text()
}

/// What passed by and speaks against real servers, of those of which there is something.
fn evidence(services: &[Service]) -> String {
    let head = ["SEEN OF", "", "ANSWERED", "REFUSED", "UNANSWERED", "UNREACHABLE", "TIME EXCEEDED", "LAST"];
    let mut table = Table::new(&head, &[2, 3, 4, 5, 6]);
    let reals = services.iter().flat_map(|service| service.reals.iter().map(move |real| (service, real)));
    let mut some = false;
    for (service, real) in reals.filter(|(_, real)| real.evidence.is_noteworthy()) {
        some = true;
        let Evidence { answered, refused, unanswered, unreachable, time_exceeded, last } = &real.evidence;
        let numbers = [answered, refused, unanswered, unreachable, time_exceeded].map(u64::to_string);
        let last = last.as_ref().map(|last| format!("{} {} ago", last.kind, seconds(last.ago)));
        let names = [format!("\"{}\"", service.name), real.address.clone()];
        table.row(names.into_iter().chain(numbers).chain([last.unwrap_or_default()]).collect());
    }
    if some { format!("{}\n", table.text()) } else { String::new() }
}

/// Addresses that hosts are masqueraded by.
fn masquerades(masquerades: &[Masquerade]) -> String {
    if masquerades.is_empty() {
        return String::new();
    }
    let head = ["MASQUERADED BY", "CONNECTIONS", "TOTAL", "PACKETS OUT", "PACKETS IN"];
    let mut table = Table::new(&head, &[1, 2, 3, 4]);
    for one in masquerades {
        let numbers = [one.connections, one.connections_total, one.packets_out, one.packets_in];
        table.row([one.address.clone()].into_iter().chain(numbers.iter().map(u64::to_string)).collect());
    }
    format!("{}\n", table.text())
}

fn state(real: &Real) -> String {
    let state = format!("{} {}", real.state.word(), seconds(real.since));
    match &real.reason {
        Some(reason) => format!("{state} ({reason})"),
        None => state,
    }
}

fn books(books: &Books) -> String {
    let Books { received, made, injected, sent, punted, consumed, dropped, held, balanced } = books;
    let verdict = if *balanced { "balanced" } else { "NOT BALANCED" };
    format!(
        "books ({verdict}): received {received} + made {made} + injected {injected} = \
         sent {sent} + punted {punted} + consumed {consumed} + dropped {dropped} + held {held}\n"
    )
}

/// Only what was full once, or is nearly full.
fn limits(status: &Status) -> String {
    let near = |used: u64, most: u64| used.saturating_mul(10) >= most.saturating_mul(9);
    let tight = (status.limits.iter())
        .filter(|limit| limit.refused + limit.reclaimed > 0 || near(limit.used, limit.most));
    tight
        .map(|limit| {
            let (name, used, most, refused) = (&limit.name, limit.used, limit.most, limit.refused);
            let reclaimed = match limit.reclaimed {
                0 => String::new(),
                reclaimed => format!(", {reclaimed} given up for others"),
            };
            format!("limit: {name}: {used} of {most} used, {refused} times full{reclaimed}\n")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::{
        Bucket, LastFailure, Limit, Nic, Notified, Quorum, RealState, Vip, VrrpCounters, VrrpPeer, Worker,
    };

    #[test]
    fn for_people() {
        let real = |address: &str, state, reason: Option<&str>| Real {
            address: address.to_owned(),
            forward: "dr".to_owned(),
            weight: 3,
            state,
            since: 75,
            reason: reason.map(str::to_owned),
            connections_active: 2,
            connections_inactive: 12,
            next_hop: "back 02:00:00:00:00:15".to_owned(),
            ..Real::default()
        };
        let mut refuses = real("10.1.0.12:80", RealState::Down, Some("connection refused"));
        refuses.evidence = Evidence {
            answered: 70,
            refused: 3,
            last: Some(LastFailure { kind: "refused".to_owned(), ago: 4 }),
            ..Evidence::default()
        };
        let status = Status {
            version: "0.1.0".to_owned(),
            pid: 77,
            role: "active".to_owned(),
            packet_memory_node: None,
            uptime: 192,
            file: "dr.toml".to_owned(),
            generation: 7,
            vips: vec![
                Vip { address: "192.0.2.10".to_owned(), owned: true },
                Vip { address: "192.0.2.11".to_owned(), owned: false },
            ],
            vrrp: vec![VirtualRouter {
                name: "VI_1".to_owned(),
                nic: "front".to_owned(),
                vrid: 51,
                version: 3,
                role: "master".to_owned(),
                since: 60,
                reason: "no master was heard".to_owned(),
                priority: 100,
                peers: vec![VrrpPeer {
                    address: "192.0.2.3".to_owned(),
                    priority: Some(50),
                    heard: 80,
                    received: 7,
                    refused: None,
                    complaint: None,
                }],
                sent: 1200,
                longest_gap: 104_700,
                lateness: vec![Bucket { from: 512, count: 1190 }, Bucket { from: 4096, count: 10 }],
                split_brain: Some(SplitBrain {
                    rival: "192.0.2.3".to_owned(),
                    since: 5,
                    cause: "it does not give way".to_owned(),
                }),
                ..VirtualRouter::default()
            }],
            vrrp_counters: VrrpCounters::default(),
            late: Vec::new(),
            unanswered: Vec::new(),
            nics: vec![Nic {
                name: "front".to_owned(),
                device: "af_packet:front".to_owned(),
                ..Nic::default()
            }],
            workers: vec![Worker { core: 1, capacity: 65_536, idle_per_mille: 987, ..Worker::default() }],
            services: vec![Service {
                name: "web".to_owned(),
                listen: "192.0.2.10:80".to_owned(),
                protocol: "tcp".to_owned(),
                scheduler: "wrr".to_owned(),
                reals: vec![real("10.1.0.11:80", RealState::Up, None), refuses],
                quorum: Quorum { quorum: 2, hysteresis: 0, weight: 1, held: false },
                sorry_server: Some(real("10.1.0.99:80", RealState::Serving, None)),
            }],
            neighbours: Vec::new(),
            conflicts: Vec::new(),
            without_way: 0,
            masquerades: vec![Masquerade {
                address: "192.0.2.2".to_owned(),
                connections: 3,
                connections_total: 20,
                packets_out: 70,
                packets_in: 60,
                ..Masquerade::default()
            }],
            not_in_file: vec!["- service \"dns\"".to_owned()],
            notified: Notified { told: 3, lost: 0, failed: 1 },
            books: Books { received: 5, sent: 5, balanced: true, ..Books::default() },
            limits: vec![
                Limit { name: "neighbours".to_owned(), used: 1, most: 100, refused: 0, reclaimed: 0 },
                Limit { name: "waiting packets".to_owned(), used: 1, most: 100, refused: 4, reclaimed: 0 },
            ],
            advice: vec!["do this".to_owned()],
        };
        let want = "\
shunt 0.1.0, active, up 3m12s, generation 7, process 77, dr.toml
VIPs: 192.0.2.10
VIPs of another director: 192.0.2.11

VRRP               NIC    VRID  VERSION  ROLE    PRIORITY  SINCE  WHY
VI_1               front    51        3  master       100     1m  no master was heard
  adverts                                                         1200 sent, 99 % within 1.0 ms of their time, all within 8.1 ms, longest gap 104.7 ms
  heard 192.0.2.3                                      50         7 adverts, the last one 80 ms ago
split brain: VI_1: 192.0.2.3 for 5s: it does not give way

NIC    DEVICE           MAC  LINK  MTU  QUEUES  RECEIVED  SENT  MISSED  ERRORS
front  af_packet:front               0       0         0     0       -       0

WORKER  CORE  GENERATION  CONNECTIONS  CAPACITY  RECEIVED  SENT  DROPPED  HANDED OVER   IDLE
     0     1           0            0     65536         0     0        0            0  98.7%

services: 1, 1 without quorum; real servers: 2: 1 up, 1 down

Prot LocalAddress:Port  Scheduler  Forward  Weight  ActiveConn  InActConn  State                            NextHop
TCP  192.0.2.10:80      wrr        \"web\"                                   quorum lost: weight 1, quorum 2
  -> 10.1.0.11:80                  dr            3           2         12  up 1m15s                         back 02:00:00:00:00:15
  -> 10.1.0.12:80                  dr            3           2         12  down 1m15s (connection refused)  back 02:00:00:00:00:15
  sorry 10.1.0.99:80               dr            3           2         12  serving 1m15s                    back 02:00:00:00:00:15

SEEN OF                ANSWERED  REFUSED  UNANSWERED  UNREACHABLE  TIME EXCEEDED  LAST
\"web\"    10.1.0.12:80        70        3           0            0              0  refused 4s ago

MASQUERADED BY  CONNECTIONS  TOTAL  PACKETS OUT  PACKETS IN
192.0.2.2                 3     20           70          60

changed by ipvsadm and not in the file: `shunt reload` undoes it:
  - service \"dns\"

books (balanced): received 5 + made 0 + injected 0 = sent 5 + punted 0 + consumed 0 + dropped 0 + held 0
limit: waiting packets: 1 of 100 used, 4 times full
advice: do this";
        assert_eq!(text(&status, &View::Summary).unwrap(), want);
    }
}

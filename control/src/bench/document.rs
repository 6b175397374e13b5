//! Runs as a document: Markdown tables of targets, cells, and what does not fit into one number.

use std::fmt::Write as _;

use super::measure::Spread;
use super::report::{Cell, Frame};
use super::targets::{self, count, family_name, is_ordinary, upper};
use super::times::Quantiles;

/// Figures of others, measured on a machine of the kind that this project is built on, not in these runs: nanoseconds for a
/// 64-byte packet by open connections.
const PEERS: [(&str, [&str; 4]); 4] = [
    ("testpmd macswap (floor)", ["1.5–2.5 on net_ring, 10 on net_null", "same", "same", "same"]),
    ("katran, XDP, encapsulation", ["66", "85", "357", "419"]),
    ("DPVS 1.10.2, DR, UDP", ["117", "120", "770", "930"]),
    ("kernel IPVS, DR, instructions", ["4454", "–", "4582–4914", "–"]),
];
/// The flows of those figures.
const PEER_FLOWS: [u64; 4] = [1, 1_000, 100_000, 1_000_000];
/// Other figures of others: what, DPVS, katran, kernel IPVS.
const PEERS_MORE: [[&str; 4]; 4] = [
    [
        "new connections, M a second and core",
        "0.5–1.9, falling as the table fills",
        "2.1, 1.05 when full",
        "–",
    ],
    ["bytes for a connection", "704", "53 and the map's", "128"],
    ["NAT, Mpps, 1 k and 1 M flows", "7.2 and 1.09", "–", "–"],
    ["TUN, Mpps, 1 k and 1 M flows", "5.3 and 0.98", "as above", "–"],
];

/// A table in Markdown.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// The cells of all runs, those of one kind made one: the least of all, the median of medians, the most of all; the rest is
/// the first run's.
#[must_use]
pub fn merge(runs: &[Vec<Cell>]) -> Vec<Cell> {
    let mut merged: Vec<Cell> = Vec::new();
    for cell in runs.iter().flatten() {
        if merged.iter().any(|known| known.key() == cell.key()) {
            continue;
        }
        let alike: Vec<&Cell> = runs.iter().flatten().filter(|other| other.key() == cell.key()).collect();
        let spread = |value: fn(&Cell) -> Spread| Spread {
            min: alike.iter().map(|cell| value(cell).min).fold(f64::INFINITY, f64::min),
            median: Spread::of(alike.iter().map(|cell| value(cell).median).collect()).median,
            max: alike.iter().map(|cell| value(cell).max).fold(0.0, f64::max),
        };
        merged.push(Cell {
            ns_per_packet: spread(|cell| cell.ns_per_packet),
            packets_per_second: spread(|cell| cell.packets_per_second),
            cycles_per_packet: spread(|cell| cell.cycles_per_packet),
            floor_ns_per_packet: spread(|cell| cell.floor_ns_per_packet),
            ..cell.clone()
        });
    }
    merged
}

/// The document of these runs, without a head line.
#[must_use]
pub fn markdown(runs: &[Vec<Cell>]) -> String {
    let merged = merge(runs);
    let sections = [
        ("Targets", target_table(runs)),
        ("Beside the peers", peers(&merged)),
        ("The floor", floors(&merged)),
        ("Packets of open connections", forwarding(&merged, is_ordinary)),
        ("Sizes of frames", forwarding(&merged, |cell| cell.name() == "forward" && !is_ordinary(cell))),
        (
            "Schedulers and new connections in the traffic",
            forwarding(&merged, |cell| {
                cell.kind == "forward" && (cell.new_share > 0 || cell.scheduler != "rr")
            }),
        ),
        ("Turns of the worker, and latency", times(&merged)),
        ("Connections that begin and end", beginnings(runs)),
        ("SYN flood against a full table", floods(runs)),
        ("Many services, and their reload", services(runs)),
    ];
    let mut text = String::new();
    for (title, body) in sections.into_iter().filter(|(_, body)| !body.is_empty()) {
        let _ = write!(text, "## {title}\n\n{body}\n");
    }
    text
}

fn one(value: f64) -> String {
    format!("{value:.1}")
}

fn us(ns: f64) -> String {
    one(ns / 1000.0)
}

fn target_table(runs: &[Vec<Cell>]) -> String {
    let names: Vec<String> = (1..=runs.len()).map(|run| format!("run {run}")).collect();
    let mut head = vec!["target", "limit", "unit"];
    head.extend(names.iter().map(String::as_str));
    head.push("met in");
    let targets: Vec<_> =
        targets::all(runs).into_iter().filter(|target| target.figures.iter().any(Option::is_some)).collect();
    let mut met_always = 0;
    let mut rows = Vec::new();
    for target in &targets {
        let (met, measured) = target.met();
        met_always += usize::from(met == measured);
        let mut row = vec![target.name.clone(), target.limit(), target.unit.to_owned()];
        row.extend(target.verdicts());
        row.push(format!("{met} of {measured}"));
        rows.push(row);
    }
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "{met_always} of {} targets met in every run that measured them. A figure is the median of a run's repetitions; where \
         several cells are about one target (UDP and TCP, both directions of NAT) it is the worst of them.\n\n{}",
        rows.len(),
        table(&head, &rows)
    )
}

/// What others take, and what was measured here.
fn peers(cells: &[Cell]) -> String {
    let find = |flows, method: &str| {
        let mut found = cells.iter().filter(|cell| is_ordinary(cell));
        found.find(|cell| {
            let Cell { method: its, family, protocol, direction, .. } = cell;
            (&**its, &**family, &**protocol, &**direction, cell.flows)
                == (method, "ipv4", "udp", "request", flows)
        })
    };
    let ours = |method: &str| -> Vec<String> {
        let ns =
            |flows| find(flows, method).map_or_else(|| "–".to_owned(), |cell| one(cell.ns_per_packet.median));
        PEER_FLOWS.iter().map(|&flows| ns(flows)).collect()
    };
    let mut rows = Vec::new();
    for (method, name) in [("dr", "**shunt, DR, UDP**"), ("tun", "**shunt, TUN, UDP**")] {
        rows.push([vec![name.to_owned()], ours(method)].concat());
    }
    for (name, figures) in PEERS {
        rows.push([vec![name.to_owned()], figures.map(str::to_owned).to_vec()].concat());
    }
    if cells.iter().all(|cell| !is_ordinary(cell)) {
        return String::new();
    }
    let mpps = |method: &str| {
        let rate = |flows| {
            find(flows, method)
                .map_or_else(|| "–".to_owned(), |cell| one(cell.packets_per_second.median / 1e6))
        };
        format!("{} and {}", rate(1_000), rate(1_000_000))
    };
    let growth = cells.iter().find_map(|cell| cell.growth.as_ref());
    let new = growth.and_then(|growth| growth.steps.get(8)).map(|step| one(step.per_second / 1e6));
    let bytes = find(10_000_000, "dr").or_else(|| find(1_000_000, "dr"));
    let bytes = bytes.and_then(|cell| cell.bytes_per_connection).map(one);
    let dash = || "–".to_owned();
    let ours = [
        new.map_or_else(dash, |new| format!("{new} at 90 %")),
        bytes.unwrap_or_else(dash),
        mpps("nat"),
        mpps("tun"),
    ];
    let more: Vec<_> = PEERS_MORE
        .iter()
        .zip(ours)
        .map(|([what, dpvs, katran, kernel], ours)| {
            vec![(*what).to_owned(), ours, (*dpvs).to_owned(), (*katran).to_owned(), (*kernel).to_owned()]
        })
        .collect();
    format!(
        "Nanoseconds for a packet, source and sink left out, by open connections. The peers were measured on another day on a \
         virtual machine of the same kind, not in these runs.\n\n{}\n{}",
        table(&["", "1", "1 k", "100 k", "1 M"], &rows),
        table(&["", "shunt", "DPVS", "katran", "kernel IPVS"], &more)
    )
}

fn floors(cells: &[Cell]) -> String {
    let rows: Vec<_> = cells
        .iter()
        .filter(|cell| cell.kind == "floor")
        .map(|cell| {
            let Spread { min, median, max } = cell.ns_per_packet;
            vec![cell.direction.clone(), one(min), one(median), one(max)]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "A loop that only swaps MACs, in nanoseconds for a packet: ours between the same rings as everything else, source and \
         sink left out; testpmd's with the driver's own cost included.\n\n{}",
        table(&["macswap by", "least", "median", "most"], &rows)
    )
}

/// Who a cell is about, without its flows.
fn who(cell: &Cell) -> String {
    let direction = if cell.method == "nat" { format!(" {}", cell.direction) } else { String::new() };
    let protocol = cell.protocol.to_uppercase();
    format!("{}{direction}, {}, {protocol}", upper(&cell.method), family_name(&cell.family))
}

fn forwarding(cells: &[Cell], wanted: impl Fn(&Cell) -> bool) -> String {
    let mut cells: Vec<&Cell> =
        cells.iter().filter(|cell| cell.kind == "forward" && cell.services == 1 && wanted(cell)).collect();
    let size = |cell: &Cell| match cell.frame {
        Frame::Bytes(bytes) => bytes,
        Frame::Mixture(_) => u16::MAX,
    };
    cells.sort_by_key(|cell| (who(cell), cell.scheduler.clone(), cell.new_share, cell.flows, size(cell)));
    let unusual = cells.iter().any(|cell| cell.name() != "forward");
    let row = |cell: &&Cell| {
        let Spread { min, median, max } = cell.ns_per_packet;
        let special = unusual.then(|| vec![cell.scheduler.clone(), cell.new_share.to_string()]);
        let figures = vec![
            count(cell.flows),
            cell.frame.to_string(),
            one(min),
            one(median),
            one(max),
            one(cell.packets_per_second.median / 1e6),
            one(cell.cycles_per_packet.median),
            one(cell.source_ns_per_packet.median),
            one(cell.total_ns_per_packet.median),
            cell.bytes_per_connection.map_or_else(String::new, one),
            format!("{:.0}", cell.disturbed * 100.0),
        ];
        [vec![who(cell)], special.unwrap_or_default(), figures].concat()
    };
    let rows: Vec<_> = cells.iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut head = vec!["cell"];
    if unusual {
        head.extend(["scheduler", "new %"]);
    }
    head.extend(["flows", "frame", "ns, least", "median", "most", "Mpps", "cycles", "source ns", "total ns"]);
    head.extend(["bytes/connection", "disturbed %"]);
    table(&head, &rows)
}

fn quantiles(times: &Quantiles) -> Vec<String> {
    vec![us(times.p50), us(times.p99), us(times.p999), us(times.max)]
}

fn times(cells: &[Cell]) -> String {
    let cells =
        cells.iter().filter(|cell| is_ordinary(cell) && cell.protocol == "tcp" && !cell.latency.is_empty());
    let row = |cell: &Cell| {
        let mut row = vec![who(cell), count(cell.flows)];
        row.extend(quantiles(&cell.turn_ns));
        for latency in &cell.latency {
            row.push(one(latency.packets_per_second / 1e6));
            row.extend([us(latency.ns.p50), us(latency.ns.p99), us(latency.ns.p999)]);
        }
        row
    };
    let rows: Vec<_> = cells.map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = [
        "cell",
        "flows",
        "turn p50 µs",
        "p99",
        "p99.9",
        "longest",
        "50 %: Mpps",
        "p50 µs",
        "p99",
        "p99.9",
        "90 %: Mpps",
        "p50 µs",
        "p99",
        "p99.9",
    ];
    format!(
        "Turns of 64 packets one after the other, and the time of packets from when they were due until they came out, at half \
         and nine tenths of the rate that source, worker and sink reach together on their one core.\n\n{}",
        table(&head, &rows)
    )
}

/// A row for each run's cell that `figures` finds something in.
fn by_run(runs: &[Vec<Cell>], figures: impl Fn(&Cell) -> Option<Vec<String>>) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (run, cells) in (1..).zip(runs) {
        let label = |cell: &Cell| vec![format!("{}, {}", who(cell), count(cell.flows)), format!("{run}")];
        rows.extend(cells.iter().filter_map(|cell| Some([label(cell), figures(cell)?].concat())));
    }
    rows
}

fn beginnings(runs: &[Vec<Cell>]) -> String {
    let growth = by_run(runs, |cell| {
        let growth = cell.growth.as_ref()?;
        let mut row: Vec<_> =
            growth.steps.iter().map(|step| format!("{:.2}", step.per_second / 1e6)).collect();
        row.extend([format!("{:+.1}", growth.last_tenth_slower_percent), one(growth.refused_ns)]);
        Some(row)
    });
    if growth.is_empty() {
        return String::new();
    }
    let head = [
        "table",
        "run",
        "10 %",
        "20 %",
        "30 %",
        "40 %",
        "50 %",
        "60 %",
        "70 %",
        "80 %",
        "90 %",
        "100 %",
        "last tenth dearer by %",
        "refused, ns",
    ];
    let steady = by_run(runs, |cell| {
        let (steady, expiry) = (cell.steady.as_ref()?, cell.expiry.as_ref()?);
        let million = |per_second: f64| format!("{:.2}", per_second / 1e6);
        let mut row = vec![million(steady.made_per_second), million(steady.expired_per_second)];
        row.extend(quantiles(&steady.turn_ns));
        row.push(million(expiry.per_second));
        row.extend(quantiles(&expiry.turn_ns));
        Some(row)
    });
    let head_steady = [
        "table",
        "run",
        "made, M/s",
        "ended, M/s",
        "turn p50 µs",
        "p99",
        "p99.9",
        "longest",
        "only ending, M/s",
        "turn p50 µs",
        "p99",
        "p99.9",
        "longest",
    ];
    format!(
        "Million new connections in a second as the table fills, source and sink left out:\n\n{}\nConnections that begin \
         as fast as they can and end after half a second, in a table with room for them; then a table that was filled and is \
         left to end:\n\n{}",
        table(&head, &growth),
        table(&head_steady, &steady)
    )
}

fn floods(runs: &[Vec<Cell>]) -> String {
    let rows = by_run(runs, |cell| {
        let flood = cell.flood.as_ref()?;
        Some(vec![
            one(flood.alone_ns),
            one(flood.flood_only_ns),
            one(flood.with_flood_ns),
            one(flood.established_ns),
            format!("{:+.1}", flood.slower_percent),
            flood.lost.to_string(),
            flood.refused.to_string(),
        ])
    });
    if rows.is_empty() {
        return String::new();
    }
    let head = [
        "table",
        "run",
        "established alone, ns",
        "flood alone, ns",
        "one of each, ns",
        "established in the flood, ns",
        "slower by %",
        "lost",
        "flood packets refused",
    ];
    format!(
        "One packet of the flood to each of established traffic. What an established packet takes in the flood is what both \
         take less what one of the flood takes alone.\n\n{}",
        table(&head, &rows)
    )
}

fn services(runs: &[Vec<Cell>]) -> String {
    let spread = |Spread { min, median, max }: Spread| format!("{min:.2} / {median:.2} / {max:.2}");
    let against = by_run(runs, |cell| {
        let many = cell.against_one.as_ref()?;
        Some(vec![
            format!("{} × {}", cell.services, cell.reals),
            one(many.many_ns.median),
            one(many.one_ns.median),
            format!("{:+.1}", many.slower_percent.median),
            one(many.many_new_ns.median),
            one(many.one_new_ns.median),
            format!("{:+.1}", many.new_slower_percent.median),
        ])
    });
    let reloads = by_run(runs, |cell| {
        let reload = cell.reload.as_ref()?;
        let mut row = vec![format!("{} × {}", cell.services, cell.reals)];
        row.extend([reload.parse_ms, reload.compile_ms, reload.acknowledged_ms, reload.free_ms].map(spread));
        row.extend([reload.packets.to_string(), reload.dropped.to_string(), us(reload.turn_ns.p999)]);
        row.extend([one(reload.quiet_ns), one(reload.reloading_ns)]);
        Some(row)
    });
    let mut text = String::new();
    if !against.is_empty() {
        let head = [
            "cell",
            "run",
            "services",
            "many, ns",
            "one, ns",
            "slower by %",
            "many, 10 % new, ns",
            "one",
            "slower by %",
        ];
        let _ = writeln!(text, "{}", table(&head, &against));
    }
    if !reloads.is_empty() {
        let head = [
            "cell",
            "run",
            "services",
            "parsed, ms",
            "compiled, ms",
            "acknowledged, ms",
            "freed, ms",
            "packets meanwhile",
            "dropped",
            "turn p99.9 µs",
            "total ns before",
            "meanwhile",
        ];
        let _ = write!(
            text,
            "Every real server's weight changes in a reload; least / median / most. Acknowledged: from the moment a compiled \
             configuration is published until the worker runs it.\n\n{}",
            table(&head, &reloads)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Shape;
    use crate::bench::traffic::{FrameSize, Kind};
    use shunt_dataplane::address::Family;
    use shunt_dataplane::id::Protocol;
    use shunt_dataplane::service::Method;
    use shunt_dataplane::service::schedulers::Scheduler;

    fn cell(median: f64) -> Cell {
        let shape = Shape {
            method: Method::Dr,
            family: Family::V4,
            protocol: Protocol::Udp,
            frame: FrameSize::Bytes(64),
            services: 1,
            reals: 10,
            scheduler: Scheduler::Rr,
            new_share: 0,
            burst: 64,
        };
        let mut cell = Cell::new(&shape, Kind::Request, 1000);
        cell.ns_per_packet = Spread { min: median - 1.0, median, max: median + 1.0 };
        cell
    }

    #[test]
    fn runs_are_merged_and_targets_stand_first() {
        let runs = [vec![cell(20.0)], vec![cell(30.0)], vec![cell(24.0)]];
        let merged = merge(&runs);
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].ns_per_packet, Spread { min: 19.0, median: 24.0, max: 31.0 });
        let text = markdown(&runs);
        assert!(text.starts_with("## Targets"));
        assert!(text.contains(
            "| DR, IPv4, 1 k flows | ≤ 25 | ns a packet | 20 met | **30 not met** | 24 met | 2 of 3 |"
        ));
        assert!(text.contains("| DR, IPv4, UDP | 1 k | 64 | 19.0 | 24.0 | 31.0 |"));
        assert!(!text.contains("## SYN flood"), "what was not measured has no section");
    }

    #[test]
    fn every_row_is_as_long_as_its_head() {
        let text = markdown(&[vec![cell(20.0)]]);
        let mut columns = None;
        for line in text.lines() {
            let bars = line.matches('|').count();
            if bars == 0 {
                columns = None;
            } else {
                assert_eq!(*columns.get_or_insert(bars), bars, "{line}");
            }
        }
    }
}

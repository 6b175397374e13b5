//! `shunt status --workers`: what the workers' loops cost.

use std::time::Duration;

use hyper::Method;
use serde::Serialize;

use super::client::{Client, Failure};
use super::output::{say, say_json};
use super::table::Table;
use crate::api::Status;
use crate::api::status::{Bucket, Cost, StageCost, Worker};

/// All workers over some time.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Report {
    /// How long was looked at.
    seconds: f64,
    /// The rate of the cycle counter.
    cycles_per_second: u64,
    workers: Vec<Row>,
}

/// A worker in that time.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    worker: u8,
    core: u16,
    /// The part of the time that went into turns which moved packets.
    load: f64,
    packets_per_second: f64,
    cycles_per_packet: f64,
    /// Packets of a burst that was not empty, on average.
    packets_per_burst: f64,
    /// The part of the tables in use, IPv4 and IPv6.
    table_load: [f64; 2],
    stages: Vec<Share>,
    bursts: Vec<Bucket>,
    /// Turns by nanoseconds.
    turns: Vec<Bucket>,
    turn_ns: Quantiles,
}

/// A stage's part of a packet's cycles.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Share {
    stage: String,
    cycles_per_packet: f64,
}

/// Nanoseconds that so many of a thousand turns did not exceed; upper bounds, since turns are counted in buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Quantiles {
    p50: u64,
    p99: u64,
    p999: u64,
    longest: u64,
}

/// Looks twice, or once at all since the start, and prints.
pub async fn show(client: &mut Client, length: Duration, json: bool) -> Result<(), Failure> {
    let mut before = None;
    if !length.is_zero() {
        before = Some(look(client).await?);
        tokio::time::sleep(length).await;
    }
    let report = Report::between(before.as_ref(), &look(client).await?);
    if json {
        say_json(&report);
    } else {
        say(report.text().trim_end());
    }
    Ok(())
}

async fn look(client: &mut Client) -> Result<Status, Failure> {
    let bytes = client.bytes(Method::GET, "/v1/status").await?;
    client.read(&bytes)
}

impl Report {
    fn between(before: Option<&Status>, after: &Status) -> Self {
        let earlier = |worker: &Worker| {
            let found = before.and_then(|status| status.workers.iter().find(|other| other.id == worker.id));
            found.cloned().unwrap_or_default()
        };
        let between = |worker: &Worker| {
            let earlier = earlier(worker);
            let received = worker.received.saturating_sub(earlier.received);
            Worker { cost: since(&worker.cost, &earlier.cost), received, ..worker.clone() }
        };
        let workers: Vec<Worker> = after.workers.iter().map(between).collect();
        let rate = after.workers.first().map_or(0, |worker| worker.cost.cycles_per_second);
        let cycles = workers.first().map_or(0, |worker| worker.cost.cycles);
        Self {
            seconds: ratio(cycles, rate),
            cycles_per_second: rate,
            workers: workers.iter().map(Row::of).collect(),
        }
    }

    fn text(&self) -> String {
        let gigahertz = self.cycles_per_second as f64 / 1e9;
        let mut text = format!("{:.1} s, cycles of a counter at {gigahertz:.2} GHz\n\n", self.seconds);
        text += &self.loads();
        text += "\ncycles for a packet by stage (one turn of 61 timed)\n";
        text += &self.stages();
        text += "\nbursts by packets, turns by time\n";
        for row in &self.workers {
            text += &format!("worker {}: bursts {}\n", row.worker, shares(&row.bursts, ToString::to_string));
            text += &format!("worker {}: turns {}\n", row.worker, shares(&row.turns, |ns| time(*ns)));
        }
        text
    }

    fn loads(&self) -> String {
        let head = [
            "WORKER",
            "CORE",
            "LOAD",
            "PACKETS/S",
            "CYCLES/PACKET",
            "PACKETS/BURST",
            "IPV4 TABLE",
            "IPV6 TABLE",
            "TURN p50",
            "p99",
            "p99.9",
            "LONGEST",
        ];
        let mut table = Table::new(&head, &(0..head.len()).collect::<Vec<_>>());
        for row in &self.workers {
            let percent = |part: f64| format!("{:.1}%", part * 100.0);
            let Quantiles { p50, p99, p999, longest } = row.turn_ns;
            table.row(vec![
                row.worker.to_string(),
                row.core.to_string(),
                percent(row.load),
                format!("{:.0}", row.packets_per_second),
                format!("{:.0}", row.cycles_per_packet),
                format!("{:.1}", row.packets_per_burst),
                percent(row.table_load[0]),
                percent(row.table_load[1]),
                time(p50),
                time(p99),
                time(p999),
                time(longest),
            ]);
        }
        table.text()
    }

    fn stages(&self) -> String {
        let words = self.workers.first().map(|row| row.stages.iter().map(|share| share.stage.to_uppercase()));
        let words: Vec<String> = words.into_iter().flatten().map(|word| word.replace('_', " ")).collect();
        let head: Vec<&str> = ["WORKER"].into_iter().chain(words.iter().map(String::as_str)).collect();
        let mut table = Table::new(&head, &(0..head.len()).collect::<Vec<_>>());
        for row in &self.workers {
            let cells = row.stages.iter().map(|share| format!("{:.1}", share.cycles_per_packet));
            table.row([row.worker.to_string()].into_iter().chain(cells).collect());
        }
        table.text()
    }
}

impl Row {
    fn of(worker: &Worker) -> Self {
        let cost = &worker.cost;
        let rate = cost.cycles_per_second.max(1) as f64;
        let nanoseconds = |cycles: u64| (cycles as f64 * 1e9 / rate).round() as u64;
        let turns: Vec<Bucket> = cost
            .turns
            .iter()
            .map(|bucket| Bucket { from: nanoseconds(bucket.from), count: bucket.count })
            .collect();
        let bursts: u64 = cost.bursts.iter().map(|bucket| bucket.count).sum();
        let share = |stage: &StageCost| Share {
            stage: stage.stage.clone(),
            cycles_per_packet: ratio(stage.cycles, cost.sampled_packets),
        };
        Self {
            worker: worker.id,
            core: worker.core,
            load: ratio(cost.busy_cycles, cost.cycles),
            packets_per_second: ratio(cost.packets, cost.cycles) * rate,
            cycles_per_packet: ratio(cost.busy_cycles, cost.packets),
            packets_per_burst: ratio(worker.received, bursts),
            table_load: cost.connections.map(|used| ratio(used, cost.capacity)),
            stages: cost.sampled.iter().map(share).collect(),
            turn_ns: Quantiles::of(&turns),
            bursts: cost.bursts.clone(),
            turns,
        }
    }
}

impl Quantiles {
    fn of(turns: &[Bucket]) -> Self {
        let all: u64 = turns.iter().map(|bucket| bucket.count).sum();
        let below = |per_mille: u64| {
            let mut left = (all * per_mille).div_ceil(1000);
            let found = turns.iter().find(|bucket| {
                left = left.saturating_sub(bucket.count);
                left == 0
            });
            found.map_or(0, |bucket| bucket.from * 2)
        };
        if all == 0 {
            return Self::default();
        }
        Self { p50: below(500), p99: below(990), p999: below(999), longest: below(1000) }
    }
}

/// What was counted after `earlier`.
fn since(cost: &Cost, earlier: &Cost) -> Cost {
    let less = |counted: u64, before: u64| counted.saturating_sub(before);
    let buckets = |counted: &[Bucket], before: &[Bucket]| -> Vec<Bucket> {
        let before = |from| before.iter().find(|bucket| bucket.from == from).map_or(0, |bucket| bucket.count);
        let all = counted
            .iter()
            .map(|bucket| Bucket { from: bucket.from, count: less(bucket.count, before(bucket.from)) });
        all.filter(|bucket| bucket.count > 0).collect()
    };
    let stage = |stage: &StageCost| {
        let before = earlier.sampled.iter().find(|other| other.stage == stage.stage);
        StageCost {
            stage: stage.stage.clone(),
            cycles: less(stage.cycles, before.map_or(0, |before| before.cycles)),
        }
    };
    Cost {
        cycles: less(cost.cycles, earlier.cycles),
        busy_cycles: less(cost.busy_cycles, earlier.busy_cycles),
        packets: less(cost.packets, earlier.packets),
        turns: buckets(&cost.turns, &earlier.turns),
        bursts: buckets(&cost.bursts, &earlier.bursts),
        sampled_packets: less(cost.sampled_packets, earlier.sampled_packets),
        sampled: cost.sampled.iter().map(stage).collect(),
        ..cost.clone()
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 1e4).round() / 1e4 }
}

/// `1 to 2: 80%, 2 to 4: 20%`.
fn shares(buckets: &[Bucket], word: impl Fn(&u64) -> String) -> String {
    let all: u64 = buckets.iter().map(|bucket| bucket.count).sum();
    let share = |bucket: &Bucket| {
        let percent = bucket.count as f64 * 100.0 / all as f64;
        format!("from {} {percent:.1}%", word(&bucket.from))
    };
    if all == 0 {
        return "none".to_owned();
    }
    buckets.iter().map(share).collect::<Vec<_>>().join(", ")
}

/// A time in a unit that suits it.
fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0 => "-".to_owned(),
        1..10_000 => format!("{nanoseconds}ns"),
        10_000..10_000_000 => format!("{}us", nanoseconds / 1000),
        _ => format!("{}ms", nanoseconds / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(scale: u64) -> Cost {
        let stage = |stage: &str, cycles| StageCost { stage: stage.to_owned(), cycles: cycles * scale };
        Cost {
            cycles_per_second: 2_000_000_000,
            cycles: 2_000_000_000 * scale,
            busy_cycles: 1_000_000_000 * scale,
            packets: 10_000_000 * scale,
            cycles_per_packet: 100,
            turns: vec![
                Bucket { from: 2048, count: 990 * scale },
                Bucket { from: 4096, count: 9 * scale },
                Bucket { from: 65_536, count: scale },
            ],
            bursts: vec![Bucket { from: 32, count: 200_000 * scale }],
            sampled_packets: 1000 * scale,
            sampled: vec![stage("receive", 3000), stage("take_over", 71_500)],
            connections: [500, 0],
            capacity: 1000,
        }
    }

    fn status(scale: u64) -> Status {
        let received = 10_000_000 * scale;
        let worker = Worker { id: 0, core: 3, received, cost: cost(scale), ..Worker::default() };
        Status { workers: vec![worker], ..Status::default() }
    }

    #[test]
    fn two_looks_tell_about_the_time_between() {
        let report = Report::between(Some(&status(2)), &status(5));
        let once = Report::between(None, &status(3));
        assert_eq!(report, once);
        let want = "\
3.0 s, cycles of a counter at 2.00 GHz

WORKER  CORE   LOAD  PACKETS/S  CYCLES/PACKET  PACKETS/BURST  IPV4 TABLE  IPV6 TABLE  TURN p50     p99   p99.9  LONGEST
     0     3  50.0%   10000000            100           50.0       50.0%        0.0%    2048ns  2048ns  4096ns     65us

cycles for a packet by stage (one turn of 61 timed)
WORKER  RECEIVE  TAKE OVER
     0      3.0       71.5

bursts by packets, turns by time
worker 0: bursts from 32 100.0%
worker 0: turns from 1024ns 99.0%, from 2048ns 0.9%, from 32us 0.1%
";
        assert_eq!(report.text(), want);
    }

    #[test]
    fn an_idle_worker_has_no_numbers() {
        let report = Report::between(Some(&status(2)), &status(2));
        assert_eq!(report.workers[0].turn_ns, Quantiles::default());
        assert!(report.text().contains("worker 0: turns none"));
    }
}

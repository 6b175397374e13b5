//! `shunt bench --workers`: what several workers reach, and what a hand-over costs.

use super::output::{complain, say};
use super::table::Table;
use crate::bench::cores::{Cores, cores};
use crate::bench::measure::{Effort, Spread};
use crate::bench::rig::Bench;
use crate::bench::{BenchError, Shape};

/// Measures for each number of flows and prints.
///
/// # Errors
/// When there are fewer cores than workers; see [`cores`].
pub fn run(
    bench: &Bench,
    shape: &Shape,
    flows: &[u32],
    workers: u32,
    allowed: &[usize],
    effort: Effort,
) -> Result<Vec<Cores>, BenchError> {
    let Some(chosen) = allowed.get(..workers as usize) else {
        let text =
            format!("{workers} workers need as many cores, and this process may use {}", allowed.len());
        return Err(BenchError::new(&text));
    };
    let measure = |flows: &u32| {
        let measured = cores(bench, shape, *flows, chosen, effort, complain)?;
        print(&measured);
        Ok(measured)
    };
    flows.iter().map(measure).collect()
}

fn print(measured: &Cores) {
    let head = [
        "CONNECTIONS EACH",
        "LOOPS",
        "SOURCE NS",
        "MACSWAP NS",
        "WORKER NS",
        "MACSWAP SCALES",
        "WORKERS SCALE",
        "REACHED",
    ];
    let mut table = Table::new(&head, &(0..head.len()).collect::<Vec<_>>());
    let ns = |Spread { min, median, .. }: Spread| format!("{min:.1} / {median:.1}");
    for step in &measured.steps {
        table.row(vec![
            measured.flows.to_string(),
            step.workers.to_string(),
            ns(step.source_ns),
            ns(step.macswap_ns),
            ns(step.forward_ns),
            format!("{:.2}", step.macswap_scaling),
            format!("{:.2}", step.forward_scaling),
            format!("{:.1} %", step.reached * 100.0),
        ]);
    }
    say(table.text().trim_end());
    let Spread { min, median, max } = measured.hand_over_ns;
    say(&format!("a hand-over costs {min:.1} / {median:.1} / {max:.1} ns more, both sides together\n"));
    let mut table = Table::new(&["WORKERS (reckoned)", "PLACED BY NICS", "HANDED OVER"], &[0, 1, 2]);
    for row in &measured.model {
        let mpps = |rate: f64| format!("{rate:.1} Mpps");
        table.row(vec![row.workers.to_string(), mpps(row.placed_mpps), mpps(row.handed_over_mpps)]);
    }
    say(&table.text());
}

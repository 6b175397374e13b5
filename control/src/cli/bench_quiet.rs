//! `shunt bench --idle`: what a worker without traffic costs, and what its naps cost.

use std::time::Duration;

use super::output::{complain, say};
use super::table::Table;
use crate::bench::BenchError;
use crate::bench::quiet::{Nap, Quiet, Quietness, Wake, quiet};
use crate::bench::rig::Bench;

const HEAD: [&str; 12] = [
    "NIC",
    "RESTS BY",
    "CORE USED",
    "NAPS/S",
    "FIRST PACKET p50",
    "p99",
    "LONGEST",
    "BUSY p50",
    "p99",
    "RATE",
    "BUSY RATE",
    "RATIO",
];

/// Measures and prints.
///
/// # Errors
/// When there is no second core.
pub fn run(
    bench: &Bench,
    core: Option<usize>,
    length: Duration,
    repetitions: u32,
) -> Result<Quietness, BenchError> {
    let measured = quiet(bench, core, length, repetitions, |pmd, result| match result {
        Ok(_) => complain(&format!("{pmd}: measured")),
        Err(error) => complain(&format!("{pmd}: not measured: {error}")),
    })?;
    let mut table = Table::new(&HEAD, &(2..HEAD.len()).collect::<Vec<_>>());
    measured.nics.iter().for_each(|one| table.row(row(one)));
    say(table.text().trim_end());
    let Nap { asked_us, took_us, cpu_us } = measured.nap;
    say(&format!(
        "a bare nap of {asked_us:.0} us takes {took_us:.0} us and {cpu_us:.1} us of processor time: {:.1} % of a core",
        cpu_us / took_us * 100.0
    ));
    Ok(measured)
}

fn row(quiet: &Quiet) -> Vec<String> {
    let us = |us: f64| format!("{us:.0} us");
    let mpps = |rate: f64| format!("{:.3} Mpps", rate / 1e6);
    let Wake { p50_us, p99_us, max_us, .. } = quiet.first_packet;
    vec![
        quiet.pmd.to_string(),
        if quiet.told { "waiting" } else { "napping" }.to_owned(),
        format!("{:.1} %", quiet.core_used * 100.0),
        format!("{:.0}", quiet.naps_per_second),
        us(p50_us),
        us(p99_us),
        us(max_us),
        us(quiet.first_packet_busy.p50_us),
        us(quiet.first_packet_busy.p99_us),
        mpps(quiet.rate.max),
        mpps(quiet.rate_busy.max),
        format!("{:.3}", quiet.rate.max / quiet.rate_busy.max.max(1.0)),
    ]
}

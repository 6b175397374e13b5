//! What in single recordings differs and is no rule, or stands in `docs/`: each by name, so that nothing else passes with it.

use super::compare;
use super::scenario::{Recording, Scenario, Step};

/// Steps where the kernel cut an IPv6 datagram anew because of where in its receive ring a fragment lay: in the last buffer of
/// a page, which is longer than others, so that the driver leaves less room in front of what it holds. That is no rule; the same
/// datagram with the sender's cuts will do.
const CUT_BY_BUFFER: [(&str, &[usize]); 1] = [("field_frag6_mixed", &[41, 62])];

/// Where the kernel sends redirects, which this director does not ([differences](../../../docs/differences.md)).
const WITH_REDIRECTS: [&str; 1] = ["field_one_armed"];

/// Steps where the kernel carries a record route option back in an error, which this director does not
/// ([differences](../../../docs/differences.md)).
const WITH_OPTIONS: [(&str, &[usize]); 1] = [("field_parameter_problem", &[6, 7])];

/// Services that `ipvsadm` refuses by name and the kernel takes ([ipvsadm](../../../docs/ipvsadm.md)): a netmask whose bits are not
/// together.
const REFUSED: [(&str, &str); 1] = [("field_ipvsadm_errors", "10.0.0.100:83")];

/// The recording, with what was got in the place of what only [`CUT_BY_BUFFER`] tells apart, and without redirects and options
/// of the kernel's own, and without what is [`REFUSED`].
pub(super) fn excused(name: &str, scenario: &Scenario, mut want: Recording, got: &Recording) -> Recording {
    for (_, place) in REFUSED.iter().filter(|(of, _)| *of == name) {
        for ((asked, want), got) in scenario.steps.iter().zip(&mut want.steps).zip(&got.steps) {
            match asked {
                Step::Command { cmd } if cmd.contains(place) => want.clone_from(got),
                _ => want.output = want.output.as_deref().map(|output| without(output, place)),
            }
        }
        want.end.iter_mut().for_each(|said| said.output = without(&said.output, place));
    }
    if WITH_REDIRECTS.contains(&name) {
        want.steps.iter_mut().for_each(|step| step.out.retain(|out| !compare::is_redirect(&out.frame.0)));
    }
    let steps_of = |cases: &[(&str, &'static [usize])]| {
        cases.iter().filter(|(of, _)| *of == name).flat_map(|(_, steps)| *steps).collect::<Vec<_>>()
    };
    for &step in steps_of(&WITH_OPTIONS) {
        for out in want.steps.get_mut(step).into_iter().flat_map(|step| &mut step.out) {
            out.frame.0 = compare::without_options(&out.frame.0);
        }
    }
    for &step in steps_of(&CUT_BY_BUFFER) {
        if let (Some(want), Some(got)) = (want.steps.get_mut(step), got.steps.get(step)) {
            if compare::is_same_datagram(&want.out, &got.out) {
                want.out.clone_from(&got.out);
            }
        }
    }
    want
}

/// The lines of an output in which `place` does not stand.
fn without(output: &str, place: &str) -> String {
    output.split_inclusive('\n').filter(|line| !line.contains(place)).collect()
}

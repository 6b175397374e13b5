//! Makes a scenario that shows a difference small: fewer packets, changes, rules and questions at the end.

use crate::oracle::scenario::Scenario;

/// A part of a scenario that can be left out piece by piece.
#[derive(Clone, Copy, Debug)]
enum Part {
    End,
    Steps,
    Setup,
}

impl Part {
    fn length(self, scenario: &Scenario) -> usize {
        match self {
            Self::End => scenario.end.len(),
            Self::Steps => scenario.steps.len(),
            Self::Setup => scenario.setup.len(),
        }
    }

    fn without(self, scenario: &Scenario, from: usize, to: usize) -> Scenario {
        let mut smaller = scenario.clone();
        match self {
            Self::End => drop(smaller.end.drain(from..to)),
            Self::Steps => drop(smaller.steps.drain(from..to)),
            Self::Setup => {
                let mut number = 0..;
                smaller.setup.retain(|line| {
                    let goes = number.next().is_some_and(|number| (from..to).contains(&number));
                    !goes || is_network(line)
                });
            }
        }
        smaller
    }
}

/// Without an address or a neighbour the kernel would ask for it, which is another difference.
fn is_network(line: &str) -> bool {
    line.starts_with("ip ") || line.contains("/forwarding")
}

/// The smallest scenario found in `tries` questions at most. `differs` tells whether one still shows the difference; the one
/// given does.
pub fn shrink(scenario: &Scenario, tries: usize, mut differs: impl FnMut(&Scenario) -> bool) -> Scenario {
    let (mut smallest, mut tries) = (scenario.clone(), tries);
    for part in [Part::Steps, Part::End, Part::Setup, Part::Steps] {
        let mut size = part.length(&smallest).div_ceil(2);
        while size > 0 && tries > 0 {
            // From the back: what comes after the difference goes at once.
            let mut to = part.length(&smallest);
            while to > 0 && tries > 0 {
                let from = to.saturating_sub(size);
                let smaller = part.without(&smallest, from, to);
                to = from;
                if smaller == smallest {
                    continue;
                }
                tries -= 1;
                if differs(&smaller) {
                    smallest = smaller;
                }
            }
            size /= 2;
        }
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::scenario::Step;

    #[test]
    fn what_does_not_matter_goes() {
        let step = |number: usize| Step::Command { cmd: number.to_string() };
        let scenario = Scenario {
            setup: (0..9).map(|number| number.to_string()).collect(),
            steps: (0..50).map(step).collect(),
            end: vec!["a".to_owned(), "b".to_owned()],
            ..Scenario::default()
        };
        let needs = |scenario: &Scenario| {
            scenario.steps.contains(&step(7))
                && scenario.steps.contains(&step(31))
                && scenario.setup.contains(&"4".to_owned())
        };
        let small = shrink(&scenario, 200, needs);
        assert_eq!(small.steps, [step(7), step(31)]);
        assert_eq!((small.setup, small.end), (vec!["4".to_owned()], Vec::new()));
        assert!(needs(&shrink(&scenario, 5, needs)), "with few tries it still differs");
    }
}

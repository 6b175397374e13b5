//! A command of the operator's (keepalived: `MISC_CHECK`).

use std::time::Duration;

use shunt_model::health::{Failure, RealKey, Success};
use shunt_model::script::Script;

use crate::health::scripts::{Ended, Scripts};

/// The exit code of weight 0 (keepalived: `misc_dynamic`); those above it give the weights above it.
const WEIGHT_ZERO: i32 = 2;

pub async fn run(
    key: Option<&RealKey>,
    script: &Script,
    dynamic: bool,
    timeout: Duration,
    scripts: &Scripts,
) -> Result<Success, Failure> {
    let variables = |key: &RealKey| {
        [
            ("SHUNT_VIP", key.listen.ip().to_string()),
            ("SHUNT_VIP_PORT", key.listen.port().to_string()),
            ("SHUNT_PROTOCOL", key.protocol.to_string()),
            ("SHUNT_REAL", key.address.ip().to_string()),
            ("SHUNT_REAL_PORT", key.address.port().to_string()),
        ]
    };
    let environment = key.map(variables).into_iter().flatten();
    let environment = environment.map(|(name, value)| (name.to_owned(), value)).collect();
    // Whose scripts wait for each other: those of a service, or each by itself.
    let owner = key.map_or_else(|| script.to_string(), |key| format!("{} {}", key.protocol, key.listen));
    judge(scripts.run(owner, script.clone(), environment, timeout).await, dynamic, timeout)
}

fn judge(ended: Ended, dynamic: bool, timeout: Duration) -> Result<Success, Failure> {
    match ended {
        Ended::Code(0) => Ok(Success::Up),
        Ended::Code(code) if dynamic && code >= WEIGHT_ZERO => {
            Ok(Success::Weight(code.abs_diff(WEIGHT_ZERO)))
        }
        Ended::Code(code) => Err(Failure::Exit(code)),
        Ended::Signal(signal) => Err(Failure::Signal(signal)),
        Ended::Killed => Err(Failure::Killed(timeout)),
        Ended::NotRun(error) => Err(Failure::NotRun(error)),
        Ended::Lack(lack) => Err(Failure::Lack(lack)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_mean_what_keepalived_takes_them_for() {
        let judge = |code, dynamic| judge(Ended::Code(code), dynamic, Duration::from_secs(1));
        assert_eq!((judge(0, false), judge(0, true)), (Ok(Success::Up), Ok(Success::Up)));
        assert_eq!((judge(1, false), judge(1, true)), (Err(Failure::Exit(1)), Err(Failure::Exit(1))));
        assert_eq!(judge(2, true), Ok(Success::Weight(0)));
        assert_eq!(judge(255, true), Ok(Success::Weight(253)));
        assert_eq!(judge(3, false), Err(Failure::Exit(3)));
    }
}

//! What a failure means at a VIP, by the service's way: most often that the real server does not have it.

use std::net::IpAddr;
use std::pin::pin;

use tokio::time::{Instant, sleep_until};

use super::{Deadline, ping};
use crate::health::{Check, Failure, RealKey, Success};
use crate::kernel::ServiceWay;

/// Waits for a check. One that takes more than half of its time lets the real server's own address be asked, too: that tells a real server
/// without VIP from one that is gone.
pub async fn explain(
    asked: impl Future<Output = Result<Success, Failure>>,
    check: &Check,
    way: &ServiceWay,
    key: &RealKey,
    deadline: Deadline,
) -> Result<Success, Failure> {
    let real = key.address.ip();
    let mut asked = pin!(asked);
    let mut ping = pin!(async {
        sleep_until(Instant::now() + deadline.after / 2).await;
        ping::run(real, from(check, real), None).await.is_ok()
    });
    let mut answers = None;
    let result = loop {
        tokio::select! {
            // A check that is over is over; the ping may say what it has to say until then.
            biased;
            answered = &mut ping, if answers.is_none() => answers = Some(answered),
            result = &mut asked => break result,
        }
    };
    // A ping that is still under way was not answered.
    let silent = matches!(result, Err(Failure::NoConnection(_) | Failure::NoAnswer(_)));
    let answers = if silent { answers.or(Some(false)) } else { answers };
    let by_tunnel = way.tunnel.is_some();
    result.map_err(|failure| Failure::AtVip {
        failure: Box::new(failure),
        vip: check.to.ip(),
        real,
        by_tunnel,
        answers,
    })
}

/// Where the ping comes from: as the check, when both are of one family.
fn from(check: &Check, real: IpAddr) -> Option<IpAddr> {
    check.from.map(|from| from.ip()).filter(|from| from.is_ipv4() == real.is_ipv4())
}

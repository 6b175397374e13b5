//! What a failure means at a VIP, by the service's way: most often that the real server does not have it.

use std::net::IpAddr;
use std::pin::pin;

use shunt_model::health::ServiceWay;
use shunt_model::health::{Check, Failure, RealKey, Success};
use tokio::time::{Instant, sleep_until};

use super::{Deadline, ping};

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
        match ping::run(real, from(check, real), None).await {
            Ok(_) => Some(true),
            // It was not asked.
            Err(failure) if failure.lack().is_some() => None,
            Err(_) => Some(false),
        }
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
    // Whoever takes a connection has the VIP, however silent it is then.
    let silent = match &result {
        Err(Failure::NoConnection(_)) => true,
        Err(Failure::NoAnswer(_)) => !check.kind.connects(),
        _ => false,
    };
    // A ping that is still under way was not answered.
    let answers = if silent { answers.unwrap_or(Some(false)) } else { None };
    let by_tunnel = way.tunnel.is_some();
    result.map_err(|failure| match failure {
        Failure::Lack(_) => failure,
        failure => {
            Failure::AtVip { failure: Box::new(failure), vip: check.to.ip(), real, by_tunnel, answers }
        }
    })
}

/// Where the ping comes from: as the check, when both are of one family.
fn from(check: &Check, real: IpAddr) -> Option<IpAddr> {
    check.from.map(|from| from.ip()).filter(|from| from.is_ipv4() == real.is_ipv4())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use shunt_dataplane::id::{NicId, Protocol};

    use super::*;
    use shunt_model::health::CheckKind;

    const AFTER: Duration = Duration::from_millis(600);

    fn check(to: SocketAddr) -> Check {
        Check {
            kind: CheckKind::Tcp,
            to,
            way: None,
            from: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            retry_interval: None,
            warmup: Duration::ZERO,
            fall: 3,
            rise: 2,
            reentry: Duration::ZERO,
            alpha: false,
        }
    }

    /// What an operator reads when a check of this kind fails so, and when the real server's own address answers.
    fn words(kind: CheckKind, failure: Failure, real: [u8; 4]) -> String {
        let (real, vip) = (IpAddr::from(real), IpAddr::from([192, 0, 2, 10]));
        let way = ServiceWay { hop: (NicId(0), real), tunnel: None };
        let way_of = Some(Arc::new(way.clone()));
        let check = Check { kind, way: way_of, ..check((vip, 80).into()) };
        let key = RealKey { listen: check.to, protocol: Protocol::Tcp, address: (real, 80).into() };
        let after = AFTER;
        let deadline = Deadline { at: Instant::now() + after, after };
        let failed = async move {
            sleep_until(deadline.at).await;
            Err(failure)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(explain(failed, &check, &way, &key, deadline)).unwrap_err().to_string()
    }

    #[test]
    fn silence_of_a_vip_is_told_from_that_of_a_server() {
        let after = AFTER;
        let (here, away) = ([127, 0, 0, 1], [255; 4]);
        for (kind, failure, real, wanted) in [
            (
                CheckKind::Tcp,
                Failure::NoConnection(after),
                here,
                "timeout after 600ms, no connection: 127.0.0.1 answers a ping, but not at the VIP 192.0.2.10: does it have the VIP (on lo, \
                 without ARP)?",
            ),
            (
                CheckKind::Ping,
                Failure::NoAnswer(after),
                here,
                "timeout after 600ms, no answer: 127.0.0.1 answers a ping, but not at the VIP 192.0.2.10: does it have the VIP (on lo, \
                 without ARP), and answer from there?",
            ),
            (
                CheckKind::Ping,
                Failure::NoAnswer(after),
                away,
                "timeout after 600ms, no answer at the VIP 192.0.2.10; 255.255.255.255 does not answer a ping, either",
            ),
            // It took the connection.
            (
                CheckKind::Smtp { helo: None },
                Failure::NoAnswer(after),
                here,
                "timeout after 600ms, no answer, at the VIP 192.0.2.10",
            ),
        ] {
            assert_eq!(words(kind, failure, real), wanted);
        }
    }
}

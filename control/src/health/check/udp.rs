//! A datagram is not refused, or is answered (keepalived: `check_udp.c`).

use shunt_model::health::kind::Udp;
use shunt_model::health::{Failure, Success};
use tokio::net::UdpSocket;
use tokio::time::timeout_at;

use super::{Deadline, closed, shown};

pub async fn run(socket: &UdpSocket, asked: &Udp, deadline: Deadline) -> Result<Success, Failure> {
    socket.send(&asked.payload).await.map_err(|error| closed(&error))?;
    let mut answer = vec![0; 65_536];
    let Ok(received) = timeout_at(deadline.at, socket.recv(&mut answer)).await else {
        // Silence: nobody said that it is unreachable.
        let silent = !asked.require_reply;
        return if silent { Ok(Success::Up) } else { Err(Failure::NoAnswer(deadline.after)) };
    };
    let got = received.map_err(|error| closed(&error))?;
    if !asked.require_reply {
        return Ok(Success::Up);
    }
    let wanted = asked.min_reply..=asked.max_reply;
    if got < usize::from(asked.min_reply) || got > usize::from(asked.max_reply) {
        return Err(Failure::Length { got, wanted });
    }
    answer.truncate(got);
    match &asked.expect {
        Some(expect) if !expect.is_in(&answer) => {
            Err(Failure::Unexpected { got: shown(&answer), wanted: expect.to_string() })
        }
        _ => Ok(Success::Up),
    }
}

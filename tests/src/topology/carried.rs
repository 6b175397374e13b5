//! TCP connections that stay open and carry data: blocks that an echo sends back.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::place::Place;

/// Bytes of a block.
const BLOCK: usize = 2000;

/// How a connection carries data.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long a block may take to come back, and the connection to begin.
    pub patience: Duration,
    /// Between two blocks.
    pub pause: Duration,
}

/// A connection that carries data until it is told to end.
#[derive(Debug)]
pub struct Carried {
    blocks: Arc<AtomicU32>,
    ends: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<u8>>,
}

impl Carried {
    /// From an address of the client's.
    #[must_use]
    pub fn begin(client: &Place, from: IpAddr, to: SocketAddr, pace: Pace) -> Self {
        let (blocks, ends) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
        let (count, end) = (blocks.clone(), ends.clone());
        let thread = client.run(move || std::thread::spawn(move || carry(from, to, pace, &count, &end)));
        Self { blocks, ends, thread }
    }

    /// Blocks that came back.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// True when it has ended, by itself or as it was told.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Tells it to end; [`Self::ended`] waits for it.
    pub fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    /// Its end: the number of the echo that it reached.
    ///
    /// # Errors
    /// What broke it.
    ///
    /// # Panics
    /// When data came back that it had not sent.
    pub fn ended(self) -> std::io::Result<u8> {
        self.thread.join().expect("a client")
    }
}

fn carry(
    from: IpAddr,
    to: SocketAddr,
    pace: Pace,
    count: &AtomicU32,
    end: &AtomicBool,
) -> std::io::Result<u8> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), pace.patience)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(pace.patience))?;
    let mut number = [0];
    stream.read_exact(&mut number)?;
    while !end.load(Ordering::Relaxed) {
        let block = [count.load(Ordering::Relaxed) as u8; BLOCK];
        let mut back = [0; BLOCK];
        stream.write_all(&block)?;
        stream.read_exact(&mut back)?;
        assert_eq!(back, block, "data of another block");
        count.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(pace.pause);
    }
    Ok(number[0])
}

/// Says its number to each connection to this address, and sends back what comes.
///
/// # Panics
/// When the address or the port is not to be had.
pub fn echo(place: &Place, at: SocketAddr, number: u8) {
    place.run(move || {
        let listener = TcpListener::bind(at).expect("a port");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut reader = stream.try_clone().expect("a socket");
                    let _ = stream.write_all(&[number]);
                    std::io::copy(&mut reader, &mut stream)
                });
            }
        });
    });
}

//! A running guest: commands in and answers out, frames in and frames out.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::TempDir;

use super::{Failed, Image};

/// The guest's NICs, `eth0` and `eth1`.
pub const NICS: usize = 2;
/// An address that the guest answers ARP for, so that it is known when it is done with the frames before.
pub const SENTINEL: &str = "169.254.77.77";
const SENTINEL_ADDRESS: [u8; 4] = [169, 254, 77, 77];
const SENTINEL_MAC: [u8; 6] = [2, 0, 0, 0, 0xff, 0xff];
/// How long an answer may take, of this machine's time.
const ANSWER: Duration = Duration::from_secs(60);
/// 8 ns of the guest's clock for an instruction, and none for waiting.
const CLOCK: &str = "shift=3,sleep=off";

/// What a guest starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The beginning.
    Boot,
    /// The saved state.
    Saved,
}

/// A running guest, which ends when it is dropped.
#[derive(Debug)]
pub struct Guest {
    folder: TempDir,
    process: Child,
    control: UnixStream,
    nics: Vec<UnixDatagram>,
    /// What came from the control port and was not asked for yet.
    heard: Vec<u8>,
    /// Frames that left, with the number of the NIC.
    left: Vec<(usize, Vec<u8>)>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It holds nothing that would be lost.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Guest {
    /// Options of qemu that a saved state depends on.
    pub fn devices() -> String {
        let always = "-nodefaults -no-user-config -display none -no-reboot -accel tcg -m 256 -global migration.announce-rounds=0 -device virtio-serial-pci";
        let nic = |nic| format!(" -device virtio-net-pci,netdev=n{nic},mac=02:00:00:00:d0:0{nic},romfile=");
        format!("{always} -icount {CLOCK}{}", (0..NICS).map(nic).collect::<String>())
    }

    /// Starts one.
    ///
    /// # Errors
    /// When qemu does not start or does not connect.
    pub fn start(image: &Image, start: Start) -> Result<Self, Failed> {
        Self::start_with(image, start, &[], Stdio::inherit())
    }

    /// Starts one whose emulator says what code it runs for the first time within this range of addresses, as qemu's `-dfilter` has it.
    /// It translates each piece when it first runs; a saved state has none that is translated.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_traced(image: &Image, start: Start, range: &str) -> Result<(Self, ChildStderr), Failed> {
        let options = ["-d", "in_asm", "-dfilter", range];
        let mut guest = Self::start_with(image, start, &options, Stdio::piped())?;
        let said = guest.process.stderr.take().ok_or_else(|| Failed("qemu has no standard error".into()))?;
        Ok((guest, said))
    }

    fn start_with(image: &Image, start: Start, options: &[&str], errors: Stdio) -> Result<Self, Failed> {
        let failed = || Failed::because("starting qemu-system-x86_64");
        let folder = tempfile::tempdir().map_err(failed())?;
        let path = |name: &str| folder.path().join(name);
        let listener = UnixListener::bind(path("control")).map_err(failed())?;
        let nics = (0..NICS).map(|nic| UnixDatagram::bind(path(&format!("host{nic}"))));
        let nics = nics.collect::<Result<Vec<_>, _>>().map_err(failed())?;
        // It ends with the thread that started it, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
        command.arg("-kernel").arg(image.kernel()).arg("-initrd").arg(image.initramfs());
        command.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]);
        let at = folder.path().display();
        for nic in 0..NICS {
            let ends = format!(
                "local.type=unix,local.path={at}/guest{nic},remote.type=unix,remote.path={at}/host{nic}"
            );
            command.args(["-netdev", &format!("dgram,id=n{nic},{ends}")]);
        }
        command.args(["-chardev", &format!("socket,id=control,path={at}/control")]);
        command.args(["-serial", &format!("file:{at}/console")]);
        command.args(Self::devices().split(' ')).args(["-device", "virtserialport,chardev=control"]);
        // What a shell redirects to it takes as one word, whatever stands in a folder's name.
        match start {
            Start::Boot => command
                .env("GUEST_STATE", image.new_state())
                .args(["-monitor", &format!("unix:{at}/monitor,server=on,wait=off")]),
            Start::Saved => {
                command.env("GUEST_STATE", image.state()).args(["-incoming", "exec:cat <$GUEST_STATE"])
            }
        };
        let process = command.args(options).stdin(Stdio::null()).stderr(errors).spawn().map_err(failed())?;
        let (control, _) = accept(&listener).map_err(failed())?;
        Ok(Self { folder, process, control, nics, heard: Vec::new(), left: Vec::new() })
    }

    /// Where the monitor of a guest that was booted listens.
    pub fn monitor(&self) -> PathBuf {
        self.folder.path().join("monitor")
    }

    /// Runs a command line; what it printed, and its exit status.
    ///
    /// # Errors
    /// When the guest is silent or gone.
    pub fn command(&mut self, line: &str) -> Result<(String, i32), Failed> {
        self.tell(line)?;
        let output = self.answer(b"\x01", ANSWER)?;
        let status = String::from_utf8_lossy(&self.answer(b"\n", ANSWER)?).into_owned();
        let status = status.parse().map_err(|_| Failed(format!("{line:?}: exit status {status:?}")))?;
        Ok((String::from_utf8_lossy(&output).into_owned(), status))
    }

    /// The guest's clock.
    ///
    /// # Errors
    /// When the guest is silent or gone.
    pub fn clock(&mut self) -> Result<Duration, Failed> {
        self.tell("clock")?;
        let since = String::from_utf8_lossy(&self.answer(b"\n", ANSWER)?).into_owned();
        let seconds = since.parse().map_err(|_| Failed(format!("the guest's clock says {since:?}")))?;
        Ok(Duration::from_secs_f64(seconds))
    }

    fn tell(&mut self, line: &str) -> Result<(), Failed> {
        self.control.write_all(format!("{line}\n").as_bytes()).map_err(Failed::because("telling the guest"))
    }

    /// What comes before `mark`, which is taken away too.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn answer(&mut self, mark: &[u8], within: Duration) -> Result<Vec<u8>, Failed> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(at) = self.heard.windows(mark.len()).position(|bytes| bytes == mark) {
                let rest = self.heard.split_off(at + mark.len());
                let mut answer = std::mem::replace(&mut self.heard, rest);
                answer.truncate(at);
                return Ok(answer);
            }
            if Instant::now() > deadline {
                return Err(self.gone("silent"));
            }
            self.pump(Duration::from_millis(200))?;
        }
    }

    fn gone(&self, how: &str) -> Failed {
        let console = std::fs::read(self.folder.path().join("console")).unwrap_or_default();
        let tail = console.len().saturating_sub(2000);
        Failed(format!("the guest is {how}; its console:\n{}", String::from_utf8_lossy(&console[tail..])))
    }

    /// Takes in what is there; the NICs by which the sentinel answered.
    fn pump(&mut self, within: Duration) -> Result<Vec<usize>, Failed> {
        let failed = || Failed::because("listening to the guest");
        let mut descriptors = vec![PollFd::new(self.control.as_fd(), PollFlags::POLLIN)];
        descriptors.extend(self.nics.iter().map(|nic| PollFd::new(nic.as_fd(), PollFlags::POLLIN)));
        let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
        poll(&mut descriptors, timeout).map_err(std::io::Error::from).map_err(failed())?;
        let ready = descriptors.iter().map(|one| one.any().unwrap_or(false)).collect::<Vec<_>>();
        drop(descriptors);
        let mut bytes = vec![0; 1 << 16];
        if ready[0] {
            let length = self.control.read(&mut bytes).map_err(failed())?;
            if length == 0 {
                return Err(self.gone("gone"));
            }
            self.heard.extend(&bytes[..length]);
        }
        let mut sentinels = Vec::new();
        for nic in (0..NICS).filter(|nic| ready[nic + 1]) {
            let length = self.nics[nic].recv(&mut bytes).map_err(failed())?;
            let frame = &bytes[..length];
            if frame.starts_with(&SENTINEL_MAC) {
                sentinels.push(nic);
            } else if !is_housekeeping(frame) {
                self.left.push((nic, frame.to_vec()));
            }
        }
        Ok(sentinels)
    }

    /// A frame arrives at a NIC.
    ///
    /// # Errors
    /// When qemu is gone.
    pub fn send(&self, nic: usize, frame: &[u8]) -> Result<(), Failed> {
        let to = self.folder.path().join(format!("guest{nic}"));
        self.nics[nic].send_to(frame, to).map_err(Failed::because("sending a frame to the guest"))?;
        Ok(())
    }

    /// Waits until the guest is done with all frames; the last one arrived at `nic`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn settle(&mut self, nic: usize) -> Result<(), Failed> {
        // Twice at that NIC: GRO may hold a packet back past the first one.
        let others = (0..NICS).filter(|&other| other != nic);
        for nic in [nic, nic].into_iter().chain(others) {
            self.send(nic, &sentinel())?;
            let deadline = Instant::now() + ANSWER;
            while !self.pump(Duration::from_secs(1))?.contains(&nic) {
                if Instant::now() > deadline {
                    return Err(self.gone("silent to ARP"));
                }
            }
        }
        Ok(())
    }

    /// The frames that left since the last time, by NIC.
    pub fn take(&mut self) -> Vec<(usize, Vec<u8>)> {
        let mut left = std::mem::take(&mut self.left);
        left.sort_by_key(|(nic, _)| *nic);
        left
    }
}

/// qemu connects, or has ended before.
fn accept(listener: &UnixListener) -> std::io::Result<(UnixStream, std::os::unix::net::SocketAddr)> {
    let mut descriptors = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(ANSWER).unwrap_or(PollTimeout::MAX);
    if poll(&mut descriptors, timeout)? == 0 {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    listener.accept()
}

/// An ARP request for [`SENTINEL`].
fn sentinel() -> Vec<u8> {
    let ethernet = [&[0xff; 6][..], &SENTINEL_MAC, &[8, 6]].concat();
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &SENTINEL_MAC, &[0; 4], &[0; 6], &SENTINEL_ADDRESS, &[0; 18]]
        .concat();
    [ethernet, arp].concat()
}

/// What a host with IPv6 says by itself: reports of group membership, router solicitations.
fn is_housekeeping(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x86, 0xdd])
        && matches!((frame.get(20), frame.get(54)), (Some(0), Some(58)) | (Some(58), Some(133 | 143)))
}

//! What the TAPs are set to, and how that changes while they are in use.
//!
//! The kernel takes its time for such changes, since all that uses its network waits in one line for them. So this belongs to whoever
//! changes the configuration; the control loop, which reads and writes frames meanwhile, has the [`super::Kernel`].

use super::resident::Resident;
use super::{KernelError, NicSide, configure};

/// A TAP and what it is set to.
#[derive(Clone)]
pub(super) struct TapSetting {
    pub interface: String,
    pub index: u32,
    pub side: NicSide,
    /// The TAP is what that says; before, it has nothing.
    pub is_applied: bool,
}

/// MACs, addresses, routes and MTUs of all TAPs, by [`shunt_dataplane::id::NicId`].
pub struct TapSettings {
    resident: Resident,
    taps: Vec<TapSetting>,
    /// The TAPs are what their sides say: false before the first update, and after the kernel refused something.
    settled: bool,
}

impl TapSettings {
    pub(super) const fn new(resident: Resident, taps: Vec<TapSetting>) -> Self {
        Self { resident, taps, settled: false }
    }

    /// Gives the TAPs other MACs, addresses, routes and MTUs, and waits until they have them. Addresses that stay are not touched, so
    /// connections of running checks survive. Where nothing changes the kernel is not asked.
    ///
    /// # Errors
    /// [`KernelError::Nics`] when the NICs themselves are others; that takes a new start. Else what the kernel refused.
    pub fn update(&mut self, sides: &[NicSide]) -> Result<(), KernelError> {
        let same = |(tap, side): (&TapSetting, &NicSide)| tap.side.name == side.name;
        if self.taps.len() != sides.len() || !self.taps.iter().zip(sides).all(same) {
            return Err(KernelError::Nics);
        }
        if self.settled && self.taps.iter().map(|tap| &tap.side).eq(sides) {
            return Ok(());
        }
        self.settled = false;
        let (taps, wanted) = (self.taps.clone(), sides.to_vec());
        self.resident.run(move || configure::apply(&taps, &wanted))??;
        for (tap, side) in self.taps.iter_mut().zip(sides) {
            tap.side = side.clone();
            tap.is_applied = true;
        }
        self.settled = true;
        Ok(())
    }
}

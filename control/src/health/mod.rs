//! Health checks of real servers: [`check`] asks one, and [`driver`] is the thread that carries out what the machine of
//! `shunt_protocol::health` wants.

pub mod check;
pub mod driver;
pub mod lack;
pub mod places;
pub mod punctual;
pub mod scripts;

pub use driver::Health;
pub use lack::Lacks;

//! Shows that packets of open connections move no cache line between workers. Needs valgrind and a release build:
//! `cargo run --release --bin shared_writes`.

use std::process::ExitCode;

use shunt_tests::shared_writes::{PLAY, look, play};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(PLAY) {
        play::play();
        return ExitCode::SUCCESS;
    }
    match look() {
        Ok(found) => {
            println!("{found}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

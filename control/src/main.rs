//! The `shunt` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    shunt::cli::main()
}

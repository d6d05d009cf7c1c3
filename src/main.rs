//! The program `faroe-sidecar`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    faroe_sidecar::cli::run(std::env::args_os())
}

//! `proto`: prints the contract.

use std::process::ExitCode;

use super::{Failure, print_line};
use crate::proto::USER_STORE;

/// What follows the options in `--help`.
pub(super) const AFTER_HELP: &str = "\
How a store is made of it:
  1. faroe-sidecar proto > user_store.proto
  2. generate a server in your language from it, and write its seven methods
  3. faroe-sidecar conformance grpc://HOST:PORT";

pub(super) fn run() -> Result<ExitCode, Failure> {
    print_line(USER_STORE.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

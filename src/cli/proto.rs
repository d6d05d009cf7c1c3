//! `proto`: prints the contract.

use std::process::ExitCode;

use super::{Failure, print_line};
use crate::proto::USER_STORE;

pub(super) fn run() -> Result<ExitCode, Failure> {
    print_line(USER_STORE.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

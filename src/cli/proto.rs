//! `proto`: prints the contract.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use super::Failure;
use crate::proto::USER_STORE;

pub(super) fn run() -> Result<ExitCode, Failure> {
    match io::stdout().write_all(USER_STORE.as_bytes()) {
        // A reader that has seen enough, such as `head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result.map_err(Failure::failed)?,
    }
    Ok(ExitCode::SUCCESS)
}

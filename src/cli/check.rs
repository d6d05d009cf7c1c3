//! `check`: what `serve` would say of its configuration.

use std::process::ExitCode;

use anyhow::anyhow;

use super::{Failure, print_line, serve};
use crate::tls::Material as _;

pub(super) fn run(options: serve::Options) -> Result<ExitCode, Failure> {
    let config = options.resolve().map_err(Failure::Usage)?;
    let material = config.check().map_err(Failure::Usage)?.subscribe();
    // `serve` starts with it and warns: it can be replaced while it runs, and a clock can be wrong.
    let material = material.borrow();
    if let Some(term) = material.terms().iter().find(|term| term.is_needed && !term.is_valid()) {
        return Err(Failure::Usage(anyhow!(
            "--{}: it is not valid now: connections would be refused",
            term.option
        )));
    }
    print_line("the configuration is right")?;
    Ok(ExitCode::SUCCESS)
}

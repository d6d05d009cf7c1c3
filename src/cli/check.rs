//! `check`: what `serve` would say of its configuration.

use std::process::ExitCode;

use super::{Failure, print_line, serve};

pub(super) fn run(options: serve::Options) -> Result<ExitCode, Failure> {
    options.resolve().and_then(|config| config.check()).map_err(Failure::Usage)?;
    print_line("the configuration is right")?;
    Ok(ExitCode::SUCCESS)
}

//! `check`: what `serve` would say of its configuration.

use std::{process::ExitCode, time::SystemTime};

use anyhow::anyhow;

use super::{Failure, print_line, serve};
use crate::tls;

pub(super) fn run(options: serve::Options) -> Result<ExitCode, Failure> {
    let config = options.resolve().map_err(Failure::Usage)?;
    config.check().map_err(Failure::Usage)?;
    // `serve` starts with it and warns: it can be replaced while it runs, and a clock can be wrong.
    let certificate = &config.tls.identity.certificate;
    let validity = tls::validity(certificate).map_err(Failure::usage)?;
    if !validity.contains(SystemTime::now()) {
        return Err(Failure::Usage(anyhow!(
            "--tls-cert: {} is not valid now: callers would refuse it",
            certificate.display()
        )));
    }
    print_line("the configuration is right")?;
    Ok(ExitCode::SUCCESS)
}

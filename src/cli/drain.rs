//! `drain`: tells a running sidecar that its end is near, for the `preStop` of a pod.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use http::{Method, StatusCode};

use super::{Failure, admin::Target, block_on, print_line};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(options: Options) -> Result<ExitCode, Failure> {
    block_on(async {
        let (status, text) = options.target.ask(Method::POST, "/drain").await?;
        if status != StatusCode::OK {
            return Err(Failure::Failed(anyhow!("{status}: {text}")));
        }
        print_line(&text)?;
        Ok(ExitCode::SUCCESS)
    })
}

//! `health`: asks a running sidecar how it is, for images without a shell.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use http::{Method, StatusCode};

use super::{Failure, admin::Target, block_on, print_line};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Ask whether it is ready, instead of whether it works
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(options: Options) -> Result<ExitCode, Failure> {
    block_on(async {
        let path = if options.ready { "/readyz" } else { "/livez" };
        let (status, text) = options.target.ask(Method::GET, path).await?;
        if status != StatusCode::OK {
            return Err(Failure::Failed(anyhow!("{status}: {text}")));
        }
        print_line(&text)?;
        Ok(ExitCode::SUCCESS)
    })
}

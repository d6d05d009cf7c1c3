//! `conformance`: whether a gRPC `UserStore` keeps the contract.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::{Failure, block_on, options::duration, print_line};
use crate::{
    conformance::{self, Case, Config, Event, Outcome, Selection},
    store,
    tls::{self, ClientFiles, ClientMaterial, IdentityFiles},
};

/// The store could not be reached.
const NOT_REACHED: u8 = 3;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The store: grpc://HOST:PORT, grpcs://HOST:PORT or unix:///PATH
    #[arg(value_name = "URL", required_unless_present = "list")]
    url: Option<String>,
    /// Print the cases and check nothing
    #[arg(long)]
    list: bool,
    /// Check only these cases or groups, once for each or separated by commas
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave these cases or groups out; the verdict names them
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    skip: Vec<String>,
    /// Time for each call
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// Authorities that the certificate of a grpcs:// store must chain to: PEM [default: those of
    /// the system]
    #[arg(long, env = "FAROE_SIDECAR_STORE_CA", value_name = "FILE")]
    store_ca: Option<PathBuf>,
    /// Client certificate to show to a grpcs:// store: PEM
    #[arg(long, env = "FAROE_SIDECAR_STORE_CERT", value_name = "FILE", requires = "store_key")]
    store_cert: Option<PathBuf>,
    /// Key of that certificate: PEM
    #[arg(long, env = "FAROE_SIDECAR_STORE_KEY", value_name = "FILE", requires = "store_cert")]
    store_key: Option<PathBuf>,
}

impl Options {
    fn resolve(&self) -> anyhow::Result<Config> {
        let url = self.url.as_deref().unwrap_or_default();
        let url = match url.parse().context("URL")? {
            store::Url::Remote(url) => url,
            store::Url::Sql(_) => {
                return Err(anyhow!(
                    "URL: a gRPC UserStore is checked: serve the bundled store with faroe-sidecar store, and give grpc://, grpcs:// or unix://"
                ));
            }
        };
        let identity = match (&self.store_cert, &self.store_key) {
            (Some(certificate), Some(key)) => {
                Some(IdentityFiles { certificate: certificate.clone(), key: key.clone() })
            }
            _ => None,
        };
        if !url.is_tls() && (self.store_ca.is_some() || identity.is_some()) {
            return Err(anyhow!("--store-ca, --store-cert and --store-key are for grpcs://"));
        }
        let tls = if url.is_tls() {
            let files = ClientFiles { ca: self.store_ca.clone(), identity };
            Some(Arc::new(<ClientMaterial as tls::Material>::load(&files)?))
        } else {
            None
        };
        let mut config = Config::new(url);
        config.tls = tls;
        config.timeout = self.timeout;
        Ok(config)
    }

    fn selection(&self) -> anyhow::Result<Selection> {
        let selection =
            Selection::new(self.only.clone(), self.skip.clone()).context("--only, --skip")?;
        let checks = |case: &&Case| case.why_not_checkable().is_none() && selection.takes(case);
        if !conformance::cases().any(|case| checks(&case)) {
            return Err(anyhow!("--only and --skip leave no case that can be checked"));
        }
        Ok(selection)
    }
}

pub(super) fn run(options: Options) -> Result<ExitCode, Failure> {
    let selection = options.selection().map_err(Failure::Usage)?;
    if options.list {
        return list(&selection);
    }
    let config = options.resolve().map_err(Failure::Usage)?;
    block_on(async {
        let report = conformance::run_until(&config, &selection, std::future::pending(), progress);
        let report = match report.await {
            Ok(report) => report,
            Err(error) => {
                eprintln!("faroe-sidecar: {} could not be reached: {error}", config.url);
                return Ok(ExitCode::from(NOT_REACHED));
            }
        };
        print_line(conformance::report::text(&report).trim_end())?;
        Ok(if report.conforms() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

fn list(selection: &Selection) -> Result<ExitCode, Failure> {
    for case in conformance::cases().filter(|case| selection.takes(case)) {
        let note = case.why_not_checkable().map(|why| format!(" (not checkable: {why})"));
        print_line(&format!(
            "{:<46} {:<6} {} [{}]{}",
            case.id,
            case.level,
            case.demand,
            case.section,
            note.unwrap_or_default()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each case that runs, to standard error.
fn progress(event: Event<'_>) {
    match event {
        Event::Started { case, number, of } => eprint!("[{number}/{of}] {} … ", case.id),
        Event::Ended(result)
            if matches!(
                result.outcome,
                Outcome::Passed | Outcome::Failed(_) | Outcome::NotPresent(_)
            ) =>
        {
            eprintln!("{} ({} ms)", result.outcome.as_str(), result.took.as_millis());
        }
        Event::Ended(_) => {}
    }
}

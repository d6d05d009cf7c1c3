//! `conformance`: whether a gRPC `UserStore` keeps the contract.

use std::{io, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tokio_stream::{StreamExt as _, wrappers::SignalStream};

use super::{Failure, block_on, options::duration, print_line};
use crate::{
    conformance::{
        self, Case, Config, Event, Outcome, Selection,
        report::{self, Format},
    },
    store::remote,
    tls::{self, ClientFiles, ClientMaterial, IdentityFiles},
};

/// The store could not be reached.
const NOT_REACHED: u8 = 3;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The store: grpc://HOST:PORT, grpcs://HOST:PORT or unix:///PATH; needed unless --list
    #[arg(value_name = "URL", required_unless_present = "list")]
    url: Option<String>,
    /// Print the cases and check nothing
    #[arg(long)]
    list: bool,
    /// Check only these cases or groups, once for each or separated by commas; a group is what IDs
    /// have before their dot
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave these cases or groups out; the verdict names them
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    skip: Vec<String>,
    /// How the report is written, to standard output: text, json, junit or tap
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
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

/// What follows the options in `--help`.
pub(super) const AFTER_HELP: &str = "\
Examples:
  faroe-sidecar conformance grpc://127.0.0.1:50051 --only lookup
  faroe-sidecar conformance grpc://127.0.0.1:50051

A store that is being written starts with --only lookup, which makes and deletes users too. A run of
all cases takes 4 to 10 s. It is safe for a store with real users: it changes and deletes none but
its own.

Exit codes:
  0    the store conforms: every MUST that ran passed
  1    it does not, or a user of the run was not seen to be deleted
  2    wrong usage; nothing was tried
  3    it could not be reached
  130  stopped by SIGINT (129: SIGHUP, 143: SIGTERM); its users were deleted";

/// The address of a gRPC store. No error shows it.
fn parsed(url: &str) -> anyhow::Result<remote::Url> {
    match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("grpc" | "grpcs" | "unix") => url.parse().context("URL"),
        Some("sqlite" | "postgres" | "postgresql" | "mysql") => Err(anyhow!(
            "URL: a gRPC UserStore is checked: serve the bundled store with faroe-sidecar store, and give grpc://, grpcs:// or unix://"
        )),
        Some(_) => Err(anyhow!("URL: the store has an unknown scheme: use grpc, grpcs or unix")),
        None => Err(anyhow!(
            "URL: the store has no scheme: write SCHEME://…, such as grpc://127.0.0.1:50051"
        )),
    }
}

impl Options {
    fn resolve(&self) -> anyhow::Result<Config> {
        let url = parsed(self.url.as_deref().unwrap_or_default())?;
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
        if !self.list && !conformance::cases().any(|case| runs(&selection, case)) {
            return Err(anyhow!("--only and --skip leave no case that can be checked"));
        }
        Ok(selection)
    }
}

pub(super) fn run(options: Options) -> Result<ExitCode, Failure> {
    let selection = options.selection().map_err(Failure::Usage)?;
    if options.list {
        return list(&selection, options.format);
    }
    let config = options.resolve().map_err(Failure::Usage)?;
    block_on(async {
        let (first, second) = signals().map_err(Failure::failed)?;
        let mut signal = None;
        let stop = async { signal = Some(first.await.unwrap_or_default()) };
        let report = tokio::select! {
            report = conformance::run_until(&config, &selection, stop, |event| {
                progress(&selection, event);
            }) => report,
            Ok(code) = second => return Ok(ExitCode::from(code)),
        };
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                eprintln!("faroe-sidecar: {} could not be reached: {error}", config.url);
                return Ok(ExitCode::from(NOT_REACHED));
            }
        };
        print_line(report::write(&report, options.format).trim_end())?;
        Ok(match signal {
            Some(code) => ExitCode::from(code),
            None if report.conforms() => ExitCode::SUCCESS,
            None => ExitCode::FAILURE,
        })
    })
}

/// The first and the second signal that ends the run, as the exit code that is usual for it: 128
/// and its number.
fn signals() -> io::Result<(oneshot::Receiver<u8>, oneshot::Receiver<u8>)> {
    let of = |kind: SignalKind, number: u8| {
        io::Result::Ok(SignalStream::new(signal(kind)?).map(move |()| 128 + number))
    };
    let stop = of(SignalKind::terminate(), 15)?.merge(of(SignalKind::interrupt(), 2)?);
    let mut signals = stop.merge(of(SignalKind::hangup(), 1)?);
    let (first, first_comes) = oneshot::channel();
    let (second, second_comes) = oneshot::channel();
    tokio::spawn(async move {
        for (sender, said) in [
            (first, "stopping: the users of this run are being deleted"),
            (second, "stopped at once: users of this run may still be there"),
        ] {
            if let Some(code) = signals.next().await {
                eprintln!("\nfaroe-sidecar: {said}");
                // Nobody listens at the end of a run.
                let _ = sender.send(code);
            }
        }
    });
    Ok((first_comes, second_comes))
}

fn list(selection: &Selection, format: Format) -> Result<ExitCode, Failure> {
    match format {
        Format::Text => {}
        Format::Json => {
            print_line(report::json_list(|case| selection.takes(case)).trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        Format::Junit | Format::Tap => {
            return Err(Failure::Usage(anyhow!("--list: --format is text or json")));
        }
    }
    for case in conformance::cases().filter(|case| selection.takes(case)) {
        let note = case.why_not_checkable().map(|why| format!(" (not checkable: {why})"));
        print_line(&format!(
            "{:<52} {:<6} {} [{}]{}",
            case.id,
            case.level,
            case.demand,
            case.section,
            note.unwrap_or_default()
        ))?;
    }
    print_line(&format!("\n{}", report::SECTIONS))?;
    Ok(ExitCode::SUCCESS)
}

fn runs(selection: &Selection, case: &Case) -> bool {
    case.why_not_checkable().is_none() && selection.takes(case)
}

/// A line for each case that runs, to standard error.
fn progress(selection: &Selection, event: Event<'_>) {
    match event {
        Event::Reached(mark) => {
            let run = conformance::cases().filter(|case| runs(selection, case)).count();
            let all = conformance::cases().count();
            eprintln!("the email addresses of this run have {mark} in them");
            eprintln!(
                "cases to run: {run} of {all} (the others are skipped, or no call can check them)"
            );
        }
        Event::Started { case, number, of } => eprint!("[{number}/{of}] {} … ", case.id),
        Event::Ended(result) => match &result.outcome {
            Outcome::Passed | Outcome::Failed(_) | Outcome::NotPresent(_) => {
                eprintln!("{} ({} ms)", result.outcome.as_str(), result.took.as_millis());
            }
            // They were not started, or the line of the signal stands there already.
            _ => {}
        },
    }
}

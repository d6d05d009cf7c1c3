//! The command line: raw options, then resolved configurations, then a command.
//!
//! `interface`. Every flag has an environment variable that says the same; `--help` is the
//! reference. An error is one line, and a password in a URL is in none of them.

mod admin;
mod check;
mod conformance;
mod dev;
mod drain;
mod health;
mod migrate;
mod options;
mod proto;
mod serve;
mod store;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::{
    Parser, Subcommand,
    error::{ContextKind, ErrorKind},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::{Stream, StreamExt as _, wrappers::SignalStream};

use crate::{
    app::{Signal, StartError},
    tls,
};

/// A user server for Faroe: action invocations over mutual TLS, answered by the bundled SQL store
/// or by any gRPC UserStore.
#[derive(Debug, Parser)]
#[command(name = "faroe-sidecar", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything on one machine: makes development certificates and an SQLite file, serves, and
    /// prints curl lines that work as they stand.
    Dev(dev::Options),
    /// The sidecar.
    Serve(serve::Options),
    /// The schema of the bundled store: up, down, status.
    Migrate(migrate::Options),
    /// Serves the bundled store as a gRPC UserStore, with health and reflection.
    Store(store::Options),
    /// Checks any running UserStore against the contract, with users of its own that it deletes
    /// again. Exits 0 if the store conforms, 1 if not, 2 on wrong usage, 3 if it could not be
    /// reached.
    #[command(after_help = conformance::AFTER_HELP)]
    Conformance(conformance::Options),
    /// Prints the .proto of the UserStore: the contract, with all that an implementer needs.
    #[command(after_help = proto::AFTER_HELP)]
    Proto,
    /// Reads the whole configuration as serve would, certificates included, says what is wrong, and
    /// serves nothing.
    Check(serve::Options),
    /// Asks /livez of a running sidecar, or /readyz; exits 0 if the answer is 200, for images
    /// without a shell.
    Health(health::Options),
    /// Tells a running sidecar on this host to start draining without stopping: it is no longer
    /// ready, and sends its callers elsewhere; for preStop. Its admin listener has to be on loopback or
    /// on every address.
    Drain(drain::Options),
}

/// Why a command did not do what it should.
#[derive(Debug)]
enum Failure {
    /// Wrong usage or configuration: nothing was written or bound.
    Usage(anyhow::Error),
    /// It failed while running.
    Failed(anyhow::Error),
}

impl Failure {
    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self::Failed(error.into())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Configuration(error) => Self::Usage(error),
            StartError::Failed(error) => Self::Failed(error),
        }
    }
}

/// Runs a command line and says how the process is to end.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error),
    };
    tls::install_provider();
    let result = match cli.command {
        Command::Dev(options) => dev::run(options),
        Command::Serve(options) => serve::run(options),
        Command::Migrate(options) => migrate::run(options),
        Command::Store(options) => store::run(options),
        Command::Conformance(options) => conformance::run(options),
        Command::Proto => proto::run(),
        Command::Check(options) => check::run(options),
        Command::Health(options) => health::run(options),
        Command::Drain(options) => drain::run(options),
    };
    let (error, code) = match result {
        Ok(code) => return code,
        Err(Failure::Usage(error)) => (error, 2),
        Err(Failure::Failed(error)) => (error, 1),
    };
    eprintln!("faroe-sidecar: {}", one_line(&error));
    ExitCode::from(code)
}

/// An error with its causes, each said once.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line.replace('\n', " ")
}

/// What clap has to say, in one line; `--help` and `--version` as they are.
fn usage_error(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has gone, such as `head`, is no error of ours.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
        }
        _ => eprintln!("faroe-sidecar: {} (see --help)", usage_line(error)),
    }
    ExitCode::from(2)
}

fn usage_line(error: &clap::Error) -> String {
    let context = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    if error.kind() == ErrorKind::ValueValidation
        && let Some(source) = std::error::Error::source(error)
    {
        // None of these errors shows a URL.
        return format!("{}: {source}", context(ContextKind::InvalidArg));
    }
    // What stands where nothing should may be anything, a URL with a password for one.
    let stray = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand]
        .into_iter()
        .map(context)
        .any(|text| !text.is_empty() && !text.starts_with('-'));
    if stray && matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand) {
        return "unexpected argument, which is not shown here".to_owned();
    }
    let shown = error.render().to_string();
    let paragraph = shown.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    // Whatever was typed in the wrong place may be a URL with a password.
    match line.split_once("://") {
        Some((before, _)) => format!("{before}://…'"),
        None => line.to_owned(),
    }
}

/// Prints a line of a result. A reader that has seen enough, such as `head`, is no error.
fn print_line(line: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(error)),
        _ => Ok(()),
    }
}

/// Runs a command to its end. What is still going on then is broken off, for which there is a
/// moment; the look-up of a name, which cannot be, ends with the process.
fn block_on(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let result = runtime.block_on(command);
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// SIGTERM and SIGINT to stop, SIGHUP for what is given: a server reloads, and what is run by hand
/// ends with its terminal. To be made before anybody could send one.
fn signals(hang_up: Signal) -> io::Result<impl Stream<Item = Signal> + Unpin + Send> {
    let of = |kind| io::Result::Ok(SignalStream::new(signal(kind)?));
    let stop = of(SignalKind::terminate())?.merge(of(SignalKind::interrupt())?);
    let hangs_up = of(SignalKind::hangup())?;
    Ok(stop.map(|()| Signal::Stop).merge(hangs_up.map(move |()| hang_up)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn line(arguments: &[&str]) -> String {
        let arguments = ["faroe-sidecar"].iter().chain(arguments);
        usage_line(&Cli::try_parse_from(arguments).expect_err("it should be refused"))
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_error_is_one_line_and_shows_no_password() {
        for arguments in [
            &["serve", "postgres://u:hunter2@h/db"][..],
            &["serve", "u:hunter2"],
            &["u:hunter2"],
            &["migrate", "u:hunter2"],
            &["postgres://u:hunter2@h/db"],
            &["serve", "--stroe=postgres://u:hunter2@h/db"],
            &["serve", "--listen", "postgres://u:hunter2@h/db"],
            &["serve", "--max-body", "postgres://u:hunter2@h/db"],
            &["serve", "--store", "postgres://u:hunter2@h/db", "--store-file", "f"],
            &["serve", "--log-format", "postgres://u:hunter2@h/db"],
            &["migrate", "postgres://u:hunter2@h/db"],
        ] {
            let line = line(arguments);
            assert!(!line.contains("hunter2"), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn an_error_names_the_option() {
        assert!(line(&["serve", "--request-timeout", "10"]).contains("--request-timeout"));
        assert!(line(&["serve", "--allow-client", "faroe"]).contains("dns:NAME"));
        assert!(line(&["serve"]).contains("--tls-cert"));
    }
}

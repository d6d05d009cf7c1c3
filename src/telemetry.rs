//! Where the log goes: standard error, as JSON or as text.

use std::io::{self, IsTerminal as _};

use tracing::Level;
use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl LogFormat {
    /// `Text` where a person looks on, else `Json`.
    pub fn of_stderr() -> Self {
        if io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// What keeps the program from working.
    Error,
    /// What an operator should look at.
    Warn,
    /// Every change to a user, every refused request, every change of state.
    Info,
    /// Successful reads too, and connections.
    Debug,
    /// Everything.
    Trace,
}

/// Starts the log; a second call changes nothing.
pub fn start(format: LogFormat, level: LogLevel) {
    let level = match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    // Of libraries, errors only: their messages were not written with our secrets in mind.
    let filter = Targets::new()
        .with_default(Level::ERROR)
        .with_target("sqlx", tracing::level_filters::LevelFilter::OFF)
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let layer = fmt::layer().with_writer(io::stderr);
    let layer = match format {
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => layer.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed(),
    };
    let _already_started = tracing_subscriber::registry().with(layer).try_init();
}

//! Where the log goes: standard error, as JSON or as text.

use std::{
    io::{self, IsTerminal as _},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::Level;
use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// The target of the lines that say which users were changed. They are written at every level.
pub const AUDIT: &str = "audit";

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
        .with_target(AUDIT, Level::INFO)
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let layer = fmt::layer().with_writer(io::stderr);
    let layer = match format {
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => layer.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed(),
    };
    let _already_started = tracing_subscriber::registry().with(layer).try_init();
}

/// For lines that could come thousands of times a second: due at most once in ten seconds.
#[derive(Debug, Default)]
pub struct Occasionally(Mutex<Option<Instant>>);

impl Occasionally {
    const PAUSE: Duration = Duration::from_secs(10);

    /// Whether it is time for a line again.
    pub fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= Self::PAUSE);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

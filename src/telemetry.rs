//! Where the log goes: standard error, as JSON or as text; and how much of it, which can be changed
//! while the program runs. Where the traces go: to [`crate::otlp`].

use std::{
    fmt,
    io::{self, IsTerminal as _},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::ValueEnum as _;
use tracing::{Level, level_filters::LevelFilter, warn};
use tracing_subscriber::{
    Layer as _, Registry, filter::Targets, fmt::layer, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

use crate::{otlp::Traces, trace::SPANS};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
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

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(level: &str) -> Result<Self, String> {
        <Self as clap::ValueEnum>::from_str(level, false)
            .map_err(|_| "write error, warn, info, debug or trace".to_owned())
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// The log of this process. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Log {
    level: Arc<Mutex<LogLevel>>,
    filter: reload::Handle<Targets, Registry>,
}

impl Log {
    /// Starts the log, and the spans of `traces`; a second call changes nothing.
    pub fn start(format: LogFormat, level: LogLevel, traces: Option<&Traces>) -> Self {
        let (filter, handle) = reload::Layer::new(filter(level));
        let layer = layer().with_writer(io::stderr);
        let layer = match format {
            LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
            LogFormat::Text => {
                layer.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed()
            }
        };
        let mut layers = vec![layer];
        if let Some(traces) = traces {
            let spans = tracing_opentelemetry::layer()
                .with_tracer(traces.tracer())
                .with_location(false)
                .with_threads(false)
                .with_target(false)
                .with_tracked_inactivity(false)
                .with_filter(Targets::new().with_target(SPANS, Level::INFO));
            layers.push(spans.boxed());
        }
        let _already_started = tracing_subscriber::registry().with(layers).try_init();
        Self { level: Arc::new(Mutex::new(level)), filter: handle }
    }

    /// How much is logged now.
    pub fn level(&self) -> LogLevel {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how much is logged from now on, and says so in the log.
    ///
    /// # Errors
    ///
    /// If the log of this process is another one.
    pub fn set_level(&self, level: LogLevel) -> Result<(), reload::Error> {
        let mut current = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let say = || warn!(from = %current, to = %level, "the log level is changed");
        // Said while the more talkative one of both is in force.
        if level < *current {
            say();
        }
        self.filter.reload(filter(level))?;
        if level > *current {
            say();
        }
        *current = level;
        Ok(())
    }
}

fn filter(level: LogLevel) -> Targets {
    // Of libraries, errors only: their messages were not written with our secrets in mind. Spans,
    // which are not errors, stay out of the log as well.
    Targets::new()
        .with_default(Level::ERROR)
        .with_target("sqlx", LevelFilter::OFF)
        .with_target(AUDIT, Level::INFO)
        .with_target(env!("CARGO_CRATE_NAME"), LevelFilter::from(level))
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

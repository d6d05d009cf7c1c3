//! From a URL to a store.
//!
//! `interface`, "`--store` chooses by scheme". Every store is an implementation of
//! [`UserStore`]; what this module adds is what the
//! stage before it needs of any of them: whether a call can have reached the store ([`NotReached`],
//! [`Unanswered`]), not to wait for one that is away ([`Breaker`]), whether it is there at all
//! ([`Store::check`]), and what a trace says of a call ([`Spans`]).

mod breaker;
pub mod remote;
mod span;
pub mod sql;

use std::{fmt, sync::Arc, time::Duration};

use thiserror::Error;
use tonic::{Code, Status};

pub use self::{
    breaker::{Admitted, Breaker},
    span::Spans,
};
use crate::proto::user_store_server::UserStore;

/// The call certainly never reached the store: no connection could be made, or no slot of the pool
/// came free in time. Nothing was changed, and the caller may try again. A store that is
/// [busy](Self::is_busy) is not away.
///
/// It travels as the source of a [`Status`], which does not cross a wire: only code of this
/// program can say so.
#[derive(Debug, Clone, Error)]
#[error("{reason}")]
pub struct NotReached {
    reason: String,
    busy: bool,
}

impl NotReached {
    /// `reason` goes into the log: it holds no secret.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), busy: false }
    }

    /// The same where the store is there and has its hands full: no connection failed, this call
    /// only had no turn.
    pub fn busy(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), busy: true }
    }

    /// Whether the store is there, and only had no room for this call.
    pub const fn is_busy(&self) -> bool {
        self.busy
    }

    /// The status that carries it. To a client outside of this program it is `UNAVAILABLE`.
    pub fn into_status(self) -> Status {
        let mut status = Status::unavailable("the store could not be reached");
        status.set_source(Arc::new(self));
        status
    }

    /// What a status carries, if it does.
    pub fn of_status(status: &Status) -> Option<&Self> {
        std::error::Error::source(status)?.downcast_ref()
    }
}

/// The call was sent and not answered: whether the store acted is not known. Like [`NotReached`] it
/// travels as the source of a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unanswered {
    /// The connection was lost before the answer. The text is for the log.
    #[error("the connection to the store was lost: {0}")]
    ConnectionLost(String),
    /// The deadline passed before the answer.
    #[error("the store did not answer in time")]
    DeadlinePassed,
}

impl Unanswered {
    /// The status that carries it.
    pub fn into_status(self) -> Status {
        let mut status = match self {
            Self::ConnectionLost(_) => Status::unavailable(self.to_string()),
            Self::DeadlinePassed => Status::deadline_exceeded(self.to_string()),
        };
        status.set_source(Arc::new(self));
        status
    }

    /// What a status carries, if it does.
    pub fn of_status(status: &Status) -> Option<&Self> {
        std::error::Error::source(status)?.downcast_ref()
    }
}

/// The largest message to or from a store, in bytes. Hashes may be large; the contract sets no
/// limit, and the largest request body is below this one.
pub(crate) const MAX_MESSAGE: usize = 64 << 20;

/// How long to try to reach a store: shorter than the whole call may take, so that "not reached"
/// can be told from "no answer".
fn reach_timeout(store_timeout: Duration) -> Duration {
    store_timeout * 4 / 5
}

/// A value of `--store` that cannot be used. The text never shows the value: it may hold a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct InvalidUrl(String);

impl InvalidUrl {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// Which store, parsed: nothing is opened yet.
#[derive(Debug, Clone)]
pub enum Url {
    /// The bundled store.
    Sql(sql::Url),
    /// A gRPC `UserStore`.
    Remote(remote::Url),
}

impl Url {
    /// What the store is called in messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Sql(url) => url.kind(),
            Self::Remote(_) => "a gRPC UserStore",
        }
    }
}

impl std::str::FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(url: &str) -> Result<Self, InvalidUrl> {
        let (scheme, _) = url.split_once("://").ok_or_else(|| {
            InvalidUrl::new(
                "the store has no scheme: write SCHEME://…, such as sqlite://users.sqlite",
            )
        })?;
        match scheme {
            "sqlite" | "postgres" | "postgresql" | "mysql" => url.parse().map(Self::Sql),
            "grpc" | "grpcs" | "unix" => url.parse().map(Self::Remote),
            _ => Err(InvalidUrl::new(
                "the store has an unknown scheme: use sqlite, postgres, mysql, grpc, grpcs or unix",
            )),
        }
    }
}

/// An opened store.
#[derive(Clone)]
pub enum Store {
    /// The bundled store.
    Sql(sql::SqlStore),
    /// A gRPC `UserStore`.
    Remote(remote::RemoteStore),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sql(_) => "Store::Sql",
            Self::Remote(_) => "Store::Remote",
        })
    }
}

impl Store {
    /// The port through which actions reach the store. The caller bounds each call by the time that
    /// the store was opened with.
    pub fn user_store(&self) -> Arc<dyn UserStore> {
        match self {
            Self::Sql(store) => Arc::new(store.clone()),
            Self::Remote(store) => Arc::new(store.clone()),
        }
    }

    /// Whether calls can be expected to succeed now.
    ///
    /// # Errors
    ///
    /// In words, what stands in the way and what to do; no secret in it.
    pub async fn check(&self) -> Result<(), String> {
        match self {
            Self::Sql(store) => store.check().await,
            Self::Remote(store) => store.check().await,
        }
    }
}

/// A code as gRPC's documentation writes it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// What a store says comes from outside: at most 256 characters of it go into a log, on one line.
pub(crate) fn shortened(message: &str) -> String {
    message.chars().take(256).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_says_is_one_short_line() {
        let long = format!("a\nb\u{1b}[31m{}", "x".repeat(10_000));
        let shown = shortened(&long);
        assert!(shown.starts_with("a b [31mx"));
        assert_eq!(shown.chars().count(), 256);
    }

    #[test]
    fn the_scheme_chooses_the_store() {
        for url in [
            "sqlite://users.sqlite",
            "postgres://u:p@localhost/db",
            "postgresql://localhost/db",
            "mysql://u:p@localhost/db",
        ] {
            assert!(matches!(url.parse(), Ok(Url::Sql(_))), "{url}");
        }
        for url in ["grpc://localhost:1", "grpcs://h:1", "unix:///run/store.sock"] {
            assert!(matches!(url.parse(), Ok(Url::Remote(_))), "{url}");
        }
    }

    #[test]
    fn no_error_shows_the_url() {
        for url in [
            "",
            "hunter2",
            "hunter2://u:hunter2@h",
            "sqlite://",
            "sqlite://hunter2?mode=rwc",
            "postgres://u:hunter2@h:port/db",
            "postgres://u:hunter2@h/db?sslmode=hunter2",
            "postgres://u:hunter2@h/db?hunter2=1",
            "postgres://u:hunter2@h",
            "mysql://u:hunter2@h/db?ssl_mode=x",
            "mysql://u:hunter2@h/db?ssl-mode=hunter2",
            "mysql://u:hunter2@h/db?statement-cache-capacity=0",
            "grpc://u:hunter2@h:1",
            "grpc://hunter2",
            "grpc://h:1/hunter2",
            "grpcs://h:hunter2",
            "unix://hunter2",
        ] {
            let error = url.parse::<Url>().expect_err(url).to_string();
            assert!(!error.contains("hunter2"), "{url}: {error}");
            assert!(!error.is_empty());
        }
    }
}

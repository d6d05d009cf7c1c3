//! The one table from what a store answered to the error code that Faroe sees.
//!
//! `faroe-endpoint`, section 3; `user-store`, "Errors".

use std::fmt;

use thiserror::Error;
use tonic::{Code, Status};

use super::Action;
use crate::store::{NotReached, Unanswered, code_name, shortened};

/// The error codes that an action may give. No other exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The email address belongs to another user.
    EmailAddressAlreadyUsed,
    /// No such user, or the counter in the request is not that of the user.
    UserNotFound,
    /// A transient conflict: nothing was changed.
    InternalConflict,
    /// Everything else; whether something was changed is not known.
    InternalError,
}

impl ErrorCode {
    /// The code as Faroe reads it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EmailAddressAlreadyUsed => "email_address_already_used",
            Self::UserNotFound => "user_not_found",
            Self::InternalConflict => "internal_conflict",
            Self::InternalError => "internal_error",
        }
    }
}

impl ErrorCode {
    /// Whether the store said so, and nothing is wrong on the way to it.
    pub const fn is_the_stores_word(self) -> bool {
        !matches!(self, Self::InternalError)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a call of the store gave no usable result. For the operator's log: the caller sees its
/// [`ErrorCode`] only.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Failure {
    /// The store answered with a status that its method may give.
    #[error("the store answered {}: {}", code_name(*code), message)]
    Status {
        /// The code.
        code: Code,
        /// The text of the status, shortened.
        message: String,
    },
    /// The store answered `NOT_FOUND` or `ALREADY_EXISTS` to a method that may not give it.
    #[error("contract violation: the store answered {} to {action}, which may not give it", code_name(*code))]
    UnexpectedStatus {
        /// The code.
        code: Code,
        /// The action.
        action: Action,
    },
    /// The store's reply breaks the contract.
    #[error("contract violation: the store's reply to {action} failed the check {check}")]
    Reply {
        /// The name of the check that failed.
        check: &'static str,
        /// The action.
        action: Action,
    },
    /// The call was sent and not answered. Whether the store acted is not known.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// The call ended without an answer, by a fault of this program or with its end.
    #[error("the call of the store was broken off")]
    BrokenOff,
}

impl Failure {
    /// The code with which the call ended, as far as there is one.
    pub fn code(&self) -> Code {
        match self {
            Self::Status { code, .. } | Self::UnexpectedStatus { code, .. } => *code,
            Self::Reply { .. } => Code::Ok,
            Self::Unanswered(Unanswered::ConnectionLost(_)) => Code::Unavailable,
            Self::Unanswered(Unanswered::DeadlinePassed) => Code::DeadlineExceeded,
            Self::BrokenOff => Code::Unknown,
        }
    }

    /// What of the contract the store broke, if it did.
    pub fn violation(&self) -> Option<&'static str> {
        match self {
            Self::UnexpectedStatus { .. } => Some("status"),
            Self::Reply { check, .. } => Some(check),
            Self::Status { .. } | Self::Unanswered(_) | Self::BrokenOff => None,
        }
    }
}

/// The result of a call that did not succeed.
pub(super) enum CallError {
    /// The call certainly never reached the store: nothing was invoked.
    NotReached(NotReached),
    /// The action was invoked and failed.
    Failed(ErrorCode, Failure),
}

impl CallError {
    /// The table. `NOT_FOUND`, `ALREADY_EXISTS` and `ABORTED` are a store's own word: no gRPC
    /// library makes them up. Whatever else comes back says nothing about the user.
    pub(super) fn of_status(action: Action, status: &Status) -> Self {
        if let Some(not_reached) = NotReached::of_status(status) {
            return Self::NotReached(not_reached.clone());
        }
        if let Some(unanswered) = Unanswered::of_status(status) {
            return Self::unanswered(unanswered.clone());
        }
        let code = status.code();
        let error_code = match code {
            Code::AlreadyExists if action.sets_email_address() => {
                ErrorCode::EmailAddressAlreadyUsed
            }
            Code::NotFound if action != Action::CreateUser => ErrorCode::UserNotFound,
            Code::Aborted => ErrorCode::InternalConflict,
            Code::AlreadyExists | Code::NotFound => {
                let failure = Failure::UnexpectedStatus { code, action };
                return Self::Failed(ErrorCode::InternalError, failure);
            }
            _ => ErrorCode::InternalError,
        };
        Self::Failed(error_code, Failure::Status { code, message: shortened(status.message()) })
    }

    pub(super) fn unanswered(unanswered: Unanswered) -> Self {
        Self::Failed(ErrorCode::InternalError, unanswered.into())
    }

    /// The code with which the call ended.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::NotReached(_) => Code::Unavailable,
            Self::Failed(_, failure) => failure.code(),
        }
    }

    /// Whether it says that the store is away, and nothing of what the store answered.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            Self::NotReached(not_reached) => !not_reached.is_busy(),
            Self::Failed(_, failure) => matches!(failure, Failure::Unanswered(_)),
        }
    }

    /// Whether it says nothing of the store: it was busy, and not asked.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::NotReached(not_reached) if not_reached.is_busy())
    }

    /// A reply that failed a check.
    pub(super) fn of_reply(action: Action, check: &'static str) -> Self {
        Self::Failed(ErrorCode::InternalError, Failure::Reply { check, action })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every action against every code, as the two specifications have it.
    #[test]
    fn the_table_of_errors() {
        for action in Action::ALL {
            for number in 1..=16 {
                let code = Code::from_i32(number);
                let expected = match (code, action) {
                    (Code::AlreadyExists, Action::CreateUser | Action::UpdateUserEmailAddress) => {
                        ErrorCode::EmailAddressAlreadyUsed
                    }
                    (Code::NotFound, Action::CreateUser) => ErrorCode::InternalError,
                    (Code::NotFound, _) => ErrorCode::UserNotFound,
                    (Code::Aborted, _) => ErrorCode::InternalConflict,
                    _ => ErrorCode::InternalError,
                };
                let error = CallError::of_status(action, &Status::new(code, ""));
                let CallError::Failed(error_code, _) = error else {
                    unreachable!("{code:?} was sent by the store")
                };
                assert_eq!(error_code, expected, "{action} {code:?}");
            }
        }
    }

    #[test]
    fn only_the_marker_of_this_program_says_not_reached() {
        let status = Status::unavailable("down");
        assert!(matches!(
            CallError::of_status(Action::GetUser, &status),
            CallError::Failed(ErrorCode::InternalError, _)
        ));
        let status = NotReached::new("connection refused").into_status();
        assert!(matches!(CallError::of_status(Action::GetUser, &status), CallError::NotReached(_)));
    }

    #[test]
    fn a_call_that_had_no_turn_says_nothing_of_the_store() {
        let of = |status: Status| CallError::of_status(Action::GetUser, &status);
        let busy = of(NotReached::busy("every connection is in use").into_status());
        assert!(busy.is_silence() && !busy.is_absence());
        let away = of(NotReached::new("connection refused").into_status());
        assert!(away.is_absence() && !away.is_silence());
        let late = of(Unanswered::DeadlinePassed.into_status());
        assert!(late.is_absence() && !late.is_silence());
        let answered = of(Status::unavailable("down"));
        assert!(!answered.is_absence() && !answered.is_silence());
    }
}

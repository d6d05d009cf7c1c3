//! What is kept of a request: in the metrics, in the trace, in the log, and who changed which user.

use std::{sync::Arc, time::Duration};

use tracing::{debug, field::display, info, warn};

use super::problem::Problem;
use crate::{
    action::{Action, ErrorCode, NotInvoked, Resolution},
    metrics::{Metrics, RejectedRequest, Success},
    store::code_name,
    telemetry::AUDIT,
    trace,
};

/// What requests are counted in.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) metrics: Arc<Metrics>,
    /// By action.
    successes: [Success; Action::ALL.len()],
}

impl Counts {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let success = |action: Action| metrics.success(action.as_str(), action.method());
        Self { successes: Action::ALL.map(success), metrics }
    }

    pub(super) fn count(&self, result: &Result<Resolution, NotInvoked>, duration: Duration) {
        let metrics = &self.metrics;
        match result {
            Ok(Resolution { action, store_time, failure: None, .. }) => {
                self.successes[*action as usize].observe(duration, *store_time);
            }
            Ok(resolution @ Resolution { action, store_time, failure: Some(failure), .. }) => {
                metrics.action(action.as_str(), resolution.outcome(), duration);
                metrics.store_call(action.method(), code_name(failure.code()), *store_time);
                if let Some(check) = failure.violation() {
                    metrics.store_contract_violation(action.method(), check);
                }
            }
            Err(not_invoked) => {
                metrics.rejected_request(Problem::not_invoked(not_invoked).reason);
                if let NotInvoked::StoreNotReached { action, store_time: Some(time), .. } =
                    not_invoked
                {
                    metrics.store_call(action.method(), "UNAVAILABLE", *time);
                }
            }
        }
    }
}

/// What the span of the request says of it.
pub(super) fn record(result: &Result<Resolution, NotInvoked>) {
    if !trace::is_recorded() {
        return;
    }
    match result {
        Ok(resolution) => {
            trace::invoked(resolution.action.as_str(), resolution.action_invocation_id.as_str());
            let is_fault =
                resolution.error_code.is_some_and(|code| !ErrorCode::is_the_stores_word(code));
            trace::ended(resolution.outcome(), is_fault);
        }
        Err(NotInvoked::StoreNotReached { action, action_invocation_id, .. }) => {
            trace::invoked(action.as_str(), action_invocation_id.as_str());
        }
        Err(NotInvoked::BadRequest(_) | NotInvoked::NoRandomness(_)) => {}
    }
}

pub(super) fn log(result: &Result<Resolution, NotInvoked>, caller: &str, duration: Duration) {
    match result {
        Ok(resolution) => {
            log_resolution(resolution, caller, duration);
            audit(resolution, caller);
        }
        Err(not_invoked) => log_not_invoked(not_invoked, caller, duration),
    }
}

/// One line an invocation. A read that succeeds is the hot path, and nothing that anybody asks a
/// log about.
fn log_resolution(resolution: &Resolution, caller: &str, duration: Duration) {
    let action = resolution.action.as_str();
    let outcome = resolution.outcome();
    let action_invocation_id = resolution.action_invocation_id.as_str();
    let duration_ms = duration.as_secs_f64() * 1e3;
    // Most lines are not written: it is looked up where one is.
    let trace_id = || trace::id().map(display);
    match &resolution.failure {
        None if resolution.action.is_read() => {
            debug!(
                action,
                outcome,
                action_invocation_id,
                caller,
                duration_ms,
                trace_id = trace_id(),
                "invoked"
            );
        }
        None => {
            info!(
                action,
                outcome,
                action_invocation_id,
                caller,
                duration_ms,
                trace_id = trace_id(),
                "invoked"
            )
        }
        Some(failure) if resolution.error_code.is_some_and(ErrorCode::is_the_stores_word) => {
            info!(action, outcome, action_invocation_id, caller, duration_ms, trace_id = trace_id(), %failure, "invoked");
        }
        Some(failure) => {
            warn!(action, outcome, action_invocation_id, caller, duration_ms, trace_id = trace_id(), %failure, "invoked");
        }
    }
}

/// One line a change to a user, or what may have been one.
fn audit(resolution: &Resolution, caller: &str) {
    let change = match resolution.action {
        Action::GetUser | Action::GetUserByEmailAddress => return,
        Action::CreateUser => "user created",
        Action::UpdateUserEmailAddress => "email address changed",
        Action::UpdateUserPasswordHash => "password hash changed",
        Action::IncrementUserSessionsCounter => "sessions ended",
        Action::DeleteUser => "user deleted",
    };
    let outcome = match &resolution.failure {
        None => "ok",
        Some(_) if resolution.error_code == Some(ErrorCode::InternalError) => "unknown",
        Some(_) => return,
    };
    let user_id = resolution.user_id.as_deref().map(shortened);
    let action_invocation_id = resolution.action_invocation_id.as_str();
    info!(target: AUDIT, user_id, outcome, action_invocation_id, caller, "{change}");
}

/// An ID is whatever the caller wrote: at most 128 characters of it.
fn shortened(id: &str) -> &str {
    id.char_indices().nth(128).map_or(id, |(end, _)| id.get(..end).unwrap_or(id))
}

pub(super) fn log_refused(caller: &str, problem: &Problem) {
    let status = problem.status().as_u16();
    let detail = &problem.detail;
    match problem.reason {
        RejectedRequest::NotAllowed => {
            warn!(caller, "a client that --allow-client does not name was refused");
        }
        // There may be thousands a second.
        RejectedRequest::MaxInFlight => debug!(caller, status, detail, "request refused"),
        _ => info!(caller, status, detail, "request refused"),
    }
}

fn log_not_invoked(not_invoked: &NotInvoked, caller: &str, duration: Duration) {
    let duration_ms = duration.as_secs_f64() * 1e3;
    let trace_id = trace::id().map(display);
    let problem = Problem::not_invoked(not_invoked);
    let status = problem.status().as_u16();
    match not_invoked {
        NotInvoked::BadRequest(_) => log_refused(caller, &problem),
        // That the store is away was said once, and there may be thousands a second.
        NotInvoked::StoreNotReached { action, store_time: None, source, .. } => debug!(
            caller,
            status,
            duration_ms,
            trace_id,
            action = action.as_str(),
            failure = %source,
            "the store is away"
        ),
        NotInvoked::StoreNotReached { action, action_invocation_id, source, .. } => warn!(
            caller,
            status,
            duration_ms,
            trace_id,
            action = action.as_str(),
            action_invocation_id = action_invocation_id.as_str(),
            failure = %source,
            "the store could not be reached"
        ),
        NotInvoked::NoRandomness(error) => {
            warn!(caller, status, duration_ms, trace_id, %error, "the operating system gives no random bytes");
        }
    }
}

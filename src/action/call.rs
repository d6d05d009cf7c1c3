//! A call of the store, and what comes of it: within its time, past the breaker, in its span.

use std::{pin::pin, time::Duration};

use tokio::time::Instant;
use tonic::Code;
use tracing::{Instrument as _, Span};

use super::{
    Action, ActionInvocationId, ActionServer, ErrorCode, Failure, Invocation, Members, NotInvoked,
    Resolution, ResponseBody, answer, error::CallError,
};
use crate::store::{Unanswered, code_name};

/// The end of a write, which is told in any case: the store may have acted.
pub(super) struct Ending<E: FnOnce(&Result<Resolution, NotInvoked>)> {
    pub(super) ended: Option<E>,
    pub(super) broken_off: BrokenOff,
}

impl<E: FnOnce(&Result<Resolution, NotInvoked>)> Ending<E> {
    pub(super) fn told(mut self, result: &Result<Resolution, NotInvoked>) {
        if let Some(ended) = self.ended.take() {
            ended(result);
        }
    }
}

impl<E: FnOnce(&Result<Resolution, NotInvoked>)> Drop for Ending<E> {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            ended(&Ok(self.broken_off.resolution()));
        }
    }
}

/// A write that ended without a result: by a fault of this program, or with it.
#[derive(Debug, Clone)]
pub(super) struct BrokenOff {
    action: Action,
    id: ActionInvocationId,
    user_id: Option<String>,
}

impl BrokenOff {
    pub(super) fn resolution(&self) -> Resolution {
        let code = ErrorCode::InternalError;
        let user_id = self.user_id.clone();
        failed(self.action, self.id, user_id, Duration::ZERO, code, Failure::BrokenOff)
    }
}

/// One call of the store.
pub(super) struct Call<I> {
    id: ActionInvocationId,
    invocation: I,
}

impl<I: Invocation> Call<I> {
    /// The call that the arguments of an action ask for. They are not kept: what waits for the store
    /// has no room for them.
    pub(super) fn of(arguments: Members<'_>) -> Result<Self, NotInvoked> {
        let id = ActionInvocationId::generate().map_err(NotInvoked::NoRandomness)?;
        let invocation = I::decode(&arguments, id.as_str().to_owned())?;
        Ok(Self { id, invocation })
    }

    /// What becomes of it if it ends without a result.
    pub(super) fn broken_off(&self) -> BrokenOff {
        let user_id = self.invocation.written_user().map(str::to_owned);
        BrokenOff { action: I::ACTION, id: self.id, user_id }
    }

    /// Makes the call, and the answer from what comes of it.
    pub(super) async fn resolve(self, server: &ActionServer) -> Result<Resolution, NotInvoked> {
        let Self { id, invocation } = self;
        let ActionServer { store, breaker, store_timeout, store_spans: spans, .. } = server;
        let not_reached = |store_time, source| NotInvoked::StoreNotReached {
            action: I::ACTION,
            action_invocation_id: id,
            store_time,
            source,
        };
        let admitted = match breaker.admit() {
            Ok(admitted) => admitted,
            Err(source) => return Err(not_reached(None, source)),
        };
        let start = Instant::now();
        let written_user = invocation.written_user().map(str::to_owned);
        let span =
            spans.as_ref().map_or_else(Span::none, |spans| spans.of_call(I::ACTION.method()));
        let call = pin!(invocation.call(&**store));
        let result = tokio::time::timeout_at(start + *store_timeout, call.instrument(span.clone()))
            .await
            .unwrap_or_else(|_| Err(CallError::unanswered(Unanswered::DeadlinePassed)));
        let store_time = start.elapsed();
        if let Some(spans) = spans {
            let code = result.as_ref().map_or_else(CallError::code, |_| Code::Ok);
            spans.ended(&span, code, code_name(code));
        }
        match &result {
            Err(error) if error.is_absence() => admitted.failed(),
            Err(error) if error.is_silence() => drop(admitted),
            _ => admitted.answered(),
        }
        match result {
            Ok(user) => Ok(Resolution {
                body: ResponseBody(answer::success(&id, user.as_ref()).into()),
                action: I::ACTION,
                action_invocation_id: id,
                user_id: match I::ACTION {
                    Action::CreateUser => user.map(|user| user.id),
                    _ => written_user,
                },
                store_time,
                error_code: None,
                failure: None,
            }),
            Err(CallError::Failed(code, failure)) => {
                Ok(failed(I::ACTION, id, written_user, store_time, code, failure))
            }
            Err(CallError::NotReached(source)) => Err(not_reached(Some(store_time), source)),
        }
    }
}

fn failed(
    action: Action,
    id: ActionInvocationId,
    user_id: Option<String>,
    store_time: Duration,
    code: ErrorCode,
    failure: Failure,
) -> Resolution {
    Resolution {
        body: ResponseBody(answer::error(&id, code).into()),
        action,
        action_invocation_id: id,
        user_id,
        store_time,
        error_code: Some(code),
        failure: Some(failure),
    }
}

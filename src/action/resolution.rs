//! What becomes of an invocation: an answer, or the reason why there was nothing to invoke.

use std::{fmt, time::Duration};

use bytes::Bytes;
use thiserror::Error;

use super::{
    error::{ErrorCode, Failure},
    invocation_id::ActionInvocationId,
    names::Action,
    wire::BadRequest,
};
use crate::store::NotReached;

/// The answer to an action that was invoked.
#[derive(Debug)]
pub struct Resolution {
    /// The JSON to send with status 200. It may hold a password hash: it belongs in no log.
    pub body: ResponseBody,
    /// The action.
    pub action: Action,
    /// The ID of this invocation, which is also in the body.
    pub action_invocation_id: ActionInvocationId,
    /// The user that a write named by ID, or created.
    pub user_id: Option<String>,
    /// How long the call of the store took.
    pub store_time: Duration,
    /// The error code, if the action failed.
    pub error_code: Option<ErrorCode>,
    /// What lies behind the error code, for the operator's log.
    pub failure: Option<Failure>,
}

impl Resolution {
    /// `ok` or the error code.
    pub fn outcome(&self) -> &'static str {
        self.error_code.map_or("ok", ErrorCode::as_str)
    }
}

/// The bytes of a response body. `Debug` shows their number only.
#[derive(Clone, PartialEq, Eq)]
pub struct ResponseBody(pub Bytes);

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseBody({} bytes)", self.0.len())
    }
}

/// Why nothing was invoked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NotInvoked {
    /// The request is wrong. The text may be shown to the caller.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// The store could not be reached, so nothing was changed. The text is for the log.
    #[error("{action}: the store could not be reached")]
    StoreNotReached {
        /// The action.
        action: Action,
        /// The ID of this invocation.
        action_invocation_id: ActionInvocationId,
        /// How long it was tried; nothing, where the store is known to be away.
        store_time: Option<Duration>,
        /// What stood in the way.
        #[source]
        source: NotReached,
    },
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness(#[source] getrandom::Error),
}

//! Action invocations: bytes in, bytes out, a store in hand, and no HTTP.
//!
//! [`ActionServer::resolve`] reads the JSON of an action invocation, makes one call of the
//! [`UserStore`], checks its reply, and writes the JSON of the answer. It is the public face of
//! this crate for programs that have their own HTTP server.
//!
//! Each action is a file: its arguments, its call, its values. What they share is here and in
//! `wire` (the JSON that comes in), `reply` (what a store's reply must satisfy), `error` (the error
//! table) and `answer` (the JSON that goes out).

mod answer;
mod error;
mod invocation_id;
mod reply;
mod wire;

mod create_user;
mod delete_user;
mod get_user;
mod get_user_by_email_address;
mod increment_user_sessions_counter;
mod update_user_email_address;
mod update_user_password_hash;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use thiserror::Error;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::task::TaskTracker;
use tonic::{Response, Status};
use tracing::{info, warn};

use self::{error::CallError, wire::Members};
pub use self::{
    error::{ErrorCode, Failure},
    invocation_id::ActionInvocationId,
    wire::{BadRequest, Member},
};
use crate::{
    proto::{
        CreateUserRequest, DeleteUserRequest, GetUserByEmailAddressRequest, GetUserRequest,
        IncrementUserSessionsCounterRequest, UpdateUserEmailAddressRequest,
        UpdateUserPasswordHashRequest, User, user_store_server::UserStore,
    },
    store::{Deadline, NotReached},
};

/// How long a store may take by default, all attempts together.
pub const DEFAULT_STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// The seven actions. `faroe-endpoint`, section 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Creates a user.
    CreateUser,
    /// Looks a user up by ID.
    GetUser,
    /// Looks a user up by email address.
    GetUserByEmailAddress,
    /// Sets the email address, if its counter is as given.
    UpdateUserEmailAddress,
    /// Sets the password hash, if its counter is as given.
    UpdateUserPasswordHash,
    /// Signs the user out everywhere, if the sessions counter is as given.
    IncrementUserSessionsCounter,
    /// Deletes a user.
    DeleteUser,
}

impl Action {
    /// All of them, in the order of the specification.
    pub const ALL: [Self; 7] = [
        Self::CreateUser,
        Self::GetUser,
        Self::GetUserByEmailAddress,
        Self::UpdateUserEmailAddress,
        Self::UpdateUserPasswordHash,
        Self::IncrementUserSessionsCounter,
        Self::DeleteUser,
    ];

    /// The name as Faroe writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreateUser => "create_user",
            Self::GetUser => "get_user",
            Self::GetUserByEmailAddress => "get_user_by_email_address",
            Self::UpdateUserEmailAddress => "update_user_email_address",
            Self::UpdateUserPasswordHash => "update_user_password_hash",
            Self::IncrementUserSessionsCounter => "increment_user_sessions_counter",
            Self::DeleteUser => "delete_user",
        }
    }

    /// Whether the action changes nothing.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::GetUser | Self::GetUserByEmailAddress)
    }

    const fn sets_email_address(self) -> bool {
        matches!(self, Self::CreateUser | Self::UpdateUserEmailAddress)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The answer to an action that was invoked.
#[derive(Debug)]
pub struct Resolution {
    /// The JSON to send with status 200. It may hold a password hash: it belongs in no log.
    pub body: ResponseBody,
    /// The action.
    pub action: Action,
    /// The ID of this invocation, which is also in the body.
    pub action_invocation_id: ActionInvocationId,
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
        /// What stood in the way.
        #[source]
        source: NotReached,
    },
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness(#[source] getrandom::Error),
}

/// Resolves action invocations with a store, within a Tokio runtime.
///
/// ```
/// use faroe_sidecar::action::{ActionServer, NotInvoked};
///
/// /// The status and the body to answer a POST with.
/// async fn answer(actions: &ActionServer, body: &[u8]) -> (u16, Vec<u8>) {
///     match actions.resolve(body).await {
///         Ok(resolution) => (200, resolution.body.0.to_vec()),
///         Err(error @ NotInvoked::BadRequest(_)) => (400, error.to_string().into_bytes()),
///         Err(_) => (503, b"the user store could not be reached".to_vec()),
///     }
/// }
///
/// # async fn example() -> std::io::Result<()> {
/// use std::{sync::Arc, time::Duration};
///
/// use faroe_sidecar::store::sql::{Config, SqlStore, Url};
///
/// let config = Config { max_connections: None, store_timeout: Duration::from_secs(5) };
/// let store = SqlStore::open(&Url::Sqlite("users.sqlite".into()), &config)?;
/// let actions = ActionServer::new(Arc::new(store));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ActionServer {
    store: Arc<dyn UserStore>,
    store_timeout: Duration,
    writes: TaskTracker,
}

impl fmt::Debug for ActionServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActionServer")
            .field("store_timeout", &self.store_timeout)
            .finish_non_exhaustive()
    }
}

impl ActionServer {
    /// A server that gives the store [`DEFAULT_STORE_TIMEOUT`] for each call.
    pub fn new(store: Arc<dyn UserStore>) -> Self {
        Self { store, store_timeout: DEFAULT_STORE_TIMEOUT, writes: TaskTracker::new() }
    }

    /// Sets how long the store may take for a call, all attempts together.
    #[must_use]
    pub fn with_store_timeout(self, store_timeout: Duration) -> Self {
        Self { store_timeout, ..self }
    }

    /// Resolves one action invocation: `body` is what the Faroe server posted.
    ///
    /// A write that was handed to the store is awaited by a task of its own, so that dropping this
    /// future does not break it off halfway; [`Self::finish`] waits for those.
    ///
    /// # Errors
    ///
    /// [`NotInvoked`], if the request is wrong or the store could not be reached. An action that
    /// was invoked and failed is a [`Resolution`] with an error code.
    pub async fn resolve(&self, body: &[u8]) -> Result<Resolution, NotInvoked> {
        let invocation = Members::of_body(body)?;
        let action =
            Action::from_name(&invocation.string("action")?).ok_or(BadRequest::UnknownAction)?;
        let arguments = invocation.object("arguments")?;
        match action {
            Action::CreateUser => self.invoke::<CreateUserRequest>(&arguments).await,
            Action::GetUser => self.invoke::<GetUserRequest>(&arguments).await,
            Action::GetUserByEmailAddress => {
                self.invoke::<GetUserByEmailAddressRequest>(&arguments).await
            }
            Action::UpdateUserEmailAddress => {
                self.invoke::<UpdateUserEmailAddressRequest>(&arguments).await
            }
            Action::UpdateUserPasswordHash => {
                self.invoke::<UpdateUserPasswordHashRequest>(&arguments).await
            }
            Action::IncrementUserSessionsCounter => {
                self.invoke::<IncrementUserSessionsCounterRequest>(&arguments).await
            }
            Action::DeleteUser => self.invoke::<DeleteUserRequest>(&arguments).await,
        }
    }

    /// Waits for the writes whose callers have gone. No new ones may be started.
    pub async fn finish(&self) {
        self.writes.close();
        self.writes.wait().await;
    }

    async fn invoke<I: Invocation>(
        &self,
        arguments: &Members<'_>,
    ) -> Result<Resolution, NotInvoked> {
        let id = ActionInvocationId::generate().map_err(NotInvoked::NoRandomness)?;
        let invocation = I::decode(arguments, id.to_string())?;
        let result = if I::ACTION.is_read() {
            call(Arc::clone(&self.store), invocation, self.store_timeout).await
        } else {
            let call = call(Arc::clone(&self.store), invocation, self.store_timeout);
            let (answer, answered) = oneshot::channel();
            let action_invocation_id = id.clone();
            self.writes.spawn(async move {
                // Nobody is left to answer, and so nobody else to say what became of it.
                if let Err(result) = answer.send(call.await) {
                    log_abandoned(I::ACTION, &action_invocation_id, &result);
                }
            });
            answered.await.unwrap_or_else(|_| {
                Err(CallError::Failed(ErrorCode::InternalError, Failure::BrokenOff))
            })
        };
        let (body, error_code, failure) = match result {
            Ok(user) => (answer::success(&id, user.as_ref()), None, None),
            Err(CallError::Failed(code, failure)) => {
                (answer::error(&id, code), Some(code), Some(failure))
            }
            Err(CallError::NotReached(source)) => {
                return Err(NotInvoked::StoreNotReached {
                    action: I::ACTION,
                    action_invocation_id: id,
                    source,
                });
            }
        };
        let body = ResponseBody(Bytes::from(body));
        Ok(Resolution { body, action: I::ACTION, action_invocation_id: id, error_code, failure })
    }
}

fn log_abandoned(
    action: Action,
    action_invocation_id: &ActionInvocationId,
    result: &Result<Option<User>, CallError>,
) {
    let action = action.as_str();
    let action_invocation_id = action_invocation_id.as_str();
    match result {
        Ok(_) => {
            info!(action, action_invocation_id, outcome = "ok", "invoked; the caller has gone")
        }
        Err(CallError::Failed(code, failure)) if code.is_the_stores_word() => {
            let outcome = code.as_str();
            info!(action, action_invocation_id, outcome, %failure, "invoked; the caller has gone");
        }
        Err(CallError::Failed(code, failure)) => {
            let outcome = code.as_str();
            warn!(action, action_invocation_id, outcome, %failure, "invoked; the caller has gone");
        }
        Err(CallError::NotReached(reason)) => {
            warn!(action, action_invocation_id, %reason, "not invoked; the caller has gone");
        }
    }
}

/// One call of the store, within `timeout`.
async fn call<I: Invocation>(
    store: Arc<dyn UserStore>,
    invocation: I,
    timeout: Duration,
) -> Result<Option<User>, CallError> {
    let deadline = Instant::now() + timeout;
    let call = invocation.call(&*store, Deadline(deadline));
    tokio::time::timeout_at(deadline, call).await.unwrap_or_else(|_| {
        Err(CallError::Failed(ErrorCode::InternalError, Failure::Timeout(timeout)))
    })
}

/// One action: what it decodes to is the request of its method.
trait Invocation: Sized + Send + 'static {
    const ACTION: Action;

    /// Reads the arguments.
    fn decode(arguments: &Members<'_>, action_invocation_id: String) -> Result<Self, BadRequest>;

    /// Calls the method and checks the reply; the user is there if the action has that value.
    fn call(
        self,
        store: &dyn UserStore,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Option<User>, CallError>> + Send;
}

/// The request of a method, with its deadline beside it.
fn request<T>(message: T, deadline: Deadline) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.extensions_mut().insert(deadline);
    request
}

/// What a method without values answered.
fn no_values<T>(
    action: Action,
    reply: Result<Response<T>, Status>,
) -> Result<Option<User>, CallError> {
    match reply {
        Ok(_) => Ok(None),
        Err(status) => Err(CallError::of_status(action, &status)),
    }
}

/// What a method with a user in its reply answered, after `check`.
fn user_value<T>(
    action: Action,
    reply: Result<Response<T>, Status>,
    check: impl FnOnce(T) -> Result<User, reply::Check>,
) -> Result<Option<User>, CallError> {
    let reply = reply.map_err(|status| CallError::of_status(action, &status))?;
    check(reply.into_inner()).map(Some).map_err(|check| CallError::of_reply(action, check))
}

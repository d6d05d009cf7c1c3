//! Action invocations: bytes in, bytes out, a store in hand, and no HTTP.
//!
//! [`ActionServer::resolve`] reads the JSON of an action invocation, makes one call of the
//! [`UserStore`], checks its reply, and writes the JSON of the answer. It is the public face of
//! this crate for programs that have their own HTTP server.
//!
//! Each action is a file: its arguments, its call, its values. What they share is here and in
//! `wire` (the JSON that comes in), `call` (how a store is called, and what comes of it), `reply` (what
//! a store's reply must satisfy), `error` (the error table) and `answer` (the JSON that goes out).

mod answer;
mod call;
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
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tonic::{Response, Status};

use self::{
    call::{BrokenOff, Call, Ending},
    error::CallError,
    wire::Members,
};
pub use self::{
    error::{ErrorCode, Failure, code_name},
    invocation_id::ActionInvocationId,
    wire::{BadRequest, Member},
};
use crate::{
    proto::{
        CreateUserRequest, DeleteUserRequest, GetUserByEmailAddressRequest, GetUserRequest,
        IncrementUserSessionsCounterRequest, UpdateUserEmailAddressRequest,
        UpdateUserPasswordHashRequest, User, user_store_server::UserStore,
    },
    store::{self, Breaker, Deadline, NotReached},
    trace,
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

    /// The method of the store that it calls. `user-store`, "Service".
    pub const fn method(self) -> &'static str {
        match self {
            Self::CreateUser => "CreateUser",
            Self::GetUser => "GetUser",
            Self::GetUserByEmailAddress => "GetUserByEmailAddress",
            Self::UpdateUserEmailAddress => "UpdateUserEmailAddress",
            Self::UpdateUserPasswordHash => "UpdateUserPasswordHash",
            Self::IncrementUserSessionsCounter => "IncrementUserSessionsCounter",
            Self::DeleteUser => "DeleteUser",
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
    breaker: Breaker,
    store_timeout: Duration,
    store_spans: Option<store::Spans>,
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
        Self {
            store,
            breaker: Breaker::default(),
            store_timeout: DEFAULT_STORE_TIMEOUT,
            store_spans: None,
            writes: TaskTracker::new(),
        }
    }

    /// Sets how long the store may take for a call, all attempts together.
    #[must_use]
    pub fn with_store_timeout(self, store_timeout: Duration) -> Self {
        Self { store_timeout, ..self }
    }

    /// Makes each call of the store within a span of these.
    #[must_use]
    pub fn with_store_spans(self, store_spans: store::Spans) -> Self {
        Self { store_spans: Some(store_spans), ..self }
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
        self.resolve_then(body, |_| {}).await
    }

    /// The same, and calls `ended` with the result as soon as it is there; for a write also if this
    /// future was dropped meanwhile. Whoever logs an invocation, counts it, or holds something for
    /// its time does it there. A read that was dropped drops `ended` uncalled.
    ///
    /// # Errors
    ///
    /// As [`Self::resolve`].
    pub async fn resolve_then<E>(&self, body: &[u8], ended: E) -> Result<Resolution, NotInvoked>
    where
        E: FnOnce(&Result<Resolution, NotInvoked>) + Send + 'static,
    {
        // A write takes it along into a task of its own.
        let mut ended = Some(ended);
        let result = self.dispatch(body, &mut ended).await;
        if let Some(ended) = ended {
            ended(&result);
        }
        result
    }

    /// Waits for the writes whose callers have gone. No new ones may be started.
    pub async fn finish(&self) {
        self.writes.close();
        self.writes.wait().await;
    }

    async fn dispatch<E>(
        &self,
        body: &[u8],
        ended: &mut Option<E>,
    ) -> Result<Resolution, NotInvoked>
    where
        E: FnOnce(&Result<Resolution, NotInvoked>) + Send + 'static,
    {
        let invocation = Members::of_body(body)?;
        let action =
            Action::from_name(&invocation.string("action")?).ok_or(BadRequest::UnknownAction)?;
        let arguments = invocation.object("arguments")?;
        match action {
            Action::CreateUser => self.invoke::<CreateUserRequest, E>(&arguments, ended).await,
            Action::GetUser => self.invoke::<GetUserRequest, E>(&arguments, ended).await,
            Action::GetUserByEmailAddress => {
                self.invoke::<GetUserByEmailAddressRequest, E>(&arguments, ended).await
            }
            Action::UpdateUserEmailAddress => {
                self.invoke::<UpdateUserEmailAddressRequest, E>(&arguments, ended).await
            }
            Action::UpdateUserPasswordHash => {
                self.invoke::<UpdateUserPasswordHashRequest, E>(&arguments, ended).await
            }
            Action::IncrementUserSessionsCounter => {
                self.invoke::<IncrementUserSessionsCounterRequest, E>(&arguments, ended).await
            }
            Action::DeleteUser => self.invoke::<DeleteUserRequest, E>(&arguments, ended).await,
        }
    }

    async fn invoke<I: Invocation, E>(
        &self,
        arguments: &Members<'_>,
        ended: &mut Option<E>,
    ) -> Result<Resolution, NotInvoked>
    where
        E: FnOnce(&Result<Resolution, NotInvoked>) + Send + 'static,
    {
        let id = ActionInvocationId::generate().map_err(NotInvoked::NoRandomness)?;
        let invocation = I::decode(arguments, id.to_string())?;
        let call = Call {
            id,
            invocation,
            store: Arc::clone(&self.store),
            breaker: self.breaker.clone(),
            timeout: self.store_timeout,
            spans: self.store_spans.clone(),
        };
        if I::ACTION.is_read() {
            return call.resolve().await;
        }
        let broken_off = BrokenOff {
            action: I::ACTION,
            id: call.id.clone(),
            user_id: call.invocation.written_user().map(str::to_owned),
        };
        let ending = Ending { ended: ended.take(), broken_off: broken_off.clone() };
        let (answer, answered) = oneshot::channel();
        self.writes.spawn(trace::carried(async move {
            let result = call.resolve().await;
            ending.told(&result);
            // Where nobody is left to answer, that has said what became of it.
            let _ = answer.send(result);
        }));
        answered.await.unwrap_or_else(|_| Ok(broken_off.resolution()))
    }
}

/// One action: what it decodes to is the request of its method.
trait Invocation: Sized + Send + 'static {
    const ACTION: Action;

    /// Reads the arguments.
    fn decode(arguments: &Members<'_>, action_invocation_id: String) -> Result<Self, BadRequest>;

    /// The user that the arguments of a write name by ID.
    fn written_user(&self) -> Option<&str> {
        None
    }

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

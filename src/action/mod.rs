//! Action invocations: bytes in, bytes out, a store in hand, and no HTTP.
//!
//! [`ActionServer::resolve`] reads the JSON of an action invocation, makes one call of the
//! [`UserStore`], checks its reply, and writes the JSON of the answer. It is the public face of
//! this crate for programs that have their own HTTP server.
//!
//! Each action is a file: its arguments, its call, its values. What they share is here and in
//! `names` (the seven of them), `wire` (the JSON that comes in), `call` (how a store is called, and
//! what comes of it), `reply` (what a store's reply must satisfy), `error` (the error table),
//! `answer` (the JSON that goes out) and `resolution` (what becomes of an invocation).

// Public for the benchmarks alone.
#[doc(hidden)]
pub mod answer;
mod call;
mod error;
mod invocation_id;
mod names;
mod reply;
mod resolution;
mod wire;

mod create_user;
mod delete_user;
mod get_user;
mod get_user_by_email_address;
mod increment_user_sessions_counter;
mod update_user_email_address;
mod update_user_password_hash;

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tonic::{Response, Status};

use self::{
    call::{Call, Ending},
    error::CallError,
    wire::Members,
};
pub use self::{
    error::{ErrorCode, Failure},
    invocation_id::ActionInvocationId,
    names::Action,
    resolution::{NotInvoked, Resolution, ResponseBody},
    wire::{BadRequest, Member},
};
use crate::{
    proto::{
        CreateUserRequest, DeleteUserRequest, GetUserByEmailAddressRequest, GetUserRequest,
        IncrementUserSessionsCounterRequest, UpdateUserEmailAddressRequest,
        UpdateUserPasswordHashRequest, User, user_store_server::UserStore,
    },
    store::{self, Breaker},
    trace,
};

/// How long a store may take by default, all attempts together.
pub const DEFAULT_STORE_TIMEOUT: Duration = Duration::from_secs(5);

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
        let (action, arguments) = invoked(body)?;
        match action {
            Action::CreateUser => {
                self.write(Call::<CreateUserRequest>::of(arguments)?, ended).await
            }
            Action::GetUser => Call::<GetUserRequest>::of(arguments)?.resolve(self).await,
            Action::GetUserByEmailAddress => {
                Call::<GetUserByEmailAddressRequest>::of(arguments)?.resolve(self).await
            }
            Action::UpdateUserEmailAddress => {
                self.write(Call::<UpdateUserEmailAddressRequest>::of(arguments)?, ended).await
            }
            Action::UpdateUserPasswordHash => {
                self.write(Call::<UpdateUserPasswordHashRequest>::of(arguments)?, ended).await
            }
            Action::IncrementUserSessionsCounter => {
                self.write(Call::<IncrementUserSessionsCounterRequest>::of(arguments)?, ended).await
            }
            Action::DeleteUser => {
                self.write(Call::<DeleteUserRequest>::of(arguments)?, ended).await
            }
        }
    }

    /// Has a write made by a task of its own, which nobody breaks off.
    async fn write<I: Invocation, E>(
        &self,
        call: Call<I>,
        ended: &mut Option<E>,
    ) -> Result<Resolution, NotInvoked>
    where
        E: FnOnce(&Result<Resolution, NotInvoked>) + Send + 'static,
    {
        let broken_off = call.broken_off();
        let ending = Ending { ended: ended.take(), broken_off: broken_off.clone() };
        let (answer, answered) = oneshot::channel();
        let server = self.clone();
        self.writes.spawn(trace::carried(async move {
            let result = call.resolve(&server).await;
            ending.told(&result);
            // Where nobody is left to answer, that has said what became of it.
            let _ = answer.send(result);
        }));
        answered.await.unwrap_or_else(|_| Ok(broken_off.resolution()))
    }
}

/// The action that a body invokes, and its arguments.
fn invoked(body: &[u8]) -> Result<(Action, Members<'_>), BadRequest> {
    let invocation = Members::of_body(body)?;
    let name = invocation.text("action", "a string")?;
    let action = Action::from_name(&name).ok_or(BadRequest::UnknownAction)?;
    Ok((action, invocation.object("arguments")?))
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
    ) -> impl Future<Output = Result<Option<User>, CallError>> + Send;
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

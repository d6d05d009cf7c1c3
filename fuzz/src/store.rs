//! A store in memory that notes what it is asked, and the check of a whole invocation against it.

use std::{
    mem,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use faroe_sidecar::{
    action::{ActionServer, NotInvoked},
    proto::{user_store_server::UserStore, *},
    store::NotReached,
};
use serde::de::IgnoredAny;
use tokio::runtime::{Builder, Runtime};
use tonic::{Request, Response, Status};

use crate::{
    PLANTED,
    invocation::{self, Argument, Call},
    json::Json,
};

/// How the store answers a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// As the contract has it.
    Right,
    NotFound,
    AlreadyExists,
    Aborted,
    Unavailable,
    NotReached,
    /// A reply without the user that it must have.
    NoUser,
    /// A user who was not asked for.
    OtherUser,
    /// A counter that went below zero.
    NegativeCounter,
}

impl Reply {
    pub const ALL: [Self; 9] = [
        Self::Right,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Aborted,
        Self::Unavailable,
        Self::NotReached,
        Self::NoUser,
        Self::OtherUser,
        Self::NegativeCounter,
    ];

    fn user(self, right: User) -> Result<Option<User>, Status> {
        match self {
            Self::Right => Ok(Some(right)),
            Self::NoUser => Ok(None),
            Self::OtherUser => Ok(Some(User {
                id: format!("{}-other", right.id),
                email_address: format!("{}-other", right.email_address),
                ..right
            })),
            Self::NegativeCounter => Ok(Some(User { sessions_counter: -1, ..right })),
            _ => Err(self.status()),
        }
    }

    fn nothing<T: Default>(self) -> Result<Response<T>, Status> {
        match self {
            Self::Right | Self::NoUser | Self::OtherUser | Self::NegativeCounter => {
                Ok(Response::new(T::default()))
            }
            _ => Err(self.status()),
        }
    }

    fn status(self) -> Status {
        match self {
            Self::NotFound => Status::not_found(PLANTED),
            Self::AlreadyExists => Status::already_exists(PLANTED),
            Self::Aborted => Status::aborted(PLANTED),
            Self::NotReached => NotReached::new("no connection").into_status(),
            _ => Status::unavailable(PLANTED),
        }
    }

    /// The outcome that this reply has for an action: `None` is success.
    fn error_code(self, action: &str) -> Option<&'static str> {
        let gives_user = matches!(action, "create_user" | "get_user" | "get_user_by_email_address");
        let sets_email_address = matches!(action, "create_user" | "update_user_email_address");
        match self {
            Self::Right => None,
            Self::NoUser | Self::OtherUser | Self::NegativeCounter if !gives_user => None,
            Self::NotFound if action != "create_user" => Some("user_not_found"),
            Self::AlreadyExists if sets_email_address => Some("email_address_already_used"),
            Self::Aborted => Some("internal_conflict"),
            _ => Some("internal_error"),
        }
    }
}

/// What the store was asked, and the user that it answered.
#[derive(Debug, Clone)]
struct Asked {
    call: Call,
    action_invocation_id: String,
    user: Option<User>,
}

#[derive(Debug, Default)]
struct Recorder {
    reply: Mutex<Option<Reply>>,
    asked: Mutex<Vec<Asked>>,
}

impl Recorder {
    fn note(
        &self,
        action: &'static str,
        arguments: Vec<Argument>,
        action_invocation_id: String,
        user: Option<&User>,
    ) -> Reply {
        let call = Call { action, arguments };
        let asked = Asked { call, action_invocation_id, user: user.cloned() };
        self.asked.lock().unwrap().push(asked);
        self.reply.lock().unwrap().unwrap()
    }
}

/// A user in whom every member differs from every other.
fn somebody() -> User {
    User {
        id: "planted-id".into(),
        email_address: "planted@x".into(),
        password_hash: "planted-hash".into(),
        password_hash_algorithm_id: "planted-algorithm".into(),
        password_salt: "planted-salt".into(),
        disabled: true,
        display_name: "planted \"name\"\u{2028}".into(),
        email_address_counter: 1,
        password_hash_counter: 2,
        disabled_counter: 3,
        sessions_counter: i32::MAX,
    }
}

#[tonic::async_trait]
impl UserStore for Recorder {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<CreateUserResponse>, Status> {
        let request = request.into_inner();
        let user = User {
            email_address: request.email_address.clone(),
            password_hash: request.password_hash.clone(),
            password_hash_algorithm_id: request.password_hash_algorithm_id.clone(),
            password_salt: request.password_salt.clone(),
            disabled: false,
            email_address_counter: 0,
            password_hash_counter: 0,
            disabled_counter: 0,
            sessions_counter: 0,
            ..somebody()
        };
        let arguments = vec![
            Argument::Text(request.email_address),
            Argument::Bytes(request.password_hash.into()),
            Argument::Text(request.password_hash_algorithm_id),
            Argument::Bytes(request.password_salt.into()),
        ];
        let id = request.action_invocation_id;
        let user = self.note("create_user", arguments, id, Some(&user)).user(user)?;
        Ok(Response::new(CreateUserResponse { user }))
    }

    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let request = request.into_inner();
        let user = User { id: request.user_id.clone(), ..somebody() };
        let arguments = vec![Argument::Text(request.user_id)];
        let id = request.action_invocation_id;
        let user = self.note("get_user", arguments, id, Some(&user)).user(user)?;
        Ok(Response::new(GetUserResponse { user }))
    }

    async fn get_user_by_email_address(
        &self,
        request: Request<GetUserByEmailAddressRequest>,
    ) -> Result<Response<GetUserByEmailAddressResponse>, Status> {
        let request = request.into_inner();
        let user = User { email_address: request.email_address.clone(), ..somebody() };
        let arguments = vec![Argument::Text(request.email_address)];
        let id = request.action_invocation_id;
        let reply = self.note("get_user_by_email_address", arguments, id, Some(&user));
        Ok(Response::new(GetUserByEmailAddressResponse { user: reply.user(user)? }))
    }

    async fn update_user_email_address(
        &self,
        request: Request<UpdateUserEmailAddressRequest>,
    ) -> Result<Response<UpdateUserEmailAddressResponse>, Status> {
        let request = request.into_inner();
        let arguments = vec![
            Argument::Text(request.user_id),
            Argument::Text(request.email_address),
            Argument::Integer(request.user_email_address_counter),
        ];
        let id = request.action_invocation_id;
        self.note("update_user_email_address", arguments, id, None).nothing()
    }

    async fn update_user_password_hash(
        &self,
        request: Request<UpdateUserPasswordHashRequest>,
    ) -> Result<Response<UpdateUserPasswordHashResponse>, Status> {
        let request = request.into_inner();
        let arguments = vec![
            Argument::Text(request.user_id),
            Argument::Bytes(request.password_hash.into()),
            Argument::Text(request.password_hash_algorithm_id),
            Argument::Bytes(request.password_salt.into()),
            Argument::Integer(request.user_password_hash_counter),
        ];
        let id = request.action_invocation_id;
        self.note("update_user_password_hash", arguments, id, None).nothing()
    }

    async fn increment_user_sessions_counter(
        &self,
        request: Request<IncrementUserSessionsCounterRequest>,
    ) -> Result<Response<IncrementUserSessionsCounterResponse>, Status> {
        let request = request.into_inner();
        let arguments =
            vec![Argument::Text(request.user_id), Argument::Integer(request.user_sessions_counter)];
        let id = request.action_invocation_id;
        self.note("increment_user_sessions_counter", arguments, id, None).nothing()
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let request = request.into_inner();
        let arguments = vec![Argument::Text(request.user_id)];
        let id = request.action_invocation_id;
        self.note("delete_user", arguments, id, None).nothing()
    }
}

/// An [`ActionServer`] over a store that notes what it is asked.
pub struct Invoker {
    runtime: Runtime,
    store: Arc<Recorder>,
    actions: ActionServer,
}

impl Default for Invoker {
    fn default() -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let store = Arc::<Recorder>::default();
        let actions = ActionServer::new(Arc::clone(&store) as _);
        Self { runtime, store, actions }
    }
}

impl Invoker {
    /// Invokes what a body asks for, and panics if anything of it is not as specified.
    pub fn check(&self, reply: Reply, body: &[u8]) {
        *self.store.reply.lock().unwrap() = Some(reply);
        let resolved = self.runtime.block_on(self.actions.resolve(body));
        let mut asked = mem::take(&mut *self.store.asked.lock().unwrap());

        let Some(call) = invocation::call(body) else {
            assert!(asked.is_empty(), "a wrong request reached the store: {asked:?}");
            let Err(NotInvoked::BadRequest(reason)) = resolved else {
                panic!("a wrong request was accepted: {resolved:?}")
            };
            let reason = reason.to_string();
            assert!(!reason.is_empty());
            assert!(!reason.contains(PLANTED), "the reason shows the request: {reason}");
            return;
        };
        assert!(
            serde_json::from_slice::<IgnoredAny>(body).is_ok(),
            "the oracle takes for JSON what serde_json does not"
        );

        let Some(asked) = asked.pop().filter(|_| asked.is_empty()) else {
            panic!("not one call of the store: {asked:?}, {resolved:?}")
        };
        assert_eq!(asked.call, call);
        if reply == Reply::NotReached {
            assert!(matches!(resolved, Err(NotInvoked::StoreNotReached { .. })), "{resolved:?}");
            return;
        }
        let resolution = resolved.unwrap();
        let id = resolution.action_invocation_id.as_str();
        assert_eq!(id, asked.action_invocation_id);
        assert_eq!(id.len(), 24);
        assert!(id.bytes().all(|b| b"abcdefghjkmnopqrstuvwxyz23456789".contains(&b)), "{id}");
        assert_eq!(resolution.action.as_str(), call.action);

        // The ID of a user is never empty, whatever the store says.
        let error_code = match reply.error_code(call.action) {
            None if asked.user.as_ref().is_some_and(|user| user.id.is_empty()) => {
                Some("internal_error")
            }
            error_code => error_code,
        };
        assert_eq!(resolution.error_code.map(|code| code.as_str()), error_code, "{reply:?}");
        let answer = &resolution.body.0;
        assert!(serde_json::from_slice::<serde_json::Value>(answer).is_ok());
        let answer = Json::read(str::from_utf8(answer).unwrap());
        assert_eq!(answer, Some(expected_answer(id, error_code, asked.user)));
    }
}

fn expected_answer(id: &str, error_code: Option<&str>, user: Option<User>) -> Json {
    let id = ("action_invocation_id", text(id));
    match error_code {
        Some(code) => object([("ok", Json::Bool(false)), id, ("error_code", text(code))]),
        None => {
            let values = object(user.map(|user| ("user", expected_user(&user))));
            object([("ok", Json::Bool(true)), id, ("values", values)])
        }
    }
}

fn expected_user(user: &User) -> Json {
    object([
        ("id", text(&user.id)),
        ("email_address", text(&user.email_address)),
        ("password_hash", text(&STANDARD.encode(&user.password_hash))),
        ("password_hash_algorithm_id", text(&user.password_hash_algorithm_id)),
        ("password_salt", text(&STANDARD.encode(&user.password_salt))),
        ("disabled", Json::Bool(user.disabled)),
        ("display_name", text(&user.display_name)),
        ("email_address_counter", number(user.email_address_counter)),
        ("password_hash_counter", number(user.password_hash_counter)),
        ("disabled_counter", number(user.disabled_counter)),
        ("sessions_counter", number(user.sessions_counter)),
    ])
}

fn object<'a>(members: impl IntoIterator<Item = (&'a str, Json)>) -> Json {
    Json::Object(members.into_iter().map(|(name, value)| (Some(name.to_owned()), value)).collect())
}

fn text(text: &str) -> Json {
    Json::String(Some(text.to_owned()))
}

fn number(number: i32) -> Json {
    Json::Number(number.to_string())
}

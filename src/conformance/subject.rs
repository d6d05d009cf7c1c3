//! The store that is checked: calls of it, each with a deadline and none sent twice, and the users
//! that a case has made there.
//!
//! A store may hold real users, and may be as wrong as it likes. So every email address that is
//! sent has the random mark of this run in it, and no user is changed or deleted before the store
//! has said that the user's email address has it too.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Uri;
use tokio::{sync::Barrier, task::JoinSet, time::Instant};
use tonic::{Code, Request, Response, Status};

use super::{case::Failure, describe};
use crate::{
    proto::{
        CreateUserRequest, DeleteUserRequest, GetUserByEmailAddressRequest, GetUserRequest,
        IncrementUserSessionsCounterRequest, UpdateUserEmailAddressRequest,
        UpdateUserPasswordHashRequest, User, user_store_client::UserStoreClient,
    },
    store::{
        Deadline, InvalidUrl, MAX_MESSAGE, NotReached, Unanswered,
        remote::{self, Balancer},
    },
};

/// How many connections to each address of the store there are: what one of them was told has to
/// be seen on the others.
const CONNECTIONS: usize = 4;

/// How often a call is made at the most that a transient conflict keeps from anything, and the
/// pauses in between.
const ATTEMPTS: usize = 50;
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// What the answers of a store say of itself in a report at the most, in characters.
const LONGEST_STATUS: usize = 300;

/// What a store answered.
pub(super) struct Answer<T> {
    pub(super) sent: String,
    pub(super) reply: Result<T, Refusal>,
}

/// An answer that is no success.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    /// The status of the answer; none where there was no answer, or one without the user in it.
    pub(super) code: Option<Code>,
    /// For the report.
    pub(super) text: String,
    /// What the store said to its code.
    pub(super) message: String,
}

impl Refusal {
    fn new(status: &Status) -> Self {
        if NotReached::of_status(status).is_some() {
            return Self::unanswered(format!("no connection: {}", status_source(status)));
        }
        if let Some(reason) = Unanswered::of_status(status) {
            return Self::unanswered(format!("no answer: {reason}"));
        }
        let message: String = status.message().chars().take(LONGEST_STATUS).collect();
        Self {
            code: Some(status.code()),
            text: format!("{} {message:?}", code(status.code())),
            message: status.message().to_owned(),
        }
    }

    fn unanswered(text: impl Into<String>) -> Self {
        Self { code: None, text: text.into(), message: String::new() }
    }

    /// Whether it says of a value that it cannot be stored: any code but the three that mean
    /// something else.
    pub(super) fn is_an_error(&self) -> bool {
        self.code.is_some_and(|code| {
            !matches!(code, Code::AlreadyExists | Code::NotFound | Code::Aborted)
        })
    }
}

fn status_source(status: &Status) -> String {
    std::error::Error::source(status).map_or_else(String::new, ToString::to_string)
}

/// A code as gRPC's documentation writes it.
pub(super) fn code(code: Code) -> &'static str {
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

/// A success as the report shows it.
pub(super) trait Shown {
    fn shown(&self) -> String;
}

impl Shown for User {
    fn shown(&self) -> String {
        describe::user(self)
    }
}

impl Shown for () {
    fn shown(&self) -> String {
        "OK".to_owned()
    }
}

impl<T: Shown> Answer<T> {
    pub(super) fn came_back(&self) -> String {
        match &self.reply {
            Ok(value) => value.shown(),
            Err(refusal) => refusal.text.clone(),
        }
    }

    /// The code of the answer, or that there was none.
    pub(super) fn outcome(&self) -> &'static str {
        match &self.reply {
            Ok(_) => "OK",
            Err(Refusal { code: Some(number), .. }) => code(*number),
            Err(Refusal { code: None, .. }) => "no answer",
        }
    }

    pub(super) fn is(&self, wanted: Code) -> bool {
        match &self.reply {
            Ok(_) => wanted == Code::Ok,
            Err(refusal) => refusal.code == Some(wanted),
        }
    }

    /// What was answered is not what the contract says.
    pub(super) fn fails(&self, expected: impl Into<String>) -> Failure {
        Failure::new(self.sent.clone(), self.came_back(), expected)
    }

    /// The value of a success.
    pub(super) fn ok(self, expected: &str) -> Result<T, Failure> {
        match self.reply {
            Ok(value) => Ok(value),
            Err(refusal) => Err(Failure::new(self.sent, refusal.text, expected)),
        }
    }

    /// That it has this code.
    pub(super) fn is_refused(&self, with: Code, expected: &str) -> Result<(), Failure> {
        if self.is(with) { Ok(()) } else { Err(self.fails(format!("{}: {expected}", code(with)))) }
    }
}

impl Answer<User> {
    /// That it is this user, in every member.
    pub(super) fn is_user(self, user: &User, expected: &str) -> Result<(), Failure> {
        let sent = self.sent.clone();
        let got = self.ok(expected)?;
        match describe::difference(&got, user) {
            None => Ok(()),
            Some(difference) => Err(Failure::new(sent, difference, expected)),
        }
    }
}

/// A user that could not be deleted again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftBehind {
    /// The user's ID or email address, as far as it is known.
    pub user: String,
    /// What stood in the way.
    pub reason: String,
}

#[derive(Default)]
struct Made {
    ids: BTreeSet<String>,
    addresses: BTreeSet<String>,
}

#[derive(Clone)]
struct Connection {
    client: UserStoreClient<Balancer>,
    balancer: Balancer,
    origin: Uri,
}

struct Shared {
    connections: Vec<Connection>,
    timeout: Duration,
    /// In every email address of this run.
    mark: String,
    next: AtomicUsize,
    made: Mutex<Made>,
    /// No new calls but those that clean up.
    stopped: AtomicBool,
    /// Whether the last call was not answered.
    silent: AtomicBool,
}

/// The store, on one of several connections. Clones share everything.
#[derive(Clone)]
pub(super) struct Subject {
    shared: Arc<Shared>,
    connection: usize,
    cleaning: bool,
}

impl Subject {
    /// Connects in the background.
    pub(super) fn connect(config: &remote::Config, mark: String) -> Result<Self, InvalidUrl> {
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (balancer, origin) = remote::connections(config.clone())?;
                let client = UserStoreClient::with_origin(balancer.clone(), origin.clone())
                    .max_decoding_message_size(MAX_MESSAGE);
                Ok(Connection { client, balancer, origin })
            })
            .collect::<Result<_, InvalidUrl>>()?;
        let shared = Shared {
            connections,
            timeout: config.store_timeout,
            mark,
            next: AtomicUsize::new(0),
            made: Mutex::default(),
            stopped: AtomicBool::new(false),
            silent: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared), connection: 0, cleaning: false })
    }

    /// The same store on another connection.
    pub(super) fn on(&self, connection: usize) -> Self {
        let connection = connection % self.shared.connections.len();
        Self { shared: Arc::clone(&self.shared), connection, cleaning: self.cleaning }
    }

    /// The same store on the next connection.
    pub(super) fn elsewhere(&self) -> Self {
        self.on(self.connection + 1)
    }

    /// Lets the calls in hand finish and makes no more, but to clean up.
    pub(super) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }

    /// How long a call may take.
    pub(super) fn timeout(&self) -> Duration {
        self.shared.timeout
    }

    /// The transport, for other services than the store's own.
    pub(super) fn transport(&self) -> Option<(Balancer, Uri)> {
        self.client().map(|connection| (connection.balancer.clone(), connection.origin.clone()))
    }

    fn client(&self) -> Option<&Connection> {
        self.shared.connections.get(self.connection)
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.shared.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> usize {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    /// An invocation ID in the form of the sidecar's, no two alike.
    fn invocation_id(&self) -> String {
        const ALPHABET: &[u8; 32] = b"abcdefghjkmnopqrstuvwxyz23456789";
        let mut number = self.number();
        let mut id: String = self.shared.mark.chars().take(16).collect();
        for _ in id.len()..24 {
            id.push(char::from(ALPHABET[number % 32]));
            number /= 32;
        }
        id
    }

    /// An email address of this run that no other user has. `name` comes last before the @.
    pub(super) fn address(&self, name: &str) -> String {
        format!(
            "faroe-conformance-{}-{}-{name}@conformance.invalid",
            self.shared.mark,
            self.number()
        )
    }

    /// A user to create, with this email address.
    pub(super) fn request(&self, email_address: impl Into<String>) -> CreateUserRequest {
        CreateUserRequest {
            action_invocation_id: self.invocation_id(),
            email_address: email_address.into(),
            password_hash: self.bytes(32).into(),
            password_hash_algorithm_id: "argon2id.65536.3.1.32".to_owned(),
            password_salt: self.bytes(16).into(),
        }
    }

    /// Bytes that no other value of this run is made of.
    pub(super) fn bytes(&self, length: usize) -> Vec<u8> {
        let number = self.number();
        let mut state = u64::try_from(number).unwrap_or(0).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mix = |state: &mut u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        (0..length).map(|_| mix(&mut state)).collect()
    }

    /// Whether an email address is one of this run, even if the store has changed its case.
    pub(super) fn is_ours(&self, email_address: &str) -> bool {
        email_address.to_ascii_lowercase().contains(&self.shared.mark)
    }

    /// Makes a call, again for as long as a transient conflict keeps it from anything.
    async fn call<Q: Clone, R>(
        &self,
        message: Q,
        limit: Duration,
        method: Method<Q, R>,
    ) -> Result<R, Refusal> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            match self.attempt(message.clone(), limit, method).await {
                Err(Refusal { code: Some(Code::Aborted), .. }) => {}
                result => return result,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.attempt(message, limit, method).await
    }

    async fn attempt<Q, R>(
        &self,
        message: Q,
        limit: Duration,
        method: Method<Q, R>,
    ) -> Result<R, Refusal> {
        let Some(connection) = self.client() else {
            return Err(Refusal::unanswered("no connection"));
        };
        if self.shared.stopped.load(Ordering::Relaxed) && !self.cleaning {
            return Err(Refusal::unanswered("not sent: the run was stopped"));
        }
        let deadline = Instant::now() + limit;
        let mut request = Request::new(message);
        request.set_timeout(limit);
        request.extensions_mut().insert(Deadline(deadline));
        let mut client = connection.client.clone();
        let reply = tokio::time::timeout_at(deadline, method(&mut client, request)).await;
        let result = match reply {
            Err(_) => Err(Refusal::unanswered(format!("no answer within {limit:?}"))),
            Ok(Err(status)) => Err(Refusal::new(&status)),
            Ok(Ok(response)) => Ok(response.into_inner()),
        };
        let silent = matches!(&result, Err(Refusal { code: None, .. }));
        self.shared.silent.store(silent, Ordering::Relaxed);
        result
    }

    /// Whether the store answers anything at all.
    pub(super) async fn probe(&self) -> Result<(), String> {
        match self.get("").await.reply {
            Err(Refusal { code: None, text, .. }) => Err(text),
            _ => Ok(()),
        }
    }

    /// Whether the last call was not answered.
    pub(super) fn is_silent(&self) -> bool {
        self.shared.silent.load(Ordering::Relaxed)
    }

    pub(super) async fn create(&self, request: &CreateUserRequest) -> Answer<User> {
        // Before the call: whatever comes of it, the user may be there.
        self.made().addresses.insert(request.email_address.clone());
        let sent = describe::create(request);
        let reply = self
            .call(request.clone(), self.timeout(), |client, request| {
                Box::pin(client.create_user(request))
            })
            .await;
        let reply = reply.and_then(|response| user_of(response.user));
        if let Ok(user) = &reply {
            self.made().ids.insert(user.id.clone());
        }
        Answer { sent, reply }
    }

    pub(super) async fn get(&self, id: &str) -> Answer<User> {
        let message =
            GetUserRequest { action_invocation_id: self.invocation_id(), user_id: id.to_owned() };
        let reply = self
            .call(message, self.timeout(), |client, request| Box::pin(client.get_user(request)))
            .await;
        let reply = reply.and_then(|response| user_of(response.user));
        Answer { sent: format!("GetUser {{ user_id: {} }}", describe::text(id)), reply }
    }

    pub(super) async fn find(&self, email_address: &str) -> Answer<User> {
        let message = GetUserByEmailAddressRequest {
            action_invocation_id: self.invocation_id(),
            email_address: email_address.to_owned(),
        };
        let reply = self
            .call(message, self.timeout(), |client, request| {
                Box::pin(client.get_user_by_email_address(request))
            })
            .await;
        let reply = reply.and_then(|response| user_of(response.user));
        let address = describe::text(email_address);
        Answer { sent: format!("GetUserByEmailAddress {{ email_address: {address} }}"), reply }
    }

    pub(super) async fn update_email_address(
        &self,
        id: &str,
        email_address: &str,
        counter: i32,
    ) -> Answer<()> {
        self.made().addresses.insert(email_address.to_owned());
        let message = UpdateUserEmailAddressRequest {
            action_invocation_id: self.invocation_id(),
            user_id: id.to_owned(),
            email_address: email_address.to_owned(),
            user_email_address_counter: counter,
        };
        let sent = format!(
            "UpdateUserEmailAddress {{ user_id: {}, email_address: {}, user_email_address_counter: {counter} }}",
            describe::text(id),
            describe::text(email_address)
        );
        let reply = self
            .call(message, self.timeout(), |client, request| {
                Box::pin(client.update_user_email_address(request))
            })
            .await;
        Answer { sent, reply: reply.map(|_| ()) }
    }

    /// `new` has the hash, the algorithm and the salt.
    pub(super) async fn update_password_hash(
        &self,
        id: &str,
        new: &CreateUserRequest,
        counter: i32,
    ) -> Answer<()> {
        let message = UpdateUserPasswordHashRequest {
            action_invocation_id: self.invocation_id(),
            user_id: id.to_owned(),
            password_hash: new.password_hash.clone(),
            password_hash_algorithm_id: new.password_hash_algorithm_id.clone(),
            password_salt: new.password_salt.clone(),
            user_password_hash_counter: counter,
        };
        let sent = describe::update_password_hash(&message);
        let reply = self
            .call(message, self.timeout(), |client, request| {
                Box::pin(client.update_user_password_hash(request))
            })
            .await;
        Answer { sent, reply: reply.map(|_| ()) }
    }

    pub(super) async fn increment_sessions(&self, id: &str, counter: i32) -> Answer<()> {
        self.increment_sessions_within(id, counter, self.timeout()).await
    }

    /// The same, given up after another time than usual.
    pub(super) async fn increment_sessions_within(
        &self,
        id: &str,
        counter: i32,
        limit: Duration,
    ) -> Answer<()> {
        let message = IncrementUserSessionsCounterRequest {
            action_invocation_id: self.invocation_id(),
            user_id: id.to_owned(),
            user_sessions_counter: counter,
        };
        let sent = format!(
            "IncrementUserSessionsCounter {{ user_id: {}, user_sessions_counter: {counter} }}",
            describe::text(id)
        );
        let reply = self
            .call(message, limit, |client, request| {
                Box::pin(client.increment_user_sessions_counter(request))
            })
            .await;
        Answer { sent, reply: reply.map(|_| ()) }
    }

    pub(super) async fn delete(&self, id: &str) -> Answer<()> {
        let message = DeleteUserRequest {
            action_invocation_id: self.invocation_id(),
            user_id: id.to_owned(),
        };
        let reply = self
            .call(message, self.timeout(), |client, request| Box::pin(client.delete_user(request)))
            .await;
        let sent = format!("DeleteUser {{ user_id: {} }}", describe::text(id));
        Answer { sent, reply: reply.map(|_| ()) }
    }

    /// A user of this run, as the store shows it.
    pub(super) async fn user(&self) -> Result<User, Failure> {
        let request = self.request(self.address("user"));
        self.user_of(&request).await
    }

    /// A user of this run made of a request, as the store shows it.
    pub(super) async fn user_of(&self, request: &CreateUserRequest) -> Result<User, Failure> {
        let answer = self.create(request).await;
        let user = answer.ok("a user with an email address that nobody has is created")?;
        self.own(&user.id).await
    }

    /// The user with this ID, who is one of this run: another one must not be touched.
    pub(super) async fn own(&self, id: &str) -> Result<User, Failure> {
        let answer = self.get(id).await;
        let sent = answer.sent.clone();
        let user =
            answer.ok("a user who was created is found by the ID that CreateUser answered")?;
        if self.is_ours(&user.email_address) {
            return Ok(user);
        }
        Err(Failure::new(
            sent,
            "a user who is not of this run",
            "a user who was created is found by the ID that CreateUser answered; nobody else has it",
        ))
    }

    /// That a user is as they were.
    pub(super) async fn is_unchanged(&self, user: &User) -> Result<(), Failure> {
        self.get(&user.id).await.is_user(user, "the user is as they were, in every member")
    }

    /// An ID that nobody has: that of a user who was deleted.
    pub(super) async fn deleted(&self) -> Result<User, Failure> {
        let user = self.user().await?;
        self.delete(&user.id).await.ok("a user who is there can be deleted")?;
        self.is_absent(&user.id).await?;
        Ok(user)
    }

    /// That nobody has an ID.
    pub(super) async fn is_absent(&self, id: &str) -> Result<(), Failure> {
        self.get(id).await.is_refused(Code::NotFound, "nobody has this ID")
    }

    /// That nobody has an email address.
    pub(super) async fn is_free(&self, email_address: &str) -> Result<(), Failure> {
        self.find(email_address).await.is_refused(Code::NotFound, "nobody has this email address")
    }

    /// Deletes the users of the case that has ended, whatever came of it, and gives those who may
    /// still be there.
    pub(super) async fn clean_up(&self) -> Vec<LeftBehind> {
        let Made { ids, addresses } = std::mem::take(&mut *self.made());
        let mut store = self.clone();
        store.cleaning = true;
        let mut left = Vec::new();
        let users = ids.into_iter().map(Known::Id);
        for user in users.chain(addresses.into_iter().map(Known::Address)) {
            if let Err(reason) = store.remove(&user).await {
                let user = match &user {
                    Known::Id(id) => format!("id {}", describe::text(id)),
                    Known::Address(address) => {
                        format!("email_address {}", describe::text(address))
                    }
                };
                left.push(LeftBehind { user, reason });
                // What one call did not get, the others will not.
                if store.is_silent() {
                    let reason = "not looked for: the store does not answer".to_owned();
                    left.push(LeftBehind { user: "others of the last case".to_owned(), reason });
                    break;
                }
            }
        }
        left
    }

    /// Deletes a user of this run, if there.
    async fn remove(&self, user: &Known) -> Result<(), String> {
        let mut reason = String::new();
        for _ in 0..3 {
            let answer = match user {
                Known::Id(id) => self.get(id).await,
                Known::Address(address) => self.find(address).await,
            };
            let found = match answer.reply {
                Ok(found) if self.is_ours(&found.email_address) => found,
                // Somebody else's, or nobody's: not to be touched.
                Ok(_) => return Ok(()),
                Err(Refusal { code: Some(Code::NotFound), .. }) => return Ok(()),
                // A value that cannot be stored may be none to look for either.
                Err(refusal) if refusal.is_an_error() && !user.is_plain() => return Ok(()),
                Err(refusal) => {
                    reason = format!("{}: {}", answer.sent, refusal.text);
                    if self.is_silent() {
                        break;
                    }
                    continue;
                }
            };
            let answer = self.delete(&found.id).await;
            reason = match answer.reply {
                Ok(()) => format!("{}: OK, and the user is still there", answer.sent),
                Err(refusal) => format!("{}: {}", answer.sent, refusal.text),
            };
        }
        // The last deletion may have worked.
        let answer = match user {
            Known::Id(id) => self.get(id).await,
            Known::Address(address) => self.find(address).await,
        };
        if answer.is(Code::NotFound) { Ok(()) } else { Err(reason) }
    }
}

/// What is known of a user who may be there.
enum Known {
    Id(String),
    Address(String),
}

impl Known {
    /// Whether any store can look for it.
    fn is_plain(&self) -> bool {
        match self {
            Self::Id(_) => true,
            Self::Address(address) => address.len() <= 320 && !address.contains('\0'),
        }
    }
}

/// A method of the client.
type Method<Q, R> =
    for<'a> fn(
        &'a mut UserStoreClient<Balancer>,
        Request<Q>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<R>, Status>> + Send + 'a>>;

fn user_of(user: Option<User>) -> Result<User, Refusal> {
    user.ok_or_else(|| Refusal::unanswered("OK without a user in it"))
}

/// Makes calls at the same time, on all connections in turn, and gives the answers in the order of
/// the calls.
pub(super) async fn at_once<T, C, F>(store: &Subject, calls: Vec<C>) -> Vec<T>
where
    T: Send + 'static,
    C: FnOnce(Subject) -> F + Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(calls.len()));
    let mut tasks = JoinSet::new();
    for (number, call) in calls.into_iter().enumerate() {
        let (store, start) = (store.on(number), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            (number, call(store).await)
        });
    }
    let mut answers = tasks.join_all().await;
    answers.sort_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

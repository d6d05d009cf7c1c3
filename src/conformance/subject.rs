//! The store that is checked: calls of it, each with a deadline and none sent twice, and the users
//! that a case has made there.
//!
//! A store may hold real users, and may be as wrong as it likes. So every email address that is
//! sent has the random mark of this run in it, and no call that changes something names an ID before
//! the store has said that its user has such an address too, or that nobody has the ID.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Uri;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use super::{answer::Refusal, case::Failure, cause::Cause};
use crate::{
    proto::{CreateUserRequest, User, user_store_client::UserStoreClient},
    store::{
        InvalidUrl, MAX_MESSAGE,
        remote::{self, Balancer, Deadline},
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

/// After so many calls to which all attempts were not enough, conflicts of this store are not taken
/// for transient any more, and calls are made less often: else a run could take ten minutes.
const LASTING_CONFLICTS: usize = 3;
const ATTEMPTS_THEN: usize = 5;

/// Why there is no answer at all.
pub(super) enum Silence {
    /// No call got there; the text says what stood in the way.
    NotReached(String),
    /// The call got there, and was not answered.
    Unanswered,
}

/// What the store may have of a case, or of the whole run.
#[derive(Clone, Default)]
pub(super) struct Made {
    pub(super) ids: BTreeSet<String>,
    /// With the ID of the user to whom each was given, where it is known.
    pub(super) addresses: BTreeMap<String, Option<String>>,
}

impl Made {
    /// Takes in what another case has made.
    pub(super) fn extend(&mut self, other: Self) {
        self.ids.extend(other.ids);
        self.addresses.extend(other.addresses);
    }
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
    /// The IDs of the run whose users were deleted, as the store has said.
    deleted: Mutex<BTreeSet<String>>,
    /// No new calls but those that clean up.
    stopped: AtomicBool,
    /// Whether the last call was not answered.
    silent: AtomicBool,
    /// How many calls were ABORTED to the last.
    lasting_conflicts: AtomicUsize,
}

/// The store, on one of several connections. Clones share everything.
#[derive(Clone)]
pub(super) struct Subject {
    shared: Arc<Shared>,
    connection: usize,
    cleaning: bool,
    /// Whether many calls are made at once.
    crowded: bool,
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
            deleted: Mutex::default(),
            stopped: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            lasting_conflicts: AtomicUsize::new(0),
        };
        Ok(Self { shared: Arc::new(shared), connection: 0, cleaning: false, crowded: false })
    }

    /// The same store on another connection.
    pub(super) fn on(&self, connection: usize) -> Self {
        let connection = connection % self.shared.connections.len();
        Self { connection, ..self.clone() }
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

    pub(super) fn made(&self) -> MutexGuard<'_, Made> {
        self.shared.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the case that has ended has made; the next one starts with nothing.
    pub(super) fn take_made(&self) -> Made {
        std::mem::take(&mut *self.made())
    }

    /// The IDs whose users were deleted in this run, as the store has said, and that it has not
    /// given to others since.
    pub(super) fn deleted_ids(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.shared.deleted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same store for calls that clean up, which are made after a stop too.
    pub(super) fn cleaning(self) -> Self {
        Self { cleaning: true, ..self }
    }

    /// The same store for one of many calls that are made at once.
    pub(super) fn crowded(self) -> Self {
        Self { crowded: true, ..self }
    }

    pub(super) fn is_cleaning(&self) -> bool {
        self.cleaning
    }

    fn number(&self) -> usize {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    /// An invocation ID in the form of the sidecar's, no two alike.
    pub(super) fn invocation_id(&self) -> String {
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
    pub(super) async fn call<Q: Clone, R>(
        &self,
        message: Q,
        limit: Duration,
        method: Method<Q, R>,
    ) -> Result<R, Refusal> {
        let mut pause = FIRST_PAUSE;
        let mut attempts = 1;
        loop {
            let result = self.attempt(message.clone(), limit, method).await;
            if !matches!(result, Err(Refusal { code: Some(Code::Aborted), .. })) {
                return result;
            }
            let lasting = self.shared.lasting_conflicts.load(Ordering::Relaxed);
            if attempts >= ATTEMPTS_THEN && lasting >= LASTING_CONFLICTS {
                return result;
            }
            if attempts >= ATTEMPTS {
                self.shared.lasting_conflicts.fetch_add(1, Ordering::Relaxed);
                return result;
            }
            attempts += 1;
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
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
            // Libraries answer so when the time is over, which is no answer of the store.
            Ok(Err(status)) if status.code() == Code::DeadlineExceeded => {
                Err(Refusal::unanswered(Refusal::new(&status).text))
            }
            Ok(Err(status)) => Err(Refusal::new(&status)),
            Ok(Ok(response)) => Ok(response.into_inner()),
        };
        let silent = matches!(&result, Err(Refusal { code: None, .. }));
        self.shared.silent.store(silent, Ordering::Relaxed);
        result.map_err(|refusal| match refusal.code {
            Some(code) if self.crowded => {
                Refusal { cause: Cause::of_code_in_a_crowd(code), ..refusal }
            }
            _ => refusal,
        })
    }

    /// Whether the store answers anything at all.
    pub(super) async fn probe(&self) -> Result<(), Silence> {
        match self.get("").await.reply {
            Err(Refusal { not_reached: true, text, .. }) => Err(Silence::NotReached(text)),
            Err(Refusal { code: None, .. }) if self.is_silent() => Err(Silence::Unanswered),
            _ => Ok(()),
        }
    }

    /// Whether the last call was not answered.
    pub(super) fn is_silent(&self) -> bool {
        self.shared.silent.load(Ordering::Relaxed)
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

    /// Whether a write may name an ID that should be nobody's: nobody has it, or a user of this run
    /// does. Not so if another user has it. A store that does not say clearly fails: nothing is
    /// written then, so nothing could be shown.
    pub(super) async fn may_write_to(&self, id: &str) -> Result<bool, Failure> {
        let answer = self.get(id).await;
        match &answer.reply {
            Ok(found) if self.is_ours(&found.email_address) => Ok(true),
            Ok(found) if found.id == id && !id.is_empty() => Ok(false),
            _ => {
                let expected = "nobody has this ID; as long as the store does not say so, nothing is written under it";
                let refused = answer.is_refused(Code::NotFound, expected);
                refused.map(|()| true).map_err(|failure| {
                    let cause = failure.cause.unwrap_or(Cause::NotRisked);
                    failure.because(Some(cause))
                })
            }
        }
    }

    /// That nobody has an email address.
    pub(super) async fn is_free(&self, email_address: &str) -> Result<(), Failure> {
        self.find(email_address).await.is_refused(Code::NotFound, "nobody has this email address")
    }
}

/// Between half of a pause and all of it, so that callers who got into each other's way do not come
/// back in step.
fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    pause.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

/// A method of the client.
type Method<Q, R> =
    for<'a> fn(
        &'a mut UserStoreClient<Balancer>,
        Request<Q>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<R>, Status>> + Send + 'a>>;

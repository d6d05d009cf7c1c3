//! A gRPC `UserStore` somewhere else: each call is forwarded.
//!
//! It knows whether a call can have reached the store. A call that certainly did not is
//! [`NotReached`]. A read whose connection was lost before the answer is
//! sent once more; a write never is, because a lost reply would turn into
//! `email_address_already_used` or a false `user_not_found`.

mod balancer;
mod connect;
mod hearing;
mod url;

use std::{pin::Pin, sync::Arc, time::Duration};

use http::Uri;
use rustls::pki_types::ServerName;
use tokio::{sync::watch, time::Instant};
use tonic::{Code, Request, Response, Status, async_trait};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

pub(crate) use self::balancer::{Balancer, Deadline};
use self::connect::Tls;
pub use self::url::Url;
use super::{MAX_MESSAGE, NotReached, Unanswered, code_name, reach_timeout};
use crate::{
    proto::{
        CreateUserRequest, CreateUserResponse, DeleteUserRequest, DeleteUserResponse,
        GetUserByEmailAddressRequest, GetUserByEmailAddressResponse, GetUserRequest,
        GetUserResponse, IncrementUserSessionsCounterRequest, IncrementUserSessionsCounterResponse,
        UpdateUserEmailAddressRequest, UpdateUserEmailAddressResponse,
        UpdateUserPasswordHashRequest, UpdateUserPasswordHashResponse,
        user_store_client::UserStoreClient,
        user_store_server::{SERVICE_NAME, UserStore},
    },
    tls::ClientMaterial,
    trace,
};

/// How far the clock of a store may be ahead when it gives up a call at its deadline.
const EARLY: Duration = Duration::from_millis(20);

/// How a gRPC store is reached.
#[derive(Clone)]
pub struct Config {
    /// Where it listens.
    pub url: Url,
    /// TLS towards it; used if the URL says `grpcs`. When it changes, new connections are made with
    /// it, and the calls on the old ones are finished.
    pub tls: Option<watch::Receiver<Arc<ClientMaterial>>>,
    /// How long a call may take, all attempts together, as the store is told. Whoever calls stops
    /// waiting then by itself; a connection is waited for no longer than 4/5 of it.
    pub store_timeout: Duration,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .field("store_timeout", &self.store_timeout)
            .finish_non_exhaustive()
    }
}

/// Connections that are made and kept in the background, and the origin that requests on them have.
/// What is sent there is sent once.
///
/// # Errors
///
/// If the host cannot be the name in a certificate, or TLS is wanted and not configured.
pub(crate) fn connections(config: Config) -> Result<(Balancer, Uri), super::InvalidUrl> {
    let (origin, tls) = match &config.url {
        // A socket's path as `:authority` is refused by some servers.
        Url::Unix(_) => (Uri::from_static("http://localhost"), None),
        Url::Tcp { host, port, tls } => {
            let host_port = if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            };
            let scheme = if *tls { "https" } else { "http" };
            let wrong = || {
                super::InvalidUrl::new("the store's host is no name that can be in a certificate")
            };
            let origin = format!("{scheme}://{host_port}").parse().map_err(|_| wrong())?;
            let tls = match (tls, config.tls) {
                (false, _) => None,
                (true, Some(material)) => Some(Tls {
                    material,
                    name: ServerName::try_from(host.clone()).map_err(|_| wrong())?,
                }),
                (true, None) => {
                    return Err(super::InvalidUrl::new("grpcs:// needs TLS material"));
                }
            };
            (origin, tls)
        }
    };
    Ok((Balancer::start(config.url, tls, reach_timeout(config.store_timeout)), origin))
}

/// A client of a gRPC `UserStore`. Clones share its connections. Its calls have no end of their own:
/// the caller gives each the time that the [`Config`] says.
#[derive(Clone)]
pub struct RemoteStore {
    client: UserStoreClient<Balancer>,
    health: HealthClient<Balancer>,
    balancer: Balancer,
    store_timeout: Duration,
}

impl RemoteStore {
    /// A client that connects in the background, and again after every loss; the store need not be
    /// there yet. Has to be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// If the host cannot be the name in a certificate, or TLS is wanted and not configured.
    pub fn start(config: Config) -> Result<Self, super::InvalidUrl> {
        let store_timeout = config.store_timeout;
        let (balancer, origin) = connections(config)?;
        let health = HealthClient::with_origin(balancer.clone(), origin.clone());
        let client = UserStoreClient::with_origin(balancer.clone(), origin)
            .max_decoding_message_size(MAX_MESSAGE);
        Ok(Self { client, health, balancer, store_timeout })
    }

    /// Whether a connection is open and the store, if it has `grpc.health.v1`, says that it serves.
    /// A proxy that has no store behind it answers in its place, and mostly so that it shows.
    ///
    /// # Errors
    ///
    /// What stands in the way, in words.
    pub async fn check(&self) -> Result<(), String> {
        self.balancer.check().map_err(|error| format!("no connection to the store: {error}"))?;
        let mut request = Request::new(HealthCheckRequest { service: SERVICE_NAME.to_owned() });
        request.set_timeout(self.store_timeout);
        let mut health = self.health.clone();
        let answered = |what| Err(format!("the store answered {what} when asked for its health"));
        match tokio::time::timeout(self.store_timeout, health.check(request)).await {
            Ok(Ok(answer)) => match answer.get_ref().status() {
                ServingStatus::Serving => Ok(()),
                other => answered(other.as_str_name()),
            },
            Ok(Err(status)) => match (NotReached::of_status(&status), status.code()) {
                (Some(not_reached), _) => Err(format!("no connection to the store: {not_reached}")),
                // A store without this service, or with one that knows no `UserStore`, is no fault.
                (None, Code::Unimplemented | Code::NotFound) => Ok(()),
                (None, code) => match Unanswered::of_status(&status) {
                    Some(unanswered) => Err(unanswered.to_string()),
                    None => answered(code_name(code)),
                },
            },
            Err(_) => Err("the store does not answer".to_owned()),
        }
    }

    /// Forwards a read; once more if the connection was lost before the answer.
    async fn read<Q: Clone, R>(&self, request: Request<Q>, call: Call<Q, R>) -> Reply<R> {
        let deadline = Instant::now() + self.store_timeout;
        let message = request.into_inner();
        match self.attempt(message.clone(), deadline, call).await {
            Err(first) if is_lost(&first) && Instant::now() < deadline => {
                match self.attempt(message, deadline, call).await {
                    // The second never reached the store; the first may have.
                    Err(second) if NotReached::of_status(&second).is_some() => Err(first),
                    reply => reply,
                }
            }
            reply => reply,
        }
    }

    /// Forwards a write, once.
    async fn write<Q, R>(&self, request: Request<Q>, call: Call<Q, R>) -> Reply<R> {
        let deadline = Instant::now() + self.store_timeout;
        self.attempt(request.into_inner(), deadline, call).await
    }

    async fn attempt<Q, R>(&self, message: Q, deadline: Instant, call: Call<Q, R>) -> Reply<R> {
        let mut request = Request::new(message);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        trace::inject(request.metadata_mut());
        let mut client = self.client.clone();
        match call(&mut client, request).await {
            // The store was told the deadline, and may be heard to give up before we do.
            Err(status) if gave_up(&status) && Instant::now() + EARLY >= deadline => {
                Err(Unanswered::DeadlinePassed.into_status())
            }
            reply => reply,
        }
    }
}

/// Whether a status is what gRPC servers answer when the deadline of a call passes.
fn gave_up(status: &Status) -> bool {
    matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled)
}

fn is_lost(status: &Status) -> bool {
    matches!(Unanswered::of_status(status), Some(Unanswered::ConnectionLost(_)))
}

type Reply<R> = Result<Response<R>, Status>;

/// A method of the client.
type Call<Q, R> = for<'a> fn(
    &'a mut UserStoreClient<Balancer>,
    Request<Q>,
) -> Pin<Box<dyn Future<Output = Reply<R>> + Send + 'a>>;

#[async_trait]
impl UserStore for RemoteStore {
    async fn create_user(&self, request: Request<CreateUserRequest>) -> Reply<CreateUserResponse> {
        self.write(request, |client, request| Box::pin(client.create_user(request))).await
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Reply<GetUserResponse> {
        self.read(request, |client, request| Box::pin(client.get_user(request))).await
    }

    async fn get_user_by_email_address(
        &self,
        request: Request<GetUserByEmailAddressRequest>,
    ) -> Reply<GetUserByEmailAddressResponse> {
        self.read(request, |client, request| Box::pin(client.get_user_by_email_address(request)))
            .await
    }

    async fn update_user_email_address(
        &self,
        request: Request<UpdateUserEmailAddressRequest>,
    ) -> Reply<UpdateUserEmailAddressResponse> {
        self.write(request, |client, request| Box::pin(client.update_user_email_address(request)))
            .await
    }

    async fn update_user_password_hash(
        &self,
        request: Request<UpdateUserPasswordHashRequest>,
    ) -> Reply<UpdateUserPasswordHashResponse> {
        self.write(request, |client, request| Box::pin(client.update_user_password_hash(request)))
            .await
    }

    async fn increment_user_sessions_counter(
        &self,
        request: Request<IncrementUserSessionsCounterRequest>,
    ) -> Reply<IncrementUserSessionsCounterResponse> {
        self.write(request, |client, request| {
            Box::pin(client.increment_user_sessions_counter(request))
        })
        .await
    }

    async fn delete_user(&self, request: Request<DeleteUserRequest>) -> Reply<DeleteUserResponse> {
        self.write(request, |client, request| Box::pin(client.delete_user(request))).await
    }
}

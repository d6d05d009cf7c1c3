//! gRPC stores of which a test says in one place what they answer, whichever method is called.

use std::net::SocketAddr;

use faroe_sidecar::proto::{
    CreateUserRequest, CreateUserResponse, DeleteUserRequest, DeleteUserResponse,
    GetUserByEmailAddressRequest, GetUserByEmailAddressResponse, GetUserRequest, GetUserResponse,
    IncrementUserSessionsCounterRequest, IncrementUserSessionsCounterResponse,
    UpdateUserEmailAddressRequest, UpdateUserEmailAddressResponse, UpdateUserPasswordHashRequest,
    UpdateUserPasswordHashResponse, User,
    user_store_server::{UserStore, UserStoreServer},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, async_trait};

/// What a store answers.
#[async_trait]
pub trait Answering: Send + Sync + 'static {
    /// The answer to a method, by the name of its action; `key` is the ID or the email address that
    /// the request is about. The user is left out of a reply that has none.
    async fn answer(&self, method: &'static str, key: &str) -> Result<Option<User>, Status>;
}

/// A store that answers so.
pub struct AnsweringStore<A>(pub A);

/// Serves it on a free port, for as long as the runtime goes on.
pub async fn serve(answering: impl Answering) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    serve_on(listener, answering);
    address
}

/// The same where it listens already.
pub fn serve_on(listener: TcpListener, answering: impl Answering) {
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(UserStoreServer::new(AnsweringStore(answering)))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
}

macro_rules! methods {
    ($($method:ident($request:ident { $key:ident }) -> $response:ident $({ $user:ident })?;)*) => {
        #[async_trait]
        impl<A: Answering> UserStore for AnsweringStore<A> {
            $(
                async fn $method(
                    &self,
                    request: Request<$request>,
                ) -> Result<Response<$response>, Status> {
                    let _user = self.0.answer(stringify!($method), &request.get_ref().$key).await?;
                    Ok(Response::new($response { $($user: _user)? }))
                }
            )*
        }
    };
}

methods! {
    create_user(CreateUserRequest { email_address }) -> CreateUserResponse { user };
    get_user(GetUserRequest { user_id }) -> GetUserResponse { user };
    get_user_by_email_address(GetUserByEmailAddressRequest { email_address })
        -> GetUserByEmailAddressResponse { user };
    update_user_email_address(UpdateUserEmailAddressRequest { user_id })
        -> UpdateUserEmailAddressResponse;
    update_user_password_hash(UpdateUserPasswordHashRequest { user_id })
        -> UpdateUserPasswordHashResponse;
    increment_user_sessions_counter(IncrementUserSessionsCounterRequest { user_id })
        -> IncrementUserSessionsCounterResponse;
    delete_user(DeleteUserRequest { user_id }) -> DeleteUserResponse;
}

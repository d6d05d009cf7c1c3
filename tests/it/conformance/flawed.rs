//! The bundled store with a flaw in front of it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use faroe_sidecar::{
    proto::{
        CreateUserRequest, CreateUserResponse, DeleteUserRequest, DeleteUserResponse,
        GetUserByEmailAddressRequest, GetUserByEmailAddressResponse, GetUserRequest,
        GetUserResponse, IncrementUserSessionsCounterRequest, IncrementUserSessionsCounterResponse,
        UpdateUserEmailAddressRequest, UpdateUserEmailAddressResponse,
        UpdateUserPasswordHashRequest, UpdateUserPasswordHashResponse, User,
        user_store_server::{UserStore, UserStoreServer},
    },
    store::remote::{self, RemoteStore},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, async_trait};

use super::Bundled;
use crate::harness::process::PATIENCE;

/// In what a store is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// In nothing.
    None,
    /// Who is not there is answered `OK`, without a user.
    AbsentIsOk,
    /// So, and deleting them is `OK` too.
    AbsentIsOkAndDeleted,
    /// The counter of a request is taken for that of the user.
    IgnoresCounters,
    /// Of calls at the same time only the first few get through.
    RefusesCrowds,
    /// Each error is one that is no status of gRPC.
    ErrorsAreUnknown,
    /// A taken email address is `INTERNAL`.
    TakenIsInternal,
    /// The text of a status names the email address.
    StatusNamesTheAddress,
    /// Nobody can be deleted.
    NoDeletion,
    /// `CreateUser` answers a user who was there before.
    AnswersSomebodyElse,
    /// After the creation of a user nothing is answered any more.
    Hangs,
    /// The first creation of a user is not answered, and takes place before the second.
    CreatesLate,
    /// The first look-up by an ID is not answered.
    LosesALookUp,
    /// Each user is shown with all counters at their maximum, and every counter is taken for right.
    ShowsMaximum,
    /// Every write is `ABORTED`.
    AlwaysConflicts,
}

/// The bundled store with a flaw in front of it, as a gRPC store of its own.
pub struct Flawed {
    inner: RemoteStore,
    flaw: Flaw,
    /// Whom [`Flaw::AnswersSomebodyElse`] answers.
    somebody: Option<User>,
    hangs: Arc<AtomicBool>,
    /// How many users were created, and looked up by an ID.
    creations: AtomicUsize,
    look_ups: AtomicUsize,
    /// What [`Flaw::CreatesLate`] has still to do.
    late: Mutex<Option<CreateUserRequest>>,
    /// How many calls there are now.
    calls: Arc<AtomicUsize>,
}

/// How many calls [`Flaw::RefusesCrowds`] lets through at once.
const CROWD: usize = 2;

impl Flawed {
    /// Its URL.
    pub async fn start(store: &Bundled, flaw: Flaw, somebody: Option<User>) -> String {
        let inner = RemoteStore::start(remote::Config {
            url: store.url().parse().unwrap(),
            tls: None,
            store_timeout: PATIENCE,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hangs = Arc::new(AtomicBool::new(false));
        let flawed = Self {
            inner: inner.unwrap(),
            flaw,
            somebody,
            hangs,
            creations: AtomicUsize::new(0),
            look_ups: AtomicUsize::new(0),
            late: Mutex::default(),
            calls: Arc::default(),
        };
        tokio::spawn(
            tonic::transport::Server::builder()
                .http2_max_pending_accept_reset_streams(Some(1000))
                .add_service(UserStoreServer::new(flawed))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        format!("grpc://{address}")
    }

    async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Status> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        let answer = if self.flaw == Flaw::RefusesCrowds && before >= CROWD {
            Err(Status::resource_exhausted("no thread is free"))
        } else {
            answer.await
        };
        self.calls.fetch_sub(1, Ordering::Relaxed);
        match self.flaw {
            Flaw::ErrorsAreUnknown => answer.map_err(|_| Status::unknown("an exception")),
            _ => answer,
        }
    }

    /// The same for a look-up.
    async fn found<T: Default>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Status> {
        match self.answer(answer).await {
            Err(status)
                if status.code() == Code::NotFound
                    && matches!(self.flaw, Flaw::AbsentIsOk | Flaw::AbsentIsOkAndDeleted) =>
            {
                Ok(Response::new(T::default()))
            }
            answer => answer,
        }
    }

    fn conflict(&self) -> Result<(), Status> {
        match self.flaw {
            Flaw::AlwaysConflicts => Err(Status::aborted("a deadlock")),
            _ => Ok(()),
        }
    }

    fn ignores_counters(&self) -> bool {
        matches!(self.flaw, Flaw::IgnoresCounters | Flaw::ShowsMaximum)
    }

    fn show(&self, user: Option<&mut User>) {
        if let (Flaw::ShowsMaximum, Some(user)) = (self.flaw, user) {
            user.email_address_counter = i32::MAX;
            user.password_hash_counter = i32::MAX;
            user.disabled_counter = i32::MAX;
            user.sessions_counter = i32::MAX;
        }
    }

    /// The user as they are, whose counter stands in for that of a request.
    async fn counters(&self, user_id: &str) -> Result<User, Status> {
        let request = GetUserRequest { user_id: user_id.to_owned(), ..GetUserRequest::default() };
        let user = self.inner.get_user(Request::new(request)).await?.into_inner().user;
        user.ok_or_else(|| Status::internal("no user"))
    }
}

#[async_trait]
impl UserStore for Flawed {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<CreateUserResponse>, Status> {
        let address = request.get_ref().email_address.clone();
        self.conflict()?;
        if self.flaw == Flaw::CreatesLate {
            if self.creations.fetch_add(1, Ordering::Relaxed) == 0 {
                *self.late.lock().unwrap() = Some(request.into_inner());
                return std::future::pending().await;
            }
            let late = self.late.lock().unwrap().take();
            if let Some(late) = late {
                self.inner.create_user(Request::new(late)).await?;
            }
        }
        let created = self.answer(self.inner.create_user(request)).await;
        match self.flaw {
            Flaw::Hangs => {
                self.hangs.store(true, Ordering::Relaxed);
                created
            }
            Flaw::AnswersSomebodyElse => {
                created.map(|_| Response::new(CreateUserResponse { user: self.somebody.clone() }))
            }
            Flaw::TakenIsInternal => created.map_err(|status| match status.code() {
                Code::AlreadyExists => Status::internal("a duplicate"),
                _ => status,
            }),
            Flaw::StatusNamesTheAddress => {
                created.map_err(|status| Status::new(status.code(), format!("no {address}")))
            }
            _ => created,
        }
    }

    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let is_by_id = !request.get_ref().user_id.is_empty();
        if self.flaw == Flaw::LosesALookUp
            && is_by_id
            && self.look_ups.fetch_add(1, Ordering::Relaxed) == 0
        {
            return std::future::pending().await;
        }
        let mut found = self.found(self.inner.get_user(request)).await?;
        self.show(found.get_mut().user.as_mut());
        Ok(found)
    }

    async fn get_user_by_email_address(
        &self,
        request: Request<GetUserByEmailAddressRequest>,
    ) -> Result<Response<GetUserByEmailAddressResponse>, Status> {
        let mut found = self.found(self.inner.get_user_by_email_address(request)).await?;
        self.show(found.get_mut().user.as_mut());
        Ok(found)
    }

    async fn update_user_email_address(
        &self,
        mut request: Request<UpdateUserEmailAddressRequest>,
    ) -> Result<Response<UpdateUserEmailAddressResponse>, Status> {
        self.conflict()?;
        if self.ignores_counters() {
            let user = self.counters(&request.get_ref().user_id).await?;
            request.get_mut().user_email_address_counter = user.email_address_counter;
        }
        self.answer(self.inner.update_user_email_address(request)).await
    }

    async fn update_user_password_hash(
        &self,
        mut request: Request<UpdateUserPasswordHashRequest>,
    ) -> Result<Response<UpdateUserPasswordHashResponse>, Status> {
        self.conflict()?;
        if self.ignores_counters() {
            let user = self.counters(&request.get_ref().user_id).await?;
            request.get_mut().user_password_hash_counter = user.password_hash_counter;
        }
        self.answer(self.inner.update_user_password_hash(request)).await
    }

    async fn increment_user_sessions_counter(
        &self,
        mut request: Request<IncrementUserSessionsCounterRequest>,
    ) -> Result<Response<IncrementUserSessionsCounterResponse>, Status> {
        self.conflict()?;
        if self.ignores_counters() {
            let user = self.counters(&request.get_ref().user_id).await?;
            request.get_mut().user_sessions_counter = user.sessions_counter;
        }
        self.answer(self.inner.increment_user_sessions_counter(request)).await
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        self.conflict()?;
        if self.flaw == Flaw::NoDeletion {
            return Err(Status::internal("not today"));
        }
        match self.answer(self.inner.delete_user(request)).await {
            Err(status)
                if status.code() == Code::NotFound && self.flaw == Flaw::AbsentIsOkAndDeleted =>
            {
                Ok(Response::new(DeleteUserResponse {}))
            }
            answer => answer,
        }
    }
}

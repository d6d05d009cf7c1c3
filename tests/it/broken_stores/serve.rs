//! A store, served over gRPC on a port of its own.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use faroe_sidecar::proto::user_store_server::{SERVICE_NAME, UserStoreServer};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Status,
    body::Body,
    server::NamedService,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::ServingStatus;
use tower_service::Service;

use super::{faults::Fault, referee::Referee, store::Store};

/// Serves until it is dropped.
pub struct Served {
    pub url: String,
    pub store: Arc<Store>,
    server: JoinHandle<()>,
}

impl Served {
    pub async fn start(fault: Fault, referee: Referee) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("grpc://{}", listener.local_addr().unwrap());
        let (reporter, health) = tonic_health::server::health_reporter();
        let status = match fault {
            Fault::NotServing => ServingStatus::NotServing,
            _ => ServingStatus::Serving,
        };
        if fault != Fault::HealthIsElsewhere {
            reporter.set_service_status(SERVICE_NAME, status).await;
        }
        let store = Arc::new(Store::new(fault, referee));
        let users = UserStoreServer::from_arc(Arc::clone(&store));
        let server = Server::builder()
            .http2_max_pending_accept_reset_streams(Some(1000))
            .add_service(CatchAll { users, fault })
            .add_optional_service((fault != Fault::NoHealth).then_some(health))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        let server = tokio::spawn(async { server.await.unwrap() });
        Self { url, store, server }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Where a gateway would stand, which may answer what no store has ever seen.
#[derive(Clone)]
struct CatchAll {
    users: UserStoreServer<Store>,
    fault: Fault,
}

impl NamedService for CatchAll {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for CatchAll {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self.fault {
            Fault::AnswersUnknownMethods if request.uri().path().contains("/NoMethod") => {
                Box::pin(async { Ok(empty_success()) })
            }
            Fault::IsElsewhere => {
                Box::pin(async { Ok(Status::unimplemented("no such service").into_http()) })
            }
            _ => Box::pin(self.users.call(request)),
        }
    }
}

/// OK, and a message in which every field has its default.
fn empty_success() -> http::Response<Body> {
    let ok = async {
        let status = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
        Some(Ok(HeaderMap::from_iter([status])))
    };
    let message = Full::new(Bytes::from_static(&[0; 5])).with_trailers(ok);
    let mut response = http::Response::new(Body::new(message));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
    response
}

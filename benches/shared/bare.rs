//! The bare server that the endpoint is compared with: hyper and rustls with the same settings, and
//! a constant answer; on demand with one call of a gRPC store for each request, by a bare tonic
//! client. It is this program again, as a process of its own.

use std::{convert::Infallible, ffi::OsString, path::PathBuf, sync::Arc};

use bytes::Bytes;
use faroe_sidecar::proto::{GetUserRequest, user_store_client::UserStoreClient};
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::transport::{Channel, Endpoint};

/// The first argument of this program when it is to be the bare server. Certificate, key, client CA
/// and the answer follow, as files; then the socket of a gRPC store and the user to ask it for, if
/// it is to be asked.
pub const ARGUMENT: &str = "bare-server";
/// What it says, before its address, when it listens.
pub const LISTENING: &str = "listening on";

/// Serves until it is killed.
pub async fn serve(files: impl Iterator<Item = OsString>) {
    let files: Vec<PathBuf> = files.map(PathBuf::from).collect();
    let [certificate, key, client_ca, answer, asked @ ..] = files.as_slice() else {
        panic!("the bare server takes four files");
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(client_ca).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().collect::<Result<_, _>>();
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain.unwrap(), PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    tls.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let answering = Answering {
        answer: Bytes::from(std::fs::read(answer).unwrap()),
        store: match asked {
            [socket, user_id] => {
                let endpoint = Endpoint::try_from(format!("unix://{}", socket.display())).unwrap();
                let store = UserStoreClient::new(endpoint.connect().await.unwrap());
                Some((store, user_id.to_str().unwrap().to_owned()))
            }
            _ => None,
        },
    };

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    eprintln!("{LISTENING} {}", listener.local_addr().unwrap());
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        tokio::spawn(connection(tcp, acceptor.clone(), answering.clone()));
    }
}

#[derive(Clone)]
struct Answering {
    answer: Bytes,
    store: Option<(UserStoreClient<Channel>, String)>,
}

impl Answering {
    async fn answer(self) -> Bytes {
        if let Some((mut store, user_id)) = self.store {
            let action_invocation_id = "a".repeat(24);
            let reply = store.get_user(GetUserRequest { user_id, action_invocation_id }).await;
            assert!(reply.unwrap().into_inner().user.is_some());
        }
        self.answer
    }
}

async fn connection(tcp: TcpStream, acceptor: TlsAcceptor, answering: Answering) {
    let _ = tcp.set_nodelay(true);
    let Ok(stream) = acceptor.accept(tcp).await else { return };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let io = TokioIo::new(stream);
    let service = service_fn(move |request: Request<Incoming>| {
        let answering = answering.clone();
        async move {
            let _ = request.into_body().collect().await;
            let response = Response::builder().header(header::CONTENT_TYPE, "application/json");
            Ok::<_, Infallible>(response.body(Full::new(answering.answer().await)).unwrap())
        }
    });
    let _ = if is_http2 {
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(io, service)
            .await
    } else {
        http1::Builder::new().serve_connection(io, service).await
    };
}

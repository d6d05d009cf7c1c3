//! A Faroe server's side of the wire.

use std::{net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::Mutex,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    certs::Identity,
    network::Line,
    process::{PATIENCE, Pki},
};

/// A client of the endpoint: HTTP/2 on one connection, unless it is made for HTTP/1.1.
pub struct Client {
    address: SocketAddr,
    pub tls: Arc<ClientConfig>,
    http2: Mutex<Option<hyper::client::conn::http2::SendRequest<Full<Bytes>>>>,
    http1: bool,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The TLS of a client that trusts `ca`.
pub fn tls_config(ca: &Path, identity: Option<&Identity>) -> ClientConfig {
    tls_config_of(rustls::DEFAULT_VERSIONS, ca, identity)
}

/// The same with these versions of TLS only.
pub fn tls_config_of(
    versions: &[&'static SupportedProtocolVersion],
    ca: &Path,
    identity: Option<&Identity>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_file_iter(&identity.certificate)
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    }
}

impl Client {
    pub fn new(address: SocketAddr, pki: &Pki, identity: Option<&Identity>) -> Self {
        let mut tls = tls_config(&pki.authority.certificate(), identity);
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Self { address, tls: Arc::new(tls), http2: Mutex::new(None), http1: false }
    }

    /// The same over HTTP/1.1, on a new connection each time.
    pub fn http1(&self) -> Self {
        let mut tls = (*self.tls).clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { address: self.address, tls: Arc::new(tls), http2: Mutex::new(None), http1: true }
    }

    /// A TLS connection.
    pub async fn connect(&self) -> Result<TlsStream<TcpStream>, Error> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        self.connect_over(tcp).await
    }

    /// One whose kernel takes as little as possible of what nobody has read.
    pub async fn connect_narrow(&self) -> Result<TlsStream<TcpStream>, Error> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        self.connect_over(socket.connect(self.address).await?).await
    }

    async fn connect_over(&self, tcp: TcpStream) -> Result<TlsStream<TcpStream>, Error> {
        let name = ServerName::try_from("localhost").unwrap();
        Ok(TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?)
    }

    /// Sends one request and gives whatever comes back.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Reply, Error> {
        let response = if self.http1 {
            let io = TokioIo::new(self.connect().await?);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            tokio::spawn(connection);
            sender.send_request(request).await?
        } else {
            let mut sender = self.http2_sender().await?;
            sender.send_request(request).await?
        };
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    }

    async fn http2_sender(
        &self,
    ) -> Result<hyper::client::conn::http2::SendRequest<Full<Bytes>>, Error> {
        let mut shared = self.http2.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let io = TokioIo::new(self.connect().await?);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        *shared = Some(sender.clone());
        Ok(sender)
    }

    /// Whether there is no connection of HTTP/2 that takes requests: none was made, or the server has
    /// said goodbye on it.
    pub async fn is_closed(&self) -> bool {
        self.http2.lock().await.as_ref().is_none_or(|sender| sender.is_closed())
    }

    /// A connection of HTTP/1.1 whose bytes the test writes and reads itself.
    pub async fn raw_http1(&self) -> RawHttp1 {
        RawHttp1::new(self.http1().connect().await.unwrap())
    }

    /// A request as the real caller makes it: POST, and no `Content-Type`.
    pub fn request(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let authority = format!("localhost:{}", self.address.port());
        let builder = Request::builder().method(method);
        let builder = if self.http1 {
            builder.uri(path).header("host", authority)
        } else {
            builder.uri(
                Uri::builder()
                    .scheme("https")
                    .authority(authority)
                    .path_and_query(path)
                    .build()
                    .unwrap(),
            )
        };
        builder.body(Full::new(body.into())).unwrap()
    }

    /// Posts a body.
    pub async fn try_post(&self, body: impl Into<Bytes>) -> Result<Reply, Error> {
        self.send(self.request(Method::POST, "/", body)).await
    }

    /// Posts a body; there has to be an answer.
    pub async fn post(&self, body: impl Into<Bytes>) -> Reply {
        self.try_post(body).await.unwrap()
    }

    /// The same, on a new connection if it was not sent because the old one was closing.
    pub async fn post_until_sent(&self, body: impl Into<Bytes>) -> Reply {
        let body = body.into();
        loop {
            match self.try_post(body.clone()).await {
                Ok(reply) => return reply,
                Err(error) => {
                    let error = error.downcast::<hyper::Error>().unwrap();
                    assert!(error.is_canceled(), "{error}");
                }
            }
        }
    }

    /// Invokes an action; the answer has to be 200. It is `{"values":…}` or `{"error_code":…}`
    /// beside the members that every answer has.
    pub async fn invoke(&self, action: &str, arguments: Value) -> Value {
        let body = serde_json::json!({ "action": action, "arguments": arguments }).to_string();
        let reply = self.post(body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()
    }

    /// Invokes an action that has to succeed, and gives its values.
    pub async fn values(&self, action: &str, arguments: Value) -> Value {
        let answer = self.invoke(action, arguments).await;
        assert_eq!(answer["ok"], true, "{action}: {answer}");
        answer["values"].clone()
    }

    /// Invokes an action that has to fail, and gives its error code.
    pub async fn error_code(&self, action: &str, arguments: Value) -> String {
        let answer = self.invoke(action, arguments).await;
        assert_eq!(answer["ok"], false, "{action}: {answer}");
        answer["error_code"].as_str().unwrap().to_owned()
    }

    /// Creates a user with an email address, and gives the whole user.
    pub async fn create_user(&self, email_address: &str) -> Value {
        self.values("create_user", new_user(email_address)).await["user"].clone()
    }

    /// Looks a user up by the ID of a user.
    pub async fn get_user(&self, user: &Value) -> Value {
        self.values("get_user", serde_json::json!({ "user_id": user["id"] })).await["user"].clone()
    }
}

/// A connection of HTTP/1.1, byte by byte. It waits for nothing longer than [`PATIENCE`].
pub struct RawHttp1 {
    stream: TlsStream<TcpStream>,
    received: Vec<u8>,
}

impl RawHttp1 {
    pub fn new(stream: TlsStream<TcpStream>) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// What it goes through.
    pub fn line(&self) -> Line {
        Line::of(&self.stream)
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        timeout(PATIENCE, async {
            self.stream.write_all(bytes.as_ref()).await?;
            Ok(self.stream.flush().await?)
        })
        .await?
    }

    /// Says that nothing more will be written; answers still come.
    pub async fn finish_writing(&mut self) -> Result<(), Error> {
        Ok(timeout(PATIENCE, self.stream.shutdown()).await??)
    }

    /// The head of the next response, an interim one too, up to the empty line.
    pub async fn head(&mut self) -> Result<String, Error> {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            self.receive().await?;
        };
        Ok(String::from_utf8(self.received.drain(..end).collect())?)
    }

    /// The next response, an interim one too: its head and as much body as its `Content-Length`
    /// says.
    pub async fn response(&mut self) -> Result<(String, Vec<u8>), Error> {
        let head = self.head().await?;
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(Ok(0), |(_, length)| length.trim().parse::<usize>())?;
        while self.received.len() < length {
            self.receive().await?;
        }
        Ok((head, self.received.drain(..length).collect()))
    }

    async fn receive(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 16 << 10];
        match timeout(PATIENCE, self.stream.read(&mut buffer)).await?? {
            0 => Err(format!("the connection ended after {:?}", self.received).into()),
            read => {
                self.received.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }
}

/// The arguments of `create_user`.
pub fn new_user(email_address: &str) -> Value {
    serde_json::json!({
        "email_address": email_address,
        "password_hash": super::base64("planted hash"),
        "password_hash_algorithm_id": "argon2id.65536.3.1.32",
        "password_salt": super::base64("planted salt"),
    })
}

/// Asks the admin listener.
pub async fn admin(address: SocketAddr, path: &str) -> Reply {
    admin_with(Method::GET, address, path, "").await
}

/// The same with another method and a body.
pub async fn admin_with(
    method: Method,
    address: SocketAddr,
    path: &str,
    body: &'static str,
) -> Reply {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "admin");
    let request = request.body(Full::<Bytes>::from(body)).unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Reply { status: parts.status, headers: parts.headers, body }
}

//! A client that costs as little as possible: HTTP/1.1 whose bytes are written and read as they are,
//! and HTTP/2 by hyper. It shares the processor with what is measured.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream as BlockingTcp},
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, Uri, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::{harness::client::Error, load};

/// The version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// A request, and what its answer must have in it.
pub struct Invocation {
    pub body: String,
    /// A part of the user, if there is one in the answer.
    pub user: Option<String>,
}

impl Invocation {
    /// Whether this is the answer, without a look at all of it.
    pub fn is_answered_by(&self, status: u16, body: &[u8]) -> bool {
        let has = |part: &str| body.windows(part.len()).any(|window| window == part.as_bytes());
        // Every answer begins with it.
        status == 200
            && body.starts_with(br#"{"ok":true"#)
            && self.user.as_ref().is_none_or(|user| has(user))
    }

    fn http1(&self) -> Vec<u8> {
        let length = self.body.len();
        let head =
            format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        [head.as_bytes(), self.body.as_bytes()].concat()
    }
}

/// A connection.
pub struct Connection {
    is_resumed: bool,
    speaks: Speaks,
}

enum Speaks {
    Http1(Box<TlsStream<TcpStream>>, Vec<u8>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    pub async fn open(
        address: SocketAddr,
        tls: &Arc<ClientConfig>,
        protocol: Protocol,
    ) -> Result<Self, Error> {
        let stream = load::connect(address, tls).await?;
        let is_resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        Ok(match protocol {
            Protocol::Http1 => {
                Self { is_resumed, speaks: Speaks::Http1(Box::new(stream), Vec::new()) }
            }
            Protocol::Http2 => {
                let io = TokioIo::new(stream);
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Self { is_resumed, speaks: Speaks::Http2(sender) }
            }
        })
    }

    /// Whether its TLS session was resumed.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Sends an invocation; whether the answer was the right one.
    pub async fn invoke(&mut self, invocation: &Invocation) -> Result<bool, Error> {
        match &mut self.speaks {
            Speaks::Http1(stream, buffer) => {
                stream.write_all(&invocation.http1()).await?;
                buffer.clear();
                loop {
                    if stream.read_buf(buffer).await? == 0 {
                        return Err("the connection ended before the answer".into());
                    }
                    if let Some((status, body)) = response(buffer)? {
                        return Ok(invocation.is_answered_by(status, body));
                    }
                }
            }
            Speaks::Http2(sender) => {
                let request =
                    Request::post(Uri::from_static("https://localhost/")).version(Version::HTTP_2);
                let body = Full::new(Bytes::from(invocation.body.clone()));
                let response = sender.send_request(request.body(body)?).await?;
                let status = response.status().as_u16();
                let body = response.into_body().collect().await?.to_bytes();
                Ok(invocation.is_answered_by(status, &body))
            }
        }
    }
}

/// A connection of HTTP/1.1 that a thread of its own waits on.
pub struct Blocking {
    stream: StreamOwned<ClientConnection, BlockingTcp>,
    buffer: Vec<u8>,
}

impl Blocking {
    pub fn open(address: SocketAddr, tls: &Arc<ClientConfig>) -> Result<Self, Error> {
        let tcp = BlockingTcp::connect(address)?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let session = ClientConnection::new(Arc::clone(tls), name)?;
        Ok(Self { stream: StreamOwned::new(session, tcp), buffer: Vec::new() })
    }

    pub fn invoke(&mut self, invocation: &Invocation) -> Result<bool, Error> {
        self.stream.write_all(&invocation.http1())?;
        self.buffer.clear();
        let mut part = [0; 4096];
        loop {
            let read = self.stream.read(&mut part)?;
            if read == 0 {
                return Err("the connection ended before the answer".into());
            }
            self.buffer.extend_from_slice(&part[..read]);
            if let Some((status, body)) = response(&self.buffer)? {
                return Ok(invocation.is_answered_by(status, body));
            }
        }
    }
}

/// Status and body of a response, once all of it is there.
fn response(received: &[u8]) -> Result<Option<(u16, &[u8])>, Error> {
    let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&received[..end])?;
    let mut lines = head.split("\r\n");
    let status =
        lines.next().and_then(|line| line.split(' ').nth(1)).ok_or("no status")?.parse()?;
    let length: usize = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .ok_or("a response without Content-Length")?
        .1
        .trim()
        .parse()?;
    let body = &received[end + 4..];
    Ok((body.len() >= length).then(|| (status, &body[..length])))
}

//! What commands share that ask a running sidecar through its admin listener.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Failure, options::address};

/// How long the sidecar may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How much of an answer is read, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// Which sidecar.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// Address of the admin listener of the sidecar, as it was given to serve; 0.0.0.0 is asked on
    /// 127.0.0.1
    #[arg(
        long,
        env = "FAROE_SIDECAR_ADMIN_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:9090",
        value_parser = address
    )]
    admin_listen: SocketAddr,
}

impl Target {
    /// Asks for a path, and gives the status and the text of the answer.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
    ) -> Result<(StatusCode, String), Failure> {
        let address = reachable(self.admin_listen);
        tokio::time::timeout(TIMEOUT, exchange(address, method, path))
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {TIMEOUT:?}")))
            .with_context(|| format!("cannot ask the sidecar at {address}"))
            .map_err(Failure::Failed)
    }
}

async fn exchange(
    address: SocketAddr,
    method: Method,
    path: &str,
) -> anyhow::Result<(StatusCode, String)> {
    let io = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .body(Full::<Bytes>::default())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("the answer cannot be read: {error}"))?
        .to_bytes();
    Ok((head.status, String::from_utf8_lossy(&body).trim_end().to_owned()))
}

/// An address that can be asked: a listener on every address is asked on that of this host.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_asked_on_this_host() {
        for (listen, asked) in [
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:9090", "[::1]:9090"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.0.0.1:1", "10.0.0.1:1"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}

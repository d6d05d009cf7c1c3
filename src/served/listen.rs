//! Where the store is served: an address of TCP, or a Unix socket and its file.

use std::{
    fmt, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Context as _;
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::stream::Duplex;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `tcp://HOST:PORT`.
    Tcp(SocketAddr),
    /// `unix:///PATH`.
    Unix(PathBuf),
}

/// A value of `--listen` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("write unix:///PATH or tcp://ADDRESS:PORT")]
pub struct InvalidListen;

impl FromStr for Listen {
    type Err = InvalidListen;

    fn from_str(url: &str) -> Result<Self, InvalidListen> {
        if let Some(path) = url.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err(InvalidListen),
            };
        }
        let address = url.strip_prefix("tcp://").ok_or(InvalidListen)?;
        let address = address
            .strip_prefix("localhost:")
            .map_or_else(|| address.to_owned(), |port| format!("127.0.0.1:{port}"));
        address.parse().map(Self::Tcp).map_err(|_| InvalidListen)
    }
}

impl Listen {
    /// Whether strangers could reach it.
    pub fn is_exposed(&self) -> bool {
        match self {
            Self::Tcp(address) => !address.ip().is_loopback(),
            Self::Unix(_) => false,
        }
    }
}

/// A bound listener.
#[derive(Debug)]
pub enum Bound {
    /// On TCP.
    Tcp(TcpListener),
    /// On a Unix socket; the file goes with the value.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket, removed when the listener ends; one that another process has put in
/// its place meanwhile stays.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: Option<(u64, u64)>,
}

impl SocketFile {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), inode: inode(path) }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.inode.is_some() && inode(&self.path) == self.inode {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Bound {
    /// Binds. A socket file that nobody listens on is replaced.
    ///
    /// # Errors
    ///
    /// If the address is in use or may not be bound.
    pub async fn bind(listen: &Listen) -> anyhow::Result<Self> {
        match listen {
            Listen::Tcp(address) => TcpListener::bind(address)
                .await
                .map(Self::Tcp)
                .with_context(|| format!("cannot listen on {address}")),
            Listen::Unix(path) => remove_abandoned(path)
                .await
                .and_then(|()| UnixListener::bind(path))
                .map(|listener| Self::Unix(listener, SocketFile::new(path)))
                .with_context(|| format!("cannot listen on {}", path.display())),
        }
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Box<dyn Duplex>> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // It fails where the peer has gone already, and that is soon found out.
                let _ = stream.set_nodelay(true);
                Box::new(stream)
            }
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "tcp://{address}"),
                Err(_) => f.write_str("tcp://"),
            },
            Self::Unix(_, file) => write!(f, "unix://{}", file.path.display()),
        }
    }
}

/// Removes a socket file whose listener has gone; leaves anything else alone.
async fn remove_abandoned(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(io::Error::other("the path is taken by something else than a socket")),
        Err(_) => return Ok(()),
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Ok(_) => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on this socket"))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses() {
        assert_eq!("unix:///run/s".parse(), Ok(Listen::Unix("/run/s".into())));
        let tcp = |address: &str| Ok(Listen::Tcp(address.parse().unwrap()));
        assert_eq!("tcp://127.0.0.1:1".parse(), tcp("127.0.0.1:1"));
        assert_eq!("tcp://localhost:1".parse(), tcp("127.0.0.1:1"));
        assert_eq!("tcp://[::1]:1".parse(), tcp("[::1]:1"));
        for wrong in ["", "unix://s", "tcp://", "tcp://h", "grpc://127.0.0.1:1", "127.0.0.1:1"] {
            assert_eq!(wrong.parse::<Listen>(), Err(InvalidListen), "{wrong}");
        }
    }

    #[test]
    fn only_loopback_is_safe_without_tls() {
        for (url, exposed) in [
            ("tcp://127.0.0.1:1", false),
            ("tcp://[::1]:1", false),
            ("unix:///s", false),
            ("tcp://0.0.0.0:1", true),
            ("tcp://10.0.0.1:1", true),
        ] {
            assert_eq!(url.parse::<Listen>().unwrap().is_exposed(), exposed, "{url}");
        }
    }
}

//! Streams, whatever they are made of.

use tokio::io::{AsyncRead, AsyncWrite};

/// Any stream to read from and to write to: TCP, TLS, a Unix socket.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

//! What goes over a connection, as far as hyper does not tell: that bytes come in, that an answer
//! has not left yet, and which streams of HTTP/2 the protocol's own layer refuses.
//!
//! The last two are read from the frames that leave. They are our own, so that their heads are to be
//! trusted.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use crate::metrics::{Metrics, RejectedConnection};

/// The stream of a connection.
pub(super) struct Wire<T> {
    stream: T,
    activity: Arc<Activity>,
    metrics: Option<Arc<Metrics>>,
    /// Whether the peer takes nothing at present, as `activity` was told.
    is_blocked: bool,
    /// Of HTTP/2 only.
    frames: Option<Frames>,
}

impl<T> Wire<T> {
    pub(super) fn new(
        stream: T,
        activity: Arc<Activity>,
        metrics: Option<Arc<Metrics>>,
        http2: bool,
    ) -> Self {
        let frames = http2.then(Frames::default);
        Self { stream, activity, metrics, is_blocked: false, frames }
    }

    /// Bytes have left.
    fn sent(&mut self, bytes: &[u8]) {
        let Self { frames: Some(frames), activity, metrics, .. } = self else { return };
        frames.read(bytes, |frame| match frame {
            Frame::EndOfAnswer => activity.answered(),
            Frame::Refusal(reason) => {
                if let Some(metrics) = metrics {
                    metrics.rejected_connection(reason);
                }
            }
        });
    }

    /// Whether all that was written has left, as the result of writing or flushing tells.
    fn noted<R>(&mut self, result: Poll<R>) -> Poll<R> {
        if self.is_blocked != result.is_pending() {
            self.is_blocked = result.is_pending();
            self.activity.blocked(self.is_blocked);
        }
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Wire<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.received();
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = result {
            self.sent(bytes.get(..written).unwrap_or(bytes));
        }
        self.noted(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(mut written)) = result {
            for slice in slices {
                let part = slice.get(..written).unwrap_or(slice);
                self.sent(part);
                written -= part.len();
            }
        }
        self.noted(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.noted(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.noted(result)
    }
}

/// A frame that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// The last one of an answer of the service.
    EndOfAnswer,
    /// The protocol's own layer has refused a stream.
    Refusal(RejectedConnection),
}

/// Where in the frames the bytes that have left end. RFC 9113, section 4.1.
#[derive(Debug, Default)]
struct Frames {
    /// The head of the frame that is under way, with the error code of an RST_STREAM.
    head: [u8; HEAD + ERROR_CODE],
    /// How much of it there is.
    filled: usize,
    /// How much of a payload is to come.
    payload: usize,
}

const HEAD: usize = 9;
const ERROR_CODE: usize = 4;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

impl Frames {
    fn read(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Frame)) {
        while let Some(rest) = bytes.get(self.payload.min(bytes.len())..) {
            self.payload -= bytes.len() - rest.len();
            let Some((byte, rest)) = rest.split_first() else { return };
            bytes = rest;
            self.head[self.filled] = *byte;
            self.filled += 1;
            let [high, middle, low, kind, flags, _, _, _, _, code @ ..] = self.head;
            let extra = if self.filled > 3 && kind == RST_STREAM { ERROR_CODE } else { 0 };
            if self.filled < HEAD + extra {
                continue;
            }
            self.filled = 0;
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            self.payload = length.saturating_sub(extra);
            match (kind, flags & END_STREAM != 0) {
                (DATA, true) => tell(Frame::EndOfAnswer),
                // An answer of the service ends with its body, always: this is a bare 431.
                (HEADERS, true) => tell(Frame::Refusal(RejectedConnection::HeaderSize)),
                (RST_STREAM, _)
                    if u32::from_be_bytes(code) == u32::from(h2::Reason::REFUSED_STREAM) =>
                {
                    tell(Frame::Refusal(RejectedConnection::MaxStreams));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
        [&length[..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn reset(reason: h2::Reason) -> Vec<u8> {
        frame(RST_STREAM, 0, &u32::from(reason).to_be_bytes())
    }

    #[test]
    fn frames_are_told_apart_however_the_bytes_leave() {
        let bytes = [
            frame(4, 1, &[]),
            frame(HEADERS, 4, b"a head that is followed by a body"),
            frame(DATA, 0, &[END_STREAM; 300]),
            frame(DATA, END_STREAM, b"the end"),
            frame(HEADERS, 4 | END_STREAM, b"431"),
            reset(h2::Reason::REFUSED_STREAM),
            reset(h2::Reason::NO_ERROR),
            // What only looks like one, as a payload.
            frame(DATA, 0, &reset(h2::Reason::REFUSED_STREAM)),
            frame(7, END_STREAM, &[0; 8]),
            frame(DATA, END_STREAM, &[]),
        ]
        .concat();
        let expected = [
            Frame::EndOfAnswer,
            Frame::Refusal(RejectedConnection::HeaderSize),
            Frame::Refusal(RejectedConnection::MaxStreams),
            Frame::EndOfAnswer,
        ];
        for size in 1..=bytes.len() {
            let mut frames = Frames::default();
            let mut told = Vec::new();
            for chunk in bytes.chunks(size) {
                frames.read(chunk, |frame| told.push(frame));
            }
            assert_eq!(told, expected, "{size} bytes at once");
        }
    }
}

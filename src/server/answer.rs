//! The body of an answer, as a connection sends it.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};

use super::activity::Activity;

/// A body that tells when it begins to leave. On HTTP/2 it ends its stream by itself even if it is
/// empty: what ends with its headers is then the protocol's own, and not an answer of the service.
pub(super) struct Answer {
    body: Full<Bytes>,
    /// On HTTP/2, until the body begins.
    beginning: Option<Arc<Activity>>,
}

impl Answer {
    pub(super) fn http1(body: Full<Bytes>) -> Self {
        Self { body, beginning: None }
    }

    pub(super) fn http2(body: Full<Bytes>, activity: Arc<Activity>) -> Self {
        Self { body, beginning: Some(activity) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(activity) = self.beginning.take() {
            activity.answering();
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.beginning.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

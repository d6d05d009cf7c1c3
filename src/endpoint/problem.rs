//! What was not invoked, as an HTTP response. `interface`, "HTTP errors".

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

use crate::{action::NotInvoked, metrics::RejectedRequest};

/// When a caller may try again, in seconds.
const RETRY_AFTER: &str = "1";

/// What was not invoked, as problem details (RFC 9457) of the default type, whose title is that of
/// the status.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) reason: RejectedRequest,
    pub(super) detail: String,
}

impl Problem {
    pub(super) fn new(reason: RejectedRequest, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    pub(super) fn forbidden() -> Self {
        Self::new(
            RejectedRequest::NotAllowed,
            "the client certificate is valid, but no --allow-client entry names it",
        )
    }

    pub(super) fn certificate_ended() -> Self {
        Self::new(RejectedRequest::CertificateEnded, "the client certificate is not accepted now")
    }

    pub(super) fn not_found() -> Self {
        Self::new(RejectedRequest::Path, "the endpoint is at another path")
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(RejectedRequest::Method, "action invocations are sent with POST")
    }

    pub(super) fn overloaded() -> Self {
        Self::new(
            RejectedRequest::MaxInFlight,
            "there are too many requests at once; nothing was changed",
        )
    }

    pub(super) fn not_invoked(not_invoked: &NotInvoked) -> Self {
        match not_invoked {
            NotInvoked::BadRequest(bad_request) => {
                Self::new(RejectedRequest::BadRequest, bad_request.to_string())
            }
            NotInvoked::StoreNotReached { source, .. } if source.is_busy() => Self::new(
                RejectedRequest::StoreBusy,
                "the user store has too much to do; nothing was changed",
            ),
            NotInvoked::StoreNotReached { .. } => Self::new(
                RejectedRequest::StoreNotReached,
                "the user store could not be reached; nothing was changed",
            ),
            NotInvoked::NoRandomness(_) => Self::new(
                RejectedRequest::NoRandomness,
                "the invocation could not be given an ID; nothing was changed",
            ),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self.reason {
            RejectedRequest::Incomplete | RejectedRequest::BadRequest => StatusCode::BAD_REQUEST,
            RejectedRequest::NotAllowed | RejectedRequest::CertificateEnded => {
                StatusCode::FORBIDDEN
            }
            RejectedRequest::Path => StatusCode::NOT_FOUND,
            RejectedRequest::Method => StatusCode::METHOD_NOT_ALLOWED,
            RejectedRequest::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            RejectedRequest::MaxBody => StatusCode::PAYLOAD_TOO_LARGE,
            RejectedRequest::NoRandomness => StatusCode::INTERNAL_SERVER_ERROR,
            RejectedRequest::MaxInFlight
            | RejectedRequest::StoreNotReached
            | RejectedRequest::StoreBusy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        #[derive(Serialize)]
        struct Details<'a> {
            title: &'a str,
            status: u16,
            detail: &'a str,
        }

        let status = self.status();
        let details = Details {
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: &self.detail,
        };
        // Two strings and a number always serialize.
        let body = serde_json::to_vec(&details).unwrap_or_default();
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        set_content_type(&mut response, "application/problem+json");
        let headers = response.headers_mut();
        match status {
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
            }
            _ => {}
        }
        response
    }
}

pub(super) fn set_content_type(response: &mut Response<Full<Bytes>>, content_type: &'static str) {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
}

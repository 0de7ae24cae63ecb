//! Everything that can be wrong with a request, as RFC 9457 tells it.
//!
//! A message says what is wrong, where, and what to do next. Codes are stable: people search for them.

use super::intake::IntakeError;
use super::limits::Limits;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Why a request, or one item of it, is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Problem {
    /// The text is no JSON.
    #[error("this is no JSON: {what} at line {line}, column {column}; send one object, a JSON array, or one object per line")]
    Malformed {
        /// What the parser stumbled over.
        what: String,
        /// Counted from 1.
        line: usize,
        /// Counted from 1. Unit: bytes.
        column: usize,
    },
    /// The body is no UTF-8.
    #[error("the body is no UTF-8 from byte {0} on: send JSON in UTF-8, payloads as base64 or hex")]
    NotUtf8(usize),
    /// The body broke off, or its compression is broken.
    #[error("the body could not be read to its end: send it whole, with a Content-Encoding that tells the truth")]
    Unreadable,
    /// The body came too slowly.
    #[error("the body had not arrived after {0} s: send it at once, or in smaller batches")]
    Slow(u64),
    /// No token came with the request.
    #[error("no token: set the header `Authorization: Bearer <token>`, or give the token as the password of HTTP Basic")]
    NoToken,
    /// Nobody has this token.
    #[error("this token is unknown: make one with `weir token`, and look for white space or quotes around it")]
    UnknownToken,
    /// Nobody has this token, nor had the many others that came from there.
    #[error(
        "this token is unknown, as were many others from this address: look at what sends there, and wait before you try again"
    )]
    Stranger {
        /// How long. Unit: seconds.
        wait_s: u32,
    },
    /// The token may only read.
    #[error("the token {0:?} may not write: use one that may (`weir token`)")]
    ReadOnly(String),
    /// No such path.
    #[error("nothing is here: uplinks go to /v1/ttn, /v1/chirpstack or /v1/uplinks")]
    NotFound,
    /// Not a POST.
    #[error("uplinks are sent with POST")]
    Method,
    /// The body is larger than it may be.
    #[error("the body has more than {limit} bytes after decompression: send smaller batches")]
    BodyTooLarge {
        /// [`Limits::body_bytes_max`].
        limit: usize,
    },
    /// The batch is longer than it may be.
    #[error("the batch has {count} items, more than {limit}: send smaller batches")]
    TooManyItems {
        /// How many came.
        count: usize,
        /// [`Limits::items_max`].
        limit: usize,
    },
    /// A part of an uplink is larger than it may be.
    #[error("{pointer} has {bytes} bytes, more than {limit}: send less at once")]
    TooLong {
        /// JSON pointer to the part.
        pointer: &'static str,
        /// How many came.
        bytes: usize,
        /// How many may come.
        limit: usize,
    },
    /// The body is not said to be JSON.
    #[error("the body is sent as {0:?}: set `Content-Type: application/json` (or application/x-ndjson) and send JSON")]
    MediaType(String),
    /// The body is compressed in a way that weir does not read.
    #[error("the body is encoded as {0:?}: send it plain or with `Content-Encoding: gzip`")]
    Encoding(String),
    /// Well-formed JSON that is no uplink.
    #[error("{what}{}", place(pointer))]
    Unusable {
        /// JSON pointer to what is wrong; empty for the whole.
        pointer: &'static str,
        /// What is wrong with it and what to do.
        what: String,
    },
    /// The log did not take the uplinks.
    #[error("nothing was accepted: {0}")]
    Refused(#[from] IntakeError),
    /// More is on its way in than fits in memory.
    #[error("nothing was accepted: too many bodies are on their way in; send again in a moment")]
    Crowded,
}

fn place(pointer: &str) -> String {
    if pointer.is_empty() { String::new() } else { format!(" (at {pointer})") }
}

impl Problem {
    /// Names what is wrong with a part of an uplink.
    pub(super) fn unusable(pointer: &'static str, what: impl Into<String>) -> Self {
        Self::Unusable { pointer, what: what.into() }
    }

    /// Sorts an error of the JSON parser: no JSON at all, or JSON of another shape.
    pub(super) fn from_json(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        // The parser's message ends with the place, and may quote a long text of the sender.
        let what = shorten(text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what));
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            serde_json::error::Category::Data => {
                Self::unusable("", format!("{what}, at line {line}, column {column} of the item"))
            }
            _ => Self::Malformed { what, line, column },
        }
    }

    /// Gives the status of a response that has only this to say.
    pub fn status(&self) -> StatusCode {
        self.facts().0
    }

    /// Gives the stable word for it.
    pub fn code(&self) -> &'static str {
        self.facts().1
    }

    fn facts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed { .. } => (StatusCode::BAD_REQUEST, "malformed_json", "Malformed JSON"),
            Self::NotUtf8(_) => (StatusCode::BAD_REQUEST, "not_utf8", "Not UTF-8"),
            Self::Unreadable => (StatusCode::BAD_REQUEST, "unreadable_body", "Body not readable"),
            Self::Slow(_) => (StatusCode::REQUEST_TIMEOUT, "slow_body", "Body too slow"),
            Self::NoToken => (StatusCode::UNAUTHORIZED, "no_token", "Token missing"),
            Self::UnknownToken => (StatusCode::UNAUTHORIZED, "unknown_token", "Token unknown"),
            Self::Stranger { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_unknown_tokens", "Too many unknown tokens"),
            Self::ReadOnly(_) => (StatusCode::FORBIDDEN, "read_only_token", "Token may not write"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "Nothing here"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "Body too large"),
            Self::TooManyItems { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_many_items", "Too many items"),
            Self::TooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_long", "Part too long"),
            Self::MediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", "Media type not supported"),
            Self::Encoding(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding", "Content encoding not supported"),
            Self::Unusable { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "unusable", "Not an uplink"),
            Self::Refused(IntakeError::Full) => (StatusCode::SERVICE_UNAVAILABLE, "log_full", "Log full"),
            Self::Refused(IntakeError::Busy) => (StatusCode::SERVICE_UNAVAILABLE, "log_busy", "Log busy"),
            Self::Refused(IntakeError::Clock) => (StatusCode::SERVICE_UNAVAILABLE, "clock_jumped", "Clock jumped"),
            Self::Refused(IntakeError::Stopping) => (StatusCode::SERVICE_UNAVAILABLE, "stopping", "Stopping"),
            Self::Refused(IntakeError::Failed) => (StatusCode::SERVICE_UNAVAILABLE, "log_failed", "Log not written"),
            Self::Refused(IntakeError::AboveShare) => (StatusCode::TOO_MANY_REQUESTS, "above_share", "More than a fair share"),
            Self::Refused(IntakeError::Abuse { .. }) => (StatusCode::TOO_MANY_REQUESTS, "far_over_quota", "Far over the quota"),
            Self::Refused(IntakeError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, "append_too_large", "Batch too large"),
            Self::Crowded => (StatusCode::SERVICE_UNAVAILABLE, "crowded", "Too much at once"),
        }
    }

    /// Gives the members that RFC 9457 names, with `code` and, where there is one, `pointer`.
    pub(super) fn document(&self) -> Document {
        let (status, code, title) = self.facts();
        let pointer = match self {
            Self::Unusable { pointer, .. } | Self::TooLong { pointer, .. } if !pointer.is_empty() => Some(*pointer),
            _ => None,
        };
        Document {
            kind: format!("urn:weir:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: self.to_string(),
            code,
            pointer,
        }
    }

    fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Refused(error) => error.retry_after_s(),
            Self::Stranger { wait_s } => Some(*wait_s),
            Self::Crowded => IntakeError::Busy.retry_after_s(),
            _ => None,
        }
    }

    pub(super) fn too_large(limits: &Limits) -> Self {
        Self::BodyTooLarge { limit: limits.body_bytes_max }
    }
}

/// A problem as it is sent.
#[derive(Clone, Serialize, Debug)]
pub(super) struct Document {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'static str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = problem_json(self.status(), &self.document());
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"weir\""));
        }
        if self == Self::Method {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

/// A response with the media type of problems.
pub(super) fn problem_json(status: StatusCode, document: &impl Serialize) -> Response {
    let mut response = (status, axum::Json(document)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

/// Cuts what is quoted from a sender to a length that fits in a message.
pub(super) fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 160;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

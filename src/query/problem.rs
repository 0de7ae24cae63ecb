//! Why a request gets no answer, as RFC 9457 `application/problem+json`: what is wrong, and what to do next.

use super::memory::MemoryError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dataflows::model::{DeviceId, Partition};
use serde_json::json;

/// Why a request gets no answer. What `Display` gives is the problem's `detail`.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("the request names no token that is known: send `Authorization: Bearer <token>`; `weir token add` makes one")]
    Unauthenticated,
    #[error("the token may not read: use one that may, or make one with `weir token add --read`")]
    Forbidden,
    #[error("parameter `{name}`: {why}")]
    Parameter { name: &'static str, why: String },
    #[error("no parameter is called `{name}`: known are {known}")]
    UnknownParameter { name: String, known: String },
    #[error("no device of this token's tenant is called `{0}`: check the DevEUI, and that the device has sent")]
    UnknownDevice(DeviceId),
    #[error("device `{device}` has no field `{field}`: it has {known}")]
    UnknownField { device: DeviceId, field: String, known: String },
    #[error("`from` is not before `to`: swap them, or ask for a later `to`")]
    EmptyRange,
    #[error("the answer would have more than {max} buckets{of}: ask for a shorter range, a wider step or fewer fields")]
    TooManyBuckets { max: usize, of: &'static str },
    #[error("the rows hold more than {max} bytes of text: ask for fewer with `limit`, or for fewer fields")]
    TooMuchText { max: usize },
    #[error("other requests take all the memory that answers may take: ask again in a moment, or for less")]
    Busy,
    #[error("field `{field}` holds {kind} values, which have no aggregates: ask for it with step=raw")]
    NotNumeric { field: String, kind: &'static str },
    #[error("aggregate `{name}` is not offered with step={step}: offered are {offered}{why}")]
    NotOffered { name: &'static str, step: String, offered: String, why: &'static str },
    #[error("this route is read with GET")]
    Method,
    #[error("{0}")]
    Memory(#[from] MemoryError),
    #[error("partition {0} is still replaying its log: ask again in a moment")]
    Replaying(Partition),
    #[error(
        "the database lacks records of partition {0} that are committed: it was put back, or is a replica that lags behind; ask again \
         in a moment, and name only servers in `database.url` that accept writes"
    )]
    OldTables(Partition),
    #[error("the database does not answer: ask again in a moment; weir's log names the cause")]
    Database,
    #[error("the database needed longer than {0} s: ask for a shorter range, a wider step or fewer fields")]
    TimedOut(u64),
}

/// Seconds after which a client may ask again what could not be answered now.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl Problem {
    /// Names a wrong parameter.
    pub(super) fn parameter(name: &'static str, why: impl ToString) -> Self {
        Self::Parameter { name, why: why.to_string() }
    }

    /// Gives the stable word, the title and the status.
    fn kind(&self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::Unauthenticated => ("unauthenticated", "No valid token", StatusCode::UNAUTHORIZED),
            Self::Forbidden => ("forbidden", "The token may not read", StatusCode::FORBIDDEN),
            Self::Parameter { .. } => ("bad_parameter", "A parameter cannot be read", StatusCode::BAD_REQUEST),
            Self::UnknownParameter { .. } => ("unknown_parameter", "Unknown parameter", StatusCode::BAD_REQUEST),
            Self::UnknownDevice(_) => ("unknown_device", "Unknown device", StatusCode::NOT_FOUND),
            Self::UnknownField { .. } => ("unknown_field", "Unknown field", StatusCode::NOT_FOUND),
            Self::EmptyRange => ("empty_range", "The range is empty", StatusCode::UNPROCESSABLE_ENTITY),
            Self::TooManyBuckets { .. } => ("too_many_buckets", "Too many buckets", StatusCode::UNPROCESSABLE_ENTITY),
            Self::TooMuchText { .. } => ("too_much_text", "Too much text", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Busy => ("busy", "Too many requests at once", StatusCode::SERVICE_UNAVAILABLE),
            Self::NotNumeric { .. } => ("not_numeric", "The field is not numeric", StatusCode::UNPROCESSABLE_ENTITY),
            Self::NotOffered { .. } => {
                ("aggregate_not_offered", "The step has no such aggregate", StatusCode::UNPROCESSABLE_ENTITY)
            }
            Self::Method => ("method_not_allowed", "Method not allowed", StatusCode::METHOD_NOT_ALLOWED),
            Self::Memory(MemoryError::Elsewhere(_)) => {
                ("partition_elsewhere", "Another process has the device", StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Memory(MemoryError::NotReady(_)) | Self::Replaying(_) => {
                ("replaying", "Not ready yet", StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::OldTables(_) => ("old_tables", "The database is behind", StatusCode::SERVICE_UNAVAILABLE),
            Self::Database => ("database", "The database does not answer", StatusCode::SERVICE_UNAVAILABLE),
            Self::TimedOut(_) => ("timeout", "The query took too long", StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (code, title, status) = self.kind();
        let body = json!({
            "type": format!("urn:weir:problem:{code}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.to_string(),
            "code": code,
        });
        let content_type = (header::CONTENT_TYPE, "application/problem+json");
        let mut response = (status, [content_type], body.to_string()).into_response();
        match status {
            StatusCode::UNAUTHORIZED => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            _ => {}
        }
        response
    }
}

//! Reads a body within its bounds: size after decompression, time, and room for all bodies together, which tenants share
//! fairly.

use super::fair::{FairRoom, NoRoom, Place};
use super::framing::Framing;
use super::intake::IntakeError;
use super::limits::Limits;
use super::problem::{Problem, shorten};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use dataflows::model::TenantNo;
use futures_util::StreamExt;

/// A whole body, with its place in the room until it is dropped.
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    _place: Place,
}

/// Reads a tenant's body to its end. It comes decompressed.
///
/// Errors: it is too large, too slow, breaks off, or there is no room for it.
pub(super) async fn read(body: Body, limits: &Limits, room: &FairRoom, tenant: TenantNo) -> Result<Whole, Problem> {
    let read = read_to_end(body, limits, room.enter(tenant));
    tokio::time::timeout(limits.body_timeout, read).await.unwrap_or(Err(Problem::Slow(limits.body_timeout.as_secs())))
}

async fn read_to_end(body: Body, limits: &Limits, mut place: Place) -> Result<Whole, Problem> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::Unreadable)?;
        if bytes.len() + chunk.len() > limits.body_bytes_max {
            return Err(Problem::too_large(limits));
        }
        place.grow(chunk.len()).map_err(|no_room| match no_room {
            NoRoom::Full => Problem::Crowded,
            NoRoom::AboveShare => IntakeError::AboveShare.into(),
        })?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(Whole { bytes, _place: place })
}

/// Checks what the headers say of a body, before any of it is read.
///
/// What is gzipped was unwrapped before this, and its header taken away.
///
/// Errors: it is no JSON, is compressed in an unknown way, or is too large already.
pub(super) fn check_headers(headers: &HeaderMap, limits: &Limits) -> Result<Framing, Problem> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).trim().to_ascii_lowercase();
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).map(text)
        && !matches!(encoding.as_str(), "identity" | "")
    {
        return Err(Problem::Encoding(shorten(&encoding)));
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limits.body_bytes_max) {
        return Err(Problem::too_large(limits));
    }
    let Some(media) = headers.get(header::CONTENT_TYPE).map(text) else { return Ok(Framing::Detect) };
    match media.split(';').next().unwrap_or_default().trim() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Framing::Lines),
        "application/json" | "text/json" | "" => Ok(Framing::Detect),
        json if json.ends_with("+json") => Ok(Framing::Detect),
        _ => Err(Problem::MediaType(shorten(&media))),
    }
}

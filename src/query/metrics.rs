//! What the endpoint counts and times.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use std::time::Instant;

/// Requests, by `route` and HTTP status `code`.
pub const REQUESTS_TOTAL: &str = "weir_query_requests_total";
/// Time from a request's head to its answer, by `route`. Unit: seconds.
pub const SECONDS: &str = "weir_query_seconds";

/// Counts and times a request.
pub(super) async fn measure(request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or_else(|| "unknown".to_owned(), |path| path.as_str().to_owned());
    let started = Instant::now();
    let response = next.run(request).await;
    metrics::histogram!(SECONDS, "route" => route.clone()).record(started.elapsed());
    let code = response.status().as_u16().to_string();
    metrics::counter!(REQUESTS_TOTAL, "route" => route, "code" => code).increment(1);
    response
}

//! The thin part over HTTP: authenticate, read, parse, accept, answer.
//!
//! What is read and refused comes in an order that costs least: the token and the headers are
//! checked before the body is read, and the body is read before the log is asked.

use super::answer::{Batch, Single, Status};
use super::body;
use super::fair::FairRoom;
use super::framing::{Framing, Items, split};
use super::intake::{Access, Intake};
use super::limits::Limits;
use super::problem::Problem;
use super::shape::{Context, Parsed, Shape};
use super::strangers::Strangers;
use super::{auth, chirpstack, metrics};
use crate::beside::beside_others;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use dataflows::model::{EventTime, Uplink};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::time::Instant;
use tower_http::decompression::RequestDecompressionLayer;

/// Gives the time at which something comes in.
pub type Clock = Arc<dyn Fn() -> EventTime + Send + Sync>;

/// Larger bodies take milliseconds to parse, in which whoever else waits for an answer is to have it. Unit: bytes.
const PARSED_BESIDE_BYTES: usize = 256 << 10;

struct Door<I> {
    intake: Arc<I>,
    limits: Limits,
    room: FairRoom,
    strangers: Strangers,
    clock: Clock,
}

/// Gives the ingest routes: `POST /v1/ttn`, `/v1/chirpstack` and `/v1/uplinks`. Each takes one
/// object, a JSON array, or one object per line, plain or gzipped.
///
/// It has a fallback that answers 404 as a problem, so a router that is merged with it has none.
pub fn router<I: Intake>(intake: Arc<I>, limits: Limits, clock: Clock) -> Router {
    let (room, strangers) = (FairRoom::new(limits.bodies_bytes_max), Strangers::default());
    let door = Arc::new(Door { intake, limits, room, strangers, clock });
    Router::new()
        .route("/v1/ttn", only_post(post(|door, request| receive::<I>(door, "ttn", Shape::Ttn, request))))
        .route(
            "/v1/chirpstack",
            only_post(post(|door, request: Request| {
                let event = chirpstack::Event::of_query(request.uri().query().unwrap_or_default());
                receive::<I>(door, "chirpstack", Shape::ChirpStack(event), request)
            })),
        )
        .route("/v1/uplinks", only_post(post(|door, request| receive::<I>(door, "uplinks", Shape::Own, request))))
        .fallback(async || Problem::NotFound)
        // An encoding that it does not know comes through, and is refused as a problem.
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        .with_state(door)
}

fn only_post<S: Clone + Send + Sync + 'static>(route: MethodRouter<S>) -> MethodRouter<S> {
    route.fallback(async || Problem::Method)
}

async fn receive<I: Intake>(State(door): State<Arc<Door<I>>>, route: &'static str, shape: Shape, request: Request) -> Response {
    let started = Instant::now();
    let response = door.receive(shape, request).await.unwrap_or_else(IntoResponse::into_response);
    metrics::request(route, response.status().as_u16(), started.elapsed());
    response
}

impl<I: Intake> Door<I> {
    async fn receive(&self, shape: Shape, request: Request) -> Result<Response, Problem> {
        let token = auth::token(request.headers())?;
        let access = self.intake.authenticate(&token).ok_or_else(|| self.unknown(&request))?;
        if !access.may_write {
            return Err(Problem::ReadOnly(access.name.to_string()));
        }
        self.intake.admits(&access)?;
        let framing = body::check_headers(request.headers(), &self.limits)?;
        let body = body::read(request.into_body(), &self.limits, &self.room, access.tenant).await?;
        metrics::body(body.bytes.len());
        let parse = || self.parse(shape, framing, &access, &body.bytes);
        let (uplinks, mut answer) = if body.bytes.len() > PARSED_BESIDE_BYTES { beside_others(parse) } else { parse() }?;
        drop(body);
        if !uplinks.is_empty() {
            let accepted = self.intake.accept(&access, uplinks).await?;
            answer.mark_over_quota(accepted.within_quota);
        }
        Ok(answer.count(shape).into_response())
    }

    /// Says that a token is unknown, or to wait before the next one.
    fn unknown(&self, request: &Request) -> Problem {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let wait_s = peer.and_then(|ConnectInfo(peer)| self.strangers.tried(peer.ip(), (self.clock)()));
        wait_s.map_or(Problem::UnknownToken, |wait_s| Problem::Stranger { wait_s })
    }

    /// Gives the uplinks of a body, and the answer that holds if the log takes them.
    fn parse(&self, shape: Shape, framing: Framing, access: &Access, body: &[u8]) -> Result<(Vec<Uplink>, Answer), Problem> {
        let decodes = |device: &_| self.intake.decodes(access, device);
        let context = Context { tenant: access.tenant, now: (self.clock)(), limits: &self.limits, decodes: &decodes };
        let mut uplinks = Vec::new();
        let mut parse = |item: &str| match shape.parse(item, &context)? {
            Parsed::Uplink(uplink) => {
                uplinks.push(*uplink);
                Ok(Status::Accepted)
            }
            Parsed::Skipped => Ok(Status::Skipped),
        };
        let answer = match split(body, framing, self.limits.items_max)? {
            Items::Single(item) => match parse(item) {
                Ok(status) => Answer::Single(Single { status, over_quota: false }),
                Err(problem) => {
                    metrics::items(shape, Status::Rejected, 1);
                    return Err(problem);
                }
            },
            Items::Batch(items) => {
                let mut batch = Batch::default();
                items.into_iter().for_each(|item| batch.push(parse(item)));
                Answer::Batch(batch)
            }
        };
        Ok((uplinks, answer))
    }
}

enum Answer {
    Single(Single),
    Batch(Batch),
}

impl Answer {
    /// Says that all accepted uplinks but the first so many are over a quota.
    fn mark_over_quota(&mut self, within: usize) {
        match self {
            Self::Single(single) => single.over_quota = single.status == Status::Accepted && within == 0,
            Self::Batch(batch) => batch.mark_over_quota(within),
        }
    }

    /// Counts the items, once it is certain that the answer holds.
    fn count(self, shape: Shape) -> Self {
        match &self {
            Self::Single(single) => {
                metrics::items(shape, single.status, 1);
                metrics::over_quota(usize::from(single.over_quota));
            }
            Self::Batch(batch) => {
                batch.counts().into_iter().for_each(|(status, count)| metrics::items(shape, status, count));
                metrics::over_quota(batch.over_quota());
            }
        }
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        match self {
            Self::Single(single) => single.into_response(),
            Self::Batch(batch) => batch.into_response(),
        }
    }
}

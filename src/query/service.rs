//! The routes, and the way of a request through the module.

use super::access::{Readers, authenticate};
use super::answer::{Answer, AnswerSeries};
use super::calendar::Buckets;
use super::catalogue::Catalogue;
use super::database::Database;
use super::groups::{Group, groups, numeric};
use super::memory::Memory;
use super::params::{self, Ask, Format};
use super::problem::Problem;
use super::rollup::{self, RollupAsk};
use super::room::{Place, Room};
use super::step::{Resolution, Step};
use super::{latest, metrics, raw, zone};
use axum::Router;
use axum::extract::{Query as Parameters, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dataflows::model::{EventTime, Partition, TenantNo};
use jiff::tz::TimeZone;
use std::sync::Arc;
use std::time::Duration;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> EventTime + Send + Sync>;

/// What a request can make the daemon do at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Raw points of an answer, where the request does not say.
    pub points_default: usize,
    /// Raw points of an answer, and buckets of all its series together.
    pub points_max: usize,
    /// Points of all answers that are made or sent at a time.
    pub points_together_max: usize,
    /// Text in the raw points of an answer. Unit: bytes.
    pub text_bytes_max: usize,
    /// Buckets of a series.
    pub buckets_max: usize,
    /// How long a request waits until others have left it room, and for the memory to come as far as the tables.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            points_default: 10_000,
            points_max: 1_000_000,
            points_together_max: 2_000_000,
            text_bytes_max: 64 << 20,
            buckets_max: 100_000,
            patience: Duration::from_secs(2),
        }
    }
}

/// All that the endpoint needs.
pub struct Query<M, R> {
    /// The workers' memory.
    pub memory: M,
    /// The tokens.
    pub readers: R,
    /// The tables.
    pub database: Database,
    /// How many partitions the log has.
    pub partitions: u16,
    /// What requests may ask.
    pub limits: Limits,
    /// Now.
    pub clock: Clock,
}

/// The endpoint with what its requests share.
struct Service<M, R> {
    query: Query<M, R>,
    room: Room,
}

/// Makes the routes `/v1/query` and `/v1/latest`.
///
/// It has no fallback, so that other routers can be merged with it.
pub fn router<M: Memory, R: Readers>(query: Query<M, R>) -> Router {
    let Limits { points_max, points_together_max, patience, .. } = query.limits;
    // The largest answer must have room when it is alone.
    let room = Room::new(points_together_max.max(points_max), patience);
    Router::new()
        .route("/v1/query", get(values::<M, R>).fallback(method))
        .route("/v1/latest", get(newest::<M, R>).fallback(method))
        .route_layer(axum::middleware::from_fn(metrics::measure))
        .with_state(Arc::new(Service { query, room }))
}

async fn method() -> Problem {
    Problem::Method
}

/// The pairs of a query string. Any text can be read as some.
type Pairs = Parameters<Vec<(String, String)>>;

async fn newest<M: Memory, R: Readers>(
    State(service): State<Arc<Service<M, R>>>,
    headers: HeaderMap,
    Parameters(pairs): Pairs,
) -> Result<Response, Problem> {
    let query = &service.query;
    let tenant = authenticate(&query.readers, &headers)?;
    let devices = params::latest(&pairs)?;
    latest::answer(&query.memory, &query.database, tenant, devices).await
}

async fn values<M: Memory, R: Readers>(
    State(service): State<Arc<Service<M, R>>>,
    headers: HeaderMap,
    Parameters(pairs): Pairs,
) -> Result<Response, Problem> {
    let tenant = authenticate(&service.query.readers, &headers)?;
    let ask = Ask::parse(&pairs)?;
    let format = ask.format.unwrap_or_else(|| accepted(&headers));
    let (answer, mut place) = service.query.answer(tenant, ask, &service.room).await?;
    place.shrink(answer.series.iter().map(|series| series.points.len()).sum());
    // A large answer is work for a while, and uplinks are acknowledged on these threads.
    let response = tokio::task::spawn_blocking(move || respond(&answer, format, place));
    Ok(response.await.expect("writing an answer does not panic"))
}

impl<M: Memory, R: Readers> Query<M, R> {
    async fn answer(&self, tenant: TenantNo, ask: Ask, room: &Room) -> Result<(Answer, Place), Problem> {
        let now = (self.clock)();
        let catalogue = self.database.catalogue(tenant, &ask.device).await?;
        // A name that is no zone counts as UTC, as it does where days are cut.
        let zone = ask.zone.clone().or_else(|| zone::zone(&catalogue.zone)).unwrap_or(TimeZone::UTC);
        let from = ask.from.resolve(&zone, now).map_err(|e| Problem::parameter("from", e))?;
        let to = ask.to.resolve(&zone, now).map_err(|e| Problem::parameter("to", e))?;
        if from >= to {
            return Err(Problem::EmptyRange);
        }
        let groups = groups(&ask.device, &catalogue.series, &ask.fields)?;
        let (place, series, next_from) = match ask.resolution {
            Resolution::Raw => {
                let limit = ask.limit.unwrap_or(self.limits.points_default).min(self.limits.points_max);
                let place = room.take(limit).await?;
                let limits = (limit, self.limits.text_bytes_max);
                let (series, next_from) = raw::rows(&self.database, catalogue.classes, groups, (from, to), limits).await?;
                (place, series, next_from)
            }
            Resolution::Step(step) => {
                let groups = numeric(groups, &ask.fields)?;
                let buckets = self.buckets(&zone, step, (from, to), groups.len())?;
                let place = room.take(buckets.len() * groups.len()).await?;
                (place, self.steps(&ask, step, catalogue, groups, &buckets, now).await?, None)
            }
        };
        let (columns, bucketed) = match ask.resolution {
            Resolution::Raw => (vec!["value"], false),
            Resolution::Step(_) => (ask.aggregates.iter().map(|aggregate| aggregate.as_str()).collect(), true),
        };
        let step = ask.resolution.to_string();
        Ok((Answer { device: ask.device, zone, step, from, to, columns, bucketed, series, next_from }, place))
    }

    fn buckets(
        &self,
        zone: &TimeZone,
        step: Step,
        (from, to): (EventTime, EventTime),
        groups: usize,
    ) -> Result<Buckets, Problem> {
        let max = self.limits.buckets_max;
        let buckets = Buckets::new(zone, step, from, to, max);
        let buckets = buckets.map_err(|_| Problem::TooManyBuckets { max, of: "" })?;
        match buckets.len() * groups {
            all if all > self.limits.points_max => {
                Err(Problem::TooManyBuckets { max: self.limits.points_max, of: " in all its series" })
            }
            _ => Ok(buckets),
        }
    }

    async fn steps(
        &self,
        ask: &Ask,
        step: Step,
        catalogue: Catalogue,
        groups: Vec<Group>,
        buckets: &Buckets,
        now: EventTime,
    ) -> Result<Vec<AnswerSeries>, Problem> {
        let Ask { aggregates, fill, .. } = ask;
        if let Step::Fine(_) = step {
            let mut series = Vec::with_capacity(groups.len());
            for group in groups {
                let held = raw::fine(&self.database, catalogue.classes.clone(), &group, buckets, now).await?;
                series.push(raw::fine_series(group, buckets, &held, aggregates, *fill, now));
            }
            return Ok(series);
        }
        let partition = Partition::of(&ask.device, self.partitions);
        let patience = self.limits.patience;
        let rollup = RollupAsk { partition, classes: &catalogue.classes, groups: &groups, buckets, step, patience };
        let sheet = rollup::read(&self.memory, &self.database, &rollup).await?;
        let finished = sheet.finish().zip(groups.iter().cloned());
        let series = finished
            .map(|((entries, approximate), group)| rollup::series(group, buckets, &entries, approximate, aggregates, *fill, now));
        Ok(series.collect())
    }
}

fn accepted(headers: &HeaderMap) -> Format {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.split(',').any(|kind| kind.trim().starts_with("text/csv")) { Format::Csv } else { Format::Json }
}

/// Says in CSV, which has no place for it, where to go on.
const NEXT_FROM: HeaderName = HeaderName::from_static("weir-next-from");

fn respond(answer: &Answer, format: Format, place: Place) -> Response {
    let (content_type, next_from, text) = match format {
        Format::Json => ("application/json", None, answer.json()),
        Format::Csv => {
            let next_from = answer.next_from.map(|at| (NEXT_FROM, zone::Rfc3339(at, &TimeZone::UTC).to_string()));
            ("text/csv; charset=utf-8", next_from, answer.csv())
        }
    };
    let head = [(header::CONTENT_TYPE, content_type.to_owned()), (header::CONTENT_LENGTH, text.len().to_string())];
    (head, next_from.map(|header| [header]), place.body(text)).into_response()
}

//! What the fuzzer asks of query strings.

use super::calendar::Buckets;
use super::params::{self, Ask};
use super::step::Resolution;
use axum::extract::Query;
use axum::http::Uri;
use dataflows::model::EventTime;
use jiff::tz::TimeZone;

const NOW: EventTime = EventTime(1_795_352_400_000_000);
const BUCKETS_MAX: usize = 1000;

/// Reads a query string as both routes do.
///
/// Panics: when its buckets are more than they may be, or do not find their own times.
pub fn ask(text: &str) {
    let Ok(uri) = Uri::builder().path_and_query(format!("/v1/query?{text}")).build() else { return };
    let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(&uri) else { return };
    if let Ok(devices) = params::latest(&pairs) {
        assert!(!devices.is_empty(), "a request without a device is refused");
    }
    let Ok(ask) = Ask::parse(&pairs) else { return };
    let zone = ask.zone.unwrap_or(TimeZone::UTC);
    let (Ok(from), Ok(to)) = (ask.from.resolve(&zone, NOW), ask.to.resolve(&zone, NOW)) else { return };
    let Resolution::Step(step) = ask.resolution else { return };
    if from >= to {
        return;
    }
    let Ok(buckets) = Buckets::new(&zone, step, from, to, BUCKETS_MAX) else { return };
    assert!((1..=BUCKETS_MAX).contains(&buckets.len()));
    for bucket in 0..buckets.len() {
        assert!(buckets.start(bucket) < buckets.end(bucket));
        assert_eq!(buckets.find(buckets.start(bucket)), Some(bucket));
    }
}

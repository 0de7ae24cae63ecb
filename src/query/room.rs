//! What all answers together may hold. Invariant: an answer has its room from before the first row is read until
//! the client has taken nearly all of it.

use super::problem::Problem;
use axum::body::{Body, Bytes};
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much of an answer is handed to the connection at once. Unit: bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// Room for so many points, shared by all requests.
pub(super) struct Room {
    points: Arc<Semaphore>,
    patience: Duration,
}

/// The room of one answer. Given back when it is dropped.
pub(super) struct Place(OwnedSemaphorePermit);

impl Room {
    /// Makes room for `points_max` points. A request waits for its place no longer than `patience`.
    pub(super) fn new(points_max: usize, patience: Duration) -> Self {
        Self { points: Arc::new(Semaphore::new(points_max.min(Semaphore::MAX_PERMITS))), patience }
    }

    /// Takes a place for `points_max` points.
    ///
    /// Errors: there is none in time.
    pub(super) async fn take(&self, points_max: usize) -> Result<Place, Problem> {
        let points = u32::try_from(points_max).unwrap_or(u32::MAX);
        let place = tokio::time::timeout(self.patience, Arc::clone(&self.points).acquire_many_owned(points)).await;
        place.map_err(|_| Problem::Busy).map(|place| Place(place.expect("it is never closed")))
    }
}

impl Place {
    /// Gives back what is beyond `points`.
    pub(super) fn shrink(&mut self, points: usize) {
        let surplus = self.0.num_permits().saturating_sub(points);
        drop(self.0.split(surplus));
    }

    /// Makes a body that holds the place until it is sent.
    pub(super) fn body(self, text: String) -> Body {
        let text = Bytes::from(text);
        Body::from_stream(stream::unfold((text, self), |(mut text, place)| async {
            let chunk = text.split_to(text.len().min(CHUNK_BYTES));
            (!chunk.is_empty()).then_some((Ok::<_, Infallible>(chunk), (text, place)))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_place_is_held_until_its_body_is_sent() {
        let room = Room::new(10, Duration::ZERO);
        let mut place = room.take(10).await.unwrap();
        assert!(matches!(room.take(1).await, Err(Problem::Busy)));
        place.shrink(6);
        drop(room.take(4).await.unwrap());
        let text = "x".repeat(3 * CHUNK_BYTES);
        let mut body = place.body(text.clone());
        let mut sent = 0;
        while let Some(chunk) = body.frame().await {
            sent += chunk.unwrap().into_data().unwrap().len();
            assert!(room.take(5).await.is_err(), "after {sent} bytes");
        }
        assert_eq!(sent, text.len());
        drop(room.take(10).await.unwrap());
    }
}

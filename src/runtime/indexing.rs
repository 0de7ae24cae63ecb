//! Decides when chunks get which index: see [`Indexer`].

use super::view::View;
use crate::log::Log;
use crate::store::Store;
use crate::store::maintenance::{Filling, Indexer};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How often the backlog is looked at in the steady state.
const PERIOD: Duration = Duration::from_millis(200);
/// How long chunks are left alone while there is a backlog and nothing is committed.
const BULK_PERIOD: Duration = Duration::from_secs(1);
/// Looks at the backlog for one look at the chunks in the steady state.
const STEADY_LOOKS: u32 = 50;
/// So many records are a backlog: several seconds of work. Unit: records.
const BACKLOG_BEGINS: u64 = 250_000;
/// At so few it is gone. Unit: records.
const BACKLOG_ENDS: u64 = 10_000;

/// Keeps the chunks indexed until it is dropped.
pub(super) async fn run(store: Store, log: Log, view: Arc<View>) {
    let mut indexer = Indexer::new(&store);
    let mut filling = None;
    let mut looks = 0;
    loop {
        match filling {
            // Who reads a series reads all rows that no summary speaks of: those of a commit get theirs at once.
            Some(Filling::Bulk) => drop(timeout(BULK_PERIOD, view.next_commit()).await),
            _ => sleep(PERIOD).await,
        }
        // Before the partitions are taken nobody knows what of the log is committed.
        let Some(backlog) = view.backlog(|partition| log.end(partition)) else { continue };
        let now = next(filling, backlog);
        looks += 1;
        if filling == Some(now) && now == Filling::Steady && looks < STEADY_LOOKS {
            continue;
        }
        (filling, looks) = (Some(now), 0);
        match indexer.round(now).await {
            Ok(Some(indexed)) => {
                view.chunks_waiting(indexed.waiting);
                for chunk in &indexed.built {
                    tracing::info!(%chunk, "the chunk has its index");
                }
                for postponed in &indexed.postponed {
                    tracing::warn!(%postponed, "an index is made later; reading is slower meanwhile");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the chunks' indexes are looked at later"),
        }
    }
}

/// Gives how rows come now, with as many records in the backlog.
fn next(before: Option<Filling>, backlog: u64) -> Filling {
    match before {
        _ if backlog >= BACKLOG_BEGINS => Filling::Bulk,
        Some(Filling::Bulk) if backlog >= BACKLOG_ENDS => Filling::Bulk,
        _ => Filling::Steady,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_commit_is_heard_of_once_also_by_who_was_busy() {
        let view = View::new(1);
        view.commit_rows(7);
        view.commit_rows(8);
        view.next_commit().await;
        let again = timeout(Duration::ZERO, view.next_commit()).await;
        assert!(again.is_err(), "both were heard of");
        view.commit_rows(9);
        view.next_commit().await;
    }

    #[test]
    fn a_backlog_lasts_until_it_is_nearly_gone() {
        let check = |before, backlog, expected| assert_eq!(next(before, backlog), expected, "{before:?} {backlog}");
        check(None, 0, Filling::Steady);
        check(None, BACKLOG_BEGINS - 1, Filling::Steady);
        check(None, BACKLOG_BEGINS, Filling::Bulk);
        check(Some(Filling::Steady), BACKLOG_BEGINS - 1, Filling::Steady);
        check(Some(Filling::Bulk), BACKLOG_ENDS, Filling::Bulk);
        check(Some(Filling::Bulk), BACKLOG_ENDS - 1, Filling::Steady);
    }
}

//! Taking partitions, and logs that do not belong to the tables.

use crate::fixture::{Fixture, LOG, PARTITION, commit};
use crate::on_every_server;
use crate::support::database::Kind;
use dataflows::model::{Offset, Outputs, Partition};
use uuid::Uuid;
use weir::store::{Checkpoint, Commit, Commits, StoreError};

const OTHER_LOG: Uuid = Uuid::from_u128(0x6f74686572);

/// Commits up to offset 10, with a checkpoint there.
async fn at_ten(kind: Kind) -> Fixture {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let checkpoint = Checkpoint { partition: PARTITION, offset: Offset(10), log: LOG, version: 1, state: vec![1] };
    let commit = Commit { checkpoint: Some(checkpoint), ..commit(taken, 10, Outputs::default()) };
    fixture.committer().await.commit(Commits(&[&commit])).await.unwrap();
    fixture
}

async fn a_new_database_begins_at_the_start(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.store.take("a", LOG, &[(Partition(0), Offset(0)), (PARTITION, Offset(5))]).await.unwrap();
    assert_eq!(taken.iter().map(|t| (t.partition.0, t.offset.0, t.owner_epoch)).collect::<Vec<_>>(), [(0, 0, 1), (3, 0, 1)]);
    assert_eq!(fixture.store.progress().await.unwrap()[1].log_time, None);
}

async fn a_foreign_log_is_refused(kind: Kind) {
    let fixture = at_ten(kind).await;
    let asked = [(Partition(0), Offset(1000)), (PARTITION, Offset(1000))];
    let error = fixture.store.take("b", OTHER_LOG, &asked).await.unwrap_err();
    assert!(matches!(error, StoreError::ForeignLog { partition: PARTITION, found: LOG, ours: OTHER_LOG }), "{error}");
    assert!(error.to_string().contains("weir log adopt"), "{error}");
    let progress = fixture.store.progress().await.unwrap();
    assert_eq!((progress.len(), progress[0].owner_epoch, &*progress[0].owner), (1, 1, "a"), "all or none are taken");
}

async fn a_log_that_ends_too_early_is_refused(kind: Kind) {
    let fixture = at_ten(kind).await;
    let error = fixture.store.take("b", LOG, &[(PARTITION, Offset(9))]).await.unwrap_err();
    assert!(matches!(error, StoreError::LogBehind { progress: Offset(10), log_end: Offset(9), .. }), "{error}");
    assert!(error.to_string().contains("weir log adopt"), "{error}");
    fixture.store.take("b", LOG, &[(PARTITION, Offset(10))]).await.unwrap();
}

on_every_server!(a_new_database_begins_at_the_start, a_foreign_log_is_refused, a_log_that_ends_too_early_is_refused,);

//! Going on with another log, with an old copy, with one that lost its beginning.

use crate::fixture::{Fixture, LOG, PARTITION, after, commit};
use crate::on_every_server;
use crate::support::database::Kind;
use dataflows::model::{Counts, Offset, Outputs, Partition};
use uuid::Uuid;
use weir::store::{Adoption, Checkpoint, Commit, Commits, Extent, LostRange, StoreError, Taken};

const OTHER_LOG: Uuid = Uuid::from_u128(0x6f74686572);

/// A log of the fixture's 16 partitions, empty but for [`PARTITION`].
fn extents(start: u64, end: u64) -> Vec<Extent> {
    let extent = |partition| match partition {
        PARTITION => Extent { partition, start: Offset(start), end: Offset(end) },
        partition => Extent { partition, start: Offset(0), end: Offset(0) },
    };
    (0..16).map(Partition).map(extent).collect()
}

/// The line of [`PARTITION`].
fn of_partition(adoptions: Vec<Adoption>) -> Adoption {
    adoptions.into_iter().find(|adoption| adoption.partition == PARTITION).unwrap()
}

/// Commits up to offset 10, with a checkpoint at 8.
async fn at_ten(kind: Kind) -> Fixture {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let checkpoint = Checkpoint { partition: PARTITION, offset: Offset(8), log: LOG, version: 1, state: vec![1] };
    let mut committer = fixture.committer().await;
    let first = Commit { checkpoint: Some(checkpoint), ..commit(taken, 8, Outputs::default()) };
    committer.commit(Commits(&[&first])).await.unwrap();
    committer.commit(Commits(&[&commit(after(taken, 8), 10, Outputs::default())])).await.unwrap();
    fixture
}

async fn take(fixture: &Fixture, log: Uuid, end: u64) -> Taken {
    fixture.store.take("b", log, &[(PARTITION, Offset(end))]).await.unwrap()[0]
}

async fn checkpoints(fixture: &Fixture, log: Uuid) -> Vec<(u64, bool)> {
    let stored = fixture.store.load_checkpoints(&[PARTITION], log).await.unwrap();
    stored.iter().map(|stored| (stored.offset.0, stored.precedes_adoption)).collect()
}

async fn a_log_that_was_left_goes_on_where_it_was(kind: Kind) {
    let fixture = at_ten(kind).await;
    let adoption = of_partition(fixture.store.adopt(OTHER_LOG, &extents(0, 4)).await.unwrap());
    assert_eq!((adoption.left, adoption.offset), (Some(LOG), Offset(0)));
    assert_eq!(adoption.lost, [LostRange { partition: PARTITION, log: LOG, from: Offset(10), to: None }]);
    let taken = take(&fixture, OTHER_LOG, 4).await;
    assert_eq!((taken.offset, taken.begins), (Offset(0), Offset(0)));
    assert_eq!(checkpoints(&fixture, OTHER_LOG).await, []);
    // The other log works, with a checkpoint of its own at the very offset.
    let mut committer = fixture.committer().await;
    let checkpoint = Checkpoint { partition: PARTITION, offset: Offset(8), log: OTHER_LOG, version: 1, state: vec![2] };
    committer.commit(Commits(&[&Commit { checkpoint: Some(checkpoint), ..commit(taken, 8, Outputs::default()) }])).await.unwrap();

    let back = of_partition(fixture.store.adopt(LOG, &extents(0, 12)).await.unwrap());
    assert_eq!((back.left, back.offset, back.state_begins), (Some(OTHER_LOG), Offset(10), None));
    assert_eq!(back.lost, [LostRange { partition: PARTITION, log: OTHER_LOG, from: Offset(8), to: None }]);
    assert_eq!(take(&fixture, LOG, 12).await.offset, Offset(10), "nothing is written twice");
    assert_eq!(checkpoints(&fixture, LOG).await, [(8, true)]);
    let progress = fixture.store.progress().await.unwrap();
    assert_eq!(progress[3].counts, Counts { uplinks: 10, ..Counts::default() });
    // And forth again.
    fixture.store.adopt(OTHER_LOG, &extents(0, 9)).await.unwrap();
    assert_eq!(take(&fixture, OTHER_LOG, 9).await.offset, Offset(8));
    assert_eq!(fixture.number("SELECT count(*) FROM log_left").await, 16, "only the one that is left");
}

async fn a_preview_changes_nothing(kind: Kind) {
    let fixture = at_ten(kind).await;
    let told = fixture.store.adoption(OTHER_LOG, &extents(2, 4)).await.unwrap();
    assert_eq!(fixture.number("SELECT count(*) FROM progress").await, 1);
    assert_eq!(take(&fixture, LOG, 10).await.owner_epoch, 2, "the daemon that owns it would not notice");
    let done = fixture.store.adopt(OTHER_LOG, &extents(2, 4)).await.unwrap();
    assert_eq!(told, done);
}

async fn a_log_without_its_beginning_begins_with_an_empty_state(kind: Kind) {
    let fixture = at_ten(kind).await;
    // The same log, restored from behind its retention.
    let adoption = of_partition(fixture.store.adopt(LOG, &extents(15, 20)).await.unwrap());
    assert_eq!((adoption.left, adoption.offset, adoption.state_begins), (None, Offset(15), Some(Offset(15))));
    assert_eq!(adoption.lost, [LostRange { partition: PARTITION, log: LOG, from: Offset(10), to: Some(Offset(15)) }]);
    let taken = take(&fixture, LOG, 20).await;
    assert_eq!((taken.offset, taken.begins), (Offset(15), Offset(15)));
    assert_eq!(checkpoints(&fixture, LOG).await, []);
    // Where only the checkpoint is gone, the state begins anew, but no row is lost or written twice.
    fixture.store.adopt(OTHER_LOG, &extents(0, 0)).await.unwrap();
    let adoption = of_partition(fixture.store.adopt(LOG, &extents(12, 20)).await.unwrap());
    assert_eq!((adoption.offset, adoption.state_begins), (Offset(15), None), "that it begins at 15 is remembered");
}

async fn a_shorter_log_goes_on_at_its_end(kind: Kind) {
    let fixture = at_ten(kind).await;
    let adoption = of_partition(fixture.store.adopt(LOG, &extents(0, 4)).await.unwrap());
    assert_eq!(adoption.lost, [LostRange { partition: PARTITION, log: LOG, from: Offset(4), to: Some(Offset(10)) }]);
    assert_eq!(fixture.number("SELECT count(*) FROM checkpoint").await, 0, "its state has seen what is gone");
    assert_eq!(take(&fixture, LOG, 4).await.offset, Offset(4));
    // The right log loses nothing.
    assert_eq!(of_partition(fixture.store.adopt(LOG, &extents(0, 4)).await.unwrap()).lost, []);
}

async fn another_number_of_partitions_is_refused(kind: Kind) {
    let fixture = at_ten(kind).await;
    let error = fixture.store.adopt(OTHER_LOG, &extents(0, 4)[..8]).await.unwrap_err();
    assert!(matches!(error, StoreError::PartitionCount { database: 16, asked: 8 }), "{error}");
}

on_every_server!(
    a_log_that_was_left_goes_on_where_it_was,
    a_preview_changes_nothing,
    a_log_without_its_beginning_begins_with_an_empty_state,
    a_shorter_log_goes_on_at_its_end,
    another_number_of_partitions_is_refused,
);

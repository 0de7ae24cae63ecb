//! Exactly once: stale owners, stale offsets, lost answers.

use crate::fixture::{Fixture, LOG, PARTITION, after, commit, numbers};
use crate::on_every_server;
use crate::support::database::Kind;
use crate::support::proxy::Proxy;
use dataflows::model::Offset;
use weir::store::{CommitError, Commits, Committer, Landing, Store, StoreConfig};

async fn a_stale_offset_is_fenced(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    let once = commit(taken, 1, numbers(0, &[1.0]));
    committer.commit(Commits(&[&once])).await.unwrap();
    let error = committer.commit(Commits(&[&once])).await.unwrap_err();
    assert!(matches!(error, CommitError::Fenced { partition: PARTITION }), "{error}");
    let beyond = commit(after(taken, 7), 8, numbers(7, &[1.0]));
    assert!(matches!(committer.commit(Commits(&[&beyond])).await, Err(CommitError::Fenced { .. })));
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 1);
    // The connection is good for the right one.
    committer.commit(Commits(&[&commit(after(taken, 1), 2, numbers(1, &[2.0]))])).await.unwrap();
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 2);
}

async fn a_second_daemon_fences_the_first(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let first = fixture.take().await;
    let mut committer = fixture.committer().await;
    committer.commit(Commits(&[&commit(first, 1, numbers(0, &[1.0]))])).await.unwrap();
    let second = fixture.store.take("b", LOG, &[(PARTITION, Offset(1000))]).await.unwrap()[0];
    assert_eq!((second.offset, second.owner_epoch), (Offset(1), first.owner_epoch + 1));
    let zombie = commit(after(first, 1), 2, numbers(1, &[2.0]));
    assert!(matches!(committer.commit(Commits(&[&zombie])).await, Err(CommitError::Fenced { .. })));
    fixture.committer().await.commit(Commits(&[&commit(second, 2, numbers(1, &[3.0]))])).await.unwrap();
    assert_eq!(fixture.texts("SELECT value::text FROM measurement ORDER BY 1").await, ["1", "3"]);
    assert_eq!(Commits(&[&zombie]).landing(&fixture.store.progress().await.unwrap()), Landing::Elsewhere);
}

async fn an_unfinished_commit_is_waited_for_then_fenced(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    // A commit of ours whose connection was cut lives on in the server.
    let ghost = fixture.database.client().await;
    ghost.batch_execute("BEGIN; UPDATE progress SET \"offset\" = 1").await.unwrap();
    let mut committer = fixture.committer().await;
    let again = commit(taken, 1, numbers(0, &[1.0]));
    let waiting = async {
        let blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        while fixture.number(blocked).await == 0 {
            tokio::task::yield_now().await;
        }
        ghost.batch_execute("COMMIT").await.unwrap();
    };
    let commits = [&again];
    let (outcome, ()) = tokio::join!(committer.commit(Commits(&commits)), waiting);
    assert!(matches!(outcome, Err(CommitError::Fenced { .. })), "{outcome:?}");
    assert_eq!(Commits(&[&again]).landing(&fixture.store.progress().await.unwrap()), Landing::Landed);
}

async fn a_lost_answer_doubles_nothing(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let proxy = Proxy::start(fixture.database.address()).await;
    let url = proxy.url(&fixture.database.url(), fixture.database.address());
    let store = Store::connect(StoreConfig::new(url)).await.unwrap();
    let mut committer = Committer::connect(&store).await.unwrap();
    let taken = fixture.take().await;
    // Partitions are made now: each is a COMMIT too.
    committer.commit(Commits(&[&commit(taken, 1, numbers(0, &[0.5]))])).await.unwrap();
    let first = commit(after(taken, 1), 2, numbers(1, &[1.0, 2.0]));
    assert_eq!(Commits(&[&first]).landing(&store.progress().await.unwrap()), Landing::Missed);

    proxy.lose_next_commit_answer();
    let error = committer.commit(Commits(&[&first])).await.unwrap_err();
    assert!(matches!(error, CommitError::Unknown(_)), "{error}");
    assert_eq!(Commits(&[&first]).landing(&store.progress().await.unwrap()), Landing::Landed);
    // A caller that does not ask is fenced.
    let error = committer.commit(Commits(&[&first])).await.unwrap_err();
    assert!(matches!(error, CommitError::Fenced { .. }), "{error}");
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 3);
    committer.commit(Commits(&[&commit(after(taken, 2), 3, numbers(2, &[3.0]))])).await.unwrap();
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 4);
}

async fn a_killed_connection_is_tried_again(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    committer.commit(Commits(&[&commit(taken, 1, numbers(0, &[1.0]))])).await.unwrap();
    let kill =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'weir' AND datname = current_database()";
    fixture.client.batch_execute(kill).await.unwrap();
    let next = commit(after(taken, 1), 2, numbers(1, &[2.0]));
    let mut tries = 0;
    loop {
        tries += 1;
        match committer.commit(Commits(&[&next])).await {
            Ok(_) => break,
            Err(CommitError::Retry(_)) if tries < 3 => {}
            Err(error) => panic!("try {tries}: {error}"),
        }
    }
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 2);
}

async fn a_commit_dropped_halfway_leaves_nothing(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    let first = commit(taken, 1, numbers(0, &[1.0]));
    // Somebody holds the table, so the commit is surely under way when it is dropped.
    let holder = fixture.database.client().await;
    holder.batch_execute("BEGIN; LOCK TABLE measurement IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let commits = [&first];
    tokio::select! {
        outcome = committer.commit(Commits(&commits)) => panic!("{outcome:?}"),
        () = async { while fixture.number(blocked).await == 0 { tokio::task::yield_now().await } } => {}
    }
    holder.batch_execute("COMMIT").await.unwrap();
    committer.commit(Commits(&[&first])).await.unwrap();
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 1);
}

on_every_server!(
    a_stale_offset_is_fenced,
    a_second_daemon_fences_the_first,
    an_unfinished_commit_is_waited_for_then_fenced,
    a_lost_answer_doubles_nothing,
    a_killed_connection_is_tried_again,
    a_commit_dropped_halfway_leaves_nothing,
);

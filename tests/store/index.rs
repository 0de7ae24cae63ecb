//! The indexes of chunks and partitions.

use crate::fixture::{DAY, DEVICE, Fixture, after, commit, placed, stored};
use crate::on_every_server;
use crate::support::database::Kind;
use dataflows::model::{ClassNo, EventTime, FieldNo, HOUR_US, Outputs, SeriesId, Stored};
use std::time::Duration;
use tokio::time::timeout;
use weir::store::maintenance::{Filling, Indexer};
use weir::store::{Commits, Taken};

/// What never takes so long.
const LONG: Duration = Duration::from_secs(60);
/// Rows of many series: more than a page.
const ROWS: u16 = 2_000;

/// The methods of the valid indexes by series of the chunks of `measurement`.
const METHODS: &str = "SELECT a.amname::text FROM pg_inherits i JOIN pg_index x ON x.indrelid = i.inhrelid \
    JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am a ON a.oid = c.relam \
    WHERE i.inhparent = 'measurement'::regclass AND x.indisvalid AND pg_get_indexdef(x.indexrelid) LIKE '%(series_id%' ORDER BY 1";

/// The columns of the chunks of `measurement` of which the planner has statistics.
const KNOWN: &str = "SELECT a.attname::text FROM pg_inherits i JOIN pg_statistic s ON s.starelid = i.inhrelid \
    JOIN pg_attribute a ON a.attrelid = s.starelid AND a.attnum = s.staattnum WHERE i.inhparent = 'measurement'::regclass ORDER BY 1";

/// Commits rows of one hour, and gives the partition's next place.
async fn fill(fixture: &Fixture, taken: Taken, hour: i64) -> Taken {
    let row = |field| Stored {
        class: ClassNo(0),
        series: SeriesId::new(DEVICE, FieldNo(field % 500)),
        at: EventTime(DAY + hour * HOUR_US + i64::from(field)),
        value: f64::from(field),
    };
    let offset = taken.offset.0;
    let numbers = (0..ROWS).map(|field| placed(offset, row(field))).collect();
    fixture
        .committer()
        .await
        .commit(Commits(&[&commit(taken, offset + 1, Outputs { numbers, ..Outputs::default() })]))
        .await
        .unwrap();
    after(taken, offset + 1)
}

async fn a_filled_chunk_gets_a_tree_and_an_empty_one_nothing(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let mut indexer = Indexer::new(&fixture.store);
    weir::store::maintenance::run_once(&fixture.store, dataflows::model::LogTime(DAY)).await.unwrap();
    let nothing = indexer.round(Filling::Steady).await.unwrap().unwrap();
    assert_eq!((nothing.built, nothing.waiting, fixture.texts(METHODS).await), (vec![], 0, vec![]));
    fill(&fixture, fixture.take().await, 0).await;
    let indexed = indexer.round(Filling::Steady).await.unwrap().unwrap();
    assert_eq!((indexed.built.len(), indexed.waiting, &*indexed.postponed), (1, 0, &[][..]));
    assert_eq!(fixture.texts(METHODS).await, ["btree"]);
    assert_eq!(indexer.round(Filling::Steady).await.unwrap().unwrap().built, [""; 0], "once");
    let bulk = indexer.round(Filling::Bulk).await.unwrap().unwrap();
    assert_eq!((bulk.waiting, fixture.texts(METHODS).await), (0, vec!["btree".to_owned()]), "a tree that is there stays");
}

async fn a_chunk_filled_from_a_backlog_gets_its_tree_when_that_is_gone(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let mut indexer = Indexer::new(&fixture.store);
    let mut taken = fill(&fixture, fixture.take().await, 0).await;
    let indexed = indexer.round(Filling::Bulk).await.unwrap().unwrap();
    assert_eq!((indexed.built, indexed.waiting, fixture.texts(METHODS).await), (vec![], 1, vec!["brin".to_owned()]));
    let summarize = "SELECT sum(brin_summarize_new_values(x.indexrelid))::bigint FROM pg_inherits i \
                     JOIN pg_index x ON x.indrelid = i.inhrelid WHERE i.inhparent = 'measurement'::regclass";
    for hour in 1..4 {
        taken = fill(&fixture, taken, hour).await;
        assert_eq!(indexer.round(Filling::Bulk).await.unwrap().unwrap().waiting, 1);
        // The range that is being filled may be summarized only once it is full.
        assert!(fixture.number(summarize).await <= 1, "what came since hour {hour} is summarized");
    }
    assert_eq!(fixture.texts(KNOWN).await, ["series_id", "ts"], "the planner knows how rows lie");
    let analyzed = "SELECT sum(s.analyze_count)::bigint FROM pg_inherits i JOIN pg_stat_all_tables s ON s.relid = i.inhrelid \
                    WHERE i.inhparent = 'measurement'::regclass";
    assert_eq!(fixture.number(analyzed).await, 1, "a few more rows do not make it look again");
    fill(&fixture, taken, 4).await;
    indexer.round(Filling::Bulk).await.unwrap();
    assert_eq!(fixture.number(analyzed).await, 2, "many more do");
    let done = indexer.round(Filling::Steady).await.unwrap().unwrap();
    assert_eq!((done.built.len(), done.waiting, fixture.texts(METHODS).await), (1, 0, vec!["btree".to_owned()]));
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 5 * i64::from(ROWS));
}

async fn whoever_keeps_a_chunk_open_keeps_nobody_from_writing(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let mut indexer = Indexer::new(&fixture.store);
    let taken = fill(&fixture, fixture.take().await, 0).await;
    indexer.round(Filling::Bulk).await.unwrap();
    let chunk =
        &fixture.texts("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'measurement'::regclass").await[0];
    let forgotten = fixture.database.client().await;
    forgotten.batch_execute(&format!("BEGIN; LOCK TABLE {chunk} IN ROW EXCLUSIVE MODE")).await.unwrap();
    let making = tokio::spawn(async move { indexer.round(Filling::Steady).await });
    // It waits for a while, in which a commit waits too, and then makes the index in the way that takes longer.
    let beside =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE INDEX CONCURRENTLY%'";
    while fixture.number(beside).await == 0 {
        tokio::task::yield_now().await;
    }
    fill(&fixture, taken, 1).await;
    assert!(!making.is_finished(), "the index waits for the transaction that is open");
    forgotten.batch_execute("COMMIT").await.unwrap();
    assert_eq!(making.await.unwrap().unwrap().unwrap().built.len(), 1);
    assert_eq!(fixture.texts(METHODS).await, ["btree"]);
}

async fn a_chunk_that_rests_gets_its_tree_while_the_backlog_lasts(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let mut indexer = Indexer::new(&fixture.store);
    let mut taken = fixture.take().await;
    let mut bulk = async |taken, hour| {
        let taken = fill(&fixture, taken, hour).await;
        (taken, indexer.round(Filling::Bulk).await.unwrap().unwrap())
    };
    // While rows come for both, neither rests.
    for _ in 0..10 {
        taken = bulk(taken, 0).await.0;
        taken = bulk(taken, 24).await.0;
    }
    assert_eq!(fixture.texts(METHODS).await, ["brin", "brin"]);
    let older =
        "SELECT i.inhrelid::regclass::text FROM pg_inherits i WHERE i.inhparent = 'measurement'::regclass ORDER BY i.inhrelid";
    let older = fixture.texts(older).await.remove(0);
    let mut built = Vec::new();
    for _ in 0..200 {
        let (then, indexed) = bulk(taken, 24).await;
        (taken, built) = (then, indexed.built);
        if !built.is_empty() {
            assert_eq!(indexed.waiting, 1);
            break;
        }
        assert_eq!(indexed.waiting, 2, "it waits until it has it");
    }
    assert_eq!(built, [older], "rows still come for the other");
    assert_eq!(fixture.texts(METHODS).await, ["brin", "btree"]);
    for _ in 0..30 {
        indexer.round(Filling::Bulk).await.unwrap();
    }
    assert_eq!(fixture.texts(METHODS).await, ["brin", "btree"], "where nothing comes at all, that is no rest");
    assert_eq!(indexer.round(Filling::Steady).await.unwrap().unwrap().built.len(), 1);
    assert_eq!(fixture.texts(METHODS).await, ["btree", "btree"]);
}

async fn what_is_made_over_a_lost_connection_keeps_nobody_waiting(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let mut indexer = Indexer::new(&fixture.store);
    let mut taken = fill(&fixture, fixture.take().await, 0).await;
    indexer.round(Filling::Bulk).await.unwrap();
    let chunk =
        &fixture.texts("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'measurement'::regclass").await[0];
    let forgotten = fixture.database.client().await;
    forgotten.batch_execute(&format!("BEGIN; LOCK TABLE {chunk} IN ROW EXCLUSIVE MODE")).await.unwrap();
    let beside = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                  AND query LIKE 'CREATE INDEX CONCURRENTLY%deduplicate_items%' AND wait_event_type = 'Lock'";
    let waits = async {
        while fixture.number(beside).await == 0 {
            taken = fill(&fixture, taken, 24).await;
            indexer.round(Filling::Bulk).await.unwrap();
        }
    };
    timeout(LONG, waits).await.expect("the chunk at rest is begun, and waits for whoever keeps it open");
    let first = "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database d ON d.oid = database \
                 WHERE datname = current_database() AND locktype = 'advisory' AND objid = 3) t";
    assert_eq!(fixture.number(first).await, 1);
    let goes_on = async { while !matches!(indexer.round(Filling::Bulk).await, Ok(Some(_))) {} };
    timeout(LONG, goes_on).await.expect("the other connection was given up too");
    forgotten.batch_execute("COMMIT").await.unwrap();
    assert_eq!(indexer.round(Filling::Steady).await.unwrap().unwrap().built.len(), 2);
}

async fn two_chunks_get_their_trees_at_a_time(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let mut indexer = Indexer::new(&fixture.store);
    let mut taken = fixture.take().await;
    for hour in [0, 1, 24] {
        taken = fill(&fixture, taken, hour).await;
    }
    // The larger one is begun first, and waits.
    let chunks = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'measurement'::regclass \
                  ORDER BY pg_relation_size(inhrelid) DESC";
    let larger = &fixture.texts(chunks).await[0];
    let forgotten = fixture.database.client().await;
    forgotten.batch_execute(&format!("BEGIN; LOCK TABLE {larger} IN ROW EXCLUSIVE MODE")).await.unwrap();
    let making = tokio::spawn(async move { indexer.round(Filling::Steady).await });
    let other = async {
        while fixture.texts(METHODS).await != ["btree"] {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, other).await.expect("the other chunk has not to wait for this one");
    forgotten.batch_execute("COMMIT").await.unwrap();
    assert_eq!(making.await.unwrap().unwrap().unwrap().built.len(), 2);
    assert_eq!(fixture.texts(METHODS).await, ["btree", "btree"]);
}

async fn commits_go_to_and_fro_through_the_series(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let mut committer = fixture.committer().await;
    let mut taken = fixture.take().await;
    for hour in 0..3 {
        let row = |series: u16, nth: i64| placed(taken.offset.0, stored(series, DAY + hour * HOUR_US + nth, f64::from(series)));
        let offset = taken.offset.0;
        let numbers = [row(1, 0), row(0, 0), row(1, 1), row(0, 1)];
        let outputs = Outputs { numbers: numbers.into(), ..Outputs::default() };
        committer.commit(Commits(&[&commit(taken, offset + 1, outputs)])).await.unwrap();
        taken = after(taken, offset + 1);
    }
    let sql = "SELECT value || ' ' || extract(microseconds FROM ts)::int FROM measurement ORDER BY ctid";
    let (up, down) = (["0 0", "0 1", "1 0", "1 1"], ["1 0", "1 1", "0 0", "0 1"]);
    assert_eq!(fixture.texts(sql).await, [up, down, up].concat());
}

async fn what_a_broken_off_making_left_is_made_anew(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let mut indexer = Indexer::new(&fixture.store);
    fill(&fixture, fixture.take().await, 0).await;
    indexer.round(Filling::Steady).await.unwrap();
    let spoil = "UPDATE pg_index SET indisvalid = false FROM pg_inherits i \
                 WHERE i.inhparent = 'measurement'::regclass AND indrelid = i.inhrelid";
    assert_eq!(fixture.client.execute(spoil, &[]).await.unwrap(), 1);
    assert_eq!(indexer.round(Filling::Steady).await.unwrap().unwrap().built.len(), 1);
    assert_eq!(fixture.texts(METHODS).await, ["btree"]);
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!(fixture.number(invalid).await, 0, "nothing is left over");
}

async fn one_daemon_makes_indexes_at_a_time(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let mut first = Indexer::new(&fixture.store);
    assert!(first.round(Filling::Steady).await.unwrap().is_some());
    assert_eq!(Indexer::new(&fixture.store).round(Filling::Steady).await.unwrap(), None);
    assert!(first.round(Filling::Steady).await.unwrap().is_some(), "it goes on");
}

on_every_server!(
    a_filled_chunk_gets_a_tree_and_an_empty_one_nothing,
    a_chunk_filled_from_a_backlog_gets_its_tree_when_that_is_gone,
    whoever_keeps_a_chunk_open_keeps_nobody_from_writing,
    a_chunk_that_rests_gets_its_tree_while_the_backlog_lasts,
    what_is_made_over_a_lost_connection_keeps_nobody_waiting,
    two_chunks_get_their_trees_at_a_time,
    commits_go_to_and_fro_through_the_series,
    what_a_broken_off_making_left_is_made_anew,
    one_daemon_makes_indexes_at_a_time,
);

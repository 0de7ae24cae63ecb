//! The upkeep of the tables.

use crate::fixture::{DAY, Fixture, after, commit, numbers, partial, placed, stored};
use crate::on_every_server;
use crate::support::database::Kind;
use dataflows::model::{BucketLevel, DAY_US, HOUR_US, LogTime, Outputs};
use weir::store::Commits;
use weir::store::maintenance::run_once;

const NOW: LogTime = LogTime(DAY + 12 * HOUR_US);

async fn chunks_are_made_ahead_of_time(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let report = run_once(&fixture.store, NOW).await.unwrap().unwrap();
    // Six tables, each for now and two intervals on.
    assert_eq!((report.made, &*report.postponed), (18, &[][..]));
    let again = run_once(&fixture.store, NOW).await.unwrap().unwrap();
    assert_eq!((again.made, &*again.postponed), (0, &[][..]));
    assert_eq!(
        run_once(&fixture.store, LogTime(NOW.0 + DAY_US)).await.unwrap().unwrap().made,
        3,
        "the raw tables have daily ones"
    );
    for table in ["measurement", "measurement_text", "measurement_location", "rollup_1h", "rollup_1d", "quarantine"] {
        assert_eq!(fixture.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
}

async fn a_shorter_interval_fits_between(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    run_once(&fixture.store, NOW).await.unwrap();
    if kind == Kind::Plain {
        fixture.client.batch_execute("UPDATE retention_class SET chunk_interval = '8 hours'").await.unwrap();
        let report = run_once(&fixture.store, LogTime(NOW.0 + 2 * DAY_US)).await.unwrap().unwrap();
        assert_eq!((report.made, &*report.postponed), (3, &[][..]), "the third day is there; of the next, one part is needed");
    }
}

async fn merging_partials_changes_no_answer(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let bucket = DAY - 3 * HOUR_US;
    let (hour, day) = (BucketLevel::Hour, BucketLevel::Day);
    let partials = vec![
        placed(0, partial(hour, bucket, (bucket + 5, 3, 1.0), (bucket + 9, 4, 8.0))),
        // Late: the same first time with a lower offset, the same last time with a higher one.
        placed(0, partial(hour, bucket, (bucket + 5, 2, 2.5), (bucket + 9, 7, 16.0))),
        placed(0, partial(hour, bucket, (bucket + 6, 8, -4.0), (bucket + 7, 8, 0.5))),
        placed(0, partial(hour, DAY + 11 * HOUR_US, (DAY + 11 * HOUR_US, 9, 1.0), (DAY + 11 * HOUR_US, 9, 1.0))),
        placed(0, partial(hour, DAY + 11 * HOUR_US, (DAY + 11 * HOUR_US, 9, 1.0), (DAY + 11 * HOUR_US, 9, 1.0))),
        placed(0, partial(day, DAY - 2 * DAY_US, (DAY - 2 * DAY_US, 3, 1.0), (DAY - DAY_US - 1, 4, 8.0))),
        placed(0, partial(day, DAY - 2 * DAY_US, (DAY - 2 * DAY_US, 2, 3.0), (DAY - DAY_US - 1, 5, 9.0))),
    ];
    fixture.committer().await.commit(Commits(&[&commit(taken, 1, Outputs { partials, ..Outputs::default() })])).await.unwrap();
    let answers = "SELECT m::text FROM rollup_1h_merged m UNION ALL SELECT m::text FROM rollup_1d_merged m ORDER BY 1";
    let before = fixture.texts(answers).await;
    assert!(
        before[1].ends_with(",6,24,-4,16,2.5,\"2026-11-21 21:00:00.000005+00\",2,16,\"2026-11-21 21:00:00.000009+00\",7)"),
        "{before:?}"
    );
    let report = run_once(&fixture.store, NOW).await.unwrap().unwrap();
    assert_eq!((report.merged, &*report.postponed), (3, &[][..]));
    assert_eq!(fixture.texts(answers).await, before);
    assert_eq!(fixture.number("SELECT count(*) FROM rollup_1h").await, 3, "the open bucket is left alone");
    assert_eq!(fixture.number("SELECT count(*) FROM rollup_1d").await, 1);
    assert_eq!(run_once(&fixture.store, NOW).await.unwrap().unwrap().merged, 0);
}

async fn old_windows_are_looked_at_in_turn(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let bucket = DAY - 10 * DAY_US;
    let partials = vec![placed(0, partial(BucketLevel::Hour, bucket, (bucket, 3, 1.0), (bucket, 4, 8.0))); 2];
    fixture.committer().await.commit(Commits(&[&commit(taken, 1, Outputs { partials, ..Outputs::default() })])).await.unwrap();
    let mut merged = 0;
    // The chunk begins up to a week before the bucket, and each round takes a day of it.
    for _ in 0..8 {
        merged += run_once(&fixture.store, NOW).await.unwrap().unwrap().merged;
    }
    assert_eq!(merged, 1);
}

async fn retention_drops_only_what_is_old(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut numbers: Vec<_> = (0..10).map(|day| placed(0, stored(0, DAY - day * DAY_US, day as f64))).collect();
    fixture.client.batch_execute("INSERT INTO retention_class (class_no, name) VALUES (1, 'long')").await.unwrap();
    for day in 0..10 {
        let mut row = stored(0, DAY - day * DAY_US, day as f64);
        row.class.0 = 1;
        numbers.push(placed(0, row));
    }
    let old = DAY - 100 * DAY_US;
    let partials = vec![placed(0, partial(BucketLevel::Hour, old, (old, 3, 1.0), (old, 4, 8.0)))];
    fixture
        .committer()
        .await
        .commit(Commits(&[&commit(taken, 1, Outputs { numbers, partials, ..Outputs::default() })]))
        .await
        .unwrap();

    assert_eq!(run_once(&fixture.store, NOW).await.unwrap().unwrap().dropped, [""; 0], "nothing is dropped unless asked");
    fixture.client.batch_execute("UPDATE retention_class SET raw_retention = '5 days' WHERE class_no = 0").await.unwrap();
    let report = run_once(&fixture.store, NOW).await.unwrap().unwrap();
    assert_eq!((report.dropped.len(), &*report.postponed), (4, &[][..]), "{report:?}");
    // The day that is past in part is whole.
    assert_eq!(fixture.texts("SELECT value::text FROM measurement ORDER BY ts DESC").await, ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(fixture.number("SELECT count(*) FROM measurement_long").await, 10);
    assert_eq!(fixture.number("SELECT count(*) FROM rollup_1h").await, 1, "rollups have a retention of their own");
    fixture.client.batch_execute("UPDATE retention_class SET rollup_retention = '30 days'").await.unwrap();
    run_once(&fixture.store, NOW).await.unwrap();
    assert_eq!(fixture.number("SELECT count(*) FROM rollup_1h").await, 0);
}

async fn a_clock_that_is_ahead_drops_nothing(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    fixture.client.batch_execute("UPDATE retention_class SET raw_retention = '5 days'").await.unwrap();
    fixture.committer().await.commit(Commits(&[&commit(taken, 1, numbers(0, &[1.0, 2.0]))])).await.unwrap();
    let in_a_year = LogTime(NOW.0 + 365 * DAY_US);
    assert_eq!(run_once(&fixture.store, in_a_year).await.unwrap().unwrap().dropped, [""; 0]);
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 2);
    // Log time has passed too.
    let taken = after(taken, 1);
    let mut later = commit(taken, 2, numbers(1, &[]));
    later.advances[0].log_time = LogTime(in_a_year.0 - DAY_US);
    fixture.committer().await.commit(Commits(&[&later])).await.unwrap();
    run_once(&fixture.store, in_a_year).await.unwrap();
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 0);
}

async fn a_partition_without_bounds_is_a_partition(kind: Kind) {
    if kind != Kind::Plain {
        // Chunks always have bounds.
        return;
    }
    let fixture = Fixture::new(kind).await;
    let by_hand = "CREATE TABLE early PARTITION OF measurement FOR VALUES FROM (MINVALUE) TO ('2026-11-22'); \
                   CREATE TABLE late PARTITION OF measurement FOR VALUES FROM ('2027-01-01') TO (MAXVALUE)";
    fixture.client.batch_execute(by_hand).await.unwrap();
    let taken = fixture.take().await;
    let days = [-400, 0, 30, 400];
    let numbers = days.map(|day| placed(0, stored(0, DAY + day * DAY_US, day as f64))).to_vec();
    let committed =
        fixture.committer().await.commit(Commits(&[&commit(taken, 1, Outputs { numbers, ..Outputs::default() })])).await.unwrap();
    assert_eq!((committed.rows, committed.refused), (4, vec![]));
    run_once(&fixture.store, NOW).await.unwrap();
}

async fn an_interval_without_bounds_stops_nothing(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let set = "UPDATE retention_class SET raw_retention = '250000 years'";
    assert!(fixture.client.batch_execute(set).await.is_err(), "the schema bounds it");
    let drop = "DO $$ DECLARE c name; BEGIN FOR c IN SELECT conname FROM pg_constraint \
                WHERE conrelid = 'retention_class'::regclass AND contype = 'c' \
                LOOP EXECUTE format('ALTER TABLE retention_class DROP CONSTRAINT %I', c); END LOOP; END $$";
    fixture.client.batch_execute(drop).await.unwrap();
    fixture.client.batch_execute("UPDATE retention_class SET raw_retention = '250000 years'").await.unwrap();
    let taken = fixture.take().await;
    fixture.committer().await.commit(Commits(&[&commit(taken, 1, numbers(0, &[1.0]))])).await.unwrap();
    run_once(&fixture.store, NOW).await.unwrap();
    let mut client = fixture.database.client().await;
    let read = weir::registry::tables::read(&mut client, |_| true).await.unwrap();
    assert_eq!(read.wanted.kept_tenants.len(), 1);
    assert!(read.bad[0].to_string().contains("raw_retention is out of bounds"), "{}", read.bad[0]);
}

async fn one_daemon_at_a_time(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let lock = "SELECT pg_advisory_lock(classid::bigint << 32 | objid::bigint) FROM (VALUES (2003134834::oid, 2::oid)) l (classid, objid)";
    fixture.client.batch_execute(lock).await.unwrap();
    assert_eq!(run_once(&fixture.store, NOW).await.unwrap(), None);
    fixture.client.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    assert!(run_once(&fixture.store, NOW).await.unwrap().is_some());
}

async fn a_table_in_use_is_left_for_the_next_round(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    fixture.client.batch_execute("BEGIN; LOCK TABLE measurement_text IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let report = run_once(&fixture.store, NOW).await.unwrap().unwrap();
    assert_eq!(report.made, 15, "{report:?}");
    assert_eq!(report.postponed.len(), 3, "{report:?}");
    fixture.client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(run_once(&fixture.store, NOW).await.unwrap().unwrap().made, 3);
}

on_every_server!(
    chunks_are_made_ahead_of_time,
    a_shorter_interval_fits_between,
    merging_partials_changes_no_answer,
    old_windows_are_looked_at_in_turn,
    retention_drops_only_what_is_old,
    a_clock_that_is_ahead_drops_nothing,
    a_partition_without_bounds_is_a_partition,
    an_interval_without_bounds_stops_nothing,
    one_daemon_at_a_time,
    a_table_in_use_is_left_for_the_next_round,
);

//! The columnstore of TimescaleDB Community: what goes there when, and that nothing reads otherwise for it.

use crate::fixture::{DAY, Fixture, after, commit, numbers, partial, placed, stored};
use crate::support::database::Kind;
use dataflows::model::{BucketLevel, DAY_US, HOUR_US, LogTime, Outputs, Partial, Placed};
use weir::store::maintenance::{Report, run_once};
use weir::store::{Commit, CommitError, Commits, Taken};

/// Three days behind the rows of most tests.
const NOW: LogTime = LogTime(DAY + 3 * DAY_US + 12 * HOUR_US);

/// A database with a columnstore, or none where there is no server that has one.
async fn fixture() -> Option<Fixture> {
    Some(Fixture::new(Kind::community()?).await)
}

impl Fixture {
    /// Commits rows at log time [`NOW`]; their chunks look as if they had been made long ago.
    async fn filled(&self, taken: Taken, to: u64, outputs: Outputs) -> Taken {
        self.committer().await.commit(Commits(&[&at(NOW, commit(taken, to, outputs))])).await.unwrap();
        self.client
            .batch_execute("UPDATE _timescaledb_catalog.chunk SET creation_time = creation_time - interval '2 hours'")
            .await
            .unwrap();
        after(taken, to)
    }

    async fn upkeep(&self, now: LogTime) -> Report {
        let report = run_once(&self.store, now).await.unwrap().unwrap();
        assert_eq!(report.postponed, [""; 0]);
        report
    }

    /// The chunks of `measurement` that are wholly in the columnstore (1) or in some other state.
    async fn states(&self) -> Vec<String> {
        let sql = "SELECT c.status::text FROM _timescaledb_catalog.chunk c JOIN timescaledb_information.chunks i \
                   ON (c.schema_name, c.table_name) = (i.chunk_schema, i.chunk_name) \
                   WHERE i.hypertable_name = 'measurement' AND i.range_start < '2026-11-25' ORDER BY i.range_start";
        self.texts(sql).await
    }

    /// The different values of `measurement`, minute by minute.
    async fn values(&self) -> Vec<String> {
        let sql = "SELECT value::text FROM (SELECT DISTINCT value, date_trunc('minute', ts) AS at FROM measurement) m ORDER BY at, value";
        assert_eq!(self.number("SELECT count(*) % 10 FROM measurement WHERE ts::time >= '12:00'").await, 0);
        self.texts(sql).await
    }
}

/// A commit whose last record the log took in at `log_time`.
fn at(log_time: LogTime, mut commit: Commit) -> Commit {
    commit.advances[0].log_time = log_time;
    commit
}

/// So many rows of a series are worth a segment.
const WORTH: i64 = 10;

/// Rows in the middle of each of these days, counted from [`DAY`], with the day as value.
fn of_days(days: impl IntoIterator<Item = i64>) -> Outputs {
    let row = |day: i64, nth: i64| placed(0, stored(0, DAY + day * DAY_US + 12 * HOUR_US + nth, day as f64));
    let numbers = days.into_iter().flat_map(|day| (0..WORTH).map(move |nth| row(day, nth))).collect();
    Outputs { numbers, ..Outputs::default() }
}

#[tokio::test]
async fn closed_chunks_go_to_the_columnstore_once() {
    let Some(fixture) = fixture().await else { return };
    let taken = fixture.take().await;
    fixture.filled(taken, 1, of_days(-1..3)).await;
    let report = fixture.upkeep(NOW).await;
    // A chunk is closed two days after its end: those of the day before DAY and of DAY.
    assert_eq!((report.compressed.len(), fixture.states().await), (2, vec!["1".into(), "1".into(), "0".into(), "0".into()]));
    assert_eq!(fixture.values().await, ["-1", "0", "1", "2"]);
    assert_eq!(fixture.upkeep(NOW).await.compressed, [""; 0]);
}

#[tokio::test]
async fn late_rows_join_the_columnstore_after_a_while() {
    let Some(fixture) = fixture().await else { return };
    let taken = fixture.take().await;
    let taken = fixture.filled(taken, 1, of_days([0])).await;
    fixture.upkeep(NOW).await;
    let taken = fixture.filled(taken, 2, numbers(1, &[5.0, 6.0])).await;
    assert_eq!((fixture.values().await, fixture.states().await), (vec!["5".into(), "6".into(), "0".into()], vec!["9".into()]));
    assert_eq!(fixture.upkeep(NOW).await.compressed, [""; 0], "late rows are not worth a rewrite each time");
    let later = LogTime(NOW.0 + 6 * HOUR_US);
    fixture.committer().await.commit(Commits(&[&at(later, commit(taken, 3, Outputs::default()))])).await.unwrap();
    assert_eq!(fixture.upkeep(later).await.compressed.len(), 1);
    assert_eq!((fixture.values().await, fixture.states().await), (vec!["5".into(), "6".into(), "0".into()], vec!["1".into()]));
}

#[tokio::test]
async fn each_class_says_when() {
    let Some(fixture) = fixture().await else { return };
    let class = "INSERT INTO retention_class (class_no, name, compress_after) VALUES (1, 'never', NULL), (2, 'soon', '1 minute')";
    fixture.client.batch_execute(class).await.unwrap();
    fixture.client.batch_execute("UPDATE tenant SET lateness_horizon = '4 hours'").await.unwrap();
    let taken = fixture.take().await;
    let mut outputs = of_days([0, 2, 0, 2, 0, 2]);
    outputs.numbers.iter_mut().enumerate().for_each(|(nth, number)| number.row.class.0 = (nth as i64 / (2 * WORTH)) as u16);
    fixture.filled(taken, 1, outputs).await;
    let state = "SELECT string_agg(i.is_compressed::text, ' ' ORDER BY i.hypertable_name, i.range_start) \
                 FROM timescaledb_information.chunks i WHERE i.range_start < '2026-11-25' AND i.hypertable_name LIKE 'measurement%'";
    let to = LogTime(DAY + 3 * DAY_US + 8 * HOUR_US);
    fixture.upkeep(to).await;
    assert_eq!(fixture.texts(state).await, ["true false false false true false"], "two horizons and an hour may still come");
    fixture.upkeep(LogTime(to.0 + HOUR_US)).await;
    assert_eq!(fixture.texts(state).await, ["true false false false true true"]);
    let enabled =
        "SELECT compression_enabled::text FROM timescaledb_information.hypertables WHERE hypertable_name = 'measurement_never'";
    assert_eq!(fixture.texts(enabled).await, ["false"], "one that goes nowhere is not set up");
}

#[tokio::test]
async fn neither_a_new_chunk_nor_one_of_the_days_that_a_replay_has_reached_is_closed() {
    let Some(fixture) = fixture().await else { return };
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    committer.commit(Commits(&[&at(LogTime(DAY + DAY_US), commit(taken, 1, of_days([0])))])).await.unwrap();
    let age = "UPDATE _timescaledb_catalog.chunk SET creation_time = creation_time - interval '2 hours'";
    fixture.client.batch_execute(age).await.unwrap();
    assert_eq!(fixture.upkeep(NOW).await.compressed, [""; 0], "the clock is ahead of the log");
    let taken = after(taken, 1);
    let mut history = of_days([-9]);
    history.numbers.iter_mut().for_each(|number| number.offset.0 = 1);
    committer.commit(Commits(&[&at(NOW, commit(taken, 2, history))])).await.unwrap();
    assert_eq!(fixture.upkeep(NOW).await.compressed.len(), 1, "of the old day more may be on its way");
    assert_eq!(fixture.states().await, ["0", "1"]);
}

/// A partial of each hour of an old morning, of the record at `offset`.
fn partials(offset: u64) -> Vec<Placed<Partial>> {
    let bucket = |hour: i64| DAY - 20 * DAY_US + hour * HOUR_US;
    let of = |start: i64| placed(offset, partial(BucketLevel::Hour, start, (start, 3, 1.0), (start, 4, 8.0)));
    (0..WORTH).map(|hour| of(bucket(hour))).collect()
}

#[tokio::test]
async fn a_chunk_that_would_grow_stays_in_rows() {
    let Some(fixture) = fixture().await else { return };
    let taken = fixture.take().await;
    let mut outputs = of_days([0]);
    outputs.numbers.pop();
    fixture.filled(taken, 1, outputs).await;
    assert_eq!(fixture.upkeep(NOW).await.compressed, [""; 0]);
    assert_eq!(fixture.states().await, ["0"]);
}

#[tokio::test]
async fn partials_are_merged_before() {
    let Some(fixture) = fixture().await else { return };
    let taken = fixture.take().await;
    fixture.filled(taken, 1, Outputs { partials: [partials(0), partials(0)].concat(), ..Outputs::default() }).await;
    let answer = "SELECT m::text FROM rollup_1h_merged m";
    let before = fixture.texts(answer).await;
    let report = fixture.upkeep(NOW).await;
    assert_eq!((report.merged, report.compressed.len()), (10, 1));
    assert_eq!(fixture.number("SELECT count(*) FROM rollup_1h").await, WORTH);
    assert_eq!(fixture.texts(answer).await, before);
}

#[tokio::test]
async fn a_late_partial_beside_the_columnstore_reads_as_merged() {
    let Some(fixture) = fixture().await else { return };
    let taken = fixture.take().await;
    let taken = fixture.filled(taken, 1, Outputs { partials: partials(0), ..Outputs::default() }).await;
    assert_eq!(fixture.upkeep(NOW).await.compressed.len(), 1);
    fixture.filled(taken, 2, Outputs { partials: partials(1), ..Outputs::default() }).await;
    fixture.upkeep(NOW).await;
    assert_eq!(fixture.texts("SELECT DISTINCT count::text FROM rollup_1h_merged").await, ["4"]);
}

#[tokio::test]
async fn chunks_of_the_columnstore_are_dropped_when_they_are_old() {
    let Some(fixture) = fixture().await else { return };
    let taken = fixture.take().await;
    fixture.filled(taken, 1, of_days([-20, 0])).await;
    assert_eq!(fixture.upkeep(NOW).await.compressed.len(), 2);
    fixture.client.batch_execute("UPDATE retention_class SET raw_retention = '10 days'").await.unwrap();
    assert_eq!(fixture.upkeep(NOW).await.dropped.len(), 1);
    assert_eq!(fixture.values().await, ["0"]);
}

#[tokio::test]
async fn what_a_person_set_up_stays() {
    let Some(mut fixture) = fixture().await else { return };
    let own = "ALTER TABLE measurement SET (timescaledb.compress_orderby = 'series_id, ts', timescaledb.compress_segmentby = ''); \
               SELECT add_compression_policy('measurement', INTERVAL '30 days')";
    fixture.client.batch_execute(own).await.unwrap();
    fixture.store.migrate(16).await.unwrap();
    let taken = fixture.take().await;
    fixture.filled(taken, 1, of_days([0])).await;
    assert_eq!(fixture.upkeep(NOW).await.compressed, [""; 0], "there is a policy");
    fixture.client.batch_execute("SELECT remove_compression_policy('measurement')").await.unwrap();
    assert_eq!(fixture.upkeep(NOW).await.compressed.len(), 1);
    let settings = "SELECT segmentby FROM timescaledb_information.hypertable_columnstore_settings \
                    WHERE hypertable = 'measurement'::regclass";
    assert_eq!(fixture.texts(settings).await, [""]);
}

#[tokio::test]
async fn a_refused_row_beside_the_columnstore_is_set_aside() {
    let Some(fixture) = fixture().await else { return };
    let check = "ALTER TABLE measurement ADD CONSTRAINT value_is_sane CHECK (value < 100)";
    fixture.client.batch_execute(check).await.unwrap();
    let taken = fixture.take().await;
    let taken = fixture.filled(taken, 1, of_days([0])).await;
    assert_eq!(fixture.upkeep(NOW).await.compressed.len(), 1);
    let committed =
        fixture.committer().await.commit(Commits(&[&at(NOW, commit(taken, 2, numbers(1, &[1.0, 1000.0, 2.0])))])).await.unwrap();
    assert_eq!((committed.rows, committed.refused.len()), (2, 1));
    assert_eq!(fixture.values().await, ["1", "2", "0"]);
}

/// Rows of one old day of a series, and one of another that is not old.
fn history(offset: u64, rows: i64) -> Outputs {
    let old = |nth: i64| placed(offset, stored(0, DAY - 9 * DAY_US + nth, (nth % 3) as f64));
    let numbers = (0..rows).map(old).chain([placed(offset, stored(1, NOW.0, 7.0))]).collect();
    Outputs { numbers, ..Outputs::default() }
}

/// What the oldest chunk holds in rows.
const OLDEST_BYTES: &str = "SELECT pg_relation_size(format('%I.%I', chunk_schema, chunk_name)::regclass) \
    FROM timescaledb_information.chunks WHERE hypertable_name = 'measurement' ORDER BY range_start LIMIT 1";

#[tokio::test]
async fn history_is_copied_straight_into_the_columnstore() {
    let Some(fixture) = fixture().await else { return };
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    let commits = [at(NOW, commit(taken, 1, history(0, 100))), at(NOW, commit(after(taken, 1), 2, history(1, 99)))];
    let committed = committer.commit(Commits(&[&commits[0]])).await.unwrap();
    assert_eq!((committed.rows, &*committed.refused), (101, &[][..]));
    assert_eq!((fixture.number("SELECT count(*) FROM measurement").await, fixture.number(OLDEST_BYTES).await), (101, 0));
    assert!(
        matches!(committer.commit(Commits(&[&commits[0]])).await, Err(CommitError::Fenced { .. })),
        "it is as fenced as ever"
    );
    committer.commit(Commits(&[&commits[1]])).await.unwrap();
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 201);
    assert!(fixture.number(OLDEST_BYTES).await > 0, "too few of a series");
    // The rows beside it join first, then all are put in order.
    assert_eq!(fixture.upkeep(NOW).await.compressed.len(), 1);
    let later = LogTime(NOW.0 + 6 * HOUR_US);
    committer.commit(Commits(&[&at(later, commit(after(taken, 2), 3, Outputs::default()))])).await.unwrap();
    fixture.upkeep(later).await;
    assert_eq!((fixture.number("SELECT count(*) FROM measurement").await, fixture.states().await), (201, vec!["1".into()]));
}

#[tokio::test]
async fn a_refused_row_of_history_is_set_aside() {
    let Some(fixture) = fixture().await else { return };
    let check = "ALTER TABLE measurement ADD CONSTRAINT value_is_sane CHECK (value < 100)";
    fixture.client.batch_execute(check).await.unwrap();
    let taken = fixture.take().await;
    let mut history = history(0, 150);
    history.numbers[70].row.value = 1000.0;
    let committed = fixture.committer().await.commit(Commits(&[&at(NOW, commit(taken, 1, history))])).await.unwrap();
    assert_eq!((committed.rows, committed.refused.len()), (150, 1));
    let held = "SELECT count(*) FILTER (WHERE value < 100) * 1000 + count(*) FROM measurement";
    assert_eq!(fixture.number(held).await, 150 * 1001);
}

#[tokio::test]
async fn after_a_failure_that_is_no_rows_fault_history_goes_the_plain_way() {
    let Some(fixture) = fixture().await else { return };
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    let history = at(NOW, commit(taken, 1, history(0, 150)));
    let forbid = "CREATE FUNCTION forbidden() RETURNS trigger LANGUAGE plpgsql AS \
                  $$ BEGIN RAISE 'forbidden' USING ERRCODE = 'insufficient_privilege'; END $$; \
                  CREATE TRIGGER forbidden BEFORE INSERT ON measurement FOR EACH ROW EXECUTE FUNCTION forbidden()";
    fixture.client.batch_execute(forbid).await.unwrap();
    assert!(matches!(committer.commit(Commits(&[&history])).await, Err(CommitError::Retry(_))));
    assert!(matches!(committer.commit(Commits(&[&history])).await, Err(CommitError::Stop(_))), "it is told what is amiss");
    fixture.client.batch_execute("DROP TRIGGER forbidden ON measurement").await.unwrap();
    assert_eq!(committer.commit(Commits(&[&history])).await.unwrap().rows, 151);
    assert!(fixture.number(OLDEST_BYTES).await > 0);
}

#[tokio::test]
async fn history_goes_into_a_table_that_the_columnstore_does_not_take_directly() {
    let Some(fixture) = fixture().await else { return };
    // Direct copies leave tables with triggers and unique indexes aside.
    let own = "CREATE UNIQUE INDEX own ON measurement (series_id, ts)";
    fixture.client.batch_execute(own).await.unwrap();
    let taken = fixture.take().await;
    let mut twice = history(0, 150);
    let again = twice.numbers[3].clone();
    twice.numbers.push(again);
    let committed = fixture.committer().await.commit(Commits(&[&at(NOW, commit(taken, 1, twice))])).await.unwrap();
    assert_eq!((committed.rows, committed.refused.len()), (151, 1));
}

//! Rows that are copied straight into their chunk or partition are where their table would have put them.

use crate::fixture::{DAY, Fixture, LOG, PARTITION, after, bad_value, commit, placed, stored};
use crate::on_every_server;
use crate::support::database::Kind;
use dataflows::model::{DAY_US, LogTime, Offset, Outputs};
use std::time::Duration;
use tokio_postgres::Client;
use weir::store::{Commit, CommitError, Commits, Committed, Committer, Store, StoreConfig, Taken};

/// Enough for one chunk to be copied straight.
const MANY: i64 = 1_500;

/// So many rows of each of these days, counted from [`DAY`], of one record.
fn rows(offset: u64, days: &[(i64, i64)]) -> Outputs {
    let row = |day: i64, nth: i64| placed(offset, stored(0, DAY + day * DAY_US + nth, 1.0));
    let numbers = days.iter().flat_map(|&(day, many)| (0..many).map(move |nth| row(day, nth))).collect();
    Outputs { numbers, ..Outputs::default() }
}

/// A fleet that sends on, and who looks how its rows are copied.
struct Copying {
    fixture: Fixture,
    committer: Committer,
    taken: Taken,
}

impl Copying {
    /// The chunks of [`DAY`] are made ahead.
    async fn new(kind: Kind) -> Self {
        let fixture = Fixture::new(kind).await;
        weir::store::maintenance::run_once(&fixture.store, LogTime(DAY)).await.unwrap();
        let (committer, taken) = (fixture.committer().await, fixture.take().await);
        Self { fixture, committer, taken }
    }

    /// With a chunk of [`DAY`] that the committer knows, and a commit of [`MANY`] rows in it.
    async fn that_knows(kind: Kind) -> Self {
        let mut copying = Self::new(kind).await;
        copying.commit(&[(0, MANY)]).await;
        assert_eq!(copying.is_straight(&[(0, MANY)]).await, kind != Kind::Community);
        copying
    }

    fn next(&mut self, days: &[(i64, i64)]) -> Commit {
        let from = self.taken.offset.0;
        let commit = commit(self.taken, from + 1, rows(from, days));
        self.taken = after(self.taken, from + 1);
        commit
    }

    async fn commit(&mut self, days: &[(i64, i64)]) -> Committed {
        let commit = self.next(days);
        self.committer.commit(Commits(&[&commit])).await.unwrap()
    }

    /// Commits so many rows of these days. Gives whether none of them was copied through the table.
    ///
    /// The commit is held up at its last row, which is for quarantine: its locks tell what it has written to.
    async fn is_straight(&mut self, days: &[(i64, i64)]) -> bool {
        let mut commit = self.next(days);
        let offset = commit.advances[0].from;
        commit.outputs.quarantined = vec![placed(offset.0, bad_value(""))];
        let mut holder = self.fixture.database.client().await;
        let held = holder.transaction().await.unwrap();
        held.batch_execute("LOCK TABLE quarantine IN SHARE MODE").await.unwrap();
        // Whoever else waits in this database, as an analysis does, tells nothing of the commit.
        let of_waiting = "SELECT count(*) FILTER (WHERE l.relation = 'measurement'::regclass AND l.mode = 'RowExclusiveLock') \
                          FROM pg_locks l WHERE l.pid IN (SELECT pid FROM pg_locks w WHERE NOT w.granted \
                          AND w.relation = 'quarantine'::regclass AND w.mode = 'RowExclusiveLock' \
                          AND w.database = (SELECT oid FROM pg_database WHERE datname = current_database())) HAVING count(*) > 0";
        let look = async {
            let through_table = wait_for(&self.fixture.client, of_waiting).await;
            held.rollback().await.unwrap();
            through_table == 0
        };
        let committed = async { self.committer.commit(Commits(&[&commit])).await.map_err(|error| error.to_string()) };
        let looked = async { Ok(look.await) };
        tokio::try_join!(committed, looked).unwrap().1
    }

    async fn count(&self) -> i64 {
        self.fixture.number("SELECT count(*) FROM measurement").await
    }

    async fn execute(&self, sql: &str) {
        self.fixture.client.batch_execute(sql).await.unwrap();
    }

    /// The chunk of [`DAY`].
    async fn chunk(&self) -> String {
        let sql = "SELECT DISTINCT tableoid::regclass::text FROM measurement WHERE ts = '2026-11-22'";
        self.fixture.texts(sql).await.remove(0)
    }
}

/// Asks until there is a row, and gives its number.
async fn wait_for(client: &Client, sql: &str) -> i64 {
    let found = async {
        loop {
            if let Some(row) = client.query_opt(sql, &[]).await.unwrap() {
                return row.get(0);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("what is waited for comes within 20 s")
}

async fn rows_of_a_chunk_that_is_known_go_straight_into_it(kind: Kind) {
    let mut copying = Copying::new(kind).await;
    let straight = kind != Kind::Community;
    assert!(!copying.is_straight(&[(40, MANY)]).await, "the table makes the chunk");
    assert_eq!(copying.is_straight(&[(0, MANY)]).await, straight);
    assert!(!copying.is_straight(&[(0, MANY), (80, MANY)]).await, "one chunk is not there");
    assert_eq!(copying.is_straight(&[(40, MANY), (0, MANY)]).await, straight, "both are");
    assert!(!copying.is_straight(&[(0, MANY), (40, 3)]).await, "a few rows beside");
    assert!(!copying.is_straight(&[(0, 30)]).await, "few rows");
    assert_eq!(copying.count().await, 7 * MANY + 33);
    let where_they_are =
        "SELECT concat_ws(' ', ts::date, count(*), count(DISTINCT tableoid)) FROM measurement GROUP BY ts::date ORDER BY 1";
    let expected = [("2026-11-22", 4 * MANY + 30), ("2027-01-01", 2 * MANY + 3), ("2027-02-10", MANY)];
    let expected = expected.map(|(day, rows)| format!("{day} {rows} 1"));
    assert_eq!(copying.fixture.texts(where_they_are).await, expected);
}

async fn what_is_known_stays_known_beside_rows_of_stray_times(kind: Kind) {
    let mut copying = Copying::that_knows(kind).await;
    let strays: Vec<(i64, i64)> = (0..50).map(|day| (-day, 40)).collect();
    for _ in 0..3 {
        copying.commit(&[&strays[..], &[(0, MANY)]].concat()).await;
    }
    copying.commit(&strays).await;
    assert_eq!(copying.is_straight(&[(0, MANY)]).await, kind != Kind::Community);
    assert_eq!(copying.count().await, 6 * MANY + 8_000);
}

async fn rows_of_a_chunk_that_was_dropped_are_not_lost(kind: Kind) {
    let mut copying = Copying::that_knows(kind).await;
    let drop = match kind {
        Kind::Plain => format!("DROP TABLE {}", copying.chunk().await),
        Kind::Timescale | Kind::Community => "SELECT drop_chunks('measurement', older_than => timestamptz '2027-01-01')".into(),
    };
    copying.execute(&drop).await;
    assert_eq!(copying.commit(&[(0, MANY)]).await.rows, MANY as u64);
    assert_eq!(copying.count().await, MANY);
    copying.commit(&[(0, MANY)]).await;
    assert_eq!(copying.is_straight(&[(0, MANY)]).await, kind != Kind::Community, "the new one is known");
    // Now it is being dropped when the rows come.
    let drop = drop.replace(drop.split(' ').next_back().filter(|_| kind == Kind::Plain).unwrap_or("\0"), &copying.chunk().await);
    let mut dropper = copying.fixture.database.client().await;
    let dropping = dropper.transaction().await.unwrap();
    dropping.batch_execute(&drop).await.unwrap();
    let commit = copying.next(&[(0, MANY)]);
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) HAVING count(*) > 0";
    let let_go = async {
        wait_for(&copying.fixture.client, waits).await;
        dropping.commit().await.unwrap();
    };
    let commits = [&commit];
    let (mut committed, ()) = tokio::join!(copying.committer.commit(Commits(&commits)), let_go);
    if kind == Kind::Community && committed.is_err() {
        // Where a hypertable meets a chunk that is gone, the next try makes it anew.
        committed = copying.committer.commit(Commits(&[&commit])).await;
    }
    assert_eq!(committed.unwrap().rows, MANY as u64);
    assert_eq!(copying.count().await, MANY);
}

async fn rows_follow_their_table_and_not_the_chunk(kind: Kind) {
    let mut copying = Copying::that_knows(kind).await;
    let remake = match kind {
        Kind::Plain => {
            "CREATE TABLE measurement (LIKE before) PARTITION BY RANGE (ts); \
             CREATE TABLE fresh PARTITION OF measurement FOR VALUES FROM ('2026-11-22') TO ('2026-11-23')"
        }
        Kind::Timescale | Kind::Community => {
            "CREATE TABLE measurement (LIKE before); SELECT create_hypertable('measurement', by_range('ts', interval '1 day'))"
        }
    };
    copying.execute(&format!("ALTER TABLE measurement RENAME TO before; {remake}")).await;
    copying.commit(&[(0, MANY)]).await;
    assert_eq!(copying.count().await, MANY);
    assert_eq!(copying.fixture.number("SELECT count(*) FROM before").await, 2 * MANY);
    copying.commit(&[(0, MANY)]).await;
    assert_eq!(copying.is_straight(&[(0, MANY)]).await, kind != Kind::Community);
    let chunk = copying.chunk().await;
    let name = chunk.rsplit('.').next().unwrap();
    copying.execute(&format!("ALTER TABLE {chunk} RENAME TO {name}_renamed")).await;
    copying.commit(&[(0, MANY)]).await;
    assert_eq!(copying.count().await, 4 * MANY);
}

/// Partitions can be taken out of their table, and come back with other bounds.
async fn a_partition_that_was_detached_gets_nothing(kind: Kind) {
    if kind != Kind::Plain {
        return;
    }
    let mut copying = Copying::that_knows(kind).await;
    let chunk = copying.chunk().await;
    copying.execute(&format!("ALTER TABLE measurement DETACH PARTITION {chunk}")).await;
    copying.execute(&format!("ALTER TABLE {chunk} RENAME TO detached")).await;
    copying.execute("CREATE TABLE beside (LIKE detached)").await;
    copying.execute(&format!("ALTER TABLE beside RENAME TO {chunk}")).await;
    // What the committer knows by that name is no partition. Nor can one of that name be made.
    let commit = copying.next(&[(0, MANY)]);
    assert!(copying.committer.commit(Commits(&[&commit])).await.is_err());
    assert_eq!(copying.fixture.number(&format!("SELECT count(*) FROM {chunk}")).await, 0);
    copying.execute(&format!("DROP TABLE {chunk}")).await;
    copying.committer.commit(Commits(&[&commit])).await.unwrap();
    assert_eq!((copying.count().await, copying.fixture.number("SELECT count(*) FROM detached").await), (MANY, 2 * MANY));
}

async fn a_partition_with_other_bounds_refuses_what_is_not_its_own(kind: Kind) {
    if kind != Kind::Plain {
        return;
    }
    let mut copying = Copying::that_knows(kind).await;
    let chunk = copying.chunk().await;
    let narrow = format!(
        "ALTER TABLE measurement DETACH PARTITION {chunk}; DELETE FROM {chunk} WHERE ts > '2026-11-22'; \
         ALTER TABLE measurement ATTACH PARTITION {chunk} FOR VALUES FROM ('2026-11-22') TO ('2026-11-22 00:00:00.001')"
    );
    copying.execute(&narrow).await;
    assert_eq!(copying.commit(&[(0, MANY)]).await.refused, []);
    assert_eq!(copying.fixture.number("SELECT count(*) FROM measurement WHERE ts > '2026-11-22'").await, MANY - 1);
}

/// Whoever drops a chunk locks its table first. Were it the other way round here, each would wait for the other.
async fn a_commit_waits_for_a_table_before_it_holds_its_chunks(kind: Kind) {
    let mut copying = Copying::that_knows(kind).await;
    let chunk = copying.chunk().await;
    let of_both_ways = copying.next(&[(0, MANY), (1, 1)]);
    let mut dropper = copying.fixture.database.client().await;
    let drop = dropper.transaction().await.unwrap();
    drop.batch_execute("LOCK TABLE ONLY measurement IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'measurement'::regclass HAVING count(*) > 0";
    let look = async {
        wait_for(&copying.fixture.client, waiting).await;
        drop.batch_execute(&format!("LOCK TABLE ONLY {chunk} IN ACCESS EXCLUSIVE MODE NOWAIT")).await.unwrap();
        drop.rollback().await.unwrap();
    };
    let commits = [&of_both_ways];
    let (committed, ()) = tokio::join!(copying.committer.commit(Commits(&commits)), look);
    assert_eq!(committed.unwrap().rows, MANY as u64 + 1);
}

/// What a person puts on the table after the chunk is known, and what tells that all rows came by it.
const PASSED_BY: [(&str, &str); 4] = [
    (
        "CREATE TABLE heard (rows bigint); CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN INSERT INTO heard VALUES (1); RETURN NULL; END'; \
         CREATE TRIGGER hear AFTER INSERT ON measurement FOR EACH STATEMENT EXECUTE FUNCTION hear()",
        "SELECT count(*) * 1500 FROM heard",
    ),
    (
        "CREATE TABLE heard (at timestamptz); CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN INSERT INTO heard VALUES (NEW.ts); RETURN NULL; END'; \
         CREATE TRIGGER hear AFTER INSERT ON measurement FOR EACH ROW EXECUTE FUNCTION hear()",
        "SELECT count(*) FROM heard",
    ),
    ("ALTER TABLE measurement ADD heard int DEFAULT 1", "SELECT count(*) - 3000 FROM measurement WHERE heard = 1"),
    ("ALTER TABLE measurement ENABLE ROW LEVEL SECURITY", "SELECT count(*) - 3000 FROM measurement"),
];

async fn what_a_person_put_on_the_table_is_not_passed_by(kind: Kind) {
    for (ddl, heard) in PASSED_BY {
        if kind == Kind::Community && ddl.contains("ROW LEVEL SECURITY") {
            // The server itself refuses it where there is a columnstore.
            continue;
        }
        let mut copying = Copying::that_knows(kind).await;
        copying.execute(ddl).await;
        assert!(!copying.is_straight(&[(0, MANY)]).await, "{ddl}");
        assert!(!copying.is_straight(&[(0, MANY)]).await, "{ddl}");
        assert_eq!(copying.count().await, 4 * MANY, "{ddl}");
        assert_eq!(copying.fixture.number(heard).await, 2 * MANY, "{ddl}");
    }
}

async fn a_refused_row_is_told_of_the_table(kind: Kind) {
    let mut copying = Copying::that_knows(kind).await;
    copying.execute("ALTER TABLE measurement ADD CONSTRAINT sane CHECK (value < 1000)").await;
    let mut commit = copying.next(&[(0, MANY), (0, 1)]);
    commit.outputs.numbers[MANY as usize].row.value = 5000.0;
    let committed = copying.committer.commit(Commits(&[&commit])).await.unwrap();
    assert_eq!((committed.rows, committed.refused.len(), &*committed.refused[0].table), (MANY as u64, 1, "measurement"));
    assert!(committed.refused[0].detail.starts_with("the table measurement refused 5000 at "), "{committed:?}");
    let quarantine = "SELECT convert_from(record, 'UTF8')::json->>'table' FROM quarantine WHERE reason = 'row_refused'";
    assert_eq!(copying.fixture.texts(quarantine).await, ["measurement"]);
    assert_eq!(copying.count().await, 3 * MANY);
    copying.commit(&[(0, MANY)]).await;
    assert_eq!(copying.is_straight(&[(0, MANY)]).await, kind != Kind::Community, "it is a matter of that commit alone");
}

async fn who_may_not_write_to_the_chunk_writes_through_the_table(kind: Kind) {
    let mut copying = Copying::that_knows(kind).await;
    let role = format!("{}_copier", copying.fixture.database.name());
    let chunk = copying.chunk().await;
    copying
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; \
             GRANT ALL ON {chunk} TO {role}"
        ))
        .await;
    let url = copying.fixture.database.url();
    let (_, host) = url.rsplit_once('@').unwrap();
    let store = Store::connect(StoreConfig::new(format!("postgres://{role}@{host}"))).await.unwrap();
    copying.committer = Committer::connect(&store).await.unwrap();
    copying.commit(&[(0, MANY)]).await;
    assert_eq!(copying.is_straight(&[(0, MANY)]).await, kind != Kind::Community);
    copying.execute(&format!("REVOKE INSERT ON {chunk} FROM {role}")).await;
    assert!(!copying.is_straight(&[(0, MANY)]).await);
    copying.committer = copying.fixture.committer().await;
    copying.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    assert_eq!(copying.count().await, 5 * MANY);
}

/// Whatever it may be that makes a server refuse the straight way alone.
async fn where_the_straight_way_is_forbidden_the_table_is_taken_for_good(kind: Kind) {
    let mut copying = Copying::that_knows(kind).await;
    let straight_only = "CREATE FUNCTION through_table() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN \
                         IF NOT EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'RowExclusiveLock' \
                                        AND relation = 'measurement'::regclass) \
                         THEN RAISE 'forbidden' USING ERRCODE = 'insufficient_privilege'; END IF; RETURN true; END $$; \
                         ALTER TABLE measurement ADD CONSTRAINT allowed CHECK (through_table()) NOT VALID";
    copying.execute(straight_only).await;
    let commit = copying.next(&[(0, MANY)]);
    let first = copying.committer.commit(Commits(&[&commit])).await;
    assert_eq!(matches!(first, Err(CommitError::Retry(_))), kind != Kind::Community, "{first:?}");
    if first.is_err() {
        copying.committer.commit(Commits(&[&commit])).await.unwrap();
    }
    copying.commit(&[(0, MANY)]).await;
    assert_eq!(copying.count().await, 4 * MANY);
}

/// Chunks that TimescaleDB keeps account of.
async fn chunks_that_are_more_than_a_heap_are_left_to_timescale(kind: Kind) {
    if kind == Kind::Plain {
        return;
    }
    let mut copying = Copying::that_knows(kind).await;
    copying.execute("UPDATE _timescaledb_catalog.chunk SET status = 2").await;
    assert!(!copying.is_straight(&[(0, MANY)]).await);
    let mut copying = Copying::new(kind).await;
    copying.execute("SELECT add_dimension('measurement', by_hash('series_id', 2))").await;
    copying.commit(&[(0, MANY)]).await;
    assert!(!copying.is_straight(&[(0, MANY)]).await);
    assert_eq!(copying.count().await, 2 * MANY);
}

async fn a_connection_that_is_made_anew_learns_anew(kind: Kind) {
    let mut copying = Copying::that_knows(kind).await;
    copying.committer = copying.fixture.committer().await;
    assert_eq!(copying.is_straight(&[(0, MANY)]).await, kind != Kind::Community, "the chunk is there already");
    let taken = copying.fixture.store.take("b", LOG, &[(PARTITION, Offset(1000))]).await.unwrap()[0];
    let stale = copying.next(&[(0, MANY)]);
    assert!(matches!(copying.committer.commit(Commits(&[&stale])).await, Err(CommitError::Fenced { .. })));
    copying.taken = taken;
    copying.commit(&[(0, MANY)]).await;
    assert_eq!(copying.count().await, 4 * MANY);
}

on_every_server!(
    rows_of_a_chunk_that_is_known_go_straight_into_it,
    what_is_known_stays_known_beside_rows_of_stray_times,
    rows_of_a_chunk_that_was_dropped_are_not_lost,
    rows_follow_their_table_and_not_the_chunk,
    a_partition_that_was_detached_gets_nothing,
    a_partition_with_other_bounds_refuses_what_is_not_its_own,
    what_a_person_put_on_the_table_is_not_passed_by,
    a_commit_waits_for_a_table_before_it_holds_its_chunks,
    a_refused_row_is_told_of_the_table,
    who_may_not_write_to_the_chunk_writes_through_the_table,
    where_the_straight_way_is_forbidden_the_table_is_taken_for_good,
    chunks_that_are_more_than_a_heap_are_left_to_timescale,
    a_connection_that_is_made_anew_learns_anew,
);

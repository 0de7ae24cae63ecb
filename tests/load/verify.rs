//! The verification against a real server: what the simulated daemon stores is written to tables, read
//! back, and found without a difference.

use crate::expectation::{Run, spec};
use dataflows::model::{BucketLevel, EventTime, MINUTE_US, Offset, Partition, TenantNo};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};
use weir::load::expectation::Bucket;
use weir::load::verify::{DifferenceKind, SeriesKey, VerifyError, await_committed, verify};

const TENANT: TenantNo = TenantNo(7);

/// The tables that the verification reads, with the columns that it reads, for a session alone.
const SCHEMA: &str = r#"
    CREATE TEMP TABLE retention_class (class_no smallint, name text);
    INSERT INTO retention_class VALUES (0, 'standard'), (2, 'long');
    CREATE TEMP TABLE tenant (tenant_no int, lateness_horizon interval, heartbeat interval, class_no smallint);
    INSERT INTO tenant VALUES (7, '10 min', '0', 2), (8, '10 min', '1 h', 0);
    CREATE TEMP TABLE template (tenant_no int, name text, fields jsonb);
    INSERT INTO template VALUES
        (null, 'elsys', '{"light": {"unit": "lx", "deadband": 3}, "motion": {"heartbeat_s": 600}}'),
        (7, 'elsys', '{"light": {"unit": "lx", "deadband": 0.5}}'),
        (8, 'elsys', '{"motion": {"deadband": 99}}');
    CREATE TEMP TABLE series (series_id bigint, tenant_no int, device text, field text, kind text);
    CREATE TEMP TABLE measurement_long (ts timestamptz, series_id bigint, value float8);
    CREATE TEMP TABLE measurement_text_long (ts timestamptz);
    CREATE TEMP TABLE measurement_location_long (ts timestamptz);
    CREATE TEMP TABLE rollup_1h_long (bucket timestamptz, series_id bigint, count bigint, sum float8, min float8, max float8,
        first float8, first_ts timestamptz, first_offset bigint, last float8, last_ts timestamptz, last_offset bigint);
    CREATE TEMP TABLE rollup_1d_long (LIKE rollup_1h_long);
    CREATE TEMP TABLE quarantine (tenant_no int, reason text);
    CREATE TEMP TABLE progress ("partition" smallint, counts jsonb, log_time timestamptz, "offset" bigint);
"#;

/// SQL for an instant, to the microsecond.
fn instant(at: EventTime) -> String {
    format!("timestamptz 'epoch' + {} * interval '1 microsecond'", at.0)
}

async fn database() -> Client {
    let url = std::env::var("WEIR_TEST_PG_URL").expect("WEIR_TEST_PG_URL is not set: run `cargo xtask test`");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(SCHEMA).await.unwrap();
    client
}

/// Writes a run's tables.
async fn write(client: &Client, run: &Run) {
    let fleet = run.expectation.fleet();
    let series_id = |(device, place): SeriesKey| i64::from(device) * 100 + place as i64 + 1;
    let mut sql = String::new();
    for (key, rows) in &run.tables.raw {
        let member = fleet.member(key.0);
        let (id, device, field) = (series_id(*key), &member.id, member.kind.spec().fields[key.1].name);
        sql += &format!("INSERT INTO series VALUES ({id}, {TENANT}, '{device}', '{field}', 'number');\n");
        for row in rows {
            sql += &format!("INSERT INTO measurement_long VALUES ({}, {id}, {});\n", instant(row.at), row.value);
        }
    }
    for level in [BucketLevel::Hour, BucketLevel::Day] {
        for (key, buckets) in run.tables.rollups(level) {
            sql += &partials(level, series_id(*key), buckets);
        }
    }
    for (reason, rows) in &run.tables.accounts.quarantine {
        sql += &format!("INSERT INTO quarantine SELECT {TENANT}, '{reason}' FROM generate_series(1, {rows});\n");
    }
    let counts = serde_json::to_string(&run.tables.accounts.counts).unwrap();
    for (partition, log_time) in run.tables.accounts.log_times.iter().enumerate() {
        let (counts, log_time) = match partition {
            0 => (counts.clone(), log_time.unwrap()),
            _ => (serde_json::to_string(&dataflows::model::Counts::default()).unwrap(), log_time.unwrap()),
        };
        sql += &format!("INSERT INTO progress VALUES ({partition}, '{counts}', {}, 0);\n", instant(EventTime(log_time.0)));
    }
    client.batch_execute(&sql).await.unwrap();
}

/// Writes each bucket of more than one measurement in two parts: its first measurement, and the rest.
fn partials(level: BucketLevel, series: i64, buckets: &BTreeMap<EventTime, Bucket>) -> String {
    let table = match level {
        BucketLevel::Hour => "rollup_1h_long",
        BucketLevel::Day => "rollup_1d_long",
    };
    let row = |start: &EventTime, b: &Bucket| {
        let (start, first_at, last_at) = (instant(*start), instant(b.first.0), instant(b.last.0));
        let Bucket { count, sum, min, max, first: (_, first), last: (_, last) } = b;
        format!(
            "INSERT INTO {table} VALUES ({start}, {series}, {count}, {sum}, {min}, {max}, {first}, {first_at}, 1, {last}, {last_at}, 2);\n"
        )
    };
    let mut sql = String::new();
    for (start, bucket) in buckets {
        let mut rest = *bucket;
        if bucket.count > 1 {
            let (at, value) = bucket.first;
            sql += &row(start, &Bucket { count: 1, sum: value, min: value, max: value, first: (at, value), last: (at, value) });
            rest.count -= 1;
            rest.sum -= value;
            rest.first = bucket.last;
        }
        sql += &row(start, &rest);
    }
    sql
}

#[tokio::test]
async fn tables_are_read_as_they_were_written() {
    let mut client = database().await;
    let rules = weir::load::verify::rules(&client, TENANT).await.unwrap();
    let run = Run::new(spec(5), rules, 0);
    write(&client, &run).await;
    let verified = verify(&mut client, TENANT, &run.expectation, |_| ()).await.unwrap();
    assert!(verified.ok, "{:#?}", verified.examples);
    assert_eq!((verified.raw_rows, verified.open_buckets_skipped), (run.tables.accounts.raw_rows, 0));
    assert!(verified.buckets > 0);

    client.batch_execute("DELETE FROM measurement_long WHERE ctid IN (SELECT ctid FROM measurement_long LIMIT 3)").await.unwrap();
    client
        .batch_execute("INSERT INTO series VALUES (9999, 7, (SELECT min(device) FROM series), 'colour', 'text')")
        .await
        .unwrap();
    let verified = verify(&mut client, TENANT, &run.expectation, |_| ()).await.unwrap();
    assert_eq!(verified.count(DifferenceKind::UnknownField), 1);
    assert_eq!(verified.count(DifferenceKind::Accounting), 1, "{:#?}", verified.examples);
    assert!((1..=3).contains(&verified.count(DifferenceKind::Lost)), "{:#?}", verified.examples);
}

#[tokio::test]
async fn the_rules_are_those_of_the_tenant() {
    let client = database().await;
    let check = |rules: &weir::load::Rules, field: &str, expected: (f64, i64)| {
        let kind = weir::load::Kind::Elsys;
        let field = kind.spec().fields.iter().find(|f| f.name == field).unwrap();
        let rule = rules.of(kind, field);
        assert_eq!((rule.deadband, rule.heartbeat_us), expected, "{}", field.name);
    };
    let rules = weir::load::verify::rules(&client, TENANT).await.unwrap();
    assert_eq!(rules.lateness_horizon_us, 10 * MINUTE_US);
    check(&rules, "light", (0.5, 0));
    check(&rules, "vdd", (0.0, 0));
    let rules = weir::load::verify::rules(&client, TenantNo(8)).await.unwrap();
    check(&rules, "motion", (99.0, 60 * MINUTE_US));
    check(&rules, "light", (3.0, 60 * MINUTE_US));
    let unknown = weir::load::verify::rules(&client, TenantNo(9)).await;
    assert!(matches!(unknown, Err(VerifyError::Tenant(TenantNo(9)))));
}

#[tokio::test]
async fn a_daemon_that_is_behind_is_no_verdict() {
    let client = database().await;
    let none = serde_json::to_string(&dataflows::model::Counts::default()).unwrap();
    client.batch_execute(&format!("INSERT INTO progress VALUES (0, '{none}', null, 7), (1, '{none}', null, 3)")).await.unwrap();
    let check = async |ends: [u64; 3], expected: Option<u64>| {
        let ends: Vec<_> = (0..).map(Partition).zip(ends.map(Offset)).collect();
        let missing = match await_committed(&client, &ends, Duration::ZERO).await {
            Ok(()) => None,
            Err(VerifyError::Behind { missing, .. }) => Some(missing),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(missing, expected, "{ends:?}");
    };
    check([7, 3, 0], None).await;
    check([5, 0, 0], None).await;
    // What one partition is ahead does not make up for what another one lacks.
    check([5, 4, 0], Some(1)).await;
    check([9, 3, 10], Some(12)).await;
}

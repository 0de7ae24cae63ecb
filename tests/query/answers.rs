//! What is answered, in whole, on plain PostgreSQL, on TimescaleDB and from its columnstore alike: files under `tests/golden/query`, which
//! `UPDATE_GOLDEN=1` writes anew.

use crate::columnstore::compress_all;
use crate::database::Kind;
use crate::fixture::{DEVICE, Fixture};
use std::path::Path;

fn golden(name: &str, body: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/query").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, body).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}: run with UPDATE_GOLDEN=1", path.display()));
    assert_eq!(body, expected, "{name}");
}

/// The range that holds all rows of the day.
const RANGE: &str = "from=2026-11-22&to=2026-11-22T13:00:00Z";

async fn all(fixture: &Fixture) {
    let check = async |name: &str, path: &str| {
        let answered = fixture.get(path).await;
        assert_eq!(answered.status, 200, "{path}: {}", answered.body);
        let expected_type = if name.ends_with(".csv") { "text/csv; charset=utf-8" } else { "application/json" };
        assert_eq!(answered.headers["content-type"], expected_type, "{path}");
        golden(name, &answered.body);
    };
    let query = |rest: &str| format!("/v1/query?device=0004A30B001C0530&{rest}");
    check("raw.json", &query(RANGE)).await;
    check("raw.csv", &query(&format!("{RANGE}&format=csv"))).await;
    check("raw_limited.json", &query(&format!("{RANGE}&field=temperature&limit=2&zone=UTC"))).await;
    check("raw_two_units.json", &query("field=temperature&from=-48h&to=2026-11-22T08:10:00Z")).await;
    let figures = "aggregate=mean,count,sum,min,max,first,last";
    check("hours.json", &query(&format!("{RANGE}&field=temperature,door&step=1h&{figures}"))).await;
    check("hours_filled.csv", &query(&format!("{RANGE}&field=door&step=3h&fill=previous&aggregate=mean,count&format=csv"))).await;
    check("hours_of_kolkata.json", &query(&format!("{RANGE}&field=temperature&step=1h&zone=Asia/Kolkata"))).await;
    check("days.json", &query(&format!("{RANGE}&field=temperature&step=1d&{figures}"))).await;
    check("days_of_utc.json", &query(&format!("{RANGE}&field=temperature&step=1d&zone=UTC&{figures}"))).await;
    check("months.json", &query("from=2026-11-01&to=now&step=1mo&field=temperature&aggregate=count,mean")).await;
    let fine = "aggregate=time_weighted_mean,min,max,last";
    check("minutes.json", &query(&format!("from=2026-11-22T08:00Z&to=2026-11-22T09:40:00Z&step=20m&field=temperature&{fine}")))
        .await;
    check("silent.json", &format!("/v1/query?device=silent&{RANGE}")).await;
    check("latest.json", &format!("/v1/latest?device={DEVICE}&device=silent")).await;
}

#[tokio::test]
async fn answers_on_plain_postgres_are_the_golden_ones() {
    all(&Fixture::new(Kind::Plain).await).await;
}

#[tokio::test]
async fn answers_on_timescale_are_the_golden_ones() {
    all(&Fixture::new(Kind::Timescale).await).await;
}

#[tokio::test]
async fn answers_from_the_columnstore_are_the_golden_ones() {
    let Some(kind) = Kind::community() else { return };
    let fixture = Fixture::new(kind).await;
    all(&fixture).await;
    let client = fixture.client().await;
    assert!(compress_all(&client).await > 3);
    all(&fixture).await;
    // The newest rows of each table beside the columnstore, as late ones are.
    for (table, time) in [("measurement", "ts"), ("measurement_text", "ts"), ("rollup_1h", "bucket"), ("rollup_1d", "bucket")] {
        let newest = format!("FROM {table} WHERE {time} >= '2026-11-21 23:00Z'");
        let beside = format!(
            "CREATE TEMP TABLE late AS SELECT * {newest}; DELETE {newest}; INSERT INTO {table} SELECT * FROM late; DROP TABLE late"
        );
        client.batch_execute(&beside).await.unwrap();
    }
    all(&fixture).await;
}

#[tokio::test]
async fn pages_join_without_gap_or_repetition() {
    let fixture = Fixture::new(Kind::Plain).await;
    let rest = "to=2026-11-22T13:00:00Z&format=csv&zone=UTC";
    let whole = fixture.get(&format!("/v1/query?device={DEVICE}&from=2026-11-21T23:00:00Z&{rest}")).await.body;
    let (mut from, mut pages, mut lines) = ("2026-11-21T23:00:00Z".to_owned(), 0, Vec::new());
    loop {
        let page = fixture.get(&format!("/v1/query?device={DEVICE}&from={from}&{rest}&limit=1")).await;
        pages += 1;
        lines.extend(page.body.lines().skip(1).map(str::to_owned));
        match page.headers.get("weir-next-from") {
            Some(next) => from = next.to_str().unwrap().to_owned(),
            None => break,
        }
    }
    let mut expected: Vec<_> = whole.lines().skip(1).map(str::to_owned).collect();
    expected.sort_unstable();
    lines.sort_unstable();
    assert_eq!(lines, expected);
    assert_eq!((lines.len(), pages), (12, 3), "each page holds the five rows that five series may need");
}

#[tokio::test]
async fn a_table_set_that_a_class_does_not_have_yet_is_left_out() {
    let fixture = Fixture::new(Kind::Plain).await;
    let path = format!("/v1/query?device={DEVICE}&{RANGE}&field=temperature&format=csv");
    let before = fixture.get(&path).await.body;
    fixture.execute("INSERT INTO retention_class (class_no, name) VALUES (2, 'new')").await;
    assert_eq!(fixture.get(&path).await.body, before);
}

#[tokio::test]
async fn what_a_client_accepts_decides_where_nothing_is_said() {
    let fixture = Fixture::new(Kind::Plain).await;
    let check = async |accept: &str, rest: &str, expected: &str| {
        let headers = [("authorization", "bearer reader"), ("accept", accept)];
        let answered = fixture.ask(&format!("/v1/query?device={DEVICE}{rest}"), &headers).await;
        assert_eq!(answered.headers["content-type"], expected, "{accept} {rest}");
    };
    check("text/csv", "", "text/csv; charset=utf-8").await;
    check("application/json;q=0.5, text/csv;q=0.9", "", "text/csv; charset=utf-8").await;
    check("text/csv", "&format=json", "application/json").await;
    check("*/*", "", "application/json").await;
}

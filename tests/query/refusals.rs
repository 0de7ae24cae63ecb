//! What is refused, with which status and code, and with the way out.

use crate::database::Kind;
use crate::fixture::{Answered, DEVICE, Fixture, PROGRESS, RIVAL};
use std::time::Duration;
use weir::query::Limits;

const READER: &[(&str, &str)] = &[("authorization", "Bearer reader")];

fn check_problem(answered: &Answered, status: u16, code: &str, detail: &str) {
    let problem: serde_json::Value = serde_json::from_str(&answered.body).unwrap_or_else(|e| panic!("{e}: {}", answered.body));
    assert_eq!((answered.status, problem["code"].as_str()), (status, Some(code)), "{problem}");
    assert_eq!(answered.headers["content-type"], "application/problem+json");
    assert_eq!(problem["type"], format!("urn:weir:problem:{code}"));
    assert_eq!(problem["status"], status);
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains(detail)), "{problem}, expected {detail:?}");
    assert_eq!(answered.headers.contains_key("www-authenticate"), status == 401);
    assert_eq!(answered.headers.contains_key("retry-after"), status == 503);
}

#[tokio::test]
async fn every_mistake_has_its_status_and_says_what_to_do() {
    let fixture = Fixture::new(Kind::Plain).await;
    let check = async |headers: &[(&str, &str)], path: &str, status: u16, code: &str, detail: &str| {
        check_problem(&fixture.ask(path, headers).await, status, code, detail);
    };
    let query = |rest: &str| format!("/v1/query?device={DEVICE}{rest}");
    for path in [query(""), format!("/v1/latest?device={DEVICE}")] {
        check(&[], &path, 401, "unauthenticated", "send `Authorization: Bearer").await;
        check(&[("authorization", "Bearer guess")], &path, 401, "unauthenticated", "no token that is known").await;
        check(&[("authorization", "Basic reader")], &path, 401, "unauthenticated", "no token that is known").await;
        check(&[("authorization", "Bearer writer")], &path, 403, "forbidden", "may not read").await;
        check(READER, &format!("{path}&colour=red"), 400, "unknown_parameter", "`colour`: known are device").await;
    }
    check(READER, "/v1/query?device=%FF", 404, "unknown_device", "is called `\u{fffd}`").await;
    check(READER, "/v1/query", 400, "bad_parameter", "`device`: is missing").await;
    check(READER, "/v1/latest", 400, "bad_parameter", "`device`: is missing").await;
    check(READER, &query("&from=2300-01-01"), 400, "bad_parameter", "`from`: the time is outside 1970 to 2199").await;
    check(READER, &query("&from=now&to=-1h"), 422, "empty_range", "swap them").await;
    check(READER, &query("&field=colour"), 404, "unknown_field", "it has door, position, status, temperature").await;
    check(READER, &query("&field=status&step=1h"), 422, "not_numeric", "`status` holds text values").await;
    check(READER, &query("&field=position&step=1m"), 422, "not_numeric", "ask for it with step=raw").await;
    check(READER, &query("&step=1m&aggregate=sum"), 422, "aggregate_not_offered", "offered are time_weighted_mean").await;
    check(READER, &query("&step=1s&from=-30d"), 422, "too_many_buckets", "more than 100000 buckets: ask for a shorter").await;
    check(READER, &query("&step=1h&from=1980-01-01"), 422, "too_many_buckets", "a wider step").await;
}

#[tokio::test]
async fn a_device_of_another_tenant_is_as_unknown_as_none() {
    let fixture = Fixture::new(Kind::Plain).await;
    for route in ["query", "latest"] {
        let ask = async |device: &str, token: &str| {
            fixture.ask(&format!("/v1/{route}?device={device}"), &[("authorization", token)]).await
        };
        let (others, nobodys) = (ask(RIVAL, "Bearer reader").await, ask("pump-8", "Bearer reader").await);
        check_problem(&others, 404, "unknown_device", "no device of this token's tenant is called `pump-7`");
        assert_eq!(others.body.replace(RIVAL, "pump-8"), nobodys.body);
        assert_eq!(ask(RIVAL, "Bearer rival").await.status, 200);
        check_problem(&ask(DEVICE, "Bearer rival").await, 404, "unknown_device", "is called");
    }
    // A name that both tenants use is a device of each.
    fixture.execute("INSERT INTO device (device_no, tenant_no, id, template_no) VALUES (10, 2, '0004a30b001c0530', 1)").await;
    let path = format!("/v1/query?device={DEVICE}&from=2026-11-01&step=raw");
    let theirs = fixture.ask(&path, &[("authorization", "Bearer rival")]).await;
    assert_eq!(theirs.status, 200);
    assert!(theirs.body.contains(r#""series":[]"#), "{}", theirs.body);
}

#[tokio::test]
async fn a_memory_behind_the_tables_is_refused_and_one_that_has_caught_up_is_not() {
    let path = format!("/v1/query?device={DEVICE}&step=1h");
    let answered = Fixture::replaying(PROGRESS - 1).await.get(&path).await;
    check_problem(&answered, 503, "replaying", "still replaying its log: ask again");
    assert_eq!(Fixture::replaying(PROGRESS).await.get(&path).await.status, 200);
}

#[tokio::test]
async fn tables_that_lack_what_the_memory_has_forgotten_are_refused() {
    let answered = Fixture::lagging().await.get(&format!("/v1/query?device={DEVICE}&step=1h")).await;
    check_problem(&answered, 503, "old_tables", "a replica that lags behind");
}

#[tokio::test]
async fn what_answers_hold_is_bounded() {
    let limits = Limits { text_bytes_max: 3, patience: Duration::from_millis(10), ..Limits::default() };
    let fixture = Fixture::limited(limits).await;
    let path = format!("/v1/query?device={DEVICE}&from=2026-11-01&field=status");
    check_problem(&fixture.get(&path).await, 422, "too_much_text", "more than 3 bytes of text");
    assert_eq!(fixture.get(&path.replace("status", "temperature")).await.status, 200);

    // Requests that wait for a lock hold their places.
    let limits = Limits { points_together_max: 100, points_max: 100, patience: Duration::from_millis(10), ..Limits::default() };
    let fixture = Fixture::limited(limits).await;
    let mut client = fixture.client().await;
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE measurement").await.unwrap();
    let path = format!("/v1/query?device={DEVICE}&from=2026-11-01&field=temperature&limit=100");
    let waits = fixture.get(&path);
    let other = async {
        while waiting(&fixture).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        check_problem(&fixture.get(&path).await, 503, "busy", "ask again in a moment");
        lock.rollback().await.unwrap();
    };
    assert_eq!(tokio::join!(waits, other).0.status, 200);
    assert_eq!(fixture.get(&path).await.status, 200, "the places are given back");
}

#[tokio::test]
async fn the_statement_of_a_client_that_has_hung_up_is_cancelled() {
    let fixture = Fixture::new(Kind::Plain).await;
    let mut client = fixture.client().await;
    let lock = client.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE measurement").await.unwrap();
    let url = format!("http://{}/v1/query?device={DEVICE}&from=2026-11-01&field=temperature", fixture.address);
    let request = reqwest::Client::new().get(url).header("authorization", "Bearer reader").send();
    tokio::select! {
        answered = request => panic!("{answered:?}"),
        () = async { while waiting(&fixture).await == 0 { tokio::time::sleep(Duration::from_millis(5)).await; } } => {}
    }
    // The lock is still there, and a statement may wait for it for 30 s.
    let cancelled = async {
        while waiting(&fixture).await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), cancelled).await.expect("the statement is cancelled");
    lock.rollback().await.unwrap();
    assert_eq!(fixture.get(&format!("/v1/query?device={DEVICE}")).await.status, 200, "the pool is as good as before");
}

/// How many statements wait for a lock.
async fn waiting(fixture: &Fixture) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    fixture.client().await.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn without_a_database_the_latest_values_are_still_there() {
    let fixture = Fixture::without_database().await;
    check_problem(&fixture.get(&format!("/v1/query?device={DEVICE}")).await, 503, "database", "ask again in a moment");
    assert_eq!(fixture.get(&format!("/v1/latest?device={DEVICE}")).await.status, 200);
    check_problem(&fixture.get("/v1/latest?device=silent").await, 503, "database", "ask again in a moment");
}

#[tokio::test]
async fn other_methods_are_told_of_get() {
    let fixture = Fixture::without_database().await;
    let response = reqwest::Client::new().post(format!("http://{}/v1/query", fixture.address)).send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    check_problem(&Answered { status, headers, body: response.text().await.unwrap() }, 405, "method_not_allowed", "with GET");
}

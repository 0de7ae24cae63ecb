//! `weir load` and `weir demo` as commands, against real servers.

use crate::database::{Kind, TestDatabase};
use serde_json::Value;
use std::path::Path;
use std::process::Output;
use tokio::process::Command;

/// Runs `weir` on a database and a data directory.
async fn weir(database: &TestDatabase, data_dir: &Path, arguments: &[&str]) -> Output {
    weir_with(database, data_dir, arguments, &[]).await
}

/// As [`weir`], with settings.
async fn weir_with(database: &TestDatabase, data_dir: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).arg("--data-dir").arg(data_dir).arg("--database-url").arg(database.url());
    // A busy machine must not look like a decoder that does not end.
    command.env("WEIR_DECODERS_WATCHDOG", "60 s").env_remove("DATABASE_URL").env_remove("WEIR_CONFIG");
    command.envs(settings.iter().copied());
    command.kill_on_drop(true).output().await.unwrap()
}

/// Gives the one object that a command printed.
fn figures(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn check_refused(output: &Output, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(words), "{words:?} in {text}");
}

#[tokio::test]
async fn a_case_is_measured_verified_and_reported_on_timescale() {
    smoke(Kind::Timescale).await;
}

#[tokio::test]
async fn a_case_is_measured_verified_and_reported_on_timescale_community() {
    if let Some(kind) = Kind::community() {
        smoke(kind).await;
    }
}

#[tokio::test]
async fn a_case_is_measured_verified_and_reported_on_plain_postgres() {
    smoke(Kind::Plain).await;
}

async fn smoke(kind: Kind) {
    let database = TestDatabase::create(kind).await;
    let dir = tempfile::tempdir().unwrap();
    let (data, report) = (dir.path().join("data"), dir.path().join("report"));
    let arguments = ["load", "--case", "smoke", "--verify", "--limit", "--json", "--report", report.to_str().unwrap()];
    let output = weir(&database, &data, &arguments).await;
    let figures = figures(&output);
    assert!(output.status.success(), "{figures:#}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((&figures["verified"], &figures["sent"]["refused"]), (&true.into(), &0.into()), "{figures:#}");
    assert!(figures["measurements"].as_u64() > Some(500), "{figures:#}");
    for positive in [
        "/cpu_s_per_million/weir",
        "/rss_max_bytes",
        "/latency_ms/acknowledged/p99",
        "/latency_ms/visible_in_select/p50",
        "/latency_ms/visible_in_query/p50",
        "/restart/after_kill_s",
        "/restart/after_stop_s",
        "/commits/rows_mean",
        "/limit/rows",
        "/limit/seconds",
    ] {
        assert!(figures.pointer(positive).and_then(Value::as_f64) > Some(0.0), "{positive} in {figures:#}");
    }
    for share in ["/stolen_share", "/limit/variants/0/stolen_share"] {
        assert!(figures.pointer(share).and_then(Value::as_f64).is_some_and(|share| (0.0..1.0).contains(&share)), "{figures:#}");
    }
    // Each of the five probes sends four times.
    let seen = |place: &str| figures["latency_ms"][place]["count"].as_u64().unwrap() + figures["unseen"][place].as_u64().unwrap();
    assert!((15..=25).contains(&seen("visible_in_select")) && (15..=25).contains(&seen("visible_in_query")), "{figures:#}");
    assert_eq!(figures["limit"]["variants"].as_array().unwrap().len(), 5);

    let json: Value = serde_json::from_slice(&std::fs::read(report.join("report.json")).unwrap()).unwrap();
    assert!(json["samples"].as_array().unwrap().len() >= 4);
    let page = std::fs::read_to_string(report.join("report.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 6);
    // It needs nothing but itself.
    assert!(!page.contains("src=") && !page.contains("href="));

    // What the limit was measured in is gone; a test beside this one may be at its own.
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'weir\\_limit\\_%'";
    let left: i64 = database.client().await.query_one(left, &[]).await.unwrap().get(0);
    assert!(!data.join("limit").exists() && left <= 1, "{left}");

    // Neither the database nor the directory is taken a second time.
    check_refused(&weir(&database, &dir.path().join("other"), &["load", "--case", "smoke"]).await, "has a tenant already");
    check_refused(&weir(&database, &data, &["load", "--case", "smoke"]).await, "is there already");
    check_refused(&weir(&database, &data, &["demo", "--seconds", "1"]).await, "has a tenant already");
}

#[tokio::test]
async fn a_full_log_is_worked_off_and_verified() {
    let database = TestDatabase::create(Kind::Timescale).await;
    let dir = tempfile::tempdir().unwrap();
    let arguments =
        ["load", "--case", "day", "--devices", "40", "--uplinks", "5000", "--workers", "2", "--verify", "--limit", "--json"];
    let output = weir(&database, &dir.path().join("data"), &arguments).await;
    let figures = figures(&output);
    assert!(output.status.success(), "{figures:#}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((&figures["verified"], &figures["workers"], &figures["uplinks"]), (&true.into(), &2.into(), &5000.into()));
    assert!(figures["ratio_to_limit"].as_f64() > Some(0.0), "{figures:#}");
    // A whole day of event time: hours and days were compared.
    assert!(figures["verification"]["buckets"].as_u64() > Some(4_000), "{figures:#}");
}

/// Twenty seconds of a fleet in the log, and four more over HTTP.
const LOG_THEN_HTTP: &str = r#"
about = "A full log, a restart, and live uplinks."
restart = true

[fleet]
devices = 40
kinds = { milesight-am307-native-five = 1 }
period_s = 2
jitter = 0.2
duplicates = 0.1
out_of_order = 0.01
late = 0.01
bad = 0.01
unchanged = 0.5
probes = 10

[source]
kind = "log"
uplinks = 440

[source.then]
shapes = { ttn = 1, own = 1 }
connections = 4
duration_s = 4
"#;

#[tokio::test]
async fn a_fleet_goes_on_behind_a_full_log_and_is_watched_at_checkpoints() {
    let database = TestDatabase::create(Kind::Timescale).await;
    let dir = tempfile::tempdir().unwrap();
    let case = dir.path().join("case");
    std::fs::create_dir(&case).unwrap();
    std::fs::write(case.join("case.toml"), LOG_THEN_HTTP).unwrap();
    let arguments = ["load", "--case", case.to_str().unwrap(), "--verify", "--json"];
    let settings = [("WEIR_RUNTIME_CHECKPOINT_RECORDS", "5")];
    let output = weir_with(&database, &dir.path().join("data"), &arguments, &settings).await;
    let figures = figures(&output);
    assert!(output.status.success(), "{figures:#}\n{}", String::from_utf8_lossy(&output.stderr));
    let then = &figures["then"];
    assert_eq!((&figures["verified"], &figures["uplinks"]), (&true.into(), &440.into()), "{figures:#}");
    assert_eq!(then["uplinks"], then["sent"]["acknowledged"], "those of the log are not counted again: {figures:#}");
    assert!((60..120).contains(&then["uplinks"].as_u64().unwrap()), "{figures:#}");
    for positive in ["/commits/with_checkpoint", "/latency_ms/visible_at_checkpoints/p99", "/latency_ms/visible_in_query/p50"] {
        assert!(then.pointer(positive).and_then(Value::as_f64) > Some(0.0), "{positive} in {figures:#}");
    }
    assert_eq!(then["unseen"]["visible_in_select"], 0, "{figures:#}");
}

#[tokio::test]
async fn a_demo_ends_with_one_object() {
    let database = TestDatabase::create(Kind::Plain).await;
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["demo", "--seconds", "3", "--json", "--devices", "50", "--rate", "60"];
    let output = weir(&database, &dir.path().join("data"), &arguments).await;
    let figures = figures(&output);
    assert!(output.status.success(), "{figures:#}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(figures["verified"], true);
    assert!(figures["uplinks_acknowledged"].as_u64() > Some(100), "{figures:#}");
}

#[tokio::test]
async fn the_daemons_own_error_comes_first() {
    let database = TestDatabase::create(Kind::Plain).await;
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let output = weir(&database, &dir.path().join("data"), &["demo", "--seconds", "1", "--listen", &listen]).await;
    check_refused(&output, "the daemon ended");
    check_refused(&output, &listen);
}

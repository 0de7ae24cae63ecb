//! What was set aside is tried again by a daemon that is killed between log and tables: in the end they hold
//! what they would have held, and each of it once.

use crate::expected;
use crate::process::{Daemon, PATIENCE};
use crate::registry::Site;
use crate::support::database::Kind;
use crate::tables::{Tables, assert_equal};
use crate::world::{artifacts, get};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;
use weir::registry::admin::{self, NewTemplate};

#[tokio::test]
async fn daemon_tries_again_what_was_set_aside_on_timescale() {
    tries_again(Kind::Timescale).await;
}

#[tokio::test]
async fn daemon_tries_again_what_was_set_aside_on_plain_postgres() {
    tries_again(Kind::Plain).await;
}

/// A decoder that is broken, and the same when it is mended. Of the first byte, the broken one makes a value
/// that cannot be stored where it is odd, and throws where it is even.
const BROKEN: &str = "function decodeUplink(input) { \
     if (input.bytes[0] % 2) return {data: {level: NaN, count: input.bytes[0]}}; throw new Error('broken'); }";
const MENDED: &str = "function decodeUplink(input) { \
     var data = {level: input.bytes[0] + 0.5}; if (input.bytes[0] % 2) data.count = input.bytes[0]; return {data: data}; }";
/// How many uplinks each device sends.
const UPLINKS: i64 = 20;

/// The time of a device's nth uplink: minutes ago, all on one day or two.
fn time(nth: i64) -> jiff::Timestamp {
    static BEGIN: std::sync::OnceLock<jiff::Timestamp> = std::sync::OnceLock::new();
    let begin =
        BEGIN.get_or_init(|| (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(2)).round(jiff::Unit::Second).unwrap());
    *begin + jiff::SignedDuration::from_mins(nth)
}

async fn tries_again(kind: Kind) {
    let site = site(kind).await;
    let daemon = site.start("a");
    for nth in 0..UPLINKS {
        let uplink =
            json!({ "device": "meter", "time": time(nth).to_string(), "fcnt": nth, "payload_hex": format!("{nth:02x}") });
        site.post(&daemon, &uplink).await;
        // The sender tries again what it heard nothing of.
        if nth % 5 == 0 {
            site.post(&daemon, &uplink).await;
        }
        let fields = json!({ "pressure": nth });
        for device in ["valve", "pump"] {
            site.post(
                &daemon,
                &json!({ "device": device, "time": time(nth).to_string(), "fcnt": nth, "payload_hex": "", "fields": fields }),
            )
            .await;
        }
    }
    site.caught_up(&daemon).await;
    let summary = rows(&site.weir("a", &["quarantine", "list", "--summary", "--json"]).await.stdout);
    let sums: Vec<_> = summary.iter().map(|sum| (sum["reason"].as_str().unwrap(), sum["entries"].as_i64().unwrap())).collect();
    assert_eq!(sums, [("unknown_device", UPLINKS), ("bad_value", UPLINKS / 2), ("decoder_error", UPLINKS / 2)]);

    // Nothing is mended yet: all of it stays, with the last attempt's place.
    let preview = String::from_utf8(site.weir("a", &["quarantine", "retry"]).await.stdout).unwrap();
    assert!(preview.contains("Nothing was changed. Say --yes"), "{preview}");
    assert_eq!(site.number("SELECT count(*) FROM quarantine_retry").await, 0);
    site.weir("a", &["quarantine", "retry", "--device", "valve", "--yes"]).await;
    until(&site, &daemon, "SELECT count(*) FROM quarantine_retry", 0).await;
    assert_eq!(site.number("SELECT count(*) FROM quarantine").await, 2 * UPLINKS);

    // All is mended, and tried again; but the database takes no rows until the daemon is killed.
    mend(&site).await;
    let blocker = site.database.client().await;
    blocker.batch_execute("BEGIN; LOCK TABLE measurement IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let said = site.weir("a", &["quarantine", "retry", "--yes"]).await;
    assert!(String::from_utf8_lossy(&said.stdout).contains("Marked 40 uplinks and fields."), "{said:?}");
    // Forty of these, twenty of the first time.
    until_logged(&daemon, 3 * UPLINKS).await;
    daemon.kill().await.killed();
    blocker.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(site.number("SELECT count(*) FROM quarantine_retry").await, 2 * UPLINKS, "nothing was committed");

    let daemon = site.start("a");
    until(&site, &daemon, "SELECT count(*) FROM quarantine", 0).await;
    site.caught_up(&daemon).await;
    daemon.terminate().await.well();
    assert_equal(Tables::read(&site.client).await, expected::tables(&site.dir("a")), "of a log with retries");
    assert_right(&site).await;
}

/// Panics: unless the tables hold what they would hold had all been right at first, each once.
async fn assert_right(site: &Site) {
    let mut right = Vec::new();
    for nth in 0..UPLINKS {
        let row = |device: &str, field: &str, value: f64| format!("{device} {field} {} {value}", time(nth).as_second());
        right.extend([
            row("meter", "level", nth as f64 + 0.5),
            row("valve", "pressure", nth as f64),
            row("pump", "pressure", nth as f64),
        ]);
        if nth % 2 == 1 {
            right.push(row("meter", "count", nth as f64));
        }
    }
    right.sort();
    let mut stored =
        site.texts("SELECT concat_ws(' ', device, field, extract(epoch FROM ts)::int8, value) FROM measurement_named").await;
    stored.sort();
    assert_eq!(stored, right);
    assert_eq!(site.number("SELECT count(*) FROM quarantine_retry").await, 0);
    // One retry for each of the first time, and one for each of the second: none was written twice.
    let count = |name: &str| format!("SELECT sum((counts ->> '{name}')::int8)::int8 FROM progress");
    let copies = UPLINKS / 5;
    assert_eq!(site.number(&count("duplicate")).await, copies);
    assert_eq!(site.number(&count("uplinks")).await, 3 * UPLINKS + copies + 3 * UPLINKS);
}

/// A tenant with a meter whose decoder is broken, a pump that is well, and a valve that nobody has registered.
async fn site(kind: Kind) -> Site {
    let site = Site::new(kind).await;
    let decoders = site.dir("a").join("decoders");
    std::fs::create_dir_all(&decoders).unwrap();
    std::os::unix::fs::symlink(artifacts(), decoders.join("artifacts")).unwrap();
    let decoder = Some(("javascript", BROKEN.as_bytes().to_vec()));
    let template = NewTemplate { name: "meter".into(), tenant: None, decoder, fields: json!({}) };
    let template = admin::add_template(&site.client, &template).await.unwrap();
    let meter = format!("INSERT INTO device (tenant_no, id, template_no) VALUES (1, 'meter', {template})");
    site.client.batch_execute(&meter).await.unwrap();
    site
}

/// Mends the decoder, and registers the valve.
async fn mend(site: &Site) {
    let hash = admin::add_decoder(&site.client, "javascript", "mended", MENDED.as_bytes()).await.unwrap();
    let template = "UPDATE template SET decoder_hash = $1 WHERE name = 'meter'";
    site.client.execute(template, &[&hash.as_slice()]).await.unwrap();
    site.client.batch_execute("INSERT INTO device (tenant_no, id, template_no) VALUES (1, 'valve', 1)").await.unwrap();
}

fn rows(out: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(out).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until a query gives a number.
pub(crate) async fn until(site: &Site, daemon: &Daemon, sql: &str, wanted: i64) {
    let deadline = Instant::now() + PATIENCE;
    while site.number(sql).await != wanted {
        assert!(Instant::now() < deadline, "{sql}: {}\n{}", site.number(sql).await, daemon.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the daemon has appended so many retries to its log.
async fn until_logged(daemon: &Daemon, retries: i64) {
    let appended = |line: &String| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["message"].as_str()?.contains("are tried again").then(|| line["count"].as_i64())?
    };
    let deadline = Instant::now() + PATIENCE;
    while daemon.log().iter().filter_map(appended).sum::<i64>() < retries {
        let (_, status) = get(daemon.address().await, "/status", "").await;
        assert!(Instant::now() < deadline, "{status}\n{}", daemon.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! A decoder that keeps running out of its limits: others are stored meanwhile, it is suspended in plain sight, and
//! when it is mended nothing is missing. Also where the daemon is killed in between.

use crate::expected;
use crate::process::Daemon;
use crate::quarantine::until;
use crate::registry::Site;
use crate::support::database::Kind;
use crate::tables::{Tables, assert_equal};
use crate::world::{artifacts, await_status, get};
use dataflows::OUT_OF_LIMITS_MAX;
use serde_json::{Value, json};
use weir::registry::admin::{self, NewTemplate};

const GOOD: &str = "function decodeUplink(input) { return {data: {level: input.bytes[0] + 0.5}} }";
const LOOPING: &str = "function decodeUplink(input) { for (;;) {} }";
/// How many uplinks each device sends at a time; the checkpoint of a partition falls into them.
const UPLINKS: i64 = 40;

/// A site with a meter and a gauge, whose decoder loops for the first and is good for the other.
async fn site() -> Site {
    let site = Site::new(Kind::Plain).await;
    let decoders = site.dir("a").join("decoders");
    std::fs::create_dir_all(&decoders).unwrap();
    std::os::unix::fs::symlink(artifacts(), decoders.join("artifacts")).unwrap();
    for (device, decoder) in [("meter", LOOPING), ("gauge", GOOD)] {
        let decoder = Some(("javascript", decoder.as_bytes().to_vec()));
        let template = NewTemplate { name: device.into(), tenant: None, decoder, fields: json!({}) };
        let template = admin::add_template(&site.client, &template).await.unwrap();
        let sql = "INSERT INTO device (tenant_no, id, template_no) VALUES (1, $1, $2)";
        site.client.execute(sql, &[&device, &template]).await.unwrap();
    }
    site
}

/// Sends the nth uplinks of the meter and of the gauge, all at once; each has a time of its own.
async fn send(site: &Site, daemon: &Daemon, nth: std::ops::Range<i64>) {
    let now = jiff::Timestamp::now();
    let uplink = |device: &str, nth| {
        let time = now + jiff::SignedDuration::from_millis(nth);
        json!({ "device": device, "time": time.to_string(), "fcnt": nth, "payload_hex": format!("{nth:02x}") })
    };
    let uplinks = nth.flat_map(|nth| [uplink("meter", nth), uplink("gauge", nth)]).collect();
    site.post(daemon, &Value::Array(uplinks)).await;
}

fn is_suspended(status: &Value) -> bool {
    status["decoders_suspended"].as_array().is_some_and(|suspended| suspended.len() == 1)
}

fn set_aside(reason: &str) -> String {
    format!("SELECT count(*) FROM quarantine WHERE reason = '{reason}'")
}

#[tokio::test]
async fn daemon_suspends_a_decoder_that_does_not_end() {
    let site = site().await;
    let daemon = site.start("a");
    // One worker works for both.
    send(&site, &daemon, 0..UPLINKS).await;
    let stored = "SELECT count(*) FROM measurement";
    until(&site, &daemon, stored, UPLINKS).await;
    site.caught_up(&daemon).await;
    let run = i64::from(OUT_OF_LIMITS_MAX);
    assert_eq!(site.number(&set_aside("decoder_steps")).await, run);
    assert_eq!(site.number(&set_aside("decoder_suspended")).await, UPLINKS - run);
    is_shown(&site, &daemon).await;

    daemon.kill().await.killed();
    let daemon = site.start("a");
    await_status(&daemon, is_suspended).await;
    send(&site, &daemon, UPLINKS..2 * UPLINKS).await;
    until(&site, &daemon, stored, 2 * UPLINKS).await;
    site.caught_up(&daemon).await;
    // It was not run again, unless this machine has taken so long that it was tried.
    let suspended = site.number(&set_aside("decoder_suspended")).await;
    assert!((2 * UPLINKS - run - 2..=2 * UPLINKS - run).contains(&suspended), "{suspended}");

    // Mended, it runs at once, and what was set aside is tried again.
    let mended = "function decodeUplink(input) { return {data: {level: input.bytes[0] + 0.25}} }";
    let hash = admin::add_decoder(&site.client, "javascript", "mended", mended.as_bytes()).await.unwrap();
    let template = "UPDATE template SET decoder_hash = $1 WHERE name = 'meter'";
    site.client.execute(template, &[&hash.as_slice()]).await.unwrap();
    await_status(&daemon, |status| status["decoders_suspended"] == json!([])).await;
    send(&site, &daemon, 2 * UPLINKS..2 * UPLINKS + 1).await;
    site.weir("a", &["quarantine", "retry", "--yes"]).await;
    until(&site, &daemon, "SELECT count(*) FROM quarantine", 0).await;
    site.caught_up(&daemon).await;
    assert!(daemon.terminate().await.well().count("a decoder is suspended no more") == 1);
    assert_equal(Tables::read(&site.client).await, expected::tables(&site.dir("a")), "of a log with suspensions");
    let mut right: Vec<_> = (0..=2 * UPLINKS)
        .flat_map(|nth| [format!("meter {}", nth as f64 + 0.25), format!("gauge {}", nth as f64 + 0.5)])
        .collect();
    right.sort();
    let mut stored = site.texts("SELECT concat_ws(' ', device, value) FROM measurement_named").await;
    stored.sort();
    assert_eq!(stored, right);
}

/// Panics: unless everybody who looks sees it.
async fn is_shown(site: &Site, daemon: &Daemon) {
    let address = daemon.address().await;
    let (_, status) = get(address, "/status", "").await;
    let suspended = &status["decoders_suspended"][0];
    assert!(is_suspended(&status) && suspended["tenant"] == 1 && suspended["failures"] == OUT_OF_LIMITS_MAX, "{status}");
    assert!(suspended["next_trial"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() > jiff::Timestamp::UNIX_EPOCH);
    let decoder = suspended["decoder"].as_str().unwrap();
    let log = daemon.log();
    assert!(log.iter().any(|line| line.contains("a decoder is suspended, for") && line.contains(decoder)), "{log:?}");

    let listen = address.to_string();
    let weir = async |arguments: &[&str]| {
        let said = site.weir_with("a", arguments, &[("WEIR_HTTP_LISTEN", &listen)]).await;
        String::from_utf8(said.stdout).unwrap()
    };
    let told = weir(&["status"]).await;
    let words = format!("suspended: decoder {decoder} of tenant 1, in 1 partition, after {OUT_OF_LIMITS_MAX} uplinks in a row");
    assert!(told.contains(&words), "{told}");
    let listed = weir(&["decoder", "list"]).await;
    let of = |decoder: &str| listed.lines().find(|line| line.contains(decoder)).map(|line| line.contains("tenant 1"));
    assert_eq!(of(decoder), Some(true), "{listed}");
    assert_eq!(listed.matches("tenant 1").count(), 1, "{listed}");
    assert!(weir(&["decoder", "show", decoder]).await.contains(r#""suspended": "tenant 1""#));
    // The daemon reads its figures each second.
    let metrics = async || reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap();
    let deadline = tokio::time::Instant::now() + crate::process::PATIENCE;
    while !metrics().await.lines().any(|line| line == "weir_decoders_suspended 1") {
        assert!(tokio::time::Instant::now() < deadline, "{}", metrics().await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

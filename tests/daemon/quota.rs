//! A tenant sends ten times its quota and more, while another one sends as ever: nobody hears a refusal for what somebody
//! else does, and all that was acknowledged is stored, thinned out or set aside, whatever is killed in between.

use crate::expected;
use crate::process::{Daemon, PATIENCE};
use crate::registry::{Site, TOKEN};
use crate::support::database::Kind;
use crate::tables::{Tables, assert_equal};
use crate::world::{await_status, get};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use weir::registry::TokenHash;

const FLOOD_TOKEN: &str = "weir_flood";
/// The flooding tenant's quota. Unit: measurements a second.
const PER_SECOND: usize = 5;
/// Uplinks in one of its requests, each of one measurement.
const BATCH: usize = 100;
/// How many refusals it hears before it gives up.
const REFUSALS: usize = 3;
/// What a daemon of a debug build takes at the most, flooded or not. Unit: kB.
const RESIDENT_KB_MAX: u64 = 600_000;

/// What became of what was sent.
#[derive(Clone, Copy, Default, Debug)]
struct Sent {
    acknowledged: usize,
    /// Of these, over the quota.
    over: usize,
    refused: usize,
    /// Sent when the daemon was killed: taken or not.
    unanswered: usize,
}

/// A site with a second tenant that has a quota.
async fn site(kind: Kind) -> Site {
    let site = Site::new(kind).await;
    let flood = format!(
        "INSERT INTO tenant (name, measurements_per_second_max, measurements_per_day_max) VALUES ('brewery', {PER_SECOND}, 100000); \
         INSERT INTO device (tenant_no, id, template_no) SELECT 2, 'vat-' || n, 1 FROM generate_series(0, 9) n"
    );
    site.client.batch_execute(&flood).await.unwrap();
    let token = "INSERT INTO api_token (token_hash, tenant_no, name, may_write) VALUES ($1, 2, 'flood', true)";
    site.client.execute(token, &[&TokenHash::of(FLOOD_TOKEN).0.as_slice()]).await.unwrap();
    site
}

/// Waits until the door treats what is over the quota so.
async fn treats(daemon: &Daemon, treatment: &str) {
    await_status(daemon, |status| status["devices"] == 11 && status["quotas"][0]["over_quota"] == treatment).await;
    // Tokens follow quotas.
    let url = format!("http://{}/v1/uplinks", daemon.address().await);
    let deadline = Instant::now() + PATIENCE;
    while reqwest::Client::new().post(&url).bearer_auth(FLOOD_TOKEN).body("[]").send().await.unwrap().status() == 401 {
        assert!(Instant::now() < deadline, "{}", daemon.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends as much as goes in as the flooding tenant, until it was asked to wait a few times, or the daemon is gone.
async fn flood(daemon: &Daemon, first: &mut usize) -> Sent {
    let (url, client) = (format!("http://{}/v1/uplinks", daemon.address().await), reqwest::Client::new());
    let begin = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(5);
    let mut sent = Sent::default();
    while sent.refused < REFUSALS {
        let uplink = |n: usize| {
            let time = begin + jiff::SignedDuration::from_millis(n as i64);
            json!({ "device": format!("vat-{}", n % 10), "id": format!("{n}"), "time": time.to_string(), "fields": { "x": n } })
        };
        let batch: Vec<Value> = (*first..*first + BATCH).map(uplink).collect();
        *first += BATCH;
        let Ok(answer) = client.post(&url).bearer_auth(FLOOD_TOKEN).json(&batch).send().await else {
            sent.unanswered += BATCH;
            return sent;
        };
        let (status, retry_after) = (answer.status(), answer.headers().get("retry-after").cloned());
        let told: Value = answer.json().await.unwrap();
        if status == 429 {
            assert_eq!(told["code"], "far_over_quota", "{told}");
            assert!(retry_after.is_some_and(|seconds| seconds.to_str().unwrap().parse::<u32>().unwrap() <= 11));
            sent.refused += 1;
        } else {
            assert_eq!((status.as_u16(), told["accepted"].as_u64()), (200, Some(BATCH as u64)), "{told}");
            sent.acknowledged += BATCH;
            sent.over += told["over_quota"].as_u64().unwrap_or(0) as usize;
        }
    }
    sent
}

/// Sends one uplink after the other as the other tenant, until it is stopped.
///
/// Panics: when one is refused.
async fn stream(daemon: &Daemon, first: &mut usize, stop: watch::Receiver<bool>) -> Sent {
    let (url, client) = (format!("http://{}/v1/uplinks", daemon.address().await), reqwest::Client::new());
    let mut sent = Sent::default();
    while !*stop.borrow() {
        *first += 1;
        let uplink = json!({ "device": "pump", "id": format!("{first}"), "fields": { "level": *first } });
        match client.post(&url).bearer_auth(TOKEN).json(&uplink).send().await {
            Ok(answer) => {
                let (status, told) = (answer.status(), answer.text().await.unwrap());
                assert_eq!((status.as_u16(), told.as_str()), (200, r#"{"status":"accepted"}"#));
                sent.acknowledged += 1;
            }
            Err(_) => {
                sent.unanswered += 1;
                break;
            }
        }
    }
    sent
}

/// Both at once; the stream ends with the flood.
async fn both(daemon: &Daemon, next: &mut [usize; 2]) -> [Sent; 2] {
    let (stop, stopped) = watch::channel(false);
    let [of_flood, of_stream] = next;
    let flooding = async {
        let sent = flood(daemon, of_flood).await;
        stop.send_replace(true);
        sent
    };
    let (flooded, streamed) = tokio::join!(flooding, stream(daemon, of_stream, stopped));
    [flooded, streamed]
}

async fn over_today(daemon: &Daemon) -> u64 {
    let (_, status) = get(daemon.address().await, "/status", "").await;
    status["quotas"][0]["uplinks_over_today"].as_u64().unwrap()
}

/// The most memory that the daemon ever had. Unit: kB.
fn resident_kb_max(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn harmless(kind: Kind) {
    let site = site(kind).await;
    let mut next = [0, 0];
    let daemon = site.start("a");
    treats(&daemon, "quarantine").await;
    let [flooded, streamed] = both(&daemon, &mut next).await;
    assert!(flooded.over > 5 * flooded.acknowledged / 10, "{flooded:?}");
    assert!(streamed.acknowledged > 0, "{streamed:?}");

    // The daemon is killed in the middle of a flood that is thinned out.
    site.weir("a", &["tenant", "set", "brewery", "--over-quota", "thin", "--thin-interval", "1 hour"]).await;
    treats(&daemon, "thin").await;
    let over_before = over_today(&daemon).await;
    assert_eq!(over_before, flooded.over as u64);
    // It is written down within a second or two.
    let file = site.dir("a").join("quotas.json");
    let deadline = Instant::now() + PATIENCE;
    while !std::fs::read_to_string(&file).unwrap_or_default().contains(&format!("\"over\":{over_before}")) {
        assert!(Instant::now() < deadline, "the day's use is not written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut sums = vec![flooded, streamed];
    // Until it may send again.
    loop {
        let sent = both(&daemon, &mut next).await;
        sums.extend(sent);
        if sent[0].acknowledged > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(resident_kb_max(&daemon) < RESIDENT_KB_MAX, "{} kB", resident_kb_max(&daemon));
    let pid = Pid::from_raw(daemon.pid().cast_signed()).unwrap();
    let kill = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        kill_process(pid, Signal::KILL).unwrap();
    };
    let (sent, ()) = tokio::join!(both(&daemon, &mut next), kill);
    sums.extend(sent);
    daemon.ended().await.killed();

    // Buckets begin full with a start, and the day's use is where it was.
    let daemon = site.start("a");
    treats(&daemon, "thin").await;
    assert!(over_today(&daemon).await >= over_before);
    let sent = both(&daemon, &mut next).await;
    assert!(sent[0].over > 0 && sent[0].refused > 0, "{sent:?}");
    sums.extend(sent);
    site.caught_up(&daemon).await;
    let metrics = reqwest::get(format!("http://{}/metrics", daemon.address().await)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("weir_tenant_uplinks_over_quota_today{tenant=\"brewery\"}"), "{metrics}");
    daemon.terminate().await.well();

    // What was acknowledged is in the log, and all of the log is accounted for.
    let sum = |of: fn(&Sent) -> usize| sums.iter().map(of).sum::<usize>() as i64;
    let (acknowledged, unanswered) = (sum(|sent| sent.acknowledged), sum(|sent| sent.unanswered));
    let count = |name: &str| format!("SELECT sum((counts->>'{name}')::int8)::int8 FROM progress");
    let [uplinks, decoded, duplicate, quarantined, thinned] = [
        site.number(&count("uplinks")).await,
        site.number(&count("uplinks_decoded")).await,
        site.number(&count("duplicate")).await,
        site.number(&count("uplinks_quarantined")).await,
        site.number(&count("thinned")).await,
    ];
    assert!((acknowledged..=acknowledged + unanswered).contains(&uplinks), "{uplinks} of {acknowledged} + {unanswered}");
    assert_eq!((uplinks, duplicate), (decoded + quarantined + thinned, 0));
    let aside = "SELECT count(*) FROM quarantine WHERE tenant_no = 2 AND reason = 'over_quota'";
    assert_eq!(site.number(aside).await, quarantined);
    assert!(quarantined > 0 && thinned > 0, "{quarantined}, {thinned}");
    let stored = |device: &str| {
        format!(
            "SELECT count(*) FROM measurement JOIN series USING (series_id) JOIN device USING (device_no) WHERE id LIKE '{device}'"
        )
    };
    let of_stream: usize = sums.iter().skip(1).step_by(2).map(|sent| sent.acknowledged).sum();
    let pump = site.number(&stored("pump")).await;
    assert!((of_stream as i64..=next[1] as i64).contains(&pump), "all of the other tenant's {of_stream} is stored, not {pump}");
    assert_eq!(pump + site.number(&stored("vat-%")).await, decoded);
    assert_equal(Tables::read(&site.client).await, expected::tables(&site.dir("a")), "of the flooded log");

    // What was set aside is stored when somebody wants it, outside the quota.
    let daemon = site.start("a");
    site.weir("a", &["quarantine", "retry", "--reason", "over_quota", "--yes"]).await;
    let deadline = Instant::now() + PATIENCE;
    while site.number(aside).await > 0 {
        assert!(Instant::now() < deadline, "{}", daemon.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    site.caught_up(&daemon).await;
    daemon.terminate().await.well();
    let vats = site.number(&stored("vat-%")).await;
    assert_eq!(pump + vats, decoded + quarantined, "each once");
}

#[tokio::test]
async fn daemon_a_flood_harms_nobody_and_is_accounted_for_on_plain_postgres() {
    harmless(Kind::Plain).await;
}

#[tokio::test]
async fn daemon_a_flood_harms_nobody_and_is_accounted_for_on_timescale() {
    harmless(Kind::Timescale).await;
}

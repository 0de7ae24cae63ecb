//! Commits keep their distance, however fast uplinks come singly.

use crate::process::Daemon;
use crate::registry::{Site, TOKEN};
use crate::support::database::Kind;
use futures_util::future::join_all;
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long uplinks come.
const LOAD: Duration = Duration::from_secs(3);
/// The shortest time from one commit of a worker to the next.
const SPACING: Duration = Duration::from_millis(20);

async fn commits(daemon: &Daemon) -> u32 {
    let url = format!("http://{}/metrics", daemon.address().await);
    let metrics = reqwest::get(url).await.unwrap().text().await.unwrap();
    let count = metrics.lines().find_map(|line| line.strip_prefix("weir_commits_total "));
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn daemon_commits_keep_their_distance() {
    let site = Site::new(Kind::Plain).await;
    // It has one worker.
    let daemon = site.start("a");
    site.caught_up(&daemon).await;
    let url = format!("http://{}/v1/uplinks", daemon.address().await);
    let sent = AtomicU32::new(0);
    let begun = Instant::now();
    let commits_before = commits(&daemon).await;
    let send = async || {
        let client = reqwest::Client::new();
        while begun.elapsed() < LOAD {
            let nth = sent.fetch_add(1, Ordering::Relaxed);
            let uplink = json!({ "device": "pump", "fcnt": nth, "fields": { "pressure": nth } });
            let answer = client.post(&url).bearer_auth(TOKEN).json(&uplink).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
    };
    join_all((0..4).map(|_| send())).await;
    site.caught_up(&daemon).await;
    let made = commits(&daemon).await - commits_before;
    let most = begun.elapsed().div_duration_f64(SPACING) + 1.0;
    println!("{} uplinks in {made} commits, of at most {most}", sent.into_inner());
    assert!(made > 0 && f64::from(made) <= most, "{made} commits, more than {most}");
    daemon.terminate().await.well();
}

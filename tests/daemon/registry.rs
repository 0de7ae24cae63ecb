//! The registry and the log change hands under the daemon: devices renamed, removed and added again,
//! another log adopted by mistake, another database behind the URL. Everything goes on, and nothing is mixed.

use crate::process::{Daemon, PARTITIONS, PATIENCE};
use crate::support::database::{Kind, TestDatabase};
use crate::world::get;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_postgres::Client;
use weir::registry::TokenHash;
use weir::store::{Store, StoreConfig};

pub(crate) const TOKEN: &str = "weir_token";

/// A tenant, a template whose fields come decoded, the device `pump`, a token.
pub(crate) struct Site {
    pub(crate) database: TestDatabase,
    pub(crate) client: Client,
    dir: TempDir,
    /// Each uplink has a value and a time of its own.
    pub(crate) sent: u32,
}

impl Site {
    pub(crate) async fn new(kind: Kind) -> Self {
        let database = migrated(kind).await;
        let client = database.client().await;
        let registry = "INSERT INTO tenant (name) VALUES ('waterworks'); \
                        INSERT INTO template (name, decoding) VALUES ('plain', 'upstream'); \
                        INSERT INTO device (tenant_no, id, template_no) VALUES (1, 'pump', 1)";
        client.batch_execute(registry).await.unwrap();
        let token = "INSERT INTO api_token (token_hash, tenant_no, name, may_write) VALUES ($1, 1, 'sender', true)";
        client.execute(token, &[&TokenHash::of(TOKEN).0.as_slice()]).await.unwrap();
        Self { database, client, dir: tempfile::tempdir().unwrap(), sent: 0 }
    }

    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn start(&self, name: &str) -> Daemon {
        Daemon::start(&self.database.url(), &self.dir(name), 1)
    }

    /// Runs `weir log adopt` for a data directory.
    async fn adopt(&self, name: &str, arguments: &[&str]) -> Output {
        self.weir(name, &[&["log", "adopt"], arguments].concat()).await
    }

    /// Runs `weir` for a data directory.
    pub(crate) async fn weir(&self, name: &str, arguments: &[&str]) -> Output {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .env_remove("WEIR_CONFIG")
            .env("WEIR_DATABASE_URL", self.database.url())
            .env("WEIR_LOG_DIR", self.dir(name))
            .env("WEIR_LOG_PARTITIONS", PARTITIONS.to_string())
            .output();
        let output = output.await.unwrap();
        assert!(output.status.success(), "{output:?}");
        output
    }

    /// Sends an uplink with so many fields, once the daemon knows the token.
    async fn send(&mut self, daemon: &Daemon, device: &str, fields: &[&str]) {
        self.sent += 1;
        let values: serde_json::Map<_, _> = fields.iter().map(|name| ((*name).to_owned(), json!(self.sent))).collect();
        self.post(daemon, &json!({ "device": device, "id": format!("m{}", self.sent), "fields": values })).await;
    }

    /// Posts an uplink in weir's own form, or an array of them, once the daemon knows the token.
    pub(crate) async fn post(&self, daemon: &Daemon, body: &Value) {
        let url = format!("http://{}/v1/uplinks", daemon.address().await);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = reqwest::Client::new().post(&url).bearer_auth(TOKEN).json(body).send().await.unwrap();
            if answer.status().is_success() {
                return;
            }
            assert!(Instant::now() < deadline, "{}", answer.text().await.unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends uplinks until rows of such a device are stored that were not there before.
    pub(crate) async fn until_stored(&mut self, daemon: &Daemon, device: &str, fields: &[&str]) {
        let sql = format!(
            "SELECT count(*) FROM series JOIN measurement USING (series_id) WHERE device_no = \
                           (SELECT device_no FROM device WHERE id = '{device}')"
        );
        let before = self.number(&sql).await;
        let deadline = Instant::now() + PATIENCE;
        while self.number(&sql).await == before {
            assert!(Instant::now() < deadline, "{}", daemon.log().join("\n"));
            self.send(daemon, device, fields).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all is committed.
    pub(crate) async fn caught_up(&self, daemon: &Daemon) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, status) = get(daemon.address().await, "/status", "").await;
            if status["ready"] == true && status["lag_records"] == 0 && status["devices"].as_u64() >= Some(1) {
                return;
            }
            assert!(Instant::now() < deadline, "{status}\n{}", daemon.log().join("\n"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        self.client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

async fn migrated(kind: Kind) -> TestDatabase {
    let database = TestDatabase::create(kind).await;
    Store::connect(StoreConfig::new(database.url())).await.unwrap().migrate(PARTITIONS).await.unwrap();
    database
}

#[tokio::test]
async fn daemon_devices_change_their_names_and_come_back() {
    let mut site = Site::new(Kind::Plain).await;
    let daemon = site.start("a");
    site.until_stored(&daemon, "pump", &["pressure", "flow"]).await;
    // The DevEUI is swapped, as happens every day.
    site.client.batch_execute("UPDATE device SET id = 'valve' WHERE id = 'pump'").await.unwrap();
    site.until_stored(&daemon, "valve", &["flow", "level", "pressure"]).await;
    // The table is loaded again, row by row, with the numbers as they were.
    site.client.batch_execute("CREATE TABLE saved AS TABLE device").await.unwrap();
    site.client.batch_execute("DELETE FROM device").await.unwrap();
    site.client.batch_execute("INSERT INTO device SELECT * FROM saved").await.unwrap();
    site.until_stored(&daemon, "valve", &["level", "pressure"]).await;
    site.caught_up(&daemon).await;
    assert_eq!(daemon.terminate().await.well().count("refuses"), 0);

    assert_eq!(site.number("SELECT count(*) FROM series_refused").await, 0);
    let series = "SELECT concat_ws(' ', device_no, device, field) FROM series ORDER BY series_id";
    let expected = [
        "1 pump flow",
        "1 pump pressure",
        "2 valve flow",
        "2 valve level",
        "2 valve pressure",
        "3 valve level",
        "3 valve pressure",
    ];
    let mut got = site.texts(series).await;
    got.sort();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn daemon_goes_back_to_the_log_that_it_left() {
    let mut site = Site::new(Kind::Timescale).await;
    let first = site.start("a");
    for _ in 0..30 {
        site.send(&first, "pump", &["a", "b"]).await;
    }
    site.caught_up(&first).await;
    first.terminate().await.well();
    let rows = "SELECT count(*) FROM measurement";
    assert_eq!(site.number(rows).await, 60);

    // By mistake, another data directory is adopted. It goes on with the numbers of the series.
    site.start("b").ended().await.refused(&["weir log adopt"]);
    let preview = String::from_utf8(site.adopt("b", &[]).await.stdout).unwrap();
    assert!(preview.contains("lost, unless that log is adopted again") && preview.contains("Nothing was changed"), "{preview}");
    site.start("b").ended().await.refused(&["weir log adopt"]);
    site.adopt("b", &["--yes"]).await;
    let second = site.start("b");
    site.until_stored(&second, "pump", &["c", "a"]).await;
    site.caught_up(&second).await;
    second.terminate().await.well();
    let rows_of_both = site.number(rows).await;

    // Back to the right one: it resumes, and knows what was numbered meanwhile.
    site.adopt("a", &["--yes"]).await;
    let first = site.start("a");
    site.caught_up(&first).await;
    assert_eq!(site.number(rows).await, rows_of_both, "nothing is written twice");
    site.send(&first, "pump", &["d", "c"]).await;
    site.caught_up(&first).await;
    first.terminate().await.well();
    assert_eq!(site.number(rows).await, rows_of_both + 2);
    assert_eq!(site.number("SELECT count(*) FROM series_refused").await, 0);
    let mut fields = site.texts("SELECT field FROM series ORDER BY field").await;
    fields.dedup();
    assert_eq!(fields, ["a", "b", "c", "d"]);
    assert_eq!(site.number("SELECT count(*) FROM series").await, 4);
}

#[tokio::test]
async fn daemon_in_front_of_an_empty_database_removes_nothing() {
    let mut site = Site::new(Kind::Plain).await;
    let daemon = site.start("a");
    site.until_stored(&daemon, "pump", &["a"]).await;
    site.caught_up(&daemon).await;
    daemon.terminate().await.well();

    let empty = migrated(Kind::Plain).await;
    let astray = Daemon::start(&empty.url(), &site.dir("a"), 1);
    let deadline = Instant::now() + PATIENCE;
    while !astray.log().iter().any(|line| line.contains("came from another database")) {
        assert!(Instant::now() < deadline, "{}", astray.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(get(astray.address().await, "/status", "").await.1["devices"], 1);
    astray.terminate().await.well();

    let daemon = site.start("a");
    site.until_stored(&daemon, "pump", &["a"]).await;
    // In its own database, all may be removed.
    site.client.batch_execute("TRUNCATE tenant, template CASCADE").await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while get(daemon.address().await, "/status", "").await.1["devices"] != 0 {
        assert!(Instant::now() < deadline, "{}", daemon.log().join("\n"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    daemon.terminate().await.well();
}

//! Runs a log through workers and committers into a database of its own.

use crate::database::{Kind, TestDatabase};
use dataflows::model::Partition;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use weir::decoder::Decoders;
use weir::log::Log;
use weir::runtime::{Crew, Pace, View};
use weir::store::{Store, StoreConfig};

/// Longest wait for anything. Nothing takes this long but a machine that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A migrated database with the registry rows that others refer to.
pub(crate) struct Target {
    store: Store,
    pub(crate) client: Client,
    /// Dropped last: the database goes when nobody is connected any more.
    _database: TestDatabase,
}

impl Target {
    pub(crate) async fn create(kind: Kind, partitions: u16) -> Self {
        let database = TestDatabase::create(kind).await;
        let mut store = Store::connect(StoreConfig::new(database.url())).await.unwrap();
        store.migrate(partitions).await.unwrap();
        let client = database.client().await;
        let registry = "SET TimeZone = 'UTC'; SET jit = off; INSERT INTO retention_class (class_no, name) VALUES (1, 'brief'); \
                        INSERT INTO tenant (tenant_no, name) VALUES (1, 'waterworks'), (2, 'harbour'); \
                        INSERT INTO template (template_no, name, decoding) SELECT n, n, 'upstream' FROM generate_series(1, 5) n";
        client.batch_execute(registry).await.unwrap();
        // Makes the tables of the new class.
        store.migrate(partitions).await.unwrap();
        Self { store, client, _database: database }
    }

    /// Works off the log up to its end and stops cleanly.
    pub(crate) async fn work_off(&self, log: &Log, decoders: &Decoders, workers: usize, pace: Pace) {
        let crew = self.crew_until(log, decoders, workers, pace, 0).await;
        crew.stop(Instant::now() + PATIENCE).await.unwrap();
    }

    /// Works until no more than `lag` records are left, and is cut off there, as if killed.
    pub(crate) async fn work_until(&self, log: &Log, decoders: &Decoders, workers: usize, pace: Pace, lag: u64) {
        let crew = self.crew_until(log, decoders, workers, pace, lag).await;
        crew.stop(Instant::now()).await.unwrap();
    }

    /// Counts the records whose rows are in the tables.
    pub(crate) async fn committed(&self) -> u64 {
        self.store.progress().await.unwrap().iter().map(|progress| progress.offset.0).sum()
    }

    async fn crew_until(&self, log: &Log, decoders: &Decoders, workers: usize, pace: Pace, lag: u64) -> Crew {
        let view = Arc::new(View::new(log.partitions()));
        let mut crew = Crew::start(workers, pace, log, decoders, &view).unwrap();
        crew.commit_to(&self.store, "oracle test");
        let reached = async {
            loop {
                let status = view.status(|partition: Partition| log.end(partition), 0);
                if status.ready && status.lag_records <= lag {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            () = reached => crew,
            error = crew.failure() => panic!("the crew failed: {error}"),
            () = tokio::time::sleep(PATIENCE) => panic!("the log is not worked off: {:?}", view.status(|p| log.end(p), 0)),
        }
    }
}

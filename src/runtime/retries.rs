//! Brings into the log what is marked in quarantine: woken by NOTIFY and by time, decided by what log and
//! tables hold.
//!
//! Invariant: no entry has two retries. A mark goes with the commit of its retry, so a retry that is in the log
//! and not committed is all that can lie between: those are read from the log itself, from the place of the
//! very snapshot in which the marks were read, and nobody else writes retries. A crash between append and
//! commit changes nothing in that, nor a database that comes back older than it was left.
//!
//! What was registered before the mark stands in the log before the retry.

use super::registry::Comparisons;
use crate::codec::{self, Kind};
use crate::log::{AppendError, Log, NewRecord, ReadError};
use crate::store::quarantine::{CHANNEL, EntryId, Wanted};
use crate::store::{Progress, Store, StoreError};
use dataflows::model::{Attempt, Offset, Partition, Record, Retry};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio_postgres::Client;

/// The marks are looked at at least this often, whether or not anybody says that there are any.
const PERIOD: Duration = Duration::from_secs(300);
/// Wait after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// Most retries that are in the log and not committed: enough that nobody waits for the next commit, and few
/// enough that they leave the log to the senders.
const ON_THEIR_WAY_MAX: i64 = 500;
/// How many bytes of retries are appended at once, or a single one.
const APPEND_BYTES: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the log cannot be read for the retries that it holds: {0}")]
    Read(#[from] ReadError),
    #[error("no retry could be appended to the log: {0}")]
    Append(#[from] AppendError),
}

/// Appends retries until it is dropped.
pub(super) async fn run(store: Store, log: Log, comparisons: Comparisons) {
    loop {
        if let Err(problem) = follow(&store, &log, &comparisons).await {
            tracing::warn!(error = %problem, "what is marked in quarantine waits");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Follows the marks over one connection, until it fails.
async fn follow(store: &Store, log: &Log, comparisons: &Comparisons) -> Result<(), Problem> {
    let (mut client, mut notices) = store.listen(CHANNEL).await?;
    loop {
        round(&mut client, log, comparisons).await?;
        if let Ok(None) = tokio::time::timeout(PERIOD, notices.recv()).await {
            return Ok(());
        }
    }
}

/// Appends what is marked and not on its way yet, as far as there is room for it.
async fn round(client: &mut Client, log: &Log, comparisons: &Comparisons) -> Result<(), Problem> {
    let Wanted { entries, idle, progress } = Wanted::read(client, ON_THEIR_WAY_MAX).await?;
    EntryId::unmark(client, &idle).await?;
    // The committer refuses a foreign log; until then nothing of it may be taken for ours.
    if entries.is_empty() || progress.iter().any(|p| p.log != log.id()) {
        return Ok(());
    }
    let on_their_way = {
        let log = log.clone();
        let scanned = tokio::task::spawn_blocking(move || on_their_way(&log, &progress)).await;
        scanned.expect("reading the log does not panic")?
    };
    let fresh: Vec<&EntryId> = entries.difference(&on_their_way).collect();
    if fresh.is_empty() {
        return Ok(());
    }
    // Who has registered a device or mended a decoder, and then marked, means the one to be there for the other.
    comparisons.one_from_now_on().await;
    let mut batch = Batch::default();
    for entry in fresh {
        let Some(record) = retry(client, entry, log).await? else { continue };
        batch.add(record);
        if batch.bytes >= APPEND_BYTES {
            batch.append(log).await?;
        }
    }
    batch.append(log).await
}

/// Finds the entries whose retries the log holds and the tables do not.
///
/// Cost: reads the log from the progress on.
fn on_their_way(log: &Log, progress: &[Progress]) -> Result<BTreeSet<EntryId>, ReadError> {
    let committed = |partition| progress.iter().find(|p| p.partition == partition).map_or(Offset(0), |p| p.offset);
    let from: Vec<Offset> = (0..log.partitions()).map(|partition| committed(Partition(partition))).collect();
    let mut found = BTreeSet::new();
    log.scan(&from, |record| {
        if codec::kind(record.body) == Kind::Retry
            && let Ok(Record::Retry(retry)) = codec::decode(record.body)
        {
            let Attempt { offset, log_time, field, .. } = retry.last;
            found.insert(EntryId {
                log_time,
                partition: record.partition,
                offset,
                field: field.map(|field| (*field).to_owned()),
            });
        }
    })?;
    Ok(found)
}

/// Makes the retry of an entry; none where the entry has gone, or cannot be tried again: its mark goes too.
async fn retry(client: &Client, entry: &EntryId, log: &Log) -> Result<Option<NewRecord>, Problem> {
    let Some((reason, record)) = entry.read(client).await? else { return Ok(None) };
    let EntryId { log_time, partition, offset, field } = entry;
    let why = match Retry::of_entry(*offset, *log_time, field.as_deref().map(Into::into), reason, &record) {
        Ok(retry) if Partition::of(&retry.uplink.device, log.partitions()) != *partition => {
            "its device lives in another partition".to_owned()
        }
        Ok(retry) => {
            let body = codec::encode(&Record::Retry(Box::new(retry)));
            let (bytes, max) = (body.len(), log.record_bytes_max());
            if bytes <= max {
                return Ok(Some(NewRecord { partition: *partition, body }));
            }
            format!("its retry has {bytes} bytes, and the log takes records of {max}")
        }
        Err(error) => error.to_string(),
    };
    tracing::error!(%partition, %offset, %why, "an entry of quarantine cannot be tried again: it stays, and its mark goes");
    EntryId::unmark(client, [entry]).await?;
    Ok(None)
}

/// Retries that are appended together.
#[derive(Default)]
struct Batch {
    records: Vec<NewRecord>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, record: NewRecord) {
        self.bytes += record.body.len();
        self.records.push(record);
    }

    /// Appends them, if there are any.
    async fn append(&mut self, log: &Log) -> Result<(), Problem> {
        let Self { records, .. } = std::mem::take(self);
        if !records.is_empty() {
            let count = records.len();
            log.append(records).await?;
            tracing::info!(count, "uplinks of quarantine are tried again");
        }
        Ok(())
    }
}

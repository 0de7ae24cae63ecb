//! Puts the pieces together: log, registry, graph, store, ingest and query become one daemon.
//!
//! ```text
//! HTTP ── intake ──► log ──► worker thread (graph) ──► committer task ──► database
//!                     ▲         │  ▲                        │
//!   ticks, registry, retries    │  └── assume / committed ──┘
//!                               └── memory ──► query endpoint
//! ```
//!
//! A partition belongs to one worker; a worker is one thread with one graph. All have one committer, which
//! owns all talk with the database, so that a slow or absent database never stops a
//! thread that acknowledges. Keeps the invariant that the database equals a function of the log
//! prefix: a worker's state is thrown away and rebuilt from the database's own checkpoint whenever
//! the database's `progress` is not what the worker left there.

mod backoff;
pub mod checkpoint;
mod clock;
mod commit_loop;
mod crew;
mod database;
mod door;
mod error;
mod gauges;
mod handover;
mod indexing;
mod intake;
mod maintenance;
mod making;
mod memory;
mod muster;
mod owned;
mod pace;
mod pending;
mod pool;
mod quota;
mod registry;
mod retained;
mod retries;
mod serve;
mod server;
#[cfg(test)]
mod simulation;
mod standing;
mod stream;
mod suspended;
mod ticks;
mod trouble;
mod verdicts;
mod view;
mod worker;

pub use checkpoint::{CHECKPOINT_VERSION, CheckpointError};
pub use crew::Crew;
pub use error::ServeError;
pub use pace::Pace;
pub use quota::QuotaStatus;
pub use serve::{Start, serve};
pub use suspended::SuspendedDecoder;
pub use view::{PartitionStatus, Status, View};

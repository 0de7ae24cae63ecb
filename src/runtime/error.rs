//! Why the daemon ends by itself.

use super::commit_loop::CommitLoopError;
use super::worker::WorkerError;
use crate::decoder::DecoderError;
use crate::log::OpenError;
use crate::registry::DirectoryError;
use crate::store::StoreError;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::task::JoinError;

/// Why the daemon ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory.
    #[error("the data directory {} cannot be used ({error})", path.display())]
    DataDirectory {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The registry's local copy.
    #[error(transparent)]
    Registry(#[from] DirectoryError),
    /// The decoders' local copies.
    #[error(transparent)]
    Decoders(#[from] DecoderError),
    /// The listening socket.
    #[error("cannot listen on {address} ({error}): set http.listen to a free address")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The running daemon.
    #[error("the running daemon cannot be taken over from ({0}): stop it, and start without --take-over")]
    TakeOver(std::io::Error),
    /// The database will not do, and waiting does not help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The committer found that this daemon must not go on.
    #[error(transparent)]
    Commit(#[from] CommitLoopError),
    /// A worker cannot go on.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The operating system gave no thread.
    #[error("a worker's thread cannot be started ({0})")]
    Thread(std::io::Error),
    /// A task panicked; the message is on the log.
    #[error("a part of the daemon failed ({0})")]
    Task(#[from] JoinError),
}

//! The state of one partition as bytes: zstd of postcard, with a version of its own.

use super::commit_loop::CommitLoopError;
use crate::store::StoredCheckpoint;
use dataflows::graph::{PartitionState, StateOfVersion2};
use dataflows::model::Offset;

/// The format of a checkpoint's bytes, and what goes on from it. Those before are read too, as of weirs that were stopped in
/// order; any other is refused.
pub const CHECKPOINT_VERSION: u32 = 4;
/// The same bytes, of a weir that closed the hours of all partitions in one moment.
const CLOSING_AT_ONCE: u32 = 3;
/// The format before there were quotas and suspended decoders.
const WITHOUT_QUOTAS: u32 = 2;

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Another version of weir took it.
    #[error(
        "the checkpoint has format {found}, this weir reads formats {WITHOUT_QUOTAS} to {CHECKPOINT_VERSION}: start the version that took it and stop \
         it with SIGTERM, or delete the row from table checkpoint to replay the log from its start"
    )]
    Version {
        /// What stands in the table.
        found: u32,
    },
    /// An earlier weir took it and was not stopped in order. A replay would make other rows than are in the tables.
    #[error(
        "the checkpoint has format {found}, and the weir that took it has written rows since, so it was not stopped in order; this \
         version would write some of them a second time: start the version that took it, stop it with SIGTERM, then start this one"
    )]
    NotStopped {
        /// What stands in the table.
        found: u32,
    },
    /// Not zstd.
    #[error(
        "the checkpoint is damaged ({0}): delete its row from table checkpoint to replay from an older one or the log's start"
    )]
    Compression(#[from] std::io::Error),
    /// Not a state.
    #[error(
        "the checkpoint is damaged ({0}): delete its row from table checkpoint to replay from an older one or the log's start"
    )]
    State(#[from] postcard::Error),
}

/// Encodes a state.
pub fn encode(state: &PartitionState) -> Vec<u8> {
    let plain = postcard::to_stdvec(state).expect("a state holds nothing that postcard refuses");
    zstd::encode_all(plain.as_slice(), 1).expect("compressing into memory does not fail")
}

/// Decodes a state of `version`.
///
/// Errors: another version, or damaged bytes.
pub fn decode(version: u32, bytes: &[u8]) -> Result<PartitionState, CheckpointError> {
    match version {
        CLOSING_AT_ONCE | CHECKPOINT_VERSION => Ok(postcard::from_bytes(&zstd::decode_all(bytes)?)?),
        WITHOUT_QUOTAS => Ok(postcard::from_bytes::<StateOfVersion2>(&zstd::decode_all(bytes)?)?.into()),
        found => Err(CheckpointError::Version { found }),
    }
}

/// Errors: rows up to `committed` would have to be replayed of which another version has made what is in the tables.
pub(super) fn replays_alike(stored: &StoredCheckpoint, committed: Offset) -> Result<(), CommitLoopError> {
    let StoredCheckpoint { partition, version, offset, .. } = *stored;
    if version == CHECKPOINT_VERSION || offset >= committed {
        return Ok(());
    }
    Err(CommitLoopError::Checkpoint { partition, error: CheckpointError::NotStopped { found: version } })
}

/// Decodes a state as it was stored.
///
/// Errors: as [`decode`].
pub(super) fn decode_stored(stored: &StoredCheckpoint) -> Result<PartitionState, CommitLoopError> {
    let partition = stored.partition;
    decode(stored.version, &stored.state).map_err(|error| CommitLoopError::Checkpoint { partition, error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::Partition;

    #[test]
    fn a_state_comes_back_and_the_rest_is_refused() {
        let state = PartitionState::default();
        let bytes = encode(&state);
        assert_eq!(decode(CHECKPOINT_VERSION, &bytes).unwrap(), state);
        assert!(matches!(decode(CHECKPOINT_VERSION + 1, &bytes), Err(CheckpointError::Version { .. })));
        let earlier = include_bytes!("../../dataflows/tests/golden/state-v2.bin");
        let read = decode(2, &zstd::encode_all(earlier.as_slice(), 1).unwrap()).unwrap();
        assert_eq!((read.counts.uplinks, read.counts.measurements_quarantined), (4, 2));
        assert_eq!(decode(3, &bytes).unwrap(), state);
        assert!(matches!(decode(1, &bytes), Err(CheckpointError::Version { found: 1 })));
        assert!(matches!(decode(CHECKPOINT_VERSION, b"no zstd"), Err(CheckpointError::Compression(_))));
    }

    #[test]
    fn an_earlier_version_has_to_be_stopped_in_order() {
        let is_taken = |version, offset, committed| {
            let (partition, offset, state) = (Partition(1), Offset(offset), vec![]);
            let stored = StoredCheckpoint { partition, offset, version, state, precedes_adoption: false };
            replays_alike(&stored, Offset(committed)).is_ok()
        };
        assert!(is_taken(CHECKPOINT_VERSION, 5, 9), "the same rows come again");
        assert!(is_taken(CHECKPOINT_VERSION - 1, 9, 9));
        assert!(!is_taken(CHECKPOINT_VERSION - 1, 8, 9));
    }
}

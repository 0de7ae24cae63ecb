//! The state of one partition as bytes: zstd of postcard, with a version of its own.

use crate::store::StoredCheckpoint;
use dataflows::graph::{PartitionState, StateOfVersion2};
use dataflows::model::CatalogueSeries;
use std::io::BufWriter;

/// The format of a checkpoint's bytes. The one before is read too, any other is refused.
pub const CHECKPOINT_VERSION: u32 = 3;
/// The format before there were quotas and suspended decoders.
const WITHOUT_QUOTAS: u32 = 2;
/// What the encoder is given at once. Unit: bytes.
const ENCODED_AT_ONCE_BYTES: usize = 64 << 10;

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Another version of weir took it.
    #[error(
        "the checkpoint has format {found}, this weir reads formats {WITHOUT_QUOTAS} and {CHECKPOINT_VERSION}: start the version that took it and stop \
         it with SIGTERM, or delete the row from table checkpoint to replay the log from its start"
    )]
    Version {
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
    let memory = "compressing into memory does not fail";
    let encoder = zstd::Encoder::new(Vec::new(), 1).expect(memory);
    // Piece by piece: the whole would be as large as the state. Single values would cost the encoder more than all else.
    let mut plain = BufWriter::with_capacity(ENCODED_AT_ONCE_BYTES, encoder);
    postcard::to_io(state, &mut plain).expect("a state holds nothing that postcard refuses");
    let Ok(encoder) = plain.into_inner() else { unreachable!("nothing is left to be flushed") };
    encoder.finish().expect(memory)
}

/// Decodes a state of `version`.
///
/// Errors: another version, or damaged bytes.
pub fn decode(version: u32, bytes: &[u8]) -> Result<PartitionState, CheckpointError> {
    match version {
        CHECKPOINT_VERSION => Ok(postcard::from_bytes(&zstd::decode_all(bytes)?)?),
        WITHOUT_QUOTAS => Ok(postcard::from_bytes::<StateOfVersion2>(&zstd::decode_all(bytes)?)?.into()),
        found => Err(CheckpointError::Version { found }),
    }
}

/// What a partition's replay begins with, as it was stored. Decoded it takes more memory than what the graph makes of it, so
/// a worker decodes those of its partitions one after the other.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    /// None: the partition is fresh.
    pub stored: Option<StoredCheckpoint>,
    /// The series that have numbers already, where the state does not know all of them.
    pub numbered: Vec<CatalogueSeries>,
}

impl Beginning {
    /// Gives the state.
    ///
    /// Errors: as [`decode`].
    pub(super) fn state(self) -> Result<PartitionState, CheckpointError> {
        let state = match self.stored {
            Some(stored) => decode(stored.version, &stored.state)?,
            None => PartitionState::default(),
        };
        Ok(if self.numbered.is_empty() { state } else { state.seeded(self.numbered) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_and_the_rest_is_refused() {
        let state = PartitionState::default();
        let bytes = encode(&state);
        assert_eq!(decode(CHECKPOINT_VERSION, &bytes).unwrap(), state);
        assert!(matches!(decode(CHECKPOINT_VERSION + 1, &bytes), Err(CheckpointError::Version { .. })));
        let earlier = include_bytes!("../../dataflows/tests/golden/state-v2.bin");
        let read = decode(2, &zstd::encode_all(earlier.as_slice(), 1).unwrap()).unwrap();
        assert_eq!((read.counts.uplinks, read.counts.measurements_quarantined), (4, 2));
        assert!(matches!(decode(1, &bytes), Err(CheckpointError::Version { found: 1 })));
        assert!(matches!(decode(CHECKPOINT_VERSION, b"no zstd"), Err(CheckpointError::Compression(_))));
    }
}

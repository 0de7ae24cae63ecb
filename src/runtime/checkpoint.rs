//! The state of one partition as bytes: zstd of postcard, with a version of its own.

use dataflows::graph::PartitionState;

/// The format of a checkpoint's bytes. Format 2 is read too; a checkpoint of another version is refused.
pub const CHECKPOINT_VERSION: u32 = 3;

/// What ends a state of format 3, and what one of format 2 lacks: no decoder is suspended. Postcard writes one field
/// behind the other.
const NOTHING_SUSPENDED: &[u8] = &[0];

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Another version of weir took it.
    #[error(
        "the checkpoint has format {found}, this weir reads format {CHECKPOINT_VERSION}: start the version that took it and stop \
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
    let plain = postcard::to_stdvec(state).expect("a state holds nothing that postcard refuses");
    zstd::encode_all(plain.as_slice(), 1).expect("compressing into memory does not fail")
}

/// Decodes a state of `version`. Who takes up one of an older format knows of no suspended decoder.
///
/// Errors: another version, or damaged bytes.
pub fn decode(version: u32, bytes: &[u8]) -> Result<PartitionState, CheckpointError> {
    let missing = match version {
        CHECKPOINT_VERSION => &[],
        2 => NOTHING_SUSPENDED,
        found => return Err(CheckpointError::Version { found }),
    };
    let mut plain = zstd::decode_all(bytes)?;
    plain.extend_from_slice(missing);
    Ok(postcard::from_bytes(&plain)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_and_the_rest_is_refused() {
        let state = PartitionState::default();
        let bytes = encode(&state);
        assert_eq!(decode(CHECKPOINT_VERSION, &bytes).unwrap(), state);
        assert!(matches!(decode(1, &bytes), Err(CheckpointError::Version { found: 1 })));
        assert!(matches!(decode(CHECKPOINT_VERSION + 1, &bytes), Err(CheckpointError::Version { .. })));
        assert!(matches!(decode(CHECKPOINT_VERSION, b"no zstd"), Err(CheckpointError::Compression(_))));
    }

    /// A device of format 2 that was heard once, as the version before wrote it.
    const FORMAT_2: &str = "80c09a80e286a706010000010101000000000101010355544380989abc0480909de91a000001010102743100000101016407\
         010164010000000101cacf9ececcce80fc450180c09a80e286a706df9eb1f1adcf8ef63480d0b7e9fc86a706010355544301\
         0780989abc04010178000000000180c09a80e286a706000000000000f83f01010180c09a80e286a70680d0b7e9fc86a70680\
         e8d1a58187a70601000000000000f83f000000000000f83f000000000000f83f80c09a80e286a70603000000000000f83f80\
         c09a80e286a70603000000000000f83f0000000000";

    /// Postcard would read the beginning of anything, so what comes back is written again and compared.
    #[test]
    fn a_state_of_format_2_is_read() {
        let plain = data_encoding::HEXLOWER.decode(FORMAT_2.as_bytes()).unwrap();
        let state = decode(2, &zstd::encode_all(plain.as_slice(), 1).unwrap()).unwrap();
        assert_eq!(state.counts.uplinks_decoded, 1);
        let again = postcard::to_stdvec(&state).unwrap();
        assert_eq!(again, [plain.as_slice(), NOTHING_SUSPENDED].concat());
        assert_eq!(decode(CHECKPOINT_VERSION, &encode(&state)).unwrap(), state);
    }
}

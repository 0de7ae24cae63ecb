//! What the tests of the decoder host share.

use super::{DecoderError, DecoderInput, DecoderKind, DecoderLimits, Decoders, VerdictSink};
use dataflows::model::{Offset, Partition};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Keeps the verdicts in memory.
#[derive(Default)]
pub(super) struct Verdicts(pub(super) Mutex<Vec<(Partition, Offset)>>);

impl VerdictSink for Verdicts {
    fn condemn(&self, partition: Partition, uplink: Offset) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.0.lock().unwrap().push((partition, uplink));
        Ok(())
    }
}

/// Opens decoders in a passing folder, with the compiled engine kept from test to test.
pub(super) fn open(limits: DecoderLimits) -> (tempfile::TempDir, Decoders) {
    let dir = tempfile::tempdir().unwrap();
    let kept = std::env::temp_dir().join("weir-decoder-test-artifacts");
    std::fs::create_dir_all(&kept).unwrap();
    std::os::unix::fs::symlink(kept, dir.path().join("artifacts")).unwrap();
    let decoders = open_in(dir.path(), limits);
    (dir, decoders)
}

/// Opens decoders in a folder.
pub(super) fn open_in(dir: &Path, limits: DecoderLimits) -> Decoders {
    Decoders::open(dir, limits, Arc::new(Verdicts::default())).unwrap()
}

/// No variables.
pub(super) static NONE: BTreeMap<String, String> = BTreeMap::new();

/// An uplink of `bytes` on port 1.
pub(super) fn input(bytes: &[u8]) -> DecoderInput<'_> {
    DecoderInput { fport: Some(1), bytes, recv_time_us: 1_700_000_000_123_000, variables: &NONE }
}

/// Gives what a script returns for an uplink, or its error, as a text.
pub(super) fn run(decoders: &Decoders, script: &str, bytes: &[u8]) -> String {
    match decoders.decode_once(DecoderKind::JavaScript, script.as_bytes(), &input(bytes)) {
        Ok(tried) => tried.result.to_string(),
        Err(DecoderError::Failed(failure)) => format!("{}: {}", failure.reason.as_str(), failure.detail),
        Err(error) => panic!("{error}"),
    }
}

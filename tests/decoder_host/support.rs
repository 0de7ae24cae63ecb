//! What the tests of the decoder host share.

use dataflows::decode::{Decode, DecodeCall, DecodeFailure, Decoded};
use dataflows::model::{
    DecoderHash, Decoding, Device, DeviceId, DeviceNo, EventTime, Offset, Partition, Template, TemplateNo, TenantNo, Uplink,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex};
use weir::decoder::{DecoderKind, DecoderLimits, Decoders, VerdictSink, WorkerDecoder};

/// Keeps the verdicts in memory.
#[derive(Default)]
pub(crate) struct Verdicts(pub(crate) Mutex<Vec<(Partition, Offset)>>);

impl VerdictSink for Verdicts {
    fn condemn(&self, partition: Partition, uplink: Offset) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.0.lock().unwrap().push((partition, uplink));
        Ok(())
    }
}

/// Decoders in a passing folder, with one worker.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) decoders: Decoders,
    pub(crate) worker: WorkerDecoder,
    pub(crate) verdicts: Arc<Verdicts>,
    next: u64,
}

impl Bench {
    /// Opens with the compiled engine that earlier tests have left.
    pub(crate) fn open(limits: DecoderLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("decoder-artifacts");
        std::fs::create_dir_all(&kept).unwrap();
        std::os::unix::fs::symlink(kept, dir.path().join("artifacts")).unwrap();
        Self::open_in(dir, limits)
    }

    /// Opens with compiled code of its own, which nobody else reads or writes.
    pub(crate) fn open_alone(limits: DecoderLimits) -> Self {
        Self::open_in(tempfile::tempdir().unwrap(), limits)
    }

    fn open_in(dir: tempfile::TempDir, limits: DecoderLimits) -> Self {
        let verdicts = Arc::new(Verdicts::default());
        let decoders = Decoders::open(dir.path(), limits, verdicts.clone()).unwrap();
        let worker = decoders.worker();
        Self { dir, decoders, worker, verdicts, next: 0 }
    }

    pub(crate) fn script(&self, source: &str) -> Decoding {
        Decoding::JavaScript(self.put(DecoderKind::JavaScript, source.as_bytes()))
    }

    pub(crate) fn put(&self, kind: DecoderKind, body: &[u8]) -> DecoderHash {
        self.decoders.put(kind, body).unwrap()
    }

    /// Decodes a frame at the next offset.
    pub(crate) fn decode(&mut self, decoding: Decoding, frame: &[u8]) -> Result<Decoded, DecodeFailure> {
        self.next += 1;
        decode(&mut self.worker, decoding, frame, Offset(self.next))
    }
}

/// Decodes a frame on port 85 that came in November 2023.
pub(crate) fn decode(
    worker: &mut WorkerDecoder,
    decoding: Decoding,
    frame: &[u8],
    offset: Offset,
) -> Result<Decoded, DecodeFailure> {
    let mut uplink = uplink(frame);
    if decoding == Decoding::Upstream {
        uplink.decoded = Some(String::from_utf8(frame.to_vec()).unwrap());
    }
    decode_uplink(worker, decoding, &uplink, offset)
}

/// Decodes an uplink.
pub(crate) fn decode_uplink(
    worker: &mut WorkerDecoder,
    decoding: Decoding,
    uplink: &Uplink,
    offset: Offset,
) -> Result<Decoded, DecodeFailure> {
    let template = Template { no: TemplateNo(1), name: "test".into(), decoding, fields: BTreeMap::new() };
    let device = Device {
        no: DeviceNo(1),
        tenant: TenantNo(1),
        id: uplink.device.clone(),
        template: TemplateNo(1),
        variables: BTreeMap::from([("offset".into(), "1.5".into())]),
        zone: None,
        provisioned: false,
    };
    let call = DecodeCall { partition: Partition(3), offset, uplink, device: &device, template: &template };
    let mut decoded = Decoded::default();
    worker.decode(&call, &mut decoded).map(|()| decoded)
}

/// An uplink on port 85 that came in November 2023.
pub(crate) fn uplink(frame: &[u8]) -> Uplink {
    Uplink {
        tenant: TenantNo(1),
        device: DeviceId::parse("0004a30b001c0530").unwrap(),
        received_at: EventTime(1_700_000_000_123_000),
        fport: Some(85),
        fcnt: Some(1),
        message_id: None,
        frame: frame.into(),
        decoded: None,
        receptions: Vec::new(),
    }
}

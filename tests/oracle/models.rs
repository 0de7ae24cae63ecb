//! The templates of the fleet: a script that returns what its frame says, models that ship with
//! weir as script and as wasm, and one whose network decodes.

use crate::random::Random;
use dataflows::model::{Decoding, FieldSpec, MINUTE_US, Offset, Partition, Template, TemplateNo};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use weir::decoder::{DecoderKind, DecoderLimits, Decoders, VerdictSink, templates};

/// Returns what the frame says as JSON, where JSON can say it.
const SCRIPT: &str = r#"
function decodeUplink(input) {
  var text = String.fromCharCode.apply(null, input.bytes);
  if (text === "throw") throw new Error("the probe is broken");
  if (text === "spin") for (;;);
  if (text === "errors") return { errors: ["no probe is connected"] };
  return { data: JSON.parse(text, function (key, value) { return value === "not a number" ? NaN : value; }) };
}"#;

/// Who decodes a device's uplinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Model {
    Scripted,
    Em300,
    Am307,
    Elsys,
    Upstream,
}

impl Model {
    pub(crate) const ALL: [Self; 5] = [Self::Scripted, Self::Em300, Self::Am307, Self::Elsys, Self::Upstream];

    pub(crate) fn no(self) -> TemplateNo {
        TemplateNo(self as u32 + 1)
    }
}

/// The decoders on disk, and their names.
pub(crate) struct Models {
    pub(crate) decoders: Decoders,
    decodings: [Decoding; 5],
}

impl Models {
    /// Puts the decoders into `dir`, with the compiled engine that earlier tests have left.
    pub(crate) fn open(dir: &Path) -> Self {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("decoder-artifacts");
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::create_dir_all(dir).unwrap();
        std::os::unix::fs::symlink(kept, dir.join("artifacts")).unwrap();
        // Few steps, since some frames use them all; and patience, since only counts may end a decoder here.
        let limits = DecoderLimits { steps: 20, watchdog: Duration::from_secs(60), ..DecoderLimits::default() };
        let decoders = Decoders::open(dir, limits, Arc::new(NoVerdicts)).unwrap();
        let shipped = |name| {
            let (kind, body) = templates::builtin(name).unwrap().decoder.unwrap();
            let hash = decoders.put(kind, body).unwrap();
            if kind == DecoderKind::Wasm { Decoding::Wasm(hash) } else { Decoding::JavaScript(hash) }
        };
        let scripted = Decoding::JavaScript(decoders.put(DecoderKind::JavaScript, SCRIPT.as_bytes()).unwrap());
        let [em300, am307, elsys] = ["milesight-em300-th", "milesight-am307-native", "elsys"].map(shipped);
        Self { decodings: [scripted, em300, am307, elsys, Decoding::Upstream], decoders }
    }

    pub(crate) fn template(&self, model: Model, fields: BTreeMap<&str, FieldSpec>) -> Template {
        let fields = fields.into_iter().map(|(name, spec)| (name.into(), spec)).collect();
        Template { no: model.no(), name: format!("{model:?}"), decoding: self.decodings[model as usize], fields }
    }
}

/// Gives specs of some of the fields that the models have.
pub(crate) fn specs(random: &mut Random) -> BTreeMap<&'static str, FieldSpec> {
    let mut specs = BTreeMap::new();
    for name in ["level", "tank_left", "temperature", "humidity"] {
        let unit = [None, None, Some("K"), Some("°C")][random.below(4) as usize].map(Into::into);
        let deadband_bits = [0.0f64, 0.0, 0.15, 1.0][random.below(4) as usize].to_bits();
        let heartbeat_us = [None, None, Some(20 * MINUTE_US)][random.below(3) as usize];
        specs.insert(name, FieldSpec { unit, deadband_bits, heartbeat_us });
    }
    specs
}

/// Nothing here may take so long that the watchdog ends it.
struct NoVerdicts;

impl VerdictSink for NoVerdicts {
    fn condemn(&self, partition: Partition, uplink: Offset) -> Result<(), Box<dyn Error + Send + Sync>> {
        Err(format!("the watchdog ended the decoding of {uplink} in partition {partition}, on a machine that is far too slow")
            .into())
    }
}

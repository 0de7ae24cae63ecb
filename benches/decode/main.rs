//! What does decoding one uplink cost, what does the exact reset save against a new runtime, and what does a
//! decoder's size do to either?
//!
//! - `script, reset`: the script in a warm worker of weir, reset included: what an uplink costs;
//! - `script, new native runtime`: QuickJS as a library, and for every uplink a new runtime and context, the
//!   `Buffer` polyfill and the script evaluated, one call, the result as JSON, all dropped: how a server without
//!   a reset keeps uplinks apart. It has no sandbox and no limits;
//! - `script, new instance`: the same in weir's sandbox, a new wasm instance for every uplink;
//! - `module, reset`: an AM307 frame by a wasm module;
//! - `upstream`: fields that the network decoded, flattened only.
//!
//! Input: the DL-5TM template (1 kB of script), the AM307 template (2 kB), and the AM307 template behind the 30 kB of
//! functions that a vendor's codec for a whole family has, each with a frame of its own.

mod native;

use criterion::{Criterion, criterion_group, criterion_main};
use dataflows::decode::{Decode, DecodeCall, Decoded};
use dataflows::model::{
    Decoding, Device, DeviceId, DeviceNo, EventTime, Offset, Partition, Template, TemplateNo, TenantNo, Uplink,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use weir::decoder::{DecoderInput, DecoderKind, DecoderLimits, Decoders, VerdictSink, templates};

const AM307: [u8; 30] =
    [1, 117, 92, 3, 103, 248, 255, 4, 104, 101, 5, 106, 73, 0, 6, 101, 18, 0, 7, 125, 231, 3, 8, 125, 205, 0, 9, 115, 151, 39];
const DL_5TM: [u8; 11] = [2, 19, 157, 0, 3, 0, 55, 2, 113, 12, 96];
const FIELDS: &str =
    r#"{"battery":92,"temperature":-0.8,"humidity":50.5,"activity":73,"illumination":18,"co2":999,"tvoc":205,"pressure":1013.5}"#;
/// Functions that a large codec has and one uplink does not call.
const FAMILY_FUNCTIONS: usize = 120;

struct NoVerdicts;

impl VerdictSink for NoVerdicts {
    fn condemn(&self, _: Partition, _: Offset) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}

/// A script, an uplink's frame, and how many fields it gives.
struct Codec {
    name: &'static str,
    script: Vec<u8>,
    frame: &'static [u8],
    fields: usize,
}

fn codecs() -> [Codec; 3] {
    let script = |name: &str| templates::builtin(name).and_then(|t| t.decoder).expect("it ships with weir").1.to_vec();
    let of_family = |n: usize| {
        format!(
            "function family{n}(bytes, data) {{\n  if (bytes[0] !== {n}) return false;\n  \
             for (var i = 1; i + 3 < bytes.length; i += 4) {{\n    var word = (bytes[i] << 8) | bytes[i + 1];\n    \
             data[\"channel{n}_\" + i] = word > 0x7fff ? word - 0x10000 : word;\n  }}\n  return true;\n}}\n"
        )
    };
    let large = [(0..FAMILY_FUNCTIONS).map(of_family).collect::<String>().into_bytes(), script("milesight-am307")].concat();
    [
        Codec { name: "1 kB", script: script("decentlab-dl5tm"), frame: &DL_5TM, fields: 4 },
        Codec { name: "2 kB", script: script("milesight-am307"), frame: &AM307, fields: 8 },
        Codec { name: "30 kB", script: large, frame: &AM307, fields: 8 },
    ]
}

fn decode(criterion: &mut Criterion) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("decode-bench");
    let decoders = Decoders::open(&dir, DecoderLimits::default(), Arc::new(NoVerdicts)).expect("the decoders open");
    let mut worker = decoders.worker();
    let device = Device {
        no: DeviceNo(1),
        tenant: TenantNo(1),
        id: DeviceId::parse("0004a30b001c0530").expect("a DevEUI"),
        template: TemplateNo(1),
        variables: BTreeMap::new(),
        zone: None,
        provisioned: false,
    };
    let mut group = criterion.benchmark_group("decode");
    let mut in_worker = |group: &mut criterion::BenchmarkGroup<'_, _>, name: String, decoding, frame: &[u8], fields: usize| {
        let uplink = Uplink {
            tenant: TenantNo(1),
            device: device.id.clone(),
            received_at: EventTime(1_700_000_000_000_000),
            fport: Some(85),
            fcnt: Some(1),
            message_id: None,
            frame: frame.to_vec(),
            decoded: Some(FIELDS.into()),
            receptions: Vec::new(),
        };
        let template = Template { no: TemplateNo(1), name: "template".into(), decoding, fields: BTreeMap::new() };
        let call =
            DecodeCall { partition: Partition(0), offset: Offset(1), uplink: &uplink, device: &device, template: &template };
        let mut decoded = Decoded::default();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                decoded.clear();
                worker.decode(black_box(&call), &mut decoded).expect("a good frame");
                assert_eq!(decoded.measurements.len(), fields);
            });
        });
    };
    let variables = BTreeMap::new();
    for codec in codecs() {
        let hash = decoders.put(DecoderKind::JavaScript, &codec.script).expect("it can be run");
        in_worker(&mut group, format!("script, reset, {}", codec.name), Decoding::JavaScript(hash), codec.frame, codec.fields);
        let sources = native::sources(&codec.script, codec.frame);
        eprintln!("{}: {}", codec.name, native::decode(&sources));
        group.bench_function(format!("script, new native runtime, {}", codec.name), |bencher| {
            bencher.iter(|| native::decode(black_box(&sources)));
        });
        let input = DecoderInput { fport: Some(85), bytes: codec.frame, recv_time_us: 0, variables: &variables };
        group.bench_function(format!("script, new instance, {}", codec.name), |bencher| {
            let once = || decoders.decode_once(DecoderKind::JavaScript, &codec.script, black_box(&input));
            bencher.iter(|| once().expect("a good frame"));
        });
    }
    let (kind, module) = templates::builtin("milesight-am307-native").and_then(|t| t.decoder).expect("it ships with weir");
    let hash = decoders.put(kind, module).expect("it can be run");
    in_worker(&mut group, "module, reset".into(), Decoding::Wasm(hash), &AM307, 8);
    in_worker(&mut group, "upstream".into(), Decoding::Upstream, &AM307, 8);
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);

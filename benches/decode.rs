//! What does decoding one uplink cost, and what does the exact reset add to it?
//!
//! Input: an AM307 frame with eight values, decoded by the templates that ship with weir.
//! - `script`: the script in a warm worker, reset included (what an uplink costs);
//! - `script, loaded anew`: a new runtime for every uplink, as servers without a reset have to do;
//! - `module`: the same fields from a wasm module, reset included;
//! - `upstream`: fields that the network decoded, flattened only.

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
use weir::decoder::{DecoderInput, DecoderLimits, Decoders, VerdictSink, templates};

const FRAME: [u8; 30] =
    [1, 117, 92, 3, 103, 248, 255, 4, 104, 101, 5, 106, 73, 0, 6, 101, 18, 0, 7, 125, 231, 3, 8, 125, 205, 0, 9, 115, 151, 39];
const FIELDS: &str = r#"{"battery":92,"temperature":-0.8,"humidity":50.5,"activity":73,"illumination":18,"co2":999,"tvoc_index":2.05,"pressure":1013.5}"#;

struct NoVerdicts;

impl VerdictSink for NoVerdicts {
    fn condemn(&self, _: Partition, _: Offset) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}

fn decode(criterion: &mut Criterion) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("decode-bench");
    let decoders = Decoders::open(&dir, DecoderLimits::default(), Arc::new(NoVerdicts)).expect("the decoders open");
    let mut worker = decoders.worker();
    let uplink = Uplink {
        tenant: TenantNo(1),
        device: DeviceId::parse("0004a30b001c0530").expect("a DevEUI"),
        received_at: EventTime(1_700_000_000_000_000),
        fport: Some(85),
        fcnt: Some(1),
        message_id: None,
        frame: FRAME.into(),
        decoded: Some(FIELDS.into()),
        receptions: Vec::new(),
    };
    let device = Device {
        no: DeviceNo(1),
        tenant: TenantNo(1),
        id: uplink.device.clone(),
        template: TemplateNo(1),
        variables: BTreeMap::new(),
        zone: None,
        provisioned: false,
    };
    let [script, module] = ["milesight-am307", "milesight-am307-native"].map(|name| {
        let template = templates::builtin(name).expect("it ships with weir");
        template.decoder.expect("it has a decoder")
    });
    let put = |(kind, body)| decoders.put(kind, body).expect("it can be run");
    let mut group = criterion.benchmark_group("decode");
    for (name, decoding) in
        [("script", Decoding::JavaScript(put(script))), ("module", Decoding::Wasm(put(module))), ("upstream", Decoding::Upstream)]
    {
        let template = Template { no: TemplateNo(1), name: name.into(), decoding, fields: BTreeMap::new() };
        let call =
            DecodeCall { partition: Partition(0), offset: Offset(1), uplink: &uplink, device: &device, template: &template };
        let mut decoded = Decoded::default();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                decoded.clear();
                worker.decode(black_box(&call), &mut decoded).expect("a good frame");
                assert_eq!(decoded.measurements.len(), 8);
            });
        });
    }
    let variables = BTreeMap::new();
    let input = DecoderInput { fport: Some(85), bytes: &FRAME, recv_time_us: 0, variables: &variables };
    group.bench_function("script, loaded anew", |bencher| {
        bencher.iter(|| decoders.decode_once(script.0, script.1, black_box(&input)).expect("a good frame"));
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);

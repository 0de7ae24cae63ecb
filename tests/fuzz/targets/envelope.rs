//! Bodies as senders bring them: cut into items, each parsed as the shape that the first byte says.
//!
//! What is accepted is within the limits, can be read back from the log, and its fields can be read by the decoder.

#![no_main]

use dataflows::model::{EventTime, Record, TenantNo};
use libfuzzer_sys::fuzz_target;
use weir::codec;
use weir::ingest::{Context, Event, Framing, Items, Limits, Parsed, Shape, split};

const SHAPES: [Shape; 4] = [Shape::Ttn, Shape::ChirpStack(None), Shape::ChirpStack(Some(Event::Up)), Shape::Own];
const ITEMS_MAX: usize = 100;

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, body)) = bytes.split_first() else { return };
    let shape = SHAPES[usize::from(how) % SHAPES.len()];
    let framing = if how & 4 == 0 { Framing::Detect } else { Framing::Lines };
    let limits = Limits::default();
    let decodes = |_: &_| how & 8 != 0;
    let context = Context { tenant: TenantNo(1), now: EventTime(1_795_352_400_000_000), limits: &limits, decodes: &decodes };
    let items = match split(body, framing, ITEMS_MAX) {
        Ok(Items::Single(item)) => vec![item],
        Ok(Items::Batch(items)) => items,
        Err(_) => return,
    };
    assert!(items.len() <= ITEMS_MAX);
    for item in items {
        let Ok(Parsed::Uplink(uplink)) = shape.parse(item, &context) else { continue };
        assert!(uplink.frame.len() <= limits.frame_bytes_max);
        if let Some(decoded) = &uplink.decoded {
            assert!(decoded.len() <= limits.decoded_bytes_max);
            weir::decoder::fuzzing::json(decoded).expect("what was let in can be read");
        }
        let record = Record::Uplink(uplink);
        assert_eq!(codec::decode(&codec::encode(&record)).expect("what was written can be read"), record);
    }
});

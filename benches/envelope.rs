//! What does it cost to read one uplink's envelope, in each shape?
//!
//! Input: an AM307 frame of five values in the bodies that the simulated fleet's networks post, with one to
//! three gateways' copies in the networks' own.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dataflows::model::{EventTime, TenantNo};
use std::hint::black_box;
use weir::ingest::{Context, Event, Limits, Parsed, Shape as Door};
use weir::load::{Fleet, FleetSpec, Kind, Shape, envelope};

fn envelopes(criterion: &mut Criterion) {
    let limits = Limits::default();
    let now = EventTime(1_795_352_400_000_000);
    let context = Context { tenant: TenantNo(1), now, limits: &limits, decodes: &|_| true };
    let mut group = criterion.benchmark_group("envelope");
    for (shape, door) in
        [(Shape::Ttn, Door::Ttn), (Shape::ChirpStack, Door::ChirpStack(Some(Event::Up))), (Shape::Own, Door::Own)]
    {
        let spec = FleetSpec {
            start: now,
            kinds: vec![(Kind::MilesightAm307Five, 1)],
            shapes: vec![(shape, 1)],
            ..FleetSpec::default()
        };
        let fleet = Fleet::new(spec).expect("the spec can be kept");
        let mut body = String::new();
        envelope::write(&fleet, &fleet.schedule().next().expect("a schedule has no end"), &mut body);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(door.as_str(), |bencher| {
            bencher.iter(|| match door.parse(black_box(&body), &context) {
                Ok(Parsed::Uplink(uplink)) => uplink,
                other => panic!("an uplink became {other:?}"),
            });
        });
    }
    group.finish();
}

criterion_group!(benches, envelopes);
criterion_main!(benches);

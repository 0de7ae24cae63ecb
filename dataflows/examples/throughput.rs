//! How many measurements a second of CPU the graph takes, and how many bytes a series, with a
//! decoder that costs next to nothing: 40,000 devices, five numbers an uplink, one uplink in ten
//! minutes of log time, one uplink in four thousand late, one in twenty a copy. Devices take turns
//! in the order of their numbers or, with a stride, in one that defeats the processor's caches. With
//! a longer lateness horizon there are more measurements in it, and more hours are open.
//!
//! `cargo run --release -p dataflows --example throughput [uplinks per run] [stride] [lateness horizon in minutes]`

use dataflows::decode::{Decode, DecodeCall, DecodeFailure, Decoded};
use dataflows::graph::{Graph, PartitionState};
use dataflows::model::*;
use std::collections::BTreeMap;
use std::fs;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const DEVICES: u64 = 40_000;
const FIELDS: usize = 5;
/// The last ends ten minutes behind the turn of an hour: two hours and a day of each series are open, the most there ever are.
const ROUNDS: u64 = 25;
const ROUND_US: i64 = 10 * MINUTE_US;
const BEGIN_US: i64 = 1_774_728_000 * SECOND_US;

/// Takes each byte of the frame as a tenth of a degree.
struct Bytes {
    names: Vec<FieldName>,
}

impl Decode for Bytes {
    fn decode(&mut self, call: &DecodeCall<'_>, decoded: &mut Decoded) -> Result<(), DecodeFailure> {
        let numbers = call.uplink.frame.iter().map(|&byte| Value::Number(f64::from(byte) * 0.1));
        let named = self.names.iter().cloned().zip(numbers);
        decoded.measurements.extend(named.map(|(field, value)| Measurement { field, value, at: None }));
        Ok(())
    }
}

fn main() {
    let uplinks_per_run: usize = std::env::args().nth(1).map_or(4096, |text| text.parse().expect("a number of uplinks"));
    let stride: u64 = std::env::args().nth(2).map_or(1, |text| text.parse().expect("a stride, such as 7919"));
    let horizon_minutes: i64 = std::env::args().nth(3).map_or(10, |text| text.parse().expect("a lateness horizon, such as 40"));
    let names: Vec<FieldName> = ["temperature", "humidity", "co2", "battery", "light"].map(Into::into).to_vec();
    let ids: Vec<DeviceId> = (0..DEVICES).map(|no| DeviceId::parse(&format!("{no:016x}")).expect("a DevEUI")).collect();
    let mut graph = Graph::new(Box::new(Bytes { names }));
    graph.adopt(Partition(0), PartitionState::default());
    let mut log = Log { next: 0 };
    let registry = registry(&ids, horizon_minutes * MINUTE_US)
        .map(|change| log.entry(BEGIN_US, Record::Registry(Box::new(change))))
        .collect();
    let (_, registry_ns) = on_cpu(|| graph.run(registry));
    println!("registry of {DEVICES} devices: {:.0} ms", registry_ns as f64 / 1e6);

    let resident_before = resident_bytes();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut frames = vec![[100u8; FIELDS]; DEVICES as usize];
    let (mut busy_ns, mut rows, mut batch) = (0, 0, Vec::new());
    for round in 0..ROUNDS {
        for step in 0..DEVICES {
            let device = (step * stride % DEVICES) as usize;
            random = xorshift(random);
            let frame = &mut frames[device];
            for (field, byte) in frame.iter_mut().enumerate() {
                match random >> (field * 2) & 3 {
                    1 => *byte = byte.saturating_add(1),
                    3 => *byte = byte.saturating_sub(1),
                    _ => {}
                }
            }
            let now_us = BEGIN_US + round as i64 * ROUND_US + step as i64 * ROUND_US / DEVICES as i64;
            let late_us = if random >> 20 & 0xfff == 0 { 40 * MINUTE_US } else { 0 };
            let uplink = uplink(&ids[device], round as u32, now_us - late_us, frame);
            if (random >> 40).is_multiple_of(20) {
                batch.push(log.entry(now_us, uplink.clone()));
            }
            batch.push(log.entry(now_us, uplink));
            if batch.len() >= uplinks_per_run {
                let entries = std::mem::take(&mut batch);
                let (outputs, ns) = on_cpu(|| graph.run(entries));
                busy_ns += ns;
                rows += outputs.len();
            }
        }
    }
    let counts = graph.counts(Partition(0));
    let seconds = busy_ns as f64 / 1e9;
    println!("{counts:?}, {rows} rows");
    println!(
        "{:.2} M measurements and {:.2} M uplinks per CPU-second, {} uplinks a run, stride {stride}",
        counts.measurements as f64 / seconds / 1e6,
        counts.uplinks as f64 / seconds / 1e6,
        uplinks_per_run
    );
    let series = DEVICES * FIELDS as u64;
    println!("{} bytes of memory a series, everything counted", (resident_bytes() - resident_before) / series);
    let (state, snapshot_ns) = on_cpu(|| graph.snapshot(Partition(0)));
    let (bytes, encode_ns) = on_cpu(|| postcard::to_stdvec(&state).expect("a state can be encoded"));
    println!(
        "snapshot {:.0} ms, encoding {:.0} ms, {} bytes a series",
        snapshot_ns as f64 / 1e6,
        encode_ns as f64 / 1e6,
        bytes.len() as u64 / series
    );
}

/// Numbers records.
struct Log {
    next: u64,
}

impl Log {
    fn entry(&mut self, log_time: i64, record: Record) -> Entry {
        let offset = Offset(self.next);
        self.next += 1;
        Entry { partition: Partition(0), offset, log_time: LogTime(log_time), condemned: false, record }
    }
}

fn registry(ids: &[DeviceId], lateness_horizon_us: i64) -> impl Iterator<Item = RegistryChange> {
    let policy = Policy { zone: "Europe/Berlin".into(), lateness_horizon_us, ..Policy::default() };
    let tenant = Tenant { no: TenantNo(1), policy };
    let model = Template { no: TemplateNo(1), name: "model".into(), decoding: Decoding::Upstream, fields: BTreeMap::new() };
    let devices = ids.iter().zip(0..).map(|(id, no)| {
        RegistryChange::Device(
            Device {
                no: DeviceNo(no),
                tenant: TenantNo(1),
                id: id.clone(),
                template: TemplateNo(1),
                variables: BTreeMap::new(),
                zone: None,
                provisioned: false,
            }
            .into(),
        )
    });
    [RegistryChange::Tenant(tenant.into()), RegistryChange::Template(model.into())].into_iter().chain(devices)
}

fn uplink(device: &DeviceId, fcnt: u32, received_at: i64, frame: &[u8]) -> Record {
    Record::Uplink(Box::new(Uplink {
        tenant: TenantNo(1),
        device: device.clone(),
        received_at: EventTime(received_at),
        fport: Some(2),
        fcnt: Some(fcnt),
        message_id: None,
        frame: frame.to_vec(),
        decoded: None,
        receptions: Vec::new(),
    }))
}

fn xorshift(mut x: u64) -> u64 {
    x ^= x << 13;
    x ^= x >> 7;
    x ^ x << 17
}

/// Runs `f` and gives how long the thread was on a CPU. Unit: nanoseconds.
fn on_cpu<T>(f: impl FnOnce() -> T) -> (T, u64) {
    let before = cpu_ns();
    let result = f();
    (result, cpu_ns() - before)
}

fn cpu_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells how long a thread ran");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("the first figure is nanoseconds")
}

fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").expect("Linux tells how much memory is resident");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("the second figure is pages") * 4096
}

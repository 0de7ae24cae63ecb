//! What a device in effect takes of the graph's memory, and how often memory is asked for to read an uplink.

use dataflows::decode::{Decode, DecodeCall, DecodeFailure, Decoded};
use dataflows::graph::{Graph, PartitionState};
use dataflows::model::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;

/// Counts what each thread asks for.
struct Counting;

thread_local! {
    static HELD_BYTES: Cell<isize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: the system's allocator does all of it; here is only counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD_BYTES.set(HELD_BYTES.get() + layout.size().cast_signed());
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD_BYTES.set(HELD_BYTES.get() - layout.size().cast_signed());
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PARTITIONS: u16 = 16;
const DEVICES: u32 = 20_000;

/// Nothing is decoded here.
struct Idle;

impl Decode for Idle {
    fn decode(&mut self, _: &DecodeCall<'_>, _: &mut Decoded) -> Result<(), DecodeFailure> {
        Ok(())
    }
}

#[test]
fn a_device_in_effect_takes_a_few_hundred_bytes() {
    for per_run in [50, 512, 4096] {
        let before = HELD_BYTES.get();
        let mut graph = Graph::new(Box::new(Idle));
        (0..PARTITIONS).for_each(|no| graph.adopt(Partition(no), PartitionState::default()));
        let mut entries = registry().into_iter().zip(1..).map(entry);
        while let Some(first) = entries.next() {
            graph.run([first].into_iter().chain(entries.by_ref().take(per_run - 1)).collect());
        }
        drop(entries);
        finish_merges(&mut graph);
        check(&format!("runs of {per_run}"), HELD_BYTES.get() - before, 270);

        let states: Vec<_> = (0..PARTITIONS).map(|no| postcard::to_stdvec(&graph.snapshot(Partition(no))).unwrap()).collect();
        drop(graph);
        let before = HELD_BYTES.get();
        let mut graph = Graph::new(Box::new(Idle));
        for (state, no) in states.iter().zip(0..) {
            graph.adopt(Partition(no), postcard::from_bytes(state).unwrap());
        }
        finish_merges(&mut graph);
        check("restored", HELD_BYTES.get() - before, 240);
    }
}

/// The arrangements merge a little in each run.
fn finish_merges(graph: &mut Graph) {
    (0..100).for_each(|_| drop(graph.run(Vec::new())));
}

fn check(what: &str, held_bytes: isize, device_bytes_max: isize) {
    let device_bytes = held_bytes / DEVICES as isize;
    println!("{what}: {device_bytes} bytes a device");
    assert!(device_bytes <= device_bytes_max, "{what}: {device_bytes} bytes a device, more than {device_bytes_max}");
}

fn entry(((partition, record), offset): ((Partition, Vec<u8>), u64)) -> Entry {
    let record = postcard::from_bytes(&record).unwrap();
    Entry { partition, offset: Offset(offset), log_time: LogTime(0), condemned: false, record }
}

/// The registry's records as the log holds them.
fn registry() -> Vec<(Partition, Vec<u8>)> {
    let encoded = |change| postcard::to_stdvec(&Record::Registry(Box::new(change))).unwrap();
    let tenant = |no| Tenant { no: TenantNo(no), policy: Policy::default() };
    let fields = BTreeMap::new;
    let model = |no| Template { no: TemplateNo(no), name: "model".into(), decoding: Decoding::Upstream, fields: fields() };
    let mut records = Vec::new();
    for partition in (0..PARTITIONS).map(Partition) {
        records.extend((0..20).map(|no| (partition, encoded(RegistryChange::Tenant(tenant(no).into())))));
        records.extend((0..5).map(|no| (partition, encoded(RegistryChange::Template(model(no).into())))));
    }
    for no in 0..DEVICES {
        let device = Device {
            no: DeviceNo(no.into()),
            tenant: TenantNo(no * 20 / DEVICES),
            id: DeviceId::parse(&format!("{:016x}", u64::from(no) << 16)).unwrap(),
            template: TemplateNo(no % 5),
            variables: BTreeMap::new(),
            zone: None,
            provisioned: false,
        };
        records.push((Partition::of(&device.id, PARTITIONS), encoded(RegistryChange::Device(device.into()))));
    }
    records
}

#[test]
fn an_uplink_is_read_with_three_allocations() {
    let uplink = Uplink {
        tenant: TenantNo(1),
        device: DeviceId::parse("0004a30b001c0530").unwrap(),
        received_at: EventTime(0),
        fport: Some(2),
        fcnt: Some(7),
        message_id: Some("message-7".into()),
        frame: vec![1; 20],
        decoded: None,
        receptions: vec![Reception { gateway: "0016c001f1530001".into(), rssi_dbm: Some(-90.0), snr_db: Some(7.5) }; 3],
    };
    let encoded = postcard::to_stdvec(&Record::Uplink(Box::new(uplink))).unwrap();
    let before = ALLOCATIONS.get();
    let read: Record = postcard::from_bytes(&encoded).unwrap();
    assert_eq!(ALLOCATIONS.get() - before, 3, "the uplink, its frame and the list of receptions: {read:?}");
}

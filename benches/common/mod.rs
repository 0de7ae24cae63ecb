//! A graph with a fleet in effect and a decoder that costs next to nothing.

use dataflows::decode::{Decode, DecodeCall, DecodeFailure, Decoded};
use dataflows::graph::{Graph, PartitionState};
use dataflows::model::{Decoding, Device, MINUTE_US, SECOND_US};
use dataflows::model::{
    DeviceId, DeviceNo, Entry, EventTime, FieldName, LogTime, Measurement, Offset, Partition, Policy, Record, RegistryChange,
    Template, TemplateNo, Tenant, TenantNo, Uplink, Value,
};
use std::collections::BTreeMap;

pub(crate) const PARTITION: Partition = Partition(0);
/// Values in a frame, one a byte.
pub(crate) const FIELDS: usize = 5;
const START_US: i64 = 1_774_728_000 * SECOND_US;
/// How often each device sends.
const ROUND_US: i64 = 10 * MINUTE_US;

/// Takes each byte of the frame as a number.
struct Bytes {
    names: Vec<FieldName>,
}

impl Decode for Bytes {
    fn decode(&mut self, call: &DecodeCall<'_>, decoded: &mut Decoded) -> Result<(), DecodeFailure> {
        let numbers = call.uplink.frame.iter().map(|&byte| Value::Number(f64::from(byte)));
        let named = self.names.iter().cloned().zip(numbers);
        decoded.measurements.extend(named.map(|(field, value)| Measurement { field, value, at: None }));
        Ok(())
    }
}

/// A graph, and the log that it is fed from.
pub(crate) struct Fed {
    pub(crate) graph: Graph,
    ids: Vec<DeviceId>,
    next: u64,
    uplinks: u64,
}

impl Fed {
    /// A graph with so many devices in effect.
    pub(crate) fn new(devices: u64) -> Self {
        let names = ["temperature", "humidity", "co2", "battery", "light"].map(FieldName::from).to_vec();
        let ids = (0..devices).map(|no| DeviceId::parse(&format!("{no:016x}")).expect("a DevEUI")).collect();
        let mut graph = Graph::new(Box::new(Bytes { names }));
        graph.adopt(PARTITION, PartitionState::default());
        let mut fed = Self { graph, ids, next: 0, uplinks: 0 };
        let registry = fed.registry().into_iter().map(|change| fed.entry(0, Record::Registry(Box::new(change)))).collect();
        fed.graph.run(registry);
        fed
    }

    fn registry(&self) -> Vec<RegistryChange> {
        let tenant = Tenant { no: TenantNo(1), policy: Policy::default() };
        let model = Template { no: TemplateNo(1), name: "model".into(), decoding: Decoding::Upstream, fields: BTreeMap::new() };
        let device = |(id, no): (&DeviceId, u64)| {
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
        };
        let devices = self.ids.iter().zip(1..).map(device);
        [RegistryChange::Tenant(tenant.into()), RegistryChange::Template(model.into())].into_iter().chain(devices).collect()
    }

    fn entry(&mut self, at_us: i64, record: Record) -> Entry {
        let offset = Offset(self.next);
        self.next += 1;
        Entry { partition: PARTITION, offset, log_time: LogTime(START_US + at_us), condemned: false, record }
    }

    /// The next `count` uplinks, each device in its turn; the values are what `value` makes of the round.
    pub(crate) fn uplinks(&mut self, count: usize, value: fn(u64) -> u8) -> Vec<Entry> {
        let devices = self.ids.len() as u64;
        let next = |_| {
            let (round, device) = (self.uplinks / devices, self.uplinks % devices);
            self.uplinks += 1;
            let at_us = round as i64 * ROUND_US + device as i64 * ROUND_US / devices as i64;
            let uplink = self.uplink(self.ids[device as usize].clone(), round as u32, at_us, value(round));
            self.entry(at_us, uplink)
        };
        (0..count).map(next).collect()
    }

    /// The same uplinks again, now.
    pub(crate) fn again(&mut self, entries: &[Entry]) -> Vec<Entry> {
        let at_us = entries.last().map_or(0, |entry| entry.log_time.0 - START_US);
        entries.iter().map(|entry| self.entry(at_us, entry.record.clone())).collect()
    }

    /// Uplinks of devices that are not in effect.
    pub(crate) fn strangers(&mut self, count: usize) -> Vec<Entry> {
        let next = |nth| {
            let id = DeviceId::parse(&format!("ffff{nth:012x}")).expect("a DevEUI");
            let uplink = self.uplink(id, self.next as u32, 0, 0);
            self.entry(0, uplink)
        };
        (0..count).map(next).collect()
    }

    fn uplink(&self, device: DeviceId, fcnt: u32, at_us: i64, value: u8) -> Record {
        Record::Uplink(Box::new(Uplink {
            tenant: TenantNo(1),
            device,
            received_at: EventTime(START_US + at_us),
            fport: Some(2),
            fcnt: Some(fcnt),
            message_id: None,
            frame: vec![value; FIELDS],
            decoded: None,
            receptions: Vec::new(),
        }))
    }
}

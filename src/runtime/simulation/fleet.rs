//! What senders and the registry put into the log: the records of a small fleet.

use super::decoder::{FIELDS, HEAVY, THROWS};
use super::random::Fate;
use crate::codec;
use crate::log::NewRecord;
use dataflows::model::*;
use std::collections::BTreeMap;

pub(super) const PARTITIONS: u16 = 4;
/// An evening before a change of the clock in Europe: 2026-03-28T20:00:00Z.
pub(super) const BEGIN_US: i64 = 1_774_728_000 * SECOND_US;
const DEVICES: u64 = 9;

/// The fleet, with what it remembers.
pub(super) struct Fleet {
    fate: Fate,
    fcnt: u32,
    numbers: u32,
    sent: Vec<Uplink>,
    /// What the log took in, with how its retry would name it.
    taken: Vec<Retry>,
}

impl Fleet {
    pub(super) fn new(fate: &Fate) -> Self {
        Self { fate: fate.clone(), fcnt: 0, numbers: 0, sent: Vec::new(), taken: Vec::new() }
    }

    /// The registry with which a daemon begins.
    pub(super) fn registry(&mut self) -> Vec<Vec<NewRecord>> {
        let mut appends: Vec<_> = (1..=2).map(|no| self.tenant(no)).collect();
        appends.push(self.template());
        appends.extend((0..DEVICES - 1).map(|device| self.device(device)));
        appends
    }

    /// Something that somebody sends at `now_us`.
    pub(super) fn next(&mut self, now_us: i64) -> Vec<NewRecord> {
        let device = self.fate.below(DEVICES);
        match self.fate.pick(&[60, 8, 6, 3, 5, 2, 1, 1]) {
            0 => (0..self.fate.within(1..=3)).flat_map(|_| self.uplink(now_us)).collect(),
            1 => self.copy(),
            2 => self.retry(now_us),
            3 => vec![record(Partition(self.fate.below(PARTITIONS.into()) as u16), &Record::Tick)],
            4 => self.device(device),
            5 => self.tenant(1 + self.fate.below(2) as u32),
            6 => self.removed(device),
            _ => {
                let body = [vec![1, 77, 2], vec![1, 0, 255], vec![]][self.fate.below(3) as usize].clone();
                vec![NewRecord { partition: Partition(self.fate.below(PARTITIONS.into()) as u16), body }]
            }
        }
    }

    /// The log took a record in.
    pub(super) fn taken(&mut self, offset: Offset, log_time: LogTime, body: &[u8]) {
        let uplink = match codec::decode(body) {
            Ok(Record::Uplink(uplink)) => *uplink,
            Ok(Record::Retry(retry)) => retry.uplink,
            _ => return,
        };
        let last = Attempt { offset, log_time, field: None, arrived: log_time, passed: Some(log_time) };
        self.taken.push(Retry { last, uplink });
    }

    fn uplink(&mut self, now_us: i64) -> Vec<NewRecord> {
        let device = self.fate.below(DEVICES);
        let kind = [0, THROWS, HEAVY][self.fate.pick(&[30, 1, 2])];
        let mut frame = vec![kind];
        for _ in 0..self.fate.within(1..=4) {
            let value = if self.fate.once_in(40) { u8::MAX } else { self.fate.below(4) as u8 };
            let ago = [0, self.fate.below(20), self.fate.below(200)][self.fate.pick(&[5, 3, 1])];
            frame.extend([self.fate.below(4) as u8, value, ago as u8]);
        }
        self.fcnt += 1;
        let identity = self.fate.below(8);
        let late_us = self.fate.one_of(&[0, 0, 0, 5 * MINUTE_US, HOUR_US, -2 * HOUR_US]);
        let uplink = Uplink {
            tenant: tenant_of(device),
            device: id_of(device),
            received_at: EventTime((now_us - late_us).div_euclid(30 * SECOND_US) * 30 * SECOND_US),
            fport: Some(85),
            fcnt: (identity < 6).then_some(self.fcnt),
            message_id: (identity == 6).then(|| format!("message {}", self.fcnt).into()),
            frame,
            decoded: None,
            receptions: vec![],
        };
        self.sent.push(uplink.clone());
        vec![of_device(device, &Record::Uplink(Box::new(uplink)))]
    }

    /// The same uplink as a while ago, by another gateway, or by a sender that heard no answer.
    fn copy(&mut self) -> Vec<NewRecord> {
        let ago = self.fate.below(12) as usize;
        let again = self.sent.iter().rev().nth(ago).cloned();
        again.into_iter().map(|uplink| of_id(&uplink.device.clone(), &Record::Uplink(Box::new(uplink)))).collect()
    }

    /// The retry of what came a while ago, or of a field of it. What it says of that may be wrong: it has to mean the
    /// same to all.
    fn retry(&mut self, now_us: i64) -> Vec<NewRecord> {
        let ago = self.fate.below(20) as usize;
        let Some(mut retry) = self.taken.iter().rev().nth(ago).cloned() else { return vec![] };
        retry.last.field = self.fate.once_in(4).then(|| self.fate.one_of(&FIELDS).into());
        if self.fate.once_in(4) {
            retry.last.passed = Some(LogTime(now_us - HOUR_US));
        }
        vec![of_id(&retry.uplink.device.clone(), &Record::Retry(Box::new(retry)))]
    }

    fn device(&mut self, device: u64) -> Vec<NewRecord> {
        self.numbers += 1;
        let id = id_of(device);
        let provisioned = self.fate.once_in(4);
        let no = match provisioned {
            true => DeviceNo::provisioned(Partition::of(&id, PARTITIONS), self.numbers).expect("numbers are few"),
            false => DeviceNo(self.numbers.into()),
        };
        let zone = self.fate.once_in(3).then(|| "America/New_York".to_owned());
        let (tenant, template) = (tenant_of(device), TemplateNo(1));
        let device = Device { no, tenant, id: id.clone(), template, variables: BTreeMap::new(), zone, provisioned };
        vec![of_id(&id, &change(RegistryChange::Device(device.into())))]
    }

    fn removed(&mut self, device: u64) -> Vec<NewRecord> {
        let removed = RegistryChange::DeviceRemoved { tenant: tenant_of(device), id: id_of(device) };
        vec![of_device(device, &change(removed))]
    }

    fn tenant(&mut self, no: u32) -> Vec<NewRecord> {
        let fate = &self.fate;
        let policy = Policy {
            lateness_horizon_us: fate.one_of(&[10 * MINUTE_US, 10 * MINUTE_US, 0]),
            heartbeat_us: fate.one_of(&[HOUR_US, 5 * MINUTE_US]),
            class: ClassNo(fate.below(2) as u16),
            raw_retention_us: None,
            zone: fate.one_of(&["UTC", "Europe/Berlin"]).into(),
        };
        everywhere(&change(RegistryChange::Tenant(Tenant { no: TenantNo(no), policy }.into())))
    }

    fn template(&mut self) -> Vec<NewRecord> {
        let flow = FieldSpec { deadband_bits: 0.15f64.to_bits(), ..FieldSpec::default() };
        let fields = BTreeMap::from([("flow".into(), flow)]);
        let template = Template { no: TemplateNo(1), name: "pump".into(), decoding: Decoding::Upstream, fields };
        everywhere(&change(RegistryChange::Template(template.into())))
    }
}

fn record(partition: Partition, record: &Record) -> NewRecord {
    NewRecord { partition, body: codec::encode(record) }
}

fn everywhere(what: &Record) -> Vec<NewRecord> {
    (0..PARTITIONS).map(|partition| record(Partition(partition), what)).collect()
}

fn of_id(id: &DeviceId, what: &Record) -> NewRecord {
    record(Partition::of(id, PARTITIONS), what)
}

fn of_device(device: u64, what: &Record) -> NewRecord {
    of_id(&id_of(device), what)
}

fn change(registry: RegistryChange) -> Record {
    Record::Registry(Box::new(registry))
}

fn tenant_of(device: u64) -> TenantNo {
    TenantNo(1 + device as u32 % 2)
}

fn id_of(device: u64) -> DeviceId {
    DeviceId::parse(&format!("pump-{device}")).expect("the name is well-formed")
}

//! Writes the story of a small fleet into a log: everything that can happen to a log happens.

use crate::filled_log::FilledLog;
use crate::frames::{ago_us, payload, rounded};
use crate::models::{Model, Models, specs};
use crate::random::Random;
use dataflows::model::*;
use std::collections::BTreeMap;

/// Devices in the registry; one more sends too.
const DEVICES: u32 = 12;

/// Writes about `records` records.
pub(crate) fn write(log: &mut FilledLog, models: &Models, seed: u64, records: usize) {
    let mut author = Author {
        random: Random::new(seed, 0),
        log,
        models,
        sent: Vec::new(),
        tried: Vec::new(),
        set: BTreeMap::new(),
        fcnt: 0,
        numbers: 0,
    };
    for tenant in [1, 2] {
        author.tenant(tenant);
    }
    for model in Model::ALL {
        author.template(model);
    }
    for device in 0..DEVICES {
        author.device(device, usual(device), false);
    }
    let end = author.log.records() + records;
    while author.log.records() < end {
        let after_us = author.pause_us();
        author.log.pass(after_us);
        for _ in 0..=author.random.below(8) {
            author.act();
        }
    }
    // Until every bucket is closed.
    author.log.pass(3 * DAY_US);
    author.everywhere(&Record::Tick);
}

struct Author<'a> {
    random: Random,
    log: &'a mut FilledLog,
    models: &'a Models,
    sent: Vec<Uplink>,
    /// Every uplink and every retry of one, with how a retry names it.
    tried: Vec<Retry>,
    set: BTreeMap<u32, Device>,
    fcnt: u32,
    /// Device numbers that were given.
    numbers: u64,
}

impl Author<'_> {
    fn pause_us(&mut self) -> i64 {
        let span_us = [MINUTE_US, 10 * MINUTE_US, 3 * HOUR_US, DAY_US];
        let span_us = span_us[self.random.pick([60, 30, 6, 1].into_iter())];
        self.random.below(span_us as u64) as i64
    }

    fn act(&mut self) {
        let device = self.random.below(u64::from(DEVICES) + 1) as u32;
        match self.random.pick([150, 15, 10, 4, 2, 2, 18].into_iter()) {
            0 => self.uplink(device),
            1 => self.copy(),
            2 => self.registry(device),
            3 => {
                let partition = Partition(self.random.below(u64::from(self.log.partitions())) as u16);
                self.log.add(partition, &Record::Tick);
            }
            4 => self.condemned(device),
            6 => self.retry(),
            _ => {
                let partition = Partition(self.random.below(u64::from(self.log.partitions())) as u16);
                self.log.add_body(partition, [vec![1, 77, 2], vec![1, 0, 255], vec![]][self.random.below(3) as usize].clone());
            }
        }
    }

    fn uplink(&mut self, device: u32) {
        let uplink = self.new_uplink(device);
        self.sent.push(uplink.clone());
        self.send(uplink);
    }

    fn send(&mut self, uplink: Uplink) {
        let partition = Partition::of(&uplink.device, self.log.partitions());
        let (offset, log_time) = (self.log.next(partition), LogTime(self.log.now_us()));
        let last = Attempt { offset, log_time, field: None, arrived: log_time, passed: Some(log_time) };
        self.tried.push(Retry { last, uplink: uplink.clone() });
        let record = match self.excess() {
            None => Record::Uplink(Box::new(uplink)),
            Some(excess) => Record::OverQuota(Box::new(OverQuota { excess, uplink })),
        };
        self.log.add(partition, &record);
    }

    /// Now and then, what comes is over a quota.
    fn excess(&mut self) -> Option<Excess> {
        let treatment = match self.random.pick([85, 5, 7, 3].into_iter()) {
            0 => return None,
            1 => Treatment::Quarantine,
            2 => Treatment::Thin { interval_us: 15 * MINUTE_US },
            _ => Treatment::Thin { interval_us: 3 * HOUR_US },
        };
        let span = [QuotaSpan::Second, QuotaSpan::Day][self.random.below(2) as usize];
        Some(Excess { span, measurements_max: 500, treatment })
    }

    /// The retry of what came a while ago, in quarantine or not, or of a field of it. What is said of its
    /// having passed may be wrong: it has to mean the same to all.
    fn retry(&mut self) {
        let ago = self.random.below(20) as usize;
        let Some(mut retry) = self.tried.iter().rev().nth(ago).cloned() else { return };
        if self.random.share() < 0.2 {
            retry.last.passed = None;
        }
        if retry.last.field.is_none() && self.random.share() < 0.2 {
            retry.last.field = Some(["level", "flow", "temperature"][self.random.below(3) as usize].into());
        }
        let partition = Partition::of(&retry.uplink.device, self.log.partitions());
        let (offset, log_time) = (self.log.next(partition), LogTime(self.log.now_us()));
        let last = Attempt { offset, log_time, passed: Some(log_time), ..retry.last.clone() };
        self.tried.push(Retry { last, uplink: retry.uplink.clone() });
        self.log.add(partition, &Record::Retry(Box::new(retry)));
    }

    fn new_uplink(&mut self, device: u32) -> Uplink {
        let (now_us, random) = (self.log.now_us(), &mut self.random);
        let received_at = EventTime(rounded(now_us - ago_us(random)));
        // Mostly what the device is, for a device may have become another model.
        let model = if random.share() < 0.95 { usual(device) } else { Model::ALL[random.below(5) as usize] };
        let payload = payload(model, random, now_us);
        self.fcnt += 1;
        let identity = random.below(8);
        Uplink {
            tenant: tenant_of(device),
            device: id_of(device),
            received_at,
            fport: Some(85),
            fcnt: (identity < 6).then_some(self.fcnt),
            message_id: (identity == 6).then(|| format!("message {}", self.fcnt).into()),
            frame: payload.frame,
            decoded: payload.decoded,
            receptions: vec![],
        }
    }

    /// The same uplink as a while ago, by another gateway or another try.
    fn copy(&mut self) {
        let ago = self.random.below(20) as usize;
        if let Some(uplink) = self.sent.iter().rev().nth(ago).cloned() {
            self.send(uplink);
        }
    }

    /// An uplink whose decoding had to be ended, with the verdict behind it.
    fn condemned(&mut self, device: u32) {
        let uplink = self.new_uplink(device);
        let partition = Partition::of(&uplink.device, self.log.partitions());
        let verdict = Record::Verdict { uplink: self.log.next(partition) };
        self.send(uplink);
        for _ in 0..self.random.below(4) {
            let other = self.random.below(u64::from(DEVICES)) as u32;
            self.uplink(other);
        }
        self.log.add(partition, &verdict);
    }

    fn registry(&mut self, device: u32) {
        let tenant = 1 + self.random.below(2) as u32;
        let model = Model::ALL[self.random.below(5) as usize];
        match self.random.pick([6, 6, 4, 3, 6, 3, 1, 1].into_iter()) {
            0 => self.tenant(tenant),
            1 => self.template(model),
            2 => self.device(device, model, false),
            3 => self.device(device, usual(device), true),
            4 => self.changed_device(device),
            5 => {
                let removed = RegistryChange::DeviceRemoved { tenant: tenant_of(device), id: id_of(device) };
                self.of_device(device, removed);
                self.log.pass(MINUTE_US);
                self.device(device, usual(device), false);
            }
            6 => {
                self.everywhere(&change(RegistryChange::TenantRemoved(TenantNo(tenant))));
                self.uplink(device);
                self.tenant(tenant);
            }
            _ => {
                self.everywhere(&change(RegistryChange::TemplateRemoved(model.no())));
                self.uplink(device);
                self.template(model);
            }
        }
    }

    fn tenant(&mut self, no: u32) {
        let random = &mut self.random;
        let mut one_of = |among: &[i64]| among[random.below(among.len() as u64) as usize];
        let policy = Policy {
            lateness_horizon_us: one_of(&[10 * MINUTE_US, 10 * MINUTE_US, 2 * HOUR_US, 0]),
            heartbeat_us: one_of(&[HOUR_US, HOUR_US, 5 * MINUTE_US, 0]),
            class: ClassNo(one_of(&[0, 0, 1]) as u16),
            raw_retention_us: Some(one_of(&[40 * DAY_US, 40 * DAY_US, 3 * HOUR_US])),
            zone: ["UTC", "Europe/Berlin", "Asia/Kolkata"][random.below(3) as usize].into(),
        };
        self.everywhere(&change(RegistryChange::Tenant(Tenant { no: TenantNo(no), policy }.into())));
    }

    fn template(&mut self, model: Model) {
        let template = self.models.template(model, specs(&mut self.random));
        self.everywhere(&change(RegistryChange::Template(template.into())));
    }

    /// Sets a device that is new, or comes back under another number.
    fn device(&mut self, nth: u32, model: Model, provisioned: bool) {
        self.numbers += 1;
        let id = id_of(nth);
        let partition = Partition::of(&id, self.log.partitions());
        let no =
            if provisioned { DeviceNo::provisioned(partition, self.numbers as u32).unwrap() } else { DeviceNo(self.numbers) };
        let zone = self.zone();
        let variables = BTreeMap::from([("height".to_owned(), "2".to_owned())]);
        let device = Device { no, tenant: tenant_of(nth), id, template: model.no(), variables, zone, provisioned };
        self.set.insert(nth, device.clone());
        self.of_device(nth, RegistryChange::Device(device.into()));
    }

    /// Changes what is set of a device, its number kept.
    fn changed_device(&mut self, nth: u32) {
        let zone = self.zone();
        let model = Model::ALL[self.random.below(5) as usize];
        if let Some(device) = self.set.get_mut(&nth) {
            (device.zone, device.template) = (zone, model.no());
            let device = device.clone();
            self.of_device(nth, RegistryChange::Device(device.into()));
        }
    }

    fn zone(&mut self) -> Option<String> {
        [None, None, Some("America/New_York")][self.random.below(3) as usize].map(Into::into)
    }

    fn of_device(&mut self, device: u32, registry: RegistryChange) {
        let partition = Partition::of(&id_of(device), self.log.partitions());
        self.log.add(partition, &change(registry));
    }

    fn everywhere(&mut self, record: &Record) {
        for partition in 0..self.log.partitions() {
            self.log.add(Partition(partition), record);
        }
    }
}

fn change(registry: RegistryChange) -> Record {
    Record::Registry(Box::new(registry))
}

/// The model that a device is, while nobody says otherwise.
fn usual(device: u32) -> Model {
    Model::ALL[device as usize % 5]
}

fn tenant_of(device: u32) -> TenantNo {
    TenantNo(1 + device % 2)
}

fn id_of(device: u32) -> DeviceId {
    DeviceId::parse(&format!("pump-{device}")).unwrap()
}

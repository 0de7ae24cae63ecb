//! Makes logs of a small fleet in which everything happens that can happen to a log.

use super::{Script, device_id, number};
use dataflows::model::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(crate) const PARTITIONS: u16 = 3;
/// An evening before a change of the clock in Europe: 2026-03-28T20:00:00Z.
pub(crate) const BEGIN_US: i64 = 1_774_728_000 * SECOND_US;

/// One record to be, with what is left to the place where it lands.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    /// Log time since the record before. Unit: seconds.
    pub(crate) after_s: i64,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Uplink {
        device: u8,
        received_ago_s: i64,
        identity: u8,
        condemned: bool,
        excess: Option<Excess>,
        script: Draft,
    },
    /// The same uplink as some uplinks ago, within the quota or not.
    Again {
        ago: usize,
        excess: Option<Excess>,
    },
    /// The retry of an uplink, or of the retry of one, as some of them ago; `passed` tells whether it
    /// passed dedup then, true or not. With a field, of that alone.
    Retry {
        ago: usize,
        passed: bool,
        field: Option<u8>,
    },
    Registry {
        partition: u16,
        change: Change,
    },
    Tick {
        partition: u16,
    },
}

/// A [`Script`] whose event times are relative to log time.
#[derive(Clone, Debug)]
pub(crate) enum Draft {
    Gives {
        measurements: Vec<(u8, Value, Option<i64>)>,
        rejected: u8,
    },
    Many {
        from: u16,
        count: u16,
    },
    /// One measurement of each of so many periods, the newest so many periods ago.
    History {
        field: u8,
        period_s: i64,
        ago: i64,
        count: i64,
    },
    Fails,
    Loops {
        memory: bool,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Tenant { tenant: u8, policy: Policy },
    TenantRemoved { tenant: u8 },
    Template { template: u8, decoder: u8, fields: Vec<FieldSpec> },
    TemplateRemoved { template: u8 },
    Device { device: u8, generation: u8, template: u8, zone: Option<String>, provisioned: bool },
    DeviceRemoved { device: u8 },
}

fn value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![20 => Just(1.0), 5 => Just(1.25), 5 => Just(2.0), 3 => Just(0.0), 1 => Just(-0.0), 3 => -9.0..9.0, 1 => Just(f64::NAN)];
    let text = prop_oneof![8 => Just("on"), 8 => Just("off"), 1 => Just("\0")];
    let place = prop_oneof![8 => Just(52.5), 4 => Just(48.1), 1 => Just(91.0)];
    prop_oneof![
        20 => number.prop_map(Value::Number),
        4 => any::<bool>().prop_map(Value::Boolean),
        3 => text.prop_map(|text| Value::Text(text.into())),
        3 => (place, proptest::option::of(Just(-0.0))).prop_map(|(latitude, altitude)| {
            Value::Location { latitude, longitude: 13.4, altitude }
        }),
    ]
}

/// Seconds before log time, in steps that make equal times likely.
fn ago_s() -> impl Strategy<Value = i64> {
    prop_oneof![
        20 => 0..10i64,
        10 => 0..60i64,
        4 => 0..600i64,
        1 => Just(-130),
        1 => Just(120 * 24 * 365 * 30),
    ]
    .prop_map(|half_minutes| half_minutes * 30)
}

/// Of a log that is `ill`, most uplinks run their decoders out of their limits.
fn draft(ill: bool) -> impl Strategy<Value = Draft> {
    let measurement = (0..4u8, value(), proptest::option::of(ago_s()));
    let rejected = prop_oneof![20 => Just(0u8), 2 => 1..4u8, 1 => 15..20u8];
    let period_s = prop_oneof![3 => Just(3_600i64), 1 => Just(86_400i64), 1 => Just(1_800)];
    prop_oneof![
        2 => (0..2u8, period_s, 0..40i64, 20..70i64)
            .prop_map(|(field, period_s, ago, count)| Draft::History { field, period_s, ago, count }),
        60 => (proptest::collection::vec(measurement, 0..6), rejected)
            .prop_map(|(measurements, rejected)| Draft::Gives { measurements, rejected }),
        1 => (0..5u16, 250..258u16).prop_map(|(from, count)| Draft::Many { from: from * 250, count }),
        2 => Just(Draft::Fails),
        if ill { 900 } else { 2 } => any::<bool>().prop_map(|memory| Draft::Loops { memory }),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let zone =
        prop_oneof![Just("UTC"), Just("Europe/Berlin"), Just("Asia/Kolkata"), Just("Australia/Lord_Howe"), Just("No/Where")];
    let horizon = prop_oneof![2 => Just(10 * MINUTE_US), 1 => Just(2 * HOUR_US), 1 => Just(0)];
    let heartbeat = prop_oneof![2 => Just(HOUR_US), 1 => Just(5 * MINUTE_US), 1 => Just(0)];
    let retention = prop_oneof![3 => Just(None), 1 => Just(Some(3 * HOUR_US))];
    (zone, horizon, heartbeat, 0..2u16, retention).prop_map(
        |(zone, lateness_horizon_us, heartbeat_us, class, raw_retention_us)| Policy {
            zone: zone.into(),
            lateness_horizon_us,
            heartbeat_us,
            class: ClassNo(class),
            raw_retention_us,
        },
    )
}

fn spec() -> impl Strategy<Value = FieldSpec> {
    let unit = prop_oneof![3 => Just(None), 2 => Just(Some("K".to_owned())), 1 => Just(Some("°C".to_owned()))];
    let deadband = prop_oneof![3 => Just(0.0f64), 1 => Just(0.5), 1 => Just(3.0)];
    let heartbeat_us = prop_oneof![4 => Just(None), 1 => Just(Some(20 * MINUTE_US))];
    (unit, deadband, heartbeat_us).prop_map(|(unit, deadband, heartbeat_us)| FieldSpec {
        unit,
        deadband_bits: deadband.to_bits(),
        heartbeat_us,
    })
}

fn change() -> impl Strategy<Value = Change> {
    let zone =
        prop_oneof![4 => Just(None), 1 => Just(Some("Asia/Kolkata".to_owned())), 1 => Just(Some("America/New_York".to_owned()))];
    prop_oneof![
        3 => (0..2u8, policy()).prop_map(|(tenant, policy)| Change::Tenant { tenant, policy }),
        3 => (0..2u8, 0..4u8, proptest::collection::vec(spec(), 4))
            .prop_map(|(template, decoder, fields)| Change::Template { template, decoder, fields }),
        6 => (0..6u8, 0..2u8, 0..2u8, zone, any::<bool>()).prop_map(|(device, generation, template, zone, provisioned)| {
            Change::Device { device, generation, template, zone, provisioned }
        }),
        1 => (0..6u8).prop_map(|device| Change::DeviceRemoved { device }),
        1 => (0..2u8).prop_map(|template| Change::TemplateRemoved { template }),
        1 => (0..2u8).prop_map(|tenant| Change::TenantRemoved { tenant }),
    ]
}

/// Mostly none; else one that is thinned within minutes, within hours, within longer than may be, or set aside.
fn excess() -> impl Strategy<Value = Option<Excess>> {
    let thin = [5 * MINUTE_US, 40 * MINUTE_US, 90 * HOUR_US, 0].map(|interval_us| Treatment::Thin { interval_us });
    let treatment = prop_oneof![3 => proptest::sample::select(thin.to_vec()), 1 => Just(Treatment::Quarantine)];
    let span = prop_oneof![Just(QuotaSpan::Second), Just(QuotaSpan::Day)];
    let excess = (span, treatment).prop_map(|(span, treatment)| Excess { span, measurements_max: 7, treatment });
    proptest::option::weighted(0.3, excess)
}

fn act(ill: bool) -> impl Strategy<Value = Act> {
    let after_s = prop_oneof![40 => 0..60i64, 20 => 0..600i64, 3 => 0..7200i64, 1 => 0..200_000i64];
    let uplink = (0..6u8, 0..4i64, 0..8u8, proptest::bool::weighted(0.03), excess(), draft(ill));
    let kind = prop_oneof![
        60 => uplink.prop_map(|(device, ago, identity, condemned, excess, script)| {
            Kind::Uplink { device, received_ago_s: ago * 30, identity, condemned, excess, script }
        }),
        8 => (0..12usize, excess()).prop_map(|(ago, excess)| Kind::Again { ago, excess }),
        10 => (0..12usize, proptest::bool::weighted(0.8), proptest::option::weighted(0.3, 0..4u8))
            .prop_map(|(ago, passed, field)| Kind::Retry { ago, passed, field }),
        if ill { 2 } else { 8 } => (0..PARTITIONS, change()).prop_map(|(partition, change)| Kind::Registry { partition, change }),
        4 => (0..PARTITIONS).prop_map(|partition| Kind::Tick { partition }),
    ];
    (after_s, kind).prop_map(|(after_s, kind)| Act { after_s, kind })
}

/// A log of `acts` records behind a registry for most of the fleet.
pub(crate) fn log(acts: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Entry>> {
    let registry = (proptest::collection::vec(policy(), 2), proptest::collection::vec(proptest::collection::vec(spec(), 4), 2));
    let acts = proptest::bool::weighted(0.3).prop_flat_map(move |ill| proptest::collection::vec(act(ill), acts.clone()));
    (registry, acts).prop_map(|((policies, specs), acts)| {
        let mut writer = Writer::default();
        for partition in 0..PARTITIONS {
            let mut set = |change| writer.write(Act { after_s: 0, kind: Kind::Registry { partition, change } });
            for (tenant, policy) in (0..).zip(&policies) {
                set(Change::Tenant { tenant, policy: policy.clone() });
            }
            for (template, fields) in (0..).zip(&specs) {
                set(Change::Template { template, decoder: template, fields: fields.clone() });
            }
            for device in 0..5 {
                set(Change::Device { device, generation: 0, template: device % 2, zone: None, provisioned: false });
            }
        }
        acts.into_iter().for_each(|act| writer.write(act));
        writer.entries
    })
}

fn partition_of(device: u8) -> Partition {
    Partition(u16::from(device) % PARTITIONS)
}

fn tenant_of(device: u8) -> TenantNo {
    TenantNo(u32::from(device) / 3)
}

const FIELDS: [&str; 4] = ["temperature", "state", "x", "position"];

/// Turns acts into entries.
#[derive(Default)]
struct Writer {
    now_us: i64,
    fcnt: u32,
    entries: Vec<Entry>,
    uplinks: Vec<Entry>,
    offsets: BTreeMap<Partition, u64>,
}

impl Writer {
    fn write(&mut self, act: Act) {
        self.now_us += act.after_s * SECOND_US;
        let now_us = BEGIN_US + self.now_us;
        let (partition, condemned, record) = match act.kind {
            // To the graph a verdict is a tick too: the reader has marked the uplink that it condemns.
            Kind::Tick { partition: 0 } => (Partition(0), false, Record::Verdict { uplink: Offset(0) }),
            Kind::Tick { partition } => (Partition(partition), false, Record::Tick),
            Kind::Again { ago, excess } => match self.uplinks.iter().rev().nth(ago) {
                Some(Entry { record: record @ Record::Retry(_), partition, condemned, .. }) => {
                    (*partition, *condemned, record.clone())
                }
                Some(entry) => (entry.partition, entry.condemned, sent(uplink_of(&entry.record).clone(), excess)),
                None => return,
            },
            Kind::Retry { ago, passed, field } => match self.uplinks.iter().rev().nth(ago) {
                Some(entry) => (entry.partition, entry.condemned, retry(entry, passed, field)),
                None => return,
            },
            Kind::Registry { partition, change } => {
                (Partition(partition), false, Record::Registry(Box::new(registry_change(partition, change))))
            }
            Kind::Uplink { device, received_ago_s, identity, condemned, excess, script } => {
                self.fcnt += 1;
                let uplink = Uplink {
                    tenant: tenant_of(device),
                    device: device_id(&format!("d{device}")),
                    received_at: EventTime(now_us - received_ago_s * SECOND_US),
                    fport: None,
                    fcnt: (identity < 5).then_some(self.fcnt % 40),
                    message_id: (identity == 5).then(|| format!("id {}", self.fcnt % 10).into()),
                    frame: script.script(now_us).frame(),
                    decoded: (identity == 6).then(String::new),
                    receptions: vec![],
                };
                (partition_of(device), condemned, sent(uplink, excess))
            }
        };
        let next = self.offsets.entry(partition).or_default();
        let entry = Entry { partition, offset: Offset(*next), log_time: LogTime(now_us), condemned, record };
        *next += 1;
        if matches!(entry.record, Record::Uplink(_) | Record::OverQuota(_) | Record::Retry(_)) {
            self.uplinks.push(entry.clone());
        }
        self.entries.push(entry);
    }
}

fn retry(entry: &Entry, passed: bool, field: Option<u8>) -> Record {
    let before = match &entry.record {
        Record::Retry(retry) => Some(&retry.last),
        _ => None,
    };
    let last = Attempt {
        offset: entry.offset,
        log_time: entry.log_time,
        field: field.map(|field| FIELDS[usize::from(field)].into()),
        arrived: before.map_or(entry.log_time, |before| before.arrived),
        passed: if passed { Some(entry.log_time) } else { before.and_then(|before| before.passed) },
    };
    Record::Retry(Box::new(Retry { last, uplink: uplink_of(&entry.record).clone() }))
}

/// The record of an uplink as the door writes it.
fn sent(uplink: Uplink, excess: Option<Excess>) -> Record {
    match excess {
        None => Record::Uplink(Box::new(uplink)),
        Some(excess) => Record::OverQuota(Box::new(OverQuota { excess, uplink })),
    }
}

fn uplink_of(record: &Record) -> &Uplink {
    match record {
        Record::Uplink(uplink) => uplink,
        Record::OverQuota(over) => &over.uplink,
        Record::Retry(retry) => &retry.uplink,
        other => panic!("{other:?} is no uplink"),
    }
}

/// The last one never runs out of its limits.
fn decoding(decoder: u8) -> Decoding {
    match decoder {
        0 => Decoding::Upstream,
        3 => Decoding::Wasm(DecoderHash([3; 32])),
        other => Decoding::JavaScript(DecoderHash([other; 32])),
    }
}

fn registry_change(partition: u16, change: Change) -> RegistryChange {
    let policy_no = |no: u8| TenantNo(u32::from(no));
    let template_no = |no: u8| TemplateNo(u32::from(no));
    match change {
        Change::Tenant { tenant, policy } => RegistryChange::Tenant(Tenant { no: policy_no(tenant), policy }.into()),
        Change::TenantRemoved { tenant } => RegistryChange::TenantRemoved(policy_no(tenant)),
        Change::Template { template, decoder, fields } => RegistryChange::Template(
            Template {
                no: template_no(template),
                name: "model".into(),
                decoding: decoding(decoder),
                fields: FIELDS.iter().map(|&field| field.into()).zip(fields).collect(),
            }
            .into(),
        ),
        Change::TemplateRemoved { template } => RegistryChange::TemplateRemoved(template_no(template)),
        Change::Device { device, generation, template, zone, provisioned } => RegistryChange::Device(
            Device {
                no: DeviceNo(u64::from(partition) * 100 + u64::from(device) * 10 + u64::from(generation)),
                tenant: tenant_of(device),
                id: device_id(&format!("d{device}")),
                template: template_no(template),
                variables: BTreeMap::new(),
                zone,
                provisioned,
            }
            .into(),
        ),
        Change::DeviceRemoved { device } => {
            RegistryChange::DeviceRemoved { tenant: tenant_of(device), id: device_id(&format!("d{device}")) }
        }
    }
}

impl Draft {
    fn script(self, now_us: i64) -> Script {
        match self {
            Self::Fails => Script::Fails,
            Self::Loops { memory } => Script::Loops { memory },
            Self::Many { from, count } => Script::Many(from, count),
            Self::History { field, period_s, ago, count } => {
                let at = |nth: i64| Some(now_us - (ago + nth) * period_s * SECOND_US);
                let measurements = (0..count).map(|nth| number(FIELDS[usize::from(field)], nth as f64, at(nth)));
                Script::Gives(measurements.collect(), vec![])
            }
            Self::Gives { measurements, rejected } => Script::Gives(
                measurements
                    .into_iter()
                    .map(|(field, value, ago_s)| Measurement {
                        field: FIELDS[usize::from(field)].into(),
                        value,
                        at: ago_s
                            .map(|ago_s| EventTime((now_us - ago_s * SECOND_US).div_euclid(30 * SECOND_US) * 30 * SECOND_US)),
                    })
                    .collect(),
                (0..rejected).map(|field| format!("r{field}")).collect(),
            ),
        }
    }
}

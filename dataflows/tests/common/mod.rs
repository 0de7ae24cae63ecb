//! What the tests share: a decoder that does what the frame says, and the making of logs.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

pub(crate) mod log;

use dataflows::decode::{Decode, DecodeCall, DecodeFailure, Decoded, Rejected};
use dataflows::model::*;
use serde::{Deserialize, Serialize};

/// What a frame tells the decoder to do.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Script {
    /// Give these measurements, and refuse these fields.
    Gives(Vec<Measurement>, Vec<String>),
    /// Give so many numbers, of fields that are numbered from the first figure.
    Many(u16, u16),
    /// Give these where the template is called `mended`, and fail otherwise.
    Needs(Vec<Measurement>),
    /// Do the same where the template is called `mended`, and else give `x` as 1 and refuse `y`.
    Half(Box<Script>),
    /// Fail.
    Fails,
    /// Be ended by the watchdog.
    Killed,
    /// Run out of steps, or of memory, where the template has a decoder that is not mended.
    Loops { memory: bool },
}

impl Script {
    pub(crate) fn frame(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap()
    }
}

/// Does what the frame says.
pub(crate) struct Scripted;

impl Decode for Scripted {
    fn decode(&mut self, call: &DecodeCall<'_>, decoded: &mut Decoded) -> Result<(), DecodeFailure> {
        let script = match postcard::from_bytes(&call.uplink.frame).unwrap() {
            Script::Half(whole) if call.template.name == "mended" => *whole,
            Script::Half(_) => Script::Gives(vec![number("x", 1.0, None)], vec!["y".into()]),
            script => script,
        };
        match script {
            Script::Gives(measurements, rejected) => {
                decoded.measurements.extend(measurements);
                let reason = Reason::BadValue;
                let rejected = rejected.into_iter().map(|field| Rejected { field: field.into(), reason, detail: "no".into() });
                decoded.rejected.extend(rejected);
            }
            Script::Many(from, count) => {
                let fields = from..from.saturating_add(count);
                decoded.measurements.extend(fields.map(|field| number(&format!("m{field}"), 1.0, None)));
            }
            Script::Needs(measurements) if call.template.name == "mended" => decoded.measurements.extend(measurements),
            Script::Needs(_) => return Err(DecodeFailure { reason: Reason::DecoderError, detail: "broken".into() }),
            Script::Half(_) => panic!("a half within a half"),
            Script::Killed => return Err(DecodeFailure { reason: Reason::DecoderKilled, detail: "after 0.5 s".into() }),
            Script::Loops { .. } if matches!(call.template.decoding, Decoding::Wasm(_)) => {
                decoded.measurements.push(number("x", 7.0, None))
            }
            Script::Loops { memory } => {
                let reason = if memory { Reason::DecoderMemory } else { Reason::DecoderSteps };
                return Err(DecodeFailure { reason, detail: "a loop".into() });
            }
            Script::Fails => return Err(DecodeFailure { reason: Reason::DecoderError, detail: "threw".into() }),
        }
        Ok(())
    }
}

pub(crate) fn number(field: &str, value: f64, at: Option<i64>) -> Measurement {
    Measurement { field: field.into(), value: Value::Number(value), at: at.map(EventTime) }
}

pub(crate) fn device_id(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

pub(crate) fn tenant(no: u32, policy: Policy) -> Record {
    Record::Registry(Box::new(RegistryChange::Tenant(Tenant { no: TenantNo(no), policy }.into())))
}

pub(crate) fn template(no: u32) -> Template {
    Template { no: TemplateNo(no), name: format!("t{no}"), decoding: Decoding::Upstream, fields: Default::default() }
}

pub(crate) fn device(no: u64, name: &str) -> Device {
    Device {
        no: DeviceNo(no),
        tenant: TenantNo(1),
        id: device_id(name),
        template: TemplateNo(1),
        variables: Default::default(),
        zone: None,
        provisioned: false,
    }
}

pub(crate) fn set_device(device: Device) -> Record {
    Record::Registry(Box::new(RegistryChange::Device(device.into())))
}

pub(crate) fn set_template(template: Template) -> Record {
    Record::Registry(Box::new(RegistryChange::Template(template.into())))
}

pub(crate) fn remove_device(name: &str) -> Record {
    Record::Registry(Box::new(RegistryChange::DeviceRemoved { tenant: TenantNo(1), id: device_id(name) }))
}

/// An uplink of a device of tenant 1, unlike any other by its counter.
pub(crate) fn uplink(name: &str, fcnt: u32, received_at: i64, script: &Script) -> Record {
    Record::Uplink(Box::new(Uplink {
        tenant: TenantNo(1),
        device: device_id(name),
        received_at: EventTime(received_at),
        fport: Some(2),
        fcnt: Some(fcnt),
        message_id: None,
        frame: script.frame(),
        decoded: None,
        receptions: vec![],
    }))
}

/// Numbers records of partition 0, each with its log time.
pub(crate) fn entries(records: impl IntoIterator<Item = (i64, Record)>) -> Vec<Entry> {
    let numbered = records.into_iter().enumerate();
    numbered
        .map(|(offset, (log_time, record))| Entry {
            partition: Partition(0),
            offset: Offset(offset as u64),
            log_time: LogTime(log_time),
            condemned: false,
            record,
        })
        .collect()
}

/// Leaves of all rows those of one partition, and of quarantine rows only what the oracle says too.
pub(crate) fn comparable(rows: &Outputs, partition: Partition) -> Outputs {
    let mut rows = rows.clone();
    rows.retain(|p, _| p == partition);
    rows.quarantined.iter_mut().for_each(|row| row.row.detail.clear());
    rows
}

/// Checks the two equations of [`Counts`].
pub(crate) fn check_equations(counts: Counts) {
    let c = counts;
    assert_eq!(c.measurements, c.stored + c.unchanged + c.late_duplicate + c.measurements_quarantined, "{c:?}");
    assert_eq!(c.uplinks, c.uplinks_decoded + c.duplicate + c.uplinks_quarantined + c.thinned, "{c:?}");
}

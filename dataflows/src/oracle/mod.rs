//! A slow and clear reference of the whole graph, used by tests and by `weir verify`.
//!
//! It walks the log record by record, keeps everything, looks everything up in full, and computes
//! again instead of updating. It shares no code with the operators, only the words of
//! [`crate::model`] and the limits. What it says is what the graph has to say, row for row, in the
//! same order; only the `detail` of its quarantine rows is empty where the decoder gave none.

mod calendar;
mod chain;
mod rollup;
mod suspension;

pub use chain::in_order;

use crate::decode::{Decode, DecodeCall, Decoded};
use crate::limits::*;
use crate::model::*;
use chain::{Chain, Verdict};
use rollup::Rollup;
use std::collections::BTreeMap;
use suspension::OutOfLimits;

/// The reference, with all that it remembers.
#[derive(Debug, Default)]
pub struct Oracle {
    partitions: BTreeMap<Partition, Log>,
}

/// What the oracle remembers of one partition.
#[derive(Debug, Default)]
struct Log {
    tenants: BTreeMap<TenantNo, Tenant>,
    templates: BTreeMap<TemplateNo, Template>,
    devices: BTreeMap<(TenantNo, DeviceId), Device>,
    /// The last uplinks of each known device that were the first of their kind, in the order of the log.
    heard: BTreeMap<(TenantNo, DeviceId), Vec<(LogTime, Identity)>>,
    /// Every uplink of each known device that passed although it was over a quota that is thinned.
    let_through: BTreeMap<(TenantNo, DeviceId), Vec<LogTime>>,
    /// The series of each device, by field number, and its last lateness horizon.
    series: BTreeMap<DeviceNo, Vec<Series>>,
    out_of_limits: OutOfLimits,
    rollup: Rollup,
    counts: Counts,
}

/// What tells an uplink of a device from another.
#[derive(Clone, PartialEq, Debug)]
enum Identity {
    Counter(u32, Vec<u8>),
    Message(ShortText),
    Content(EventTime, Vec<u8>, Option<String>),
    Field(Released),
}

#[derive(Debug)]
struct Series {
    field: FieldName,
    kind: ValueKind,
    unit: Option<String>,
    class: ClassNo,
    chain: Chain,
}

/// An uplink, or the retry of one or of a field of it.
#[derive(Debug)]
struct Arrival<'a> {
    uplink: &'a Uplink,
    /// What quarantine holds of it.
    record: &'a Record,
    /// When the log took the uplink in at first.
    arrived: LogTime,
    /// When it was last found to be the first of its kind, if it was.
    passed: Option<LogTime>,
    /// The entry of quarantine that holds only a field.
    field_entry: Option<Released>,
    /// Over which quota it is, and what is to be done.
    excess: Option<Excess>,
}

impl<'a> Arrival<'a> {
    fn new(uplink: &'a Uplink, record: &'a Record, arrived: LogTime) -> Self {
        Self { uplink, record, arrived, passed: None, field_entry: None, excess: None }
    }

    /// The only field that is asked for.
    fn field(&self) -> Option<&FieldName> {
        self.field_entry.as_ref()?.field.as_ref()
    }
}

/// A record's place in the log.
#[derive(Clone, Copy, Debug)]
struct Place {
    partition: Partition,
    offset: Offset,
    log_time: LogTime,
}

impl Place {
    fn row<T>(self, row: T) -> Placed<T> {
        Placed { partition: self.partition, offset: self.offset, row }
    }
}

impl Oracle {
    /// Reads records in the order of each partition's log and gives their rows.
    pub fn run(&mut self, entries: &[Entry], decoder: &mut dyn Decode) -> Outputs {
        let mut rows = Outputs::default();
        for entry in entries {
            let place = Place { partition: entry.partition, offset: entry.offset, log_time: entry.log_time };
            let log = self.partitions.entry(entry.partition).or_default();
            rows.partials.extend(log.rollup.close_due(place.log_time).into_iter().map(|partial| place.row(partial)));
            match &entry.record {
                Record::Uplink(uplink) => {
                    let arrival = Arrival::new(uplink, &entry.record, place.log_time);
                    log.uplink(place, &arrival, entry.condemned, decoder, &mut rows);
                }
                Record::OverQuota(over) => {
                    let OverQuota { excess, uplink } = &**over;
                    let record = Record::Uplink(Box::new(uplink.clone()));
                    let arrival = Arrival { excess: Some(*excess), ..Arrival::new(uplink, &record, place.log_time) };
                    log.uplink(place, &arrival, entry.condemned, decoder, &mut rows);
                }
                Record::Retry(retry) => {
                    let Attempt { offset, log_time, field, arrived, passed } = retry.last.clone();
                    let released = Released { offset, log_time, field };
                    rows.released.push(place.row(released.clone()));
                    let field_entry = Some(released).filter(|released| released.field.is_some());
                    let arrival = Arrival { passed, field_entry, ..Arrival::new(&retry.uplink, &entry.record, arrived) };
                    log.uplink(place, &arrival, entry.condemned, decoder, &mut rows);
                }
                Record::Registry(change) => log.change(place, change, &mut rows),
                Record::Tick | Record::Verdict { .. } => {}
            }
        }
        rows
    }

    /// Gives what went which way in a partition.
    pub fn counts(&self, partition: Partition) -> Counts {
        self.partitions.get(&partition).map(|log| log.counts).unwrap_or_default()
    }
}

impl Log {
    fn change(&mut self, place: Place, change: &RegistryChange, rows: &mut Outputs) {
        match change {
            RegistryChange::Tenant(tenant) => drop(self.tenants.insert(tenant.no, Tenant::clone(tenant))),
            RegistryChange::TenantRemoved(no) => drop(self.tenants.remove(no)),
            RegistryChange::Template(template) => drop(self.templates.insert(template.no, Template::clone(template))),
            RegistryChange::TemplateRemoved(no) => drop(self.templates.remove(no)),
            RegistryChange::Device(device) => {
                let old = self.devices.insert((device.tenant, device.id.clone()), Device::clone(device));
                if let Some(old) = old.as_ref().filter(|old| old.no != device.no) {
                    self.forget(place, old.no, rows);
                }
                if device.provisioned && old.as_ref() != Some(&**device) {
                    rows.devices.push(place.row(CatalogueDevice(Device::clone(device))));
                }
            }
            RegistryChange::DeviceRemoved { tenant, id } => {
                if let Some(old) = self.devices.remove(&(*tenant, id.clone())) {
                    self.forget(place, old.no, rows);
                }
            }
        }
        self.out_of_limits.retain(&self.tenants, &self.templates);
    }

    fn forget(&mut self, place: Place, device: DeviceNo, rows: &mut Outputs) {
        rows.partials.extend(self.rollup.close_device(device, place.log_time).into_iter().map(|partial| place.row(partial)));
        self.series.remove(&device);
    }

    fn uplink(&mut self, place: Place, arrival: &Arrival<'_>, condemned: bool, decoder: &mut dyn Decode, rows: &mut Outputs) {
        self.counts.uplinks += 1;
        let uplink = arrival.uplink;
        let known = self.in_effect(uplink);
        if known.is_some() && !self.is_first(arrival, place.log_time) {
            self.counts.duplicate += 1;
            return;
        }
        if let (Some(_), Some(Treatment::Thin { interval_us })) = (&known, arrival.excess.map(|excess| excess.treatment)) {
            let let_through = self.let_through.entry((uplink.tenant, uplink.device.clone())).or_default();
            if let_through.iter().any(|at| place.log_time.0 - at.0 < interval_us.min(THIN_INTERVAL_MAX_US)) {
                self.counts.thinned += 1;
                return;
            }
            let_through.push(place.log_time);
        }
        let is_run = arrival.excess.is_none_or(|excess| excess.treatment != Treatment::Quarantine);
        let whose = known.as_ref().filter(|_| is_run).map(|(_, template, tenant)| (tenant.no, template.decoding));
        let result = match whose {
            Some(whose) if self.out_of_limits.is_resting(whose, place.log_time) => Err((Reason::DecoderSuspended, String::new())),
            _ => decoded(place, arrival, known, condemned, decoder),
        };
        if let Some(whose) = whose {
            let set_aside = result.as_ref().err().map(|(reason, _)| *reason);
            self.out_of_limits.ended(whose, set_aside, place.log_time);
        }
        match result {
            Err((reason, detail)) => {
                self.counts.uplinks_quarantined += 1;
                rows.quarantined.push(place.row(quarantined(place, arrival, arrival.field().cloned(), reason, detail)));
            }
            Ok((device, template, tenant, decoded)) => {
                self.counts.uplinks_decoded += 1;
                self.measure(place, arrival, &device, &template, &tenant.policy, decoded, rows);
            }
        }
    }

    /// Whether none of the last few first uplinks of the device, within the window, is the same, but the
    /// same one when it was tried before.
    fn is_first(&mut self, arrival: &Arrival<'_>, now: LogTime) -> bool {
        let uplink = arrival.uplink;
        let identity = match (&arrival.field_entry, uplink.fcnt, &uplink.message_id) {
            (Some(entry), _, _) => Identity::Field(entry.clone()),
            (None, Some(fcnt), _) => Identity::Counter(fcnt, uplink.frame.clone()),
            (None, None, Some(id)) => Identity::Message(id.clone()),
            (None, None, None) => Identity::Content(uplink.received_at, uplink.frame.clone(), uplink.decoded.clone()),
        };
        let heard = self.heard.entry((uplink.tenant, uplink.device.clone())).or_default();
        heard.drain(..heard.len().saturating_sub(DEDUP_KEYS_PER_DEVICE_MAX));
        heard.retain(|(at, same)| *same != identity || (now.0 - at.0 < DEDUP_WINDOW_US && Some(*at) != arrival.passed));
        let is_first = heard.iter().all(|(_, same)| *same != identity);
        if is_first {
            heard.push((now, identity));
        }
        is_first
    }

    /// Gives what is in effect for the device of an uplink.
    fn in_effect(&self, uplink: &Uplink) -> Option<(Device, Template, Tenant)> {
        let device = self.devices.get(&(uplink.tenant, uplink.device.clone()))?;
        let (template, tenant) = (self.templates.get(&device.template)?, self.tenants.get(&device.tenant)?);
        Some((device.clone(), template.clone(), tenant.clone()))
    }

    #[expect(clippy::too_many_arguments, reason = "everything that an uplink's rows depend on, named")]
    fn measure(
        &mut self,
        place: Place,
        arrival: &Arrival<'_>,
        device: &Device,
        template: &Template,
        policy: &Policy,
        decoded: Decoded,
        rows: &mut Outputs,
    ) {
        self.counts.measurements += (decoded.measurements.len() + decoded.rejected.len()) as u64;
        let mut refused: Vec<_> = decoded.rejected.into_iter().map(|r| (r.field, r.reason, r.detail)).collect();
        let mut accepted = Vec::new();
        for measurement in decoded.measurements {
            let at = measurement.at.unwrap_or(arrival.uplink.received_at);
            let too_old = policy.raw_retention_us.is_some_and(|retention| at.0 < place.log_time.0.saturating_sub(retention));
            if at.0 > arrival.arrived.0 + EVENT_AHEAD_MAX_US || at.0 < EVENT_EARLIEST_US || too_old {
                refused.push((measurement.field, Reason::BadTime, String::new()));
            } else if let Some(value) = storable(&measurement.value) {
                accepted.push((measurement.field, at, value));
            } else {
                refused.push((measurement.field, Reason::BadValue, String::new()));
            }
        }
        let horizon_us = policy.lateness_horizon_us.max(0);
        self.rollup.horizon(device.no, horizon_us);
        for (field, at, value) in accepted {
            let spec = template.fields.get(&field).cloned().unwrap_or_default();
            let Some((id, series)) = self.series(place, device, policy, &field, &spec, value.kind(), rows) else {
                refused.push((field, Reason::TooManyFields, String::new()));
                continue;
            };
            let deadband = if value.kind() == ValueKind::Number { spec.deadband() } else { 0.0 };
            let heartbeat_us = spec.heartbeat_us.unwrap_or(policy.heartbeat_us);
            let (verdict, stored) = series.chain.arrive(at, value.clone(), deadband, heartbeat_us, horizon_us);
            let stored_now = stored.len() as u64;
            stored.into_iter().for_each(|(at, value)| store(place, policy.class, id, at, value, rows));
            match verdict {
                Verdict::Stored => self.counts.stored += 1,
                Verdict::Unchanged => self.counts.unchanged += 1,
                Verdict::LateDuplicate => self.counts.late_duplicate += 1,
            }
            self.counts.stored_afterwards += stored_now - u64::from(verdict == Verdict::Stored);
            let number = match value {
                Value::Number(number) => number,
                Value::Boolean(is) => f64::from(u8::from(is)),
                Value::Text(_) | Value::Location { .. } => continue,
            };
            if verdict != Verdict::LateDuplicate {
                let zone = device.zone.as_ref().unwrap_or(&policy.zone);
                let point = Point { at, offset: place.offset, value: number };
                let pushed_out = self.rollup.add(id, policy.class, zone, point, horizon_us, place.log_time);
                rows.partials.extend(pushed_out.into_iter().map(|partial| place.row(partial)));
            }
        }
        self.counts.measurements_quarantined += refused.len() as u64;
        for (field, reason, detail) in refused.into_iter().take(REFUSED_ROWS_PER_UPLINK_MAX) {
            rows.quarantined.push(place.row(quarantined(place, arrival, Some(field), reason, detail)));
        }
    }

    /// Finds a series of a device by field, kind and unit, or numbers a new one if there is room.
    #[expect(clippy::too_many_arguments, reason = "everything that a catalogue row depends on, named")]
    fn series(
        &mut self,
        place: Place,
        device: &Device,
        policy: &Policy,
        field: &FieldName,
        spec: &FieldSpec,
        kind: ValueKind,
        rows: &mut Outputs,
    ) -> Option<(SeriesId, &mut Series)> {
        let all = self.series.entry(device.no).or_default();
        let found = all.iter().position(|s| s.field == *field && s.kind == kind && s.unit == spec.unit);
        let is_listed = found.is_some_and(|no| all[no].class == policy.class);
        let no = match found {
            Some(no) => no,
            None if all.len() == SERIES_PER_DEVICE_MAX => return None,
            None => {
                let chain = Chain::default();
                all.push(Series { field: field.clone(), kind, unit: spec.unit.clone(), class: policy.class, chain });
                all.len() - 1
            }
        };
        let id = SeriesId::new(device.no, FieldNo(no as u16));
        let series = &mut all[no];
        series.class = policy.class;
        if !is_listed {
            rows.series.push(place.row(CatalogueSeries {
                series: id,
                tenant: device.tenant,
                device: device.id.clone(),
                field: field.clone(),
                kind,
                unit: spec.unit.clone(),
                class: policy.class,
            }));
        }
        Some((id, series))
    }
}

/// Decodes an uplink with what is in effect now.
fn decoded(
    place: Place,
    arrival: &Arrival<'_>,
    known: Option<(Device, Template, Tenant)>,
    condemned: bool,
    decoder: &mut dyn Decode,
) -> Result<(Device, Template, Tenant, Decoded), (Reason, String)> {
    let (device, template, tenant) = known.ok_or((Reason::UnknownDevice, String::new()))?;
    if arrival.excess.is_some_and(|excess| excess.treatment == Treatment::Quarantine) {
        return Err((Reason::OverQuota, String::new()));
    }
    if condemned {
        return Err((Reason::DecoderKilled, String::new()));
    }
    let mut decoded = Decoded::default();
    let Place { partition, offset, .. } = place;
    let call = DecodeCall { partition, offset, uplink: arrival.uplink, device: &device, template: &template };
    decoder.decode(&call, &mut decoded).map_err(|failure| (failure.reason, failure.detail))?;
    if decoded.measurements.len() > MEASUREMENTS_PER_UPLINK_MAX {
        return Err((Reason::TooManyFields, String::new()));
    }
    if let Some(field) = arrival.field() {
        decoded.measurements.retain(|measurement| measurement.field == *field);
        decoded.rejected.retain(|rejected| rejected.field == *field);
        if decoded.measurements.len() + decoded.rejected.len() > 1 {
            return Err((Reason::TooManyFields, String::new()));
        }
    }
    Ok((device, template, tenant, decoded))
}

/// Gives a value as it is stored, without −0; nothing if it cannot be stored.
fn storable(value: &Value) -> Option<Value> {
    let zero = |number: f64| if number == 0.0 { 0.0 } else { number };
    match value {
        Value::Number(number) => number.is_finite().then(|| Value::Number(zero(*number))),
        Value::Boolean(_) => Some(value.clone()),
        Value::Text(text) => (!text.contains('\0')).then(|| value.clone()),
        Value::Location { latitude, longitude, altitude } => {
            let on_earth = latitude.abs() <= 90.0 && longitude.abs() <= 180.0 && altitude.is_none_or(f64::is_finite);
            let (latitude, longitude, altitude) = (zero(*latitude), zero(*longitude), altitude.map(zero));
            on_earth.then_some(Value::Location { latitude, longitude, altitude })
        }
    }
}

fn store(place: Place, class: ClassNo, series: SeriesId, at: EventTime, value: Value, rows: &mut Outputs) {
    match value {
        Value::Number(value) => rows.numbers.push(place.row(Stored { class, series, at, value })),
        Value::Boolean(is) => rows.numbers.push(place.row(Stored { class, series, at, value: f64::from(u8::from(is)) })),
        Value::Text(value) => rows.texts.push(place.row(Stored { class, series, at, value })),
        Value::Location { latitude, longitude, altitude } => {
            rows.locations.push(place.row(Stored { class, series, at, value: (latitude, longitude, altitude) }));
        }
    }
}

fn quarantined(place: Place, arrival: &Arrival<'_>, field: Option<FieldName>, reason: Reason, detail: String) -> Quarantined {
    Quarantined {
        log_time: place.log_time,
        tenant: arrival.uplink.tenant,
        device: arrival.uplink.device.clone(),
        field,
        reason,
        detail,
        record: postcard::to_stdvec(arrival.record).expect("a record is plain data"),
    }
}

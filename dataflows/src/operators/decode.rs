//! Makes measurements of uplinks, and refuses those that cannot be stored. Invariant: what leaves
//! here as accepted has a finite value (no −0) and a credible event time.

use super::{Elements, Shared, each};
use crate::decode::{Decode, DecodeCall, Decoded, KILLED, Rejected, SUSPENDED};
use crate::element::{Accepted, Arrived, Body, Cause, Context, Known, Measured, Outcome};
use crate::limits::{EVENT_AHEAD_MAX_US, EVENT_EARLIEST_US, MEASUREMENTS_PER_UPLINK_MAX};
use crate::model::{EventTime, Excess, FieldName, LogTime, Policy, Reason, Treatment, Uplink, Value};
use crate::suspension::Suspensions;
use std::sync::Arc;

/// Calls the decoder for every uplink whose device is known, unless it is suspended.
///
/// State: [`Suspensions`], per partition. Cost: the decoder's.
pub(crate) fn decode<'scope>(
    elements: Elements<'scope, Known>,
    mut decoder: Box<dyn Decode>,
    suspensions: Shared<Suspensions>,
) -> Elements<'scope, Outcome> {
    let mut decoded = Decoded::default();
    each(elements, "Decode", move |element| {
        let mut suspensions = suspensions.borrow_mut();
        let owned = "records of partitions that are not owned never enter";
        let suspensions = suspensions.get_mut(&element.cause.partition).expect(owned);
        if let Body::Retired(retired) = element.body {
            suspensions.forget(retired);
        }
        let scope = match &element.retried {
            None => Scope { arrived: element.cause.log_time, field: None },
            Some(last) => Scope { arrived: last.arrived, field: last.field.clone() },
        };
        element.map_uplink(|cause, known| {
            decoded.clear();
            let Known { arrived, context } = known;
            let Some(context) = context else { return unknown(arrived.uplink) };
            if let Some(excess) = arrived.excess.as_ref().filter(|excess| excess.treatment == Treatment::Quarantine) {
                let detail = over_quota(excess);
                return Outcome::SetAside { uplink: arrived.uplink, reason: Reason::OverQuota, detail };
            }
            let (key, now) = ((context.tenant.no, context.template.decoding), cause.log_time);
            if suspensions.is_resting(key, now) {
                let (reason, detail) = (Reason::DecoderSuspended, SUSPENDED.into());
                return Outcome::SetAside { uplink: arrived.uplink, reason, detail };
            }
            let outcome = outcome(cause, scope, arrived, context, &mut *decoder, &mut decoded);
            match &outcome {
                Outcome::Measured(_) => suspensions.succeeded(key),
                Outcome::SetAside { reason, .. } => suspensions.failed(key, *reason, now),
            }
            outcome
        })
    })
}

/// What of an uplink is asked for.
struct Scope {
    /// When the log took it in at first.
    arrived: LogTime,
    /// The only field that is.
    field: Option<FieldName>,
}

fn unknown(uplink: Box<Uplink>) -> Outcome {
    let detail = format!(
        "no device {} of tenant {} is in effect with its template and tenant: register the device, then retry",
        uplink.device, uplink.tenant
    );
    Outcome::SetAside { uplink, reason: Reason::UnknownDevice, detail }
}

fn outcome(
    cause: &Cause,
    scope: Scope,
    arrived: Arrived,
    context: Arc<Context>,
    decoder: &mut dyn Decode,
    decoded: &mut Decoded,
) -> Outcome {
    let Arrived { uplink, condemned, .. } = arrived;
    if condemned {
        return Outcome::SetAside { uplink, reason: Reason::DecoderKilled, detail: KILLED.into() };
    }
    let call = DecodeCall {
        partition: cause.partition,
        offset: cause.offset,
        uplink: &uplink,
        device: &context.device,
        template: &context.template,
    };
    if let Err(failure) = decoder.decode(&call, decoded) {
        let detail = if failure.reason == Reason::DecoderKilled { KILLED.into() } else { failure.detail };
        return Outcome::SetAside { uplink, reason: failure.reason, detail };
    }
    let given = decoded.measurements.len();
    if given > MEASUREMENTS_PER_UPLINK_MAX {
        let detail = format!(
            "the decoder gave {given} measurements, more than {MEASUREMENTS_PER_UPLINK_MAX}: let the device send smaller parts"
        );
        return Outcome::SetAside { uplink, reason: Reason::TooManyFields, detail };
    }
    if let Some(field) = scope.field {
        decoded.measurements.retain(|measurement| measurement.field == field);
        decoded.rejected.retain(|rejected| rejected.field == field);
        let given = decoded.measurements.len() + decoded.rejected.len();
        if given > 1 {
            let detail = format!(
                "the decoder gives this field {given} times, and some of its measurements were kept when the others were set aside: \
                 it cannot be tried again by itself"
            );
            return Outcome::SetAside { uplink, reason: Reason::TooManyFields, detail };
        }
    }
    let times = Times { arrived: scope.arrived, now: cause.log_time };
    Outcome::Measured(Box::new(measured(times, uplink, context, decoded)))
}

fn over_quota(excess: &Excess) -> String {
    let (max, span) = (excess.measurements_max, excess.span.as_str());
    format!(
        "the tenant's quota of {max} measurements a {span} was used up: send less or raise it (`weir tenant set`); a retry is \
         outside the quota"
    )
}

/// What event times are held against.
#[derive(Clone, Copy)]
struct Times {
    /// When the log took the uplink in at first: whoever set it aside cannot make its clock right by waiting.
    arrived: LogTime,
    /// The log time by now: what is past the retention would be dropped again.
    now: LogTime,
}

fn measured(times: Times, uplink: Box<Uplink>, context: Arc<Context>, decoded: &mut Decoded) -> Measured {
    let mut accepted = Vec::with_capacity(decoded.measurements.len());
    let mut refused = std::mem::take(&mut decoded.rejected);
    for measurement in decoded.measurements.drain(..) {
        let at = measurement.at.unwrap_or(uplink.received_at);
        let storable = credible(at, times, &context.tenant.policy).and_then(|()| storable(measurement.value));
        match storable {
            Ok(value) => accepted.push(Accepted { field: measurement.field, at, value }),
            Err((reason, detail)) => refused.push(Rejected { field: measurement.field, reason, detail: detail.into() }),
        }
    }
    Measured { uplink, context, accepted, refused }
}

type Refusal = (Reason, &'static str);

/// Whether an event time can be believed.
fn credible(at: EventTime, times: Times, policy: &Policy) -> Result<(), Refusal> {
    if at.0 > times.arrived.0.saturating_add(EVENT_AHEAD_MAX_US) {
        return Err((Reason::BadTime, "the event time is more than an hour ahead: set the device's clock"));
    }
    if at.0 < EVENT_EARLIEST_US {
        return Err((Reason::BadTime, "the event time is before the year 2000: set the device's clock"));
    }
    if policy.raw_retention_us.is_some_and(|retention| at.0 < times.now.0.saturating_sub(retention)) {
        return Err((Reason::BadTime, "the event time is before the retention: lengthen the retention, then retry"));
    }
    Ok(())
}

/// Gives the value as it is stored.
fn storable(value: Value) -> Result<Value, Refusal> {
    match value {
        Value::Number(number) if number.is_finite() => Ok(Value::Number(positive_zero(number))),
        Value::Number(_) => Err((Reason::BadValue, "the value is not a finite number: mend the decoder")),
        Value::Boolean(_) => Ok(value),
        Value::Text(ref text) if text.contains('\0') => {
            Err((Reason::BadValue, "the text holds U+0000, which PostgreSQL does not store: mend the decoder"))
        }
        Value::Text(_) => Ok(value),
        Value::Location { latitude, longitude, altitude }
            if (-90.0..=90.0).contains(&latitude)
                && (-180.0..=180.0).contains(&longitude)
                && altitude.is_none_or(f64::is_finite) =>
        {
            Ok(Value::Location {
                latitude: positive_zero(latitude),
                longitude: positive_zero(longitude),
                altitude: altitude.map(positive_zero),
            })
        }
        Value::Location { .. } => Err((Reason::BadValue, "the location is not on Earth: mend the decoder")),
    }
}

/// Turns −0 into 0 and leaves all else as it is.
fn positive_zero(number: f64) -> f64 {
    number + 0.0
}

//! An entry as a whole: the envelope, the payload, why it was set aside, and what to do.

use super::tell::{line, time};
use crate::codec;
use crate::store::quarantine::{Entry, Way};
use data_encoding::HEXLOWER;
use dataflows::model::{Attempt, LogTime, Reason, Record, Uplink};
use serde_json::{Map, Value, json};

/// Gives all that is known of an entry, as an object.
pub(super) fn entry(entry: &Entry) -> Value {
    let Value::Object(mut described) = line(entry) else { unreachable!("a line is an object") };
    match (entry.way(), postcard::from_bytes(&entry.record)) {
        (Way::Row, _) => {
            let row = serde_json::from_slice(&entry.record).unwrap_or_else(|_| json!(HEXLOWER.encode(&entry.record)));
            described.insert("refused".into(), row);
        }
        (Way::Uplink | Way::Field, Ok(Record::Uplink(uplink))) => described.extend(envelope(&uplink)),
        (Way::Uplink | Way::Field, Ok(Record::Retry(retry))) => {
            let Attempt { offset, log_time, arrived, .. } = retry.last;
            described.insert("arrived".into(), json!(time(arrived)));
            described.insert("last_attempt".into(), json!({ "offset": offset.0, "log_time": time(log_time) }));
            described.extend(envelope(&retry.uplink));
        }
        _ => {
            described.insert("record".into(), json!(HEXLOWER.encode(&entry.record)));
            if let Err(error) = codec::decode(&entry.record) {
                described.insert("unreadable".into(), json!(error.to_string()));
            }
        }
    }
    described.insert("what_to_do".into(), json!(what_to_do(entry)));
    Value::Object(described)
}

fn envelope(uplink: &Uplink) -> Map<String, Value> {
    let Uplink { received_at, fport, fcnt, message_id, frame, decoded, receptions, tenant: _, device: _ } = uplink;
    let reception = |r: &dataflows::model::Reception| json!({ "gateway": r.gateway, "rssi_dbm": r.rssi_dbm, "snr_db": r.snr_db });
    let decoded = decoded.as_deref().map(|text| serde_json::from_str(text).unwrap_or_else(|_| json!(text)));
    let Value::Object(envelope) = json!({
        "received_at": time(LogTime(received_at.0)), "fport": fport, "fcnt": fcnt, "message_id": message_id,
        "payload": HEXLOWER.encode(frame), "decoded": decoded, "receptions": receptions.iter().map(reception).collect::<Vec<_>>(),
    }) else {
        unreachable!("an envelope is an object")
    };
    envelope
}

/// Says what brings the entry out of quarantine.
fn what_to_do(entry: &Entry) -> String {
    let place = format!("{} {}", entry.partition, entry.offset);
    let retry = format!("`weir quarantine retry {place} --yes`");
    let first = match Reason::parse(&entry.reason) {
        Some(Reason::UnknownDevice) => "Register the device with its template",
        Some(Reason::NothingDecoded) => "Give the device a template that decodes, or let the network decode",
        Some(Reason::BadTime) => "Set the device's clock, or lengthen the retention; a time that was too far ahead stays refused",
        Some(Reason::BadRecord) => {
            return format!("There is nothing to decode. `weir quarantine drop {place} --yes` takes the entry away");
        }
        Some(Reason::RowRefused) => {
            "Mend what refuses the row: a constraint or trigger that was added, or another series of its number"
        }
        Some(Reason::OverQuota) => {
            "Raise the tenant's quota (`weir tenant set`) or have it send less; a retry is outside the quota"
        }
        Some(Reason::TooManyFields) => "Let the decoder give fewer fields",
        _ => "Mend the decoder: `weir decode` shows what it makes of the payload",
    };
    format!("{first}. Then {retry}")
}

/// Gives the same as lines for people; what is empty is left out.
pub(super) fn text(described: &Value) -> String {
    /// In the order in which it is read best; all else follows.
    const FIRST: [&str; 10] =
        ["partition", "offset", "log_time", "arrived", "tenant", "device", "field", "reason", "detail", "received_at"];
    let empty = Map::new();
    let described = described.as_object().unwrap_or(&empty);
    let rest = described.keys().map(String::as_str).filter(|key| !FIRST.contains(key) && *key != "what_to_do");
    let mut lines = String::new();
    for key in FIRST.into_iter().chain(rest).chain(["what_to_do"]) {
        let value = match described.get(key) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(list)) if list.is_empty() => continue,
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        lines.push_str(&format!("{:<13} {value}\n", format!("{}:", key.replace('_', " "))));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::{DeviceId, EventTime, Offset, Partition, Retry, TenantNo};

    fn check(reason: Reason, record: Vec<u8>, field: Option<&str>, expected: &[&str]) {
        let entry = Entry {
            log_time: LogTime(1_795_305_600_000_000),
            partition: Partition(3),
            offset: Offset(7),
            tenant: Some("waterworks".into()),
            device: Some("pump".into()),
            field: field.map(Into::into),
            reason: reason.as_str().into(),
            detail: "because".into(),
            is_marked: false,
            record,
        };
        let text = text(&super::entry(&entry));
        for expected in expected {
            assert!(text.contains(expected), "no {expected:?} in\n{text}");
        }
    }

    #[test]
    fn an_entry_tells_where_it_came_from_what_it_holds_and_what_to_do() {
        let uplink = Uplink {
            tenant: TenantNo(1),
            device: DeviceId::parse("pump").unwrap(),
            received_at: EventTime(1_795_305_600_000_000),
            fport: Some(85),
            fcnt: Some(9),
            message_id: None,
            frame: vec![0, 0xff],
            decoded: None,
            receptions: vec![],
        };
        let record = |record: &Record| postcard::to_stdvec(record).unwrap();
        let whole = record(&Record::Uplink(Box::new(uplink.clone())));
        let envelope =
            ["fport:        85\n", "fcnt:         9\n", "payload:      00ff\n", "received at:  2026-11-22T00:00:00Z\n"];
        check(Reason::DecoderError, whole.clone(), None, &envelope);
        check(
            Reason::DecoderError,
            whole.clone(),
            None,
            &["partition:    3\noffset:       7\nlog time:", "Mend the decoder", "retry 3 7 --yes"],
        );
        check(Reason::BadValue, whole.clone(), Some("x"), &["field:        x\n", "Mend the decoder"]);
        check(Reason::UnknownDevice, whole, None, &["Register the device"]);
        let at = LogTime(1_795_000_000_000_000);
        let last = Attempt { offset: Offset(5), log_time: at, field: None, arrived: at, passed: Some(at) };
        let again = record(&Record::Retry(Box::new(Retry { last, uplink })));
        check(
            Reason::DecoderError,
            again,
            None,
            &["arrived:      2026-11-18T11:06:40Z\n", "payload:      00ff\n", "\"offset\":5"],
        );
        check(
            Reason::BadRecord,
            vec![1, 77],
            None,
            &["record:       014d\n", "unreadable:   the record cannot be read", "drop 3 7"],
        );
        let row = br#"{"row":{"value":5000.0},"table":"measurement"}"#.to_vec();
        check(Reason::RowRefused, row, Some("x"), &["5000.0", "Mend what refuses the row"]);
    }
}

//! The body of a log record: one version byte, then postcard of [`Record`].
//!
//! Keeps the promise that a record which was acknowledged can be read by every later version. A record bears the
//! lowest version whose readers understand it, so that an earlier weir reads all that it could have written, and
//! stops at the rest instead of passing it over.

use dataflows::model::{Record, RegistryChange, Uplink};

/// Uplinks, changes of the registry, ticks, verdicts.
const FIRST: u8 = 1;
/// Retries too.
const RETRIES: u8 = 2;
/// Uplinks over a quota too.
const QUOTAS: u8 = 3;

/// Why a record's body cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// There is no byte at all.
    #[error("the record is empty")]
    Empty,
    /// Another version of weir wrote it.
    #[error("the record has format {found}, this weir reads formats {FIRST} to {QUOTAS}: run the version that wrote it")]
    Version {
        /// What stands in the record.
        found: u8,
    },
    /// The bytes make no record.
    #[error("the record cannot be read ({0})")]
    Body(#[from] postcard::Error),
}

/// What kind of record a body holds, told from its first bytes without reading the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// [`Record::Uplink`]
    Uplink,
    /// [`Record::Registry`]
    Registry,
    /// [`Record::Tick`]
    Tick,
    /// [`Record::Verdict`]
    Verdict,
    /// [`Record::Retry`]
    Retry,
    /// [`Record::OverQuota`]
    OverQuota,
    /// None of them.
    Unknown,
}

/// Encodes a record.
pub fn encode(record: &Record) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes_about(record));
    body.push(version(record));
    postcard::to_extend(record, body).expect("records hold nothing that postcard refuses")
}

/// The lowest version that has such records.
fn version(record: &Record) -> u8 {
    match record {
        Record::Uplink(_) | Record::Registry(_) | Record::Tick | Record::Verdict { .. } => FIRST,
        Record::Retry(_) => RETRIES,
        Record::OverQuota(_) => QUOTAS,
    }
}

/// What a record takes, so that encoding it need not grow its memory. Unit: bytes.
fn bytes_about(record: &Record) -> usize {
    /// Numbers of an attempt, and a field's name.
    const ATTEMPT: usize = 64;
    /// Numbers of a quota.
    const EXCESS: usize = 24;
    match record {
        Record::Uplink(uplink) => uplink_bytes_about(uplink),
        Record::Retry(retry) => ATTEMPT + uplink_bytes_about(&retry.uplink),
        Record::OverQuota(over) => EXCESS + uplink_bytes_about(&over.uplink),
        Record::Registry(change) => registry_bytes_about(change),
        Record::Tick | Record::Verdict { .. } => 12,
    }
}

fn registry_bytes_about(change: &RegistryChange) -> usize {
    /// Numbers and a name: of many thousands in one append, what is too much counts.
    const DEVICE: usize = 64;
    const OTHER: usize = 256;
    match change {
        RegistryChange::Device(_) | RegistryChange::DeviceRemoved { .. } => DEVICE,
        _ => OTHER,
    }
}

fn uplink_bytes_about(uplink: &Uplink) -> usize {
    /// Numbers and lengths of an uplink, and a device's name.
    const UPLINK: usize = 64;
    const RECEPTION: usize = 32;
    let message_id = uplink.message_id.as_ref().map_or(0, |id| id.len());
    let decoded = uplink.decoded.as_ref().map_or(0, String::len);
    UPLINK + uplink.frame.len() + message_id + decoded + RECEPTION * uplink.receptions.len()
}

/// Decodes a record.
///
/// Errors: another version, or bytes that make no record.
pub fn decode(body: &[u8]) -> Result<Record, CodecError> {
    let (&version, rest) = body.split_first().ok_or(CodecError::Empty)?;
    if !(FIRST..=QUOTAS).contains(&version) {
        return Err(CodecError::Version { found: version });
    }
    Ok(postcard::from_bytes(rest)?)
}

/// Whether a record that cannot be read must not be passed over: one of another version is good there, and what
/// follows a registry record depends on it. Any other stands for itself, and can be set aside.
pub fn is_indispensable(body: &[u8], error: &CodecError) -> bool {
    matches!(error, CodecError::Version { .. }) || kind(body) == Kind::Registry
}

/// Tells the kind of a record.
pub fn kind(body: &[u8]) -> Kind {
    match body {
        [FIRST, 0, ..] => Kind::Uplink,
        [FIRST, 1, ..] => Kind::Registry,
        [FIRST, 2, ..] => Kind::Tick,
        [FIRST, 3, ..] => Kind::Verdict,
        [RETRIES, 4, ..] => Kind::Retry,
        [QUOTAS, 5, ..] => Kind::OverQuota,
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::{
        Attempt, DeviceId, EventTime, Excess, LogTime, Offset, OverQuota, Policy, QuotaSpan, RegistryChange, Retry, Tenant,
        TenantNo, Treatment, Uplink,
    };

    fn records() -> [(Record, Kind); 7] {
        let uplink = Uplink {
            tenant: TenantNo(1),
            device: DeviceId::parse("0004A30B001C0530").unwrap(),
            received_at: EventTime(1_700_000_000_000_000),
            fport: Some(85),
            fcnt: Some(7),
            message_id: None,
            frame: vec![1, 117, 100],
            decoded: None,
            receptions: vec![],
        };
        let (at, field) = (LogTime(1_700_000_000_000_000), Some("x".into()));
        let last = Attempt { offset: Offset(3), log_time: at, field, arrived: at, passed: Some(at) };
        let retry = Retry { last, uplink: uplink.clone() };
        let over = |span, treatment| {
            let excess = Excess { span, measurements_max: 500, treatment };
            Record::OverQuota(Box::new(OverQuota { excess, uplink: uplink.clone() }))
        };
        let aside = over(QuotaSpan::Second, Treatment::Quarantine);
        let thinned = over(QuotaSpan::Day, Treatment::Thin { interval_us: 900_000_000 });
        let tenant = Tenant { no: TenantNo(1), policy: Policy::default() };
        [
            (Record::Uplink(Box::new(uplink)), Kind::Uplink),
            (Record::Registry(Box::new(RegistryChange::Tenant(tenant.into()))), Kind::Registry),
            (Record::Tick, Kind::Tick),
            (Record::Verdict { uplink: Offset(3) }, Kind::Verdict),
            (Record::Retry(Box::new(retry)), Kind::Retry),
            (aside, Kind::OverQuota),
            (thinned, Kind::OverQuota),
        ]
    }

    #[test]
    fn records_come_back_and_tell_their_kind() {
        for (record, expected) in records() {
            let body = encode(&record);
            assert_eq!(kind(&body), expected);
            assert_eq!(decode(&body).unwrap(), record);
        }
    }

    #[test]
    fn the_bytes_on_disk_do_not_change() {
        // A change here makes every log that exists unreadable: add a version and read both.
        let hex = |record: &Record| data_encoding::HEXLOWER.encode(&encode(record));
        let [(uplink, _), (tenant, _), (tick, _), (verdict, _), (retry, _), (aside, _), (thinned, _)] = records();
        assert_eq!(hex(&uplink), "01000110303030346133306230303163303533308080f281838985060155010700030175640000");
        assert_eq!(hex(&tenant), "010100010355544380989abc0480909de91a0000");
        assert_eq!(hex(&tick), "0102");
        assert_eq!(hex(&verdict), "010303");
        assert_eq!(
            hex(&retry),
            "0204038080f281838985060101788080f28183898506018080f281838985060110303030346133306230303163303533308080f281838985060155010700030175640000"
        );
        assert_eq!(hex(&aside), "030500f403000110303030346133306230303163303533308080f281838985060155010700030175640000");
        assert_eq!(
            hex(&thinned),
            "030501f4030180a4a7da060110303030346133306230303163303533308080f281838985060155010700030175640000"
        );
    }

    #[test]
    fn a_device_under_another_spelling_of_its_name_is_refused() {
        let [(uplink, _), ..] = records();
        let body = encode(&uplink);
        let at = body.windows(16).position(|bytes| bytes == b"0004a30b001c0530").unwrap();
        let mut upper = body.clone();
        upper[at..at + 16].make_ascii_uppercase();
        assert!(matches!(decode(&upper), Err(CodecError::Body(_))), "it would live in another partition");
    }

    #[test]
    fn what_is_no_record_is_told() {
        assert!(matches!(decode(&[]), Err(CodecError::Empty)));
        assert!(matches!(decode(&[9, 0]), Err(CodecError::Version { found: 9 })));
        assert!(matches!(decode(&[1, 77]), Err(CodecError::Body(_))));
        assert_eq!(kind(&[1, 77]), Kind::Unknown);
        let is_indispensable = |body: &[u8]| is_indispensable(body, &decode(body).unwrap_err());
        assert!(is_indispensable(&[9, 0]), "another version reads it");
        assert!(is_indispensable(&[1, 1, 255]), "what is in effect would be unknown");
        assert!(!is_indispensable(&[1, 0, 255]) && !is_indispensable(&[1, 77]) && !is_indispensable(&[]));
    }
}

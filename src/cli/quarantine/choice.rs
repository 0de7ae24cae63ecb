//! Which entries a command is about.

use crate::store::quarantine::Filter;
use anyhow::{Context, bail};
use clap::Args;
use dataflows::model::{DeviceId, LogTime, Offset, Partition, Reason};
use jiff::{Timestamp, civil, tz::TimeZone};

/// A record of the log, which names what was set aside of it.
#[derive(Args, Debug)]
pub(super) struct Place {
    /// The partition of the record.
    partition: u16,
    /// Its offset there.
    #[arg(value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    offset: u64,
}

impl Place {
    pub(super) fn get(&self) -> (Partition, Offset) {
        (Partition(self.partition), Offset(self.offset))
    }
}

/// Those entries that fit all that is said.
#[derive(Args, Debug)]
pub(super) struct Choice {
    /// Only those of one record.
    #[arg(num_args = 2, value_names = ["PARTITION", "OFFSET"])]
    place: Vec<u64>,
    /// Only those of this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// Only those of this device.
    #[arg(long)]
    device: Option<String>,
    /// Only those of this reason, such as unknown_device or decoder_error.
    #[arg(long)]
    reason: Option<String>,
    /// Only those that came at this time or later: RFC 3339, a date in UTC, or how long ago, such as 24h.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those that came before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Choice {
    /// Gives the filter, by a clock that shows `now`.
    pub(super) fn filter(&self, now: Timestamp) -> anyhow::Result<Filter> {
        let device = self.device.as_deref().map(DeviceId::parse).transpose()?;
        let time = |text: &Option<String>| text.as_deref().map(|text| time(text, now)).transpose();
        Ok(Filter {
            tenant: self.tenant.clone(),
            device,
            reason: self.reason.as_deref().map(reason).transpose()?,
            since: time(&self.since)?,
            until: time(&self.until)?,
            place: self.place()?,
        })
    }

    fn place(&self) -> anyhow::Result<Option<(Partition, Offset)>> {
        let [partition, offset] = self.place[..] else { return Ok(None) };
        let partition = u16::try_from(partition).ok().filter(|p| *p < crate::store::PARTITIONS_MAX);
        let partition = partition.with_context(|| format!("there are at most {} partitions", crate::store::PARTITIONS_MAX))?;
        let offset = i64::try_from(offset).context("no log is as long as that offset")?;
        Ok(Some((Partition(partition), Offset(offset.unsigned_abs()))))
    }
}

fn reason(word: &str) -> anyhow::Result<Reason> {
    let Some(reason) = Reason::parse(word) else {
        let words: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        bail!("there is no reason {word:?}: there are {}", words.join(", "));
    };
    Ok(reason)
}

/// Reads a point in time, or how long before `now` it was.
fn time(text: &str, now: Timestamp) -> anyhow::Result<LogTime> {
    let local = |at: civil::DateTime| at.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp());
    let at = text
        .parse::<Timestamp>()
        .ok()
        .or_else(|| text.parse::<civil::DateTime>().ok().and_then(local))
        .or_else(|| text.parse::<jiff::SignedDuration>().ok().and_then(|ago| now.checked_sub(ago.abs()).ok()))
        .or_else(|| days(text).and_then(|ago| now.checked_sub(ago).ok()));
    let at = at.with_context(|| {
        format!("{text:?} is no time: give RFC 3339 (2026-11-22T10:00:00Z), a date in UTC, or how long ago, such as 24h or 7d")
    })?;
    Ok(LogTime(at.as_microsecond()))
}

/// Days have 24 hours here, for there is no zone.
fn days(text: &str) -> Option<jiff::SignedDuration> {
    let days: i64 = text.trim_start_matches('-').strip_suffix('d')?.trim_end().parse().ok()?;
    days.checked_mul(24).map(jiff::SignedDuration::from_hours).filter(|_| (0..1_000_000).contains(&days))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::{DAY_US, HOUR_US, MINUTE_US};

    #[test]
    fn times_are_points_or_spans_before_now() {
        let now = "2026-11-22T10:00:00Z".parse::<Timestamp>().unwrap();
        let check = |text: &str, expected_ago_us: i64| {
            assert_eq!(now.as_microsecond() - time(text, now).unwrap().0, expected_ago_us, "{text}");
        };
        check("2026-11-22T10:30:00+01:00", 30 * MINUTE_US);
        check("2026-11-22", 10 * HOUR_US);
        check("2026-11-22T09:00", HOUR_US);
        check("24h", DAY_US);
        check("-90m", 90 * MINUTE_US);
        check("1h 30m", 90 * MINUTE_US);
        check("7d", 7 * DAY_US);
        for text in ["", "soon", "7", "-d", "99999999999999d"] {
            assert!(time(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused_with_what_there_is() {
        let none = || Choice { place: vec![], tenant: None, device: None, reason: None, since: None, until: None };
        let filter = |choice: Choice| choice.filter(Timestamp::UNIX_EPOCH);
        assert_eq!(filter(none()).unwrap(), Filter::default());
        let refused = |choice: Choice| filter(choice).unwrap_err().to_string();
        assert!(refused(Choice { reason: Some("bad".into()), ..none() }).contains("decoder_error, "));
        assert!(refused(Choice { place: vec![5000, 1], ..none() }).contains("1024"));
        assert!(refused(Choice { since: Some("soon".into()), ..none() }).contains("24h"));
        let place = Some((Partition(3), Offset(7)));
        assert_eq!(filter(Choice { place: vec![3, 7], ..none() }).unwrap(), Filter { place, ..Filter::default() });
    }
}

//! Which decoders are suspended, for whoever looks: told to the daemon's log when it begins and when it ends.

use dataflows::graph::Suspended;
use dataflows::model::{Decoding, Partition, TenantNo};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A decoder that is suspended for a tenant's devices, for a reader.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SuspendedDecoder {
    /// The tenant's number.
    pub tenant: u32,
    /// The first digits of the decoder's hash, as `weir decoder list` shows them.
    pub decoder: String,
    /// The partitions in which it is suspended: each has devices of its own.
    pub partitions: Vec<u16>,
    /// Uplinks in a row that ran out of its limits, the most of any of these partitions.
    pub failures: u32,
    /// When it is tried again, the earliest of any of these partitions.
    pub next_trial: jiff::Timestamp,
}

/// The suspended decoders of all partitions.
///
/// State: one entry for each partition's suspended decoder, which the graph bounds.
#[derive(Default)]
pub(super) struct SuspendedDecoders(Mutex<BTreeMap<(TenantNo, Decoding), BTreeMap<Partition, Suspended>>>);

impl SuspendedDecoders {
    /// Takes down what is suspended in a partition by now.
    pub(super) fn tell(&self, partition: Partition, suspended: Vec<Suspended>) {
        let mut decoders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if suspended.is_empty() && decoders.is_empty() {
            return;
        }
        for now in &suspended {
            let everywhere = decoders.entry((now.tenant, now.decoding)).or_default();
            if everywhere.is_empty() {
                let (decoder, until) = (name(now.decoding), now.until.0);
                let until = jiff::Timestamp::from_microsecond(until).unwrap_or_default();
                tracing::warn!(tenant = %now.tenant, %decoder, failures = now.failures, %until, "a decoder is suspended, for it kept running out of its limits: mend it, then `weir quarantine retry`");
            }
            everywhere.insert(partition, *now);
        }
        decoders.retain(|&(tenant, decoding), partitions| {
            if !suspended.iter().any(|now| (now.tenant, now.decoding) == (tenant, decoding)) {
                partitions.remove(&partition);
            }
            if partitions.is_empty() {
                tracing::info!(%tenant, decoder = %name(decoding), "a decoder is suspended no more");
            }
            !partitions.is_empty()
        });
    }

    /// Gives what is suspended, by tenant and decoder.
    pub(super) fn all(&self) -> Vec<SuspendedDecoder> {
        let decoders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = decoders.iter().map(|(&(tenant, decoding), partitions)| {
            let earliest = partitions.values().map(|suspended| suspended.until.0).min().unwrap_or_default();
            SuspendedDecoder {
                tenant: tenant.0,
                decoder: name(decoding),
                partitions: partitions.keys().map(|partition| partition.0).collect(),
                failures: partitions.values().map(|suspended| suspended.failures).max().unwrap_or_default(),
                next_trial: jiff::Timestamp::from_microsecond(earliest).unwrap_or_default(),
            }
        });
        shown.collect()
    }
}

fn name(decoding: Decoding) -> String {
    match decoding {
        // The network's own decoding has no limits to run out of.
        Decoding::Upstream => "upstream".into(),
        Decoding::JavaScript(hash) | Decoding::Wasm(hash) => format!("{hash}")[..12].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::{DecoderHash, LogTime, SECOND_US};

    fn suspended(tenant: u32, failures: u32) -> Suspended {
        let decoding = Decoding::JavaScript(DecoderHash([0xab; 32]));
        Suspended { tenant: TenantNo(tenant), decoding, failures, until: LogTime(i64::from(failures) * SECOND_US) }
    }

    #[test]
    fn partitions_are_told_of_together() {
        let decoders = SuspendedDecoders::default();
        decoders.tell(Partition(0), vec![]);
        decoders.tell(Partition(3), vec![suspended(1, 12)]);
        decoders.tell(Partition(1), vec![suspended(1, 10), suspended(2, 11)]);
        decoders.tell(Partition(2), vec![]);
        let shown = |tenant, partitions: &[u16], failures, trial_s| SuspendedDecoder {
            tenant,
            decoder: "abababababab".into(),
            partitions: partitions.to_vec(),
            failures,
            next_trial: jiff::Timestamp::from_second(trial_s).unwrap(),
        };
        assert_eq!(decoders.all(), [shown(1, &[1, 3], 12, 10), shown(2, &[1], 11, 11)]);
        decoders.tell(Partition(1), vec![suspended(1, 11)]);
        assert_eq!(decoders.all(), [shown(1, &[1, 3], 12, 11)]);
        decoders.tell(Partition(1), vec![]);
        decoders.tell(Partition(3), vec![]);
        assert_eq!(decoders.all(), []);
    }
}

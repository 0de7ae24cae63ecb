//! What the tables must hold: what the oracle makes of a log.

use crate::process::{PARTITIONS, PATIENCE};
use crate::tables::Tables;
use crate::world::log_dir;
use dataflows::model::{DeviceId, Entry, Offset, Partition, Placed, Quarantined, Reason, Record, TenantNo};
use dataflows::oracle::Oracle;
use std::collections::HashSet;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use weir::codec;
use weir::decoder::{DecoderLimits, Decoders, VerdictSink};
use weir::log::{Clock, Log, LogOptions, RawRecord, ReadError};

/// Runs the log of a data directory, which no daemon uses now, through the oracle.
pub(crate) fn tables(dir: &Path) -> Tables {
    tables_of(&log_dir(dir), &dir.join("decoders"))
}

/// Does the same with a log that is elsewhere than its decoders.
pub(crate) fn tables_of(log: &Path, decoder_bodies: &Path) -> Tables {
    let options = LogOptions { partitions: PARTITIONS, ..LogOptions::default() };
    let (log, _) = Log::open(log, options, Clock::system()).unwrap();
    let decoders = decoders(decoder_bodies);
    let (mut oracle, mut tables) = (Oracle::default(), Tables::default());
    for partition in (0..PARTITIONS).map(Partition) {
        let (entries, lost) = entries(&log, partition);
        let mut outputs = oracle.run(&entries, &mut decoders.worker());
        outputs.quarantined.extend(lost);
        assert!(outputs.devices.is_empty(), "the fleet is registered");
        tables.add_outputs(&outputs);
        let log_time = entries.last().map(|entry| entry.log_time);
        tables.add_progress(partition, log.end(partition).0, log_time, oracle.counts(partition));
    }
    tables
}

/// Opens the decoders of a folder.
pub(crate) fn decoders(dir: &Path) -> Decoders {
    let limits = DecoderLimits { watchdog: PATIENCE, ..DecoderLimits::default() };
    Decoders::open(dir, limits, Arc::new(NoVerdicts)).unwrap()
}

/// Reads a partition from its start, with the verdicts that lie ahead. What was lost with damaged segments stands
/// in quarantine, at the time before it.
fn entries(log: &Log, partition: Partition) -> (Vec<Entry>, Vec<Placed<Quarantined>>) {
    let (mut at, mut raw, mut lost) = (log.start(partition), Vec::<RawRecord>::new(), Vec::new());
    assert_eq!(at, Offset(0), "nothing is truncated within a test");
    while at < log.end(partition) {
        at = match log.read(partition, at, 1 << 20, &mut raw) {
            Err(ReadError::Gap { from, to, .. }) => {
                let row = Quarantined {
                    log_time: raw.last().expect("the registry comes first").log_time,
                    tenant: TenantNo(0),
                    device: DeviceId::parse("unknown").unwrap(),
                    field: None,
                    reason: Reason::BadRecord,
                    detail: String::new(),
                    record: Vec::new(),
                };
                lost.push(Placed { partition, offset: from, row });
                to
            }
            read => read.unwrap(),
        };
    }
    let records: Vec<_> = raw.iter().map(|raw| codec::decode(&raw.body).unwrap()).collect();
    let condemned: HashSet<Offset> =
        records.iter().filter_map(|record| if let Record::Verdict { uplink } = record { Some(*uplink) } else { None }).collect();
    let entry = |(raw, record): (RawRecord, Record)| Entry {
        partition,
        offset: raw.offset,
        log_time: raw.log_time,
        condemned: condemned.contains(&raw.offset),
        record,
    };
    (raw.into_iter().zip(records).map(entry).collect(), lost)
}

/// The oracle's decoders have all the time that they want.
struct NoVerdicts;

impl VerdictSink for NoVerdicts {
    fn condemn(&self, partition: Partition, uplink: Offset) -> Result<(), Box<dyn Error + Send + Sync>> {
        Err(format!("the oracle's decoder does not end with record {uplink} of partition {partition}").into())
    }
}

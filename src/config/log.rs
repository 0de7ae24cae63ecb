//! `[log]`

use super::reader::Reader;
use super::setting::Bytes;
use crate::log::LogOptions;
use std::path::PathBuf;
use std::time::Duration;

/// Smallest size bound of a log: some segments, each of which holds the largest append.
const SIZE_BYTES_MIN: u64 = 16 << 20;

/// Where acknowledged uplinks are kept, and how many.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// `dir`: the data directory: log, decoders and the registry's local copy. Default: ./weir-data.
    pub dir: PathBuf,
    /// `partitions`: fixed when log and database are made. Default: 16.
    pub partitions: u16,
    /// `size_bytes_max`: senders are refused beyond; at least 16 MiB. Default: 16 GiB.
    pub size_bytes_max: u64,
    /// `retention`: how long the log is kept behind the newest checkpoint, for a database that comes
    /// back older than it was left. Given up when the log is nearly full. Default: 24 h.
    pub retention: Duration,
}

impl Log {
    pub(super) fn read(mut reader: Reader<'_>) -> Self {
        let options = LogOptions::default();
        let log = Self {
            dir: reader.or("dir", PathBuf::from("weir-data")),
            partitions: reader.or("partitions", options.partitions),
            size_bytes_max: reader.or("size_bytes_max", Bytes(options.size_bytes_max)).0,
            retention: reader.or("retention", Duration::from_secs(24 * 3600)),
        };
        if log.partitions == 0 {
            reader.refuse("partitions", "give at least 1");
        }
        if log.size_bytes_max < SIZE_BYTES_MIN {
            reader.refuse("size_bytes_max", "give at least 16 MiB");
        }
        log
    }

    /// Gives the same for the log. A small log has small segments, so that it can be truncated at all.
    pub fn options(&self) -> LogOptions {
        let options = LogOptions { partitions: self.partitions, size_bytes_max: self.size_bytes_max, ..LogOptions::default() };
        let segment_bytes = options.segment_bytes.min(self.size_bytes_max / 8);
        let append_bytes_max = options.append_bytes_max.min(segment_bytes as usize / 2);
        let group_bytes_max = options.group_bytes_max.min(append_bytes_max);
        let reserve_bytes = options.reserve_bytes.min(segment_bytes / 8);
        LogOptions { segment_bytes, append_bytes_max, group_bytes_max, reserve_bytes, ..options }
    }
}

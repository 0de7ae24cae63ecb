//! `[decoders]`

use super::reader::Reader;
use super::setting::Bytes;
use crate::decoder::DecoderLimits;
use std::time::Duration;

/// The bounds of decoders.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoders {
    /// `memory_bytes_max`: memory of one decoder's instance. Default: 16 MiB.
    pub memory_bytes_max: u64,
    /// `watchdog`: processor time after which decoding of one uplink is ended by force; the
    /// deterministic budget of steps normally ends it long before. Default: 500 ms.
    pub watchdog: Duration,
    /// `instances_max`: decoders that a worker keeps loaded. Default: 256.
    pub instances_max: usize,
}

impl Decoders {
    pub(super) fn read(mut reader: Reader<'_>) -> Self {
        let limits = DecoderLimits::default();
        Self {
            memory_bytes_max: reader.or("memory_bytes_max", Bytes(limits.memory_bytes)).0,
            watchdog: reader.or("watchdog", limits.watchdog),
            instances_max: reader.or("instances_max", limits.instances),
        }
    }

    /// Gives the same for the decoder host.
    pub fn limits(&self) -> DecoderLimits {
        DecoderLimits {
            memory_bytes: self.memory_bytes_max,
            watchdog: self.watchdog,
            instances: self.instances_max,
            ..DecoderLimits::default()
        }
    }
}

//! The watchdog's verdicts go into the log before the worker passes the uplink.

use crate::codec;
use crate::decoder::VerdictSink;
use crate::log::{Log, NewRecord};
use dataflows::model::{Offset, Partition, Record};
use std::error::Error;

/// Appends verdicts to the log.
pub(super) struct LogVerdicts(pub Log);

impl VerdictSink for LogVerdicts {
    fn condemn(&self, partition: Partition, uplink: Offset) -> Result<(), Box<dyn Error + Send + Sync>> {
        let body = codec::encode(&Record::Verdict { uplink });
        self.0.append_blocking(vec![NewRecord { partition, body }])?;
        Ok(())
    }
}

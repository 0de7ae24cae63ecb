//! A decoder for frames of the simulated fleet, which a watchdog sometimes ends.

use super::random::Fate;
use crate::codec;
use crate::log::stepped::Stepper;
use crate::log::{Log, NewRecord};
use dataflows::decode::{Decode, DecodeCall, DecodeFailure, Decoded, KILLED};
use dataflows::model::{EventTime, Measurement, Offset, Partition, Reason, Record, SECOND_US, Value};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// First byte of a frame whose decoder throws.
pub(super) const THROWS: u8 = 1;
/// First byte of a frame over which the watchdog sometimes ends the decoder.
pub(super) const HEAVY: u8 = 2;
/// The fields that frames have.
pub(super) const FIELDS: [&str; 4] = ["level", "flow", "open", "state"];

/// Makes measurements of a frame: behind its first byte, threes of field, value and half minutes ago.
pub(super) struct Plain;

impl Decode for Plain {
    fn decode(&mut self, call: &DecodeCall<'_>, decoded: &mut Decoded) -> Result<(), DecodeFailure> {
        let frame = &call.uplink.frame;
        if frame.first() == Some(&THROWS) {
            return Err(DecodeFailure { reason: Reason::DecoderError, detail: "it throws".into() });
        }
        for three in frame.get(1..).unwrap_or_default().chunks_exact(3) {
            let [field, value, ago] = [three[0] % 4, three[1], three[2]];
            let number = if value == u8::MAX { f64::NAN } else { f64::from(value) / 10.0 };
            let value = match field {
                0 | 1 => Value::Number(number),
                2 => Value::Boolean(value % 2 == 1),
                _ => Value::Text(if value % 2 == 1 { "on".into() } else { "off".into() }),
            };
            let at = (ago > 0).then(|| EventTime(call.uplink.received_at.0 - i64::from(ago) * 30 * SECOND_US));
            decoded.measurements.push(Measurement { field: FIELDS[usize::from(field)].into(), value, at });
        }
        Ok(())
    }
}

/// How far each partition was ever committed.
pub(super) type Reached = Arc<Mutex<BTreeMap<Partition, Offset>>>;

/// A worker's decoder. As the real one, it writes the watchdog's verdict into the log before it says so.
///
/// What was committed once is decoded again at a replay, and passes again: the watchdog's patience is long
/// against the steps that a decoder may take, so that it ends only what hangs.
pub(super) struct Watched {
    pub fate: Fate,
    pub log: Log,
    pub writer: Arc<Mutex<Stepper>>,
    pub reached: Reached,
    /// The process cannot go on.
    pub fatal: Arc<AtomicBool>,
}

impl Decode for Watched {
    fn decode(&mut self, call: &DecodeCall<'_>, decoded: &mut Decoded) -> Result<(), DecodeFailure> {
        let passed = self.reached.lock().unwrap().get(&call.partition).is_some_and(|reached| call.offset < *reached);
        if call.uplink.frame.first() != Some(&HEAVY) || passed || self.fate.once_in(2) {
            return Plain.decode(call, decoded);
        }
        self.fate.fault("the watchdog ended a decoder");
        self.condemn(call.partition, call.offset);
        Err(DecodeFailure { reason: Reason::DecoderKilled, detail: KILLED.into() })
    }
}

impl Watched {
    /// The real one waits here for as long as the log takes nothing; a process that has to wait is killed instead.
    fn condemn(&self, partition: Partition, uplink: Offset) {
        let body = codec::encode(&Record::Verdict { uplink });
        let mut append = pin!(self.log.append_own(vec![NewRecord { partition, body }]));
        let appended = loop {
            match append.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(appended) => break appended,
                Poll::Pending => self.writer.lock().unwrap().step(),
            };
        };
        if appended.is_err() {
            self.fatal.store(true, Ordering::Relaxed);
        }
    }
}

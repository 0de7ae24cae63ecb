//! The door through which the shell's decoders come into the graph.
//!
//! The graph calls one [`Decode`] per worker, uplink by uplink in log order. What it gives must
//! depend on the call alone: no wall clock, no randomness, no state from one call to the next.

use crate::model::{Device, FieldName, Measurement, Offset, Partition, Reason, Template, Uplink};

/// What a reader is told of an uplink whose decoding the watchdog ended: the same when it happens and at every
/// replay, where nothing but the verdict is known.
pub const KILLED: &str = "the watchdog ended the decoder: look for one call that takes very long, such as a search in a huge text, mend it, then retry";

/// What a reader is told of an uplink whose decoder is suspended.
pub const SUSPENDED: &str = "the decoder is suspended, for it ran out of its limits too many times in a row: see what its uplinks in quarantine with decoder_steps, decoder_memory or decoder_killed have in common, mend it, then retry";

/// Makes measurements of uplinks.
pub trait Decode {
    /// Appends the measurements of one uplink to `decoded`, which comes in empty.
    ///
    /// Errors: the uplink is set aside whole, with the reason; `decoded` is then not looked at.
    fn decode(&mut self, call: &DecodeCall<'_>, decoded: &mut Decoded) -> Result<(), DecodeFailure>;
}

/// One uplink to decode, with what is in effect for it.
#[derive(Clone, Copy, Debug)]
pub struct DecodeCall<'a> {
    /// Where the uplink stands in the log.
    pub partition: Partition,
    /// Where the uplink stands in the log.
    pub offset: Offset,
    /// The uplink.
    pub uplink: &'a Uplink,
    /// Its device.
    pub device: &'a Device,
    /// The device's template, which names the decoder.
    pub template: &'a Template,
}

/// What a decoder made of one uplink.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Decoded {
    /// What can be stored, in the decoder's order.
    pub measurements: Vec<Measurement>,
    /// What cannot.
    pub rejected: Vec<Rejected>,
}

impl Decoded {
    /// Empties both lists, keeping their memory.
    pub fn clear(&mut self) {
        self.measurements.clear();
        self.rejected.clear();
    }
}

/// One field that cannot be stored, beside others that can.
#[derive(Clone, PartialEq, Debug)]
pub struct Rejected {
    /// The field.
    pub field: FieldName,
    /// Why.
    pub reason: Reason,
    /// The same for a reader, with what to do.
    pub detail: String,
}

/// An uplink that could not be decoded at all.
#[derive(Clone, PartialEq, Debug)]
pub struct DecodeFailure {
    /// Why.
    pub reason: Reason,
    /// The same for a reader, with what to do.
    pub detail: String,
}

//! Owns one uplink of a simulated device: what is sent, and what the device meant by it.

use super::{Kind, Shape};
use dataflows::model::EventTime;

/// An application payload. No simulated device sends more than [`Frame::LEN_MAX`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    bytes: [u8; Self::LEN_MAX],
    len: u8,
}

impl Frame {
    /// Longest payload, in bytes.
    pub const LEN_MAX: usize = 39;

    pub(crate) fn new() -> Self {
        Self { bytes: [0; Self::LEN_MAX], len: 0 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }

    /// Takes the last byte away: the value that it ends can no longer be read.
    pub(crate) fn cut(&mut self) {
        self.len -= 1;
    }

    /// Gives the payload.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The device's readings as integers of its payload, in the order of [`super::kinds::KindSpec::walks`].
pub type Readings = [i32; READINGS_MAX];

/// Most readings that a device makes at once.
pub const READINGS_MAX: usize = 8;

/// How an uplink travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It arrives in its turn.
    Prompt,
    /// It arrives behind later ones, within the lateness horizon.
    OutOfOrder,
    /// It arrives more than a minute beyond the lateness horizon.
    Late,
    /// It arrives in its turn without its last byte.
    Bad,
}

/// One copy of an uplink.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FleetUplink {
    /// Which device of the fleet, counted from 0.
    pub device: u32,
    /// What the device is.
    pub kind: Kind,
    /// When its network received it: the event time of its readings, never the same twice for a device.
    pub received_at: EventTime,
    /// LoRaWAN frame counter, counted up by the device and so its name for the uplink.
    pub fcnt: u32,
    /// The payload.
    pub frame: Frame,
    /// What the device read.
    pub readings: Readings,
    /// How it travels.
    pub fate: Fate,
    /// 0 for the first copy; others come through other gateways.
    pub copy: u8,
}

/// An uplink that is due.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Due {
    /// When, since the start of the schedule. Unit: microseconds.
    pub due_us: u64,
    /// The envelope that the device's network uses.
    pub shape: Shape,
    /// The uplink.
    pub uplink: FleetUplink,
}

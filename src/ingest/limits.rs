//! The bounds of what one sender, and all of them together, may send.

use std::time::Duration;

/// Bounds of requests. Each is checked before the memory that it bounds is taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Largest body, after decompression. Unit: bytes. Default: 8 MiB.
    pub body_bytes_max: usize,
    /// All bodies that are in memory at once; above it senders are asked to come back.
    /// Unit: bytes. Default: 256 MiB.
    pub bodies_bytes_max: usize,
    /// Longest time in which a body must have arrived. Default: 30 s.
    pub body_timeout: Duration,
    /// Most uplinks in one request. Default: 10,000.
    pub items_max: usize,
    /// Largest frame (LoRaWAN itself ends at 242). Unit: bytes. Default: 4 KiB.
    pub frame_bytes_max: usize,
    /// Largest JSON text of fields that came decoded. Unit: bytes. Default: 64 KiB.
    pub decoded_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 8 << 20,
            bodies_bytes_max: 256 << 20,
            body_timeout: Duration::from_secs(30),
            items_max: 10_000,
            frame_bytes_max: 4 << 10,
            decoded_bytes_max: 64 << 10,
        }
    }
}

/// Deepest nesting of fields that came decoded: what reads them later may recurse.
pub(super) const DEPTH_MAX: usize = 32;
/// Most gateways' copies that are kept of one uplink.
pub(super) const RECEPTIONS_MAX: usize = 32;
/// Longest name of a gateway or identity of a message. Unit: bytes.
pub(super) const NAME_BYTES_MAX: usize = 128;

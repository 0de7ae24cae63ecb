//! Owns the binary form of what a decoder is given; `decoders/js-engine/src/lib.rs` tells it.

use std::collections::BTreeMap;

/// Longest input of one call. Unit: bytes.
const BYTES_MAX: usize = 256 << 10;

/// One uplink, as a decoder sees it.
#[derive(Clone, Copy, Debug)]
pub struct DecoderInput<'a> {
    /// LoRaWAN port, where there is one.
    pub fport: Option<u8>,
    /// The payload.
    pub bytes: &'a [u8],
    /// When the network received it. Unit: microseconds since the Unix epoch.
    pub recv_time_us: i64,
    /// The device's variables.
    pub variables: &'a BTreeMap<String, String>,
}

impl DecoderInput<'_> {
    /// Writes the binary form, with what bounds the decoder.
    ///
    /// Errors: payload and variables are larger than a decoder takes; the text says so.
    pub(super) fn write(&self, steps: u32, result_bytes: u32, out: &mut Vec<u8>) -> Result<(), String> {
        out.clear();
        out.extend_from_slice(&self.fport.map_or(-1, i32::from).to_le_bytes());
        out.extend_from_slice(&(self.recv_time_us as f64 / 1e3).to_le_bytes());
        out.extend_from_slice(&self.seed().to_le_bytes());
        out.extend_from_slice(&steps.to_le_bytes());
        out.extend_from_slice(&result_bytes.to_le_bytes());
        out.extend_from_slice(&(self.variables.len() as u32).to_le_bytes());
        for text in self.variables.iter().flat_map(|(name, text)| [name, text]) {
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(self.bytes);
        if out.len() <= BYTES_MAX {
            return Ok(());
        }
        Err(format!(
            "payload and variables have {} bytes, more than the {BYTES_MAX} that a decoder is given: shorten the variables",
            out.len()
        ))
    }

    /// What `Math.random` starts from: the same for the same uplink wherever it is decoded.
    fn seed(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64_with_seed(self.bytes, self.recv_time_us as u64)
    }
}

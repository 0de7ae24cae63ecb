//! What one decoder may use.

use std::time::Duration;

/// The limits of every decoder. The first four are counted, not measured, so that they give the same
/// verdict at every replay; only `watchdog` depends on the machine, and its verdicts go to the log.
#[derive(Clone, Debug)]
pub struct DecoderLimits {
    /// Interrupt polls of a script, each ten thousand jumps and calls. Default: 200 (tens of milliseconds).
    pub steps: u32,
    /// Instructions of a wasm module. Default: 100 million (about 100 ms).
    pub fuel: u64,
    /// Memory of an instance; a script's own heap is half of it. Unit: bytes. Default: 16 MiB.
    pub memory_bytes: u64,
    /// What a decoder may return. Unit: bytes of the binary result. Default: 256 KiB.
    pub result_bytes: u32,
    /// Longest source or module. Unit: bytes. Default: 4 MiB.
    pub body_bytes: usize,
    /// Time of the processor after which the watchdog ends a decoder that no count ended.
    /// Default: 500 ms.
    pub watchdog: Duration,
    /// Instances that one worker keeps; the one not used for longest goes first. Default: 256.
    pub instances: usize,
}

impl Default for DecoderLimits {
    fn default() -> Self {
        Self {
            steps: 200,
            fuel: 100_000_000,
            memory_bytes: 16 << 20,
            result_bytes: 256 << 10,
            body_bytes: 4 << 20,
            watchdog: Duration::from_millis(500),
            instances: 256,
        }
    }
}

impl DecoderLimits {
    /// Gives the heap of a script. Unit: bytes.
    pub(super) fn heap_bytes(&self) -> u32 {
        (self.memory_bytes / 2) as u32
    }
}

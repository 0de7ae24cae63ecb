//! Owns the two buffers that weir and the decoder share, and how a call ends.

use crate::{Input, Output};
use core::cell::UnsafeCell;

/// Longest input and longest result. Unit: bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// How a call ended, as weir numbers it.
const DONE: u64 = 0;
const ERROR: u64 = 1;

/// A buffer at a fixed place.
struct Buffer(UnsafeCell<[u8; BUFFER_BYTES]>);

// SAFETY: a wasm module of a decoder has one thread.
unsafe impl Sync for Buffer {}

static INPUT: Buffer = Buffer(UnsafeCell::new([0; BUFFER_BYTES]));
static OUTPUT: Buffer = Buffer(UnsafeCell::new([0; BUFFER_BYTES]));
static INPUT_LEN: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

/// Gives room for the input of the next call; weir never asks for more than there is.
pub fn input(len: u32) -> *mut u8 {
    INPUT_LEN.store(len, core::sync::atomic::Ordering::Relaxed);
    INPUT.0.get().cast()
}

/// Decodes the input.
pub fn decode(decode: fn(&Input<'_>, &mut Output<'_>) -> Result<(), &'static str>) -> u64 {
    let len = INPUT_LEN.load(core::sync::atomic::Ordering::Relaxed) as usize;
    // SAFETY: nothing else refers to the buffers while a decoder runs: weir writes the input before
    // the call and reads the output behind it, and this function is not called by itself.
    let (input, buffer) = unsafe { (&*INPUT.0.get(), &mut *OUTPUT.0.get()) };
    let at = buffer.as_ptr();
    let Some(input) = input.get(..len).and_then(Input::read) else { return error("weir gave a malformed input") };
    let mut output = Output::new(buffer);
    match decode(&input, &mut output) {
        Ok(()) => match output.finish() {
            Some(len) => outcome(DONE, at, len),
            None => error("the result does not fit into 256 KiB: return fewer fields"),
        },
        Err(text) => error(text),
    }
}

fn error(text: &str) -> u64 {
    outcome(ERROR, text.as_ptr(), text.len())
}

fn outcome(status: u64, at: *const u8, len: usize) -> u64 {
    status << 56 | (len as u64) << 32 | at as usize as u64
}

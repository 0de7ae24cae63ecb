//! weir's JavaScript decoder engine: QuickJS behind a small binary ABI, for `wasm32-unknown-unknown`.
//!
//! Owns one QuickJS runtime with one decoder script. It imports nothing: time, randomness and the
//! step budget come in with every call, so that a result depends on the call alone. Undoing what a
//! call left behind is the host's work: it restores the instance's memory afterwards.
//!
//! The ABI, all numbers little-endian:
//!
//! | export | does |
//! |---|---|
//! | `init(heap: u32)` | makes the runtime, with a heap of at most `heap` bytes |
//! | `input(len: u32) -> ptr` | gives room for `len` bytes of input to the next call |
//! | `load(steps: u32) -> outcome` | runs the script in the input, and finds its entry point |
//! | `seal()` | gathers garbage and makes room, so that decoding need not grow the memory |
//! | `decode() -> outcome` | decodes the uplink in the input |
//!
//! An outcome is `status << 56 | len << 32 | ptr` of what the call gives: for [`Status::Done`] of
//! `decode` the number of warnings (u32) and the result (see [`encode`]), else a text that says what
//! happened. The input of `decode` is:
//!
//! ```text
//! fport      i32   -1 when absent
//! recv_time  f64   milliseconds since the Unix epoch
//! seed       u64   of Math.random
//! steps      u32   interrupt polls that the script may use
//! result_max u32   bytes that the result may have
//! variables  u32   how many, then for each: len u32, name, len u32, text
//! frame            the rest
//! ```

mod ambient;
mod encode;
mod engine;
mod input;

use engine::Engine;
use std::cell::RefCell;

thread_local! {
    static ENGINE: RefCell<Option<Engine>> = const { RefCell::new(None) };
}

/// How a call ended. The host knows these numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Status {
    /// It did what was asked.
    Done = 0,
    /// The script threw or returned errors.
    Error = 1,
    /// The script used up its steps.
    Steps = 2,
    /// The script used up its heap.
    Memory = 3,
    /// The script cannot be run: it does not parse, or it has no entry point.
    Invalid = 4,
    /// The result is too large, too deep, or of no use.
    Result = 5,
}

fn with<T>(work: impl FnOnce(&mut Engine) -> T) -> T {
    ENGINE.with_borrow_mut(|engine| work(engine.as_mut().expect("the host calls init first")))
}

/// Joins what the host needs to know of a call.
fn outcome(status: Status, output: &[u8]) -> u64 {
    (status as u64) << 56 | (output.len() as u64) << 32 | output.as_ptr() as u64
}

/// Makes the runtime. Unit: bytes of heap for the script.
#[unsafe(no_mangle)]
pub extern "C" fn init(heap: u32) {
    ENGINE.set(Some(Engine::new(heap as usize)));
}

/// Gives room for the input of the next call.
#[unsafe(no_mangle)]
pub extern "C" fn input(len: u32) -> *mut u8 {
    with(|engine| engine.input(len as usize))
}

/// Runs the script in the input and finds its entry point.
#[unsafe(no_mangle)]
pub extern "C" fn load(steps: u32) -> u64 {
    with(|engine| {
        let status = engine.load(steps);
        outcome(status, engine.output())
    })
}

/// Makes the loaded engine ready to be taken as the image that every call starts from.
#[unsafe(no_mangle)]
pub extern "C" fn seal() {
    with(Engine::seal);
}

/// Decodes the uplink in the input.
#[unsafe(no_mangle)]
pub extern "C" fn decode() -> u64 {
    with(|engine| {
        let status = engine.decode();
        outcome(status, engine.output())
    })
}

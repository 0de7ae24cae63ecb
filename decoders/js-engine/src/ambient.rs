//! Owns what a script could otherwise learn from its surroundings: the clock, randomness, and when
//! to stop. All three are set by the host for each call.

use rquickjs::{Ctx, Function, Object, Result};
use std::cell::Cell;

thread_local! {
    static NOW_US: Cell<f64> = const { Cell::new(0.0) };
    static RANDOM: Cell<u64> = const { Cell::new(1) };
    static STEPS_LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
}

/// The clock that QuickJS reads. Unit: microseconds since the Unix epoch.
///
/// Defined here, the symbol is resolved by the linker and is no import of the module.
#[unsafe(no_mangle)]
pub extern "C" fn __rquickjs_host_now_us() -> f64 {
    NOW_US.get()
}

/// Stops the clock at `now_ms` milliseconds since the Unix epoch.
pub fn set_now_ms(now_ms: f64) {
    NOW_US.set(now_ms * 1e3);
}

/// Starts the sequence that `Math.random` gives.
pub fn set_seed(seed: u64) {
    // Zero is the one state that a xorshift generator cannot leave.
    RANDOM.set((seed ^ 0x9E37_79B9_7F4A_7C15).max(1));
}

/// Gives the script so many interrupt polls.
pub fn set_steps(steps: u32) {
    STEPS_LEFT.set(steps);
}

/// Whether the script has used up its steps.
pub fn out_of_steps() -> bool {
    STEPS_LEFT.get() == 0
}

/// Takes a step: QuickJS polls this every ten thousand jumps and calls, and stops on `true`.
pub fn poll() -> bool {
    STEPS_LEFT.set(STEPS_LEFT.get().saturating_sub(1));
    out_of_steps()
}

/// xorshift64*, to a number in `0.0..1.0`.
fn random() -> f64 {
    let mut x = RANDOM.get();
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    RANDOM.set(x);
    (x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
}

/// Puts the seeded generator in the place of the engine's own.
pub fn install_random(ctx: &Ctx<'_>) -> Result<()> {
    let math: Object<'_> = ctx.globals().get("Math")?;
    let function = Function::new(ctx.clone(), random)?.with_name("random")?;
    math.prop("random", rquickjs::object::Property::from(function).writable().configurable())
}

//! What a decoder for weir is made with.
//!
//! A decoder is a function of one uplink, made into a wasm module by [`decoder!`]:
//!
//! ```ignore
//! #![no_std]
//! use weir_decoder::{Input, Output, decoder};
//!
//! decoder!(decode);
//!
//! fn decode(input: &Input<'_>, output: &mut Output<'_>) -> Result<(), &'static str> {
//!     let [high, low] = *input.frame else { return Err("the payload has two bytes") };
//!     output.number("temperature", f64::from(i16::from_be_bytes([high, low])) / 10.0);
//!     Ok(())
//! }
//! ```
//!
//! The kit allocates nothing and needs no standard library. State that a decoder keeps in statics is
//! gone with the next uplink: weir undoes whatever a call has changed.

#![no_std]
#![deny(unsafe_op_in_unsafe_fn, missing_docs)]

#[doc(hidden)]
pub mod export;
mod input;
mod output;

pub use input::Input;
pub use output::{Items, Output};

/// Exports a function `fn(&Input<'_>, &mut Output<'_>) -> Result<(), &'static str>` as the decoder of
/// the module. The text of an error goes to quarantine with the uplink.
#[macro_export]
macro_rules! decoder {
    ($decode:path) => {
        #[doc(hidden)]
        #[unsafe(export_name = "input")]
        pub extern "C" fn __weir_input(len: u32) -> *mut u8 {
            $crate::export::input(len)
        }

        #[doc(hidden)]
        #[unsafe(export_name = "decode")]
        pub extern "C" fn __weir_decode() -> u64 {
            $crate::export::decode($decode)
        }
    };
}

#[cfg(all(target_arch = "wasm32", feature = "panic-handler"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

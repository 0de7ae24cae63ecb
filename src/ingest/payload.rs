//! Reads frames: base64 in each of its spellings, and hex.

use super::problem::Problem;
use super::shape::Context;
use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Reads base64, standard or URL-safe, padded or not.
///
/// Errors: it is none, or the frame is too long.
pub(super) fn base64(text: &str, pointer: &'static str, context: &Context<'_>) -> Result<Vec<u8>, Problem> {
    const fn engine(alphabet: &Alphabet) -> GeneralPurpose {
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        GeneralPurpose::new(alphabet, config.with_decode_allow_trailing_bits(true))
    }
    const STANDARD_ENGINE: GeneralPurpose = engine(&STANDARD);
    const URL_SAFE_ENGINE: GeneralPurpose = engine(&URL_SAFE);

    // At least this much comes out: checked first, so that nothing large is decoded.
    fits((text.len() / 4 * 3).saturating_sub(2), pointer, context)?;
    let engine = if text.bytes().any(|b| matches!(b, b'-' | b'_')) { &URL_SAFE_ENGINE } else { &STANDARD_ENGINE };
    let frame = engine.decode(text).map_err(|error| Problem::unusable(pointer, format!("this is no base64: {error}")))?;
    fits(frame.len(), pointer, context)?;
    Ok(frame)
}

/// Reads hex, in either case.
///
/// Errors: it is none, or the frame is too long.
pub(super) fn hex(text: &str, pointer: &'static str, context: &Context<'_>) -> Result<Vec<u8>, Problem> {
    fits(text.len() / 2, pointer, context)?;
    data_encoding::HEXLOWER_PERMISSIVE
        .decode(text.as_bytes())
        .map_err(|error| Problem::unusable(pointer, format!("this is no hex, two digits a byte: {error}")))
}

fn fits(bytes: usize, pointer: &'static str, context: &Context<'_>) -> Result<(), Problem> {
    let limit = context.limits.frame_bytes_max;
    if bytes > limit { Err(Problem::TooLong { pointer, bytes, limit }) } else { Ok(()) }
}

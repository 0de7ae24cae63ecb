//! Templates that ship with weir.

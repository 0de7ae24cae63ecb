//! The state of series, without any operator around it: one slab of slots a device.
//!
//! | file | owns |
//! |---|---|
//! | [`history`] | what changed: the measurements within the lateness horizon |
//! | [`buckets`] | the open partials of one series |
//! | [`calendar`] | hours and days of time zones |
//! | [`device`] | the numbering of a device's series |
//! | [`seed`] | the numbers that were given before the state began |
//! | [`fleet`] | a partition's devices and the agenda of what falls due |

pub(crate) mod buckets;
pub(crate) mod calendar;
pub(crate) mod device;
pub(crate) mod fleet;
pub(crate) mod history;
pub(crate) mod seed;

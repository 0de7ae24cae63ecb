//! The state of series, without any operator around it: one slab of slots a device. Between two measurements all of it
//! rests in as little memory as it takes: a fleet is as good as always waiting.
//!
//! | file | owns |
//! |---|---|
//! | [`history`] | what changed: the measurements within the lateness horizon |
//! | [`few`] | a list that is usually short |
//! | [`open`] | one partial that is not emitted yet |
//! | [`buckets`] | the open partials of one series |
//! | [`bucket_table`] | what the open partials of many series have in common |
//! | [`calendar`] | hours and days of time zones |
//! | [`slot`] | one series of a device |
//! | [`terms`] | what many series have in common: names, units, rules |
//! | [`device`] | the numbering of a device's series |
//! | [`seed`] | the numbers that were given before the state began |
//! | [`agenda`] | what falls due in a partition, and when |
//! | [`fleet`] | a partition's devices |
//! | [`saved`] | the shape of all that in a checkpoint |

pub(crate) mod agenda;
pub(crate) mod bucket_table;
pub(crate) mod buckets;
pub(crate) mod calendar;
pub(crate) mod device;
pub(crate) mod few;
pub(crate) mod fleet;
pub(crate) mod history;
pub(crate) mod open;
pub(crate) mod saved;
pub(crate) mod seed;
pub(crate) mod slot;
pub(crate) mod terms;

//! A simulated fleet, what it must leave in the tables, and whether it did.
//!
//! A [`Fleet`] is a pure function of its [`FleetSpec`]: the same spec gives the same uplinks, byte for
//! byte. [`sender::Sender::send`] posts its schedule open-loop, [`Expectation`] keeps what was acknowledged, and
//! [`verify`] compares that with the tables of a database. A [`case`] says what a measurement does, [`daemon`]
//! is what it measures, [`sample`], [`probe`] and [`checkpoints`] watch it, [`limit`] tells what the database could do at best,
//! [`report`] what came of it.
//!
//! Invariant: nothing here asks the daemon what is right. The expectation is computed from the readings
//! that the fleet made up, by formulas of its own.

pub mod backlog;
pub mod case;
pub mod checkpoints;
pub mod daemon;
pub mod envelope;
pub mod expectation;
pub mod fleet;
pub mod fresh;
pub mod kinds;
pub mod limit;
pub mod probe;
pub mod process;
pub mod processors;
mod random;
pub mod reader;
pub mod register;
pub mod report;
pub mod rules;
pub mod sample;
mod schedule;
pub mod sender;
pub mod spec;
pub mod uplink;
pub mod verify;

pub use expectation::Expectation;
pub use fleet::Fleet;
pub use kinds::Kind;
pub use rules::{FieldRule, Rules};
pub use schedule::Schedule;
pub use spec::{FleetSpec, Shape, SpecError};
pub use uplink::{Due, Fate, FleetUplink, Frame};

//! The simulated fleet's expectation, sender and verification, and the harness around them, from outside.

#[expect(dead_code, reason = "tests of other modules need more of it")]
#[path = "../support/database.rs"]
mod database;
mod expectation;
mod harness;
mod sender;
mod simulation;
mod verify;

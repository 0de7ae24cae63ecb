//! The simulated fleet's expectation, sender and verification, from outside.

mod expectation;
mod sender;
mod simulation;
mod verify;

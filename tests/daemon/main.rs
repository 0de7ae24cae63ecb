//! The daemon as a process of its own, against real servers: killed, fenced, cut off and put back.
//!
//! Each test ends with the same question: do the tables hold, row for row, what the sequential oracle
//! makes of the log?

#[path = "../support/mod.rs"]
mod support;

mod crash;
mod damage;
mod database;
mod decoders;
mod expected;
mod gate;
mod handover;
mod ownership;
mod process;
mod quarantine;
mod query;
mod registry;
mod stop;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../support/tables.rs"]
mod tables;
mod world;

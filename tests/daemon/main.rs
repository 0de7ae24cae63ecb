//! The daemon as a process of its own, against real servers: killed, fenced, cut off and put back; and servers
//! that are killed, fail over and fill up.
//!
//! Each test ends with the same question: do the tables hold, row for row, what the sequential oracle
//! makes of the log?

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/cluster.rs"]
mod cluster;

mod crash;
mod damage;
mod database;
mod decoders;
mod expected;
mod failover;
mod full;
mod gate;
mod handover;
mod hostile;
mod killed;
mod ownership;
mod pacing;
mod poison;
mod process;
mod quarantine;
mod query;
mod quota;
mod registry;
mod server;
mod soak;
mod stop;
mod suspended;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../support/tables.rs"]
mod tables;
mod tenants;
mod tmpfs;
mod world;

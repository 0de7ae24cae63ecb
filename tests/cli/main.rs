//! The commands, as people type them, against a real server.

#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../support/database.rs"]
mod database;

mod commands;
mod daemon;
mod quarantine;
mod readme;
mod run;

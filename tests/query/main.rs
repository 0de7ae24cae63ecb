//! The query endpoint over HTTP, against real servers and a memory that holds still.

mod answers;
#[path = "../support/columnstore.rs"]
mod columnstore;
#[expect(dead_code, reason = "tests of other modules need more of it")]
#[path = "../support/database.rs"]
mod database;
mod fixture;
mod refusals;

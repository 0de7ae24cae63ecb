//! The store against real servers: PostgreSQL alone, and with TimescaleDB.

#[expect(dead_code, reason = "the tests of the daemon use the rest")]
#[path = "../support/mod.rs"]
mod support;

mod adoption;
mod bisect;
mod commit;
mod copy;
mod fencing;
mod fixture;
mod maintenance;
mod migrate;
mod progress;
mod registry;

/// Makes two tests of each function, one for each server.
macro_rules! on_both_servers {
    ($($name:ident),+ $(,)?) => {
        mod plain {
            $(#[tokio::test] async fn $name() { super::$name(crate::support::database::Kind::Plain).await; })+
        }
        mod timescale {
            $(#[tokio::test] async fn $name() { super::$name(crate::support::database::Kind::Timescale).await; })+
        }
    };
}
pub(crate) use on_both_servers;

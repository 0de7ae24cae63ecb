//! The store against real servers: PostgreSQL alone, and with both editions of TimescaleDB.

#[expect(dead_code, reason = "the tests of the daemon use the rest")]
#[path = "../support/mod.rs"]
mod support;

mod adoption;
mod bisect;
mod chunks;
mod columnstore;
mod commit;
mod copy;
mod fencing;
mod fixture;
mod index;
mod maintenance;
mod migrate;
mod progress;
mod quarantine;
mod registry;

/// Makes a test of each function for each server. Those for the Community edition are run where there is one.
macro_rules! on_every_server {
    ($($name:ident),+ $(,)?) => {
        mod plain {
            $(#[tokio::test] async fn $name() { super::$name(crate::support::database::Kind::Plain).await; })+
        }
        mod timescale {
            $(#[tokio::test] async fn $name() { super::$name(crate::support::database::Kind::Timescale).await; })+
        }
        mod community {
            $(#[tokio::test] async fn $name() {
                if let Some(kind) = crate::support::database::Kind::community() {
                    super::$name(kind).await;
                }
            })+
        }
    };
}
pub(crate) use on_every_server;

//! weir takes in the uplinks of IoT fleets, decodes them, and keeps in TimescaleDB exactly what changed.
//!
//! The way of an uplink, module by module: [`ingest`] admits it, [`log`] makes it durable, the graph
//! (crate `dataflows`, driven by [`runtime`]) deduplicates it, looks its device up in what
//! [`registry`] put in effect, has it decoded by [`decoder`], finds what changed and rolls it up, and
//! [`store`] commits the rows. [`query`] reads tables and memory as one.

mod beside;
pub mod cli;
pub mod client;
pub mod codec;
pub mod config;
pub mod decoder;
pub mod ingest;
pub mod load;
pub mod log;
pub mod query;
pub mod registry;
pub mod runtime;
pub mod store;
pub mod telemetry;

//! weir takes in the uplinks of IoT fleets, decodes them, and keeps in TimescaleDB exactly what changed.

pub mod query;
pub mod store;

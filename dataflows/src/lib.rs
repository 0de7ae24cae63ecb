//! The dataflow graph of weir: dedup, lookup, decode, change and rollup. Pure: no I/O, no clock.
//!
//! ```text
//! entries ─► lookup ─► dedup ─► thin ─► decode ─► keep ─► rows
//!    │         ▲ by (partition, tenant, device)
//!    └─► devices ⋈ templates ⋈ tenants    (differential, arranged)
//! ```
//!
//! What comes out depends on the records of a partition and their order alone. [`graph`] is the
//! door, [`model`] the words, [`decode`] the hole into which the shell puts its decoders, and
//! [`oracle`] says the same as the graph, slowly and clearly.

pub mod decode;
pub mod graph;
pub mod model;
pub mod oracle;

mod element;
mod limits;
mod operators;
mod registry;
mod series;
mod state;
mod suspension;
mod tally;

pub use limits::*;

//! Owns what is in effect: tenants, templates, devices, tokens and quotas.
//!
//! The tables say what is *wanted*, and any application may write them. The log says what *took
//! effect*, and from which offset on. [`reconcile`] compares the two by content and appends the
//! differences; nothing else ever changes what the dataflow looks up, but for devices that their
//! first uplink makes ([`Directory::admit`]). Keeps the invariant that ingest needs no database:
//! the [`Directory`] is rebuilt from a local snapshot and the log alone.

pub mod admin;
mod directory;
mod effect;
mod fields;
mod kind;
mod quota;
pub mod reconcile;
mod snapshot;
pub mod tables;
mod tokens;

pub use directory::{Directory, DirectoryError, Reconciled};
pub use effect::InEffect;
pub use fields::{FieldsError, fields_from_json};
pub use quota::{Quota, QuotaChange, Quotas};
pub use reconcile::Wanted;
pub use tokens::{Token, TokenHash};

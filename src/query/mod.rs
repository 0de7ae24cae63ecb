//! Owns the query endpoint: reads tables and the workers' memory as one.
//!
//! `GET /v1/query` gives the values of one device:
//!
//! | parameter | meaning | default |
//! |---|---|---|
//! | `device` | DevEUI or name | |
//! | `field` | fields by name, repeated or with commas between | all |
//! | `from`, `to` | RFC 3339, a local date or date and time, epoch s or ms, `now`, `-24h`; `to` is exclusive | `-24h`, `now` |
//! | `step` | `raw`; `1s` to `30m` dividing an hour; `1h` to `12h` dividing a day; `1d`, `1w`, `1mo`, `1y` and multiples | `raw` |
//! | `zone` | IANA time zone of steps, local times and the times of the answer | the device's, else the tenant's |
//! | `aggregate` | from an hour up `mean,min,max,sum,count,first,last`; below `time_weighted_mean,min,max,last` | the mean |
//! | `fill` | what stands for a bucket without measurements: `absent`, `null`, `previous` | `absent` |
//! | `limit` | most raw points; `next_from` says where to go on | 10 000 |
//! | `format` | `json`, `csv` (also by `Accept: text/csv`) | `json` |
//!
//! Buckets at the ends of the range are given whole. From an hour up, figures are of all measurements, those that
//! were not stored because nothing had changed included, up to the last processed record. Rows and steps below an
//! hour are of what is committed; there a value holds until the next row.
//!
//! `GET /v1/latest?device=…` gives the newest value of each field, from memory.
//!
//! Invariants: a tenant sees its own devices only, others are unknown; a measurement counts once, in the tables or
//! in memory; what a request can make the daemon hold is bounded.

mod access;
mod aggregate;
mod answer;
mod calendar;
mod catalogue;
mod csv;
mod database;
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod latest;
mod level;
mod memory;
mod merge;
pub mod metrics;
mod params;
mod problem;
mod raw;
mod rollup;
mod room;
mod service;
mod sheet;
mod step;
mod tables;
mod weighted;
mod when;
mod zone;

pub use access::{ReadAccess, Readers};
pub use database::Database;
pub use memory::{Latest, Memory, MemoryError, MemoryPartials};
pub use service::{Clock, Limits, Query, router};

//! Owns the way from an HTTP request to the log's door: who sends, what it says, whether it fits.
//!
//! Invariant: no sender hears "accepted" before [`Intake::accept`] has resolved, which is after the
//! fsync; and every uplink of a request is answered for: accepted, skipped, or rejected with a reason.
//!
//! - `http` is the thin part: authenticate, read, parse, accept, answer.
//! - `ttn`, `chirpstack`, `own` are pure parsers, one [`Shape`] each; `json`, `time` and `payload` serve them.
//! - `framing` cuts a body into items, `body` reads one within its limits.
//! - `fair` keeps one tenant's flood from the others, `strangers` tells who knocks in vain to wait.
//! - `problem` is the full list of what can be wrong (RFC 9457).

mod answer;
mod auth;
mod body;
mod chirpstack;
mod fair;
mod framing;
mod http;
mod intake;
mod json;
mod limits;
pub mod metrics;
mod own;
mod payload;
mod problem;
mod shape;
mod strangers;
mod time;
mod ttn;

pub use chirpstack::Event;
pub use fair::{FairRoom, NoRoom, Place};
pub use framing::{Framing, Items, split};
pub use http::{Clock, router};
pub use intake::{Accepted, Access, Intake, IntakeError};
pub use limits::Limits;
pub use problem::Problem;
pub use shape::{Context, Parsed, Shape};

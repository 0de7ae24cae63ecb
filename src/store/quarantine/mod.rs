//! What is set aside, and what becomes of it.
//!
//! An entry leaves in one of three ways. An uplink or a field is marked in `quarantine_retry`; the daemon
//! writes a retry into the log, and the commit of what came of it takes entry and mark away. A row that the
//! database refused is written into its table by the transaction that deletes its entry. Or it is dropped.
//!
//! | module | does |
//! |---|---|
//! | `filter` | says which entries are meant |
//! | `look` | lists, sums up and shows them |
//! | `marks` | marks entries, and gives the daemon what is marked |
//! | `release` | takes entries away in the commit of their retry |
//! | `rows`, `tables` | write refused rows again |
//! | `drop` | deletes entries |

mod drop;
mod filter;
mod look;
mod marks;
mod release;
mod rows;
mod tables;

pub use filter::Filter;
pub use look::{Entry, Sum, Way};
pub use marks::{EntryId, Wanted};
pub use rows::RowsRetried;

/// Announces marks that come and go.
pub const CHANNEL: &str = "weir_quarantine";

/// What goes no way through the log: nothing that is marked, and no retry's commit, means such an entry,
/// even one of the same place.
const NO_UPLINK: [&str; 2] = ["row_refused", "bad_record"];

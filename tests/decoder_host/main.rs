//! The decoder host from outside, as the daemon uses it.

mod hostile;
mod interpreter;
mod results;
mod same;
mod support;
mod suspended;
mod templates;

//! What tests against real servers share.

pub(crate) mod database;
pub(crate) mod proxy;

//! What tests against real servers share.

pub mod database;
pub mod proxy;

//! What each command does once its settings are read, and how it fails.

pub(crate) mod cluster;
pub(crate) mod database;
pub(crate) mod failure;
pub(crate) mod get;
pub(crate) mod output;
mod process;
pub(crate) mod serve;

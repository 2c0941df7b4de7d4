//! The database layer of version 0.1, for as long as the event loop still stands on it.

mod error;
pub(super) mod session;
mod workers;

pub use error::DatabaseError;
pub use session::{Opened, Session, Warning};
pub use workers::{Job, Outcome, Reply, Workers};

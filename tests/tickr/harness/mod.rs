//! What the black-box tests work with: a database of the test's own on a private server, the real
//! program, and a client that speaks bytes.

mod database;
mod http;
mod program;

pub(crate) use self::database::Database;
pub(crate) use self::http::{Client, Kind, METRICS, Response, for_both, get};
pub(crate) use self::program::{NODE, Tickr, run, wait_until};

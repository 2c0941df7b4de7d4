//! What the tests share: temporary folders, and the private MySQL server in them.

use std::path::Path;

use tempfile::TempDir;
use tickr::database::local::{LocalOptions, LocalServer};

use crate::dialect;

/// A folder of the test's own, removed with its value: declare it before what lives in it.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A server in a test's folder; `TICKR_TEST_MYSQLD` runs the tests with another program.
pub(crate) fn options(folder: &Path) -> LocalOptions {
    LocalOptions {
        program: dialect::program(),
        ..LocalOptions::new(folder.join("mysql"))
    }
}

/// Starts a server or fails the test with the whole reason.
pub(crate) fn start(options: LocalOptions) -> LocalServer {
    LocalServer::start(options).unwrap_or_else(|error| panic!("{error}"))
}

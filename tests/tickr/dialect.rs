//! MariaDB and MySQL share the statements that Tickr uses, but not those of an administrator:
//! the tests are written in MariaDB's words, and MySQL 8.4 and later are asked in their own.

use std::env;
use std::path::PathBuf;

use mysql::prelude::Queryable;
use mysql::{Conn, Row};

/// Every word that differs, in the order in which they are replaced.
const WORDS: &[(&str, &str)] = &[
    ("CHANGE MASTER TO", "CHANGE REPLICATION SOURCE TO"),
    (
        "MASTER_USE_GTID = slave_pos",
        "SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1",
    ),
    ("MASTER_", "SOURCE_"),
    ("RESET MASTER", "RESET BINARY LOGS AND GTIDS"),
    // Done by the statement above.
    ("SET GLOBAL gtid_slave_pos = ''", "DO 0"),
    (" SLAVE", " REPLICA"),
    ("semi_sync_master", "semi_sync_source"),
    ("semi_sync_slave", "semi_sync_replica"),
    ("wait_no_slave", "wait_no_replica"),
    ("tx_read_only", "transaction_read_only"),
];

/// What a server needs that is to have a replica, or to be one; a server ignores what is meant for
/// the other kind.
pub(crate) const REPLICATION: [&str; 2] = [
    "--loose-gtid-mode=ON",
    "--loose-enforce-gtid-consistency=ON",
];

/// The server program to test with, when it is not the one that Tickr would find.
pub(crate) fn program() -> Option<PathBuf> {
    env::var_os("TICKR_TEST_MYSQLD").map(Into::into)
}

/// Whether it is MySQL, and not MariaDB.
pub(crate) fn is_mysql(conn: &mut Conn) -> mysql::Result<bool> {
    let version: Option<String> = conn.query_first("SELECT VERSION()")?;
    Ok(version.is_some_and(|version| !version.contains("MariaDB")))
}

/// Runs one statement.
pub(crate) fn run(conn: &mut Conn, statement: &str) -> mysql::Result<()> {
    let mut statement = statement.to_owned();
    if is_mysql(conn)? {
        for (word, theirs) in WORDS {
            statement = statement.replace(word, theirs);
        }
    }
    conn.query_drop(statement)
}

/// Makes semi-synchronous replication available, on a primary and on a replica.
#[allow(dead_code, reason = "the hunt does without")]
pub(crate) fn load_semi_sync(conn: &mut Conn) -> mysql::Result<()> {
    if !is_mysql(conn)? {
        return Ok(());
    }
    for side in ["source", "replica"] {
        conn.query_drop(format!(
            "INSTALL PLUGIN rpl_semi_sync_{side} SONAME 'semisync_{side}.so'"
        ))?;
    }
    Ok(())
}

/// What the owner of a row is called that this server may move: its id, or its UUID.
pub(crate) fn owner(conn: &mut Conn) -> mysql::Result<String> {
    let query = match is_mysql(conn)? {
        true => "SELECT CONCAT('uuid:', @@server_uuid)",
        false => "SELECT CONCAT('mariadb:', @@server_id)",
    };
    Ok(conn.query_first(query)?.unwrap_or_default())
}

/// Whether a replica whose connection to its primary has been stopped has applied all that it has
/// received.
#[allow(dead_code, reason = "not every target waits for it")]
pub(crate) fn has_applied_its_relay_log(conn: &mut Conn) -> mysql::Result<bool> {
    if !is_mysql(conn)? {
        let query = "SELECT STATE FROM information_schema.PROCESSLIST WHERE COMMAND = 'Slave_SQL'";
        let state: Option<String> = conn.query_first(query)?;
        return Ok(state.is_some_and(|state| state.starts_with("Slave has read all relay log")));
    }
    let status: Option<Row> = conn.query_first("SHOW REPLICA STATUS")?;
    let received: Option<String> = status.and_then(|mut row| row.take("Retrieved_Gtid_Set"));
    let is_subset = "SELECT GTID_SUBSET(?, @@global.gtid_executed)";
    Ok(conn.exec_first(is_subset, (received.unwrap_or_default(),))? == Some(1))
}

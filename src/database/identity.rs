//! Which server this is, in a form that a statement can evaluate on it: what the row's owner is
//! compared with, inside the statement that moves the counter.
//!
//! A server that takes over must have another identity, unless a change of server loses nothing
//! there (Galera, group replication). A restart must keep it.

use std::collections::HashMap;

use super::Failover;
use super::driver::{Link, column};
use crate::counter::{Owner, Warning};
use crate::fault::{Fault, FaultKind};
use crate::limits;

/// What the row says when an operator has closed it.
pub(super) const CLOSED: &str = "closed";

/// The variables of a server that the promise depends on.
pub(super) struct Variables {
    pub(super) version: String,
    values: HashMap<String, String>,
}

/// A server, as statements see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// SQL for the owner that means this server.
    pub(super) here: String,
    /// SQL for 1 where the server takes writes, else 0.
    pub(super) writable: String,
    /// SQL for whether the server is the owner of the row.
    pub(super) owned: String,
    /// The statement itself is repeated by replicas, which would evaluate it differently.
    pub(super) repeated_by_replicas: bool,
    failover: Failover,
}

impl Variables {
    pub(super) fn of(link: &mut Link) -> Result<Variables, Fault> {
        let rows = link.query(
            include_str!("../../sql/variables.sql"),
            limits::DATABASE_VARIABLES_MAX,
        )?;
        let mut values = HashMap::new();
        for mut row in rows {
            let name: String = column(&mut row, 0)?;
            values.insert(name.to_ascii_lowercase(), column(&mut row, 1)?);
        }
        Ok(Variables {
            version: values.remove("version").unwrap_or_default(),
            values,
        })
    }

    pub(super) fn identity(&self, failover: Failover) -> Result<Identity, Fault> {
        // The applier of a replica sees a literal as it was. The UUID can't change while a
        // connection lasts.
        let repeated_by_replicas =
            self.is_on("log_bin") && self.value("binlog_format") == Some("STATEMENT");
        let group = self.value("group_replication_group_name");
        let here = if self.is_galera() {
            "CONCAT('galera:', @@global.wsrep_cluster_name)".to_owned()
        } else if group.is_some_and(|name| !name.is_empty()) {
            "CONCAT('group:', @@global.group_replication_group_name)".to_owned()
        } else if let Some(uuid) = self.value("server_uuid") {
            match repeated_by_replicas && uuid.bytes().all(|byte| byte.is_ascii_graphic()) {
                true => format!("'uuid:{}'", uuid.replace(['\'', '\\'], "?")),
                false => "CONCAT('uuid:', @@global.server_uuid)".to_owned(),
            }
        } else if self.value("server_id").is_some() {
            // On a replica, its applier runs with the id of the origin.
            "CONCAT('mariadb:', @@server_id)".to_owned()
        } else {
            return Err(Fault::new(
                FaultKind::ServerUnsupported,
                "it has neither server_uuid nor server_id",
            ));
        };
        let read_only = ["read_only", "super_read_only", "innodb_read_only"];
        let writable: Vec<String> = read_only
            .iter()
            .filter(|name| self.value(name).is_some())
            // Text, since such a variable can be a number or a word.
            .map(|name| format!("CONCAT(@@global.{name}) IN ('0', 'OFF')"))
            .collect();
        let writable = match writable.is_empty() {
            true => "(1 = 1)".to_owned(),
            false => format!("({})", writable.join(" AND ")),
        };
        let owned = match failover {
            Failover::Stop => format!("owner = {here}"),
            Failover::Continue => format!("owner NOT IN ('', '{CLOSED}')"),
        };
        Ok(Identity {
            here,
            writable,
            owned,
            repeated_by_replicas,
            failover,
        })
    }

    pub(super) fn is_galera(&self) -> bool {
        self.is_on("wsrep_on")
    }

    /// What weakens the promise, but for the engine of the table.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        // 3 is MariaDB's name for 1 with more flushes.
        let flush = self.value("innodb_flush_log_at_trx_commit");
        if let Some(value) = flush.filter(|value| !["1", "3"].contains(value)) {
            warnings.push(Warning::CommitNotFlushed {
                value: value.to_owned(),
            });
        }
        let sync = self.value("sync_binlog");
        if let Some(value) = sync.filter(|&value| self.is_on("log_bin") && value != "1") {
            warnings.push(Warning::BinaryLogNotSynced {
                value: value.to_owned(),
            });
        }
        let is_default = self.value("server_id") == Some("1")
            && self.value("server_uuid").is_none()
            && !self.is_galera();
        if is_default {
            warnings.push(Warning::IdentityNotDistinct {
                identity: "mariadb:1".to_owned(),
            });
        }
        warnings
    }

    fn is_on(&self, variable: &str) -> bool {
        self.value(variable)
            .is_some_and(|value| value != "OFF" && value != "0")
    }

    fn value(&self, variable: &str) -> Option<&str> {
        self.values.get(variable).map(String::as_str)
    }
}

impl Identity {
    /// Puts its expressions into a statement of `sql/`.
    pub(super) fn fill(&self, statement: &str) -> String {
        statement
            .replace("{identity}", &self.here)
            .replace("{owned}", &self.owned)
            .replace("{writable}", &self.writable)
    }

    /// The same for a statement that changes the row: what only this server can evaluate is
    /// evaluated by [`Identity::pin`] before it.
    pub(super) fn fill_change(&self, statement: &str) -> String {
        match self.repeated_by_replicas {
            true => self.fill(&statement.replace("{writable}", "@tickr_writable = 1")),
            false => self.fill(statement),
        }
    }

    /// What runs before each statement that changes the row, if anything must. Replicas are told
    /// the value of a variable.
    pub(super) fn pin(&self) -> Option<String> {
        self.repeated_by_replicas
            .then(|| self.fill(include_str!("../../sql/pin_writable.sql")))
    }

    /// What an owner means on this server, whose identity is `here`.
    pub(super) fn owner(&self, owner: String, here: String) -> Owner {
        match owner.as_str() {
            "" => Owner::Nobody,
            CLOSED => Owner::Closed,
            _ if owner == here || self.failover == Failover::Continue => Owner::Here,
            _ => Owner::Elsewhere { owner, here },
        }
    }
}

//! Which server this is, in a form that a statement can evaluate on it: what the row's owner is
//! compared with, inside the statement that moves the counter.
//!
//! A server that takes over must have another identity, unless a change of server loses nothing
//! there (Galera, group replication). A restart must keep it.

use std::collections::HashMap;

use super::Failover;
use super::answers;
use super::driver::Link;
use crate::counter::{Owner, Warning};
use crate::fault::{Fault, FaultKind};
use crate::limits;

/// What the row says when an operator has closed it.
pub(super) const CLOSED: &str = "closed";

/// The variables of a server that the promise depends on.
pub struct Variables {
    pub(super) version: String,
    values: HashMap<String, String>,
}

/// A server, as statements see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
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
        Ok(Variables::new(answers::variables(rows)?))
    }

    /// From their names, in lower case, and their values.
    pub fn new(mut values: HashMap<String, String>) -> Variables {
        Variables {
            version: values.remove("version").unwrap_or_default(),
            values,
        }
    }

    /// What the server is called in statements, or that it has no name.
    pub fn identity(&self, failover: Failover) -> Result<Identity, Fault> {
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
    pub fn warnings(&self) -> Vec<Warning> {
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
    pub fn fill(&self, statement: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    const MYSQL: &[(&str, &str)] = &[("server_uuid", "ab-12"), ("server_id", "1")];
    const MARIADB: &[(&str, &str)] = &[("server_id", "7")];

    fn variables(values: &[&[(&str, &str)]]) -> Variables {
        let values = values.concat().into_iter();
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Variables::new(values.collect())
    }

    fn identity(values: &[&[(&str, &str)]]) -> Identity {
        let identity = variables(values).identity(Failover::Stop);
        identity.expect("a server that has an identity")
    }

    #[test]
    fn a_server_is_known_by_what_survives_its_restart_and_not_a_change_of_server() {
        let galera = [("wsrep_on", "ON")];
        let group = [("group_replication_group_name", "g")];
        let no_group = [("group_replication_group_name", "")];
        let uuid = "CONCAT('uuid:', @@global.server_uuid)";
        let mariadb = "CONCAT('mariadb:', @@server_id)";
        for (values, here) in [
            (&[MYSQL][..], uuid),
            (&[MYSQL, &no_group], uuid),
            (&[MARIADB], mariadb),
            (&[MARIADB, &[("wsrep_on", "OFF")]], mariadb),
            (&[MARIADB, &[("wsrep_on", "0")]], mariadb),
            (
                &[MARIADB, &galera],
                "CONCAT('galera:', @@global.wsrep_cluster_name)",
            ),
            (
                &[MYSQL, &group],
                "CONCAT('group:', @@global.group_replication_group_name)",
            ),
        ] {
            let identity = identity(values);
            assert_eq!(identity.here, here);
            assert_eq!(identity.owned, format!("owner = {here}"));
            assert!(!identity.repeated_by_replicas);
        }
        let nobody = variables(&[]).identity(Failover::Stop).map(|_| ());
        assert_eq!(
            nobody.expect_err("no identity").kind,
            FaultKind::ServerUnsupported
        );
    }

    #[test]
    fn what_replicas_repeat_holds_values_and_not_variables() {
        let statement = [("log_bin", "ON"), ("binlog_format", "STATEMENT")];
        let repeated = identity(&[MYSQL, &statement]);
        assert!(repeated.repeated_by_replicas);
        assert_eq!(repeated.here, "'uuid:ab-12'");
        let quoted = identity(&[&[("server_uuid", "a'b\\")], &statement]);
        assert_eq!(quoted.here, "'uuid:a?b?'");
        let unfit = identity(&[&[("server_uuid", "a b")], &statement]);
        assert_eq!(unfit.here, "CONCAT('uuid:', @@global.server_uuid)");
        let change = "UPDATE t SET o = {identity} WHERE {owned} AND {writable}";
        assert_eq!(
            repeated.fill_change(change),
            "UPDATE t SET o = 'uuid:ab-12' WHERE owner = 'uuid:ab-12' AND @tickr_writable = 1"
        );
        let pin = repeated.pin().expect("a statement before it");
        assert!(
            pin.contains("@tickr_writable") && !pin.contains('{'),
            "{pin}"
        );

        for other in [
            [("log_bin", "OFF"), ("binlog_format", "STATEMENT")],
            [("log_bin", "ON"), ("binlog_format", "ROW")],
        ] {
            let identity = identity(&[MYSQL, &other]);
            assert!(!identity.repeated_by_replicas);
            assert_eq!(identity.pin(), None);
            assert_eq!(identity.fill_change(change), identity.fill(change));
            assert!(identity.fill(change).ends_with("AND (1 = 1)"));
        }
    }

    #[test]
    fn every_way_to_be_read_only_counts() {
        let ways = [
            ("read_only", "0"),
            ("super_read_only", "0"),
            ("innodb_read_only", "OFF"),
        ];
        assert_eq!(
            identity(&[MYSQL, &ways]).writable,
            "(CONCAT(@@global.read_only) IN ('0', 'OFF') AND \
             CONCAT(@@global.super_read_only) IN ('0', 'OFF') AND \
             CONCAT(@@global.innodb_read_only) IN ('0', 'OFF'))"
        );
        assert_eq!(
            identity(&[MYSQL, &ways[..1]]).writable,
            "(CONCAT(@@global.read_only) IN ('0', 'OFF'))"
        );
    }

    #[test]
    fn an_owner_is_here_elsewhere_closed_or_nobody() {
        let stop = identity(&[MYSQL]);
        let goes_on = variables(&[MYSQL]).identity(Failover::Continue);
        let goes_on = goes_on.expect("an identity");
        assert_eq!(goes_on.owned, "owner NOT IN ('', 'closed')");
        let of = |identity: &Identity, owner: &str| {
            identity.owner(owner.to_owned(), "uuid:ab-12".to_owned())
        };
        for identity in [&stop, &goes_on] {
            assert_eq!(of(identity, ""), Owner::Nobody);
            assert_eq!(of(identity, CLOSED), Owner::Closed);
            assert_eq!(of(identity, "uuid:ab-12"), Owner::Here);
        }
        let elsewhere = Owner::Elsewhere {
            owner: "uuid:cd".to_owned(),
            here: "uuid:ab-12".to_owned(),
        };
        assert_eq!(of(&stop, "uuid:cd"), elsewhere);
        assert_eq!(of(&goes_on, "uuid:cd"), Owner::Here);
    }

    #[test]
    fn what_weakens_the_promise_is_named() {
        for flush in ["1", "3"] {
            let sound = [
                ("innodb_flush_log_at_trx_commit", flush),
                ("log_bin", "ON"),
                ("sync_binlog", "1"),
            ];
            assert_eq!(variables(&[MYSQL, &sound]).warnings(), []);
        }
        let off = [("log_bin", "OFF"), ("sync_binlog", "0")];
        assert_eq!(variables(&[MARIADB, &off]).warnings(), []);
        let weak = [
            ("innodb_flush_log_at_trx_commit", "2"),
            ("log_bin", "ON"),
            ("sync_binlog", "0"),
        ];
        let not_flushed = Warning::CommitNotFlushed {
            value: "2".to_owned(),
        };
        let not_synced = Warning::BinaryLogNotSynced {
            value: "0".to_owned(),
        };
        assert_eq!(
            variables(&[MYSQL, &weak]).warnings(),
            [not_flushed, not_synced]
        );
        let first = [("server_id", "1")];
        let not_distinct = Warning::IdentityNotDistinct {
            identity: "mariadb:1".to_owned(),
        };
        assert_eq!(variables(&[&first]).warnings(), [not_distinct]);
        let galera = [("server_id", "1"), ("wsrep_on", "ON")];
        assert_eq!(variables(&[&galera]).warnings(), []);
    }
}

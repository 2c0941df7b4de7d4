//! MySQL's group replication: when the primary is killed, the group elects another one, and Tickr
//! goes on there without an operator, since the group's name owns the counter.
//!
//! `make test-mysql` runs it; MariaDB has no such thing.

#[allow(dead_code, reason = "it serves many other tests")]
#[path = "tickr/dialect.rs"]
mod dialect;
#[allow(dead_code, unused_imports, reason = "it serves many other tests")]
#[path = "tickr/harness/mod.rs"]
mod harness;
#[path = "tickr/support.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use tempfile::TempDir;
use tickr::database::local::{LocalOptions, LocalServer};

use harness::{Kind, NODE, Tickr, run, wait_until};
use support::{options, scratch, start};

const GROUP: &str = "5a1f6e0c-7d1c-4a55-9a3b-2f8f4c1b7e10";
const MEMBERS: usize = 3;

#[test]
fn the_next_primary_of_a_group_goes_on_without_an_operator() {
    let mut group = Group::start();
    let tickr_settings = group.settings();
    let settings: Vec<(&str, &str)> = tickr_settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let output = run(&["db", "create"], &[&NODE[..], &settings].concat());
    assert!(output.status.success(), "{output:?}");
    let tickr = Tickr::start(&[], &settings);
    let mut issued = BTreeSet::new();
    let mut take = || {
        let mut client = tickr.connect(Kind::Unix);
        let answer = client.ask("GET /tickets/create/100 HTTP/1.1");
        if answer.status == 200 {
            for ticket in answer.tickets() {
                assert!(issued.insert(ticket), "{ticket} was issued twice");
            }
        }
        answer.status == 200
    };
    wait_until("the node serves", &mut take);
    for _ in 0..10 {
        assert!(take());
    }
    let first = group.primary;
    group.kill_the_primary();
    assert_ne!(group.primary, first);
    wait_until("the node serves from the next primary", &mut take);
    for _ in 0..10 {
        assert!(take());
    }
    let owner: Option<String> = group
        .conn(group.primary)
        .query_first("SELECT owner FROM tickr.tickets")
        .expect("there is a counter");
    assert_eq!(owner, Some(format!("group:{GROUP}")));
    assert!(!tickr.log().contains("closed"), "{}", tickr.log());
}

/// A group of servers with one primary, and a name that leads to it.
struct Group {
    members: Vec<LocalServer>,
    primary: usize,
    folder: TempDir,
}

impl Group {
    fn start() -> Group {
        let folder = scratch();
        // All are held at once, so that no two are alike.
        let held = [0; MEMBERS].map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let addresses = held.each_ref().map(|port| {
            let address = port.local_addr().expect("it is bound");
            address.to_string()
        });
        drop(held);
        let members = (0..MEMBERS).map(|number| {
            let arguments = [
                format!("--server-id={}", 21 + number),
                "--log-bin".to_owned(),
                "--gtid-mode=ON".to_owned(),
                "--enforce-gtid-consistency=ON".to_owned(),
                "--performance-schema=ON".to_owned(),
                "--report-host=127.0.0.1".to_owned(),
                "--plugin-load-add=group_replication.so".to_owned(),
                format!("--loose-group_replication_group_name={GROUP}"),
                format!(
                    "--loose-group_replication_local_address={}",
                    addresses[number]
                ),
                format!(
                    "--loose-group_replication_group_seeds={}",
                    addresses.join(",")
                ),
                "--loose-group_replication_start_on_boot=OFF".to_owned(),
                "--loose-group_replication_recovery_get_public_key=ON".to_owned(),
                "--loose-group_replication_consistency=BEFORE_ON_PRIMARY_FAILOVER".to_owned(),
            ];
            start(LocalOptions {
                tcp: true,
                extra_arguments: arguments.into(),
                ..options(&folder.path().join(number.to_string()))
            })
        });
        let group = Group {
            members: members.collect(),
            primary: 0,
            folder,
        };
        for number in 0..MEMBERS {
            group.join(number);
        }
        group.point_the_name();
        group
    }

    fn join(&self, number: usize) {
        let bootstrap = |on: bool| format!("SET GLOBAL group_replication_bootstrap_group = {on}");
        let is_first = number == self.primary;
        let mut conn = self.conn(number);
        for statement in [
            // What made the server is in no other one's log.
            "RESET BINARY LOGS AND GTIDS",
            "CHANGE REPLICATION SOURCE TO SOURCE_USER = 'tickr', SOURCE_PASSWORD = 'tickr' \
             FOR CHANNEL 'group_replication_recovery'",
            &bootstrap(is_first),
            "START GROUP_REPLICATION",
            &bootstrap(false),
        ] {
            let done = conn.query_drop(statement);
            done.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        wait_until("the member is online", || {
            let online = "SELECT COUNT(*) FROM performance_schema.replication_group_members \
                 WHERE MEMBER_STATE = 'ONLINE'";
            conn.query_first(online).ok().flatten() == Some(number + 1)
        });
    }

    fn kill_the_primary(&mut self) {
        self.members[self.primary].kill().expect("it is ours");
        let others = (0..MEMBERS).filter(|number| *number != self.primary);
        let others: Vec<usize> = others.collect();
        let mut next = None;
        wait_until("the group has another primary", || {
            next = others.iter().copied().find(|number| {
                let mut conn = self.conn(*number);
                conn.query_first("SELECT @@global.super_read_only")
                    .ok()
                    .flatten()
                    == Some(0)
            });
            next.is_some()
        });
        self.primary = next.expect("it was waited for");
        self.point_the_name();
    }

    fn conn(&self, number: usize) -> Conn {
        let member = &self.members[number];
        let options = OptsBuilder::new()
            .socket(member.socket().to_str())
            .user(Some(member.username()))
            .pass(Some(member.password()));
        Conn::new(options).expect("the server lets its administrator in")
    }

    fn settings(&self) -> [(&'static str, String); 4] {
        let member = &self.members[self.primary];
        [
            ("TICKR_DATABASE_HOST", self.name()),
            ("TICKR_DATABASE_USERNAME", member.username().to_owned()),
            ("TICKR_DATABASE_PASSWORD", member.password().to_owned()),
            ("TICKR_DATABASE_NAME", "tickr".to_owned()),
        ]
    }

    fn name(&self) -> String {
        let name = self.folder.path().join("primary.sock");
        name.to_string_lossy().into_owned()
    }

    fn point_the_name(&self) {
        let new = self.folder.path().join("new.sock");
        symlink(self.members[self.primary].socket(), &new).expect("a link can be made");
        fs::rename(new, Path::new(&self.name())).expect("it takes the place of the old one");
    }
}

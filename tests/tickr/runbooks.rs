//! The runbooks of `docs/operating.md`, typed command by command on a primary and a replica, while
//! two processes of one node run. With no margin, all depends on what the processes remember.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use crate::database_owner::Server;
use crate::dialect;
use crate::harness::{Kind, NODE, Tickr, run, wait_until};
use crate::support::scratch;

/// The servers, the name that leads to the primary, the processes, and what they have issued.
struct Site {
    processes: Vec<Tickr>,
    servers: [Server; 2],
    primary: usize,
    issued: BTreeSet<u64>,
    folder: TempDir,
}

impl Site {
    /// `further` settings are for the processes.
    fn start(format: &str, further: &[(&str, &str)]) -> Site {
        let format = format!("--binlog-format={format}");
        let servers = ["11", "12"].map(|id| {
            let id = format!("--server-id={id}");
            Server::start(&["--log-bin", &id, &format])
        });
        let mut site = Site {
            processes: Vec::new(),
            servers,
            primary: 0,
            issued: BTreeSet::new(),
            folder: scratch(),
        };
        site.point_the_name();
        site.primary().run(&["RESET MASTER"]);
        site.tickr(&["db", "create", "--lease-seconds", "1"]);
        site.servers[1].run(&["RESET MASTER"]);
        site.servers[1].follow(&site.servers[0]);
        site.replica_has_all();
        let name = site.name();
        for _ in 0..2 {
            let all = [&settings(&name)[..], further].concat();
            site.processes.push(Tickr::start(&[], &all));
        }
        site.all_serve();
        site
    }

    fn fail_over(&mut self) {
        let (old, new) = (self.primary, 1 - self.primary);
        self.replica_has_all();
        self.servers[new].run(&["STOP SLAVE IO_THREAD"]);
        // The replica never hears of these.
        self.take();
        // 1. Shut the old primary off; the connections to it stay.
        self.servers[old].run(&["SET GLOBAL read_only = 1"]);
        // 2. The replica has applied its relay log; it is promoted.
        let promote = [
            "STOP SLAVE",
            "RESET SLAVE ALL",
            "RESET MASTER",
            "SET GLOBAL read_only = 0",
        ];
        self.servers[new].run(&promote);
        // 3. Point the name to it.
        self.primary = new;
        self.point_the_name();
        self.all_refuse();
        // 4.
        self.tickr(&["db", "advance", "--margin", "0"]);
        self.all_serve();
        self.servers[old].run(&["RESET MASTER", "SET GLOBAL gtid_slave_pos = ''"]);
        self.servers[old].follow(&self.servers[new]);
    }

    /// From here on, a commit is acknowledged only once the replica has received it.
    fn lose_nothing(&self) {
        for server in &self.servers {
            dialect::load_semi_sync(&mut server.conn()).expect("the server has it");
        }
        let replica = &self.servers[1 - self.primary];
        replica.run(&[
            "SET GLOBAL rpl_semi_sync_slave_enabled = 1",
            "STOP SLAVE IO_THREAD",
            "START SLAVE IO_THREAD",
        ]);
        self.primary().run(&[
            "SET GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC'",
            "SET GLOBAL rpl_semi_sync_master_timeout = 600000",
            "SET GLOBAL rpl_semi_sync_master_wait_no_slave = 1",
            "SET GLOBAL rpl_semi_sync_master_enabled = 1",
        ]);
    }

    /// The primary is gone at once, and its replica takes its place.
    fn replace_the_primary(&mut self) {
        let (old, new) = (self.primary, 1 - self.primary);
        self.servers[old].local.kill().expect("it is ours");
        let replica = &self.servers[new];
        wait_until("the replica has applied what it has received", || {
            dialect::has_applied_its_relay_log(&mut replica.conn()).expect("it says so")
        });
        replica.run(&["STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0"]);
        self.primary = new;
        self.point_the_name();
    }

    fn replica_has_all(&self) {
        let row = self.primary().row().expect("there is a row");
        self.servers[1 - self.primary].wait_for_row(&row);
    }

    fn restore(&mut self) {
        let (id, owner, epoch) = self.primary().row().expect("there is a row");
        self.take();
        let back = format!(
            "UPDATE tickr.tickets SET id = {id}, owner = '{owner}', epoch = {epoch}, mark = 0"
        );
        self.primary().run(&[&back]);
        self.all_refuse();
        self.tickr(&["db", "advance", "--margin", "0"]);
        self.all_serve();
    }

    /// Every process serves soon, and what it issues is new.
    fn all_serve(&mut self) {
        for process in &self.processes {
            wait_until("a process serves again", || {
                process
                    .connect(Kind::Unix)
                    .ask("GET /readyz HTTP/1.1")
                    .status
                    == 200
            });
        }
        self.take();
    }

    fn all_refuse(&self) {
        for process in &self.processes {
            wait_until("a process refuses", || {
                let mut client = process.connect(Kind::Unix);
                client.ask("GET /tickets/create HTTP/1.1").status == 503
            });
        }
    }

    fn take(&mut self) {
        for process in &self.processes {
            let mut client = process.connect(Kind::Unix);
            for ticket in client.ask("GET /tickets/create/1000 HTTP/1.1").tickets() {
                assert!(self.issued.insert(ticket), "{ticket} was issued twice");
            }
        }
    }

    fn tickr(&self, arguments: &[&str]) {
        let name = self.name();
        let output = run(arguments, &[&NODE[..], &settings(&name)].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn primary(&self) -> &Server {
        &self.servers[self.primary]
    }

    fn name(&self) -> String {
        let name = self.folder.path().join("primary.sock");
        name.to_string_lossy().into_owned()
    }

    fn point_the_name(&self) {
        let new = self.folder.path().join("new.sock");
        symlink(self.primary().local.socket(), &new).expect("a link can be made");
        fs::rename(new, Path::new(&self.name())).expect("it takes the place of the old one");
    }
}

fn settings(name: &str) -> [(&str, &str); 4] {
    [
        ("TICKR_DATABASE_HOST", name),
        ("TICKR_DATABASE_USERNAME", "tickr"),
        ("TICKR_DATABASE_PASSWORD", "tickr"),
        ("TICKR_DATABASE_NAME", "tickr"),
    ]
}

#[test]
fn fail_over_fail_back_and_restore_issue_nothing_twice() {
    for format in ["ROW", "STATEMENT"] {
        let mut site = Site::start(format, &[]);
        site.fail_over();
        site.restore();
        if format == "ROW" {
            // By statements, a replica with lost tickets must be rebuilt first.
            site.fail_over();
        }
    }
}

/// `TICKR_FAILOVER=continue` on semi-synchronous replication that waits `AFTER_SYNC`.
#[test]
fn a_replica_that_has_every_commit_goes_on_without_an_operator() {
    let mut site = Site::start("ROW", &[("TICKR_FAILOVER", "continue")]);
    site.lose_nothing();
    for _ in 0..10 {
        site.take();
    }
    // What the replica does not receive is not answered.
    site.servers[1 - site.primary].run(&["STOP SLAVE IO_THREAD"]);
    site.all_refuse();
    site.replace_the_primary();
    site.all_serve();
    for _ in 0..10 {
        site.take();
    }
    for process in &site.processes {
        assert!(!process.log().contains("db advance"), "{}", process.log());
    }
}

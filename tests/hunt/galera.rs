//! The hunt on a synchronous cluster: three MariaDB servers with Galera, and a Tickr on each, all
//! of one node number, so that all three write the same counter.
//!
//! One server at a time is killed, partitioned off or hung, and comes back. No ticket may be given
//! twice, and the majority must go on serving.

use std::error::Error;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use tickr::database::local::{LocalOptions, LocalServer};

use crate::client::Targets;
use crate::process::{Login, Outcome, Process, Setup, tickr, wait_for};
use crate::proxy::{Direction, Proxy};
use crate::random::Random;

const MEMBERS: usize = 3;
/// The majority must serve this long after a member is lost: it notices that after a second or two.
const FAIL_OVER_MAX: Duration = Duration::from_secs(15);
/// A member that comes back may have to copy the whole data first.
const REJOIN_MAX: Duration = Duration::from_secs(60);
/// Where packages put the provider of wsrep.
const PROVIDERS: [&str; 3] = [
    "/usr/lib/galera/libgalera_smm.so",
    "/usr/lib64/galera-4/libgalera_smm.so",
    "/usr/lib/galera-4/libgalera_smm.so",
];
/// A lost member is noticed within seconds, instead of within a quarter of a minute.
const TIMEOUTS: &str = "evs.keepalive_period=PT0.3S;evs.inactive_check_period=PT0.2S;\
    evs.suspect_timeout=PT1S;evs.inactive_timeout=PT3S;evs.install_timeout=PT3S";

/// The three servers and the three processes.
pub(crate) struct Cluster {
    members: Vec<Member>,
    targets: Arc<Targets>,
    random: Random,
    folder: PathBuf,
    started: u64,
}

struct Member {
    server: LocalServer,
    proxy: Proxy,
    process: Process,
}

/// The ports of one member.
struct Ports {
    group: u16,
    incremental: u16,
    full: u16,
}

impl Cluster {
    /// Starts the servers, one after the other, and a process on each.
    pub(crate) fn start(
        folder: &Path,
        targets: Arc<Targets>,
        mut random: Random,
    ) -> Result<Cluster, Box<dyn Error>> {
        let provider = PROVIDERS.iter().find(|path| Path::new(path).is_file());
        let provider = provider.ok_or("Galera is not installed: run `make galera`")?;
        let ports = free_ports(&mut random);
        let start = |member: usize, founds: bool| {
            let mut extra_arguments = arguments(provider, &ports, member);
            if founds {
                extra_arguments.push("--wsrep-new-cluster".to_owned());
            }
            LocalServer::start(LocalOptions {
                tcp: true,
                extra_arguments,
                ..LocalOptions::new(folder.join(member.to_string()))
            })
        };
        let founder = start(0, true)?;
        tickr(&login(&founder), targets.node.numbering, &["db", "create"])?;
        let mut servers = vec![start(1, false)?, start(2, false)?];
        // It must not found another cluster when it is started again.
        drop(founder);
        servers.insert(0, start(0, false)?);
        let mut started = 0;
        let mut members = Vec::new();
        for server in servers {
            wait_for(REJOIN_MAX, "a member does not join", || {
                Ok(is_synced(&server))
            })?;
            let proxy = Proxy::start(server.socket())?;
            started += 1;
            let process = start_process(folder, &server, &proxy, &targets, &mut random, started)?;
            members.push(Member {
                server,
                proxy,
                process,
            });
        }
        let folder = folder.to_owned();
        let cluster = Cluster {
            members,
            targets,
            random,
            folder,
            started,
        };
        cluster.announce();
        Ok(cluster)
    }

    /// One fault after another, until the hunt is over.
    pub(crate) fn run(&mut self, deadline: Instant) -> Outcome {
        while Instant::now() < deadline && !self.targets.record.stopped() {
            self.all_serve(None, REJOIN_MAX)?;
            thread::sleep(Duration::from_millis(self.random.within(200..=1_000)));
            let chosen = self.random.within(0..=MEMBERS as u64 - 1) as usize;
            match self.random.within(0..=9) {
                0..=2 => self.kill_server(chosen)?,
                3..=4 => self.partition(chosen)?,
                5..=6 => self.hang_server(chosen)?,
                7 => self.kill_process(chosen)?,
                _ => self.cut(chosen),
            }
        }
        if !self.targets.record.stopped() {
            self.all_serve(None, REJOIN_MAX)?;
        }
        Ok(())
    }

    /// Stops everything in good order.
    pub(crate) fn stop(self) -> Outcome {
        for mut member in self.members {
            member.process.stop()?;
            member.server.stop()?;
        }
        Ok(())
    }

    fn kill_server(&mut self, chosen: usize) -> Outcome {
        self.targets
            .record
            .fault("MySQL of a member killed (SIGKILL)");
        self.members[chosen].server.kill()?;
        self.all_serve(Some(chosen), FAIL_OVER_MAX)?;
        Ok(self.members[chosen].server.restart()?)
    }

    fn partition(&mut self, chosen: usize) -> Outcome {
        self.targets.record.fault("member partitioned off");
        let server = &self.members[chosen].server;
        query(
            server,
            "SET GLOBAL wsrep_provider_options = 'gmcast.isolate=1'",
        )?;
        self.all_serve(Some(chosen), FAIL_OVER_MAX)?;
        thread::sleep(Duration::from_millis(self.random.within(0..=3_000)));
        let server = &self.members[chosen].server;
        query(
            server,
            "SET GLOBAL wsrep_provider_options = 'gmcast.isolate=0'",
        )
        .map(drop)
    }

    fn hang_server(&mut self, chosen: usize) -> Outcome {
        self.targets
            .record
            .fault("MySQL of a member hung (SIGSTOP)");
        self.members[chosen].server.pause()?;
        let served = self.all_serve(Some(chosen), FAIL_OVER_MAX);
        thread::sleep(Duration::from_millis(self.random.within(0..=3_000)));
        self.members[chosen].server.resume()?;
        served
    }

    fn kill_process(&mut self, chosen: usize) -> Outcome {
        self.targets.record.fault("Tickr killed (SIGKILL)");
        self.started += 1;
        let (targets, random) = (&self.targets, &mut self.random);
        let Member {
            server,
            proxy,
            process,
        } = &mut self.members[chosen];
        process.kill()?;
        *process = start_process(&self.folder, server, proxy, targets, random, self.started)?;
        self.announce();
        Ok(())
    }

    fn cut(&mut self, chosen: usize) {
        self.targets.record.fault("connection to MySQL cut");
        let direction = match self.random.chance(50) {
            true => Direction::ToDatabase,
            false => Direction::FromDatabase,
        };
        let bytes = self.random.within(0..=160) as usize;
        self.members[chosen].proxy.cut_after(direction, bytes);
    }

    /// Every process but the one of the lost member must hand out a ticket soon.
    fn all_serve(&self, lost: Option<usize>, within: Duration) -> Outcome {
        for (number, Member { process, .. }) in self.members.iter().enumerate() {
            if Some(number) == lost {
                continue;
            }
            let otherwise = format!("no ticket, while the member lost is {lost:?}");
            wait_for(within, &process.describe(&otherwise), || {
                Ok(process
                    .get("/tickets/create")
                    .is_ok_and(|(status, _)| status == 200))
            })?;
        }
        Ok(())
    }

    fn announce(&self) {
        let endpoints = self
            .members
            .iter()
            .flat_map(|member| member.process.endpoints.clone());
        self.targets.set_endpoints(endpoints.collect());
    }
}

fn start_process(
    folder: &Path,
    server: &LocalServer,
    proxy: &Proxy,
    targets: &Targets,
    random: &mut Random,
    number: u64,
) -> Result<Process, Box<dyn Error>> {
    let setup = Setup {
        name: format!("member-{number}"),
        pool: random.within(1..=5),
        prefetch_seconds: random.one_of(&["0", "0.3"]).unwrap_or(&"0"),
    };
    let login = Login {
        port: proxy.port(),
        ..login(server)
    };
    Ok(Process::start(
        folder,
        &login,
        targets.node.numbering,
        setup,
    )?)
}

fn login(server: &LocalServer) -> Login {
    Login {
        host: "127.0.0.1".to_owned(),
        port: server.port().unwrap_or_default(),
        username: server.username().to_owned(),
        password: server.password().to_owned(),
    }
}

fn arguments(provider: &str, ports: &[Ports], member: usize) -> Vec<String> {
    let addresses: Vec<String> = ports
        .iter()
        .map(|ports| format!("127.0.0.1:{}", ports.group))
        .collect();
    let Ports {
        group,
        incremental,
        full,
    } = ports[member];
    [
        "--wsrep-on=ON".to_owned(),
        "--binlog-format=ROW".to_owned(),
        "--innodb-autoinc-lock-mode=2".to_owned(),
        format!("--wsrep-provider={provider}"),
        format!("--wsrep-cluster-address=gcomm://{}", addresses.join(",")),
        format!("--wsrep-node-address=127.0.0.1:{group}"),
        format!("--wsrep-node-name=member{member}"),
        "--wsrep-sst-method=rsync".to_owned(),
        format!("--wsrep-sst-receive-address=127.0.0.1:{full}"),
        format!(
            "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{group};\
             ist.recv_addr=127.0.0.1:{incremental};gcache.size=32M;{TIMEOUTS}"
        ),
    ]
    .into()
}

/// Ports that nobody listens on now, below those from which systems take the local port of an
/// outgoing connection.
fn free_ports(random: &mut Random) -> Vec<Ports> {
    let mut taken = Vec::new();
    let mut port = || loop {
        let port = random.within(15_000..=31_999) as u16;
        if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            taken.push(port);
            return port;
        }
    };
    (0..MEMBERS)
        .map(|_| Ports {
            group: port(),
            incremental: port(),
            full: port(),
        })
        .collect()
}

fn is_synced(server: &LocalServer) -> bool {
    let state = query(server, "SHOW STATUS LIKE 'wsrep_local_state_comment'");
    state.is_ok_and(|state| state.is_some_and(|(_, state)| state == "Synced"))
}

fn query(server: &LocalServer, sql: &str) -> Result<Option<(String, String)>, Box<dyn Error>> {
    let options = OptsBuilder::new()
        .socket(Some(server.socket().to_string_lossy()))
        .user(Some(server.username()))
        .pass(Some(server.password()));
    Ok(Conn::new(options)?.query_first(sql)?)
}

//! What the operating system tells about this machine and about a process, and the child
//! processes that must not outlive the benchmark.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::Outcome;

/// A server must accept connections this long after it was started.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A server that was told to stop is killed after this long.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Memory that is the same after this long stands still.
const SETTLE_INTERVAL: Duration = Duration::from_millis(500);
/// Unit of the times in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux that Rust runs on but
/// those for Alpha and Itanium.
const TICKS_PER_SECOND: f64 = 100.0;

/// A server process that ends with this value.
pub(crate) struct Server {
    child: Child,
    name: &'static str,
}

impl Server {
    /// Starts a program and waits until it accepts connections.
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        address: SocketAddr,
    ) -> Outcome<Server> {
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let mut server = Server { child, name };
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(format!("{name} ended while it started ({status})").into());
            }
            if Instant::now() >= deadline {
                return Err(format!("{name} does not listen on {address}").into());
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(server)
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn stop(&mut self) -> io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(POLL_INTERVAL);
        }
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("cannot stop {}: {error}", self.name);
        }
    }
}

/// Seconds of processor time, user and system, that a process and its children have used.
pub(crate) fn cpu_seconds(pid: u32) -> Outcome<f64> {
    let mut ticks = 0;
    let mut found = false;
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let is_process = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_process {
            continue;
        }
        // A process may have ended since the folder was listed.
        let Ok(stat) = fs::read_to_string(path.join("stat")) else {
            continue;
        };
        let stat = Stat::parse(&stat)?;
        if stat.pid == pid || stat.parent == pid {
            found |= stat.pid == pid;
            ticks += stat.ticks;
        }
    }
    match found {
        true => Ok(ticks as f64 / TICKS_PER_SECOND),
        false => Err(format!("process {pid} is gone").into()),
    }
}

/// What is used of `/proc/PID/stat`, see proc(5).
struct Stat {
    pid: u32,
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn parse(line: &str) -> Outcome<Stat> {
        let malformed = || format!("cannot make sense of this process status: {line}");
        // The name, the second field, may hold spaces and parentheses.
        let (head, tail) = line.rsplit_once(')').ok_or_else(malformed)?;
        let (pid, _) = head.split_once(' ').ok_or_else(malformed)?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let number = |index: usize| -> Outcome<u64> {
            Ok(fields.get(index).ok_or_else(malformed)?.parse()?)
        };
        Ok(Stat {
            pid: pid.parse()?,
            parent: u32::try_from(number(1)?)?,
            ticks: number(11)? + number(12)?,
        })
    }
}

/// Resident memory of a process in bytes: all of it, shared program text included.
pub(crate) fn resident_bytes(pid: u32) -> Outcome<u64> {
    status_bytes(pid, "VmRSS:")
}

/// Resident memory in bytes that a process has written itself: heap and stacks.
pub(crate) fn private_bytes(pid: u32) -> Outcome<u64> {
    status_bytes(pid, "RssAnon:")
}

/// [`private_bytes`] of a process that is done with starting: threads of a busy machine may begin
/// late. Waits until the figure stands still.
pub(crate) fn settled_private_bytes(pid: u32) -> Outcome<u64> {
    let deadline = Instant::now() + START_TIMEOUT;
    let mut last = private_bytes(pid)?;
    while Instant::now() < deadline {
        thread::sleep(SETTLE_INTERVAL);
        let now = private_bytes(pid)?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
    Err(format!("the memory of process {pid} does not stand still").into())
}

fn status_bytes(pid: u32, key: &str) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kibibytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next())
        .ok_or_else(|| format!("process {pid} has no {key} in its status"))?
        .parse()?;
    Ok(kibibytes * 1024)
}

/// Raises the limit on open files to what the system allows; children inherit it.
pub(crate) fn raise_open_files(needed: u64) -> Outcome<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    match limit.maximum {
        Some(maximum) if maximum < needed => Err(format!(
            "a process may open {maximum} files here, and {needed} are needed; raise the hard \
             limit (`ulimit -Hn {needed}`)"
        )
        .into()),
        _ => Ok(()),
    }
}

/// An address of the loopback interface that nobody listened on a moment ago.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// The processor, its cores, and the system, in one line.
pub(crate) fn description() -> String {
    let find = |path: &str, key: &str| -> Option<String> {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        let (_, value) = line.split_once([':', '='])?;
        Some(value.trim().trim_matches('"').to_owned())
    };
    let unknown = || "unknown".to_owned();
    let processor = find("/proc/cpuinfo", "model name").unwrap_or_else(unknown);
    let cores = thread::available_parallelism().map_or(0, |cores| cores.get());
    let system = find("/etc/os-release", "PRETTY_NAME").unwrap_or_else(unknown);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{processor}, {cores} cores, {system}, Linux {}",
        kernel.trim()
    )
}

/// Processes that wanted to run in the last minute, on average.
pub(crate) fn load_average() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    Ok(first.parse()?)
}

/// The first line of what `PROGRAM --version` (or another flag) says.
pub(crate) fn version(program: &Path, flag: &str) -> Outcome<String> {
    let output = Command::new(program)
        .arg(flag)
        .output()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    let mut text = output.stdout;
    text.extend(output.stderr);
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// A program on `PATH` or in the folders of system programs.
pub(crate) fn program(name: &str) -> Outcome<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            format!(
                "{name} is not installed; `make bench` installs it, or \
                 `apt-get install nginx-core redis-server wrk`"
            )
            .into()
        })
}

/// The answer to one request on a connection: every byte of it, and where its body begins.
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) body_at: usize,
}

impl Answer {
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[self.body_at..]
    }
}

/// Asks for a path and reads the whole answer, which must be a 200.
pub(crate) fn get(stream: &mut (impl Read + Write), path: &str) -> Outcome<Answer> {
    stream.write_all(request(path).as_bytes())?;
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Err(format!("the answer to GET {path} ended early").into());
        }
        bytes.extend_from_slice(&piece[..read]);
        if let Some((body_at, length)) = frame(&bytes)?
            && bytes.len() >= body_at + length
        {
            return Ok(Answer { bytes, body_at });
        }
    }
}

/// A request as the clients of this benchmark write it.
pub(crate) fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Where the body of an answer begins, and its length; `None` while the head is incomplete.
pub(crate) fn frame(bytes: &[u8]) -> Outcome<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(body_at) = response.parse(bytes)? else {
        return Ok(None);
    };
    if response.code != Some(200) {
        return Err(format!("answered {:?} instead of 200", response.code).into());
    }
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .ok_or("the answer has no Content-Length")?;
    let length = std::str::from_utf8(length.value)?.parse()?;
    Ok(Some((body_at, length)))
}

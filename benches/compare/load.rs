//! Clients: wrk, redis-benchmark, idle and slow connections, and a reader that takes its time.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::Outcome;
use crate::machine;

/// What wrk prints at its end: requests, microseconds, bytes, errors, and the median in
/// microseconds.
const FIGURES_LUA: &str = r#"
done = function(summary, latency, requests)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format("figures %d %d %d %d %d\n", summary.requests, summary.duration,
        summary.bytes, failed, latency:percentile(50)))
end
"#;

/// Writes as many requests at once as the first argument says.
const PIPELINED_LUA: &str = r#"
init = function(arguments)
    local requests = {}
    for i = 1, tonumber(arguments[1]) do requests[i] = wrk.format() end
    pipelined = table.concat(requests)
end
request = function() return pipelined end
"#;

/// Nineteen singles, then a batch of a thousand.
const MIXED_LUA: &str = r#"
local count = 0
request = function()
    count = count + 1
    if count % 20 == 0 then return wrk.format("GET", "/tickets/create/1000") end
    return wrk.format("GET", "/tickets/create")
end
"#;

/// What one run of a client has measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Requests per second.
    pub(crate) rate: f64,
    /// Bytes received per second.
    pub(crate) bytes_rate: f64,
    /// Median time of a request, in seconds.
    pub(crate) median_seconds: f64,
    /// What one request in a hundred, and one in a thousand, takes longer than; 0 where the client
    /// does not tell.
    pub(crate) p99_seconds: f64,
    pub(crate) p999_seconds: f64,
    /// Processor seconds of the server per request.
    pub(crate) cpu_seconds: f64,
    /// Commits of the database per second, where they were counted.
    pub(crate) commits_rate: Option<f64>,
}

/// What the clients shall do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) depth: usize,
    pub(crate) seconds: u64,
    pub(crate) mixed: bool,
    pub(crate) by: By,
}

/// Who does it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    /// wrk, over TCP, each client as fast as it can.
    Wrk,
    /// The client of `client.rs`, over a Unix socket or TCP, at so many requests a second or as
    /// fast as it can.
    Ours { unix: bool, rate: Option<f64> },
}

impl Load {
    pub(crate) fn new(clients: usize, seconds: u64) -> Load {
        Load {
            clients,
            depth: 1,
            seconds,
            mixed: false,
            by: By::Wrk,
        }
    }

    /// The same over a Unix socket, if so.
    pub(crate) fn over_unix(self, unix: bool) -> Load {
        match unix {
            true => Load {
                by: By::Ours { unix, rate: None },
                ..self
            },
            false => self,
        }
    }
}

/// wrk on one thread.
pub(crate) struct Wrk {
    program: PathBuf,
    plain: PathBuf,
    pipelined: PathBuf,
    mixed: PathBuf,
}

impl Wrk {
    /// Writes its scripts into the folder.
    pub(crate) fn new(folder: &Path) -> Outcome<Wrk> {
        let script = |name: &str, text: &str| -> Outcome<PathBuf> {
            let path = folder.join(name);
            fs::write(&path, format!("{text}{FIGURES_LUA}"))?;
            Ok(path)
        };
        Ok(Wrk {
            program: machine::program("wrk")?,
            plain: script("plain.lua", "")?,
            pipelined: script("pipelined.lua", PIPELINED_LUA)?,
            mixed: script("mixed.lua", MIXED_LUA)?,
        })
    }

    /// Runs against a URL whose server is process `pid`; any failed request is an error.
    pub(crate) fn run(&self, url: &str, load: Load, pid: Option<u32>) -> Outcome<Figures> {
        let script = match load {
            Load { mixed: true, .. } => &self.mixed,
            Load { depth: 1, .. } => &self.plain,
            _ => &self.pipelined,
        };
        let cpu = || pid.map_or(Ok(0.0), machine::cpu_seconds);
        let cpu_before = cpu()?;
        let output = Command::new(&self.program)
            .arg("-t1")
            .arg(format!("-c{}", load.clients))
            .arg(format!("-d{}s", load.seconds))
            .args(["--timeout", "10s", "-s"])
            .arg(script)
            .arg(url)
            .arg("--")
            .arg(load.depth.to_string())
            .output()?;
        let cpu_after = cpu()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<f64> = text
            .lines()
            .find_map(|line| line.strip_prefix("figures "))
            .ok_or_else(|| {
                let said = String::from_utf8_lossy(&output.stderr);
                format!("wrk has measured nothing on {url}: {text}{said}")
            })?
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let [requests, microseconds, bytes, failed, median] = numbers[..] else {
            return Err(format!("wrk printed something else than its script says: {text}").into());
        };
        if failed > 0.0 || requests < 1.0 {
            return Err(format!(
                "{failed} of {requests} requests to {url} failed, with {load:?}: {text}"
            )
            .into());
        }
        let seconds = microseconds / 1e6;
        Ok(Figures {
            rate: requests / seconds,
            bytes_rate: bytes / seconds,
            median_seconds: median / 1e6,
            cpu_seconds: (cpu_after - cpu_before) / requests,
            ..Figures::default()
        })
    }
}

/// `INCR` on one key of Redis, so many times, by redis-benchmark.
pub(crate) fn redis_incr(address: SocketAddr, clients: usize, requests: u64) -> Outcome<Figures> {
    let output = Command::new(machine::program("redis-benchmark")?)
        .args(["-h", "127.0.0.1", "-p", &address.port().to_string()])
        .args(["-c", &clients.to_string(), "-n", &requests.to_string()])
        .args(["--csv", "INCR", "tickets"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // A head line, then: "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms",…
    let fields: Vec<&str> = text
        .lines()
        .last()
        .unwrap_or_default()
        .split(',')
        .map(|field| field.trim_matches('"'))
        .collect();
    let number = |index: usize| -> Outcome<f64> {
        let field = fields.get(index).and_then(|field| field.parse().ok());
        field
            .ok_or_else(|| format!("cannot make sense of what redis-benchmark says: {text}").into())
    };
    Ok(Figures {
        rate: number(1)?,
        median_seconds: number(4)? / 1e3,
        ..Figures::default()
    })
}

/// Connections that have asked once and are silent since.
pub(crate) struct Idle {
    _connections: Vec<TcpStream>,
}

impl Idle {
    /// Opens them one after the other.
    pub(crate) fn open(address: SocketAddr, count: usize) -> Outcome<Idle> {
        let open = || -> Outcome<TcpStream> {
            let mut stream = TcpStream::connect(address)?;
            machine::get(&mut stream, "/livez")?;
            Ok(stream)
        };
        let connections = (0..count).map(|_| open()).collect::<Outcome<_>>()?;
        Ok(Idle {
            _connections: connections,
        })
    }
}

/// Connections that do as little as they can: some send one byte of a request a second, some ask
/// for a large batch and never read it.
pub(crate) struct Slow {
    _never_read: Vec<TcpStream>,
    stop: Sender<()>,
    trickle: JoinHandle<io::Result<()>>,
}

impl Slow {
    /// Opens so many of each kind.
    pub(crate) fn open(address: SocketAddr, each: usize) -> Outcome<Slow> {
        let never_read = (0..each).map(|_| {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            // What the kernel holds for a client is not what is measured.
            socket.set_recv_buffer_size(4 * 1024)?;
            socket.connect(&address.into())?;
            let mut stream = TcpStream::from(socket);
            stream.write_all(machine::request("/tickets/create/1000000").as_bytes())?;
            Ok(stream)
        });
        let never_read = never_read.collect::<io::Result<_>>()?;
        let trickling = (0..each).map(|_| TcpStream::connect(address));
        let mut trickling = trickling.collect::<io::Result<Vec<_>>>()?;
        let (stop, stopped) = mpsc::channel();
        let trickle = thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                for stream in &mut trickling {
                    // The server closes a request that takes too long.
                    if stream.write_all(b"X").is_err() {
                        *stream = TcpStream::connect(address)?;
                    }
                }
            }
            Ok(())
        });
        Ok(Slow {
            _never_read: never_read,
            stop,
            trickle,
        })
    }

    /// Closes them; an error means that one could not be opened again.
    pub(crate) fn close(self) -> Outcome<()> {
        drop(self.stop);
        match self.trickle.join() {
            Ok(done) => Ok(done?),
            Err(_) => Err("the thread that trickles bytes has panicked".into()),
        }
    }
}

/// Asks for a batch and takes a little of it at a time; calls `look` as long as it lasts.
pub(crate) fn read_slowly(
    address: SocketAddr,
    path: &str,
    duration: Duration,
    mut look: impl FnMut() -> Outcome<()>,
) -> Outcome<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    stream.write_all(machine::request(path).as_bytes())?;
    let started = Instant::now();
    let mut piece = [0; 4 * 1024];
    let mut total = 0;
    while started.elapsed() < duration {
        match stream.read(&mut piece) {
            Ok(0) => return Err(format!("the answer to GET {path} ended early").into()),
            Ok(read) => total += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        look()?;
        std::thread::sleep(Duration::from_millis(2));
    }
    match total {
        0 => Err(format!("no answer to GET {path}").into()),
        _ => Ok(()),
    }
}

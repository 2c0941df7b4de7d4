//! The MySQL driver, kept at arm's length: connecting within one deadline, rows with a bound, and
//! panics as faults.
//!
//! The driver trusts whoever answers it. It panics on some malformed packets, gathers as many rows
//! as are sent, and keeps what was sent before the encryption began. None of that passes this file,
//! except for what `docs/driver.md` describes.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::ops::{Deref, DerefMut};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Once, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::{Protocol, Queryable};
use mysql::{Conn, DriverError, Opts, OptsBuilder, Params, QueryResult, SslOpts, Statement, Value};

use super::answers::{Done, Row, column};
use super::error::protocol;
use super::{Host, Secret, Settings, Tls};
use crate::fault::{Fault, FaultKind};
use crate::{file, limits};

/// A file that can't be there. The driver, told to find the server's key in it, can't send a
/// password under a key that whoever answered has sent.
pub(super) const NO_PUBLIC_KEY: &str = "/dev/null/no-public-key";

/// The end of an operation as a whole, however many reads and writes it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn after(duration: Duration) -> Deadline {
        Deadline(Instant::now() + duration)
    }

    pub(super) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub(super) fn check(self) -> Result<(), Fault> {
        match self.left().is_zero() {
            true => Err(FaultKind::TimedOut.into()),
            false => Ok(()),
        }
    }
}

/// A connection that is set up, and whose end can't panic.
pub(super) struct Link {
    /// Present until it is dropped.
    conn: Option<Conn>,
}

impl Link {
    /// Connects to the server, and to `database` on it, if any, and makes the session independent
    /// of the server's defaults. A single read or write that takes longer than `io_timeout` ends
    /// the connection; a lock is waited for no longer than `lock_wait`.
    pub(super) fn open(
        settings: &Settings,
        database: Option<&str>,
        io_timeout: Duration,
        lock_wait: Duration,
        deadline: Deadline,
    ) -> Result<Link, Fault> {
        let password = settings.password.read();
        let connected = connect(settings, &password, database, io_timeout, deadline);
        let conn = match connected {
            // Its file may have been rotated this very moment.
            Err(fault) if fault.kind == FaultKind::AccessDenied => {
                let newer = settings.password.read();
                if newer == password {
                    return Err(fault);
                }
                connect(settings, &newer, database, io_timeout, deadline)?
            }
            connected => connected?,
        };
        let mut link = Link { conn: Some(conn) };
        deadline.check()?;
        if settings.tls != Tls::Off && !matches!(settings.host, Host::Socket(_)) {
            link.prove_that_it_is_encrypted()?;
        }
        link.begin(lock_wait)?;
        deadline.check()?;
        Ok(link)
    }

    /// The driver keeps what was sent before the encryption began, and would take it for answers
    /// that came encrypted. Whoever sent it can't have known these bits.
    fn prove_that_it_is_encrypted(&mut self) -> Result<(), Fault> {
        let nonce = format!("{:016x}{:016x}", random()?, random()?);
        let rows = self.query(
            &include_str!("../../sql/nonce.sql").replace("{nonce}", &nonce),
            1,
        );
        let forged = || Fault::from(FaultKind::TlsForged);
        match rows {
            Ok(mut rows) => {
                let answer = rows.first_mut().and_then(|row| column(row, 0).ok());
                let answer: Option<Vec<u8>> = answer.flatten();
                (answer.as_deref() == Some(nonce.as_bytes()))
                    .then_some(())
                    .ok_or_else(forged)
            }
            Err(fault) if fault.kind == FaultKind::Protocol => Err(forged()),
            Err(fault) => Err(fault),
        }
    }

    fn begin(&mut self, lock_wait: Duration) -> Result<(), Fault> {
        let seconds = lock_wait.as_secs() + u64::from(lock_wait.subsec_nanos() > 0);
        let session = include_str!("../../sql/session.sql")
            .replace("{lock_wait_seconds}", &seconds.max(1).to_string());
        self.run(include_str!("../../sql/rollback.sql"))?;
        self.run(&session)?;
        self.run(include_str!("../../sql/isolation.sql"))?;
        Ok(())
    }

    /// Runs a statement that answers with no rows; how many it changed.
    pub(super) fn run(&mut self, statement: &str) -> Result<u64, Fault> {
        done(self.query_iter(statement)?).map(|done| done.rows)
    }

    /// Runs a query that answers with at most `most` rows.
    pub(super) fn query(&mut self, statement: &str, most: usize) -> Result<Vec<Row>, Fault> {
        gather(self.query_iter(statement)?, most)
    }

    /// Runs a prepared statement that answers with no rows.
    pub(super) fn change(
        &mut self,
        statement: &Statement,
        values: impl Into<Params>,
    ) -> Result<Done, Fault> {
        done(self.exec_iter(statement, values)?)
    }

    /// Runs a prepared query that answers with at most `most` rows.
    pub(super) fn ask(&mut self, statement: &Statement, most: usize) -> Result<Vec<Row>, Fault> {
        gather(self.exec_iter(statement, ())?, most)
    }
}

impl Deref for Link {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        self.conn.as_ref().expect("a link has its connection")
    }
}

impl DerefMut for Link {
    fn deref_mut(&mut self) -> &mut Conn {
        self.conn.as_mut().expect("a link has its connection")
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let conn = self.conn.take();
        // Saying goodbye may fail in any way; it is only for courtesy.
        let _ = guarded(|| {
            drop(conn);
            Ok(())
        });
    }
}

fn done<T: Protocol>(result: QueryResult<'_, '_, '_, T>) -> Result<Done, Fault> {
    let done = Done {
        rows: result.affected_rows(),
        last_insert_id: result.last_insert_id(),
    };
    gather(result, 0).map(|_| done)
}

fn gather<T: Protocol>(
    mut result: QueryResult<'_, '_, '_, T>,
    most: usize,
) -> Result<Vec<Row>, Fault> {
    let mut rows = Vec::new();
    let failed = loop {
        match result.next() {
            None => return Ok(rows),
            Some(Ok(row)) if rows.len() < most => {
                let values = row.unwrap_raw().into_iter();
                rows.push(values.map(|value| value.unwrap_or(Value::NULL)).collect());
            }
            Some(Ok(_)) => break protocol("more rows than were asked for"),
            Some(Err(error)) => break error.into(),
        }
    };
    // Dropping it would read what is left, which may be without end.
    std::mem::forget(result);
    Err(failed)
}

/// Bits that nobody can foresee.
pub(super) fn random() -> Result<u64, Fault> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Fault::new(FaultKind::Unexpected, format!("/dev/urandom: {error}")))?;
    Ok(u64::from_ne_bytes(bytes))
}

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
    static PANICKED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Does what calls the driver. A panic becomes a fault, and none of its text reaches stderr.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if IS_GUARDED.get() {
                PANICKED.set(panicked.to_string());
            } else {
                usual(panicked);
            }
        }));
    });
    let outer = IS_GUARDED.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(outer);
    done.unwrap_or_else(|_| {
        let what = PANICKED.take().replace('\n', " ");
        Err(protocol(format!("a malformed packet: {what}")))
    })
}

/// Does what calls the driver on a thread of its own, which is left behind at the deadline: a name
/// look-up, or a peer that sends a byte a second, can't be interrupted.
pub(super) fn within<T: Send + 'static>(
    deadline: Deadline,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("tickr-mysql".to_owned())
        .spawn(move || {
            // Nobody may be waiting for it any longer.
            let _ = sender.send(guarded(work));
        })
        .map_err(|error| Fault::new(FaultKind::Unreachable, format!("no thread: {error}")))?;
    receiver
        .recv_timeout(deadline.left())
        .unwrap_or_else(|_| Err(FaultKind::TimedOut.into()))
}

fn connect(
    settings: &Settings,
    password: &Secret,
    database: Option<&str>,
    io_timeout: Duration,
    deadline: Deadline,
) -> Result<Conn, Fault> {
    if let Tls::Verify { ca: Some(ca) } = &settings.tls {
        check_ca(ca)?;
    }
    if let Some(key) = &settings.public_key {
        check_public_key(key)?;
    }
    let options = || options(settings, password, database, io_timeout, deadline);
    let (host, port) = match &settings.host {
        Host::Socket(_) => return attempt(options()),
        Host::Tcp { host, port } => (host.as_str(), *port),
    };
    // The driver tries only the first address of a name; all of them are tried here.
    let addresses = (host, port).to_socket_addrs().map_err(|error| {
        Fault::new(
            FaultKind::Unreachable,
            format!("{}: {error}", settings.host),
        )
    })?;
    let mut targets: Vec<OptsBuilder> = Vec::new();
    if matches!(settings.tls, Tls::Verify { .. }) && host.parse::<IpAddr>().is_err() {
        // The name is what the certificate is checked for. The driver looks it up again, and tries
        // every address of the family that it is bound to, but no other.
        let mut families: Vec<SocketAddr> = Vec::new();
        for address in addresses {
            let family = match address {
                SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            };
            if !families.contains(&family) {
                families.push(family);
                let named = options().ip_or_hostname(Some(host)).tcp_port(port);
                targets.push(named.bind_address(Some(family)));
            }
        }
    } else {
        for address in addresses.take(limits::DATABASE_ADDRESSES_MAX) {
            let ip = match address {
                SocketAddr::V4(address) => address.ip().to_string(),
                SocketAddr::V6(_) => {
                    let text = address.to_string();
                    text.strip_suffix(&format!(":{port}"))
                        .unwrap_or(&text)
                        .to_owned()
                }
            };
            targets.push(options().ip_or_hostname(Some(ip)).tcp_port(port));
        }
    }
    let mut failure = Fault::new(
        FaultKind::Unreachable,
        format!("{}: the name has no address", settings.host),
    );
    for target in targets {
        deadline.check()?;
        match attempt(target) {
            Err(fault) if fault.kind == FaultKind::Unreachable => failure = fault,
            other => return other,
        }
    }
    Err(failure)
}

fn attempt(options: OptsBuilder) -> Result<Conn, Fault> {
    let options = Opts::from(options);
    let at = format!(
        "{}:{}",
        options.get_ip_or_hostname(),
        options.get_tcp_port()
    );
    guarded(|| {
        Conn::new(options).map_err(|error| match error {
            mysql::Error::DriverError(DriverError::ConnectTimeout) => Fault::new(
                FaultKind::Unreachable,
                format!("{at}: connection attempt timed out"),
            ),
            other => other.into(),
        })
    })
}

fn options(
    settings: &Settings,
    password: &Secret,
    database: Option<&str>,
    io_timeout: Duration,
    deadline: Deadline,
) -> OptsBuilder {
    let connect_timeout = settings
        .timeout
        .clamp(
            limits::DATABASE_CONNECT_TIMEOUT_MIN,
            limits::DATABASE_CONNECT_TIMEOUT_MAX,
        )
        .min(deadline.left())
        .max(Duration::from_millis(1));
    let socket = match &settings.host {
        Host::Tcp { .. } => None,
        Host::Socket(path) => Some(path.to_string_lossy()),
    };
    let tls = match &settings.tls {
        Tls::Off => None,
        Tls::Required => Some(SslOpts::default().with_danger_accept_invalid_certs(true)),
        Tls::Verify { ca } => Some(SslOpts::default().with_root_cert_path(ca.clone())),
    };
    let public_key = settings.public_key.clone();
    OptsBuilder::new()
        .ssl_opts(tls)
        .server_key_path(Some(public_key.unwrap_or(PathBuf::from(NO_PUBLIC_KEY))))
        .socket(socket)
        .prefer_socket(false)
        .user(Some(&settings.username))
        .pass(Some(password.expose()))
        .db_name(database)
        .tcp_connect_timeout(Some(connect_timeout))
        .read_timeout(Some(io_timeout))
        .write_timeout(Some(io_timeout))
        .tcp_nodelay(true)
        .tcp_keepalive_time_ms(Some(limits::DATABASE_KEEPALIVE.as_millis() as u32))
        .max_allowed_packet(Some(limits::DATABASE_PACKET_BYTES_MAX))
        .connect_attrs::<String, String>(None)
        .stmt_cache_size(0)
}

/// Whether the driver can read certificate authorities from a file; it says so only while it
/// connects, and takes an empty file for none.
pub fn check_ca(path: &Path) -> Result<(), Fault> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let unusable =
        |said: String| Fault::new(FaultKind::CaUnusable, format!("{}: {said}", path.display()));
    let pem = file::read(path, limits::PEM_FILE_BYTES_MAX);
    let pem = pem.map_err(|error| unusable(error.to_string()))?;
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        certificate
            .map_err(|error| unusable(error.to_string()))
            .and_then(|found| {
                store
                    .add(found)
                    .map_err(|error| unusable(error.to_string()))
            })?;
    }
    match store.is_empty() {
        true => Err(unusable("it holds no PEM certificate".to_owned())),
        false => Ok(()),
    }
}

/// Whether a file looks like the public key of a server; the driver panics on any other.
pub fn check_public_key(path: &Path) -> Result<(), Fault> {
    let unusable = |said: String| {
        Fault::new(
            FaultKind::PublicKeyUnusable,
            format!("{}: {said}", path.display()),
        )
    };
    let key = file::read(path, limits::PEM_FILE_BYTES_MAX);
    let key = key.map_err(|error| unusable(error.to_string()))?;
    match std::str::from_utf8(&key) {
        Ok(key) if key.contains("-----BEGIN PUBLIC KEY-----") => Ok(()),
        _ => Err(unusable("it holds no PEM public key".to_owned())),
    }
}

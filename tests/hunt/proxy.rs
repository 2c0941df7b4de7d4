//! A proxy between Tickr and MySQL that cuts or holds up connections at any byte.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::record::lock;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToDatabase,
    FromDatabase,
}

/// A listening proxy in front of one MySQL socket.
pub(crate) struct Proxy {
    port: u16,
    control: Arc<Control>,
}

/// What the proxy is to do with the bytes that come.
struct Control {
    upstream: PathBuf,
    closed: AtomicBool,
    /// So many bytes that way, then the connection is cut.
    cut: Mutex<Option<(Direction, usize)>>,
    held_until: Mutex<Option<Instant>>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1.
    pub(crate) fn start(upstream: &Path) -> io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let control = Arc::new(Control {
            upstream: upstream.to_owned(),
            closed: AtomicBool::new(false),
            cut: Mutex::new(None),
            held_until: Mutex::new(None),
        });
        let accepting = Arc::clone(&control);
        thread::spawn(move || accepting.accept(&listener));
        Ok(Proxy { port, control })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts whichever connection carries the byte after the next `bytes` in this direction.
    pub(crate) fn cut_after(&self, direction: Direction, bytes: usize) {
        *lock(&self.control.cut) = Some((direction, bytes));
    }

    /// Lets nothing through for so long, and then everything.
    pub(crate) fn hold_up(&self, duration: Duration) {
        *lock(&self.control.held_until) = Some(Instant::now() + duration);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.control.closed.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Control {
    fn accept(self: Arc<Control>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            // Without a database, the client sees its connection closed.
            if let Ok(client) = client {
                let _ = self.connect(client);
            }
        }
    }

    fn connect(self: &Arc<Control>, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let database = UnixStream::connect(&self.upstream)?;
        let (client_out, database_out) = (client.try_clone()?, database.try_clone()?);
        let (to, from) = (Arc::clone(self), Arc::clone(self));
        let (client_end, database_end) = (client.try_clone()?, database.try_clone()?);
        let close = Arc::new(move || {
            let _ = client_end.shutdown(Shutdown::Both);
            let _ = database_end.shutdown(Shutdown::Both);
        });
        let close_too = Arc::clone(&close);
        thread::spawn(move || {
            let _ = to.forward(Direction::ToDatabase, client, database_out);
            close();
        });
        thread::spawn(move || {
            let _ = from.forward(Direction::FromDatabase, database, client_out);
            close_too();
        });
        Ok(())
    }

    /// Carries bytes until one side ends or the connection is to be cut.
    fn forward(
        &self,
        direction: Direction,
        mut from: impl Read,
        mut to: impl Write,
    ) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let count = from.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            let held_until = *lock(&self.held_until);
            if let Some(left) = held_until.and_then(|at| at.checked_duration_since(Instant::now()))
            {
                thread::sleep(left);
            }
            let keep = self.count_down(direction, count);
            to.write_all(&buffer[..keep.unwrap_or(count)])?;
            if keep.is_some() {
                return Ok(());
            }
        }
    }

    /// How many of these bytes still go through when the cut is among them.
    fn count_down(&self, direction: Direction, count: usize) -> Option<usize> {
        let mut cut = lock(&self.cut);
        match &mut *cut {
            Some((way, left)) if *way == direction && *left < count => {
                let keep = *left;
                *cut = None;
                Some(keep)
            }
            Some((way, left)) if *way == direction => {
                *left -= count;
                None
            }
            _ => None,
        }
    }
}

//! The fastest that a Rust server on one thread can be expected to be: it parses each request
//! head and answers all of them with the same bytes. It knows no routes, limits or time-outs.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::thread;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::Outcome;

const LISTENER: Token = Token(usize::MAX);
const READ_BYTES: usize = 16 * 1024;
/// A client of this benchmark never has more waiting for it.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// Serves the answer on a free port, from a thread that ends with the process.
pub(crate) fn start(answer: Vec<u8>) -> Outcome<SocketAddr> {
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.local_addr()?;
    let poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    thread::Builder::new()
        .name("static-reply".to_owned())
        .spawn(move || {
            if let Err(error) = serve(poll, &listener, &answer) {
                eprintln!("the static-reply server stopped: {error}");
            }
        })?;
    Ok(address)
}

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

fn serve(mut poll: Poll, listener: &TcpListener, answer: &[u8]) -> io::Result<()> {
    let mut events = Events::with_capacity(1024);
    let mut clients: Vec<Option<Client>> = Vec::new();
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&poll, listener, &mut clients)?;
                continue;
            }
            let slot = &mut clients[event.token().0];
            if let Some(client) = slot
                && !client.advance(answer).unwrap_or(false)
            {
                *slot = None;
            }
        }
    }
}

fn accept(
    poll: &Poll,
    listener: &TcpListener,
    clients: &mut Vec<Option<Client>>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let free = clients.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            clients.push(None);
            clients.len() - 1
        });
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(index), both)?;
        clients[index] = Some(Client {
            stream,
            input: Vec::with_capacity(READ_BYTES),
            output: Vec::with_capacity(READ_BYTES),
        });
    }
}

impl Client {
    /// Reads, answers and writes what can be; false when the client is done.
    fn advance(&mut self, answer: &[u8]) -> io::Result<bool> {
        let mut piece = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    self.input.extend_from_slice(&piece[..read]);
                    if !self.answer_all(answer) {
                        return Ok(false);
                    }
                    // A short read has emptied the socket: the next bytes raise a new event.
                    if read < piece.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Answers every complete request; false when one is not HTTP or too much waits.
    fn answer_all(&mut self, answer: &[u8]) -> bool {
        let mut consumed = 0;
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 16];
            let mut request = httparse::Request::new(&mut headers);
            match request.parse(&self.input[consumed..]) {
                Ok(httparse::Status::Complete(length)) => {
                    consumed += length;
                    self.output.extend_from_slice(answer);
                }
                Ok(httparse::Status::Partial) => break,
                Err(_) => return false,
            }
        }
        self.input.drain(..consumed);
        self.input.len() < READ_BYTES && self.output.len() < OUTPUT_BYTES_MAX
    }
}

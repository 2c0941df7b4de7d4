//! Tests of the sockets, over real ones.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream as TcpClient, ToSocketAddrs};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream as UnixClient;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use mio::{Events, Poll};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use super::*;

const MODE: u32 = 0o660;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn bind(path: &Path) -> Result<Listener, BindError> {
    let mut listeners = Listener::bind(&Address::Unix(path.to_owned()), MODE)?;
    assert_eq!(listeners.len(), 1);
    Ok(listeners.remove(0))
}

fn bind_tcp(text: &str) -> (Listener, SocketAddr) {
    let mut listeners = Listener::bind(&text.parse().unwrap(), MODE).unwrap();
    let listener = listeners.remove(0);
    let address = listener.local_address().to_string().parse().unwrap();
    (listener, address)
}

/// A socket file whose process is gone.
fn leave_stale(path: &Path) {
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    assert!(path.exists());
}

/// Waits for the event loop to hear of a client, then sends bytes both ways.
fn serve(mut listener: Listener, mut client: impl Read + Write) {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let timeout = Some(Duration::from_secs(10));
    let registry = poll.registry();
    registry
        .register(&mut listener, Token(1), Interest::READABLE)
        .unwrap();
    poll.poll(&mut events, timeout).unwrap();
    assert_eq!(
        events.iter().next().map(|event| event.token()),
        Some(Token(1))
    );
    let mut stream = listener.accept().unwrap();
    assert_eq!(stream.kind(), listener.kind());
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(
        stream.read(&mut [0; 9]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );

    poll.registry()
        .register(&mut stream, Token(2), Interest::READABLE)
        .unwrap();
    client.write_all(b"question").unwrap();
    poll.poll(&mut events, timeout).unwrap();
    assert_eq!(
        events.iter().next().map(|event| event.token()),
        Some(Token(2))
    );
    let mut question = [0; 9];
    assert_eq!(stream.read(&mut question).unwrap(), 8);
    assert_eq!(&question, b"question\0");
    stream.write_all(b"answer").unwrap();
    stream.shutdown_write().unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
    poll.registry().deregister(&mut stream).unwrap();
    poll.registry().deregister(&mut listener).unwrap();
}

#[test]
fn serves_tcp() {
    let (listener, address) = bind_tcp("127.0.0.1:0");
    assert_ne!(address.port(), 0);
    assert_eq!(listener.kind(), "tcp");
    serve(listener, TcpClient::connect(address).unwrap());
    TcpClient::connect(address).unwrap_err();
}

#[test]
fn small_answers_over_tcp_are_sent_at_once_and_large_ones_take_bounded_memory() {
    let (listener, address) = bind_tcp("127.0.0.1:0");
    let _client = TcpClient::connect(address).unwrap();
    let Stream::Tcp(stream) = listener.accept().unwrap() else {
        panic!("a TCP listener accepts TCP streams");
    };
    assert!(stream.nodelay().unwrap());
    let buffer = SockRef::from(&stream).send_buffer_size().unwrap();
    assert_eq!(buffer, 2 * limits::SEND_BUFFER_BYTES);
}

#[test]
fn many_tcp_clients_may_wait_to_be_accepted() {
    let (_listener, address) = bind_tcp("127.0.0.1:0");
    let connect = || TcpClient::connect_timeout(&address, Duration::from_millis(900));
    let clients: Result<Vec<TcpClient>, _> = (0..400).map(|_| connect()).collect();
    assert_eq!(clients.unwrap().len(), 400);
}

#[test]
fn serves_every_address_of_a_name() {
    let addresses: Vec<SocketAddr> = "localhost:0".to_socket_addrs().unwrap().collect();
    let listeners = Listener::bind(&Address::Tcp("localhost:0".into()), MODE).unwrap();
    for listener in &listeners {
        let address: SocketAddr = listener.local_address().to_string().parse().unwrap();
        assert!(addresses.iter().any(|known| known.ip() == address.ip()));
        TcpClient::connect(address).unwrap();
    }
    assert!(!listeners.is_empty());
}

#[test]
fn says_why_a_tcp_address_does_not_work() {
    let (_listener, address) = bind_tcp("127.0.0.1:0");
    let error = Listener::bind(&Address::Tcp(address.to_string()), MODE).unwrap_err();
    assert!(error.to_string().contains("choose another port"), "{error}");
    let error = Listener::bind(&Address::Tcp("192.0.2.1:0".into()), MODE).unwrap_err();
    assert!(
        error.to_string().contains("no address of this machine"),
        "{error}"
    );
    // Longer than a label may be (RFC 1035, section 2.3.4), so that no name server is asked.
    let nowhere = format!("{}:0", "x".repeat(64));
    let error = Listener::bind(&Address::Tcp(nowhere), MODE).unwrap_err();
    assert!(matches!(error, BindError::Resolve { .. }), "{error}");
}

#[test]
fn serves_a_unix_socket_of_the_given_mode_and_removes_it() {
    let folder = folder();
    let path = folder.path().join("tickr.sock");
    for mode in [0o600, 0o666] {
        let address = Address::Unix(path.clone());
        let listener = Listener::bind(&address, mode).unwrap().remove(0);
        assert_eq!(listener.local_address(), address);
        assert_eq!(listener.kind(), "unix");
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, mode);
        serve(listener, UnixClient::connect(&path).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn takes_the_place_of_a_stale_socket_only() {
    let folder = folder();
    let path = folder.path().join("tickr.sock");
    leave_stale(&path);
    let first = bind(&path).unwrap();
    let error = bind(&path).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    // The failed attempt has left it alone.
    serve_one(&first, &path);
    drop(first);
    drop(bind(&path).unwrap());
}

fn serve_one(listener: &Listener, path: &Path) {
    // The attempt to bind has also knocked.
    let _client = UnixClient::connect(path).unwrap();
    assert!(listener.accept().is_ok());
}

#[test]
fn a_full_socket_is_live() {
    let folder = folder();
    let path = folder.path().join("tickr.sock");
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let mut clients = Vec::new();
    loop {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        match client.connect(&SockAddr::unix(&path).unwrap()) {
            Ok(()) => clients.push(client),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    let error = bind(&path).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    assert!(path.exists());
}

#[test]
fn leaves_alone_what_is_not_a_socket() {
    let folder = folder();
    let path = folder.path().join("tickr.sock");
    let target = folder.path().join("target");
    type Make<'a> = &'a dyn Fn() -> io::Result<()>;
    let makes: [Make; 3] = [
        &|| fs::write(&path, "precious"),
        &|| fs::create_dir(&path),
        &|| symlink(&target, &path),
    ];
    for make in makes {
        make().unwrap();
        let error = bind(&path).unwrap_err();
        assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
        fs::symlink_metadata(&path).unwrap();
        fs::remove_file(&path)
            .or_else(|_| fs::remove_dir(&path))
            .unwrap();
    }
}

#[test]
fn removes_no_socket_that_has_taken_its_place() {
    let folder = folder();
    let path = folder.path().join("tickr.sock");
    let first = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let second = bind(&path).unwrap();
    drop(first);
    UnixClient::connect(&path).unwrap();
    drop(second);
    assert!(!path.exists());
}

#[test]
fn a_socket_that_was_handed_over_keeps_its_file() {
    let folder = folder();
    let path = folder.path().join("tickr.sock");
    let inherited = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let listener = Listener::from_unix(inherited).unwrap();
    assert_eq!(listener.local_address(), Address::Unix(path.clone()));
    serve(listener, UnixClient::connect(&path).unwrap());
    assert!(path.exists());

    let inherited = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = inherited.local_addr().unwrap();
    let listener = Listener::from_tcp(inherited).unwrap();
    serve(listener, TcpClient::connect(address).unwrap());
}

#[test]
fn says_why_a_path_does_not_work() {
    let folder = folder();
    let long = folder.path().join("x".repeat(108));
    let error = bind(&long).unwrap_err();
    assert!(matches!(error, BindError::PathTooLong { .. }), "{error}");
    let error = bind(&folder.path().join("missing/tickr.sock")).unwrap_err();
    assert!(matches!(error, BindError::Unix { .. }), "{error}");
    assert!(
        error.to_string().contains("check that the folder exists"),
        "{error}"
    );
}

#[test]
fn does_not_wait_for_ever_for_the_lock() {
    let folder = folder();
    let path = folder.path().join("tickr.sock");
    let lock = File::create(folder.path().join("tickr.sock.lock")).unwrap();
    lock.lock().unwrap();
    let error = bind(&path).unwrap_err();
    assert!(matches!(error, BindError::Locked { .. }), "{error}");
    drop(lock);
    bind(&path).unwrap();
}

#[test]
fn waits_for_nobody_who_can_only_read_the_folder() {
    let folder = folder();
    let lock = File::open(folder.path()).unwrap();
    lock.lock().unwrap();
    bind(&folder.path().join("tickr.sock")).unwrap();
}

#[test]
fn a_socket_that_was_removed_is_made_again() {
    let folder = folder();
    let path = folder.path().join("tickr.sock");
    let mut listener = bind(&path).unwrap();
    assert!(listener.restore().is_none());
    fs::remove_file(&path).unwrap();
    listener.restore().unwrap().unwrap();
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, MODE);
    serve(listener, UnixClient::connect(&path).unwrap());
    assert!(!path.exists());
}

#[test]
fn what_has_taken_the_place_of_a_removed_socket_stays() {
    let folder = folder();
    let path = folder.path().join("tickr.sock");
    let mut first = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let second = bind(&path).unwrap();
    assert!(first.restore().is_none());
    serve(second, UnixClient::connect(&path).unwrap());
}

#[test]
fn of_many_that_start_at_once_one_gets_the_socket() {
    const STARTERS: usize = 8;
    for _ in 0..100 {
        let folder = folder();
        let path = folder.path().join("tickr.sock");
        leave_stale(&path);
        let barrier = Barrier::new(STARTERS);
        let results: Vec<Result<Listener, BindError>> = thread::scope(|scope| {
            let start = || {
                barrier.wait();
                bind(&path)
            };
            let starters: Vec<_> = (0..STARTERS).map(|_| scope.spawn(start)).collect();
            starters
                .into_iter()
                .map(|starter| starter.join().unwrap())
                .collect()
        });
        let (bound, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(bound.len(), 1);
        for error in refused.into_iter().filter_map(Result::err) {
            assert!(matches!(error, BindError::InUse { .. }), "{error}");
        }
        UnixClient::connect(&path).unwrap();
    }
}

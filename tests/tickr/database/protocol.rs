//! How the server is reached, and what comes of one that does not speak MySQL's protocol.

use super::*;

#[test]
fn tcp_works_by_name_and_by_address() {
    let folder = scratch();
    let local = start(LocalOptions {
        tcp: true,
        ..options(folder.path())
    });
    let port = local.port().unwrap();
    let server = Server {
        local,
        _folder: folder,
    };
    let created = server.created();
    for host in ["localhost", "127.0.0.1"] {
        let host = host.to_owned();
        let settings = Settings {
            host: Host::Tcp { host, port },
            ..created.clone()
        };
        open(&settings).unwrap().reserve(1).unwrap();
    }
    assert_eq!(server.counter(&created), 3);
}

#[test]
fn what_does_not_speak_the_protocol_is_an_error_and_no_panic_of_the_pool() {
    // An empty packet, a packet of nonsense, half a packet, an empty packet as the answer to the
    // login, which the driver trips over, and silence.
    let mut login = HANDSHAKE.to_vec();
    login.extend(b"\0\0\0\x02");
    let greetings: [&[u8]; 5] = [
        b"\0\0\0\0",
        b"\x05\0\0\0hello",
        b"HTTP/1.1 400 Bad",
        &login,
        b"",
    ];
    for greeting in greetings.map(<[u8]>::to_vec) {
        let silent = greeting.is_empty();
        let folder = scratch();
        let path = folder.path().join("mysql.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let peer = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.write_all(&greeting).unwrap();
            if !silent {
                socket.shutdown(Shutdown::Write).unwrap();
            }
            while socket.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        });
        let settings = Settings {
            host: Host::Socket(path),
            username: "nobody".to_owned(),
            password: Secret::default().into(),
            name: "none".to_owned(),
            timeout: Duration::from_millis(100),
            tls: Tls::Off,
            public_key: None,
            failover: Failover::Stop,
        };
        let mut pool = Pool::start(&settings, 1);
        let fault = pool.connect().unwrap_err();
        if silent {
            assert_eq!(fault.kind, FaultKind::TimedOut);
        } else {
            let kinds = [FaultKind::Protocol, FaultKind::Lost];
            assert!(kinds.contains(&fault.kind), "{fault}");
        }
        peer.join().unwrap();
        assert_eq!(kind(pool.connect()), FaultKind::Unreachable);
    }
}

/// The driver panics on an empty packet where an answer to the login belongs.
#[test]
fn a_command_that_meets_nonsense_ends_with_one_sentence() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let peer = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut login = HANDSHAKE.to_vec();
        login.extend(b"\0\0\0\x02");
        socket.write_all(&login).unwrap();
        while socket.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
    });
    let output = crate::harness::run(
        &["db", "check"],
        &[
            ("TICKR_DATABASE_HOST", "127.0.0.1"),
            ("TICKR_DATABASE_PORT", &port),
            ("TICKR_DATABASE_USERNAME", "nobody"),
            ("TICKR_DATABASE_NAME", "none"),
            ("TICKR_MAX_NODES", "4"),
            ("TICKR_STARTING_OFFSET", "1"),
            ("TICKR_NODE_NUMBER", "0"),
        ],
    );
    peer.join().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("did not speak MySQL's protocol"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

/// A byte a second satisfies every time-out of a single read.
#[test]
fn a_greeting_that_never_ends_is_given_up() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut sockets = Vec::new();
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            sockets.push(thread::spawn(move || {
                let greeting = HANDSHAKE.iter().chain(&[0; 1000]);
                for byte in greeting {
                    if socket.write_all(&[*byte]).is_err() {
                        return;
                    }
                    thread::sleep(Duration::from_secs(1));
                }
            }));
        }
    });
    let settings = Settings {
        host: Host::Tcp {
            host: "127.0.0.1".to_owned(),
            port,
        },
        username: "nobody".to_owned(),
        password: Secret::default().into(),
        name: "none".to_owned(),
        timeout: Duration::from_millis(100),
        tls: Tls::Off,
        public_key: None,
        failover: Failover::Stop,
    };
    let fault = schema::check(&settings, &numbering())
        .map(drop)
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::TimedOut);
    // A worker that hangs in it is left alone, and another does the next job.
    let mut pool = Pool::start(&settings, 1);
    pool.submit(0, Task::Connect { replaces: None });
    pool.submit(0, Task::Connect { replaces: None });
    let read = pool.submit(0, Task::Read);
    let outcome = pool.outcome();
    assert_eq!(outcome.id, read);
    assert_eq!(kind(outcome.found), FaultKind::Lost, "it has no session");
}

/// A greeting as MySQL 5.7 sends it, with the header of its packet (`Protocol::HandshakeV10` in
/// the MySQL Source Code Documentation).
const HANDSHAKE: &[u8] = b"\x49\0\0\0\x0a5.7.0\0\x01\0\0\0saltsalt\0\xff\xf7\x21\x02\0\x08\0\x15\
    \0\0\0\0\0\0\0\0\0\0saltsaltsalt\0mysql_native_password\0";

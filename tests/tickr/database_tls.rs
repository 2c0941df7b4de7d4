//! Encryption between Tickr and MySQL, with certificates made here: what is encrypted, and which
//! certificates are refused.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, thread};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tickr::counter::{Found, View};
use tickr::database::local::{LocalOptions, LocalServer};
use tickr::database::session::Session;
use tickr::database::{Failover, Host, Password, Secret, Settings, Tls, schema};
use tickr::fault::{Fault, FaultKind};
use tickr::limits;
use tickr::ticket::Numbering;

use crate::harness::run;
use crate::support::{options, scratch, start};

/// A server with a certificate for one name, which lets nobody in over TCP without encryption.
struct Server {
    local: LocalServer,
    /// The authority that the certificate comes from, and one that it does not.
    ca: PathBuf,
    other_ca: PathBuf,
    _folder: TempDir,
}

impl Server {
    fn start(name: &str) -> Server {
        let folder = scratch();
        let write = |file: &str, pem: String| {
            let path = folder.path().join(file);
            fs::write(&path, pem).expect("the folder is ours");
            path
        };
        let (ca, other_ca) = (authority("ours"), authority("another"));
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new([name.to_owned()])
            .and_then(|params| params.signed_by(&key, &ca))
            .expect("a certificate");
        let argument = |option: &str, path: &Path| format!("--{option}={}", path.display());
        let local = start(LocalOptions {
            tcp: true,
            extra_arguments: vec![
                argument("ssl-cert", &write("server.pem", certificate.pem())),
                argument("ssl-key", &write("server-key.pem", key.serialize_pem())),
                "--require-secure-transport=ON".to_owned(),
            ],
            ..options(folder.path())
        });
        let server = Server {
            local,
            ca: write("ca.pem", ca.pem()),
            other_ca: write("other-ca.pem", other_ca.pem()),
            _folder: folder,
        };
        let settings = Settings {
            host: Host::Socket(server.local.socket().to_owned()),
            ..server.settings("unused", Tls::Off)
        };
        schema::create(&settings, &numbering(), limits::LEASE_DEFAULT)
            .expect("the database is created");
        server
    }

    fn settings(&self, host: &str, tls: Tls) -> Settings {
        Settings {
            host: Host::Tcp {
                host: host.to_owned(),
                port: self.local.port().expect("it was asked for"),
            },
            username: self.local.username().to_owned(),
            password: Secret::new(self.local.password()).into(),
            name: "tickr".to_owned(),
            timeout: Duration::from_secs(10),
            tls,
            public_key: None,
            failover: Failover::Stop,
        }
    }

    fn open(&self, host: &str, tls: Tls) -> Result<(Session, View), Fault> {
        match Session::open(&self.settings(host, tls), &numbering(), None)? {
            (session, Found::Connected { view, .. }) => Ok((session, view)),
            (_, other) => panic!("{other:?}"),
        }
    }

    fn verify(ca: &Path) -> Tls {
        Tls::Verify {
            ca: Some(ca.to_owned()),
        }
    }

    /// How many handshakes the server has completed.
    fn handshakes(&self) -> u64 {
        let options = OptsBuilder::new()
            .socket(self.local.socket().to_str())
            .user(Some(self.local.username()))
            .pass(Some(self.local.password()));
        let mut conn = Conn::new(options).expect("the server lets its administrator in");
        let status = conn.query_first("SHOW GLOBAL STATUS LIKE 'Ssl_finished_accepts'");
        let (_, count): (String, u64) = status.expect("it runs").expect("it has a row");
        count
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).expect("no name is a good list of names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let common_name = rcgen::DnType::CommonName;
    params.distinguished_name.push(common_name, name);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}

/// The last base id of a block of 5.
fn reserve((mut session, view): (Session, View)) -> u64 {
    match session.reserve(5, view.epoch, view.id) {
        Ok(Found::Reserved { last }) => last,
        other => panic!("{other:?}"),
    }
}

fn numbering() -> Numbering {
    Numbering::new(4, 54_313_001, 0).expect("it is the numbering of the README")
}

#[test]
fn sessions_are_encrypted_when_asked_for_and_certificates_are_checked() {
    let server = Server::start("localhost");
    let before = server.handshakes();
    let session = server.open("127.0.0.1", Tls::Required).expect("encrypted");
    assert_eq!(reserve(session), 6);
    assert_eq!(server.handshakes(), before + 1);
    // `localhost` may have addresses that the server does not listen on.
    let session = server
        .open("localhost", Server::verify(&server.ca))
        .expect("encrypted, and the certificate is good");
    assert_eq!(reserve(session), 11);
    assert_eq!(server.handshakes(), before + 2);

    let refused = |host, tls, words: &str| {
        let error = server.open(host, tls).err().expect("it is refused");
        assert!(error.to_string().contains(words), "{error}");
        error.kind
    };
    let class = refused(
        "localhost",
        Server::verify(&server.other_ca),
        "the issuing CA is not trusted",
    );
    assert_eq!(class, FaultKind::CertificateRefused);
    let class = refused("localhost", Tls::Verify { ca: None }, "not trusted");
    assert_eq!(class, FaultKind::CertificateRefused);
    let class = refused("127.0.0.1", Server::verify(&server.ca), "127.0.0.1");
    assert_eq!(class, FaultKind::CertificateRefused);
    let class = refused("127.0.0.1", Tls::Off, "denied access");
    assert_eq!(class, FaultKind::AccessDenied);
}

#[test]
fn an_address_can_be_what_the_certificate_is_for() {
    let server = Server::start("127.0.0.1");
    let verify = Server::verify(&server.ca);
    assert!(server.open("127.0.0.1", verify.clone()).is_ok());
    let error = server
        .open("localhost", verify)
        .err()
        .expect("it is refused");
    assert!(error.to_string().contains("localhost"), "{error}");
}

#[test]
fn a_server_without_encryption_is_refused_when_it_is_asked_for() {
    let folder = scratch();
    let local = start(LocalOptions {
        tcp: true,
        extra_arguments: vec![
            "--loose-skip-ssl".to_owned(),
            "--loose-tls-version=".to_owned(),
        ],
        ..options(folder.path())
    });
    let port = local.port().expect("it was asked for").to_string();
    let output = run(
        &["db", "check"],
        &[
            ("TICKR_DATABASE_HOST", "127.0.0.1"),
            ("TICKR_DATABASE_PORT", &port),
            ("TICKR_DATABASE_USERNAME", local.username()),
            ("TICKR_DATABASE_PASSWORD", local.password()),
            ("TICKR_DATABASE_NAME", "tickr"),
            ("TICKR_DATABASE_TLS", "required"),
            ("TICKR_MAX_NODES", "4"),
            ("TICKR_STARTING_OFFSET", "1"),
            ("TICKR_NODE_NUMBER", "0"),
        ],
    );
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("the server does not offer TLS"), "{text}");
}

/// Stands between Tickr and the server: passes on the greeting, with `forged` answers in the same
/// segment, and then everything. Whatever the client takes from `forged` was never encrypted.
fn man_in_the_middle(port: u16, forged: Vec<u8>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let own = listener.local_addr().expect("it has one").port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(mut client), Ok(mut server)) =
                (client, TcpStream::connect((Ipv4Addr::LOCALHOST, port)))
            else {
                return;
            };
            let mut header = [0; 4];
            server.read_exact(&mut header).expect("a greeting");
            let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
            let mut greeting = vec![0; length as usize];
            server.read_exact(&mut greeting).expect("a greeting");
            let segment = [&header[..], &greeting, &forged].concat();
            client.write_all(&segment).expect("the client reads");
            let (mut to, mut from) = (
                server.try_clone().expect("a copy"),
                client.try_clone().expect("a copy"),
            );
            thread::spawn(move || io::copy(&mut from, &mut to));
            thread::spawn(move || io::copy(&mut server, &mut client));
        }
    });
    own
}

/// A packet of the protocol.
fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("it is short");
    [&[length, 0, 0, sequence], payload].concat()
}

#[test]
fn answers_from_before_the_encryption_are_not_believed() {
    const OK: &[u8] = b"\0\0\0\x02\0\0\0";
    const EOF: &[u8] = b"\xfe\0\0\x02\0";
    let server = Server::start("127.0.0.1");
    let login = packet(3, OK);
    let column = [
        &b"\x03def\0\0\0\x01x\0\x0c\x21\0"[..],
        &[96, 0, 0, 0, 0xfd, 1, 0, 0x1f, 0, 0],
    ]
    .concat();
    let value = [&[32], "0".repeat(32).as_bytes()].concat();
    let rows = [
        packet(1, &[1]),
        packet(2, &column),
        packet(3, EOF),
        packet(4, &value),
        packet(5, EOF),
    ]
    .concat();
    let oks = packet(1, OK).repeat(20);
    let port = server.local.port().expect("it was asked for");
    for forged in [
        [&login[..], &oks].concat(),
        [&login[..], &rows, &oks].concat(),
    ] {
        let host = Host::Tcp {
            host: "127.0.0.1".to_owned(),
            port: man_in_the_middle(port, forged),
        };
        let settings = Settings {
            host,
            ..server.settings("unused", Server::verify(&server.ca))
        };
        let fault = Session::open(&settings, &numbering(), None).map(drop);
        assert_eq!(fault.unwrap_err().kind, FaultKind::TlsForged);
        let fault = schema::check(&settings, &numbering()).map(drop);
        assert_eq!(fault.unwrap_err().kind, FaultKind::TlsForged);
    }
    let honest = Settings {
        host: Host::Tcp {
            host: "127.0.0.1".to_owned(),
            port: man_in_the_middle(port, Vec::new()),
        },
        ..server.settings("unused", Server::verify(&server.ca))
    };
    assert!(Session::open(&honest, &numbering(), None).is_ok());
}

#[test]
fn a_ca_file_that_holds_nothing_is_named() {
    let server = Server::start("127.0.0.1");
    let empty = server.ca.with_file_name("empty.pem");
    fs::write(&empty, "").expect("the folder is ours");
    for path in [empty, server.ca.with_file_name("missing.pem")] {
        let fault = server.open("127.0.0.1", Server::verify(&path)).map(drop);
        let fault = fault.unwrap_err();
        assert_eq!(fault.kind, FaultKind::CaUnusable);
        assert!(
            fault.to_string().contains(&*path.to_string_lossy()),
            "{fault}"
        );
    }
}

#[test]
fn a_password_is_not_sent_under_a_key_that_nobody_vouches_for() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    let peer = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let greeting = b"\x0a8.0.0\0\x01\0\0\0saltsalt\0\xff\xf7\x21\x02\0\x08\0\x15\
            \0\0\0\0\0\0\0\0\0\0saltsaltsalt\0caching_sha2_password\0";
        client.write_all(&packet(0, greeting)).expect("it reads");
        let mut login = [0; 4096];
        let login_length = client.read(&mut login).expect("a login");
        assert!(login_length > 4);
        // Full authentication: a client may now ask for our key.
        client.write_all(&packet(2, b"\x01\x04")).expect("it reads");
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest);
        rest
    });
    let settings = Settings {
        host: Host::Tcp {
            host: "127.0.0.1".to_owned(),
            port,
        },
        username: "nobody".to_owned(),
        password: Secret::new("hunter2").into(),
        name: "none".to_owned(),
        timeout: Duration::from_secs(10),
        tls: Tls::Off,
        public_key: None,
        failover: Failover::Stop,
    };
    let fault = Session::open(&settings, &numbering(), None).map(drop);
    assert_eq!(fault.unwrap_err().kind, FaultKind::PublicKeyRequired);
    let rest = peer.join().expect("it ends");
    assert!(rest.len() <= 5, "no more than a goodbye: {rest:?}");
}

#[test]
fn a_rotated_password_file_is_read_again() {
    let folder = scratch();
    let local = start(options(folder.path()));
    let mut admin = Conn::new(
        OptsBuilder::new()
            .socket(local.socket().to_str())
            .user(Some(local.username()))
            .pass(Some(local.password())),
    )
    .expect("the server lets its administrator in");
    let path = folder.path().join("password");
    fs::write(&path, "first\n").expect("the folder is ours");
    for statement in [
        "CREATE USER 'app'@'%' IDENTIFIED BY 'first'",
        "GRANT ALL ON tickr.* TO 'app'@'%'",
    ] {
        admin.query_drop(statement).expect("it runs");
    }
    let settings = Settings {
        host: Host::Socket(local.socket().to_owned()),
        username: "app".to_owned(),
        password: Password::File {
            path: path.clone(),
            at_start: Secret::new("first"),
        },
        name: "tickr".to_owned(),
        timeout: Duration::from_secs(10),
        tls: Tls::Off,
        public_key: None,
        failover: Failover::Stop,
    };
    let lease = limits::LEASE_DEFAULT;
    schema::create(&settings, &numbering(), lease).expect("it is created");
    let change = "ALTER USER 'app'@'%' IDENTIFIED BY 'second'";
    admin.query_drop(change).expect("it runs");
    let refused = Session::open(&settings, &numbering(), None).map(drop);
    assert_eq!(refused.unwrap_err().kind, FaultKind::AccessDenied);
    fs::write(&path, "second\n").expect("the folder is ours");
    assert!(Session::open(&settings, &numbering(), None).is_ok());
}

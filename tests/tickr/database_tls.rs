//! Encryption between Tickr and MySQL, with certificates made here: what is encrypted, and which
//! certificates are refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tickr::counter::{Found, View};
use tickr::database::local::{LocalOptions, LocalServer};
use tickr::database::session::Session;
use tickr::database::{Failover, Host, Secret, Settings, Tls, schema};
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
        extra_arguments: vec!["--skip-ssl".to_owned()],
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

//! A peer that only claims to be MySQL, and answers so as to use up memory or time.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::thread;

use crate::harness::{NODE, run};

/// Greets like MySQL 8, takes any password, and answers each query with the same bytes, again and
/// again if they are to be endless.
fn imposter(answer: Vec<u8>, is_endless: bool) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    let serve = move |mut client: TcpStream| -> io::Result<()> {
        let greeting = b"\x0a8.0.0\0\x01\0\0\0saltsalt\0\xff\xf7\x21\x02\0\x08\0\x15\
            \0\0\0\0\0\0\0\0\0\0saltsaltsalt\0mysql_native_password\0";
        client.write_all(&[&[greeting.len() as u8, 0, 0, 0], &greeting[..]].concat())?;
        client.read_exact(&mut [0; 4])?;
        let _login = client.read(&mut [0; 4096])?;
        client.write_all(b"\x07\0\0\x02\0\0\0\x02\0\0\0")?;
        while client.read(&mut [0; 4096])? > 0 {
            client.write_all(&answer)?;
            if !is_endless {
                continue;
            }
            loop {
                // A row of one column; the sequence number goes round.
                let rows: Vec<u8> = (0..=255).flat_map(|n| [2, 0, 0, n, 1, b'1']).collect();
                client.write_all(&[&rows[4 * 6..], &rows[..4 * 6]].concat())?;
            }
        }
        Ok(())
    };
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(client));
        }
    });
    port
}

fn check_against(port: u16) -> Output {
    let port = port.to_string();
    let settings = [
        ("TICKR_DATABASE_HOST", "127.0.0.1"),
        ("TICKR_DATABASE_PORT", &*port),
        ("TICKR_DATABASE_USERNAME", "tickr"),
        ("TICKR_DATABASE_NAME", "tickr"),
    ];
    run(&["db", "check"], &[&settings[..], &NODE].concat())
}

/// The day on which this fails is a good one: docs/driver.md then has a line less.
#[test]
fn a_column_count_still_ends_the_process_as_only_the_driver_can_mend() {
    // A count of 2^40 (lenenc_int of 8 bytes).
    let count = b"\x09\0\0\x01\xfe\0\0\0\0\0\x01\0\0".to_vec();
    let output = check_against(imposter(count, false));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(6), "{errors}");
    assert!(errors.contains("memory allocation"), "{errors}");
}

#[test]
fn endless_rows_are_not_read_to_their_end() {
    const EOF: &[u8] = b"\x05\0\0\x03\xfe\0\0\x02\0";
    let column = b"\x03def\0\0\0\x01x\0\x0c\x21\0\x60\0\0\0\xfd\x01\0\x1f\0\0";
    let header = [&[column.len() as u8, 0, 0, 2], &column[..]].concat();
    let answer = [b"\x01\0\0\x01\x01", &header[..], EOF].concat();
    let output = check_against(imposter(answer, true));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("more rows than were asked for"), "{errors}");
}

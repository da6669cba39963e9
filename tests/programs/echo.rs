//! echo: every byte back in its order and then the end, also when it is sent before anything is read.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use machinarium::tls::rustls;
use rustls::pki_types::{ServerName, pem::PemObject};

use crate::program::{Program, await_refusal, hunt, output};

const BYTES: usize = 3_000_000;

fn bytes() -> Vec<u8> {
    (0..BYTES as u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

/// All of it, then the half's end; reads it back to the end.
fn through(
    mut writer: impl Write + Send + 'static,
    mut reader: impl Read,
    finish: impl FnOnce() + Send + 'static,
) {
    let writing = std::thread::spawn(move || {
        writer.write_all(&bytes()).unwrap();
        finish();
    });
    let mut back = Vec::new();
    reader.read_to_end(&mut back).unwrap();
    writing.join().unwrap();
    assert!(back == bytes(), "{} bytes came back of {BYTES}", back.len());
}

#[test]
fn tcp_on_several_machines() {
    let mut program = Program::start("echo", &["--tcp", "127.0.0.1:0", "--machines", "3"]);
    let address = program.line("echo: tcp on ");
    for _ in 0..6 {
        let stream = TcpStream::connect(&address).unwrap();
        let end = stream.try_clone().unwrap();
        through(stream.try_clone().unwrap(), stream, move || end.shutdown(Shutdown::Write).unwrap());
    }
}

#[test]
fn unix() {
    let path = std::env::temp_dir().join(format!("machinarium-echo-{}", std::process::id()));
    // The second finds the file that the first has left.
    for _ in 0..2 {
        let mut program = Program::start("echo", &["--unix", path.to_str().unwrap()]);
        program.line("echo: listening");
        let stream = UnixStream::connect(&path).unwrap();
        let end = stream.try_clone().unwrap();
        through(stream.try_clone().unwrap(), stream, move || end.shutdown(Shutdown::Write).unwrap());
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn tls() {
    let mut program = Program::start("echo", &["--tls", "127.0.0.1:0", "--machines", "2"]);
    let address = program.line("echo: tls on ");
    let mut roots = rustls::RootCertStore::empty();
    let root = rustls::pki_types::CertificateDer::from_pem_slice(crate::certificates::PEM.root.as_bytes());
    roots.add(root.unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(machinarium::tls::provider());
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let mut tls = rustls::Stream::new(&mut connection, &mut stream);
    let sent = bytes();
    for piece in sent.chunks(50_000) {
        tls.write_all(piece).unwrap();
        let mut back = vec![0; piece.len()];
        tls.read_exact(&mut back).unwrap();
        assert!(back == piece);
    }
    tls.conn.send_close_notify();
    // A clean end: rustls tells one that was cut off.
    assert_eq!(tls.read(&mut [0; 10]).unwrap(), 0);
}

#[test]
fn a_client_that_speaks_no_tls_is_told_of() {
    let mut program = Program::start("echo", &["--tls", "127.0.0.1:0"]);
    let mut stream = TcpStream::connect(program.line("echo: tls on ")).unwrap();
    let client = stream.local_addr().unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let told = program.news(&format!("echo: {client}: "));
    assert_eq!(told, "the handshake: TLS: the peer breaks the protocol: what it sends is no TLS");
}

#[test]
fn sigterm_lets_clients_finish() {
    let mut program = Program::start("echo", &["--tcp", "127.0.0.1:0", "--machines", "2"]);
    let address = program.line("echo: tcp on ");
    let mut stream = TcpStream::connect(&address).unwrap();
    let mut answer = [0; 4];
    stream.write_all(b"ping").unwrap();
    stream.read_exact(&mut answer).unwrap();
    program.signal("TERM");
    assert_eq!(program.news("echo: "), "SIGTERM: clients: 1; they have 10s to end");
    await_refusal(&address);
    stream.write_all(b"pong").unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"pong");
    drop(stream);
    assert_eq!(program.ended(), Some(0));
}

#[test]
fn what_it_refuses() {
    let used = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = used.local_addr().unwrap().to_string();
    for arguments in [
        &["--tcp", &address][..],
        &["--tcp", "nowhere"],
        &["--key", "x"],
        &["hunt", "--seeds", "0"],
        &["--unix", "/nowhere/socket"],
    ] {
        let output = output("echo", arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{arguments:?}: {said}");
        // What it is about is written as it was given.
        assert!(
            arguments[0] != "--unix" || said.starts_with("echo: cannot listen on /nowhere/socket: "),
            "{said}"
        );
    }
}

#[test]
fn the_hunt_finds_a_planted_bug() {
    let (status, said) = hunt("echo", &["--seeds", "300", "--bug", "short-write"]);
    assert_eq!(status, 1, "{said}");
    let replay = said.lines().find_map(|line| line.split("--seed ").nth(1)).expect("the seed is named");
    let seed = replay.split(' ').next().unwrap();
    assert_eq!(output("echo", &["replay", "--seed", seed, "--bug", "short-write"]).status.code(), Some(1));
    let (status, said) = hunt("echo", &["--seeds", "100"]);
    assert_eq!(status, 0, "{said}");
}

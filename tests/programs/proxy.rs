//! proxy: bytes and ends both ways, TLS on either side, and what it says and does when a side fails or a signal comes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use crate::certificates::PEM;
use crate::program::{Program, await_refusal, hunt, output};

/// An echo server and a proxy before it, with TLS between them, and the proxy's address.
fn start(more: &[&str]) -> (Program, Program, String) {
    let files = files("behind");
    let mut echo =
        Program::start("echo", &["--tls", "127.0.0.1:0", "--certificate", &files[0], "--key", &files[1]]);
    let target = echo.line("echo: tls on ");
    let inner = ["--target", &target, "--target-name", "localhost", "--target-ca", &files[2]];
    let mut proxy = Program::start("proxy", &[&["--listen", "127.0.0.1:0"], &inner[..], more].concat());
    let address = proxy.line("proxy: listening on ");
    files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    (echo, proxy, address)
}

/// Certificate, key and root, written for as long as a program needs to start.
fn files(name: &str) -> [String; 3] {
    let pair = &PEM.localhost;
    let texts = [("certificate", &pair.certificate), ("key", &pair.key), ("root", &PEM.root)];
    texts.map(|(kind, text)| {
        let path = path(&format!("{name}-{kind}"));
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    })
}

fn path(name: &str) -> PathBuf {
    let thread = std::thread::current();
    let test = thread.name().unwrap().replace("::", "-");
    std::env::temp_dir().join(format!("machinarium-{}-{test}-{name}.pem", std::process::id()))
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn says(mut stream: &TcpStream, word: &[u8]) {
    stream.write_all(word).unwrap();
    let mut back = vec![0; word.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, word);
}

#[test]
fn bytes_and_ends_both_ways() {
    let (_echo, _proxy, address) = start(&["--machines", "3"]);
    for round in 0..6_u32 {
        let mut stream = connect(&address);
        let bytes: Vec<u8> =
            (0..500_000_u32).map(|place| (place.wrapping_mul(round + 77) >> 9) as u8).collect();
        let (sent, mut writer) = (bytes.clone(), stream.try_clone().unwrap());
        let writing = std::thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        writing.join().unwrap();
        assert!(back == bytes, "{} bytes came back", back.len());
    }
}

#[test]
fn sigterm_refuses_new_connections_and_waits_for_the_others() {
    let (_echo, mut proxy, address) = start(&["--machines", "2"]);
    let streams = [connect(&address), connect(&address)];
    streams.iter().for_each(|stream| says(stream, b"before"));
    proxy.signal("TERM");
    assert_eq!(proxy.news("proxy: "), "SIGTERM: connections: 2; they have 30s to end");
    await_refusal(&address);
    streams.iter().for_each(|stream| says(stream, b"after"));
    drop(streams);
    assert_eq!(proxy.ended(), Some(0));
}

#[test]
fn sigterm_does_not_wait_longer_than_it_was_told() {
    let (_echo, proxy, address) = start(&["--drain", "1"]);
    let mut stream = connect(&address);
    says(&stream, b"before");
    proxy.signal("INT");
    assert_eq!(proxy.ended(), Some(0));
    let end = stream.read(&mut [0; 1]);
    assert!(
        end.as_ref().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |n| *n == 0),
        "{end:?}"
    );
}

#[test]
fn sighup_has_it_read_its_files_again() {
    let [certificate, key, root] = files("front");
    let (_echo, mut proxy, address) = start(&["--certificate", &certificate, "--key", &key]);
    proxy.signal("HUP");
    // Its target's authority was in a file that has gone: nothing changes.
    let told = proxy.news("proxy: what was read before stays: ");
    assert!(told.contains("behind-root"), "{told}");
    let pair = rustls_pair(&address);
    pair.unwrap();
    [certificate, key, root].iter().for_each(|file| std::fs::remove_file(file).unwrap());
}

#[test]
fn sigusr1_has_it_print_what_it_does() {
    let (_echo, mut proxy, address) = start(&["--machines", "2"]);
    let streams = [connect(&address), connect(&address)];
    streams.iter().for_each(|stream| says(stream, b"word"));
    proxy.signal("USR1");
    proxy.news("machinarium: SIGUSR1");
    proxy.news("machine 0 'proxy-0'");
    proxy.news("  coroutine 1 'main': parked, event");
    proxy.news("machine 1 'proxy-1'");
    proxy.news("  coroutine ");
    streams.iter().for_each(|stream| says(stream, b"word"));
}

/// Shakes hands with the proxy and exchanges a word.
fn rustls_pair(address: &str) -> std::io::Result<()> {
    use machinarium::tls::rustls;
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(PEM.root.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(machinarium::tls::provider());
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let mut stream = connect(address);
    let mut tls = rustls::Stream::new(&mut connection, &mut stream);
    tls.write_all(b"word")?;
    let mut back = [0; 4];
    tls.read_exact(&mut back)?;
    assert_eq!(&back, b"word");
    Ok(())
}

#[test]
fn what_fails_is_told_with_whom() {
    let [certificate, key, root] = files("front");
    let (echo, mut proxy, address) = start(&["--certificate", &certificate, "--key", &key]);
    let mut stream = connect(&address);
    let client = stream.local_addr().unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let told = proxy.news(&format!("proxy: {client}: "));
    assert_eq!(
        told,
        "the handshake with the client: TLS: the peer breaks the protocol: what it sends is no TLS"
    );
    drop(echo);
    assert!(rustls_pair(&address).is_err());
    let told = proxy.news("proxy: 127.0.0.1:");
    assert!(told.contains(": the target 127.0.0.1:") && told.contains(": Connection refused"), "{told}");
    [certificate, key, root].iter().for_each(|file| std::fs::remove_file(file).unwrap());
}

/// Whatever is wrong between the proxy and its target.
#[test]
fn what_is_wrong_with_the_target_is_told() {
    let [certificate, key, root] = files("behind");
    let mut echo =
        Program::start("echo", &["--tls", "127.0.0.1:0", "--certificate", &certificate, "--key", &key]);
    let target = echo.line("echo: tls on ");
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain_target = plain.local_addr().unwrap().to_string();
    let answers = std::thread::spawn(move || plain.accept().unwrap().0.write_all(b"-ERR no TLS here\r\n"));
    let tls = "the handshake with the target: TLS: ";
    for (target, name, root, expected) in [
        (&target, "localhost", &certificate, format!("{tls}the peer's certificate is not accepted: ")),
        (
            &target,
            "other.example",
            &root,
            format!(
                "{tls}the peer's certificate is not accepted: certificate not valid for name \"other.example\""
            ),
        ),
        (
            &plain_target,
            "localhost",
            &root,
            format!("{tls}the peer breaks the protocol: what it sends is no TLS"),
        ),
    ] {
        let arguments =
            ["--target", target, "--listen", "127.0.0.1:0", "--target-name", name, "--target-ca", root];
        let mut proxy = Program::start("proxy", &arguments);
        let mut stream = connect(&proxy.line("proxy: listening on "));
        let client = stream.local_addr().unwrap();
        let told = proxy.news(&format!("proxy: {client}: "));
        assert!(told.starts_with(&expected), "{told}");
        let end = stream.read(&mut [0; 1]);
        assert!(matches!(end, Ok(0)), "{end:?}");
    }
    answers.join().unwrap().unwrap();
    // And the other side of it is told too.
    let told = echo.news("echo: 127.0.0.1:");
    assert!(told.contains(": the handshake: TLS: the peer refuses this end: alert "), "{told}");
    [certificate, key, root].iter().for_each(|file| std::fs::remove_file(file).unwrap());
}

#[test]
fn who_finds_no_place_is_told_of() {
    let (_echo, mut proxy, address) = start(&["--clients", "1"]);
    let first = connect(&address);
    says(&first, b"word");
    let mut second = connect(&address);
    let client = second.local_addr().unwrap();
    assert_eq!(proxy.news(&format!("proxy: {client}: ")), "refused: there are 1 already");
    assert_eq!(second.read(&mut [0; 1]).unwrap(), 0);
    says(&first, b"word");
}

#[test]
fn what_it_refuses() {
    let used = TcpListener::bind("127.0.0.1:0").unwrap();
    let used = used.local_addr().unwrap().to_string();
    let refused = [
        &[][..],
        &["--target", "nowhere"],
        &["--target", "127.0.0.1:1", "--listen", &used],
        &["--target", "127.0.0.1:1", "--certificate", "/nowhere", "--key", "/nowhere"],
        &["--target", "127.0.0.1:1", "--target-name", "a name", "--listen", "127.0.0.1:0"],
    ];
    for arguments in refused {
        let output = output("proxy", arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{arguments:?}: {said}");
    }
}

#[test]
fn the_hunt_finds_a_planted_bug() {
    let (status, said) = hunt("proxy", &["--seeds", "100", "--bug", "impatient"]);
    assert_eq!(status, 1, "{said}");
    let (status, said) = hunt("proxy", &["--seeds", "50"]);
    assert_eq!(status, 0, "{said}");
}

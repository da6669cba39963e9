//! kv: over a Unix socket, and subscribers, also one that does not read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::program::Program;

fn start(more: &[&str]) -> (Program, String) {
    let mut program = Program::start("kv", &[&["--listen", "127.0.0.1:0"], more].concat());
    let address = program.line("kv: listening on ").split(' ').next().unwrap().to_owned();
    (program, address)
}

/// Sends lines and sees that exactly these bytes come.
#[track_caller]
fn expect(stream: &mut (impl Read + Write), send: &str, answer: &str) {
    stream.write_all(send.as_bytes()).unwrap();
    let mut bytes = vec![0; answer.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), answer);
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

#[test]
fn unix_socket() {
    let path = std::env::temp_dir().join(format!("machinarium-kv-{}", std::process::id()));
    let (_program, address) = start(&["--unix", path.to_str().unwrap(), "--machines", "3"]);
    for round in 1..6 {
        let mut stream = UnixStream::connect(&path).unwrap();
        expect(&mut stream, "INCR a\r\n", &format!(":{round}\r\n"));
    }
    expect(&mut connect(&address), "GET a\r\n", "$1\r\n5\r\n");
    std::fs::remove_file(path).unwrap();
}

/// Where it listens for TLS is told, and who does not speak it there.
#[test]
fn a_client_that_speaks_no_tls_is_told_of() {
    let pair = &crate::certificates::PEM.localhost;
    let files = [("certificate", &pair.certificate), ("key", &pair.key)].map(|(kind, text)| {
        let path = std::env::temp_dir().join(format!("machinarium-kv-{}-{kind}.pem", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    });
    let [certificate, key] = files.each_ref().map(|path| path.to_str().unwrap());
    let (mut program, _) = start(&["--tls", "127.0.0.1:0", "--certificate", certificate, "--key", key]);
    let mut stream = connect(&program.line("kv: tls on "));
    let client = stream.local_addr().unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    let told = program.news(&format!("kv: {client}: "));
    assert_eq!(told, "the handshake: TLS: the peer breaks the protocol: what it sends is no TLS");
    files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
}

#[test]
fn publish_and_subscribe() {
    let (_program, address) = start(&["--machines", "3"]);
    let (mut one, mut two, mut publisher) = (connect(&address), connect(&address), connect(&address));
    let subscribed = |name: &str, count| format!("*3\r\n$9\r\nsubscribe\r\n$1\r\n{name}\r\n:{count}\r\n");
    let message = |name: &str| format!("*3\r\n$7\r\nmessage\r\n$1\r\n{name}\r\n$2\r\nhi\r\n");
    expect(&mut publisher, "PUBLISH a hi\r\n", ":0\r\n");
    // What came with the first request is served too.
    let both = subscribed("a", 1) + &subscribed("b", 2) + "*2\r\n$4\r\npong\r\n$0\r\n\r\n";
    expect(&mut one, "SUBSCRIBE a\r\nSUBSCRIBE b\r\nPING\r\n", &both);
    expect(&mut two, "PING\r\nSUBSCRIBE a\r\n", &("+PONG\r\n".to_owned() + &subscribed("a", 1)));
    expect(&mut publisher, "PUBLISH a hi\r\nPUBLISH b hi\r\n", ":2\r\n:1\r\n");
    expect(&mut one, "", &(message("a") + &message("b")));
    expect(&mut two, "", &message("a"));
    let left = "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n";
    // Without channels it is an ordinary client again.
    expect(&mut two, "UNSUBSCRIBE\r\nSET x 1\r\n", &(left.to_owned() + "+OK\r\n"));
    drop(one);
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        publisher.write_all(b"PUBLISH b hi\r\n").unwrap();
        let mut answer = [0; 4];
        publisher.read_exact(&mut answer).unwrap();
        if answer == *b":0\r\n" {
            break;
        }
        assert!(Instant::now() < end, "a subscriber that has gone is still there");
    }
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_off() {
    let (_program, address) = start(&[]);
    let (mut slow, mut publisher) = (connect(&address), connect(&address));
    expect(&mut slow, "SUBSCRIBE a\r\n", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    let request = format!("PUBLISH a {}\r\n", "x".repeat(60_000));
    let mut answers = BufReader::new(publisher.try_clone().unwrap());
    let cut_off = (0..2000).any(|_| {
        publisher.write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        line == ":0\r\n"
    });
    assert!(cut_off, "120 MB wait for a client that reads nothing");
    // It was told of some, and then that this is the end.
    let mut rest = Vec::new();
    let ended = slow.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
}

#[test]
fn sigterm_ends_it_as_shutdown_does() {
    for way in ["TERM", "INT", "SHUTDOWN"] {
        let (mut program, address) = start(&["--machines", "2"]);
        let mut stream = connect(&address);
        expect(&mut stream, "SET a 1\r\n", "+OK\r\n");
        let told = if way == "SHUTDOWN" {
            stream.write_all(b"SHUTDOWN\r\n").unwrap();
            way.to_owned()
        } else {
            program.signal(way);
            format!("SIG{way}")
        };
        assert_eq!(program.news("kv: "), format!("{told}: what was asked before is answered"));
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(program.ended(), Some(0));
    }
}

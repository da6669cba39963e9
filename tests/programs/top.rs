//! top: one picture of a kv that is under load, of one that a signal has ended, and of nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use crate::program::{Program, output};

/// The exit status, what is shown, and what went wrong.
fn once(socket: &str) -> (Option<i32>, String, String) {
    let output = output("top", &["--once", socket]);
    let [shown, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), shown, said)
}

/// Sends pings until it is told to stop.
fn load(address: &str, stop: &AtomicBool) {
    let mut stream = TcpStream::connect(address).unwrap();
    while !stop.load(Relaxed) {
        stream.write_all(b"PING\r\n").unwrap();
        stream.read_exact(&mut [0; 7]).unwrap();
    }
}

#[test]
fn a_picture_of_a_server_under_load() {
    let socket = std::env::temp_dir().join(format!("machinarium-top-{}", std::process::id()));
    let path = socket.to_str().unwrap();
    let (status, _, said) = once(path);
    assert!(status == Some(1) && said.contains("there is no such socket"), "{said}");

    let mut kv = Program::start("kv", &["--listen", "127.0.0.1:0", "--machines", "2", "--inspect", path]);
    let address = kv.line("kv: listening on ").split(' ').next().unwrap().to_owned();
    let stop = AtomicBool::new(false);
    let (status, shown, said) = thread::scope(|scope| {
        (0..4).for_each(|_| drop(scope.spawn(|| load(&address, &stop))));
        let seen = once(path);
        stop.store(true, Relaxed);
        seen
    });
    assert_eq!((status, &*said), (Some(0), ""));
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(shown.starts_with(&format!("{path}: process {}, 3 machines, ", kv.id())), "{shown}");
    let names = |line: &[&str]| (line[0].parse::<u32>().ok(), line[1].to_owned());
    let machines: Vec<_> = lines[2..5].iter().map(|line| names(line)).collect();
    assert_eq!(
        machines,
        [(0, "kv-0"), (1, "inspect"), (2, "kv-1")].map(|(number, name)| (Some(number), name.to_owned()))
    );
    // Switches a second: each answer is one at least, and "K" stands for a thousand of them.
    let busy = |line: &&Vec<&str>| {
        line[4].ends_with('K') || line[4].parse::<u32>().is_ok_and(|switches| switches > 100)
    };
    assert!(lines[2..5].iter().any(|line| busy(&line) && line[6].ends_with('%')), "{shown}");
    assert!(shown.contains(" parked "), "{shown}");

    kv.signal("TERM");
    assert_eq!(kv.ended(), Some(0));
    assert!(!socket.exists(), "a server that ends well leaves no socket");
    assert_eq!(once(path).0, Some(1));
}

#[test]
fn what_it_refuses() {
    for arguments in [&[][..], &["--interval", "0", "/tmp/x"], &["--nothing"]] {
        let output = output("top", arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{arguments:?}: {said}");
    }
}

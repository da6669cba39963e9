//! `MACHINARIUM_BACKEND=real`: the tests here pass in simulated worlds, and again on Linux in processes of this binary.

use std::io;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use machinarium::file::File;
use machinarium::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use machinarium_sim::{Check, Cpu, Durations, Faults, World, check};

/// Runs one test of this binary with that backend, if any is given, and no seeds but one.
fn with_backend(name: &str, backend: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--include-ignored", "--nocapture"])
        .env("MACHINARIUM_BACKEND", backend)
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap()
}

#[track_caller]
fn on_linux(name: &str) -> (bool, String) {
    let output = with_backend(name, "real");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("running 1 test"), "{name} is a test: {text}");
    (output.status.success(), text.into_owned())
}

/// Passes in simulated worlds, and quietly on Linux.
#[track_caller]
fn passes_on_linux(name: &str) {
    let (passed, text) = on_linux(name);
    assert!(passed, "{text}");
    assert!(!text.contains("machinarium-sim:"), "it came to its end: {text}");
}

/// Serves echoes for ever, each on a machine's coroutine, and writes down who has called.
fn echo(callers: &AtomicU32) -> io::Result<()> {
    machinarium::run(|| {
        let listener = TcpListener::bind("0.0.0.0:7000")?;
        loop {
            let (stream, _) = listener.accept()?;
            callers.fetch_add(1, SeqCst);
            machinarium::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    })
}

fn asks(server: &str) -> io::Result<()> {
    machinarium::run(|| {
        let stream = loop {
            match TcpStream::connect(server) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    machinarium::sleep(10.millis())?
                }
                answer => break answer?,
            }
        };
        stream.write_all(b"hello")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        assert_eq!(&answer, b"hello");
        Ok(())
    })
}

#[test]
fn hosts_find_each_other_by_name() {
    check(|world| {
        world.faults(Faults::default());
        world.cpu(Cpu::Ideal);
        let callers = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let servers = [0, 1].map(|place| {
            let callers = callers.clone();
            world.host(["first", "second"][place]).run(move || echo(&callers[place]))
        });
        assert_ne!(servers[0].address(), servers[1].address());
        let clients = ["first:7000", "second:7000", "second:7000"]
            .map(|server| world.host("client").run(move || asks(server)));
        world.heal();
        clients.iter().for_each(|client| world.join(client));
        assert!(servers.iter().all(|server| server.running() && !server.finished()));
        assert_eq!([&callers[0], &callers[1]].map(|callers| callers.load(SeqCst)), [1, 2]);
    });
}

#[test]
fn hosts_find_each_other_by_name_on_linux() {
    passes_on_linux("hosts_find_each_other_by_name");
}

/// Who calls is seen by its own address, also from a socket that was bound to none.
fn sees_its_caller(world: &World) {
    let place: Arc<OnceLock<[SocketAddr; 2]>> = Arc::default();
    let seen = place.clone();
    let server = world.host("server").run(move || {
        machinarium::run(|| {
            let (listener, socket) = (TcpListener::bind("[::]:7000")?, UdpSocket::bind("0.0.0.0:7001")?);
            let (_stream, by_tcp) = listener.accept()?;
            let (count, by_udp) = socket.recv_from(&mut [0; 16])?;
            socket.send_to(b"answer", by_udp)?;
            assert_eq!(count, 8);
            let _ = seen.set([by_tcp, by_udp]);
            io::Result::Ok(())
        })
    });
    let client = world.host("client").run(|| {
        machinarium::run(|| {
            machinarium::sleep(100.millis())?;
            let _stream = TcpStream::connect("server:7000")?;
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.send_to(b"question", "server:7001")?;
            assert_eq!(socket.recv_from(&mut [0; 16])?.0, 6);
            io::Result::Ok(())
        })
    });
    world.eventually(20.secs(), || server.finished() && client.finished());
    let addresses = place.get().unwrap().map(|address| address.ip().to_canonical());
    assert_eq!(addresses[1], client.address());
    assert!(addresses[0] == client.address() || addresses[0] == client.address6());
}

#[test]
fn callers_have_addresses_of_their_own() {
    // Datagrams may be lost where there are faults.
    Check::new().seeds(20).run(sees_its_caller);
}

#[test]
fn callers_have_addresses_of_their_own_on_linux() {
    passes_on_linux("callers_have_addresses_of_their_own");
}

/// Files, Unix sockets and ports of two hosts do not meet.
#[test]
fn hosts_have_things_of_their_own() {
    check(|world| {
        let hosts = ["one", "two"].map(|name| {
            world.host(name).run(move || {
                machinarium::run(|| {
                    let file = File::options().write(true).read(true).create_new(true).open("/file")?;
                    file.write_all_at(name.as_bytes(), 0)?;
                    let listener = UnixListener::bind("/socket")?;
                    let _port = TcpListener::bind("127.0.0.1:7000")?;
                    let client =
                        machinarium::machine::spawn("client", || UnixStream::connect("/socket").map(drop))?;
                    listener.accept()?;
                    client.join().unwrap()?;
                    let _caller = TcpStream::connect("localhost:7000")?;
                    let mut text = [0; 3];
                    file.read_exact_at(&mut text, 0)?;
                    assert_eq!(text, name.as_bytes());
                    machinarium::blocking(|| ()).unwrap();
                    io::Result::Ok(())
                })
            })
        });
        world.eventually(20.secs(), || hosts.iter().all(|host| host.finished()));
    });
}

#[test]
fn hosts_have_things_of_their_own_on_linux() {
    passes_on_linux("hosts_have_things_of_their_own");
}

/// Time is real: a world of an hour would not end here.
#[test]
fn time_passes() {
    check(|world| {
        let host = world
            .host("sleeper")
            .run(|| machinarium::run(|| Ok::<_, io::Error>(machinarium::sleep(300.millis())?)));
        let real = std::env::var_os("MACHINARIUM_BACKEND").is_some();
        #[allow(clippy::disallowed_types)] // whether it is real is the question
        let begin = std::time::Instant::now();
        world.sleep(200.millis());
        assert!(host.running());
        world.eventually(10.secs(), || host.finished());
        assert!(world.now() >= 300.millis());
        assert!(!real || begin.elapsed() >= 300.millis());
    });
}

#[test]
fn time_passes_on_linux() {
    passes_on_linux("time_passes");
}

#[test]
fn cuts_a_link() {
    check(|world| {
        let callers = Arc::new(AtomicU32::new(0));
        let counted = callers.clone();
        let server = world.host("server").run(move || echo(&counted));
        let client = world.host("client").run(|| asks("server:7000"));
        world.join(&client);
        assert_eq!(callers.load(SeqCst), 1);
        world.partition(&server, &client);
        assert!(std::env::var_os("MACHINARIUM_BACKEND").is_none(), "nobody comes here on Linux");
    });
}

#[test]
fn what_is_only_simulated_ends_the_script_with_a_note() {
    let (passed, text) = on_linux("cuts_a_link");
    assert!(passed, "{text}");
    let note = "machinarium-sim: cuts_a_link: World::partition is only simulated, so on real Linux";
    assert!(text.contains(note), "{text}");
    assert!(!text.contains("have not ended"), "the server, which never ends, was told to: {text}");
}

#[test]
#[ignore = "fails: started by the test below"]
fn fails_on_a_host() {
    check(|world| {
        let lenient =
            world.host("lenient").may_fail().run(|| io::Result::<()>::Err(io::ErrorKind::Other.into()));
        world.join(&lenient);
        let host = world.host("server").run(|| asks("no-such-host.invalid:1"));
        world.sleep(3600.secs());
        assert!(host.running());
    });
}

#[test]
#[ignore = "fails: started by the test below"]
fn panics_in_a_coroutine() {
    check(|world| {
        let host = world.host("server").run(|| {
            machinarium::run(|| {
                drop(machinarium::spawn_named("careless", || assert_eq!(1 + 1, 3)));
                Ok::<_, io::Error>(machinarium::sleep(3600.secs())?)
            })
        });
        world.join(&host);
    });
}

#[test]
#[ignore = "fails: started by the test below"]
fn waits_in_vain() {
    check(|world| world.eventually(100.millis(), || false));
}

#[test]
fn failures_are_told() {
    for (name, said) in [
        ("fails_on_a_host", "on real Linux, the main function of host server failed: "),
        ("panics_in_a_coroutine", "'careless' of host server panicked, and nobody joins it"),
        ("waits_in_vain", "not within 100ms: the condition at tests/backend/main.rs"),
    ] {
        let (passed, text) = on_linux(name);
        assert!(!passed && text.contains(said), "{said} is missing in\n{text}");
    }
}

#[test]
fn a_bubble_is_only_simulated() {
    static RUN: AtomicBool = AtomicBool::new(false);
    machinarium_sim::bubble(|| RUN.store(true, SeqCst));
    assert_eq!(RUN.load(SeqCst), std::env::var_os("MACHINARIUM_BACKEND").is_none());
    if RUN.load(SeqCst) {
        let (passed, text) = on_linux("a_bubble_is_only_simulated");
        assert!(passed && text.contains("a bubble has virtual time, so it is only simulated"), "{text}");
    }
}

#[test]
fn another_backend_is_refused() {
    let output = with_backend("time_passes", "imaginary");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("MACHINARIUM_BACKEND=imaginary makes no sense: real or simulated is wanted"),
        "{text}"
    );
}

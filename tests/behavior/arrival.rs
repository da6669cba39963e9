//! Readiness of listeners: a connection that was found is the next accept's, whoever calls it, and closed with its listener.

use std::io::{self, Read};
use std::time::Duration;

use crate::both;
use crate::tcp::loopback;
use machinarium::kernel::UnixName;
use machinarium::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use machinarium::sync::{channel, try_select};
use machinarium::{
    Builder, Tuning, WaitError, inspect, run, scope, select, sleep, spawn, timeout, yield_now,
};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

fn in_machine(body: impl FnOnce() -> io::Result<()>) {
    run(|| timeout(LONG, body)).unwrap();
}

/// An accept that need not wait: its deadline has passed, which would be noticed by who has used up his budget too.
fn accept_at_once(listener: &TcpListener) -> io::Result<TcpStream> {
    yield_now();
    timeout(Duration::ZERO, || listener.accept()).map(|(stream, _)| stream)
}

#[test]
fn a_connection_ends_the_wait_for_its_listener() {
    both(|| {
        in_machine(|| {
            let listeners = [TcpListener::bind(loopback())?, TcpListener::bind(loopback())?];
            for round in 0..4 {
                let [first, second] = &listeners;
                let nothing = timeout(SHORT, || select! { readable(first) => 0, readable(second) => 1, });
                assert!(matches!(nothing, Err(WaitError::Expired(_))));
                let address = listeners[round % 2].local_addr()?;
                let client = spawn(move || TcpStream::connect(address));
                let which = select! { readable(first) => 0, readable(second) => 1, }?;
                assert_eq!(which, round % 2);
                let server = accept_at_once(&listeners[which])?;
                let client = client.join()??;
                assert_eq!(server.peer_addr()?, client.local_addr()?);
                client.write_all(b"x")?;
                server.read_exact(&mut [0; 1])?;
            }
            Ok(())
        });
    });
}

#[test]
fn connections_of_unix_sockets_are_found_too() {
    both(|| {
        in_machine(|| {
            let name = format!("machinarium-{}-found", std::process::id());
            let listener = UnixListener::bind_addr(&UnixName::abstract_name(name.as_bytes()).unwrap())?;
            let name = listener.local_addr()?;
            assert!(timeout(SHORT, || listener.readable().wait()).is_err());
            let client = spawn(move || UnixStream::connect_addr(&name));
            listener.readable().wait()?;
            let (server, _) = timeout(Duration::ZERO, || listener.accept())?;
            client.join()??.write_all(b"x")?;
            server.read_exact(&mut [0; 1])
        });
    });
}

/// Every connection is accepted once, whether its arrival was waited for, lost against another case, or not looked at.
#[test]
fn no_connection_is_lost_or_doubled_by_looking() {
    both(|| {
        in_machine(|| {
            let listener = TcpListener::bind(loopback())?;
            let address = listener.local_addr()?;
            let (tokens, others) = channel::unbounded();
            let clients = (0..20).map(|_| TcpStream::connect(address)).collect::<io::Result<Vec<_>>>()?;
            (0..20).for_each(|number| tokens.send(number).unwrap());
            let mut accepted = Vec::new();
            let mut taken = 0;
            while accepted.len() < clients.len() {
                select! {
                    readable(listener) => accepted.push(accept_at_once(&listener)?),
                    recv(others) -> token => taken += usize::from(token.is_ok()),
                    after(LONG) => panic!("{} of {}", accepted.len(), clients.len()),
                }?;
                if accepted.len() % 3 == 2 && accepted.len() < clients.len() {
                    accepted.push(listener.accept()?.0);
                }
            }
            assert_eq!(taken + others.len(), 20);
            // In whatever order the last segments of their handshakes came.
            let mut theirs = clients.iter().map(TcpStream::local_addr).collect::<io::Result<Vec<_>>>()?;
            let mut ours = accepted.iter().map(TcpStream::peer_addr).collect::<io::Result<Vec<_>>>()?;
            theirs.sort();
            ours.sort();
            assert_eq!(theirs, ours);
            assert_eq!(try_select(&mut [&mut listener.readable()])?, None);
            Ok(())
        });
    });
}

/// It is nobody's yet, so nobody else would close it.
#[test]
fn a_connection_that_was_found_is_closed_with_its_listener() {
    both(|| {
        in_machine(|| {
            let listener = TcpListener::bind(loopback())?;
            let before = descriptors()?;
            let mut client = TcpStream::connect(listener.local_addr()?)?;
            listener.readable().wait()?;
            assert_eq!(descriptors()?, before + 2, "the client, and what was found");
            drop(listener);
            let ended = client.read(&mut [0; 1]);
            assert!(matches!(&ended, Ok(0)) || ended.is_err(), "{ended:?}");
            assert_eq!(descriptors()?, before, "the client alone");
            Ok(())
        });
    });
}

/// As the machine shows it at the end of its turn.
fn descriptors() -> io::Result<u64> {
    sleep(SHORT)?;
    Ok(inspect::statistics()?[0].descriptors)
}

/// One that outlives its machine, as what the machine's main closure has returned does.
#[test]
fn a_connection_that_was_found_is_closed_after_its_machine() {
    both(|| {
        let result: io::Result<(TcpListener, TcpStream)> = run(|| {
            let listener = TcpListener::bind(loopback())?;
            let client = TcpStream::connect(listener.local_addr()?)?;
            listener.readable().wait()?;
            Ok((listener, client))
        });
        let (listener, client) = result.unwrap();
        assert!(listener.accept().is_err(), "its machine has ended");
        assert!(listener.readable().wait().is_ok(), "which accept says, without waiting");
        drop((listener, client));
    });
}

#[test]
fn who_accepts_comes_before_who_watches() {
    both(|| {
        in_machine(|| {
            let listener = TcpListener::bind(loopback())?;
            let address = listener.local_addr()?;
            scope(|scope| {
                let accepts = scope.spawn(|| listener.accept());
                yield_now();
                let watches = scope.spawn(|| listener.readable().wait());
                yield_now();
                let first = TcpStream::connect(address)?;
                assert_eq!(accepts.join()??.1, first.local_addr()?);
                sleep(SHORT)?;
                assert!(!watches.is_finished(), "nothing is left for it");
                let second = TcpStream::connect(address)?;
                watches.join()??;
                assert_eq!(listener.accept()?.1, second.local_addr()?);
                Ok(())
            })
        });
    });
}

/// All who watch are told; what one of them has taken is no other's.
#[test]
fn two_watch_one_listener() {
    both(|| {
        in_machine(|| {
            let listener = TcpListener::bind(loopback())?;
            let address = listener.local_addr()?;
            scope(|scope| {
                let serve = || {
                    for _ in 0..5 {
                        listener.readable().wait()?;
                        listener.accept()?;
                    }
                    io::Result::Ok(())
                };
                let servers = [scope.spawn(serve), scope.spawn(serve)];
                let clients = (0..10).map(|_| TcpStream::connect(address)).collect::<io::Result<Vec<_>>>()?;
                for server in servers {
                    server.join()??;
                }
                drop(clients);
                Ok(())
            })
        });
    });
}

/// Whatever the moment at which a wait ends is, the connection is accepted.
#[test]
fn an_arrival_meets_deadlines_and_cancellations() {
    both(|| {
        in_machine(|| {
            let listener = TcpListener::bind(loopback())?;
            let address = listener.local_addr()?;
            for micros in [0, 10, 20, 30, 40, 60, 100] {
                let patience = Duration::from_micros(micros);
                let client = spawn(move || TcpStream::connect(address));
                let waited = timeout(patience, || listener.readable().wait());
                assert!(matches!(waited, Ok(()) | Err(WaitError::Expired(_))), "{waited:?}");
                let accepted = listener.accept()?.1;
                assert_eq!(client.join()??.local_addr()?, accepted);

                let client = spawn(move || TcpStream::connect(address));
                scope(|scope| {
                    let watches = scope.spawn(|| listener.readable().wait());
                    sleep(patience)?;
                    scope.cancel("enough");
                    let watched = watches.join()?;
                    assert!(matches!(watched, Ok(()) | Err(WaitError::Cancelled(_))), "{watched:?}");
                    io::Result::Ok(())
                })?;
                let accepted = listener.accept()?.1;
                assert_eq!(client.join()??.local_addr()?, accepted);
            }
            Ok(())
        });
    });
}

/// A look that may make one call alone comes back for the rest.
#[test]
fn a_short_look_finds_as_much() {
    both(|| {
        let tuning = Tuning { look: 1, ..Tuning::default() };
        let result: io::Result<()> = Builder::new().tuning(tuning).run(|| {
            let listener = TcpListener::bind(loopback())?;
            let address = listener.local_addr()?;
            let client = spawn(move || TcpStream::connect(address));
            timeout(LONG, || listener.readable().wait())?;
            accept_at_once(&listener)?;
            client.join()?.map(drop)
        });
        result.unwrap();
    });
}

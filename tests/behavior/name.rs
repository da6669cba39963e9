//! Names: what needs no name server, and is the same everywhere. What needs one is in `tests/simulator/resolver.rs`.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use crate::{both, on_some};
use machinarium::net::{
    ConnectError, Family, Lookup, LookupError, LookupFailure, TcpListener, TcpStream, ToSocketAddrs,
    UdpSocket, lookup,
};
use machinarium::{Builder, Tuning, cancelled, machine, run, spawn, timeout};

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

/// A port of the loopback on which nobody listens.
fn nobody() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

#[test]
fn this_host_and_addresses_are_found() {
    both(|| {
        in_a_machine(|| {
            let found = lookup("LocalHost", 7)?;
            assert!(!found.is_empty());
            assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 7));
            let again = machine::spawn("other", || lookup("localhost", 8))?.join()??;
            assert!(again.iter().all(|address| address.ip().is_loopback() && address.port() == 8));
            let four = Lookup::of("localhost").family(Family::Inet).addresses(7)?;
            assert_eq!(four, ["127.0.0.1:7".parse().unwrap()]);
            // In a form that only getaddrinfo knows.
            assert_eq!(lookup("127.1", 7)?, four);
            assert_eq!(lookup("::1", 7)?, ["[::1]:7".parse().unwrap()]);
            let other = Lookup::of("::1").family(Family::Inet).addresses(7).unwrap_err();
            assert_eq!(other.failure(), &LookupFailure::NoAddress);
            Ok(())
        });
    });
}

#[test]
fn what_is_no_name_is_told_with_the_name() {
    // The real name server may take seconds to say that it does not know, or cannot.
    on_some(50, 5, |_| {
        in_a_machine(|| {
            let no = "there-is-no-such-name.invalid";
            let error = timeout(Duration::from_secs(30), || lookup(no, 1)).unwrap_err();
            assert_eq!(error.host(), no);
            let told = matches!(error.failure(), LookupFailure::NoSuchName | LookupFailure::TryAgain);
            assert!(told, "{error}");
            let text = error.to_string();
            assert!(text.contains(no), "{text}");
            if error.failure() == &LookupFailure::NoSuchName {
                let error = TcpStream::connect((no, 1)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NotFound);
                assert_eq!(error.downcast::<LookupError>().unwrap().host(), no);
            }
            for host in ["", "a\0b"] {
                assert_eq!(lookup(host, 1).unwrap_err().failure(), &LookupFailure::NotAName);
            }
            Ok(())
        });
    });
}

#[test]
fn a_lookup_outside_of_a_machine_and_of_a_cancelled_coroutine_fails() {
    both(|| {
        let error = lookup("localhost", 1).unwrap_err();
        assert!(io::Error::from(error).to_string().contains("no machine"));
        assert_eq!(lookup("127.0.0.1", 1).unwrap(), ["127.0.0.1:1".parse().unwrap()]);
        in_a_machine(|| {
            lookup("localhost", 1)?;
            let asker = spawn(|| lookup("localhost", 1));
            asker.cancel("on purpose")?;
            let error = io::Error::from(asker.join()?.unwrap_err());
            assert_eq!(cancelled(&error).unwrap().cause(), "on purpose");
            Ok(())
        });
    });
}

#[test]
fn sockets_take_whatever_says_an_address() {
    both(|| {
        in_a_machine(|| {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            let port = address.port();
            fn connects(listener: &TcpListener, to: impl ToSocketAddrs) -> io::Result<()> {
                let stream = TcpStream::connect(to)?;
                let (accepted, peer) = listener.accept()?;
                assert_eq!((accepted.local_addr()?, peer), (stream.peer_addr()?, stream.local_addr()?));
                Ok(())
            }
            connects(&listener, address)?;
            let borrowed = &address;
            connects(&listener, borrowed)?;
            connects(&listener, (address.ip(), port))?;
            connects(&listener, ([127, 0, 0, 1], port))?;
            connects(&listener, ("127.0.0.1", port))?;
            connects(&listener, ("localhost", port))?;
            connects(&listener, format!("localhost:{port}"))?;
            connects(&listener, &*format!("127.0.0.1:{port}"))?;
            connects(&listener, &[nobody()?, address][..])?;
            let socket = UdpSocket::bind(("localhost", 0))?;
            let to = socket.local_addr()?;
            assert_eq!(socket.send_to(b"to itself", to.to_string())?, 9);
            socket.connect(&[to][..])?;
            assert_eq!(socket.recv(&mut [0; 16])?, 9);
            let error = TcpStream::connect(&[][..]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            Ok(())
        });
    });
}

#[test]
fn the_errors_of_all_addresses_are_told() {
    both(|| {
        in_a_machine(|| {
            let addresses = [nobody()?, nobody()?, nobody()?];
            let error = TcpStream::connect(&addresses[..]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            let inner = error.downcast::<ConnectError>().unwrap();
            assert!(inner.attempts().iter().map(|attempt| attempt.0).eq(addresses), "{inner}");
            let alone = TcpStream::connect(&addresses[..1]).unwrap_err();
            assert!(alone.raw_os_error().is_some(), "of one address it is the system's own");
            let taken = TcpListener::bind("127.0.0.1:0")?;
            let free = TcpListener::bind(&[taken.local_addr()?, addresses[0]][..])?;
            assert_eq!(free.local_addr()?, addresses[0]);
            let error = TcpListener::bind(&[taken.local_addr()?; 2][..]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            Ok(())
        });
    });
}

/// Without a delay all addresses are tried at once, and those that lose are closed.
#[test]
fn all_at_once_one_wins() {
    both(|| {
        let at_once = Tuning { connect_delay: Duration::ZERO, ..Tuning::default() };
        let result: io::Result<()> = Builder::new().tuning(at_once).run(|| {
            let (left, right) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
            let addresses = [left.local_addr()?, right.local_addr()?, nobody()?];
            for _ in 0..10 {
                let stream = TcpStream::connect(&addresses[..])?;
                let winner = if stream.peer_addr()? == addresses[0] { &left } else { &right };
                let ours = stream.local_addr()?;
                let (mut theirs, mut peer) = winner.accept()?;
                // One that has lost a race may be before it, and is closed.
                while peer != ours {
                    assert!(theirs.read_exact(&mut [0]).is_err());
                    (theirs, peer) = winner.accept()?;
                }
                theirs.write_all(b"!")?;
                stream.read_exact(&mut [0])?;
            }
            Ok(())
        });
        result.unwrap();
    });
}

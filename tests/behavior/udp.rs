//! UDP sockets: datagrams whole, to whom they are sent, and errors that are told.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::both;
use machinarium::net::UdpSocket;
use machinarium::{machine, run, spawn, timeout, yield_now};

const SHORT: Duration = Duration::from_millis(1);

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

#[test]
fn datagrams_come_whole_and_say_who_sent_them() {
    both(|| {
        in_a_machine(|| {
            let (server, client) = (UdpSocket::bind(any_port())?, UdpSocket::bind(any_port())?);
            let address = server.local_addr()?;
            let mut buffer = [0; 64];
            for length in [0, 1, 40] {
                let datagram = vec![length as u8; length];
                assert_eq!(client.send_to(&datagram, address)?, length);
                assert_eq!(server.peek_from(&mut buffer)?, (length, client.local_addr()?));
                assert_eq!(server.recv_from(&mut buffer)?, (length, client.local_addr()?));
                assert_eq!(&buffer[..length], datagram);
            }
            client.send_to(&[7; 40], address)?;
            client.send_to(&[8; 4], address)?;
            let mut small = [0; 8];
            let first = server.recv_from(&mut small)?.0;
            let second = server.recv_from(&mut small)?.0;
            let mut counts = [first, second];
            counts.sort_unstable();
            assert_eq!(counts, [4, 8], "what does not fit is lost, and the next datagram is another");
            Ok(())
        });
    });
}

#[test]
fn a_connected_socket_hears_its_peer_alone() {
    both(|| {
        in_a_machine(|| {
            let sockets = [any_port(); 3].map(|address| UdpSocket::bind(address).unwrap());
            let [ours, peer, stranger] = sockets;
            ours.connect(peer.local_addr()?)?;
            assert_eq!(ours.peer_addr()?, peer.local_addr()?);
            assert_eq!(peer.peer_addr().unwrap_err().kind(), io::ErrorKind::NotConnected);
            stranger.send_to(b"no", ours.local_addr()?)?;
            peer.send_to(b"yes", ours.local_addr()?)?;
            let mut buffer = [0; 8];
            assert_eq!(ours.recv(&mut buffer)?, 3);
            assert_eq!(ours.send(b"back")?, 4);
            assert_eq!(peer.recv(&mut buffer)?, 4);
            Ok(())
        });
    });
}

#[test]
fn a_peer_that_is_not_there_is_an_error_of_a_connected_socket() {
    both(|| {
        in_a_machine(|| {
            let ours = UdpSocket::bind(any_port())?;
            let gone = UdpSocket::bind(any_port())?.local_addr()?;
            ours.connect(gone)?;
            ours.send(b"anybody?")?;
            let error = timeout(Duration::from_secs(5), || ours.recv(&mut [0; 8])).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            Ok(())
        });
    });
}

#[test]
fn a_receive_gives_up_and_takes_nothing() {
    both(|| {
        in_a_machine(|| {
            let (ours, theirs) = (UdpSocket::bind(any_port())?, UdpSocket::bind(any_port())?);
            let address = ours.local_addr()?;
            ours.set_read_timeout(Some(SHORT))?;
            assert_eq!(ours.recv(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::TimedOut);
            ours.set_read_timeout(None)?;
            let reader = spawn(move || {
                let error = ours.recv(&mut [0; 8]).unwrap_err();
                assert!(machinarium::cancelled(&error).is_some());
                machinarium::shield(|| ours.recv(&mut [0; 8]))
            });
            yield_now();
            reader.cancel("enough")?;
            theirs.send_to(b"later", address)?;
            assert_eq!(reader.join()??, 5);
            Ok(())
        });
    });
}

#[test]
fn two_machines_exchange_datagrams() {
    both(|| {
        in_a_machine(|| {
            let ours = UdpSocket::bind(any_port())?;
            let address = ours.local_addr()?;
            let there = machine::spawn("there", move || -> io::Result<usize> {
                let socket = UdpSocket::bind(any_port())?;
                socket.send_to(b"question", address)?;
                socket.recv(&mut [0; 16])
            })?;
            let mut buffer = [0; 16];
            let (count, from) = ours.recv_from(&mut buffer)?;
            assert_eq!(&buffer[..count], b"question");
            ours.send_to(b"answer", from)?;
            assert_eq!(there.join()??, 6);
            Ok(())
        });
    });
}

#[test]
fn what_is_too_long_is_refused() {
    both(|| {
        in_a_machine(|| {
            let ours = UdpSocket::bind(any_port())?;
            let error = ours.send_to(&vec![0; 70_000], ours.local_addr()?).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(machinarium::kernel::Errno::MSGSIZE.raw()));
            Ok(())
        });
    });
}

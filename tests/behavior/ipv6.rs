//! IPv6, and sockets that serve both families: a listener or a socket of datagrams on `::` is there for IPv4 too, unless it was told
//! not to be.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::time::Duration;

use crate::both;
use crate::tls::{client, in_machine, server};
use machinarium::net::{TcpListener, TcpStream, UdpSocket};
use machinarium::{spawn, timeout};

const LOCAL: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// An address as an IPv6 socket shows it.
fn in_v6(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
        ip => ip,
    }
}

#[test]
fn a_connection_over_ipv6() {
    both(|| {
        in_machine(|| {
            let listener = TcpListener::bind("[::1]:0")?;
            let address = listener.local_addr()?;
            assert_eq!(address.ip(), LOCAL[1]);
            let serve = spawn(move || {
                let (stream, peer) = listener.accept()?;
                assert_eq!((peer, stream.local_addr()?), (stream.peer_addr()?, address));
                io::copy(&mut &stream, &mut &stream)?;
                stream.shutdown(Shutdown::Write)?;
                io::Result::Ok(peer)
            });
            let mut stream = TcpStream::connect(address)?;
            let (own, peer) = (stream.local_addr()?, stream.peer_addr()?);
            stream.write_all(b"over six")?;
            stream.shutdown(Shutdown::Write)?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            assert_eq!((text.as_str(), peer, serve.join()??), ("over six", address, own));
            Ok(())
        });
    });
}

#[test]
fn a_listener_on_all_addresses_hears_both_families() {
    both(|| {
        in_machine(|| {
            let listener = TcpListener::bind("[::]:0")?;
            let port = listener.local_addr()?.port();
            for ip in LOCAL {
                let stream = TcpStream::connect((ip, port))?;
                let (accepted, peer) = listener.accept()?;
                assert_eq!(peer, SocketAddr::new(in_v6(ip), stream.local_addr()?.port()));
                assert_eq!(accepted.local_addr()?.ip(), in_v6(ip));
                assert_eq!(stream.peer_addr()?, SocketAddr::new(ip, port));
            }
            Ok(())
        });
    });
}

#[test]
fn a_listener_may_be_for_one_family_only() {
    both(|| {
        in_machine(|| {
            let strict = TcpListener::builder().v6_only(true).bind("[::]:0")?;
            let port = strict.local_addr()?.port();
            let refused = TcpStream::connect((LOCAL[0], port)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            // So another may have the port for the other family.
            let other = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
            for (ip, listener) in LOCAL.into_iter().zip([&other, &strict]) {
                let stream = TcpStream::connect((ip, port))?;
                assert_eq!(listener.accept()?.1, stream.local_addr()?);
            }
            let taken =
                TcpListener::builder().v6_only(false).bind((Ipv6Addr::UNSPECIFIED, port)).unwrap_err();
            assert_eq!(taken.kind(), ErrorKind::AddrInUse);
            Ok(())
        });
    });
}

#[test]
fn datagrams_of_both_families_come_to_one_socket() {
    both(|| {
        in_machine(|| {
            let all = UdpSocket::bind("[::]:0")?;
            let port = all.local_addr()?.port();
            for ip in LOCAL {
                let one = UdpSocket::bind((ip, 0))?;
                let own = one.local_addr()?.port();
                one.send_to(b"from one", (ip, port))?;
                let mut buffer = [0; 20];
                let (count, from) = all.recv_from(&mut buffer)?;
                assert_eq!((&buffer[..count], from), (&b"from one"[..], SocketAddr::new(in_v6(ip), own)));
                // The address that was shown is one to answer to.
                all.send_to(b"to one", from)?;
                let (count, from) = one.recv_from(&mut buffer)?;
                assert_eq!((&buffer[..count], from), (&b"to one"[..], SocketAddr::new(ip, port)));
            }
            let wrong = UdpSocket::bind((LOCAL[0], 0))?.send_to(b"x", (LOCAL[1], port)).unwrap_err();
            assert_eq!(wrong.raw_os_error(), Some(97), "{wrong:?}");
            Ok(())
        });
    });
}

#[test]
fn tls_over_ipv6_to_a_listener_of_both_families() {
    both(|| {
        in_machine(|| {
            let (client, server) = (client().build()?, server().build()?);
            let listener = TcpListener::bind("[::]:0")?;
            let port = listener.local_addr()?.port();
            let serve = spawn(move || -> io::Result<()> {
                for _ in LOCAL {
                    server.accept(listener.accept()?.0)?.close()?;
                }
                Ok(())
            });
            for ip in LOCAL {
                let stream = client.connect(TcpStream::connect((ip, port))?, "localhost")?;
                let end = timeout(Duration::from_secs(5), || (&stream).read(&mut [0; 1]))?;
                assert_eq!((end, stream.get_ref().peer_addr()?.ip()), (0, ip));
            }
            serve.join()?
        });
    });
}

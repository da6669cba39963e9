//! TLS with peers that do not play by the rules, or play by the strangest of them: errors that say whose fault it is, and never
//! a panic, a hang, or memory that is held for them.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use crate::both;
use crate::tcp::pair;
use crate::tls::{client, in_machine, server, tls_error, tls_pair, with_tls};
use crate::tls_bytes::{pass_on, with_relay};
use machinarium::net::TcpStream;
use machinarium::tls::rustls::{self, AlertDescription};
use machinarium::tls::{Error, Fault, ServerConfig};
use machinarium::{Builder, Tuning, scope, sleep, spawn, timeout};

const GARBAGE: [&[u8]; 6] = [
    b"GET / HTTP/1.0\r\n\r\n",
    &[0; 100],
    &[0xff; 100],
    // A record of no type; one that is too long; a hello that is none.
    &[99, 3, 3, 0, 1, 0],
    &[22, 3, 3, 0xff, 0xff, 0, 0, 0, 0, 0],
    &[22, 3, 1, 0, 8, 1, 0, 0, 4, 1, 2, 3, 4],
];

#[test]
fn garbage_instead_of_a_handshake_is_the_peers_fault() {
    both(|| {
        in_machine(|| {
            let (client, server) = (client().build()?, server().build()?);
            for garbage in GARBAGE {
                let (peer, end) = pair()?;
                peer.write_all(garbage)?;
                let error = tls_error(server.accept(end));
                assert_eq!(error.fault(), Fault::Peer, "{garbage:?}: {error}");
                let mut alert = Vec::new();
                // The alert comes, unless the reset that follows unread bytes was faster.
                let _ = { &peer }.read_to_end(&mut alert);
                assert!(alert.first().is_none_or(|kind| *kind == 21), "{alert:?}");

                let (peer, end) = pair()?;
                peer.write_all(garbage)?;
                let error = tls_error(client.connect(end, "localhost"));
                assert_eq!(error.fault(), Fault::Peer, "{garbage:?}: {error}");
            }
            Ok(())
        });
    });
}

#[test]
fn garbage_after_the_handshake_ends_reads_and_writes() {
    both(|| {
        with_tls(|client, server| {
            server.write_all(b"good")?;
            // Below TLS, where nobody should write.
            { server.get_ref() }.write_all(&[23, 3, 3, 0, 40].repeat(20))?;
            let mut got = [0; 4];
            client.read_exact(&mut got)?;
            assert_eq!(&got, b"good", "what came before is good");
            for _ in 0..2 {
                let error = tls_error((&client).read(&mut got));
                assert_eq!(error, Error::Misbehaved(rustls::Error::DecryptError));
                assert_eq!(tls_error((&client).write(b"more")), error);
            }
            assert_eq!(tls_error((&server).read(&mut got)), Error::Alert(AlertDescription::BadRecordMac));
            Ok(())
        });
    });
}

/// Who has said goodbye still reads, and garbage is still the peer's fault: to rustls it is one alert too many.
#[test]
fn garbage_after_the_end_was_said() {
    both(|| {
        with_tls(|client, server| {
            client.close_write()?;
            server.get_ref().write_all(&[23, 3, 3, 0, 40].repeat(20))?;
            let error = tls_error((&client).read(&mut [0; 1]));
            assert!(matches!(error, Error::Misbehaved(_)), "{error}");
            Ok(())
        });
    });
}

/// Passes bytes on one by one, each in a segment of its own.
fn one_by_one(mut from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    to.set_nodelay(true)?;
    let mut bytes = [0; 4096];
    loop {
        let count = from.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        for byte in &bytes[..count] {
            to.write_all(&[*byte])?;
            sleep(Duration::from_micros(10))?;
        }
    }
}

/// A server that cuts its handshake, and its tickets, into records as small as rustls makes them: 32 bytes.
fn in_fragments() -> ServerConfig {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let shown = &crate::certificates::PEM.localhost;
    let chain = vec![CertificateDer::from_pem_slice(shown.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(machinarium::tls::provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .unwrap();
    config.max_fragment_size = Some(32);
    ServerConfig::from(Arc::new(config))
}

#[test]
fn bytes_that_come_one_by_one_are_as_good_as_others() {
    crate::on_some(10, 5, |_| {
        for server in [server().build().unwrap(), in_fragments()] {
            with_relay(client().build().unwrap(), server, one_by_one, one_by_one, |client, server| {
                client.write_all(b"question")?;
                let mut got = [0; 8];
                server.read_exact(&mut got)?;
                server.write_all(b"answered")?;
                client.read_exact(&mut got)?;
                assert_eq!(&got, b"answered");
                server.close_write()?;
                assert_eq!((&client).read(&mut got)?, 0);
                Ok(())
            });
        }
    });
}

/// While a ticket comes in fragments, byte by byte, the client writes: rustls remembers where in the buffer the fragments are,
/// and panics when it is given another.
#[test]
fn a_writer_between_the_fragments_of_a_ticket() {
    crate::on_some(10, 5, |_| {
        with_relay(client().build().unwrap(), in_fragments(), pass_on, one_by_one, |client, server| {
            scope(|scope| {
                let reader = scope.spawn(|| client.read_exact(&mut [0; 4]));
                for _ in 0..200 {
                    client.write_all(b"x").unwrap();
                    sleep(Duration::from_micros(15)).unwrap();
                }
                server.read_exact(&mut [0; 200]).unwrap();
                server.write_all(b"done").unwrap();
                reader.join().unwrap().unwrap();
            });
            Ok(())
        });
    });
}

/// The same with a reader that gives up again and again, so that the fragments lie in the buffer between calls.
#[test]
fn a_reader_that_gives_up_between_the_fragments_of_a_ticket() {
    crate::on_some(10, 5, |_| {
        with_relay(client().build().unwrap(), in_fragments(), pass_on, one_by_one, |client, server| {
            server.write_all(b"done")?;
            let mut got = [0; 4];
            let mut patience = 1;
            while timeout(Duration::from_micros(patience), || client.read_exact(&mut got)).is_err() {
                client.write_all(b"x")?;
                patience += 20;
            }
            assert_eq!(&got, b"done");
            Ok(())
        });
    });
}

/// Cut anywhere, the bytes of a handshake are an end and no panic, at either end.
#[test]
fn a_handshake_that_is_cut_at_any_byte() {
    crate::on_some(3, 2, |_| {
        for cut in (0..1200).step_by(37) {
            in_machine(|| {
                let (client_end, left) = pair()?;
                let (right, server_end) = pair()?;
                let (client, server) = (client().build()?, server().build()?);
                let relay = spawn(move || {
                    scope(|scope| {
                        let to_client = scope.spawn(|| {
                            let mut taken = { &right }.take(cut);
                            let _ = io::copy(&mut taken, &mut &left);
                            let _ = left.shutdown(Shutdown::Write);
                        });
                        let _ = io::copy(&mut &left, &mut &right);
                        let _ = right.shutdown(Shutdown::Write);
                        let _ = to_client.join();
                    });
                });
                // The server leaves at once.
                let accepted = spawn(move || server.accept(server_end).map(drop));
                let connected = client.connect(client_end, "localhost");
                if let Ok(stream) = &connected {
                    let error = { stream }.read(&mut [0; 1]).unwrap_err();
                    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
                } else {
                    assert_eq!(connected.as_ref().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
                }
                drop(connected);
                let _ = accepted.join()?;
                relay.join()?;
                Ok(())
            });
        }
    });
}

/// Every bit of a record that is changed on its way is noticed.
#[test]
fn a_record_that_was_changed_is_not_read() {
    crate::on_some(10, 5, |_| {
        for place in [0, 1, 3, 5, 9, 30] {
            with_relay(
                client().build().unwrap(),
                server().build().unwrap(),
                pass_on,
                move |mut from, to| {
                    let mut bytes = [0; 4096];
                    loop {
                        let count = from.read(&mut bytes)?;
                        if CHANGE.with(std::cell::Cell::get) && count > place {
                            bytes[place] ^= 0x40;
                        }
                        if count == 0 {
                            return to.shutdown(Shutdown::Write);
                        }
                        to.write_all(&bytes[..count])?;
                    }
                },
                move |client, server| {
                    // Once this has arrived, so have the tickets.
                    server.write_all(b"good")?;
                    client.read_exact(&mut [0; 4])?;
                    CHANGE.with(|change| change.set(true));
                    server.write_all(&[7; 64])?;
                    server.close_write()?;
                    let error = (&client).read(&mut [0; 64]).unwrap_err();
                    assert!(Error::of(&error).is_some(), "{place}: {error}");
                    Ok(())
                },
            );
        }
    });
}

machinarium::machine_local! {
    static CHANGE: std::cell::Cell<bool> = std::cell::Cell::new(false);
}

/// A client that connects again and again and leaves in the middle holds nothing and stops nobody.
#[test]
fn clients_that_leave_in_the_middle() {
    both(|| {
        in_machine(|| {
            let config = server().build()?;
            for size in [0, 1, 5, 6, 60] {
                let (peer, end) = pair()?;
                peer.write_all(
                    &[22, 3, 1, 0, 200].iter().copied().chain([1; 100]).take(size).collect::<Vec<_>>(),
                )?;
                drop(peer);
                config.accept(end).unwrap_err();
            }
            tls_pair(&client().build()?, &config)?;
            Ok(())
        });
    });
}

/// What has come and was not read is thrown away at the end, so that it does not reset the connection; but not for as long as more
/// of it comes.
#[test]
fn a_peer_that_goes_on_sending_does_not_put_off_the_end() {
    both(|| {
        let tuning = Tuning { look: 1, ..Tuning::default() };
        let result: io::Result<()> = Builder::new().tuning(tuning).run(|| {
            let (client, server) = tls_pair(&client().build()?, &server().build()?)?;
            let peer = client.get_ref();
            scope(|scope| {
                let writer = scope.spawn(|| peer.write_all(&[23; 128 << 10]));
                sleep(Duration::from_millis(50))?;
                server.close()?;
                sleep(Duration::from_millis(50))?;
                // After an end without a reset, the first write would still go out.
                let reset = peer.write_all(b"more").is_err();
                assert!(writer.join()?.is_err() || reset, "more was read than one look reads");
                Ok(())
            })
        });
        result.unwrap();
    });
}

//! The relay with TLS on one side or both: ends and truncations go through as what they are, new keys in the middle change nothing,
//! and what was encrypted when it gives up is sent.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use crate::certificates::PEM;
use crate::relay::{Ends, carry, in_machine, text, tls};
use crate::tcp::pair;
use crate::tls::{client, server, tls_error, tls_pair};
use crate::{both, on_some};
use machinarium::net::{Duplex, Relay, RelayError, Relayed, Side, Step, TcpStream, UnixStream, relay};
use machinarium::tls::rustls::{self, ProtocolVersion};
use machinarium::tls::{self, During, Error, TlsStream};
use machinarium::{sleep, spawn, timeout};

const SHORT: Duration = Duration::from_millis(20);
const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3];

fn tls_of(version: ProtocolVersion) -> io::Result<(TlsStream, TlsStream)> {
    tls_pair(&client().versions(&[version]).build()?, &server().build()?)
}

/// On a Unix socket, whose buffers are small on both kernels.
fn tls_on_unix() -> io::Result<(TlsStream<UnixStream>, TlsStream<UnixStream>)> {
    let (client_end, server_end) = UnixStream::pair()?;
    let server = server().build()?;
    let accepted = spawn(move || server.accept(server_end));
    let client = client().build()?.connect(client_end, "localhost")?;
    Ok((client, accepted.join()??))
}

#[test]
fn all_goes_both_ways_at_once_between_full_buffers() {
    on_some(10, 4, |_| {
        in_machine(|| {
            carry(tls_on_unix()?, UnixStream::pair()?, 700_000, 64 << 10)?;
            carry(UnixStream::pair()?, tls_on_unix()?, 700_000, 1000)?;
            carry(tls_on_unix()?, tls_on_unix()?, 700_000, 20_000)
        });
    });
}

/// One end after the other, with an answer between: nobody takes the first for more than it is.
fn half_close<A: Ends + 'static, B: Ends + 'static>(
    (ours, a): (A, A),
    (b, theirs): (B, B),
) -> io::Result<()> {
    let relayed = spawn(move || relay(&a, &b));
    ours.send(b"question")?;
    ours.end()?;
    assert_eq!(theirs.receive_all()?, b"question");
    sleep(SHORT)?;
    assert!(!relayed.is_finished());
    theirs.send(b"the answer")?;
    theirs.end()?;
    assert_eq!(ours.receive_all()?, b"the answer");
    let Relayed { a_to_b, b_to_a } = relayed.join()??;
    assert_eq!((a_to_b.written, a_to_b.ended, b_to_a.written, b_to_a.ended), (8, true, 10, true));
    Ok(())
}

#[test]
fn the_end_of_one_side_is_said_as_the_other_side_says_it() {
    both(|| {
        in_machine(|| {
            for version in VERSIONS {
                half_close(tls_of(version)?, pair()?)?;
                half_close(pair()?, tls_of(version)?)?;
                half_close(tls_of(version)?, tls()?)?;
            }
            Ok(())
        });
    });
}

/// A client that has its answer and goes does not wait for the server's goodbye, and resets what comes later.
#[test]
fn who_has_ended_and_gone_need_not_hear_of_the_end() {
    both(|| {
        in_machine(|| {
            for (version, swapped) in VERSIONS.map(|version| (version, version == VERSIONS[0])) {
                let ((ours, a), (b, theirs)) = (tls_of(version)?, pair()?);
                let relayed = spawn(move || if swapped { relay(&b, &a) } else { relay(&a, &b) });
                ours.write_all(b"question")?;
                theirs.read_exact(&mut [0; 8])?;
                theirs.write_all(b"answer")?;
                ours.read_exact(&mut [0; 6])?;
                ours.close()?;
                assert!(theirs.receive_all()?.is_empty());
                drop(theirs);
                let Relayed { a_to_b, b_to_a } = relayed.join()??;
                assert!(a_to_b.ended && b_to_a.ended);
                assert_eq!(a_to_b.written + b_to_a.written, 14);
            }
            Ok(())
        });
    });
}

#[test]
fn an_end_without_goodbye_is_none_on_the_other_side() {
    both(|| {
        in_machine(|| {
            for side in [Side::A, Side::B] {
                let ((ours, a), (b, theirs)) = (tls()?, tls()?);
                let relayed = spawn(move || (relay(&a, &b), a, b));
                let (cut, stays) = if side == Side::A { (ours, theirs) } else { (theirs, ours) };
                cut.write_all(b"all but the end")?;
                cut.get_ref().shutdown(Shutdown::Write)?;
                let (result, a, b) = relayed.join()?;
                let error = result.unwrap_err();
                assert_eq!(error.step, Step::Read(side));
                assert_eq!(Error::of(&error.source), Some(&Error::Truncated(During::Data)));
                let mut got = [0; 15];
                stays.read_exact(&mut got)?;
                assert_eq!(&got, b"all but the end");
                drop((a, b));
                // A ticket that nobody has read makes it a reset.
                let end = (&stays).read(&mut got).unwrap_err();
                assert!(matches!(end.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{end}");
            }
            Ok(())
        });
    });
}

/// A server that has heard enough answers, and goes with part of the question unread: whoever asks gets the answer all the same.
#[test]
fn an_answer_before_a_reset_arrives() {
    fn ask(ours: &impl Ends, a: &impl Duplex, readahead: usize) -> io::Result<()> {
        let (b, theirs) = pair()?;
        b.set_readahead(readahead);
        theirs.set_readahead(0);
        b.write_all(&[1; 100])?;
        assert_eq!((&theirs).read(&mut [0; 1])?, 1);
        theirs.write_all(b"enough")?;
        ours.send(&[2; 100])?;
        sleep(SHORT)?;
        drop(theirs);
        sleep(SHORT)?;
        let RelayError { step, moved, source } = relay(a, &b).unwrap_err();
        assert!(matches!(step, Step::Read(Side::B) | Step::Write(Side::B)), "{step:?}: {source}");
        assert_eq!((moved.b_to_a.written, moved.b_to_a.ended), (6, false));
        Ok(())
    }
    both(|| {
        in_machine(|| {
            for readahead in [0, 1000] {
                let mut got = [0; 6];
                let (ours, a) = pair()?;
                ask(&ours, &a, readahead)?;
                ours.read_exact(&mut got)?;
                assert_eq!(&got, b"enough");
                let (ours, a) = tls()?;
                ask(&ours, &a, readahead)?;
                ours.read_exact(&mut got)?;
                assert_eq!(&got, b"enough");
            }
            Ok(())
        });
    });
}

/// A side breaks off with nonsense while the other has something for it: what it had said before arrives.
#[test]
fn what_came_before_garbage_is_passed_on() {
    both(|| {
        in_machine(|| {
            let ((ours, a), (b, theirs)) = (tls()?, pair()?);
            ours.write_all(&[7; 5000])?;
            ours.get_ref().write_all(b"\x17\x03\x03\x00\x20 this was never encrypted by us. ")?;
            theirs.write_all(b"something for it")?;
            sleep(SHORT)?;
            let RelayError { step, source, .. } = Relay::new().high_water(100).run(&a, &b).unwrap_err();
            assert!(matches!(step, Step::Read(Side::A) | Step::Write(Side::A)), "{step:?}");
            assert!(matches!(Error::of(&source), Some(Error::Misbehaved(_))), "{source:?}");
            let mut got = [0; 5000];
            timeout(Duration::from_secs(5), || theirs.read_exact(&mut got))?;
            assert_eq!(got, [7; 5000]);
            // And it is told what was wrong.
            let told = (&ours).read_to_end(&mut Vec::new());
            assert_eq!(tls_error(told), Error::Alert(rustls::AlertDescription::BadRecordMac));
            Ok(())
        });
    });
}

/// What it has counted as written arrives, although part of that was only encrypted when it gave up: the machine sends it.
#[test]
fn what_was_encrypted_when_it_gives_up_is_sent() {
    on_some(20, 5, |_| {
        in_machine(|| {
            for cancelled in [false, true] {
                let ((ours, a), (b, theirs)) = (UnixStream::pair()?, tls_on_unix()?);
                let relayed = spawn(move || (timeout(SHORT, || relay(&a, &b)), a, b));
                let sent = text(2 << 20, 3);
                let stuck = timeout(SHORT / 2, || ours.write_all(&sent)).unwrap_err();
                assert_eq!(stuck.source.kind(), ErrorKind::TimedOut);
                if cancelled {
                    relayed.cancel("enough")?;
                }
                let (result, _a, b) = relayed.join()?;
                let RelayError { step, moved, .. } = result.unwrap_err();
                assert_eq!(step, Step::Call);
                let mut got = vec![0; moved.a_to_b.written as usize];
                assert!(got.len() > 10_000, "{moved:?}");
                timeout(Duration::from_secs(20), || theirs.read_exact(&mut got))?;
                assert!(got == sent[..got.len()]);
                let nothing = timeout(SHORT, || theirs.peek(&mut got)).unwrap_err();
                assert_eq!(nothing.kind(), ErrorKind::TimedOut);
                // The stream goes on.
                b.write_all(b"more")?;
                theirs.read_exact(&mut got[..4])?;
                assert_eq!(&got[..4], b"more");
            }
            Ok(())
        });
    });
}

/// rustls' own client, which can ask for new keys at any time.
fn own_client() -> rustls::ClientConnection {
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(PEM.root.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    rustls::ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
}

#[test]
fn new_keys_in_the_middle_change_nothing() {
    on_some(20, 5, |_| {
        in_machine(|| {
            let ((client_end, server_end), (b, theirs)) = (pair()?, UnixStream::pair()?);
            let server = server().build()?;
            let relayed = spawn(move || -> io::Result<Relayed> {
                let a: TlsStream<TcpStream> = server.accept(server_end)?;
                Ok(Relay::new().high_water(7000).run(&a, &b)?)
            });
            let sent = text(400_000, 9);
            let sink = spawn(move || {
                let mut got = vec![0; 400_000];
                theirs.read_exact(&mut got)?;
                theirs.write_all(&got)?;
                let rest = theirs.receive_all()?;
                theirs.shutdown(Shutdown::Write)?;
                Ok::<_, io::Error>(rest)
            });
            let mut connection = own_client();
            let mut socket = &client_end;
            let mut ours = rustls::Stream::new(&mut connection, &mut socket);
            for part in sent.chunks(9000) {
                ours.write_all(part)?;
                ours.conn.refresh_traffic_keys().unwrap();
            }
            let mut got = vec![0; 400_000];
            for part in got.chunks_mut(50_000) {
                ours.read_exact(part)?;
                ours.conn.refresh_traffic_keys().unwrap();
                ours.flush()?;
            }
            assert!(got == sent);
            ours.write_all(b"the last")?;
            ours.conn.send_close_notify();
            ours.flush()?;
            assert_eq!(sink.join()??, b"the last");
            assert_eq!(ours.read(&mut got)?, 0, "it says goodbye");
            let moved = relayed.join()??;
            assert_eq!((moved.a_to_b.written, moved.b_to_a.written), (400_008, 400_000));
            Ok(())
        });
    });
}

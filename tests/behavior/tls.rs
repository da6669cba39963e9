//! TLS: how two ends come to agree, or do not, and what each is told of the other.

use std::io::{self, Read};
use std::time::Duration;

use crate::both;
use crate::certificates::PEM;
use crate::tcp::pair;
use machinarium::tls::rustls::{self, AlertDescription, CertificateError, HandshakeKind, ProtocolVersion};
use machinarium::tls::{
    ClientAuth, ClientBuilder, ClientConfig, Error, Fault, ServerBuilder, ServerConfig, TlsStream, Verify,
};
use machinarium::{run, scope, sleep, spawn};

/// A client that trusts the root.
pub(crate) fn client() -> ClientBuilder {
    ClientConfig::builder().ca_pem(PEM.root.as_str())
}

/// A server that is localhost.
pub(crate) fn server() -> ServerBuilder {
    let pair = &PEM.localhost;
    ServerConfig::builder().certificate_pem(pair.certificate.as_str(), pair.key.as_str())
}

/// What each end makes of a handshake.
pub(crate) fn shake(
    client: &ClientConfig,
    server: &ServerConfig,
    name: &str,
) -> io::Result<(io::Result<TlsStream>, io::Result<TlsStream>)> {
    let (client_end, server_end) = pair()?;
    let server = server.clone();
    let accepted = spawn(move || server.accept(server_end));
    Ok((client.connect(client_end, name), accepted.join()?))
}

/// Both ends of a TLS connection.
pub(crate) fn tls_pair(client: &ClientConfig, server: &ServerConfig) -> io::Result<(TlsStream, TlsStream)> {
    let (client, server) = shake(client, server, "localhost")?;
    Ok((client?, server?))
}

/// Runs `body` with both ends of a TLS connection: `client`, then `server`.
pub(crate) fn with_tls(body: impl FnOnce(TlsStream, TlsStream) -> io::Result<()>) {
    in_machine(|| {
        let (client, server) = tls_pair(&client().build()?, &server().build()?)?;
        body(client, server)
    });
}

pub(crate) fn in_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

/// The TLS error of a call that has failed by one.
#[track_caller]
pub(crate) fn tls_error<T>(result: io::Result<T>) -> Error {
    let error = result.err().expect("an error");
    Error::of(&error).unwrap_or_else(|| panic!("an error of TLS, not {error:?}")).clone()
}

fn read_all(mut stream: &TlsStream) -> io::Result<String> {
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn echo() {
    both(|| {
        with_tls(|mut client, server| {
            spawn(move || {
                io::copy(&mut &server, &mut &server).unwrap();
                server.close()
            });
            for round in 0..100u32 {
                client.write_all(&round.to_le_bytes())?;
                let mut answer = [0; 4];
                client.read_exact(&mut answer)?;
                assert_eq!(u32::from_le_bytes(answer), round);
            }
            client.close_write()?;
            assert_eq!(client.read(&mut [0; 1])?, 0);
            Ok(())
        });
    });
}

#[test]
fn both_ends_know_what_was_agreed_on() {
    both(|| {
        in_machine(|| {
            let client_config = client().alpn(["h2", "http/1.1"]).build()?;
            let server_config = server().alpn(["http/1.1"]).build()?;
            let (client, server) = tls_pair(&client_config, &server_config)?;
            for end in [&client, &server] {
                assert_eq!(end.alpn().unwrap(), b"http/1.1");
                assert_eq!(end.protocol_version(), ProtocolVersion::TLSv1_3);
                assert_eq!(end.handshake_kind(), HandshakeKind::Full);
            }
            assert_eq!(client.cipher_suite(), server.cipher_suite());
            assert_eq!((server.server_name(), client.server_name()), (Some("localhost"), None));
            assert_eq!((client.peer_certificates().len(), server.peer_certificates().len()), (1, 0));
            assert_eq!(client.get_ref().peer_addr()?, server.get_ref().local_addr()?);
            Ok(())
        });
    });
}

#[test]
fn each_version_works_and_no_other_is_taken() {
    both(|| {
        in_machine(|| {
            for version in [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3] {
                let (client, server) = tls_pair(&client().build()?, &server().versions(&[version]).build()?)?;
                assert_eq!(client.protocol_version(), version);
                server.write_all(b"text")?;
                server.close()?;
                assert_eq!(read_all(&client)?, "text");
            }
            let old = client().versions(&[ProtocolVersion::TLSv1_2]).build()?;
            let new = server().versions(&[ProtocolVersion::TLSv1_3]).build()?;
            let (client, server) = shake(&old, &new, "localhost")?;
            assert_eq!(tls_error(client), Error::Alert(AlertDescription::ProtocolVersion));
            let error = tls_error(server);
            assert!(matches!(error, Error::Incompatible(_)), "{error:?}");
            assert_eq!(error.fault(), Fault::Either);
            Ok(())
        });
    });
}

/// A certificate that is not accepted: the client says why, and the server hears it.
fn refused(
    client: ClientBuilder,
    server: &ServerBuilder,
    name: &str,
    expected: impl Fn(&CertificateError) -> bool,
    alert: AlertDescription,
) -> io::Result<()> {
    let (client, server) = shake(&client.build()?, &server.clone().build()?, name)?;
    let error = tls_error(client);
    assert!(matches!(&error, Error::Certificate(why) if expected(why)), "{error:?}");
    assert_eq!(error.fault(), Fault::Peer);
    let error = tls_error(server);
    assert_eq!((error.fault(), &error), (Fault::Local, &Error::Alert(alert)), "{error}");
    Ok(())
}

#[test]
fn a_certificate_that_is_not_believed_ends_the_handshake_and_both_know_why() {
    both(|| {
        in_machine(|| {
            use CertificateError as Why;
            let show = |pair: &crate::certificates::Pair| {
                ServerConfig::builder().certificate_pem(pair.certificate.as_str(), pair.key.as_str())
            };
            let unknown = |why: &Why| *why == Why::UnknownIssuer;
            refused(client(), &show(&PEM.stranger), "localhost", unknown, AlertDescription::UnknownCA)?;
            let wrong = |why: &Why| matches!(why, Why::NotValidForNameContext { .. });
            refused(client(), &show(&PEM.other), "localhost", wrong, AlertDescription::BadCertificate)?;
            let late = |why: &Why| matches!(why, Why::ExpiredContext { .. });
            refused(client(), &show(&PEM.expired), "localhost", late, AlertDescription::CertificateExpired)?;
            // Who asks for less than the name still wants a root and a date.
            let chain = || client().verify(Verify::Chain);
            refused(chain(), &show(&PEM.stranger), "localhost", unknown, AlertDescription::UnknownCA)?;
            refused(chain(), &show(&PEM.expired), "localhost", late, AlertDescription::CertificateExpired)
        });
    });
}

#[test]
fn who_asks_for_less_gets_it() {
    both(|| {
        in_machine(|| {
            let other = &PEM.other;
            let server =
                ServerConfig::builder().certificate_pem(other.certificate.as_str(), other.key.as_str());
            tls_pair(&client().verify(Verify::Chain).build()?, &server.build()?)?;
            for pair in [&PEM.stranger, &PEM.expired] {
                let server =
                    ServerConfig::builder().certificate_pem(pair.certificate.as_str(), pair.key.as_str());
                tls_pair(&ClientConfig::builder().verify(Verify::Nothing).build()?, &server.build()?)?;
            }
            Ok(())
        });
    });
}

#[test]
fn a_name_may_be_an_address_and_nonsense_is_refused() {
    both(|| {
        in_machine(|| {
            let (client, server) = shake(&client().build()?, &server().build()?, "127.0.0.1")?;
            assert_eq!((client.is_ok(), server?.server_name()), (true, None));
            let (stream, _other) = pair()?;
            let error = crate::tls::client().build()?.connect(stream, "not a name").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            Ok(())
        });
    });
}

#[test]
fn a_server_shows_the_certificate_that_is_asked_for() {
    both(|| {
        in_machine(|| {
            let other = &PEM.other;
            let config = server()
                .certificate_pem_for("Other.Example", other.certificate.as_str(), other.key.as_str())
                .build()?;
            let mut hashes = Vec::new();
            for name in ["localhost", "other.example"] {
                let (client, server) = shake(&client().build()?, &config, name)?;
                let (client, server) = (client?, server?);
                assert_eq!(server.server_name(), Some(name));
                hashes.push(client.peer_certificates());
            }
            assert_ne!(hashes[0], hashes[1]);
            Ok(())
        });
    });
}

#[test]
fn nothing_in_common_above_tls() {
    both(|| {
        in_machine(|| {
            let (client, server) =
                shake(&client().alpn(["h2"]).build()?, &server().alpn(["smtp"]).build()?, "localhost")?;
            assert_eq!(tls_error(client), Error::Alert(AlertDescription::NoApplicationProtocol));
            assert_eq!(tls_error(server), Error::Incompatible(rustls::Error::NoApplicationProtocol));
            Ok(())
        });
    });
}

#[test]
fn a_client_shows_its_certificate() {
    both(|| {
        in_machine(|| {
            let own = &PEM.client;
            let shows = client().certificate_pem(own.certificate.as_str(), own.key.as_str()).build()?;
            for asks in [ClientAuth::Optional, ClientAuth::Required] {
                let server = server().ca_pem(PEM.root.as_str()).client_auth(asks).build()?;
                let (_client, server) = tls_pair(&shows, &server)?;
                assert_eq!(server.peer_certificates().len(), 1);
            }
            let (_client, server) = tls_pair(&shows, &server().build()?)?;
            assert_eq!(server.peer_certificates().len(), 0, "nobody has asked");
            Ok(())
        });
    });
}

#[test]
fn a_client_without_the_certificate_that_is_wanted_is_refused() {
    both(|| {
        in_machine(|| {
            let asks =
                |auth| server().ca_pem(PEM.root.as_str()).client_auth(auth).build().map_err(io::Error::from);
            tls_pair(&client().build()?, &asks(ClientAuth::Optional)?)?;
            let stranger = &PEM.stranger;
            let shows =
                client().certificate_pem(stranger.certificate.as_str(), stranger.key.as_str()).build()?;
            for (client, expected, alert) in [
                (client().build()?, Error::NoCertificate, AlertDescription::CertificateRequired),
                (shows, Error::Certificate(CertificateError::UnknownIssuer), AlertDescription::UnknownCA),
            ] {
                let (client, server) = shake(&client, &asks(ClientAuth::Required)?, "localhost")?;
                assert_eq!(tls_error(server), expected);
                // The client had done its part by then: it hears of it when it reads.
                assert_eq!(tls_error((&client?).read(&mut [0; 1])), Error::Alert(alert));
            }
            Ok(())
        });
    });
}

#[test]
fn a_second_connection_is_resumed_unless_that_is_not_wanted() {
    both(|| {
        in_machine(|| {
            for (resumption, expected) in [(true, HandshakeKind::Resumed), (false, HandshakeKind::Full)] {
                let (client_config, server_config) =
                    (client().build()?, server().resumption(resumption).build()?);
                let (client, server) = tls_pair(&client_config, &server_config)?;
                server.close()?;
                assert_eq!(read_all(&client)?, "", "tickets are read with the end");
                let (client, server) = tls_pair(&client_config, &server_config)?;
                assert_eq!((client.handshake_kind(), server.handshake_kind()), (expected, expected));
                assert_eq!(server.server_name(), Some("localhost"));
            }
            Ok(())
        });
    });
}

/// What a SCRAM login binds itself to is the same at both ends, and is the hash of the certificate.
#[test]
fn both_ends_have_the_same_end_point() {
    both(|| {
        in_machine(|| {
            let (client, server) = tls_pair(&client().build()?, &server().build()?)?;
            // Ed25519 has no hash of its own, so there is none to agree on; `end_point` has the others.
            assert_eq!((client.server_end_point(), server.server_end_point()), (None, None));
            Ok(())
        });
    });
}

#[test]
fn tls_begins_in_the_middle_of_a_connection() {
    both(|| {
        in_machine(|| {
            let (client_end, server_end) = pair()?;
            let (client_config, server_config) = (client().build()?, server().build()?);
            let serve = spawn(move || {
                let mut command = Vec::new();
                server_end.read_until(b'\n', &mut command)?;
                assert_eq!(command, b"STARTTLS\n");
                server_end.write_all(b"go on\n")?;
                let stream = server_config.accept(server_end)?;
                stream.write_all(b"secret")?;
                stream.close()
            });
            // The client does not wait for leave: its hello is read together with its command.
            client_end.write_all(b"STARTTLS\n")?;
            let mut answer = Vec::new();
            client_end.read_until(b'\n', &mut answer)?;
            let stream = client_config.connect(client_end, "localhost")?;
            assert_eq!(read_all(&stream)?, "secret");
            serve.join()?
        });
    });
}

/// Bytes of TLS that came with the last plain ones are not lost.
#[test]
fn a_hello_that_was_read_with_what_came_before_it_is_used() {
    both(|| {
        in_machine(|| {
            let (client_end, server_end) = pair()?;
            let (client_config, server_config) = (client().build()?, server().build()?);
            client_end.write_all(b"STARTTLS\n")?;
            let connect = spawn(move || client_config.connect(client_end, "localhost"));
            // Meanwhile the machine reads ahead, and the line is then read together with the hello.
            while server_end.buffered() < 100 {
                sleep(Duration::from_millis(1))?;
            }
            server_end.read_until(b'\n', &mut Vec::new())?;
            let stream = server_config.accept(server_end)?;
            let client = connect.join()??;
            client.write_all(b"x")?;
            assert_eq!((&stream).read(&mut [0; 9])?, 1);
            Ok(())
        });
    });
}

#[test]
fn rustls_own_configurations_are_taken_as_they_are() {
    both(|| {
        in_machine(|| {
            use rustls::pki_types::pem::PemObject;
            use rustls::pki_types::{CertificateDer, PrivateKeyDer};
            let provider = machinarium::tls::provider();
            let chain = vec![CertificateDer::from_pem_slice(PEM.localhost.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(PEM.localhost.key.as_bytes()).unwrap();
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
                .unwrap();
            let config = ServerConfig::from(std::sync::Arc::new(config));
            let (client, server) = tls_pair(&client().build()?, &config)?;
            assert_eq!(server.server_name(), Some("localhost"));
            assert_eq!(client.peer_certificates().len(), 1);
            assert!(config.reload().is_err());
            Ok(())
        });
    });
}

#[test]
fn many_handshakes_at_once() {
    both(|| {
        in_machine(|| {
            let (client_config, server_config) = (client().build()?, server().build()?);
            scope(|scope| {
                for round in 0..10u8 {
                    let (client_config, server_config) = (&client_config, &server_config);
                    scope.spawn(move || {
                        let (client, server) = tls_pair(client_config, server_config).unwrap();
                        server.write_all(&[round]).unwrap();
                        let mut byte = [0];
                        client.read_exact(&mut byte).unwrap();
                        assert_eq!(byte, [round]);
                    });
                }
            });
            Ok(())
        });
    });
}

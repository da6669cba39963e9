//! TLS in a world: the same bytes for the same seed, others for another; and what the seed does not determine is reported.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use machinarium::net::{TcpListener, TcpStream};
use machinarium::tls::rustls::{self, ProtocolVersion};
use machinarium::tls::{ClientConfig, ServerConfig, TlsStream, Verify};
use machinarium::{machine, scope, sleep, spawn, timeout};
use machinarium_sim::{Cpu, Durations, FailureKind, Faults, Outcome, Simulation};

use crate::certificates::PEM;

const PORT: u16 = 7000;

fn address() -> SocketAddr {
    SocketAddr::from(([198, 18, 0, 1], PORT))
}

fn server_config() -> io::Result<ServerConfig> {
    let pair = &PEM.localhost;
    Ok(ServerConfig::builder().certificate_pem(pair.certificate.as_str(), pair.key.as_str()).build()?)
}

/// Serves for ever, each connection on the other of two machines: it is accepted here, and moves after its handshake.
fn server() -> io::Result<()> {
    machinarium::run(|| {
        let config = server_config()?;
        let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT)))?;
        let worker = machine::spawn("worker", || sleep(Duration::from_secs(3600)))?;
        loop {
            let (tcp, _) = listener.accept()?;
            let (config, remote) = (config.clone(), worker.remote());
            spawn(move || {
                let stream = timeout(Duration::from_secs(10), || config.accept(tcp))?;
                let detached = stream.detach()?;
                remote
                    .spawn(move || {
                        let stream = detached.attach()?;
                        io::copy(&mut &stream, &mut &stream)?;
                        stream.close()
                    })
                    .map_err(io::Error::from)?;
                io::Result::Ok(())
            });
        }
    })
}

fn client(size: usize, versions: &[ProtocolVersion]) -> io::Result<()> {
    machinarium::run(|| {
        let config = ClientConfig::builder().ca_pem(PEM.root.as_str()).versions(versions).build()?;
        for round in 0..3 {
            while let Err(error) = talk(&config, size, round) {
                assert_ne!(error.kind(), io::ErrorKind::InvalidData, "{error}");
                sleep(Duration::from_millis(50))?;
            }
        }
        Ok(())
    })
}

fn talk(config: &ClientConfig, size: usize, round: usize) -> io::Result<()> {
    timeout(Duration::from_secs(20), || {
        let stream = config.connect(TcpStream::connect(address())?, "localhost")?;
        exchange(&stream, size + round)
    })
}

/// Sends while it reads the same back.
fn exchange(stream: &TlsStream, size: usize) -> io::Result<()> {
    let sent: Vec<u8> = (0..=250).cycle().take(size).collect();
    scope(|scope| {
        let writer = scope.spawn(|| {
            stream.write_all(&sent)?;
            stream.close_write()
        });
        let mut got = Vec::new();
        let result = { stream }.read_to_end(&mut got);
        writer.join()??;
        result?;
        assert!(got == sent, "{} bytes of {size}", got.len());
        Ok(())
    })
}

fn run(simulation: &Simulation, size: usize, versions: &'static [ProtocolVersion]) -> Outcome {
    simulation.run(move |world| {
        let _server = world.host("server").run(server);
        let client = world.host("client").run(move || client(size, versions));
        world.eventually(300.secs(), || client.finished());
    })
}

#[test]
fn a_seed_repeats_and_another_differs() {
    for versions in [&[ProtocolVersion::TLSv1_3][..], &[ProtocolVersion::TLSv1_2]] {
        let digests = || -> Vec<u64> {
            let outcomes = (1..15).map(|seed| {
                let simulation =
                    Simulation::new(seed).faults(Faults::swarm()).cpu(Cpu::Loaded).keep_events(40);
                run(&simulation, 3000, versions)
            });
            outcomes
                .map(|outcome| {
                    assert!(outcome.passed(), "{}", outcome.report(""));
                    outcome.digest
                })
                .collect()
        };
        let first = digests();
        assert_eq!(first, digests());
        let mut distinct = first.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), first.len());
    }
}

/// The bytes themselves: what a relay of its own sees of a connection.
fn wire(seed: u64) -> Vec<u8> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let outcome = Simulation::new(seed).run(move |world| {
        let host = world.host("server").run(move || {
            let sender = sender.clone();
            machinarium::run(move || {
                let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], PORT)))?;
                let there = listener.local_addr()?;
                let client = spawn(move || {
                    let config = ClientConfig::builder().ca_pem(PEM.root.as_str()).build()?;
                    let stream = config.connect(TcpStream::connect(there)?, "localhost")?;
                    stream.write_all(b"secret")?;
                    stream.close_write()?;
                    io::copy(&mut &stream, &mut io::sink())
                });
                let (left, _) = listener.accept()?;
                let inner = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
                let right = TcpStream::connect(inner.local_addr()?)?;
                let (end, _) = inner.accept()?;
                let config = server_config()?;
                let server = spawn(move || {
                    let stream = config.accept(end)?;
                    io::copy(&mut &stream, &mut io::sink())?;
                    stream.close()
                });
                let copy = |mut from: &TcpStream, to: &TcpStream| -> io::Result<Vec<u8>> {
                    let mut all = Vec::new();
                    let mut part = [0; 4096];
                    loop {
                        let count = from.read(&mut part)?;
                        if count == 0 {
                            to.shutdown(std::net::Shutdown::Write)?;
                            return Ok(all);
                        }
                        all.extend_from_slice(&part[..count]);
                        to.write_all(&part[..count])?;
                    }
                };
                let bytes = scope(|scope| {
                    let back = scope.spawn(|| copy(&right, &left));
                    let mut bytes = copy(&left, &right)?;
                    bytes.extend(back.join()??);
                    io::Result::Ok(bytes)
                })?;
                client.join()??;
                server.join()??;
                sender.send(bytes).unwrap();
                io::Result::Ok(())
            })
        });
        world.eventually(60.secs(), || host.finished());
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    receiver.try_recv().unwrap()
}

#[test]
fn the_bytes_on_the_wire_are_the_seeds() {
    let bytes = wire(1);
    assert!(bytes.len() > 1000 && !bytes.windows(6).any(|part| part == b"secret"));
    assert_eq!(bytes, wire(1));
    assert_ne!(bytes, wire(2));
}

/// A provider that draws from elsewhere is found when it is to be used.
#[test]
fn a_configuration_from_outside_is_reported() {
    let foreign =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
    let foreign = ClientConfig::from(Arc::new(foreign));
    // Built outside of any process: stock as well.
    let outside = ClientConfig::builder().verify(Verify::Nothing).build().unwrap();
    for config in [foreign, outside] {
        let outcome = Simulation::new(1).run(move |world| {
            let _server = world.host("server").run(server);
            let config = config.clone();
            let client = world.host("client").run(move || {
                machinarium::run(|| config.connect(TcpStream::connect(address())?, "localhost").map(drop))
            });
            world.eventually(60.secs(), || client.finished());
        });
        let failure = outcome.failure.expect("a failure");
        assert_eq!((failure.kind, failure.host.as_str()), (FailureKind::Undetermined, "client"));
        assert!(failure.message.contains("a client's configuration"), "{}", failure.message);
    }
}

/// A key whose signatures need chance is refused, and says what to use.
#[test]
fn a_key_whose_signatures_do_not_repeat_is_refused() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    let build =
        move || ServerConfig::builder().certificate_pem(certificate.as_str(), key.as_str()).build().map(drop);
    build().unwrap();
    let outcome = Simulation::new(1).run(move |world| {
        let build = build.clone();
        let host = world.host("host").run(move || {
            let error = build().unwrap_err().to_string();
            assert!(error.contains("Ed25519"), "{error}");
        });
        world.join(&host);
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
}

/// What was made in a world is of no use outside of it.
#[test]
fn a_seeded_configuration_does_not_work_outside() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let outcome = Simulation::new(1).run(move |world| {
        let host = world.host("host").run(move || {
            sender.send(ClientConfig::builder().verify(Verify::Nothing).build().unwrap()).unwrap();
        });
        world.join(&host);
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
    let config = receiver.try_recv().unwrap();
    let result: io::Result<()> = machinarium::run(|| {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let error = config.connect(TcpStream::connect(listener.local_addr()?)?, "localhost").unwrap_err();
        assert!(error.to_string().contains("random"), "{error}");
        Ok(())
    });
    result.unwrap();
}

//! TLS from machine to machine, and configurations that change while they are used.

use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::both;
use crate::certificates::{PEM, Pair};
use crate::tcp::pair;
use crate::tls::{client, in_machine, server, shake, tls_pair, with_tls};
use machinarium::tls::{ClientAuth, ClientConfig, DetachedTlsStream, Problem, ServerConfig, TlsStream};
use machinarium::{Misuse, machine, run, sleep, spawn, timeout};

/// Has `body` use the stream on another machine, and gives back what it answers.
fn elsewhere<T: Send + 'static>(
    stream: TlsStream,
    body: impl FnOnce(&TlsStream) -> io::Result<T> + Send + 'static,
) -> io::Result<(DetachedTlsStream, T)> {
    let detached = stream.detach()?;
    let there = machine::spawn("there", move || {
        let stream = detached.attach()?;
        let value = body(&stream)?;
        Ok::<_, io::Error>((stream.detach()?, value))
    })?;
    there.join().map_err(io::Error::from)?
}

#[test]
fn a_stream_goes_on_on_another_machine() {
    both(|| {
        with_tls(|client, server| {
            // Read by no one yet, some of it decrypted.
            server.write_all(b"one two ")?;
            let mut word = [0; 4];
            client.read_exact(&mut word)?;
            assert_eq!(&word, b"one ");
            let (detached, ()) = elsewhere(client, |stream| {
                let mut word = [0; 4];
                stream.read_exact(&mut word)?;
                assert_eq!(&word, b"two ");
                Ok(stream.write_all(b"from there ")?)
            })?;
            let client = detached.attach()?;
            client.write_all(b"and back")?;
            client.close()?;
            let mut text = String::new();
            (&server).read_to_string(&mut text)?;
            assert_eq!(text, "from there and back");
            Ok(())
        });
    });
}

/// With part of a record in its buffer, and with ciphertext that the system has not taken.
#[test]
fn a_stream_moves_with_all_that_is_on_its_way() {
    both(|| {
        with_tls(|client, server| {
            server.get_ref().set_write_timeout(Some(Duration::from_millis(20)))?;
            let block: Vec<u8> = (0..=250).cycle().take(251 << 10).collect();
            let mut sent = 0;
            while server
                .write_all(&block)
                .map(|()| sent += block.len())
                .map_err(|full| sent += full.written)
                .is_ok()
            {}
            let (server, ()) = elsewhere(server, |stream| stream.get_ref().set_write_timeout(None))?;
            let server = server.attach()?;
            // Part of what has come is read here, the rest there.
            let mut first = vec![0; 1000];
            client.read_exact(&mut first)?;
            let rest = sent - first.len();
            let (detached, rest) = elsewhere(client, move |stream| {
                let mut bytes = vec![0; rest];
                stream.read_exact(&mut bytes)?;
                Ok(bytes)
            })?;
            let all = [first, rest].concat();
            assert!(all.iter().zip(block.iter().cycle()).all(|(got, sent)| got == sent), "{sent} bytes");
            drop(server);
            detached.attach()?;
            Ok(())
        });
    });
}

#[test]
fn the_wrong_machine_is_an_error_and_no_machine_gives_the_stream_back() {
    fn misuse(error: &dyn Error) -> Option<&Misuse> {
        error.source()?.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
    }
    both(|| {
        let mut detached = None;
        let result: io::Result<()> = run(|| {
            let (client, _server) = tls_pair(&client().build()?, &server().build()?)?;
            detached = Some((client.detach()?, pair()?.0.detach()?));
            Ok(())
        });
        result.unwrap();
        let (tls, plain) = detached.unwrap();
        let (tls, plain) = (tls.attach().unwrap_err(), plain.attach().unwrap_err());
        assert_eq!(misuse(&tls), Some(&Misuse::NoMachine));
        assert_eq!(misuse(&plain), Some(&Misuse::NoMachine));
        drop((tls.stream, plain.stream));
    });
}

/// One configuration serves several machines.
#[test]
fn a_configuration_is_used_on_every_machine() {
    both(|| {
        in_machine(|| {
            let (client, server) = (client().build()?, server().build()?);
            let machines: Vec<_> = (0..3)
                .map(|_| {
                    let (client, server) = (client.clone(), server.clone());
                    machine::spawn("worker", move || {
                        let (client, server) = tls_pair(&client, &server)?;
                        server.write_all(b"x")?;
                        client.read_exact(&mut [0; 1])
                    })
                })
                .collect::<io::Result<_>>()?;
            machines.into_iter().try_for_each(|machine| machine.join().map_err(io::Error::from)?)
        });
    });
}

/// A folder that goes away with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("machinarium-tls-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn put_pair(&self, pair: &Pair) -> (PathBuf, PathBuf) {
        (self.put("certificate.pem", &pair.certificate), self.put("key.pem", &pair.key))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn new_certificates_are_loaded_without_a_restart() {
    both(|| {
        let folder = Folder::new("reload");
        in_machine(|| {
            let (certificate, key) = folder.put_pair(&PEM.expired);
            let server = ServerConfig::builder().certificate_files(&certificate, &key).build()?;
            let roots = folder.put("root.pem", &PEM.root);
            let client = ClientConfig::builder().ca_file(&roots).build()?;
            let clone = server.clone();
            let old = tls_pair(
                &ClientConfig::builder().verify(machinarium::tls::Verify::Nothing).build()?,
                &server,
            )?;
            shake(&client, &clone, "localhost")?.0.unwrap_err();

            // What cannot be loaded changes nothing.
            folder.put("key.pem", "no key");
            let error = server.reload().unwrap_err();
            assert_eq!(
                (error.file(), error.to_string().contains("no private key")),
                (Some(key.as_path()), true)
            );
            shake(&client, &clone, "localhost")?.0.unwrap_err();

            folder.put_pair(&PEM.localhost);
            server.reload()?;
            tls_pair(&client, &clone)?;
            client.reload()?;
            tls_pair(&client, &clone)?;
            old.1.write_all(b"the old connection goes on")?;
            old.0.read_exact(&mut [0; 26])
        });
    });
}

#[test]
fn what_is_wrong_with_a_configuration_is_said_with_the_file() {
    let folder = Folder::new("errors");
    let (certificate, key) = folder.put_pair(&PEM.localhost);
    let other_key = folder.put("other.pem", &PEM.other.key);
    let empty = folder.put("empty.pem", "");
    let broken = folder.put("broken.pem", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n");
    let nonsense = folder.put(
        "nonsense.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    );
    let missing = folder.0.join("missing.pem");
    type Is = fn(&Problem) -> bool;
    let pairs: [(&PathBuf, &PathBuf, &PathBuf, Is); 7] = [
        (&missing, &key, &missing, |problem| matches!(problem, Problem::Unreadable(_))),
        (&certificate, &missing, &missing, |problem| matches!(problem, Problem::Unreadable(_))),
        (&empty, &key, &empty, |problem| matches!(problem, Problem::NoCertificate)),
        (&certificate, &empty, &empty, |problem| matches!(problem, Problem::NoKey)),
        (&broken, &key, &broken, |problem| matches!(problem, Problem::NotPem(_))),
        (&certificate, &nonsense, &nonsense, |problem| matches!(problem, Problem::BadKey(_))),
        (&certificate, &other_key, &other_key, |problem| matches!(problem, Problem::OtherKey)),
    ];
    for (certificate, key, culprit, is) in pairs {
        let error = ServerConfig::builder().certificate_files(certificate, key).build().unwrap_err();
        assert_eq!(error.file(), Some(culprit.as_path()), "{error}");
        assert!(is(error.problem()), "{error}");
        assert!(error.to_string().starts_with(culprit.to_str().unwrap()), "{error}");
    }
    let error = ServerConfig::builder().certificate_files(&nonsense, &key).build().unwrap_err();
    assert_eq!(error.file(), Some(nonsense.as_path()), "{error}");
    for roots in [&empty, &nonsense, &missing] {
        let error = ClientConfig::builder().ca_file(roots).build().unwrap_err();
        assert_eq!(error.file(), Some(roots.as_path()), "{error}");
    }
    let error = ClientConfig::builder().ca_dir(&missing).build().unwrap_err();
    assert_eq!(error.file(), Some(missing.as_path()), "{error}");
    assert!(matches!(ServerConfig::builder().build().unwrap_err().problem(), Problem::NothingToShow));
    let nobody = server().client_auth(ClientAuth::Required).build().unwrap_err();
    assert!(matches!(nobody.problem(), Problem::NoRoots));
    let old = machinarium::tls::rustls::ProtocolVersion::TLSv1_0;
    let error = client().versions(&[old]).build().unwrap_err();
    assert!(matches!(error.problem(), Problem::Version(version) if *version == old));
}

#[test]
fn roots_come_from_folders_too() {
    both(|| {
        let folder = Folder::new("folder");
        folder.put("a-readme.txt", "not a certificate");
        folder.put("root.pem", &PEM.root);
        in_machine(|| {
            let client = ClientConfig::builder().ca_dir(&folder.0).build()?;
            tls_pair(&client, &server().build()?)?;
            Ok(())
        });
    });
}

/// Where nobody is named, the system's roots are meant, and they have not signed for localhost.
#[test]
fn the_systems_roots_do_not_know_us() {
    in_machine(|| {
        let Ok(client) = ClientConfig::builder().build() else { return Ok(()) };
        let (client, server) = shake(&client, &server().build()?, "localhost")?;
        assert!(matches!(crate::tls::tls_error(client), machinarium::tls::Error::Certificate(_)));
        server.unwrap_err();
        Ok(())
    });
}

/// While 10 coroutines read, write and are cancelled at random times, another machine takes over and nothing is lost or doubled.
#[test]
fn writes_that_are_cancelled_are_whole_or_not_there() {
    both(|| {
        with_tls(|client, server| {
            let client = std::rc::Rc::new(client);
            let mut written = Vec::new();
            let reader = spawn(move || {
                let mut all = Vec::new();
                timeout(Duration::from_secs(60), || (&server).read_to_end(&mut all)).map(|_| all)
            });
            for round in 0..40u8 {
                let stream = client.clone();
                let writer = spawn(move || {
                    let record = vec![round; 1 + usize::from(round) * 300];
                    (&*stream).write(&record)
                });
                sleep(Duration::from_micros(u64::from(round) * 7 % 50))?;
                let _ = writer.cancel("enough");
                if let Ok(count) = writer.join()? {
                    written.resize(written.len() + count, round);
                }
            }
            client.close_write()?;
            assert!(reader.join()?? == written, "what was reported and what came are the same");
            Ok(())
        });
    });
}

#[test]
fn a_stream_cannot_be_used_on_another_machine() {
    both(|| {
        let mut kept = None;
        in_machine(|| {
            let (client, server) = tls_pair(&client().build()?, &server().build()?)?;
            kept = Some((client, server));
            Ok(())
        });
        let (client, _server) = kept.unwrap();
        in_machine(|| {
            for error in [
                (&client).read(&mut [0; 1]).unwrap_err(),
                (&client).write(b"x").unwrap_err(),
                client.close_write().unwrap_err(),
            ] {
                let misuse = error.get_ref().and_then(|inner| inner.downcast_ref::<Misuse>());
                assert_eq!(misuse, Some(&Misuse::OtherMachine));
            }
            let _ = pair()?;
            Ok(())
        });
    });
}

//! Whom TLS trusts: roots from files, folders and the system, read again while it runs; dates; what a server shows to whom; and
//! the secrets that it writes down where that was asked for.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::both;
use crate::certificates::{PEM, Pair};
use crate::child::{assert_success, in_child_with};
use crate::tls::{client, in_machine, server, shake, tls_error, tls_pair};
use crate::tls_moves::Folder;
use machinarium::tls::rustls::{AlertDescription, CertificateError, HandshakeKind, ProtocolVersion};
use machinarium::tls::{ClientAuth, ClientConfig, Error, Fault, Problem, ServerConfig, Verify};

fn shows(pair: &Pair) -> io::Result<ServerConfig> {
    let (certificate, key) = (pair.certificate.as_str(), pair.key.as_str());
    Ok(ServerConfig::builder().certificate_pem(certificate, key).build()?)
}

/// Whether each of the two roots' servers is believed.
fn believes(client: &ClientConfig) -> io::Result<[bool; 2]> {
    let mut believed = [false; 2];
    for (believed, pair) in believed.iter_mut().zip([&PEM.localhost, &PEM.stranger]) {
        let (ours, theirs) = shake(client, &shows(pair)?, "localhost")?;
        *believed = ours.is_ok();
        match ours {
            Ok(_) => drop(theirs?),
            Err(error) => {
                assert_eq!(
                    tls_error(Err::<(), _>(error)),
                    Error::Certificate(CertificateError::UnknownIssuer)
                );
                assert_eq!(tls_error(theirs), Error::Alert(AlertDescription::UnknownCA));
            }
        }
    }
    Ok(believed)
}

#[test]
fn whom_a_client_trusts_is_read_again() {
    both(|| {
        let folder = Folder::new("roots");
        in_machine(|| {
            let first = folder.put("first.pem", &PEM.root);
            let by_folder = ClientConfig::builder().ca_dir(folder.path()).build()?;
            let by_file = ClientConfig::builder().ca_file(&first).build()?;
            assert_eq!((believes(&by_folder)?, believes(&by_file)?), ([true, false], [true, false]));
            folder.put("second.pem", &PEM.other_root);
            assert_eq!(believes(&by_folder)?, [true, false], "nothing is read without being told to");
            by_folder.reload()?;
            assert_eq!(believes(&by_folder)?, [true, true]);
            fs::rename(folder.path().join("second.pem"), &first)?;
            by_folder.reload()?;
            by_file.reload()?;
            assert_eq!((believes(&by_folder)?, believes(&by_file)?), ([false, true], [false, true]));
            fs::remove_file(&first)?;
            let error = by_folder.reload().unwrap_err();
            assert!(matches!(error.problem(), Problem::NoRoots), "{error}");
            assert_eq!(by_file.reload().unwrap_err().file(), Some(first.as_path()));
            assert_eq!((believes(&by_folder)?, believes(&by_file)?), ([false, true], [false, true]));
            // Several sources are one.
            let both = ClientConfig::builder().ca_pem(PEM.root.as_str()).ca_pem(PEM.other_root.as_str());
            assert_eq!(believes(&both.build()?)?, [true, true]);
            Ok(())
        });
    });
}

/// Who is not trusted any more cannot come back with what he was given when he was.
#[test]
fn whom_a_server_trusts_is_read_again_and_a_resumption_does_not_go_round_it() {
    both(|| {
        let folder = Folder::new("clients");
        in_machine(|| {
            for version in [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3] {
                let roots = folder.put("roots.pem", &PEM.root);
                let server = server().ca_file(&roots).client_auth(ClientAuth::Required).build()?;
                let own = &PEM.client;
                let client = client().certificate_pem(own.certificate.as_str(), own.key.as_str());
                let client = client.versions(&[version]).build()?;
                for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
                    let (client, server) = tls_pair(&client, &server)?;
                    assert_eq!((client.handshake_kind(), server.peer_certificates().len()), (expected, 1));
                    // The tickets come with the byte.
                    server.write_all(b"x")?;
                    client.read_exact(&mut [0; 1])?;
                }
                folder.put("roots.pem", &PEM.other_root);
                server.reload()?;
                let (_, theirs) = shake(&client, &server, "localhost")?;
                assert_eq!(tls_error(theirs), Error::Certificate(CertificateError::UnknownIssuer));
            }
            Ok(())
        });
    });
}

#[test]
fn a_certificate_of_the_future_is_not_believed_yet() {
    both(|| {
        in_machine(|| {
            let server = shows(&PEM.future)?;
            for verify in [Verify::Strict, Verify::Chain] {
                let (ours, theirs) = shake(&client().verify(verify).build()?, &server, "localhost")?;
                let error = tls_error(ours);
                let early =
                    |why: &CertificateError| matches!(why, CertificateError::NotValidYetContext { .. });
                assert!(matches!(&error, Error::Certificate(why) if early(why)), "{error:?}");
                assert_eq!((error.fault(), tls_error(theirs).fault()), (Fault::Peer, Fault::Local));
            }
            tls_pair(&client().verify(Verify::Nothing).build()?, &server).map(drop)
        });
    });
}

/// The folder is named by a variable, as OpenSSL has it; another names a file.
#[test]
fn the_systems_roots_are_those_of_the_environment() {
    let folder = Folder::new("system");
    let (file, empty) = (folder.put("roots.pem", &PEM.root), Folder::new("system-empty"));
    let variables = [("SSL_CERT_FILE", file.as_os_str()), ("SSL_CERT_DIR", empty.path().as_os_str())];
    let name = "tls_trust::the_systems_roots_are_those_of_the_environment";
    let output = in_child_with(name, &variables, || {
        both(|| {
            in_machine(|| {
                // They are meant where nobody is named, and can be named beside others.
                assert_eq!(believes(&ClientConfig::builder().build()?)?, [true, false]);
                let more = ClientConfig::builder().system_roots().ca_pem(PEM.other_root.as_str());
                assert_eq!(believes(&more.build()?)?, [true, true]);
                let others = ClientConfig::builder().ca_pem(PEM.other_root.as_str());
                assert_eq!(believes(&others.build()?)?, [false, true]);
                Ok(())
            });
        });
    });
    assert_success(&output);
}

/// The secrets of a file, by label: how often each client's random number stands there.
fn secrets(file: &Path) -> BTreeMap<String, BTreeMap<String, usize>> {
    let mut labels: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for line in fs::read_to_string(file).unwrap().lines() {
        let [label, random, secret] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line:?}") };
        assert!((random.len(), secret.len()) >= (64, 64), "{line:?}");
        *labels.entry(label.to_owned()).or_default().entry(line.to_owned()).or_default() += 1;
    }
    labels
}

#[test]
fn the_secrets_of_connections_are_written_down_where_that_is_asked_for() {
    let folder = Folder::new("secrets");
    let file = folder.path().join("keys");
    let name = "tls_trust::the_secrets_of_connections_are_written_down_where_that_is_asked_for";
    let output = in_child_with(name, &[("SSLKEYLOGFILE", file.as_os_str())], || {
        let file = std::env::var_os("SSLKEYLOGFILE").unwrap();
        let file = Path::new(&file);
        both(|| {
            in_machine(|| tls_pair(&client().build()?, &server().build()?).map(drop));
        });
        assert!(!file.exists(), "the variable alone does nothing");
        both(|| {
            in_machine(|| {
                for version in [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3] {
                    let ours = client().versions(&[version]).key_log(true).build()?;
                    tls_pair(&ours, &server().key_log(true).build()?)?;
                }
                Ok(())
            });
        });
        let labels = secrets(file);
        let client_randoms = &labels["CLIENT_RANDOM"];
        assert_eq!(client_randoms.len(), labels["CLIENT_TRAFFIC_SECRET_0"].len());
        assert!(client_randoms.len() > 50, "{}", client_randoms.len());
        for label in ["CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0", "CLIENT_RANDOM"] {
            // Both ends have the same, and both were asked.
            assert!(labels[label].values().all(|times| *times >= 2), "{label}");
        }
    });
    assert_success(&output);
}

#[test]
fn a_name_that_no_certificate_is_for_ends_the_handshake_and_both_know_why() {
    both(|| {
        in_machine(|| {
            let other = &PEM.other;
            let config = ServerConfig::builder()
                .certificate_pem_for("other.example", other.certificate.as_str(), other.key.as_str())
                .build()?;
            tls_pair_for(&config, "other.example")?;
            for (name, asked) in [("localhost", Some("localhost")), ("127.0.0.1", None)] {
                let (ours, theirs) = shake(&client().build()?, &config, name)?;
                assert_eq!(tls_error(ours), Error::Alert(AlertDescription::AccessDenied));
                let error = tls_error(theirs);
                assert_eq!(error, Error::UnknownName(asked.map(Box::from)));
                assert_eq!(error.fault(), Fault::Either);
                assert!(error.to_string().contains(asked.unwrap_or("no name")), "{error}");
            }
            Ok(())
        });
    });
}

fn tls_pair_for(server: &ServerConfig, name: &str) -> io::Result<()> {
    let (ours, theirs) = shake(&client().build()?, server, name)?;
    ours.and(theirs).map(drop)
}

#[test]
fn who_has_no_protocol_of_its_own_takes_part_in_none() {
    both(|| {
        in_machine(|| {
            for (ours, theirs) in [(&["h2"][..], &[][..]), (&[], &["h2"])] {
                let (ours, theirs) =
                    tls_pair(&client().alpn(ours).build()?, &server().alpn(theirs).build()?)?;
                assert_eq!((ours.alpn(), theirs.alpn()), (None, None));
            }
            // The server chooses, by what it prefers.
            let ours = client().alpn(["http/1.1", "h2"]).build()?;
            let (ours, theirs) = tls_pair(&ours, &server().alpn(["h2", "http/1.1"]).build()?)?;
            assert_eq!((ours.alpn().unwrap(), theirs.alpn().unwrap()), (b"h2".to_vec(), b"h2".to_vec()));
            Ok(())
        });
    });
}

#[test]
fn a_key_with_a_password_is_said_to_have_one() {
    let folder = Folder::new("encrypted");
    let certificate = folder.put("certificate.pem", &PEM.localhost.certificate);
    let forms = [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    ];
    for form in forms {
        let key = folder.put("key.pem", form);
        let error = ServerConfig::builder().certificate_files(&certificate, &key).build().unwrap_err();
        assert!(matches!(error.problem(), Problem::EncryptedKey), "{error}");
        assert!(error.file() == Some(key.as_path()) && error.to_string().contains("password"), "{error}");
    }
}

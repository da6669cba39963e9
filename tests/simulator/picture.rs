//! The pictures of a failure: a page, a timeline, a capture that can be decrypted.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use machinarium::net::{TcpListener, TcpStream};
use machinarium::tls::{ClientConfig, ServerConfig};
use machinarium_sim::{Check, Durations, World};

use crate::certificates::PEM;
use crate::raw;

fn server() -> io::Result<()> {
    machinarium::run(|| {
        let pair = PEM.localhost.clone();
        let config = ServerConfig::builder().certificate_pem(pair.certificate, pair.key).build()?;
        let listener = TcpListener::bind("0.0.0.0:7000")?;
        let (stream, _) = listener.accept()?;
        let stream = config.accept(stream)?;
        stream.read_exact(&mut [0; 8])?;
        stream.write_all(b"the secret answer")?;
        stream.close()
    })
}

fn client() -> io::Result<()> {
    machinarium::run(|| {
        machinarium::sleep(10.millis())?;
        let config = ClientConfig::builder().ca_pem(PEM.root.clone()).build()?;
        let stream = config.connect(TcpStream::connect(raw::server(1))?, "localhost")?;
        stream.write_all(b"question")?;
        let mut answer = String::new();
        (&stream).read_to_string(&mut answer)?;
        panic!("I do not like {answer:?}");
    })
}

/// The files that a failing check names.
fn pictures() -> Vec<PathBuf> {
    let check = || {
        Check::new().run(|world: &World| {
            let _server = world.host("server").run(server);
            let client = world.host("client").run(client);
            world.eventually(60.secs(), || client.finished());
        });
    };
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("the client does not like it");
    let said = panic.downcast::<String>().expect("a report");
    let after = said.split("pictures, for a browser").nth(1).expect("pictures are named");
    let paths: Vec<PathBuf> = after.lines().skip(1).take(3).map(|line| PathBuf::from(line.trim())).collect();
    assert_eq!(paths.len(), 3, "{said}");
    paths
}

/// The blocks of a capture: type and body.
fn blocks(bytes: &[u8]) -> Vec<(u32, &[u8])> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut at = 0;
    let mut blocks = Vec::new();
    while at < bytes.len() {
        let length = word(at + 4) as usize;
        assert_eq!(word(at + length - 4) as usize, length, "a block says its length twice");
        blocks.push((word(at), &bytes[at + 8..at + length - 4]));
        at += length;
    }
    blocks
}

#[test]
fn a_failure_has_a_page_a_timeline_and_a_capture() {
    let [page, timeline, capture] = pictures().try_into().unwrap();
    let text = std::fs::read_to_string(&page).unwrap();
    for wanted in ["I do not like", "client/main", "\"packets\":[[", "\"curve\":[[", "\"turns\":[["] {
        assert!(text.contains(wanted), "{wanted} is missing in {}", page.display());
    }
    assert!(!text.contains("/*DATA*/"));

    let text = std::fs::read_to_string(timeline).unwrap();
    assert!(text.starts_with("{\"displayTimeUnit\"") && text.ends_with("]}\n"));
    let starts = text.matches("\"ph\":\"s\"").count();
    assert!(starts > 10, "packets of handshakes are there: {starts}");
    assert_eq!(starts, text.matches("\"ph\":\"f\"").count());

    let bytes = std::fs::read(capture).unwrap();
    let blocks = blocks(&bytes);
    let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds[..3], [0x0a0d_0d0a, 1, 10], "section, interface, secrets");
    assert!(kinds[3..].iter().all(|kind| *kind == 6) && kinds.len() == 3 + starts, "and then packets");
    let secrets = String::from_utf8_lossy(blocks[2].1);
    assert!(secrets.contains("CLIENT_TRAFFIC_SECRET_0 ") && secrets.contains("SERVER_TRAFFIC_SECRET_0 "));
    assert!(!bytes.windows(6).any(|window| window == b"secret answer".get(..6).unwrap()), "it is encrypted");
}

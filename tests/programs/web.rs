//! web: notes over both versions of HTTP, kept over a restart, told on WebSockets, and an end that tells them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use machinarium::adapter::hyper::Executor;
use machinarium::tls::ClientConfig;
use machinarium::{block_on, spawn};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};
use ureq::Agent;

use crate::program::{Program, await_refusal, hunt, output};

fn agent() -> Agent {
    Agent::config_builder().http_status_as_error(false).build().into()
}

/// The status, and the body.
fn ask(address: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let request = ureq::http::Request::builder().method(method).uri(format!("http://{address}{path}"));
    let request = request.header("content-type", "application/json");
    let answer = match body {
        "" => agent().run(request.body(()).unwrap()),
        body => agent().run(request.body(body.to_owned()).unwrap()),
    };
    let mut answer = answer.unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

fn start(arguments: &[&str]) -> (Program, String) {
    let mut program = Program::start("web", &[&["--listen", "127.0.0.1:0"], arguments].concat());
    let address = program.line("web: http on ");
    (program, address)
}

#[test]
fn notes_live_and_survive_a_restart() {
    let file = std::env::temp_dir().join(format!("machinarium-web-{}", std::process::id()));
    let path = file.to_str().unwrap();
    let (mut program, address) = start(&["--notes", path, "--machines", "2"]);
    let made = |id: u64, text: &str| (201, format!(r#"{{"id":{id},"text":"{text}"}}"#));
    assert_eq!(ask(&address, "POST", "/api/notes", r#"{"text":"one"}"#), made(1, "one"));
    assert_eq!(ask(&address, "POST", "/api/notes", r#"{"text":"two"}"#), made(2, "two"));
    assert_eq!(ask(&address, "PUT", "/api/notes/1", r#"{"text":"uno"}"#).0, 200);
    assert_eq!(ask(&address, "DELETE", "/api/notes/2", ""), (204, String::new()));
    for (method, path, body, status) in [
        ("GET", "/api/notes/2", "", 404),
        ("GET", "/api/notes/two", "", 404),
        ("DELETE", "/api/notes/2", "", 404),
        ("PATCH", "/api/notes", "{}", 405),
        ("POST", "/api/notes", "{", 400),
        ("POST", "/api/notes", "{}", 422),
        ("POST", "/api/notes", &format!(r#"{{"text":"{}"}}"#, "x".repeat(10_001)), 413),
        ("POST", "/api/notes", &"x".repeat(100_000), 413),
        ("GET", "/feed", "", 400),
    ] {
        let (told, body) = ask(&address, method, path, body);
        assert!(told == status && body.starts_with(r#"{"error":""#), "{method} {path}: {told} {body}");
    }
    assert!(ask(&address, "GET", "/", "").1.starts_with("<!doctype html>"));
    let line = program.line("127.0.0.1:");
    assert!(line.contains(" POST /api/notes HTTP/1.1 201 "), "{line}");
    program.signal("TERM");
    assert_eq!(program.ended(), Some(0));

    let (_program, address) = start(&["--notes", path]);
    assert_eq!(ask(&address, "GET", "/api/notes", ""), (200, r#"[{"id":1,"text":"uno"}]"#.to_owned()));
    assert_eq!(
        ask(&address, "POST", "/api/notes", r#"{"text":"three"}"#),
        made(3, "three"),
        "no number twice"
    );
    std::fs::remove_file(file).unwrap();
}

#[test]
fn http2_is_agreed_on() {
    let mut program = Program::start("web", &["--tls", "127.0.0.1:0", "--quiet"]);
    let address = program.line("web: https on ");
    let result: std::io::Result<()> = machinarium::run(|| {
        let config =
            ClientConfig::builder().ca_pem(crate::certificates::PEM.root.as_str()).alpn(["h2"]).build()?;
        let stream = machinarium::net::TcpStream::connect(&*address)?;
        let stream = config.connect(stream, "localhost")?;
        assert_eq!(stream.alpn().as_deref(), Some(&b"h2"[..]));
        block_on(async {
            let (mut requests, connection) = http2::handshake(Executor, stream).await.unwrap();
            spawn(move || block_on(connection));
            let request =
                hyper::Request::get("https://localhost/api/notes").body(Empty::<Bytes>::new()).unwrap();
            let answer = requests.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "[]");
        })?;
        Ok(())
    });
    result.unwrap();
}

fn follow(address: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    tungstenite::client(format!("ws://{address}/feed"), stream).unwrap().0
}

#[test]
fn changes_are_told_and_so_is_the_end() {
    let (mut program, address) = start(&["--machines", "3", "--quiet"]);
    let mut feeds: Vec<_> = (0..4).map(|_| follow(&address)).collect();
    ask(&address, "POST", "/api/notes", r#"{"text":"\u2603"}"#);
    ask(&address, "DELETE", "/api/notes/1", "");
    for feed in &mut feeds {
        assert_eq!(feed.read().unwrap(), Message::text("{\"written\":{\"id\":1,\"text\":\"\u{2603}\"}}"));
        assert_eq!(feed.read().unwrap(), Message::text(r#"{"removed":{"id":1}}"#));
    }
    feeds[0].send(Message::Ping(Bytes::from_static(b"there?"))).unwrap();
    assert_eq!(feeds[0].read().unwrap(), Message::Pong(Bytes::from_static(b"there?")));
    drop(feeds.pop());
    program.signal("TERM");
    program.news("web: SIGTERM: clients: ");
    for feed in &mut feeds {
        let Message::Close(Some(close)) = feed.read().unwrap() else { panic!("no close") };
        assert_eq!(close.code, CloseCode::Away);
    }
    assert_eq!(program.ended(), Some(0));
}

/// A request that has begun is answered, and then the connection ends.
#[test]
fn sigterm_lets_requests_finish() {
    let (mut program, address) = start(&["--quiet"]);
    let mut stream = TcpStream::connect(&address).unwrap();
    stream
        .write_all(b"POST /api/notes HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n")
        .unwrap();
    stream.write_all(br#"{"text""#).unwrap();
    // It has been read when another request, sent after it, was answered.
    ask(&address, "GET", "/", "");
    program.signal("TERM");
    program.news("web: SIGTERM: clients: ");
    await_refusal(&address);
    stream.write_all(br#":"late"}"#).unwrap();
    let mut status = String::new();
    BufReader::new(&stream).read_line(&mut status).unwrap();
    assert_eq!(status, "HTTP/1.1 201 Created\r\n");
    stream.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(program.ended(), Some(0));
}

#[test]
fn what_it_refuses() {
    let used = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = used.local_addr().unwrap().to_string();
    for arguments in [
        &["--listen", &address][..],
        &["--listen", "nowhere"],
        &["--key", "x"],
        &["--listen", "127.0.0.1:0", "--notes", "/nowhere/notes"],
        &["--tls", "127.0.0.1:0", "--certificate", "/nowhere/a", "--key", "/nowhere/b"],
        &["--patience", "0"],
    ] {
        let output = output("web", arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{arguments:?}: {said}");
    }
}

#[test]
fn a_change_that_is_answered_too_early_is_found() {
    let (status, told) = hunt("web", &["--bug", "early-answer", "--seeds", "400"]);
    assert_eq!(status, 1, "{told}");
    assert!(told.contains("must be one of"), "{told}");
}

//! fetch: what it leaves on the disk, what it says, and its exit status, against a server of this test's that cuts, counts and changes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::program::{Program, hunt, output};

/// A server of one file, at whatever path.
struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Default)]
struct State {
    body: Vec<u8>,
    etag: &'static str,
    /// The connection ends after so many bytes of a body.
    cut: Option<usize>,
    /// It goes on after this instead.
    stall: bool,
    headers: &'static str,
    /// What it answers instead, as a whole.
    instead: Option<&'static str>,
    /// The heads of all requests.
    asked: Vec<String>,
}

impl Server {
    fn start(state: State) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(state));
        let theirs = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let state = theirs.clone();
                thread::spawn(move || answer(&stream.unwrap(), &state));
            }
        });
        Server { address, state }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    /// What this header said in each request, in lower case.
    fn asked(&self, header: &str) -> Vec<Option<String>> {
        let state = self.state.lock().unwrap();
        let value =
            |head: &String| head.lines().find_map(|line| line.strip_prefix(header).map(str::to_owned));
        state.asked.iter().map(value).collect()
    }
}

/// One request, and the connection's end. A client that has gone hears nothing.
fn answer(stream: &TcpStream, state: &Mutex<State>) {
    let lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let head = lines.map(|line| line.to_lowercase() + "\n").collect::<String>();
    let State { body, etag, cut, stall, headers, instead, .. } = {
        let mut state = state.lock().unwrap();
        state.asked.push(head.clone());
        state.clone()
    };
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let from = header("range: bytes=").filter(|_| header("if-range: ").is_none_or(|wanted| wanted == etag));
    let from: usize = from.map_or(0, |from| from.trim_end_matches('-').parse().unwrap());
    let total = body.len();
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let mut text = format!(
        "HTTP/1.1 {status}\r\netag: {etag}\r\nconnection: close\r\n{headers}content-length: {}\r\n",
        total - from
    );
    if from > 0 {
        text += &format!("content-range: bytes {from}-{}/{total}\r\n", total - 1);
    }
    let text = instead.map_or(text + "\r\n", str::to_owned);
    let end = if instead.is_some() { from } else { cut.map_or(total, |cut| total.min(from + cut)) };
    let mut stream = stream;
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.write_all(&body[from..end]));
    if stall {
        thread::sleep(Duration::from_secs(60));
    }
}

/// A directory of its own for each test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("machinarium-fetch-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Directory(path)
    }

    fn fetch(&self, arguments: &[&str]) -> (Option<i32>, String) {
        told(output("fetch", &[&["--directory", self.0.to_str().unwrap()], arguments].concat()))
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn told(output: Output) -> (Option<i32>, String) {
    assert!(output.stdout.is_empty());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn bytes(seed: u8, count: usize) -> Vec<u8> {
    (0..count).map(|place| (place * 31 + place / 251) as u8 ^ seed).collect()
}

#[test]
fn many_files_and_none_overwritten() {
    let (server, directory) = (
        Server::start(State { body: bytes(1, 300_000), etag: "\"1\"", ..State::default() }),
        Directory::new("many"),
    );
    let list = directory.0.with_extension("list");
    fs::write(&list, format!("# two more\n{}\n\n{}\n", server.url("b"), server.url("a"))).unwrap();
    let (status, said) =
        directory.fetch(&[&server.url("a"), &server.url("..%2f..%2fa%1b"), "--file", list.to_str().unwrap()]);
    fs::remove_file(list).unwrap();
    assert_eq!((status, said.lines().count()), (Some(0), 4), "{said}");
    assert_eq!(directory.names(), ["a", "a.1", "a_", "b"]);
    assert!(directory.names().iter().all(|name| directory.read(name) == bytes(1, 300_000)));
    server.change(|state| state.body = bytes(2, 10));
    let (status, said) = directory.fetch(&[&server.url("a")]);
    assert_eq!((status, &*said), (Some(0), "fetch: a: is there already, and is left as it is\n"));
    assert_eq!(directory.read("a"), bytes(1, 300_000));
}

/// A run that is cut leaves a part; the next one asks for the rest, if it is still the same.
#[test]
fn a_part_is_gone_on_with_unless_it_is_outdated() {
    let cut = State { body: bytes(1, 300_000), etag: "\"1\"", cut: Some(100_000), ..State::default() };
    let (server, directory) = (Server::start(cut), Directory::new("part"));
    let url = server.url("f");
    let fetch = || directory.fetch(&["--tries", "1", &url]);
    let (status, said) = fetch();
    assert_eq!((status, said.lines().count()), (Some(1), 2), "{said}");
    assert!(said.contains("f: the connection ended too early; given up after 1 tries"), "{said}");
    assert_eq!(directory.names(), ["f.part", "f.part.json"]);
    server.change(|state| state.etag = "\"2\"");
    server.change(|state| state.body = bytes(2, 310_000));
    assert_eq!(fetch().0, Some(1), "all of the new version is asked for, and cut");
    server.change(|state| state.cut = None);
    let (status, said) = fetch();
    assert!(status == Some(0) && said.starts_with("fetch: f: goes on after 97.66 KiB\n"), "{said}");
    assert_eq!(directory.names(), ["f"]);
    assert_eq!(directory.read("f"), bytes(2, 310_000));
    let rest = || Some("100000-".to_owned());
    assert_eq!(server.asked("range: bytes="), [None, rest(), rest()]);
    let quoted = |tag: &str| Some(format!("\"{tag}\""));
    assert_eq!(server.asked("if-range: "), [None, quoted("1"), quoted("2")]);
}

#[test]
fn tries_go_on_as_long_as_they_bring_something() {
    let cut = State { body: bytes(1, 300_000), etag: "\"1\"", cut: Some(80_000), ..State::default() };
    let (server, directory) = (Server::start(cut), Directory::new("tries"));
    let (status, said) = directory.fetch(&["--tries", "2", &server.url("f")]);
    assert_eq!((status, said.lines().count()), (Some(0), 4), "{said}");
    assert_eq!(directory.read("f"), bytes(1, 300_000));
}

#[test]
fn sigint_keeps_what_has_come() {
    let stalled =
        State { body: bytes(1, 300_000), etag: "\"1\"", cut: Some(70_000), stall: true, ..State::default() };
    let (server, directory) = (Server::start(stalled), Directory::new("stop"));
    let path = directory.0.to_str().unwrap();
    let mut program =
        Program::start("fetch", &["--directory", path, &server.url("f"), &server.url("g"), "--jobs", "1"]);
    while fs::metadata(directory.0.join("f.part")).map_or(0, |file| file.len()) < 70_000 {
        thread::sleep(Duration::from_millis(1));
    }
    program.signal("INT");
    program.news("fetch: SIGINT: 0 of 2 files are there; the same command goes on with the rest");
    assert_eq!(program.ended(), Some(1));
    assert_eq!(directory.names(), ["f.part", "f.part.json"]);
    server.change(|state| (state.cut, state.stall) = (None, false));
    assert_eq!(directory.fetch(&[&server.url("f")]).0, Some(0));
    assert_eq!(directory.read("f"), bytes(1, 300_000));
    assert_eq!(server.asked("range: bytes="), [None, Some("70000-".to_owned())]);
}

#[test]
fn what_is_known_of_a_file_must_be_so() {
    let (server, directory) = (
        Server::start(State { body: b"hello".to_vec(), etag: "\"1\"", ..State::default() }),
        Directory::new("sum"),
    );
    let right = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let (status, said) = directory.fetch(&["--sha256", &right.replace('2', "3"), &server.url("f")]);
    assert!(status == Some(1) && said.contains(&format!("its SHA-256 is {right} (http://")), "{said}");
    assert_eq!(directory.names(), [""; 0]);
    assert_eq!(directory.fetch(&["--sha256", right, "--quiet", &server.url("f")]), (Some(0), String::new()));
    assert_eq!(directory.read("f"), b"hello");
}

#[test]
fn servers_may_name_files_and_no_places() {
    let named = "content-disposition: attachment; filename=\"../../x/report.pdf\"\r\n";
    let (server, directory) = (
        Server::start(State { body: b"hello".to_vec(), etag: "\"1\"", headers: named, ..State::default() }),
        Directory::new("named"),
    );
    let (status, said) = directory.fetch(&["--server-names", &server.url("1"), &server.url("2")]);
    assert_eq!((status, said.lines().count()), (Some(0), 2), "{said}");
    assert_eq!(directory.names(), ["report.pdf", "report.pdf.1"]);
    let (status, said) = directory.fetch(&["--server-names", &server.url("1")]);
    assert!(status == Some(0) && said.contains("report.pdf: is there already"), "{said}");
    assert_eq!(directory.names(), ["report.pdf", "report.pdf.1"]);
}

#[test]
fn tls_and_whom_it_trusts() {
    let mut web = Program::start("web", &["--tls", "127.0.0.1:0", "--quiet"]);
    let address = web.line("web: https on ");
    let directory = Directory::new("tls");
    let url = format!("https://{address}/");
    let (status, said) = directory.fetch(&[&url]);
    assert!(status == Some(1) && said.contains("--ca FILE names another"), "{said}");
    let ca = directory.0.join("ca.pem");
    fs::write(&ca, &crate::certificates::PEM.root).unwrap();
    let (status, said) = directory.fetch(&["--ca", ca.to_str().unwrap(), &url]);
    assert_eq!(status, Some(0), "{said}");
    assert!(directory.read("index.html").starts_with(b"<!doctype html>"));
}

/// Each in one line, with what can be done.
#[test]
fn what_fails_is_told() {
    let (server, directory) = (Server::start(State::default()), Directory::new("fails"));
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let answers = |instead: &'static str, told: &str| {
        server.change(|state| state.instead = Some(instead));
        let (status, said) = directory.fetch(&["--tries", "1", &server.url("f")]);
        assert!(status == Some(1) && said.lines().count() == 2 && said.contains(told), "{said}");
    };
    answers(
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "404 Not Found: check the address (http://",
    );
    answers("HTTP/1.1 503 Service Unavailable\r\n\r\n", "503 Service Unavailable; given up after 1 tries");
    answers("HTTP/1.1 403 Forbidden\r\n\r\n", "who asks");
    answers(
        "HTTP/1.1 302 Found\r\nlocation: /f\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        "from one address to the next",
    );
    answers("SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP");
    answers("HTTP/1.1 206 Partial Content\r\n\r\n", "206 Partial Content");
    answers("", "the connection ended too early");
    server.change(|state| state.instead = Some("HTTP/1.1 400 Bad Request\r\n\r\n"));
    for (url, told) in [
        (format!("http://{refused}/"), "nobody listens there (connection refused)"),
        (
            "http://nowhere.invalid/".to_owned(),
            "there is no host \"nowhere.invalid\": check how it is written",
        ),
        (server.url("f").replace("http:", "https:"), "TLS: "),
    ] {
        let (status, said) = directory.fetch(&["--tries", "1", &url]);
        assert!(status == Some(1) && said.lines().count() == 2 && said.contains(told), "{said}");
    }
    server.change(|state| {
        *state = State { body: vec![0; 100], stall: true, cut: Some(1), etag: "\"1\"", ..State::default() }
    });
    let (_, said) = directory.fetch(&["--tries", "1", "--idle-timeout", "1", &server.url("f")]);
    assert!(said.contains("says nothing for too long"), "{said}");
    let (_, said) = directory.fetch(&["--max-time", "1", &server.url("f")]);
    assert!(said.contains("it took longer than --max-time, 1.0 s"), "{said}");
}

#[test]
fn what_it_refuses() {
    let directory = Directory::new("refuses");
    for arguments in [
        &[][..],
        &["example.com/x"],
        &["ftp://example.com/x"],
        &["http://a/", "http://"],
        &["--jobs", "0", "http://a/"],
        &["--sha256", "12", "http://a/"],
        &["--sha256", &"0".repeat(64), "http://a/", "http://b/"],
        &["--file", "/nowhere/list"],
        &["--ca", "/nowhere/ca.pem", "https://a/"],
        &["--directory", "/proc/nowhere", "http://a/"],
    ] {
        let (status, said) = told(output("fetch", arguments));
        assert_eq!((status, said.lines().count()), (Some(2), 1), "{arguments:?}: {said}");
    }
    assert!(!Path::new(&directory.0).exists());
}

#[test]
fn versions_that_are_mixed_are_found() {
    let (status, told) = hunt("fetch", &["--bug", "mixed-versions", "--seeds", "3000"]);
    assert_eq!(status, 1, "{told}");
    assert!(told.contains("is no version of what the server had"), "{told}");
}

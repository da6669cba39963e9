//! A client of the hunt: ureq, blocking as it does, on a machine; and a WebSocket by tungstenite.
//!
//! It makes, reads, changes and removes notes of its own under faults, and knows what each may be (`model.rs`). In the end, when all is
//! well, it comes back until it has seen all of them as they must be, and has made one and heard of it on the feed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use machinarium::adapter::ureq::Connector;
use machinarium::net::TcpStream;
use machinarium::tls::ClientConfig;
use machinarium::{WaitError, sleep, timeout};
use serde::Deserialize;
use tungstenite::Message;
use ureq::config::Config;
use ureq::http::{Response, StatusCode, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Agent, Body};

use crate::certificates::PEM;
use crate::common::init::keep_starting;
use crate::common::random::Random;
use crate::model::{Model, Note};

/// What a client is to do.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) http: SocketAddr,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) number: usize,
    pub(crate) seed: u64,
    pub(crate) steps: usize,
}

/// The main function of a client's host.
pub(crate) fn client(task: &Task) -> io::Result<()> {
    keep_starting(|begun| {
        machinarium::run(|| {
            begun.set(true);
            Visitor::new(task)?.work(task.steps).map_err(io::Error::from)
        })
    })
}

/// Every name is of this server, and its certificate is for localhost.
#[derive(Debug)]
struct At(SocketAddr);

impl Resolver for At {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        addresses.push(self.0);
        Ok(addresses)
    }
}

/// One client, with what it knows.
struct Visitor {
    /// What its texts begin with: its name, and which of its lives this is.
    name: String,
    server: String,
    feed: SocketAddr,
    agent: Agent,
    random: Random,
    model: Model,
    made: usize,
}

/// What a request came to.
enum Answer {
    /// This status, and this text.
    Came(StatusCode, String),
    /// None, or one of which nobody knows what was done.
    Lost,
}

impl Visitor {
    fn new(task: &Task) -> io::Result<Visitor> {
        let mut random = Random(task.seed);
        // One that comes again does not know what it did before.
        let name = format!("client {} at {:?}: ", task.number, machinarium::now());
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_millis(200 << random.below(5))))
            .build();
        let tls = ClientConfig::builder().ca_pem(PEM.root.as_str()).build()?;
        let (scheme, address) = task.https.map_or(("http", task.http), |address| ("https", address));
        let agent = Agent::with_parts(config, Connector::new().tls(tls), At(address));
        let server = format!("{scheme}://localhost:{}", address.port());
        Ok(Visitor { name, server, feed: task.http, agent, random, model: Model::default(), made: 0 })
    }

    /// # Errors
    /// If it is cancelled.
    ///
    /// # Panics
    /// When something is not as it must be.
    fn work(&mut self, steps: usize) -> Result<(), WaitError> {
        for _ in 0..steps {
            self.step();
            self.pause(100)?;
        }
        while !self.all_is_well() {
            self.pause(200)?;
        }
        while self.hears_of_itself().is_err() {
            self.pause(200)?;
        }
        Ok(())
    }

    fn pause(&mut self, milliseconds: usize) -> Result<(), WaitError> {
        sleep(Duration::from_millis(self.random.below(milliseconds) as u64))
    }

    fn step(&mut self) {
        let known = self.model.known();
        let some = if known.is_empty() { None } else { Some(known[self.random.below(known.len())]) };
        match (self.random.below(10), some) {
            (0..3, _) | (_, None) => self.make(),
            (3..5, Some(id)) => self.read(id),
            (5..7, Some(id)) => self.change(id),
            (7, Some(id)) => self.remove(id),
            (8, _) => self.blunder(),
            _ => drop(self.all_is_well()),
        }
    }

    fn make(&mut self) {
        let text = self.text();
        match self.send("POST", "/api/notes", Some(&text)) {
            Answer::Came(StatusCode::CREATED, body) => self.model.made(&note(&body), &text),
            Answer::Came(status, body) => panic!("a note was made with {status}: {body}"),
            Answer::Lost => self.model.may_be_made(&text),
        }
    }

    fn read(&mut self, id: u64) {
        match self.send("GET", &format!("/api/notes/{id}"), None) {
            Answer::Came(StatusCode::OK, body) => self.model.check(id, &Some(note(&body).text)),
            Answer::Came(StatusCode::NOT_FOUND, _) => self.model.check(id, &None),
            Answer::Came(status, body) => panic!("a note was read with {status}: {body}"),
            Answer::Lost => {}
        }
    }

    fn change(&mut self, id: u64) {
        let text = self.text();
        let there = self.model.is_there(id);
        match self.send("PUT", &format!("/api/notes/{id}"), Some(&text)) {
            Answer::Came(StatusCode::OK, body) if there => {
                assert_eq!(note(&body).text, text);
                self.model.is(id, Some(text));
            }
            Answer::Came(StatusCode::NOT_FOUND, _) if !there => {}
            Answer::Came(status, body) => panic!("note {id} ({there}) was changed with {status}: {body}"),
            Answer::Lost if there => self.model.may_be(id, Some(text)),
            Answer::Lost => {}
        }
    }

    fn remove(&mut self, id: u64) {
        let there = self.model.is_there(id);
        match self.send("DELETE", &format!("/api/notes/{id}"), None) {
            Answer::Came(StatusCode::NO_CONTENT, _) if there => self.model.is(id, None),
            Answer::Came(StatusCode::NOT_FOUND, _) if !there => {}
            Answer::Came(status, body) => panic!("note {id} ({there}) was removed with {status}: {body}"),
            Answer::Lost if there => self.model.may_be(id, None),
            Answer::Lost => {}
        }
    }

    /// What is refused, and how.
    fn blunder(&mut self) {
        let (method, path, text, expected) = match self.random.below(4) {
            0 => ("GET", "/nowhere", None, StatusCode::NOT_FOUND),
            1 => ("PUT", "/api/notes", Some("x".to_owned()), StatusCode::METHOD_NOT_ALLOWED),
            2 => ("POST", "/api/notes", Some("x".repeat(10_001)), StatusCode::PAYLOAD_TOO_LARGE),
            _ => ("GET", "/feed", None, StatusCode::BAD_REQUEST),
        };
        match self.send(method, path, text.as_deref()) {
            Answer::Came(status, body) => {
                assert_eq!(status, expected, "{body}");
                assert!(body.starts_with("{\"error\":\""), "{body}");
            }
            Answer::Lost => {}
        }
    }

    /// Whether all notes, and the page, could be seen.
    fn all_is_well(&mut self) -> bool {
        let Answer::Came(StatusCode::OK, body) = self.send("GET", "/api/notes", None) else { return false };
        let all: Vec<Note> = serde_json::from_str(&body).expect("a list of notes");
        self.model.check_all(&all, &self.name);
        match self.send("GET", "/", None) {
            Answer::Came(status, page) => {
                assert!(status == StatusCode::OK && page == include_str!("page.html"));
                true
            }
            Answer::Lost => false,
        }
    }

    fn text(&mut self) -> String {
        self.made += 1;
        let most = 1 << self.random.below(13);
        let length = self.random.below(most);
        format!("{}{} {}", self.name, self.made, "\u{2603}".repeat(length / 3))
    }

    fn send(&mut self, method: &str, path: &str, text: Option<&str>) -> Answer {
        let url = format!("{}{path}", self.server);
        let came = self.try_send(method, &url, text).and_then(|mut answer| {
            let body = answer.body_mut().read_to_string()?;
            Ok((answer.status(), body))
        });
        match came {
            // The server may fail, when its disk does: then it has done it, or not.
            Ok((status, _)) if status.is_server_error() => Answer::Lost,
            Ok((status, body)) => Answer::Came(status, body),
            Err(_) => Answer::Lost,
        }
    }

    fn try_send(&self, method: &str, url: &str, text: Option<&str>) -> Result<Response<Body>, ureq::Error> {
        let builder = ureq::http::Request::builder().method(method).uri(url);
        match text {
            None => self.agent.run(builder.body(())?),
            Some(text) => {
                let body = serde_json::json!({ "text": text }).to_string();
                self.agent.run(builder.header("content-type", "application/json").body(body)?)
            }
        }
    }

    /// Opens the feed, makes a note, and hears of that.
    fn hears_of_itself(&mut self) -> io::Result<()> {
        timeout(Duration::from_secs(5), || {
            let stream = TcpStream::connect(self.feed)?;
            let opened = tungstenite::client(format!("ws://{}/feed", self.feed), stream);
            // The error has the stream in it, which is of this machine; an `io::Error` could go anywhere.
            let (mut feed, _) = opened.map_err(|error| io::Error::other(error.to_string()))?;
            let text = self.text();
            let Answer::Came(StatusCode::CREATED, body) = self.send("POST", "/api/notes", Some(&text)) else {
                self.model.may_be_made(&text);
                return Err(io::ErrorKind::TimedOut.into());
            };
            let made = note(&body);
            self.model.made(&made, &text);
            loop {
                let message = feed.read().map_err(io::Error::other)?;
                if let Message::Text(news) = message
                    && Event::Written(made.clone()) == serde_json::from_str(&news)?
                {
                    return feed.close(None).map_err(io::Error::other);
                }
            }
        })
    }
}

/// What the feed tells.
#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    Written(Note),
    Removed {
        #[allow(dead_code, reason = "it must be there")]
        id: u64,
    },
}

fn note(body: &str) -> Note {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{body:?} is no note: {error}"))
}

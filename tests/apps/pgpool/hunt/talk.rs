//! A client's connection in the hunt: the protocol, and what must be true of every answer.
//!
//! Each row, and each piece of a COPY, must name this client and the request that it answers; a statement is cancelled only if this client
//! has asked for that. Anything else panics, which fails the world. A connection that ends is none of that: it is an error.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use machinarium::net::TcpStream;
use machinarium::tls::ClientConfig;

use super::backend::text_of;
use super::sql::Tag;
use crate::cancel;
use crate::certificates::PEM;
use crate::connect::{PROTOCOL, SSL_REQUEST, read_key};
use crate::inbox::Inbox;
use crate::message::{put, put_query, put_text, read_error, take_text};
use crate::scram;
use crate::wire::{Wire, keep_alive};

/// Where to connect, as whom.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) pooler: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) user: &'static str,
    pub(crate) password: &'static str,
}

/// See the head of the file.
pub(crate) struct Talk {
    door: Door,
    wire: Wire,
    inbox: Inbox,
    /// What is to be sent.
    pub(crate) out: Vec<u8>,
    name: String,
    requests: u64,
    key: (u32, u32),
    /// Of the last ReadyForQuery.
    pub(crate) status: u8,
    /// Whether it has asked for a statement to be cancelled.
    cancels: bool,
}

/// What cancels a client's statement, from a connection of its own.
pub(crate) struct CancelRequest {
    door: Door,
    key: (u32, u32),
}

/// All that came up to a ReadyForQuery, or a CopyInResponse.
#[derive(Default, Debug)]
pub(crate) struct Answer {
    /// Which request, and the value of its row.
    pub(crate) rows: Vec<(u64, String)>,
    pub(crate) tags: Vec<String>,
    pub(crate) error: Option<String>,
    pub(crate) parsed: usize,
    pub(crate) bound: usize,
    pub(crate) closed: usize,
    pub(crate) copies: bool,
}

impl Talk {
    /// Logs in. `options`: parameters of the session.
    pub(crate) fn open(
        door: &Door,
        database: &str,
        name: String,
        options: &[(&str, String)],
    ) -> io::Result<Talk> {
        let mut talk = Talk {
            door: door.clone(),
            wire: connect(door)?,
            inbox: Inbox::default(),
            out: Vec::new(),
            name,
            requests: 0,
            key: (0, 0),
            status: b'I',
            cancels: false,
        };
        let mut body = PROTOCOL.to_be_bytes().to_vec();
        let own = [("user", door.user.to_owned()), ("database", database.to_owned())];
        for (name, value) in own.iter().chain(options) {
            put_text(&mut body, name.as_bytes());
            put_text(&mut body, value.as_bytes());
        }
        body.push(0);
        talk.out.extend((body.len() as u32 + 4).to_be_bytes());
        talk.out.extend(body);
        talk.send()?;
        talk.log_in()?;
        Ok(talk)
    }

    fn log_in(&mut self) -> io::Result<()> {
        loop {
            let (kind, body) = self.message()?;
            match kind {
                b'R' if body.starts_with(&10_u32.to_be_bytes()) => self.show_password()?,
                b'R' | b'S' | b'N' => {}
                b'K' => self.key = read_key(&body).expect("a key"),
                b'E' => return Err(io::Error::other(read_error(&body).1)),
                b'Z' => return Ok(()),
                other => panic!("{:?} at the login", char::from(other)),
            }
        }
    }

    fn show_password(&mut self) -> io::Result<()> {
        let client = scram::Client::new(None);
        put(&mut self.out, b'p', |body| {
            put_text(body, scram::PLAIN.as_bytes());
            body.extend((client.first().len() as u32).to_be_bytes());
            body.extend(client.first().as_bytes());
        });
        self.send()?;
        let first = self.sasl(11)?;
        let (last, expected) = client.finish(self.door.password, &first).expect("SCRAM");
        put(&mut self.out, b'p', |body| body.extend(last.as_bytes()));
        self.send()?;
        assert_eq!(self.sasl(12)?, expected, "the pooler shows that it knows the password");
        Ok(())
    }

    fn sasl(&mut self, step: u32) -> io::Result<String> {
        let (kind, body) = self.message()?;
        if kind == b'E' {
            return Err(io::Error::other(read_error(&body).1));
        }
        assert!(kind == b'R' && body.starts_with(&step.to_be_bytes()), "step {step} of SASL");
        Ok(text_of(&body[4..]))
    }

    /// The next request's tag.
    pub(crate) fn tag(&mut self) -> Tag {
        self.requests += 1;
        Tag { client: self.name.clone(), request: self.requests, within: self.status != b'I' }
    }

    /// Asks for one statement, and reads all of its answer.
    pub(crate) fn ask(&mut self, statement: &str) -> io::Result<Answer> {
        let tag = self.tag();
        put_query(&mut self.out, &tag.behind(statement));
        self.send()?;
        let answer = self.answer()?;
        assert!(answer.rows.iter().all(|(request, _)| *request == tag.request), "{answer:?} to {tag:?}");
        Ok(answer)
    }

    /// Sends what is in `out`.
    pub(crate) fn send(&mut self) -> io::Result<()> {
        let sent = self.wire.write_all(&self.out);
        self.out.clear();
        sent
    }

    /// Reads up to ReadyForQuery, or CopyInResponse.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let mut answer = Answer::default();
        loop {
            let (kind, mut body) = self.message()?;
            match kind {
                b'D' => answer.rows.push(self.row(&body)),
                b'd' => drop(self.check(&text_of(&body))),
                b'C' => answer.tags.push(text_of(take_text(&mut &body[..]).expect("a tag"))),
                b'1' => answer.parsed += 1,
                b'2' => answer.bound += 1,
                b'3' => answer.closed += 1,
                b'E' => self.fail(&mut answer, &body)?,
                b'G' => {
                    answer.copies = true;
                    return Ok(answer);
                }
                b'Z' => {
                    self.status = body.pop().expect("a status");
                    return Ok(answer);
                }
                b'N' | b'S' | b'T' | b't' | b'n' | b'H' | b'c' => {}
                other => panic!("{} gets {:?}", self.name, char::from(other)),
            }
        }
    }

    fn fail(&self, answer: &mut Answer, body: &[u8]) -> io::Result<()> {
        let (code, text) = read_error(body);
        if body.starts_with(b"SFATAL") {
            return Err(io::Error::other(text));
        }
        assert!(
            code != "57014" || self.cancels || text.starts_with("COPY"),
            "{} asked for no cancel: {text}",
            self.name
        );
        assert!(answer.error.is_none(), "{}: {text} after {:?}", self.name, answer.error);
        answer.error = Some(code);
        Ok(())
    }

    fn row(&self, body: &[u8]) -> (u64, String) {
        let mut rest = &body[2..];
        let mut column = || {
            let (length, data) = rest.split_at(4);
            let length = u32::from_be_bytes(length.try_into().expect("4 bytes")) as usize;
            rest = &data[length..];
            text_of(&data[..length])
        };
        (self.check(&column()), column())
    }

    /// Whose what came is: this client's, and of this request.
    fn check(&self, mark: &str) -> u64 {
        let mut words = mark.split(' ');
        assert_eq!(words.next(), Some(self.name.as_str()), "a row of another client's: {mark:?}");
        words.next().and_then(|request| request.parse().ok()).expect("the number of a request")
    }

    /// A cancel request for what this client does.
    pub(crate) fn request_cancel(&mut self) -> CancelRequest {
        self.cancels = true;
        CancelRequest { door: self.door.clone(), key: self.key }
    }

    pub(crate) fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let header = self.inbox.message(&self.wire, 1 << 20)?;
        let body = self.inbox.body(header).to_vec();
        self.inbox.consume(header.total);
        Ok((header.kind, body))
    }

    /// Says goodbye, as clients should.
    pub(crate) fn end(mut self) -> io::Result<()> {
        put(&mut self.out, b'X', |_| {});
        self.send()?;
        self.wire.close();
        Ok(())
    }
}

impl CancelRequest {
    /// Sends it, and waits until it was done.
    pub(crate) fn send(&self) -> io::Result<()> {
        let wire = connect(&self.door)?;
        wire.write_all(&[16, cancel::REQUEST, self.key.0, self.key.1].map(u32::to_be_bytes).concat())?;
        let mut answer = [0];
        // Nothing is said to it, but who is told to go may not have been read yet: a pooler that ends refuses whoever has connected.
        let count = wire.read(&mut answer)?;
        assert!(count == 0 || answer == *b"E", "a cancel request is answered with {answer:?}");
        Ok(())
    }
}

fn connect(door: &Door) -> io::Result<Wire> {
    let stream = TcpStream::connect(door.pooler)?;
    stream.set_nodelay(true)?;
    // A good session waits for as long as it takes, but for nobody who is there no more.
    keep_alive(&stream, Some(Duration::from_secs(2)))?;
    if !door.tls {
        return Ok(Wire::Plain(stream));
    }
    stream.write_all(&[8, SSL_REQUEST].map(u32::to_be_bytes).concat())?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    // It may have failed before.
    if answer == *b"E" {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    assert_eq!(answer, *b"S", "the pooler has TLS");
    let config = ClientConfig::builder().ca_pem(PEM.root.as_str()).build()?;
    Ok(Wire::Tls(Box::new(config.connect(stream, "localhost")?)))
}

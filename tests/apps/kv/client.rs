//! A client of the server, as small as it can be: sends pipelines of commands and reads their answers. For the hunt and
//! for tests, over any stream.
//!
//! An error leaves the connection at an unknown place: drop the client. What was answered before it is kept.

use std::io::{self, BufRead, Write};

use crate::reply::encode_command;
use crate::resp::parse_integer;

/// One connection.
pub(crate) struct Client<S> {
    stream: S,
}

/// A reply as it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Answer>),
}

impl<S: BufRead + Write> Client<S> {
    pub(crate) fn new(stream: S) -> Client<S> {
        Client { stream }
    }

    /// One command and its answer.
    pub(crate) fn call(&mut self, command: &[&[u8]]) -> io::Result<Answer> {
        self.send(&[command])?;
        self.receive()
    }

    /// Sends commands without waiting for answers.
    pub(crate) fn send(&mut self, commands: &[&[&[u8]]]) -> io::Result<()> {
        let mut bytes = Vec::new();
        commands.iter().for_each(|command| encode_command(command, &mut bytes));
        self.send_bytes(&bytes)
    }

    /// Sends anything.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next answer.
    pub(crate) fn receive(&mut self) -> io::Result<Answer> {
        let line = self.line()?;
        let (&kind, rest) = line.split_first().ok_or_else(|| broken("an empty line"))?;
        let text = || String::from_utf8_lossy(rest).into_owned();
        let number = || parse_integer(rest).ok_or_else(|| broken("not a number"));
        Ok(match kind {
            b'+' => Answer::Simple(text()),
            b'-' => Answer::Error(text()),
            b':' => Answer::Integer(number()?),
            b'$' => match number()? {
                -1 => Answer::Nil,
                length => Answer::Bulk(
                    self.bulk(usize::try_from(length).map_err(|_| broken("a length below zero"))?)?,
                ),
            },
            b'*' => Answer::Array((0..number()?).map(|_| self.receive()).collect::<io::Result<_>>()?),
            _ => return Err(broken("no type")),
        })
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(text) => Ok(text.to_vec()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn bulk(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("this is no reply: {what}"))
}

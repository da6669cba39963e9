//! One client: reads what has arrived, runs all complete requests in it as one plan, writes their replies, again.
//!
//! An idle connection holds no buffer of its own: requests are parsed where the stream has read them, and only the
//! beginning of one that is incomplete is copied out, into `held`. What `held` and unwritten replies take is counted
//! against one limit for the whole server.
//!
//! It ends when the client closes or says QUIT, when bytes are no requests (the error is answered, and the rest is read
//! and thrown away so that the answer is not overtaken by a reset), when the client does not read or write in time,
//! or when the machine ends. Writing is shielded from that last, so that what was done is also answered.

use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use machinarium::{shield, timeout};

use crate::command::Session;
use crate::config::Totals;
use crate::plan::Plan;
use crate::reply::Reply;
use crate::resp::{Parser, ProtocolError};
use crate::shard::Shard;
use crate::subscriber::{self, After};
use crate::wire::Wire;

/// Replies are gathered up to so many bytes for one write; longer pieces are written from where they are.
const GATHER: usize = 64 << 10;

/// After an error, how long and how much of what the client still sends is read.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 1 << 20);

/// See the head of the file.
pub(crate) struct Connection<S> {
    shard: Rc<Shard>,
    stream: S,
    parser: Parser,
    held: Vec<u8>,
    /// Whether `held` may have a complete request in it that was left because the plan was full.
    unparsed: bool,
    /// What `held` takes of the limit.
    charge: usize,
}

/// Why a plan ends where it does.
enum End {
    /// All complete requests are in it, or it is full.
    Pause,
    Closed,
    Quit,
    Shutdown,
    /// To these channels; what came behind is in `held`.
    Subscribe(Vec<Vec<u8>>),
    Garbage(ProtocolError),
    NoMemory,
}

impl<S: Wire> Connection<S> {
    pub(crate) fn new(shard: Rc<Shard>, stream: S) -> Connection<S> {
        let parser = Parser::new(shard.config.limits);
        Connection { shard, stream, parser, held: Vec::new(), unparsed: false, charge: 0 }
    }

    /// Serves until the connection ends. How it ended is for tests: the client knows, and the server goes on.
    pub(crate) fn run(mut self) -> io::Result<()> {
        self.stream.nodelay()?;
        loop {
            let mut plan = Plan::new(self.shard.clone());
            let end = self.read(&mut plan)?;
            match &end {
                End::Quit => plan.answer(Reply::OK),
                End::Garbage(error) => plan.answer(Reply::error(format!("ERR {error}"))),
                End::NoMemory => plan.answer(Reply::error("ERR no memory for so long a request now")),
                End::Pause | End::Closed | End::Shutdown | End::Subscribe(_) => {}
            }
            self.write(&mut plan)?;
            match end {
                End::Pause => {}
                End::Closed => return Ok(()),
                End::Subscribe(channels) => {
                    if self.subscribe(&channels)? == After::End {
                        return Ok(());
                    }
                }
                End::Shutdown => {
                    self.shard.end.shutdown.begin("SHUTDOWN");
                    return Ok(());
                }
                End::Quit | End::Garbage(_) | End::NoMemory => return self.linger(),
            }
        }
    }

    fn subscribe(&mut self, channels: &[Vec<u8>]) -> io::Result<After> {
        let (parser, held) = (&mut self.parser, &mut self.held);
        let after = subscriber::serve(&self.shard, &self.stream, parser, held, channels)?;
        self.unparsed = !self.held.is_empty();
        Ok(after)
    }

    /// Puts into the plan what has arrived, waiting if nothing has.
    fn read(&mut self, plan: &mut Plan) -> io::Result<End> {
        if self.unparsed {
            return Ok(self.parse_held(plan));
        }
        let stream = &mut self.stream;
        let chunk = match self.shard.config.idle_timeout {
            Some(idle) => timeout(idle, || stream.fill_buf())?,
            None => stream.fill_buf()?,
        };
        if chunk.is_empty() {
            return Ok(End::Closed);
        }
        let length = chunk.len();
        if self.held.is_empty() {
            let (taken, full, end) = parse(&mut self.parser, chunk, plan);
            if full {
                self.stream.consume(taken);
                return Ok(end);
            }
            self.held.extend_from_slice(&chunk[taken..]);
            self.stream.consume(length);
            return Ok(self.charge_held().unwrap_or(end));
        }
        self.held.extend_from_slice(chunk);
        self.stream.consume(length);
        match self.charge_held() {
            Some(end) => Ok(end),
            None => Ok(self.parse_held(plan)),
        }
    }

    fn parse_held(&mut self, plan: &mut Plan) -> End {
        let (taken, full, end) = parse(&mut self.parser, &self.held, plan);
        self.unparsed = full;
        self.held.drain(..taken);
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        self.charge_held().unwrap_or(end)
    }

    /// Counts what `held` takes. An end if that is too much.
    fn charge_held(&mut self) -> Option<End> {
        let (totals, wanted) = (&self.shard.totals, self.held.capacity());
        if wanted <= self.charge {
            totals.give_buffers(self.charge - wanted);
        } else if !totals.take_buffers(wanted - self.charge, self.shard.config.buffers) {
            return Some(End::NoMemory);
        }
        self.charge = wanted;
        None
    }

    fn write(&mut self, plan: &mut Plan) -> io::Result<()> {
        if plan.is_empty() {
            return Ok(());
        }
        let replies = plan.finish()?;
        let shard = self.shard.clone();
        Totals::add(&shard.totals.commands, replies.len());
        let weight = if plan.weight() > GATHER { plan.weight() } else { 0 };
        if !shard.totals.take_buffers(weight, shard.config.buffers) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let allowed = shard.config.write_timeout;
        let written = plan.undo.around(&shard, allowed, || {
            shield(|| timeout(allowed, || Gather::new(&self.stream).write(&replies)))
        });
        shard.totals.give_buffers(weight);
        written
    }

    fn linger(&mut self) -> io::Result<()> {
        self.stream.finish()?;
        let (time, mut most) = LINGER;
        let stream = &mut self.stream;
        timeout(time, || {
            loop {
                let length = stream.fill_buf()?.len();
                stream.consume(length);
                if length == 0 || length > most {
                    return Ok(());
                }
                most -= length;
            }
        })
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.shard.totals.give_buffers(self.charge);
    }
}

/// Adds the requests in `bytes` to the plan. Returns how many bytes they were, and whether the plan was full before the
/// bytes were at their end.
fn parse(parser: &mut Parser, bytes: &[u8], plan: &mut Plan) -> (usize, bool, End) {
    let mut start = 0;
    while !plan.is_full() {
        let rest = &bytes[start..];
        let length = match parser.advance(rest) {
            Ok(Some(length)) => length,
            Ok(None) => return (start, false, End::Pause),
            Err(error) => return (start, false, End::Garbage(error)),
        };
        let arguments = parser.arguments(rest);
        let end = if arguments.is_empty() { None } else { plan.add(arguments) };
        let names = match end {
            Some(Session::Subscribe) => arguments.iter().skip(1).map(<[u8]>::to_vec).collect(),
            _ => Vec::new(),
        };
        parser.reset();
        start += length;
        match end {
            Some(Session::Subscribe) => return (start, false, End::Subscribe(names)),
            Some(Session::Shutdown) => return (start, false, End::Shutdown),
            Some(_) => return (start, false, End::Quit),
            None => {}
        }
    }
    (start, true, End::Pause)
}

/// Makes one write of many small replies.
struct Gather<'a, S> {
    stream: &'a S,
    bytes: Vec<u8>,
}

impl<'a, S: Wire> Gather<'a, S> {
    fn new(stream: &'a S) -> Gather<'a, S> {
        Gather { stream, bytes: Vec::new() }
    }

    fn write(mut self, replies: &[Reply]) -> io::Result<()> {
        replies.iter().try_for_each(|reply| reply.encode(&mut self))?;
        self.flush()
    }
}

impl<S: Wire> Write for Gather<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > GATHER {
            self.flush()?;
        }
        if bytes.len() > GATHER {
            self.stream.write_shared(bytes)?;
        } else {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.write_shared(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}

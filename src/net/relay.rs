//! The relay of two streams, the heart of a proxy: what comes on one goes out on the other, both ways, in one coroutine.
//!
//! ```text
//!        pull            push
//!   a  ------->  a_to_b  ------->  b
//!   a  <-------  b_to_a  <-------  b
//! ```
//!
//! Each direction has a buffer with a high-water mark. A round pulls and pushes once in each direction, as far as that goes without
//! waiting; when a round moves nothing the coroutine sleeps, once, for all that could go on: a direction with room for its
//! source to be readable, one with bytes for its target to be writable. So neither direction ever waits for the other, and full
//! buffers on both sides dead-lock nothing. An idle relay holds no buffer.
//!
//! | a direction is | until | then |
//! |---|---|---|
//! | open | its source ends | ending |
//! | ending | its bytes are passed on, and the end is said (`close_notify` on TLS) and sent | ended: the target's writing half is shut down |
//!
//! A target that has ended itself may be gone when its turn comes to hear of the end: nothing but that is lost, and it is no failure.
//! A source that fails is not heard of while its direction is full: bytes come first, then the error. What a target had sent
//! before it failed is passed on too, but no end of it: after a reset the system may answer a read as if there had been one.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::time::Duration;

use super::descriptor::Socket;
use super::direction::{Turn, sleep_for_any};
use super::duplex::{Duplex, sealed};
use crate::error::{self, Expired, WaitError, has_gone};
use crate::io::{Buffer, POOL};
use crate::kernel::Instant;
use crate::machine::Machine;

/// Carries what comes on each stream to the other until both have ended: [`Relay`] with its defaults.
///
/// The end of one side is passed on (its peer's writing half is shut down, on TLS after `close_notify`), and the other direction
/// goes on. The streams stay open: drop them.
///
/// # Errors
/// See [`Relay::run`].
///
/// ```
/// use machinarium::net::{self, UnixStream};
/// use std::net::Shutdown;
///
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let (client, a) = UnixStream::pair()?;
///     let (b, server) = UnixStream::pair()?;
///     let relay = machinarium::spawn(move || net::relay(&a, &b));
///     client.write_all(b"question")?;
///     client.shutdown(Shutdown::Write)?;
///     let mut question = String::new();
///     std::io::Read::read_to_string(&mut &server, &mut question)?;
///     server.write_all(b"yes")?;
///     drop(server);
///     let moved = relay.join()??;
///     assert_eq!((question.as_str(), moved.a_to_b.written, moved.b_to_a.written), ("question", 8, 3));
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub fn relay(a: &impl Duplex, b: &impl Duplex) -> Result<Relayed, RelayError> {
    Relay::new().run(a, b)
}

/// How two streams are joined.
#[derive(Clone, Debug, Default)]
pub struct Relay {
    idle: Option<Duration>,
    high_water: Option<usize>,
}

/// What a relay has moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Relayed {
    /// From the first stream to the second.
    pub a_to_b: Flow,
    /// From the second stream to the first.
    pub b_to_a: Flow,
}

/// What a relay has moved in one direction, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    /// Taken from the source.
    pub read: u64,
    /// Given to the target: with the system, or encrypted. `read - written` bytes were lost by an error.
    pub written: u64,
    /// The source's end was read, and passed on, unless its target had ended too and was gone.
    pub ended: bool,
}

/// One of the two streams of a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// What of a relay has failed. Reading from A and writing to B are the direction from A to B.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Reading from this side.
    Read(Side),
    /// Writing to this side, or ending what is written to it.
    Write(Side),
    /// Nothing moved in either direction for the relay's idle timeout.
    Idle,
    /// The call as a whole: a deadline around it, a cancellation, a stream of another machine.
    Call,
}

/// A relay that ended before both directions did.
#[derive(Debug)]
pub struct RelayError {
    /// What failed, and on which side.
    pub step: Step,
    /// What had been moved until then.
    pub moved: Relayed,
    /// Why.
    pub source: io::Error,
}

impl Relay {
    /// No idle timeout; the high-water mark of `Tuning::relay`.
    pub fn new() -> Relay {
        Relay::default()
    }

    /// Ends the relay when no byte has moved in either direction for so long. Default: never. The timeouts of the streams do not
    /// count here. Set this if a side may go silent for ever: one that has failed is not heard of while the other does not take
    /// what it has sent.
    pub fn idle(mut self, timeout: Duration) -> Relay {
        self.idle = Some(timeout);
        self
    }

    /// How many bytes each direction holds at most, at least 1. Default: `Tuning::relay`.
    pub fn high_water(mut self, bytes: usize) -> Relay {
        self.high_water = Some(bytes);
        self
    }

    /// Carries bytes both ways until both sides have ended, with the turns of both streams: their other readers and writers
    /// wait for it. See [`relay()`].
    ///
    /// # Errors
    /// [`RelayError`], at the first failure of either side, at the idle timeout, and by deadlines and cancellation. What a side
    /// had sent that takes no more is passed on before. Otherwise what had been read by then is passed on as far as that goes without
    /// waiting (not after a cancellation); the rest is lost, and counted. `InvalidInput` for a stream with itself.
    pub fn run(&self, a: &impl Duplex, b: &impl Duplex) -> Result<Relayed, RelayError> {
        self.run_dyn(a, b)
    }

    fn run_dyn(&self, a: &dyn sealed::Duplex, b: &dyn sealed::Duplex) -> Result<Relayed, RelayError> {
        let (mut a, mut b) = take_turns(a, b).map_err(|source| RelayError {
            step: Step::Call,
            moved: Relayed::default(),
            source,
        })?;
        let machine = a.socket().machine().clone();
        let high_water = self.high_water.unwrap_or(machine.tuning.relay).max(1);
        let mut there = Half::new(high_water);
        let mut back = Half::new(high_water);
        let result = self.carry(&machine, &mut there, &mut back, &mut a, &mut b);
        if let Err(failure) = &result {
            match failure.step {
                Step::Write(Side::A) if failure.is_final() => {
                    self.rescue(&machine, &mut there, &mut a, &mut b);
                }
                Step::Write(Side::B) if failure.is_final() => {
                    self.rescue(&machine, &mut back, &mut b, &mut a);
                }
                _ => {}
            }
            // One more time without waiting; what fails now is no news.
            let _ = there.pass_on(&mut b);
            let _ = back.pass_on(&mut a);
        }
        let moved = Relayed { a_to_b: there.flow, b_to_a: back.flow };
        result.map(|()| moved).map_err(|Failure { step, source }| RelayError { step, moved, source })
    }

    fn carry(
        &self,
        machine: &Machine,
        there: &mut Half,
        back: &mut Half,
        a: &mut End<'_>,
        b: &mut End<'_>,
    ) -> Result<(), Failure> {
        let mut idle = self.idle_end(machine);
        while there.state != State::Ended || back.state != State::Ended {
            let moved = there.round(a, b)? | back.round(b, a)?;
            if moved {
                idle = self.idle_end(machine);
                continue;
            }
            let waits = [
                (there.wants_more(), &a.reading),
                (back.has_more(a), &a.writing),
                (back.wants_more(), &b.reading),
                (there.has_more(b), &b.writing),
            ];
            sleep_for_any(machine, &waits, "relay", idle).map_err(|error| match error {
                WaitError::Expired(Expired { scope: 0 }) => {
                    Failure { step: Step::Idle, source: error.into() }
                }
                error => Failure { step: Step::Call, source: error.into() },
            })?;
        }
        Ok(())
    }

    /// Passes on what a side had sent that takes no more: all, unless the other side takes no more either.
    fn rescue(&self, machine: &Machine, half: &mut Half, from: &mut End<'_>, to: &mut End<'_>) {
        let mut idle = self.idle_end(machine);
        while half.state == State::Open {
            let pulled = if half.wants_more() { half.pull(from) } else { Ok(None) };
            let is_all = matches!(pulled, Ok(Some(0)) | Err(_));
            let mut moved = matches!(pulled, Ok(Some(1..)));
            let passed = half.pass_bytes(to, &mut moved);
            if passed.is_err() || (is_all && !half.has_more(to)) {
                return;
            }
            if moved {
                idle = self.idle_end(machine);
                continue;
            }
            let waits = [(half.wants_more() && !is_all, &from.reading), (half.has_more(to), &to.writing)];
            if sleep_for_any(machine, &waits, "relay", idle).is_err() {
                return;
            }
        }
    }

    fn idle_end(&self, machine: &Machine) -> Instant {
        self.idle.map_or(Instant::FAR, |timeout| machine.now() + timeout)
    }
}

/// A stream with both its turns.
struct End<'a> {
    stream: &'a dyn sealed::Duplex,
    reading: Turn<'a>,
    writing: Turn<'a>,
    side: Side,
    /// Its end was read.
    has_ended: bool,
}

/// All four turns, those of the lower descriptor first, so that two relays do not wait for each other.
fn take_turns<'a>(a: &'a dyn sealed::Duplex, b: &'a dyn sealed::Duplex) -> io::Result<(End<'a>, End<'a>)> {
    let (first, second): (&Socket, &Socket) = (a.descriptor(), b.descriptor());
    if std::ptr::eq(first, second) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a relay of a stream with itself"));
    }
    if first.fd().raw() < second.fd().raw() {
        let a = End::take(a, Side::A)?;
        Ok((a, End::take(b, Side::B)?))
    } else {
        let b = End::take(b, Side::B)?;
        Ok((End::take(a, Side::A)?, b))
    }
}

impl<'a> End<'a> {
    fn take(stream: &'a dyn sealed::Duplex, side: Side) -> io::Result<End<'a>> {
        let socket: &'a Socket = stream.descriptor();
        Ok(End { stream, reading: socket.reading()?, writing: socket.writing()?, side, has_ended: false })
    }

    fn socket(&self) -> &'a Socket {
        self.stream.descriptor()
    }

    /// Sends what a layer has made. Whether all is sent.
    fn flush(&mut self, moved: &mut bool) -> io::Result<bool> {
        while !self.socket().behind.is_empty() {
            if self.writing.attempt(Socket::send_behind)?.is_none() {
                self.socket().behind.fit();
                return Ok(false);
            }
            *moved = true;
        }
        Ok(true)
    }

    /// Sends the end that was said, and ends what is written. Whether that is done.
    fn end(&mut self, moved: &mut bool) -> io::Result<bool> {
        let result = self.flush(moved).and_then(|sent| {
            if sent {
                self.socket().kernel().shutdown(self.socket().fd(), Shutdown::Write)?;
            }
            Ok(sent)
        });
        match result {
            // It had said its last word, and there is nobody left to hear this one.
            Err(error) if self.has_ended && has_gone(&error) => Ok(true),
            result => result,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The end was read; `said`: its target has been told, as far as a layer goes.
    Ending {
        said: bool,
    },
    Ended,
}

/// One direction.
struct Half {
    buffer: Buffer,
    high_water: usize,
    flow: Flow,
    state: State,
}

struct Failure {
    step: Step,
    source: io::Error,
}

impl Failure {
    fn at(step: Step) -> impl FnOnce(io::Error) -> Failure {
        move |source| {
            let step = if error::is_of_caller(&source) { Step::Call } else { step };
            Failure { step, source }
        }
    }

    /// Whether the side that failed sends nothing more: it has gone, or its TLS is broken.
    fn is_final(&self) -> bool {
        has_gone(&self.source) || self.source.kind() == io::ErrorKind::InvalidData
    }
}

impl Half {
    fn new(high_water: usize) -> Half {
        let buffer = Buffer::new(POOL.get());
        Half { buffer, high_water, flow: Flow::default(), state: State::Open }
    }

    fn wants_more(&self) -> bool {
        self.state == State::Open && self.buffer.len() < self.high_water
    }

    /// Whether there is something that `to` has to take. (A layer may have made something that has nothing to do with these bytes.)
    fn has_more(&self, to: &End<'_>) -> bool {
        match self.state {
            State::Open => !self.buffer.is_empty() || !to.socket().behind.is_empty(),
            State::Ending { .. } => true,
            State::Ended => false,
        }
    }

    /// Reads once and writes what can be written. Whether anything has moved.
    fn round(&mut self, from: &mut End<'_>, to: &mut End<'_>) -> Result<bool, Failure> {
        let mut moved = false;
        if self.wants_more() {
            let pulled = self.pull(from).map_err(Failure::at(Step::Read(from.side)))?;
            moved = pulled.is_some();
            match pulled {
                None => self.buffer.fit(),
                Some(0) => {
                    from.has_ended = true;
                    self.state = State::Ending { said: false };
                }
                Some(_) => {}
            }
        }
        let passed = self.pass_on(to).map_err(Failure::at(Step::Write(to.side)))?;
        Ok(moved | passed)
    }

    /// Reads once, if there is room. 0 is the end; `None`: it would have to wait.
    fn pull(&mut self, from: &mut End<'_>) -> io::Result<Option<usize>> {
        let room = self.high_water - self.buffer.len();
        let count = from.stream.pull(&mut from.reading, &mut self.buffer, room)?;
        self.flow.read += count.unwrap_or(0) as u64;
        Ok(count)
    }

    /// Writes until that would wait or all is written; then the end, if that is what comes. Whether anything has moved.
    fn pass_on(&mut self, to: &mut End<'_>) -> io::Result<bool> {
        let mut moved = false;
        let unsaid = matches!(self.state, State::Open | State::Ending { said: false });
        if unsaid && self.pass_bytes(to, &mut moved)? && self.state != State::Open {
            to.stream.say_end()?;
            self.state = State::Ending { said: true };
        }
        if self.state == (State::Ending { said: true }) && to.end(&mut moved)? {
            self.state = State::Ended;
            self.flow.ended = true;
            moved = true;
        }
        Ok(moved)
    }

    /// Writes until that would wait, or all is with the system: then true.
    fn pass_bytes(&mut self, to: &mut End<'_>, moved: &mut bool) -> io::Result<bool> {
        while to.flush(moved)? {
            if self.buffer.is_empty() {
                return Ok(true);
            }
            let bytes = IoSlice::new(self.buffer.bytes());
            let Some(count) = to.stream.push(&mut to.writing, &[bytes])? else { break };
            self.buffer.consume(count);
            self.flow.written += count as u64;
            *moved = true;
        }
        Ok(false)
    }
}

impl fmt::Display for RelayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Relayed { a_to_b, b_to_a } = self.moved;
        match self.step {
            Step::Read(side) => write!(f, "reading from {side:?}")?,
            Step::Write(side) => write!(f, "writing to {side:?}")?,
            Step::Idle => f.write_str("nothing moved")?,
            Step::Call => f.write_str("relay")?,
        }
        write!(f, ": {} (bytes from A to B: {}, back: {})", self.source, a_to_b.written, b_to_a.written)
    }
}

impl std::error::Error for RelayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<RelayError> for io::Error {
    fn from(error: RelayError) -> io::Error {
        error.source
    }
}

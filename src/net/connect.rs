//! Connecting over TCP: to one address, or to the first of several that answers ("happy eyeballs", RFC 8305).
//!
//! | an attempt | begins | ends |
//! |---|---|---|
//! | the first | at once | by the answer to it, or when another has won |
//! | each later one | when the one before has failed, or after `Tuning::connect_delay` beside it | the same |
//!
//! Families take turns, beginning with that of the first address; within a family the order stays, which is that of
//! `getaddrinfo` (RFC 6724). All of it is one coroutine, which waits for all sockets at once; a socket that is not the winner's is
//! closed. Both families are asked for in one lookup: `getaddrinfo` answers when it knows all addresses.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::vec;

use super::addresses::no_address;
use super::descriptor::Fresh;
use super::tcp::TcpStream;
use crate::error::{Expired, Misuse, WaitError};
use crate::kernel::{Domain, Errno, Instant, SocketKind};
use crate::machine::{Machine, Reason, TaskRef, current};

/// A connect to several addresses of which none has answered well: what each said.
///
/// Inside of an `io::Error` of the kind of the last one's, to be had by `downcast`.
#[derive(Debug)]
pub struct ConnectError {
    attempts: Vec<(SocketAddr, io::Error)>,
}

impl ConnectError {
    /// Every address that was tried and its error, in the order in which they failed; at least two.
    pub fn attempts(&self) -> &[(SocketAddr, io::Error)] {
        &self.attempts
    }
}

/// Connects to the first of `addresses` that answers.
pub(super) fn connect(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let machine = current::machine_rc().ok_or(Misuse::NoMachine)?;
    let me = machine.operation()?;
    let left = taking_turns(addresses.collect()).into_iter();
    Race { machine, left, next: Instant::from_nanos(0), attempts: Vec::new(), failed: Vec::new() }.run(me)
}

/// See the head of the file.
struct Race {
    machine: Rc<Machine>,
    left: vec::IntoIter<SocketAddr>,
    /// When the next one begins, unless something fails before.
    next: Instant,
    attempts: Vec<Attempt>,
    failed: Vec<(SocketAddr, io::Error)>,
}

impl Race {
    fn run(mut self, me: TaskRef) -> io::Result<TcpStream> {
        loop {
            if let Some(winner) = self.look() {
                return Ok(winner);
            }
            if self.is_time() {
                if let Some(winner) = self.begin() {
                    return Ok(winner);
                }
            } else if self.attempts.is_empty() {
                return Err(self.error());
            } else {
                self.sleep(me)?;
            }
        }
    }

    /// Whether there is an address to be tried now.
    fn is_time(&self) -> bool {
        self.left.len() > 0 && (self.attempts.is_empty() || self.machine.now() >= self.next)
    }

    /// Tries the next address.
    fn begin(&mut self) -> Option<TcpStream> {
        let address = self.left.next()?;
        match Attempt::begin(&self.machine, address) {
            Ok(Begun::Connected(stream)) => return Some(stream),
            Ok(Begun::Waits(attempt)) => self.attempts.push(attempt),
            Err(error) => {
                self.failed.push((address, error));
                return None;
            }
        }
        if self.left.len() > 0 {
            self.next = self.machine.now() + self.machine.tuning.connect_delay;
        }
        None
    }

    /// Looks at those of which something was heard.
    fn look(&mut self) -> Option<TcpStream> {
        let mut place = 0;
        while let Some(attempt) = self.attempts.get(place) {
            match attempt.answer() {
                None => place += 1,
                Some(Ok(())) => return Some(self.attempts.swap_remove(place).won()),
                Some(Err(error)) => {
                    let failed = self.attempts.remove(place);
                    self.failed.push((failed.address, error));
                    // The next one begins at once.
                    self.next = Instant::from_nanos(0);
                }
            }
        }
        None
    }

    /// Sleeps until something is heard of one, or it is time for the next.
    fn sleep(&self, me: TaskRef) -> io::Result<()> {
        let reason = match &self.attempts[..] {
            [only] => {
                let socket = &*only.stream.descriptor;
                Reason::ready("connect", socket.fd(), socket.edges(&socket.write))
            }
            several => Reason::numbered("the first of connections:", several.len() as i64),
        };
        let until = if self.left.len() > 0 { self.next } else { Instant::FAR };
        let directions = || self.attempts.iter().map(|attempt| &attempt.stream.descriptor.write);
        let waited = self.machine.wait(me, reason, until, |waiter| {
            directions().for_each(|write| write.set_sleeper(Some(waiter)));
        });
        directions().for_each(|write| write.set_sleeper(None));
        match waited {
            Err(WaitError::Expired(Expired { scope: 0 })) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Nobody is left to answer.
    fn error(mut self) -> io::Error {
        let Some((_, last)) = self.failed.last() else { return no_address() };
        let kind = last.kind();
        if self.failed.len() == 1 {
            return self.failed.remove(0).1;
        }
        io::Error::new(kind, ConnectError { attempts: self.failed })
    }
}

/// A socket that connects. Nobody reads nor writes on it, the machine neither: that would take away the error of the connect.
struct Attempt {
    stream: TcpStream,
    address: SocketAddr,
}

enum Begun {
    Connected(TcpStream),
    Waits(Attempt),
}

impl Attempt {
    fn begin(machine: &Rc<Machine>, address: SocketAddr) -> io::Result<Begun> {
        let kernel = &*machine.kernel;
        let fresh = Fresh::new(kernel, kernel.socket(Domain::of(&address), SocketKind::Stream)?);
        let connected = match kernel.connect(fresh.fd(), &address.into()) {
            Ok(()) => true,
            // Interrupted: the attempt goes on, as if in progress.
            Err(Errno::INPROGRESS | Errno::INTR) => false,
            Err(errno) => return Err(errno.into()),
        };
        // Registered only now: an unconnected socket has events of its own.
        let stream = TcpStream::register(machine, fresh.fd())?;
        fresh.keep();
        if connected {
            return Ok(Begun::Connected(stream));
        }
        let socket = &*stream.descriptor;
        socket.read.hold();
        socket.write.hold();
        // Nothing has yielded since the registration, so its first edge is still to come.
        socket.write.drained();
        Ok(Begun::Waits(Attempt { stream, address }))
    }

    /// How it ended, if something was heard of it and that is an end.
    fn answer(&self) -> Option<io::Result<()>> {
        let socket = &*self.stream.descriptor;
        if !socket.write.is_ready() {
            return None;
        }
        match self.stream.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Some(Err(error)),
        }
        match socket.kernel().getpeername(socket.fd()) {
            Ok(_) => Some(Ok(())),
            // A wake-up without a result.
            Err(Errno::NOTCONN) => {
                socket.write.drained();
                None
            }
            Err(errno) => Some(Err(errno.into())),
        }
    }

    fn won(self) -> TcpStream {
        let socket = &*self.stream.descriptor;
        socket.read.release();
        socket.write.release();
        self.stream
    }
}

/// The addresses with families by turns, beginning with that of the first one.
fn taking_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv4) else { return addresses };
    if addresses.iter().all(|address| address.is_ipv4() == first) {
        return addresses;
    }
    let (ours, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first);
    let (mut ours, mut others) = (ours.into_iter(), others.into_iter());
    let mut mixed = Vec::with_capacity(ours.len() + others.len());
    while ours.len() + others.len() > 0 {
        mixed.extend(ours.next());
        mixed.extend(others.next());
    }
    mixed
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no address answers:")?;
        for (place, (address, error)) in self.attempts.iter().enumerate() {
            let separator = if place == 0 { "" } else { ";" };
            write!(f, "{separator} {address}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConnectError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_keep_their_order() {
        let of = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 1)).collect()
        };
        for (given, taken) in [
            (&[][..], &[][..]),
            (&["1.1.1.1", "1.1.1.2"], &["1.1.1.1", "1.1.1.2"]),
            (&["::1", "::2", "::3", "1.1.1.1"], &["::1", "1.1.1.1", "::2", "::3"]),
            (&["1.1.1.1", "1.1.1.2", "::1"], &["1.1.1.1", "::1", "1.1.1.2"]),
            (&["::1", "1.1.1.1", "1.1.1.2", "::2"], &["::1", "1.1.1.1", "::2", "1.1.1.2"]),
        ] {
            assert_eq!(taking_turns(of(given)), of(taken), "{given:?}");
        }
    }
}

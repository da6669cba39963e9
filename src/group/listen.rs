//! Connections for all machines of a group.
//!
//! | | who accepts | who serves | good for |
//! |---|---|---|---|
//! | [`Group::listen`] | every machine, each by a listener of its own on one port (`SO_REUSEPORT`) | whoever has accepted | many connections: none is moved, and the system spreads them by a hash of their addresses |
//! | [`Group::hand_over`] | the machine that calls it | the one that has least to do | few that stay long, of which no machine should have more than another; listeners that share no port |
//!
//! Either lasts until its [`Listening`] ends or is dropped, the group ends, or a listener fails for good, which ends it on all
//! machines. What was accepted before is served on.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Group, Member, Members, Part};
use crate::error::{Cause, WaitError, cancelled, is_of_caller};
use crate::machine::{current, is_unwinding, shield, try_spawn};
use crate::net::{Kind, ListenerBuilder, Stream, TcpListener, TcpStream, ToSocketAddrs};
use crate::shared::lock::Lock;
use crate::shutdown::Shutdown;
use crate::sync::{Event, select};

impl Group {
    /// Listens on `address` with every machine, and has each connection served by `serve`, with the peer's address, in a coroutine of
    /// the machine that accepted it. Port 0 lets the system choose one for all; [`Listening::local_addr`] says which. Returns when all
    /// machines listen.
    ///
    /// Another program's port is not shared: see [`listen_with`](Self::listen_with) for that. A connection that finds no stack is closed.
    ///
    /// # Errors
    /// Of the address, as for [`TcpListener::bind`]. A [`ListenError`] of the system's kind (`AddrInUse`, ...) if a machine cannot
    /// listen. If a deadline or a cancellation ends the wait. In each case nobody listens any more, and nobody was served.
    ///
    /// ```
    /// use std::io;
    /// use machinarium::{Group, Shutdown, net::TcpStream};
    ///
    /// let result: io::Result<()> = machinarium::run(|| {
    ///     let shutdown = Shutdown::new();
    ///     let group = Group::start("worker", 2)?;
    ///     let listening = group.listen("127.0.0.1:0", |stream, _peer| {
    ///         let _ = io::copy(&mut &stream, &mut &stream);
    ///     })?;
    ///     let stream = TcpStream::connect(listening.local_addr().unwrap())?;
    ///     stream.write_all(b"echo")?;
    ///     let mut answer = [0; 4];
    ///     stream.read_exact(&mut answer)?;
    ///     assert_eq!(&answer, b"echo");
    ///     shutdown.begin("enough");                        // by a signal, mostly
    ///     listening.until(&shutdown)?;
    ///     drop(stream);
    ///     group.end("enough")
    /// });
    /// result.unwrap();
    /// ```
    pub fn listen(
        &self,
        address: impl ToSocketAddrs,
        serve: impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static,
    ) -> io::Result<Listening> {
        self.listen_with(TcpListener::builder(), address, serve)
    }

    /// As [`listen`](Self::listen), with listeners of these options. With
    /// [`reuse_port`](ListenerBuilder::reuse_port), the port is shared with whatever program has it with `SO_REUSEPORT` too: one that
    /// this one is to replace.
    ///
    /// # Errors
    /// As `listen`.
    pub fn listen_with(
        &self,
        builder: ListenerBuilder,
        address: impl ToSocketAddrs,
        serve: impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static,
    ) -> io::Result<Listening> {
        let mut addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
        let (mut listening, opening) = Listening::new(self);
        let serve = Arc::new(serve);
        let shares = self.members.list.len() > 1;
        // The first binds the port alone, unless it is to share it, so that a stranger's is not taken for its own; it is shared then.
        let mut builder = builder;
        for member in &self.members.list {
            let bind = Bind { builder: builder.clone(), addresses, shares };
            match open(member, bind, opening.clone(), serve.clone()) {
                Ok(address) => addresses = vec![address],
                Err(error) => {
                    drop(opening);
                    // Those that had begun to listen have ended when this returns.
                    let _ = listening.end();
                    return Err(error);
                }
            }
            builder = builder.reuse_port(true);
        }
        listening.address = addresses.first().copied();
        listening.accepting.opened.set();
        Ok(listening)
    }

    /// Accepts by `accept`, in a coroutine of the calling machine, and hands each connection over to the machine of the group that has
    /// least to do (see [`spawn`](Self::spawn)), where `serve` is called in a coroutine, with whatever `accept` says of the peer.
    ///
    /// A connection that finds no stack, and one that is on its way to a machine that ends, is closed.
    ///
    /// ```
    /// use machinarium::{Group, net::{TcpListener, TcpStream}, sync::channel};
    ///
    /// let result: std::io::Result<()> = machinarium::run(|| {
    ///     let group = Group::start("worker", 3)?;
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let address = listener.local_addr()?;
    ///     let (tell, told) = channel::unbounded();
    ///     let listening = group.hand_over(move || listener.accept(), move |stream, _peer| {
    ///         let _ = tell.send(machinarium::machine::current().unwrap().number());
    ///         let _ = stream.read_exact(&mut [0]);         // until the client goes
    ///     })?;
    ///     let clients: Vec<_> = (0..6).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
    ///     let mut served: Vec<u64> = told.iter().take(6).collect();
    ///     served.sort();
    ///     assert_eq!(served, [0, 0, 1, 1, 2, 2]);
    ///     drop(clients);
    ///     listening.end()?;
    ///     group.end("enough")
    /// });
    /// result.unwrap();
    /// ```
    ///
    /// # Errors
    /// If there is no stack for the coroutine that accepts; outside a machine.
    pub fn hand_over<K: Kind + 'static, P: Send + 'static>(
        &self,
        accept: impl Fn() -> io::Result<(Stream<K>, P)> + 'static,
        serve: impl Fn(Stream<K>, P) + Send + Sync + 'static,
    ) -> io::Result<Listening> {
        let (listening, part) = Listening::new(self);
        let (members, serve) = (self.members.clone(), Arc::new(serve));
        try_spawn("listener", move || {
            part.accept(accept, |stream, peer| members.hand_over(stream, peer, &serve));
        })?;
        listening.accepting.opened.set();
        Ok(listening)
    }
}

/// Connections that a group accepts. Dropping it ends that, on all machines, and waits for nobody.
///
/// A connection that the system has taken and nobody has accepted by then is reset.
pub struct Listening {
    accepting: Arc<Accepting>,
    address: Option<SocketAddr>,
}

impl Listening {
    /// And the first part of it, for who is to accept.
    fn new(group: &Group) -> (Listening, AcceptPart) {
        let accepting = Arc::<Accepting>::default();
        let mut listening = group.listening.borrow_mut();
        listening.retain(|accepting| !accepting.ended.is_set());
        listening.push(accepting.clone());
        let part = AcceptPart::of(&accepting);
        (Listening { accepting, address: None }, part)
    }

    /// Where all machines listen; `None` of [`Group::hand_over`], whose listener is the caller's.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Waits until `shutdown` begins, or the end of this in any other way, and then for those who accept to have ended, as
    /// [`end`](Self::end) does.
    ///
    /// # Errors
    /// As for `end`. If a deadline or a cancellation ends the wait: nobody accepts any more then, too.
    pub fn until(self, shutdown: &Shutdown) -> io::Result<()> {
        let waited = select(&mut [&mut shutdown.waiting(), &mut self.accepting.end.waiting()]);
        self.end()?;
        waited.map(drop).map_err(io::Error::from)
    }

    /// Ends it, and waits until the listeners are closed, out of reach of deadlines and cancellation.
    ///
    /// # Errors
    /// A [`ListenError`], if a listener has failed for good.
    pub fn end(self) -> io::Result<()> {
        self.accepting.end(NO_MORE.into());
        self.accepting.wait_for_end()?;
        self.accepting.failure.with(|failure| failure.take()).map_or(Ok(()), Err)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.accepting.end(NO_MORE.into());
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("address", &self.address).field("end", &self.accepting.end).finish()
    }
}

const NO_MORE: &str = "the group listens no more";

/// Has one machine listen; it accepts when all do.
fn open(
    member: &Member,
    bind: Bind,
    part: AcceptPart,
    serve: Arc<impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static>,
) -> io::Result<SocketAddr> {
    let (member, remote) = (member.clone(), member.remote.clone());
    let listen = move || -> io::Result<SocketAddr> {
        let (listener, address) = bind.bind()?;
        try_spawn("listener", move || {
            part.accept(move || listener.accept(), |stream, peer| member.serve(stream, peer, &serve));
        })?;
        Ok(address)
    };
    let opened = remote.spawn(listen).map_err(io::Error::from);
    let opened = opened.and_then(|opened| opened.join()?);
    opened.map_err(|error| ListenError::of(remote.name(), error))
}

/// What those who accept have in common.
#[derive(Default)]
pub(super) struct Accepting {
    /// All of them listen: before it nobody accepts.
    opened: Event,
    end: Shutdown,
    /// How many accept, or are about to.
    parts: AtomicUsize,
    /// That nobody does any more: all listeners are closed.
    ended: Event,
    /// The first listener that has failed for good.
    failure: Lock<Option<io::Error>>,
}

impl Accepting {
    pub(super) fn end(&self, cause: Cause) {
        self.end.begin(cause);
    }

    /// Out of reach of deadlines and cancellation.
    pub(super) fn wait_for_end(&self) -> Result<(), WaitError> {
        shield(|| self.ended.wait())
    }

    fn fail(&self, error: io::Error) {
        let name = current::machine().map_or("", |machine| &machine.shared.name);
        let error = ListenError::of(name, error);
        let late = self.failure.with(|first| match first {
            None => {
                *first = Some(error);
                None
            }
            Some(_) => Some(error),
        });
        drop(late);
        self.end("a listener has failed".into());
    }
}

/// One who accepts, or is about to.
struct AcceptPart(Arc<Accepting>);

impl AcceptPart {
    fn of(accepting: &Arc<Accepting>) -> AcceptPart {
        // Relaxed: whoever makes another has one, so this is not the first that goes.
        accepting.parts.fetch_add(1, Ordering::Relaxed);
        AcceptPart(accepting.clone())
    }

    /// Gives what comes to `give`, until the end, or the machine's.
    fn accept<S, P>(self, accept: impl Fn() -> io::Result<(S, P)>, mut give: impl FnMut(S, P)) {
        let AcceptPart(accepting) = &self;
        let accept_all = || -> io::Result<()> {
            accepting.opened.wait()?;
            loop {
                let (stream, peer) = accept()?;
                give(stream, peer);
            }
        };
        match catch_unwind(AssertUnwindSafe(|| accepting.end.until_begun(accept_all))) {
            Ok(Err(error)) if cancelled(&error).is_none() => accepting.fail(error),
            Ok(_) => {}
            Err(panic) => {
                if !is_unwinding(&*panic) {
                    accepting.fail(io::Error::other("its accept has panicked"));
                }
                resume_unwind(panic)
            }
        }
    }
}

impl Clone for AcceptPart {
    fn clone(&self) -> AcceptPart {
        AcceptPart::of(&self.0)
    }
}

impl Drop for AcceptPart {
    fn drop(&mut self) {
        // What is to be seen by who waits goes through the event's own lock.
        if self.0.parts.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.ended.set();
        }
    }
}

/// How a machine's listener is made.
struct Bind {
    builder: ListenerBuilder,
    addresses: Vec<SocketAddr>,
    /// With other machines.
    shares: bool,
}

impl Bind {
    fn bind(self) -> io::Result<(TcpListener, SocketAddr)> {
        let listener = self.builder.bind(self.addresses.as_slice())?;
        if self.shares {
            listener.set_reuse_port(true)?;
        }
        let address = listener.local_addr()?;
        Ok((listener, address))
    }
}

impl Member {
    /// On the member's machine.
    fn serve<K: Kind + 'static, P: 'static>(
        &self,
        stream: Stream<K>,
        peer: P,
        serve: &Arc<impl Fn(Stream<K>, P) + Send + Sync + 'static>,
    ) {
        let (part, serve) = (Part::of(&self.load), serve.clone());
        // Without a stack the connection is dropped with the closure.
        let _ = try_spawn("connection", move || {
            let _part = part;
            serve(stream, peer);
        });
    }
}

impl Members {
    fn hand_over<K: Kind + 'static, P: Send + 'static>(
        &self,
        stream: Stream<K>,
        peer: P,
        serve: &Arc<impl Fn(Stream<K>, P) + Send + Sync + 'static>,
    ) {
        let Some(member) = self.least_loaded() else { return };
        if member.remote.is_here() {
            return member.serve(stream, peer, serve);
        }
        let Ok(stream) = stream.detach() else { return };
        let (part, serve) = (Part::of(&member.load), serve.clone());
        // A machine that ends meanwhile drops the connection with the closure.
        let _ = member.remote.spawn(move || {
            let _part = part;
            if let Ok(stream) = stream.attach_patiently() {
                serve(stream, peer);
            }
        });
    }
}

/// Why a machine of a group does not listen: what is in the `io::Error` of a [`Listening`], whose kind is the system's error's.
#[derive(Debug)]
pub struct ListenError {
    machine: String,
    source: io::Error,
}

impl ListenError {
    /// As it is if it is about the caller, who was cancelled or has waited too long.
    fn of(machine: &str, source: io::Error) -> io::Error {
        if is_of_caller(&source) {
            return source;
        }
        io::Error::new(source.kind(), ListenError { machine: machine.to_owned(), source })
    }

    /// The name of the machine.
    pub fn machine(&self) -> &str {
        &self.machine
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "machine '{}' does not listen: {}", self.machine, self.source)
    }
}

impl Error for ListenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

//! ureq 3 on machines: an [`agent`] whose connections are this library's streams, whose names are looked up by it, and whose timeouts are
//! deadlines, beside those of the coroutine.
//!
//! TLS is this library's too, by the configuration that the [`Connector`] is given; ureq needs none of its own features for it. Proxies
//! are refused. An agent may be shared among machines: a connection that it keeps is used again on its own machine alone.
//!
//! ```
//! use machinarium::adapter::ureq::agent;
//! use machinarium::net::TcpListener;
//!
//! let result: std::io::Result<()> = machinarium::run(|| {
//!     let listener = TcpListener::bind("127.0.0.1:0")?;
//!     let address = listener.local_addr()?;
//!     machinarium::spawn(move || {
//!         let (stream, _) = listener.accept()?;
//!         stream.read_until(b'\n', &mut Vec::new())?;
//!         stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")?;
//!         std::io::Result::Ok(())
//!     });
//!     let mut answer = agent().get(format!("http://{address}/")).call().map_err(std::io::Error::other)?;
//!     assert_eq!(answer.body_mut().read_to_string().unwrap(), "hello");
//!     Ok(())
//! });
//! result.unwrap();
//! ```

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{self, ArrayVec, DefaultResolver, ResolvedSocketAddrs};
use ureq::unversioned::transport::{self, Buffers, ConnectionDetails, LazyBuffers, NextTimeout};
use ureq::{Agent, Error};

use crate::kernel::Instant;
use crate::machine::Resident;
use crate::machine::block::{Attempt, Case as _};
use crate::net::{TcpStream, ToSocketAddrs};
use crate::time::{deadline, now};
#[cfg(any(feature = "tls", feature = "tls-ring"))]
use crate::tls::{ClientConfig, TlsStream};

/// An agent with ureq's defaults, for `http`. For more, `Agent::with_parts` with a [`Connector`] and a [`Resolver`].
pub fn agent() -> Agent {
    Agent::with_parts(Config::default(), Connector::new(), Resolver)
}

/// Connects as [`TcpStream::connect`] does, to all addresses of a name (RFC 8305).
#[derive(Clone, Debug, Default)]
pub struct Connector {
    #[cfg(any(feature = "tls", feature = "tls-ring"))]
    tls: Option<ClientConfig>,
}

impl Connector {
    /// For `http` alone.
    pub fn new() -> Connector {
        Connector::default()
    }

    /// For `https` too.
    #[cfg(any(feature = "tls", feature = "tls-ring"))]
    pub fn tls(self, config: ClientConfig) -> Connector {
        Connector { tls: Some(config) }
    }

    fn open(&self, details: &ConnectionDetails<'_>) -> io::Result<Socket> {
        let stream = TcpStream::connect(&details.addrs[..])?;
        if details.config.no_delay() {
            stream.set_nodelay(true)?;
        }
        if details.needs_tls() { self.secure(stream, details) } else { Ok(Socket::Plain(stream)) }
    }

    #[cfg(any(feature = "tls", feature = "tls-ring"))]
    fn secure(&self, stream: TcpStream, details: &ConnectionDetails<'_>) -> io::Result<Socket> {
        let config = self.tls.as_ref().ok_or_else(|| unsupported("https without Connector::tls"))?;
        let host = details.uri.host().unwrap_or_default();
        let name = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Socket::Tls(Box::new(config.connect(stream, name)?)))
    }

    #[cfg(not(any(feature = "tls", feature = "tls-ring")))]
    fn secure(&self, _: TcpStream, _: &ConnectionDetails<'_>) -> io::Result<Socket> {
        Err(unsupported("https without a feature for TLS"))
    }
}

fn unsupported(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, what)
}

impl transport::Connector for Connector {
    type Out = Transport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<Transport>, Error> {
        let config = details.config;
        if config.proxy().is_some() {
            return Err(unsupported("ureq by way of a proxy").into());
        }
        let socket = within(details.timeout, || self.open(details))?;
        let socket = Resident::new(socket).map_err(io::Error::from)?;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Transport { socket, buffers }))
    }
}

/// ureq takes errors of these kinds for the end of what it reads, and so, of an answer that does not say how long it is, what came before a
/// reset or a connection of TLS that was cut for all of it.
fn not_an_end(error: io::Error) -> io::Error {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Other, UnexpectedEof};
    match error.kind() {
        UnexpectedEof | ConnectionAborted | ConnectionReset => io::Error::new(Other, error),
        _ => error,
    }
}

/// A connection of ureq's.
pub struct Transport {
    socket: Resident<Socket>,
    buffers: LazyBuffers,
}

#[derive(Debug)]
enum Socket {
    Plain(TcpStream),
    #[cfg(any(feature = "tls", feature = "tls-ring"))]
    Tls(Box<TlsStream>),
}

impl Socket {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Socket::Plain(stream) => Write::write_all(stream, bytes),
            #[cfg(any(feature = "tls", feature = "tls-ring"))]
            Socket::Tls(stream) => Write::write_all(stream, bytes),
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(stream) => stream.read(buf),
            #[cfg(any(feature = "tls", feature = "tls-ring"))]
            Socket::Tls(stream) => stream.read(buf),
        }
    }

    /// Whether nothing has come: what comes between answers, the end above all, makes a connection useless.
    ///
    /// ureq asks this while it holds its pool's lock, which is std's. So this looks as an operation does and is none: one whose budget is
    /// over would switch to other coroutines, and the first of them that wants that lock would put the machine to sleep for ever.
    fn is_quiet(&self) -> bool {
        let mut readable = match self {
            Socket::Plain(stream) => stream.readable(),
            #[cfg(any(feature = "tls", feature = "tls-ring"))]
            Socket::Tls(stream) => stream.readable(),
        };
        readable.attempt(None) == Attempt::NotNow
    }
}

impl transport::Transport for Transport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let output = &self.buffers.output()[..amount];
        let socket = self.socket.get_mut().map_err(io::Error::from)?;
        within(timeout.for_write(), || socket.write_all(output))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let input = self.buffers.input_append_buf();
        let socket = self.socket.get_mut().map_err(io::Error::from)?;
        let count = within(timeout.for_read(), || socket.read(input).map_err(not_an_end))?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.socket.get().is_ok_and(Socket::is_quiet)
    }

    fn is_tls(&self) -> bool {
        !matches!(self.socket.get(), Ok(Socket::Plain(_)) | Err(_))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("socket", &self.socket).finish()
    }
}

/// Looks names up as [`lookup`](crate::net::lookup) does: with the process's cache, and on threads of the pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resolver;

/// How many addresses ureq takes.
const MOST: usize = 16;

impl resolver::Resolver for Resolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let place = uri.scheme().zip(uri.authority());
        let place = place.and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        let place = place.ok_or_else(|| Error::BadUri(format!("{uri} has no host and port")))?;
        let found = within(timeout, || place.to_socket_addrs())?;
        let mut addresses: ArrayVec<SocketAddr, MOST> = self.empty();
        config.ip_family().keep_wanted(found).take(MOST).for_each(|address| addresses.push(address));
        if addresses.is_empty() { Err(Error::HostNotFound) } else { Ok(addresses) }
    }
}

/// Does `call` until ureq's timeout; its end is ureq's error, and that of a deadline around it is the coroutine's.
fn within<T>(timeout: NextTimeout, call: impl FnOnce() -> io::Result<T>) -> Result<T, Error> {
    let never = timeout.after.is_not_happening();
    let end = if never { Instant::FAR } else { now() + *timeout.after };
    deadline(end, call).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut if now() >= end => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    })
}

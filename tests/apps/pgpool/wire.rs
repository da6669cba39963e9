//! A connection to a client or a server: TCP, with TLS on it or without.

use std::io::{self, Read};
use std::time::Duration;

use machinarium::net::{Readable, TcpStream, Writable};
use machinarium::tls::{DetachedTlsStream, TlsStream};

/// Behind how many unsent bytes a server gets no more of its client's. One that sends and does not read would otherwise never be
/// read either.
const UNSENT: usize = 64 << 10;

/// How often a peer that has been silent for a while is asked whether it is there.
const PROBES: u32 = 4;

/// Has a connection end whose peer has gone without a word: as its host did, or as something in between has forgotten it. `silence`: before it is asked.
pub(crate) fn keep_alive(stream: &TcpStream, silence: Option<Duration>) -> io::Result<()> {
    let Some(silence) = silence else { return Ok(()) };
    // What Linux takes.
    let seconds = |time: Duration| Duration::from_secs(time.as_secs().clamp(1, 32767));
    stream.set_keepalive(true)?;
    stream.set_keepalive_idle(seconds(silence))?;
    stream.set_keepalive_interval(seconds(silence / PROBES))?;
    stream.set_keepalive_count(PROBES)
}

/// See the head of the file.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// A connection on its way to another machine.
pub(crate) enum DetachedWire {
    Plain(machinarium::net::DetachedTcpStream),
    Tls(DetachedTlsStream),
}

impl Wire {
    /// Reads once; 0 is the end. TLS that ends without saying so has ended all the same: the protocol above has an end of its own.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => (&mut &*stream).read(buffer),
            Wire::Tls(stream) => match (&mut &**stream).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                other => other,
            },
        }
    }

    pub(crate) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => Ok(stream.write_all(bytes)?),
            Wire::Tls(stream) => Ok(stream.write_all(bytes)?),
        }
    }

    pub(crate) fn readable(&self) -> Readable<'_> {
        match self {
            Wire::Plain(stream) => stream.readable(),
            Wire::Tls(stream) => stream.readable(),
        }
    }

    /// Chosen when the peer has taken so much that more may be written.
    pub(crate) fn has_room(&self) -> Writable<'_> {
        self.tcp().set_high_water(UNSENT, 0);
        self.tcp().writable()
    }

    /// Whether so much is unsent that nothing more is to be written for now.
    pub(crate) fn is_full(&self) -> bool {
        self.tcp().unsent() >= UNSENT
    }

    /// Has writes never wait: what the peer does not take is kept. Whoever writes asks [`is_full`](Self::is_full) before.
    pub(crate) fn never_wait(&self) {
        self.tcp().set_high_water(usize::MAX, 0);
    }

    /// Whether a read would not wait: bytes, the end or an error are there. No system call.
    pub(crate) fn has_input(&self) -> bool {
        !matches!(machinarium::sync::try_select(&mut [&mut self.readable()]), Ok(None))
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Wire::Tls(_))
    }

    /// The stream below: for addresses, options and marks.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Wire::Plain(stream) => stream,
            Wire::Tls(stream) => stream.get_ref(),
        }
    }

    /// Tells a peer that hears of the end of TLS; never fails.
    pub(crate) fn close(self) {
        if let Wire::Tls(stream) = self {
            let _ = stream.close();
        }
    }

    pub(crate) fn detach(self) -> io::Result<DetachedWire> {
        Ok(match self {
            Wire::Plain(stream) => DetachedWire::Plain(stream.detach()?),
            Wire::Tls(stream) => DetachedWire::Tls(stream.detach()?),
        })
    }
}

impl DetachedWire {
    pub(crate) fn attach(self) -> io::Result<Wire> {
        Ok(match self {
            DetachedWire::Plain(stream) => Wire::Plain(stream.attach()?),
            DetachedWire::Tls(stream) => Wire::Tls(Box::new(stream.attach().map_err(|error| error.source)?)),
        })
    }
}

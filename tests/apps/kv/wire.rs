//! What a connection needs of its stream: TCP, TLS and Unix sockets are served alike.

use std::io::{self, BufRead, Read, Write};
use std::net::Shutdown;

use machinarium::net::{TcpStream, UnixStream};
use machinarium::tls::TlsStream;

/// A connected stream that may be read and written by two coroutines at once.
pub(crate) trait Wire: BufRead + Write {
    /// Small writes leave at once.
    fn nodelay(&self) -> io::Result<()>;
    /// Nothing more is sent.
    fn finish(&self) -> io::Result<()>;
    /// What `Read::read` does, without the stream to itself.
    fn read_shared(&self, bytes: &mut [u8]) -> io::Result<usize>;
    /// What `Write::write_all` does, without the stream to itself.
    fn write_shared(&self, bytes: &[u8]) -> io::Result<()>;
}

macro_rules! wire {
    ($stream:ty, $this:ident, $nodelay:expr, $finish:expr) => {
        impl Wire for $stream {
            fn nodelay(&self) -> io::Result<()> {
                let $this = self;
                $nodelay
            }

            fn finish(&self) -> io::Result<()> {
                let $this = self;
                $finish
            }

            fn read_shared(&self, bytes: &mut [u8]) -> io::Result<usize> {
                (&mut &*self).read(bytes)
            }

            fn write_shared(&self, bytes: &[u8]) -> io::Result<()> {
                Ok(<$stream>::write_all(self, bytes)?)
            }
        }
    };
}

wire!(TcpStream, stream, stream.set_nodelay(true), stream.shutdown(Shutdown::Write));
wire!(
    UnixStream,
    stream,
    {
        let _ = stream;
        Ok(())
    },
    stream.shutdown(Shutdown::Write)
);
wire!(TlsStream, stream, stream.get_ref().set_nodelay(true), stream.close_write());

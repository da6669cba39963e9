//! The echo server as one writes it with this library.

use std::io::{self, Read};
use std::net::SocketAddr;

use machinarium::net::{TcpListener, TcpStream};

/// Serves for ever.
pub fn serve(announce: fn(SocketAddr)) -> io::Result<()> {
    machinarium::run(|| {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            drop(machinarium::spawn(move || echo(&stream)));
        }
    })
}

/// Until the peer has no more to say.
pub fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        match Read::read(&mut stream, &mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count]).map_err(io::Error::other)?,
        }
    }
}

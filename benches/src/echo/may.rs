//! The echo server on may, with one thread.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use may::net::{TcpListener, TcpStream};

/// Serves for ever.
pub fn serve(announce: fn(SocketAddr)) -> io::Result<()> {
    may::config().set_workers(1);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    announce(listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        stream.set_nodelay(true)?;
        may::go!(move || echo(stream));
    }
    Ok(())
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

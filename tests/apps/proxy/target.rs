//! What is behind the proxy in the hunt: gives back what it is sent, on one machine.

use std::io;
use std::net::{Shutdown, SocketAddr};

use machinarium::net::TcpListener;
use machinarium::tls::TlsStream;

use crate::common::init::keep_starting;
use crate::common::place::Certificate;

/// The main function of its host.
pub(crate) fn serve(address: SocketAddr, certificate: Option<Certificate>) -> io::Result<()> {
    keep_starting(|begun| {
        machinarium::run(|| {
            let tls = certificate.as_ref().map(Certificate::config).transpose()?;
            let listener = TcpListener::bind(address)?;
            begun.set(true);
            loop {
                let (stream, _) = listener.accept()?;
                let tls = tls.clone();
                let serve = move || -> io::Result<()> {
                    let Some(tls) = tls else {
                        io::copy(&mut &stream, &mut &stream)?;
                        return stream.shutdown(Shutdown::Write);
                    };
                    let stream: TlsStream = tls.accept(stream)?;
                    io::copy(&mut &stream, &mut &stream)?;
                    stream.close()
                };
                // Without a stack for it, the stream is closed.
                let _ = machinarium::try_spawn("client", serve);
            }
        })
    })
}

//! Servers that are processes of their own: this program again, which tells where it listens.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use rustls::pki_types::CertificateDer;

use crate::process::this_program;

/// A server, killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it shows, if it speaks TLS.
    pub certificate: Option<CertificateDer<'static>>,
}

impl Server {
    /// Starts this program with these arguments.
    pub fn start(arguments: &[&str]) -> Server {
        let mut child =
            this_program().args(arguments).stdout(Stdio::piped()).spawn().expect("a child process");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("the server's address");
        let mut words = line.split_whitespace();
        let address = words.next().and_then(|word| word.parse().ok()).expect("the server's address");
        Server { child, address, certificate: words.next().map(certificate) }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server tells the clients where to connect.
pub fn announce(address: SocketAddr) {
    println!("{address}");
}

/// And whom to trust.
pub fn announce_with(address: SocketAddr, certificate: &[u8]) {
    let digits: String = certificate.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{address} {digits}");
}

fn certificate(digits: &str) -> CertificateDer<'static> {
    let byte = |place| u8::from_str_radix(&digits[place..place + 2], 16).expect("two digits");
    (0..digits.len()).step_by(2).map(byte).collect::<Vec<_>>().into()
}

//! Where the pictures come from: the socket of the process, connected to anew when that has gone and come back.

use std::io::{self, BufRead};
use std::path::PathBuf;
use std::time::Duration;

use machinarium::net::UnixStream;
use machinarium::timeout;

use crate::snapshot::Snapshot;

/// How long the process has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the head of the file.
pub(crate) struct Source {
    path: PathBuf,
    stream: Option<UnixStream>,
}

impl Source {
    pub(crate) fn new(path: PathBuf) -> Source {
        Source { path, stream: None }
    }

    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// What the process is doing.
    ///
    /// # Errors
    /// In words for who sits before the screen.
    pub(crate) fn look(&mut self) -> io::Result<Snapshot> {
        let looked = timeout(PATIENCE, || self.ask());
        looked.map_err(|error| {
            self.stream = None;
            let what = match error.kind() {
                io::ErrorKind::NotFound => {
                    "there is no such socket: was the process started with --inspect?".to_owned()
                }
                io::ErrorKind::ConnectionRefused => {
                    "nobody serves this socket: the process has gone".to_owned()
                }
                io::ErrorKind::TimedOut => format!("the process does not answer within {PATIENCE:?}"),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    "the process has gone".to_owned()
                }
                _ => error.to_string(),
            };
            io::Error::new(error.kind(), format!("{}: {what}", self.name()))
        })
    }

    fn ask(&mut self) -> io::Result<Snapshot> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => UnixStream::connect(&self.path)?,
        };
        stream.write_all(b"coroutines\n")?;
        let (mut line, mut empty) = (String::new(), String::new());
        if stream.read_line(&mut line)? == 0 || stream.read_line(&mut empty)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let process = stream.peer_cred()?.map(|peer| peer.pid);
        self.stream = Some(stream);
        let snapshot = serde_json::from_str(&line)
            .map_err(|_| io::Error::other("what answers there is no inspect::serve"))?;
        Ok(Snapshot { process, ..snapshot })
    }
}

//! A Unix socket at which a running process tells of itself: to a person with `socat`, and to tools.
//!
//! A client sends a line, and gets lines, the last of which is empty:
//!
//! | request | answer |
//! |---|---|
//! | `machines` | what each machine has counted, as one line of JSON |
//! | `coroutines` | the same, with a `list` of each machine's coroutines; null if it does not answer |
//! | `dump` | all of it for people, with backtraces ([`Inspection::dump`]) |
//! | `prometheus` | the statistics for Prometheus ([`prometheus`](super::prometheus())) |
//! | anything else | `error: ` and what it should have been |
//!
//! A machine of its own serves that, so that it answers also for one that a coroutine holds. Clients are served one by one in coroutines; one
//! that does not read, or says nothing for long, is let go.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Inspection, json, prometheus, statistics};
use crate::kernel::Instant;
use crate::machine::wakeup::RemoteWaiter;
use crate::machine::{self, Handle, current, receive, shield};
use crate::net::{UnixListener, UnixStream};
use crate::shared::once;
use crate::time::{now, timeout};

/// How long a machine has to answer for its list of coroutines.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a client may say nothing, or read nothing of what it has asked for.
const IDLE: Duration = Duration::from_secs(600);
/// The longest request.
const LONGEST: usize = 64;

/// Ends the service when it is dropped, and removes its socket.
pub struct Serving {
    thread: Handle<()>,
    path: PathBuf,
}

/// Tells of this process at the Unix socket `path`, from a machine of its own called "inspect", until what this returns is dropped.
///
/// A client sends a line, `machines`, `coroutines`, `dump` or `prometheus`, and gets lines of which the last is empty. The first two are
/// answered by one line of JSON. Whoever may write to the socket's file may ask: the process's umask decides.
///
/// ```text
/// $ echo dump | socat - UNIX:/run/kv.inspect
/// machine 0 'kv-0': 3 coroutines, ...
/// ```
///
/// # Errors
/// As for [`UnixListener::bind`]: `AddrInUse` if there is a file already, which a process that was killed leaves; as for
/// [`machine::spawn`].
///
/// ```
/// use std::io::{BufRead, Write};
/// let path = std::env::temp_dir().join(format!("machinarium-serve-{}", std::process::id()));
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let _serving = machinarium::inspect::serve(&path)?;
///     let mut client = machinarium::net::UnixStream::connect(&path)?;
///     client.write_all(b"machines\n")?;
///     let mut line = String::new();
///     client.read_line(&mut line)?;
///     assert!(line.contains(r#""name":"machine-0""#));
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub fn serve(path: impl AsRef<Path>) -> io::Result<Serving> {
    let path = path.as_ref().to_owned();
    let theirs = path.clone();
    let (setter, mut getter) = once::pair::<_, RemoteWaiter>();
    let thread = machine::spawn("inspect", move || match UnixListener::bind(&theirs) {
        Ok(listener) => {
            setter.set(Ok(()));
            accept(&listener);
        }
        Err(error) => setter.set(Err(error)),
    })?;
    // As its start, this is not left half-way.
    shield(|| receive(&mut getter, "a socket of inspect", Instant::FAR)).map_err(io::Error::from)??;
    Ok(Serving { thread, path })
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Serving")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.thread.stop("nobody wants to be inspected any more");
        // Not there, where the process may be over before that is done.
        let machine = current::machine().zip(CString::new(self.path.as_os_str().as_bytes()).ok());
        // Somebody else may have removed it.
        let _ = machine.map(|(machine, path)| machine.kernel.unlink(&path));
    }
}

/// Until it is stopped. The listener waits by itself where the system is out of something.
fn accept(listener: &UnixListener) {
    while let Ok((stream, _)) = listener.accept() {
        // Without a stack for it, the stream is closed.
        drop(machine::try_spawn("inspector", move || answer_all(&stream)));
    }
}

fn answer_all(stream: &UnixStream) -> io::Result<()> {
    loop {
        let mut line = Vec::new();
        timeout(IDLE, || read_line(stream, &mut line))?;
        if line.is_empty() {
            return Ok(());
        }
        let mut answer = answer(String::from_utf8_lossy(&line).trim())?;
        if !answer.ends_with('\n') {
            answer.push('\n');
        }
        answer.push('\n');
        timeout(IDLE, || stream.write_all(answer.as_bytes()))?;
    }
}

/// A line with its end, or nothing at the end.
fn read_line(stream: &UnixStream, line: &mut Vec<u8>) -> io::Result<()> {
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        match io::Read::read(&mut &*stream, &mut byte)? {
            0 if line.is_empty() => return Ok(()),
            0 => line.push(b'\n'),
            _ if line.len() == LONGEST => return Err(io::ErrorKind::InvalidData.into()),
            _ => line.push(byte[0]),
        }
    }
    Ok(())
}

fn answer(request: &str) -> io::Result<String> {
    Ok(match request {
        "machines" => json::machines(now(), &statistics()?),
        "coroutines" => json::dump(now(), &Inspection::new().backtraces(0).patience(PATIENCE).dump()?),
        "dump" => Inspection::new().dump()?.to_string(),
        "prometheus" => prometheus()?.to_string(),
        other => format!("error: {other:?} is none of machines, coroutines, dump, prometheus"),
    })
}

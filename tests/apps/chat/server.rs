//! The server as a whole: `serve` is the entry point, the same on Linux and in a simulated world.
//!
//! The calling thread becomes the first machine, which accepts, and where the room is. Streams go to whichever machine has fewest. There
//! each member has two coroutines: one reads its lines and says them in the room, one writes what is said there. How the
//! server ends is in `common/service.rs`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use machinarium::net::{TcpListener, TcpStream};
use machinarium::{Builder, Group, Listening, scope};

use crate::common::service::{Clients, End};
use crate::config::Config;
use crate::room::{self, Member};

/// The longest line. Whoever says more is cut off.
const LINE: usize = 4096;

/// Serves until it is told to end, by SIGTERM or SIGINT or by its main coroutine's cancellation. `ready` is told the address.
///
/// # Errors
/// When it cannot listen or start its machines; that of a listener that has failed.
pub(crate) fn serve(config: &Config, ready: impl FnOnce(SocketAddr)) -> io::Result<()> {
    Builder::new().name("chat-0").run(|| {
        let (end, clients) = (End::on_signals()?, Clients::new(config.clients));
        let places = clients.clone();
        let start = |group: &Group| {
            let (address, listening) = start(config, group, places)?;
            ready(address);
            Ok(vec![listening])
        };
        end.live(("chat", config.machines), start, |cause| {
            let (count, drain) = (clients.count(), config.drain);
            (config.say)(&format!("{cause}: members: {count}; they have {drain:?} to leave"));
            clients.wait(drain);
        })
    })
}

/// Listens, and lets in who comes.
fn start(config: &Config, group: &Group, clients: Clients) -> io::Result<(SocketAddr, Listening)> {
    let listener = TcpListener::bind(config.listen).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {}: {error}", config.listen))
    })?;
    let address = listener.local_addr()?;
    let (door, numbers) = (room::open(config.queue, config.bug), AtomicU64::new(1));
    let attend = move |stream, _| {
        // A stream that finds no place is closed, and its client sees that.
        let Some(_place) = clients.place() else { return };
        let Some(member) = door.enter(numbers.fetch_add(1, Relaxed)) else { return };
        // However it ended, the member has seen it.
        let _ = attend(stream, &member);
    };
    Ok((address, group.hand_over(move || listener.accept(), attend)?))
}

/// One member's stay: until it ends its half, fails, or is cut off.
fn attend(stream: TcpStream, member: &Member) -> io::Result<()> {
    stream.set_nodelay(true)?;
    scope(|scope| {
        let writing = scope.spawn(|| {
            let written = write(&stream, member);
            // Whoever does not hear any more does not speak either.
            let _ = stream.shutdown(Shutdown::Both);
            written
        });
        let read = read(&stream, member);
        scope.cancel("the member has said all");
        let written = writing.join().map_err(io::Error::from)?;
        read.and(written)
    })
}

fn read(stream: &TcpStream, member: &Member) -> io::Result<()> {
    let (mut reader, mut line) = (BufReader::with_capacity(LINE, stream), Vec::new());
    loop {
        line.clear();
        reader.by_ref().take(LINE as u64).read_until(b'\n', &mut line)?;
        // A line that was not ended was not said: its speaker was cut off, or is now.
        if line.pop() != Some(b'\n') {
            return Ok(());
        }
        member.say(String::from_utf8_lossy(&line).trim_end());
    }
}

fn write(mut stream: &TcpStream, member: &Member) -> io::Result<()> {
    // Lines that are there at once leave at once.
    stream.set_coalescing(LINE);
    for line in member.lines.iter() {
        stream.write_all(line.as_bytes())?;
    }
    stream.flush()
}

/// Reads a line, without its end. `None`: the other side has ended.
pub(crate) fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim_end().to_owned()))
}

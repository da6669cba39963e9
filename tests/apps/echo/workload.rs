//! A client of the hunt: sends and reads at once, and knows every byte that must come back.
//!
//! It comes and goes for some sessions under faults, where an error, or an end that comes early, is no wrong answer; a byte
//! that is not the one that was sent there panics, which fails the world. In the end it comes back until one session went
//! well as a whole: all it sent came back, and then the end, which it had sent first.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use machinarium::net::TcpStream;
use machinarium::tls::{ClientConfig, TlsStream};
use machinarium::{WaitError, scope, sleep, timeout};

use crate::certificates::PEM;
use crate::common::init::keep_starting;
use crate::common::place::UnixAddress;
use crate::common::random::Random;

/// Whom a client talks to, and how.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    Tcp(SocketAddr),
    Tls(SocketAddr),
    Unix(UnixAddress),
}

/// What a client is to do.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) way: Way,
    pub(crate) seed: u64,
    pub(crate) sessions: usize,
}

/// The main function of a client's host.
pub(crate) fn client(task: &Task) -> io::Result<()> {
    keep_starting(|begun| {
        machinarium::run(|| {
            begun.set(true);
            Ok(work(task)?)
        })
    })
}

/// All a client does, on a machine that is there.
///
/// # Errors
/// If it is cancelled.
///
/// # Panics
/// When a wrong byte comes back.
pub(crate) fn work(task: &Task) -> Result<(), WaitError> {
    let mut random = Random(task.seed);
    for _ in 0..task.sessions {
        // How it ended is of no interest here.
        let _ = session(&task.way, &mut random);
        pause(&mut random, 200)?;
    }
    while session(&task.way, &mut random).is_err() {
        pause(&mut random, 200)?;
    }
    Ok(())
}

fn pause(random: &mut Random, milliseconds: usize) -> Result<(), WaitError> {
    sleep(Duration::from_millis(random.below(milliseconds) as u64))
}

fn session(way: &Way, random: &mut Random) -> io::Result<()> {
    let patience = Duration::from_millis(100 << random.below(6));
    let talk = Talk::new(random);
    timeout(patience, || match way {
        Way::Tcp(address) => {
            let stream = TcpStream::connect(*address)?;
            talk.run(&stream, || stream.shutdown(Shutdown::Write))
        }
        Way::Unix(address) => {
            let stream = address.connect()?;
            talk.run(&stream, || stream.shutdown(Shutdown::Write))
        }
        Way::Tls(address) => {
            let config = ClientConfig::builder().ca_pem(PEM.root.as_str()).build()?;
            let stream: TlsStream = config.connect(TcpStream::connect(*address)?, "localhost")?;
            talk.run(&stream, || stream.close_write())
        }
    })
}

/// What is said in a session.
struct Talk {
    seed: u64,
    length: usize,
    /// The longest piece that is written, or asked for, at once.
    piece: usize,
}

impl Talk {
    fn new(random: &mut Random) -> Talk {
        let most = 1 << random.below(18);
        let length = random.below(most) + random.below(100);
        Talk { seed: random.next(), length, piece: 1 + random.below(20_000) }
    }

    /// The byte at a place: the next ones tell little about it.
    fn byte(&self, place: usize) -> u8 {
        Random(self.seed.wrapping_add(place as u64)).next() as u8
    }

    /// Writes and reads at the same time, ends its half, and reads to the end.
    fn run<'a, S>(&self, stream: &'a S, finish: impl FnOnce() -> io::Result<()>) -> io::Result<()>
    where
        &'a S: Read + Write,
    {
        scope(|scope| {
            let writer = scope.spawn(|| self.write(stream).and_then(|()| finish()));
            let read = self.read(stream);
            if read.is_err() {
                // Nobody takes the rest.
                scope.cancel("the reader gave up");
            }
            let written = writer.join().map_err(io::Error::from)?;
            read.and(written)
        })
    }

    fn write(&self, mut stream: impl Write) -> io::Result<()> {
        let mut random = Random(self.seed);
        let mut place = 0;
        while place < self.length {
            let count = (1 + random.below(self.piece)).min(self.length - place);
            let piece: Vec<u8> = (place..place + count).map(|place| self.byte(place)).collect();
            stream.write_all(&piece)?;
            place += count;
            if random.once_in(8) {
                pause(&mut random, 30)?;
            }
        }
        Ok(())
    }

    fn read(&self, mut stream: impl Read) -> io::Result<()> {
        let mut random = Random(!self.seed);
        let mut piece = vec![0; self.piece];
        let mut place = 0;
        loop {
            let count = stream.read(&mut piece)?;
            if count == 0 {
                let whole = place == self.length;
                return if whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            assert!(place + count <= self.length, "more came back than the {} bytes sent", self.length);
            for (offset, &byte) in piece[..count].iter().enumerate() {
                assert_eq!(byte, self.byte(place + offset), "byte {} of {}", place + offset, self.length);
            }
            place += count;
            // A client that reads slowly, so that its answers fill their buffers.
            if random.once_in(20) {
                pause(&mut random, 60)?;
            }
        }
    }
}

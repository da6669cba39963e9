//! Members of a chat that check what they hear: the lines' numbers have no gap, each member's lines keep their order, and their own
//! come back.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::SocketAddr;
use std::time::Duration;

use machinarium::net::TcpStream;
use machinarium::{WaitError, scope, sleep, timeout};

use crate::common::init::keep_starting;
use crate::common::random::Random;
use crate::server::read_line;

/// What a client is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) server: SocketAddr,
    pub(crate) number: usize,
    pub(crate) seed: u64,
    /// How many lines to say in a stay.
    pub(crate) lines: usize,
}

/// The main function of a client's host: until it was heard to the end, on one connection.
pub(crate) fn client(task: &Task) -> io::Result<()> {
    keep_starting(|begun| {
        machinarium::run(|| {
            begun.set(true);
            let mut random = Random(task.seed);
            // How a stay ended is of no interest here, unless it ended well.
            for stay in 0.. {
                if attend(task, stay, &mut random).is_ok() {
                    break;
                }
                pause(&mut random, 200)?;
            }
            Ok(())
        })
    })
}

fn pause(random: &mut Random, milliseconds: usize) -> Result<(), WaitError> {
    sleep(Duration::from_millis(random.below(milliseconds) as u64))
}

fn attend(task: &Task, stay: usize, random: &mut Random) -> io::Result<()> {
    let name = format!("{}.{stay}", task.number);
    let (seed, patience) = (random.next(), Duration::from_millis(200 << random.below(5)));
    timeout(patience, || {
        let stream = TcpStream::connect(task.server)?;
        scope(|scope| {
            let speaking = scope.spawn(|| speak(&stream, &name, task.lines, Random(seed)));
            let heard = hear(&stream, &name, task.lines, Random(!seed));
            if heard.is_err() {
                scope.cancel("nobody listens");
            }
            let spoken = speaking.join().map_err(io::Error::from)?;
            heard.and(spoken)
        })
    })
}

fn speak(mut stream: &TcpStream, name: &str, lines: usize, mut random: Random) -> io::Result<()> {
    for number in 0..lines {
        writeln!(stream, "{name} {number} {}", "x".repeat(random.below(300)))?;
        if random.once_in(4) {
            pause(&mut random, 20)?;
        }
    }
    Ok(())
}

/// Until the last of its own lines.
fn hear(stream: &TcpStream, name: &str, lines: usize, mut random: Random) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1 + random.below(5000), stream);
    let (mut last, mut said) = (None, BTreeMap::new());
    while said.get(name).copied() != Some(lines - 1) {
        let Some(line) = read_line(&mut reader)? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let words: Vec<&str> = line.split(' ').collect();
        let [place, _, speaker, number, ..] = words[..] else { panic!("what is {line:?}?") };
        let (place, number): (u64, usize) = (place.parse().unwrap(), number.parse().unwrap());
        assert!(last.is_none_or(|last| place == last + 1), "{place} follows {last:?}");
        last = Some(place);
        let before = said.insert(speaker.to_owned(), number);
        assert!(before.is_none_or(|before| number == before + 1), "{speaker}: {number} follows {before:?}");
        if random.once_in(40) {
            pause(&mut random, 40)?;
        }
    }
    Ok(())
}

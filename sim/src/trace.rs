//! What happened: a digest of every call, always, and lines of text for people, when asked.
//!
//! The digest folds the time, the thread, the call and its answer (and the first bytes that were read), so two runs with
//! the same digest did the same. It costs a few multiplications and is always on. Lines cost formatting: a hunt has none, and
//! runs a failing seed again to get them.

use std::collections::VecDeque;
use std::fmt;

use machinarium::kernel::{Address, Call, Errno, Fd, Instant, Received, SocketOption, Stat, Thread};

use crate::env::HostIndex;
use crate::film::{Carried, Film, Shot, Turn};

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) at: u64,
    /// How many choices had been made then.
    pub(crate) draws: u64,
    /// On which host; `None`: in the script.
    pub(crate) host: Option<HostIndex>,
    pub(crate) text: String,
}

/// Which lines are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Keep {
    /// None: nothing is formatted.
    #[default]
    Nothing,
    /// The last so many.
    Last(usize),
    /// None, but each is printed as it comes.
    Printed,
}

pub(crate) struct Trace {
    digest: u64,
    keep: Keep,
    lines: VecDeque<Line>,
    /// If pictures are wanted.
    pub(crate) film: Option<Film>,
}

const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

impl Trace {
    pub(crate) fn new(keep: Keep) -> Trace {
        Trace { digest: PRIME, keep, lines: VecDeque::new(), film: None }
    }

    /// Whether lines are wanted.
    pub(crate) fn is_on(&self) -> bool {
        self.keep != Keep::Nothing
    }

    /// Makes `word` part of the digest.
    pub(crate) fn fold(&mut self, word: u64) {
        self.digest = (self.digest.rotate_left(5) ^ word).wrapping_mul(PRIME);
    }

    /// Makes `bytes` part of the digest: how many, and the first of them.
    pub(crate) fn fold_bytes(&mut self, bytes: &[u8]) {
        self.fold(bytes.len() as u64);
        for chunk in bytes[..bytes.len().min(64)].chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest ^ (self.digest >> 32)
    }

    /// Keeps a line. Callers look at [`is_on`](Trace::is_on) first.
    pub(crate) fn line(
        &mut self,
        (at, draws): (u64, u64),
        host: Option<HostIndex>,
        name: &str,
        text: fmt::Arguments<'_>,
    ) {
        match self.keep {
            Keep::Nothing => {}
            Keep::Printed => println!("{} {name:<12} {text}", Instant::from_nanos(at)),
            Keep::Last(count) => {
                if self.lines.len() >= count {
                    self.lines.pop_front();
                }
                self.lines.push_back(Line { at, draws, host, text: text.to_string() });
            }
        }
    }

    /// A packet has left.
    pub(crate) fn shoot(&mut self, at: u64, draws: u64, carried: Carried) {
        if let Some(film) = &mut self.film {
            film.shots.push(Shot { at, draws, carried });
        }
    }

    /// A secret of TLS, as a line of a key log.
    pub(crate) fn secret(&mut self, line: String) {
        if let Some(film) = &mut self.film {
            film.secrets.push(line);
        }
    }

    /// A thread had the processor.
    pub(crate) fn turn(&mut self, thread: u32, from: u64, to: u64) {
        if let Some(film) = &mut self.film {
            film.turns.push(Turn { thread, from, to });
        }
    }

    pub(crate) fn take_lines(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.lines).into()
    }
}

/// What a call answered, as the digest and the trace see it.
pub(crate) trait Answer: fmt::Debug {
    fn word(&self) -> u64;
}

impl Answer for () {
    fn word(&self) -> u64 {
        0
    }
}

impl Answer for usize {
    fn word(&self) -> u64 {
        *self as u64
    }
}

impl Answer for Fd {
    fn word(&self) -> u64 {
        self.raw() as u64
    }
}

impl Answer for (Fd, Fd) {
    fn word(&self) -> u64 {
        self.0.word() << 32 | self.1.word()
    }
}

impl Answer for (Fd, Address) {
    fn word(&self) -> u64 {
        self.0.word() ^ self.1.word()
    }
}

impl Answer for Address {
    fn word(&self) -> u64 {
        let bytes = match self {
            Address::Ip(address) => return u64::from(address.port()),
            Address::Unix(name) => name.as_path().or(name.as_abstract()).unwrap_or_default(),
        };
        bytes.iter().fold(bytes.len() as u64, |word, byte| word.wrapping_mul(31) + u64::from(*byte))
    }
}

impl Answer for Received {
    fn word(&self) -> u64 {
        let from = self.from.map_or(0, |from| from.word());
        self.count as u64 ^ from << 32 ^ u64::from(self.truncated) << 63
    }
}

impl Answer for SocketOption {
    fn word(&self) -> u64 {
        match self {
            SocketOption::Error(Some(errno)) => errno.raw() as u64,
            _ => 0,
        }
    }
}

impl Answer for Thread {
    fn word(&self) -> u64 {
        self.0
    }
}

impl Answer for Stat {
    fn word(&self) -> u64 {
        self.size ^ self.modified.as_nanos().rotate_left(20)
    }
}

impl<T: Answer> Answer for Result<T, Errno> {
    fn word(&self) -> u64 {
        match self {
            Ok(answer) => answer.word(),
            Err(errno) => !(errno.raw() as u64),
        }
    }
}

/// A call by the name of its manual page.
pub(crate) struct CallName(pub(crate) Call);

impl fmt::Display for CallName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{:?}", self.0);
        for (place, letter) in name.char_indices() {
            if letter.is_uppercase() && place > 0 {
                f.write_str("_")?;
            }
            write!(f, "{}", letter.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

/// An answer as strace shows it.
pub(crate) struct Shown<'a, T>(pub(crate) &'a Result<T, Errno>);

impl<T: fmt::Debug> fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(answer) => write!(f, "{answer:?}"),
            Err(errno) => write!(f, "{errno:?}"),
        }
    }
}

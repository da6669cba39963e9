//! The one source of chance. Every decision that a simulation takes is a draw from here, and nothing else is random.
//!
//! A draw names its *stream*, its *site* and how many answers there are; it gets one of them, and 0 is always the
//! boring one (first in order, no fault, full count, least delay). Streams are ChaCha8 generators, each with a key
//! made of the seed and of what the stream belongs to (a thread of a host, a connection of a link), never of a global
//! counter: one more draw in one place leaves all other places as they were.
//!
//! | source | a draw answers |
//! |---|---|
//! | seed | the next number of the stream's generator |
//! | record | what the record has for that stream and ordinal; 0 where the record does not fit, and that is counted |
//!
//! [`Choices::decide`] is for those who know what they want: their answer takes the place of the generator's, and is recorded and
//! replayed as any other.
//!
//! Recording is separate and can be off: a hunt runs without it and runs a failing seed again with it. Random *bytes*
//! ([`Choices::fill`]) come from the seed alone and are not recorded: nobody wants them shrunk to zero, which has
//! sent more than one rejection loop round for ever.

use std::collections::BTreeMap;
use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use crate::index::Index;
use crate::journal::{Drawn, Journal};

/// What part of the simulator draws.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Subsystem {
    /// Which of the events of one instant comes first.
    Order = 1,
    /// How long a thread's calls take, and when it does not get the processor.
    Cpu = 2,
    /// Skew and drift of a host's clocks.
    Clock = 3,
    /// Latency and loss of a link.
    Link = 4,
    /// How a connection cuts its bytes into deliveries, and what its sockets answer.
    Socket = 5,
    /// Order and number of the events an epoll instance tells.
    Epoll = 6,
    /// Failures of calls.
    Fault = 7,
    /// What `getrandom` answers.
    Random = 8,
    /// What the script of a test draws.
    Script = 9,
    /// Which faults a world has at all.
    Swarm = 10,
    /// How long a name takes, and in which order its addresses come.
    Name = 11,
    /// How late a signal is.
    Signal = 12,
    /// How long file calls take and how short they are; what a host without power loses.
    Disk = 13,
    /// Who goes on, where a strategy decides that. The identity is that of the thread that ran last.
    Turn = 14,
    /// Where code that has a `buggify!` goes wrong.
    Mark = 15,
}

impl Subsystem {
    /// Every part that draws.
    pub(crate) const ALL: [Subsystem; 15] = [
        Subsystem::Order,
        Subsystem::Cpu,
        Subsystem::Clock,
        Subsystem::Link,
        Subsystem::Socket,
        Subsystem::Epoll,
        Subsystem::Fault,
        Subsystem::Random,
        Subsystem::Script,
        Subsystem::Swarm,
        Subsystem::Name,
        Subsystem::Signal,
        Subsystem::Disk,
        Subsystem::Turn,
        Subsystem::Mark,
    ];
}

/// Who draws: a part of the simulator, and the stable identity of the thing it decides about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Stream {
    /// The part of the simulator.
    pub subsystem: Subsystem,
    /// The thing decided about. Made of the parent's identity and an ordinal among its children.
    pub id: u64,
}

impl Stream {
    /// The stream of `subsystem` for the thing `id`.
    pub const fn new(subsystem: Subsystem, id: u64) -> Stream {
        Stream { subsystem, id }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:x}", self.subsystem, self.id)
    }
}

/// The generator of one stream, and how far its record is.
struct Source {
    stream: Stream,
    generator: ChaCha8Rng,
    /// What this stream has drawn so far, while recording.
    drawn: Vec<Choice>,
    /// What this stream is to answer, while replaying.
    script: Vec<Choice>,
    /// How many draws were made.
    ordinal: usize,
}

/// One recorded draw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Where in the simulator.
    pub site: &'static str,
    /// The answer.
    pub answer: u64,
}

/// All draws of a run, by stream.
///
/// Replay aligns by stream and ordinal and so tolerates edits elsewhere.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// The seed of the run: random bytes come from it.
    pub seed: u64,
    /// The draws of each stream, in their order.
    pub streams: BTreeMap<Stream, Vec<Choice>>,
}

impl Record {
    /// How many draws.
    pub fn len(&self) -> usize {
        self.streams.values().map(Vec::len).sum()
    }

    /// Whether nothing was drawn.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Whether strategies decided anything in the run.
    pub(crate) fn has_turns(&self) -> bool {
        self.streams.keys().any(|stream| stream.subsystem == Subsystem::Turn)
    }

    /// How many draws were not the boring one.
    pub fn interesting(&self) -> usize {
        self.streams.values().flatten().filter(|choice| choice.answer != 0).count()
    }
}

/// How well a replayed record fitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Alignment {
    /// Draws answered by the record.
    pub fitted: u64,
    /// Draws that the record had no answer for, or one for another site: they got 0.
    pub missed: u64,
    /// How many the record has.
    pub of: u64,
}

/// The first draw of a run that its record has another one for: from here on the run is a different one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// How many draws were made before.
    pub draws: u64,
    /// Whose draw.
    pub stream: Stream,
    /// Where in the simulator it is now.
    pub site: &'static str,
    /// What the record has.
    pub recorded: Choice,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { draws, stream, site, recorded } = self;
        let number = draws + 1;
        write!(
            f,
            "choice {number}, '{site}' of {stream}, where the record has {} of '{}'",
            recorded.answer, recorded.site
        )
    }
}

/// The oracle of one world.
pub struct Choices {
    seed: u64,
    sources: Vec<Source>,
    index: Index,
    recording: bool,
    replay: Option<Record>,
    /// Decisions are taken although a record answers the draws.
    deciding: bool,
    /// Where a stream of the record ends, it goes on with that of this seed.
    beyond: Option<u64>,
    alignment: Alignment,
    mismatch: Option<Mismatch>,
    /// The number of the draw before which a debugger is called; the first is 1.
    break_at: u64,
    draws: u64,
    pub(crate) journal: Journal,
    /// World time, for the journal.
    pub(crate) now: u64,
}

impl Choices {
    /// The oracle of `seed`.
    pub fn new(seed: u64) -> Choices {
        Choices {
            seed,
            sources: Vec::new(),
            index: Index::default(),
            recording: false,
            replay: None,
            deciding: true,
            beyond: None,
            alignment: Alignment::default(),
            mismatch: None,
            break_at: 0,
            draws: 0,
            journal: Journal::default(),
            now: 0,
        }
    }

    /// The oracle that answers what `record` says.
    pub fn replay(record: Record) -> Choices {
        let alignment = Alignment { of: record.len() as u64, ..Alignment::default() };
        Choices { alignment, replay: Some(record.clone()), deciding: false, ..Choices::new(record.seed) }
    }

    /// The oracle that answers what `prefix` says, and goes on as `seed` wants. Bytes are still of the record's seed.
    pub(crate) fn future(prefix: Record, seed: u64) -> Choices {
        Choices { beyond: Some(seed), ..Choices::replay(prefix) }
    }

    /// The oracle whose draws are all boring, and only decisions are not.
    pub(crate) fn dull() -> Choices {
        Choices { replay: Some(Record::default()), ..Choices::new(0) }
    }

    /// Stops for a debugger when the draw of this number is asked for.
    pub(crate) fn break_at(&mut self, number: u64) {
        self.break_at = number;
    }

    fn perhaps_break(&self) {
        if self.draws == self.break_at {
            crate::thread::breakpoint();
        }
    }

    /// Keeps every draw from now on, or stops to.
    pub fn record(&mut self, on: bool) {
        self.recording = on;
    }

    /// One of `n` answers, `0..n`; 0 is the boring one.
    ///
    /// # Panics
    /// If there is no answer to choose from.
    pub fn draw(&mut self, stream: Stream, site: &'static str, n: u64) -> u64 {
        assert!(n > 0, "{site}: a choice among nothing");
        if n == 1 {
            return 0;
        }
        self.draws += 1;
        self.perhaps_break();
        let replaying = self.replay.is_some();
        let index = self.source(stream);
        let answer = match replaying && !self.is_beyond(index) {
            true => self.scripted(index, site, n),
            false => below(&mut self.sources[index].generator, n),
        };
        self.drawn(index, site, answer, n)
    }

    /// The answer that somebody wants, of `n`, unless a record has another one. `wanted` is asked only if it decides.
    pub(crate) fn decide(
        &mut self,
        stream: Stream,
        site: &'static str,
        n: u64,
        wanted: impl FnOnce() -> u64,
    ) -> u64 {
        self.draws += 1;
        self.perhaps_break();
        let index = self.source(stream);
        let answer =
            if self.deciding || self.is_beyond(index) { wanted() } else { self.scripted(index, site, n) };
        assert!(answer < n, "{site}: {answer} is no answer of {n}");
        self.drawn(index, site, answer, n)
    }

    /// Whether a stream goes on where its record has ended.
    fn is_beyond(&self, index: usize) -> bool {
        let source = &self.sources[index];
        self.beyond.is_some() && source.ordinal >= source.script.len()
    }

    /// What the record says; 0 if it does not fit.
    fn scripted(&mut self, index: usize, site: &'static str, n: u64) -> u64 {
        let source = &self.sources[index];
        let recorded = source.script.get(source.ordinal).copied();
        let fitting = recorded.filter(|choice| choice.site == site && choice.answer < n);
        match fitting {
            Some(_) => self.alignment.fitted += 1,
            None => self.alignment.missed += 1,
        }
        if let (None, None, Some(recorded)) = (self.mismatch, fitting, recorded) {
            let stream = source.stream;
            self.mismatch = Some(Mismatch { draws: self.draws - 1, stream, site, recorded });
        }
        fitting.map_or(0, |choice| choice.answer)
    }

    /// Keeps a draw.
    #[inline]
    fn drawn(&mut self, index: usize, site: &'static str, answer: u64, of: u64) -> u64 {
        let source = &mut self.sources[index];
        if self.journal.is_on() {
            let choice = Choice { site, answer };
            let (stream, ordinal) = (source.stream, source.ordinal);
            self.journal.push(Drawn { at: self.now, stream, ordinal, of, choice });
        }
        source.ordinal += 1;
        if self.recording {
            source.drawn.push(Choice { site, answer });
        }
        answer
    }

    /// Whether something happens that happens `times` in `of`; the boring answer is no.
    pub fn chance(&mut self, stream: Stream, site: &'static str, times: u64, of: u64) -> bool {
        let answer = self.draw(stream, site, of);
        answer != 0 && of - answer <= times
    }

    /// A number of `low..=high`; the boring one is `low`.
    pub fn range(&mut self, stream: Stream, site: &'static str, low: u64, high: u64) -> u64 {
        assert!(low <= high, "{site}: an empty range");
        low + self.draw(stream, site, (high - low).saturating_add(1))
    }

    /// Random bytes, of the seed alone: neither recorded nor replaced by a replay.
    pub fn fill(&mut self, stream: Stream, bytes: &mut [u8]) {
        let index = self.source(stream);
        self.sources[index].generator.fill_bytes(bytes);
    }

    /// How many draws were made.
    pub fn draws(&self) -> u64 {
        self.draws
    }

    /// How well the record that is replayed has fitted.
    pub fn alignment(&self) -> Alignment {
        self.alignment
    }

    /// The first draw that the record has another one for.
    pub fn mismatch(&self) -> Option<Mismatch> {
        self.mismatch
    }

    /// What was recorded until now, or what is replayed.
    pub(crate) fn kept(&self) -> Option<Record> {
        if !self.recording {
            return self.replay.clone();
        }
        let drawn = self.sources.iter().map(|source| (source.stream, source.drawn.clone()));
        Some(Record { seed: self.seed, streams: drawn.filter(|(_, drawn)| !drawn.is_empty()).collect() })
    }

    /// What was recorded.
    pub fn take_record(&mut self) -> Record {
        let drawn = |source: &mut Source| (source.stream, std::mem::take(&mut source.drawn));
        let streams = self.sources.iter_mut().map(drawn).filter(|(_, drawn)| !drawn.is_empty()).collect();
        Record { seed: self.seed, streams }
    }

    /// The index of `stream`, opened if this is its first draw.
    fn source(&mut self, stream: Stream) -> usize {
        let found = self.index.find(fingerprint(stream), |index| self.sources[index].stream == stream);
        found.unwrap_or_else(|| self.open(stream))
    }

    fn open(&mut self, stream: Stream) -> usize {
        let index = self.sources.len();
        let seed = self.beyond.filter(|_| stream.subsystem != Subsystem::Random).unwrap_or(self.seed);
        let script = self.replay.as_mut().and_then(|record| record.streams.remove(&stream));
        self.sources.push(Source {
            stream,
            generator: generator(seed, stream),
            drawn: Vec::new(),
            script: script.unwrap_or_default(),
            ordinal: 0,
        });
        self.index.push(fingerprint(stream), |index| fingerprint(self.sources[index].stream));
        index
    }
}

/// Where to look for a stream first.
fn fingerprint(stream: Stream) -> u64 {
    (stream.id ^ (stream.subsystem as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Chance for those who decide: of the seed, and not recorded, since what they decide is.
pub(crate) struct Dice {
    generator: ChaCha8Rng,
}

impl Dice {
    /// Those of `seed`.
    pub(crate) fn new(seed: u64) -> Dice {
        Dice { generator: generator(seed, Stream::new(Subsystem::Turn, u64::MAX)) }
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        below(&mut self.generator, n)
    }
}

/// The generator whose key is the seed and the stream.
fn generator(seed: u64, stream: Stream) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[0..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(stream.subsystem as u64).to_le_bytes());
    key[16..24].copy_from_slice(&stream.id.to_le_bytes());
    key[24..32].copy_from_slice(b"machinar");
    ChaCha8Rng::from_seed(key)
}

/// A number below `n`, by multiplication: the bias is below one in 2^32.
fn below(generator: &mut ChaCha8Rng, n: u64) -> u64 {
    if n <= 1 << 16 {
        // With 32 random bits and n of at most 16, no answer is more than one in 2^16 too likely.
        (u64::from(generator.next_u32()) * n) >> 32
    } else {
        ((u128::from(generator.next_u64()) * u128::from(n)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Stream = Stream::new(Subsystem::Cpu, 1);
    const B: Stream = Stream::new(Subsystem::Cpu, 2);

    #[test]
    fn a_stream_does_not_feel_its_neighbours() {
        let mut alone = Choices::new(7);
        let mut beside = Choices::new(7);
        for _ in 0..100 {
            beside.draw(B, "b", 1000);
            assert_eq!(alone.draw(A, "a", 1000), beside.draw(A, "a", 1000));
        }
    }

    #[test]
    fn a_record_answers_as_the_run_did() {
        let mut run = Choices::new(7);
        run.record(true);
        let first: Vec<u64> = (0..50).map(|i| run.draw(if i % 3 == 0 { A } else { B }, "x", 10)).collect();
        let mut again = Choices::replay(run.take_record());
        let second: Vec<u64> = (0..50).map(|i| again.draw(if i % 3 == 0 { A } else { B }, "x", 10)).collect();
        assert_eq!(first, second);
        assert_eq!(again.alignment(), Alignment { fitted: 50, missed: 0, of: 50 });
    }

    #[test]
    fn a_record_of_other_code_says_so() {
        let mut run = Choices::new(7);
        run.record(true);
        (0..10).for_each(|_| assert!(run.draw(A, "old", 10) < 10));
        let mut again = Choices::replay(run.take_record());
        assert_eq!((0..10).map(|_| again.draw(A, "new", 10)).sum::<u64>(), 0);
        assert_eq!(again.alignment(), Alignment { fitted: 0, missed: 10, of: 10 });
        let mismatch = again.mismatch().unwrap();
        assert_eq!((mismatch.draws, mismatch.site, mismatch.recorded.site), (0, "new", "old"));
    }

    #[test]
    fn every_answer_comes_and_zero_is_one_of_them() {
        let mut choices = Choices::new(1);
        let mut seen = [0; 6];
        (0..600).for_each(|_| seen[choices.draw(A, "die", 6) as usize] += 1);
        assert!(seen.iter().all(|&n| n > 60), "{seen:?}");
    }

    #[test]
    fn a_chance_comes_as_often_as_it_says() {
        let mut choices = Choices::new(1);
        let hits = (0..10_000).filter(|_| choices.chance(A, "one in four", 1, 4)).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
    }
}

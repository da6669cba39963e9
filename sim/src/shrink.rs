//! Which choices matter: a failing record with everything made boring that can be.
//!
//! First whole streams, then halves, quarters and so on of the interesting choices of all streams, are set to 0; what still
//! fails *in the same way* is kept. A choice of 0 cannot be shrunk, so the result is a handful of choices in an ocean
//! of boredom, and each of them is necessary: with any one of them boring, the run passes or fails otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::choice::{Record, Stream};

/// What is left of a record.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The choices, most of them boring.
    pub record: Record,
    /// How many choices the run had made.
    pub before: usize,
    /// How often it was run again.
    pub tries: usize,
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.record.interesting();
        write!(f, "{} choices -> {left} that matter ({} tries)", self.before, self.tries)
    }
}

#[allow(clippy::disallowed_types)] // patience is of real time
type Stopwatch = std::time::Instant;

/// Shrinks `record` for at most about `patience`. `fails` runs a record and answers what was drawn, if the run failed in
/// the same way. `None`: the record itself does not fail so when it is replayed.
pub(crate) fn shrink(
    record: &Record,
    patience: Duration,
    mut fails: impl FnMut(&Record) -> Option<Record>,
) -> Option<Shrunk> {
    let end = Stopwatch::now() + patience;
    let mut tries = 0;
    let mut attempt = |record: &Record| {
        if tries > 0 && Stopwatch::now() >= end {
            return None;
        }
        tries += 1;
        fails(record)
    };
    let mut best = attempt(record)?;
    for stream in record.streams.keys() {
        let dull = bored(&best, &of_stream(&best, *stream));
        best = dull.and_then(|dull| attempt(&dull)).unwrap_or(best);
    }
    let mut chunk = interesting(&best).len().div_ceil(2);
    while chunk > 0 {
        let mut from = 0;
        loop {
            let places = interesting(&best);
            let Some(part) =
                places.get(from..(from + chunk).min(places.len())).filter(|part| !part.is_empty())
            else {
                break;
            };
            match bored(&best, part).and_then(|dull| attempt(&dull)) {
                // What was boring has shifted the rest to where this part was.
                Some(smaller) if interesting(&smaller).len() < places.len() => best = smaller,
                _ => from += chunk,
            }
        }
        chunk /= 2;
    }
    Some(Shrunk { record: best, before: record.len(), tries })
}

/// Where choices are that are not 0.
fn interesting(record: &Record) -> Vec<(Stream, usize)> {
    let mut places = Vec::new();
    for (stream, choices) in &record.streams {
        let here = choices.iter().enumerate().filter(|(_, choice)| choice.answer != 0);
        places.extend(here.map(|(ordinal, _)| (*stream, ordinal)));
    }
    places
}

fn of_stream(record: &Record, stream: Stream) -> Vec<(Stream, usize)> {
    interesting(record).into_iter().filter(|(other, _)| *other == stream).collect()
}

/// The record with these choices set to 0. `None` if there are none.
fn bored(record: &Record, places: &[(Stream, usize)]) -> Option<Record> {
    if places.is_empty() {
        return None;
    }
    let mut streams: BTreeMap<_, _> = record.streams.clone();
    for (stream, ordinal) in places {
        streams.get_mut(stream)?[*ordinal].answer = 0;
    }
    Some(Record { seed: record.seed, streams })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::{Choice, Subsystem};

    #[test]
    fn what_matters_is_left() {
        let stream = |id| Stream::new(Subsystem::Cpu, id);
        let choices = |n: u64| (1..=n).map(|answer| Choice { site: "x", answer }).collect::<Vec<_>>();
        let record = Record { seed: 1, streams: (0..5).map(|id| (stream(id), choices(40))).collect() };
        // Fails when the seventh of the second stream and the last of the fourth are as they were.
        let fails = |record: &Record| {
            let at = |id, ordinal: usize| record.streams[&stream(id)][ordinal].answer;
            (at(1, 6) == 7 && at(3, 39) == 40).then(|| record.clone())
        };
        let shrunk = shrink(&record, Duration::from_secs(5), fails).unwrap();
        assert_eq!(interesting(&shrunk.record), [(stream(1), 6), (stream(3), 39)]);
        assert_eq!(shrunk.before, 200);
    }

    #[test]
    fn what_does_not_fail_cannot_be_shrunk() {
        assert!(shrink(&Record::default(), Duration::from_secs(1), |_| None).is_none());
    }
}

//! The draws of a run in the order in which they were made, where a [`Record`] has them by stream.
//!
//! Two runs are compared by their journals, since only the order says which choice was the first that differed. A journal can be
//! written ahead: each draw is in a file before its answer is used, so that a run that kills its process (an abort, an overflow of a
//! stack, `kill -9`) leaves all that it had drawn. Both cost something for each draw, and a hunt has neither.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use machinarium::kernel::Instant;

use crate::choice::{Choice, Record, Stream, Subsystem};

/// One draw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Drawn {
    /// World time.
    pub(crate) at: u64,
    pub(crate) stream: Stream,
    /// Its number among those of its stream, from 0.
    pub(crate) ordinal: usize,
    /// Among how many answers.
    pub(crate) of: u64,
    pub(crate) choice: Choice,
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Drawn { at, stream, ordinal, of, choice } = self;
        let (site, answer) = (choice.site, choice.answer);
        write!(
            f,
            "'{site}' of {stream}, its draw {ordinal}, answered {answer} of {of} at {}",
            Instant::from_nanos(*at)
        )
    }
}

/// Where draws go besides the records of their streams.
#[derive(Default)]
pub(crate) struct Journal {
    kept: Option<Vec<Drawn>>,
    ahead: Option<File>,
}

impl Journal {
    /// One that is kept, and written to this file too.
    pub(crate) fn new(ahead: Option<File>) -> Journal {
        Journal { kept: Some(Vec::new()), ahead }
    }

    pub(crate) fn push(&mut self, drawn: Drawn) {
        if let Some(file) = &mut self.ahead {
            // One write for a draw: what the system has, no end of this process takes away. A full disk costs the journal, not the run.
            let _ = file.write_all(line(&drawn).as_bytes());
        }
        if let Some(kept) = &mut self.kept {
            kept.push(drawn);
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.kept.is_some()
    }

    pub(crate) fn take(&mut self) -> Vec<Drawn> {
        self.kept.take().unwrap_or_default()
    }
}

fn line(drawn: &Drawn) -> String {
    let Drawn { at, stream, ordinal: _, of, choice } = drawn;
    format!("{at} {} {:x} {of} {} {}\n", stream.subsystem as u8, stream.id, choice.answer, choice.site)
}

/// What a process has written ahead. A line that it did not finish is left out.
pub(crate) fn read(path: &Path) -> Vec<Drawn> {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut sites: BTreeMap<&str, &'static str> = BTreeMap::new();
    let mut ordinals: BTreeMap<Stream, usize> = BTreeMap::new();
    let mut parse = |line| {
        let mut parts = str::splitn(line, 6, ' ');
        let mut number = |radix| u64::from_str_radix(parts.next()?, radix).ok();
        let (at, subsystem, id, of, answer) =
            (number(10)?, number(10)?, number(16)?, number(10)?, number(10)?);
        let site = parts.next()?;
        // Sites are few, and leaked once for each file that is read.
        let site = sites.entry(site).or_insert_with(|| String::leak(site.to_owned()));
        let subsystem = Subsystem::ALL.into_iter().find(|other| u64::from(*other as u8) == subsystem)?;
        let stream = Stream::new(subsystem, id);
        let ordinal = ordinals.entry(stream).or_default();
        *ordinal += 1;
        Some(Drawn { at, stream, ordinal: *ordinal - 1, of, choice: Choice { site, answer } })
    };
    whole.lines().map_while(&mut parse).collect()
}

/// The same by stream.
pub(crate) fn to_record(seed: u64, journal: &[Drawn]) -> Record {
    let mut record = Record { seed, ..Record::default() };
    for drawn in journal {
        record.streams.entry(drawn.stream).or_default().push(drawn.choice);
    }
    record
}

/// In words, where two runs of one seed part: `here` is ours, `there` the other's. `None`: nowhere.
pub(crate) fn difference(here: &[Drawn], there: &[Drawn]) -> Option<String> {
    let same = here.iter().zip(there).take_while(|(a, b)| a == b).count();
    if same == here.len().max(there.len()) {
        return None;
    }
    let mut text = format!("choice {} is the first that differs", same + 1);
    for (place, journal) in [("here", here), ("there", there)] {
        let _ = match journal.get(same) {
            Some(drawn) => write!(text, "\n  {place}: {drawn}"),
            None => write!(text, "\n  {place}: none, the run has ended"),
        };
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(ordinal: usize, answer: u64) -> Drawn {
        let stream = Stream::new(Subsystem::Link, 0x2a);
        Drawn { at: 5, stream, ordinal, of: 9, choice: Choice { site: "how late", answer } }
    }

    #[test]
    fn what_is_written_ahead_is_read_as_far_as_it_goes() {
        let path = std::env::temp_dir().join(format!("machinarium-journal-{}", std::process::id()));
        let mut journal = Journal::new(File::create(&path).ok());
        (0..3).for_each(|ordinal| journal.push(drawn(ordinal, 7)));
        let kept = journal.take();
        assert_eq!(read(&path), kept);
        let mut text = std::fs::read(&path).unwrap();
        text.truncate(text.len() - 4);
        std::fs::write(&path, text).unwrap();
        assert_eq!(read(&path), kept[..2]);
        assert_eq!(to_record(1, &kept).len(), 3);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_first_difference_is_named() {
        let run = |answers: &[u64]| -> Vec<Drawn> {
            answers.iter().enumerate().map(|(ordinal, answer)| drawn(ordinal, *answer)).collect()
        };
        assert_eq!(difference(&run(&[1, 2]), &run(&[1, 2])), None);
        let text = difference(&run(&[1, 2, 3]), &run(&[1, 4, 3])).unwrap();
        assert!(
            text.starts_with("choice 2 is the first that differs\n  here: 'how late' of Link/2a"),
            "{text}"
        );
        let text = difference(&run(&[1, 2]), &run(&[1])).unwrap();
        assert!(text.ends_with("there: none, the run has ended"), "{text}");
    }
}

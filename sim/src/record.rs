//! Records as text, for files: one line for each run of equal choices of a stream.
//!
//! ```text
//! machinarium choices 1
//! seed 1f3a
//! stream 2 10000000000
//! 3 7 cost
//! ```
//!
//! The last line says: three times the answer 7 at the site "cost". A site that this version of the simulator does not
//! have is kept: replay is tolerant and says how much has fitted.

use std::collections::BTreeMap;

use crate::ahead;
use crate::choice::{Choice, Record, Stream, Subsystem};

const HEAD: &str = "machinarium choices 1";

impl Record {
    /// As text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEAD}\nseed {:x}\n", self.seed);
        for (stream, choices) in &self.streams {
            text += &format!("stream {} {:x}\n", stream.subsystem as u8, stream.id);
            for run in choices.chunk_by(|a, b| a == b) {
                text += &format!("{} {} {}\n", run.len(), run[0].answer, run[0].site);
            }
        }
        text
    }

    /// Writes it to a file of that name that nobody commits, and says how to repeat it.
    pub(crate) fn save(&self, name: &str) -> String {
        let directory = ahead::directory();
        let path = directory.join(format!("{}-{:x}.choices", ahead::slug(name), self.seed));
        let saved = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&path, self.to_text()));
        match saved {
            Ok(()) => format!("MACHINARIUM_REPLAY={} repeats them", path.display()),
            Err(error) => format!("they cannot be saved: {error}"),
        }
    }

    /// From text.
    ///
    /// # Errors
    /// What is wrong with it, and in which line.
    pub fn from_text(text: &str) -> Result<Record, String> {
        let mut lines = text.lines().enumerate();
        if lines.next().map(|(_, line)| line) != Some(HEAD) {
            return Err(format!("the first line is not '{HEAD}'"));
        }
        let mut record = Record::default();
        let mut sites: BTreeMap<&str, &'static str> = BTreeMap::new();
        let mut stream = None;
        for (number, line) in lines {
            let wrong = || format!("line {}: '{line}'", number + 1);
            if let Some(seed) = line.strip_prefix("seed ") {
                record.seed = u64::from_str_radix(seed, 16).map_err(|_| wrong())?;
            } else if let Some(name) = line.strip_prefix("stream ") {
                stream = Some(parse_stream(name).ok_or_else(wrong)?);
            } else {
                let (count, answer, site) = parse_run(line).ok_or_else(wrong)?;
                // Sites are few, and a program that reads records is a test: leaking their names is fine.
                let site = sites.entry(site).or_insert_with(|| String::leak(site.to_owned()));
                let choices = record.streams.entry(stream.ok_or_else(wrong)?).or_default();
                choices.extend(std::iter::repeat_n(Choice { site, answer }, count));
            }
        }
        Ok(record)
    }
}

fn parse_stream(text: &str) -> Option<Stream> {
    let (subsystem, id) = text.split_once(' ')?;
    let number: u8 = subsystem.parse().ok()?;
    let subsystem = Subsystem::ALL.into_iter().find(|subsystem| *subsystem as u8 == number)?;
    Some(Stream::new(subsystem, u64::from_str_radix(id, 16).ok()?))
}

fn parse_run(text: &str) -> Option<(usize, u64, &str)> {
    let mut parts = text.splitn(3, ' ');
    let count: usize = parts.next()?.parse().ok().filter(|count| *count <= 1 << 32)?;
    Some((count, parts.next()?.parse().ok()?, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let choice = |answer, site| Choice { site, answer };
        let choices = vec![choice(0, "host stall"), choice(0, "host stall"), choice(u64::MAX, "x")];
        let streams = [(Stream::new(Subsystem::Cpu, 1 << 40), choices)].into();
        let record = Record { seed: 0x1f3a, streams };
        assert_eq!(Record::from_text(&record.to_text()), Ok(record));
    }

    #[test]
    fn nonsense_is_told_by_line() {
        assert!(Record::from_text("").is_err());
        let text = format!("{HEAD}\nseed 1\nstream 2 0\nmany 7 cost\n");
        assert_eq!(Record::from_text(&text), Err("line 4: 'many 7 cost'".to_owned()));
    }
}

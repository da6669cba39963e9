//! Records of runs that failed once, kept with the source, and run before any seed.
//!
//! They are in `tests/regressions/PROGRAM-TEST/SEED.choices` below the package: where `tests/regressions` is, a test that fails puts
//! its shrunk record there, to be committed with what repairs it. A record outlives changes of the code as far as it can: it answers
//! what it was asked for then, and where it is asked for something else, the run goes on with boring answers. So a run of an old
//! record that passes says little, and how much of it has fitted is told.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::ahead;
use crate::choice::{Alignment, Mismatch, Record};

/// The records of one test.
pub(crate) struct Shelf {
    directory: PathBuf,
}

impl Shelf {
    /// That of the test `name`: in the package whose tests cargo runs, if that keeps regressions.
    pub(crate) fn of(name: &str) -> Option<Shelf> {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(PathBuf::new, PathBuf::from);
        let all = package.join("tests/regressions");
        all.is_dir().then(|| Shelf::below(&all, name))
    }

    /// The same below `directory`.
    pub(crate) fn below(directory: &Path, name: &str) -> Shelf {
        Shelf { directory: directory.join(format!("{}-{}", ahead::program(), ahead::slug(name))) }
    }

    /// Its records, in the order of their names.
    ///
    /// # Panics
    /// If one is none.
    pub(crate) fn records(&self) -> Vec<(PathBuf, Record)> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "choices"));
        paths.sort();
        paths.into_iter().map(|path| (path.clone(), load(&path))).collect()
    }

    /// Adds one.
    pub(crate) fn keep(&self, record: &Record) -> std::io::Result<PathBuf> {
        fs::create_dir_all(&self.directory)?;
        let path = self.directory.join(format!("{:x}.choices", record.seed));
        fs::write(&path, record.to_text())?;
        Ok(path)
    }
}

/// The record in a file.
///
/// # Panics
/// If there is none.
pub(crate) fn load(path: &Path) -> Record {
    let shown = path.display();
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {shown}: {error}"));
    Record::from_text(&text).unwrap_or_else(|error| panic!("{shown}: {error}"))
}

/// How much of a record was repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fit {
    pub(crate) alignment: Alignment,
    pub(crate) mismatch: Option<Mismatch>,
}

impl Fit {
    /// Of a hundred choices of the record.
    pub(crate) fn percent(&self) -> u64 {
        self.alignment.fitted * 100 / self.alignment.of.max(1)
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Alignment { fitted, of, missed } = self.alignment;
        write!(f, "replayed {fitted} of {of} choices")?;
        match self.mismatch {
            Some(mismatch) => write!(f, "; the first that does not fit is {mismatch}"),
            None if missed > 0 => write!(f, ", and went on with {missed} more, all boring"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::{Choice, Stream, Subsystem};

    #[test]
    fn what_is_kept_is_found_again() {
        let directory = std::env::temp_dir().join(format!("machinarium-shelf-{}", std::process::id()));
        let shelf = Shelf::below(&directory, "a::test");
        assert!(shelf.records().is_empty());
        let choices = vec![Choice { site: "cost", answer: 3 }];
        let record =
            |seed| Record { seed, streams: [(Stream::new(Subsystem::Cpu, 1), choices.clone())].into() };
        let paths: Vec<PathBuf> = [2, 1].iter().map(|seed| shelf.keep(&record(*seed)).unwrap()).collect();
        let expected = [(paths[1].clone(), record(1)), (paths[0].clone(), record(2))];
        assert_eq!(shelf.records(), expected);
        fs::remove_dir_all(&directory).unwrap();
    }
}

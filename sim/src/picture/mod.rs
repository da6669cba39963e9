//! Pictures of a run, for eyes and for other tools: a page for any browser, a timeline for Perfetto, a capture for Wireshark.
//!
//! All are made of the same run, the one of an explanation: its [`Film`](crate::film::Film), its trace, and who is who. Each is one
//! file that needs no other, and no network.

mod capture;
pub(crate) mod json;
mod page;
mod timeline;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::explain::Explanation;

/// Writes all of them below `directory`, in files that begin with `name`; these are the answer.
pub(crate) fn write(directory: &Path, name: &str, explanation: &Explanation) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)?;
    let run = &explanation.run;
    let files = [
        ("html", page::page(explanation).into_bytes()),
        ("perfetto.json", timeline::timeline(run).into_bytes()),
        ("pcapng", capture::capture(run)),
    ];
    let write = |(ending, bytes): (&str, Vec<u8>)| {
        let path = directory.join(format!("{name}.{ending}"));
        fs::write(&path, bytes)?;
        Ok(path)
    };
    files.into_iter().map(write).collect()
}

//! One seed in a fresh process: the test binary runs itself again, with the exact name of the test.
//!
//! A failure that needs what earlier seeds left behind in the process is a different bug, and one that kills its process can be
//! looked at only from another one. The child writes its journal ahead, into a file that its parent has named, and prints its digest
//! when the run has ended: so the parent knows what it did, how it ended, and where it went another way.

use std::env;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::ahead;
use crate::guard;
use crate::journal::{self, Drawn};

/// Asks for the journal, and that a failure is not explained.
const CONFIRM: &str = "MACHINARIUM_CONFIRM";
/// What the child prints before its digest.
const CONFIRMED: &str = "machinarium-sim confirms digest ";

/// Where this process is to write its journal, if it is such a child.
pub(crate) fn asked() -> Option<PathBuf> {
    env::var_os(CONFIRM).map(PathBuf::from)
}

/// Tells the parent what came of the run.
pub(crate) fn answer(digest: u64) {
    println!("{CONFIRMED}{digest:016x}");
}

/// What a fresh process did.
pub(crate) struct Fresh {
    pub(crate) journal: Vec<Drawn>,
    /// `None`: it did not come to its end.
    pub(crate) digest: Option<u64>,
    output: Output,
}

impl Fresh {
    /// Runs `seed` of the test `name`.
    pub(crate) fn run(name: &str, seed: u64) -> io::Result<Fresh> {
        let directory = ahead::directory();
        fs::create_dir_all(&directory)?;
        let path = directory.join(format!("{}.{}.journal", ahead::slug(name), std::process::id()));
        let output = Command::new(env::current_exe()?)
            .args([name, "--exact", "--nocapture", "--include-ignored"])
            .env("MACHINARIUM_SEED", seed.to_string())
            .env_remove("MACHINARIUM_REPLAY")
            .env(CONFIRM, &path)
            .output();
        let journal = journal::read(&path);
        let _ = fs::remove_file(&path);
        let output = output?;
        let text = String::from_utf8_lossy(&output.stdout);
        let hex = text.split(CONFIRMED).nth(1).and_then(|rest| rest.get(..16));
        let digest = hex.and_then(|hex| u64::from_str_radix(hex, 16).ok());
        Ok(Fresh { journal, digest, output })
    }

    /// How it was killed, with the last that it said; `None`: it ended by itself.
    pub(crate) fn killed(&self) -> Option<String> {
        let signal = self.output.status.signal()?;
        let said = String::from_utf8_lossy(&self.output.stderr);
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
        Some(format!(
            "signal {signal} ends the process, after {} choices. It said:\n{last}",
            self.journal.len()
        ))
    }
}

/// How much of what a killed process said is told.
const LINES: usize = 60;

/// Whether a fresh process does the same, in words.
pub(crate) fn confirm(name: &str, seed: u64, digest: u64, journal: &[Drawn]) -> String {
    let fresh = match Fresh::run(name, seed) {
        Ok(fresh) => fresh,
        Err(error) => return format!("not tried in a fresh process, which could not be started: {error}"),
    };
    match (fresh.digest, fresh.killed()) {
        (Some(other), _) if other == digest => "confirmed: a fresh process does the same".to_owned(),
        (Some(other), _) => {
            let difference = journal::difference(journal, &fresh.journal).unwrap_or_else(|| {
                format!("all {} choices are the same, and the answers of calls are not", journal.len())
            });
            format!(
                "NOT confirmed: a fresh process gets digest {other:016x}. Something outside of the world decides: state that \
                 earlier seeds or tests left behind, a real clock, the order of a HashMap{}\n{difference}",
                guard::advice()
            )
        }
        (None, Some(killed)) => format!("NOT confirmed: {killed}"),
        (None, None) => format!("not confirmed: a fresh process has no test that is called '{name}'"),
    }
}

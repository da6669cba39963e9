//! What is on the disk before a run begins: its seed, so that a run that takes its process along (an abort, an overflow of a stack, no
//! memory, `kill -9`) does not take its seed along.
//!
//! A test has one file for each process that runs it, `NAME.N.running`, locked by that process and removed when the test has ended.
//! Each run overwrites the seed in it, with one call of the system. One that nobody locks was left behind, and the next run of the
//! test looks at it first.
//!
//! | the file | means |
//! |---|---|
//! | locked | a process runs the seed |
//! | not locked | a process has ended, but not by itself, while it ran the seed |
//! | none | all went well, or failed with a report |

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Where files of the simulator are: beside the programs that cargo builds, and with other temporary ones elsewhere.
pub(crate) fn directory() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let folder = program.parent().unwrap_or(Path::new(""));
    let built = folder.file_name().is_some_and(|name| name == "deps" || name == "examples");
    match folder.parent().filter(|_| built) {
        Some(profile) => profile.join("machinarium"),
        None => std::env::temp_dir().join("machinarium"),
    }
}

/// The name of the program, without what cargo adds to those of tests.
pub(crate) fn program() -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let stem = program.file_stem().map_or(String::new(), |stem| stem.to_string_lossy().into_owned());
    match stem.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            name.to_owned()
        }
        _ => stem,
    }
}

/// `name` as a part of a file's name.
pub(crate) fn slug(name: &str) -> String {
    name.replace(|letter: char| !letter.is_alphanumeric() && letter != '_', "-")
}

/// The file of one test in this process.
pub(crate) struct Ahead {
    /// `None`: it cannot be written, which no run fails for.
    file: Option<(PathBuf, File)>,
}

impl Ahead {
    /// For the test or program of this name.
    pub(crate) fn new(name: &str) -> Ahead {
        let directory = directory();
        let _ = fs::create_dir_all(&directory);
        let file = (0..1024).find_map(|number| {
            let path = directory.join(format!("{}.{number}.running", slug(name)));
            let file = OpenOptions::new().write(true).create_new(true).open(&path).ok()?;
            // The one who looks for what was left behind may hold it for an instant: it is empty, and let be.
            file.lock().ok()?;
            Some((path, file))
        });
        Ahead { file }
    }

    /// The next run begins.
    pub(crate) fn begin(&self, seed: u64) {
        if let Some((_, file)) = &self.file {
            let mut line = *b"0000000000000000\n";
            for (place, digit) in line[..16].iter_mut().rev().enumerate() {
                *digit = b"0123456789abcdef"[(seed >> (4 * place)) as usize & 15];
            }
            let _ = file.write_all_at(&line, 0);
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.file {
            let _ = fs::remove_file(path);
        }
    }
}

/// What runs of the test `name` have left behind: their files and seeds.
pub(crate) fn left_behind(name: &str) -> Vec<(PathBuf, u64)> {
    let prefix = format!("{}.", slug(name));
    let entries = fs::read_dir(directory()).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| is_of(name, &prefix)))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths.into_iter().filter_map(|path| Some((path.clone(), orphan(&path)?))).collect()
}

fn is_of(name: &str, prefix: &str) -> bool {
    let number = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".running"));
    number.is_some_and(|number| number.bytes().all(|digit| digit.is_ascii_digit()))
}

/// The seed in a file that no process holds.
fn orphan(path: &Path) -> Option<u64> {
    let file = File::open(path).ok()?;
    file.try_lock().ok()?;
    let text = fs::read_to_string(path).ok()?;
    u64::from_str_radix(text.trim_end(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_is_not_left_behind_and_who_was_killed_is() {
        let name = "ahead: its own test";
        let ahead = Ahead::new(name);
        ahead.begin(0x1f3a);
        assert_eq!(left_behind(name), []);
        // As a process that is killed leaves it: there, and not locked.
        ahead.file.as_ref().unwrap().1.unlock().unwrap();
        let path = ahead.file.as_ref().unwrap().0.clone();
        assert_eq!(left_behind(name), [(path, 0x1f3a)]);
        assert_eq!(left_behind("ahead: its own"), []);
        drop(ahead);
        assert_eq!(left_behind(name), []);
    }
}

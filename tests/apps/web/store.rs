//! The notes, in memory and in a file: every change is a line at the end of the file, and is answered when the disk has it.
//!
//! ```text
//! {"id":1,"text":"milk"}      it is there, with this text
//! {"id":1}                    it is there no more
//! ```
//!
//! The first line that is none ends the file: a change that was not answered when the power failed. At the start the file is written
//! anew, with one line for each note. A change that fails may be in the file all the same; the next one takes its place.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use machinarium::file::{self, File};
use machinarium::shield;
use machinarium::sync::Mutex;
use serde::{Deserialize, Serialize};

use crate::config::Bug;

/// One note.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) id: u64,
    pub(crate) text: Arc<str>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<Arc<str>>,
}

/// All notes, for all machines.
pub(crate) struct Store {
    state: Mutex<State>,
    bug: Option<Bug>,
}

struct State {
    notes: BTreeMap<u64, Arc<str>>,
    /// The highest number that a note has had.
    last: u64,
    log: Option<Log>,
}

/// The file, and how much of it are whole lines.
struct Log {
    file: File,
    length: u64,
}

impl Store {
    /// The notes of a file, which is made if it is not there; without one, none.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(path: Option<&Path>, bug: Option<Bug>) -> io::Result<Store> {
        let mut state = State { notes: BTreeMap::new(), last: 0, log: None };
        if let Some(path) = path {
            state.load(path)?;
            state.log = Some(state.write_anew(path)?);
        }
        Ok(Store { state: Mutex::new(state), bug })
    }

    pub(crate) fn list(&self) -> io::Result<Vec<Note>> {
        let state = self.state.lock()?;
        Ok(state.notes.iter().map(|(id, text)| Note { id: *id, text: text.clone() }).collect())
    }

    pub(crate) fn get(&self, id: u64) -> io::Result<Option<Note>> {
        Ok(self.state.lock()?.notes.get(&id).map(|text| Note { id, text: text.clone() }))
    }

    pub(crate) fn add(&self, text: Arc<str>) -> io::Result<Note> {
        let mut state = self.state.lock()?;
        let id = state.last + 1;
        self.change(&mut state, Line { id, text: Some(text.clone()) })?;
        Ok(Note { id, text })
    }

    /// `None`: there is no such note.
    pub(crate) fn replace(&self, id: u64, text: Arc<str>) -> io::Result<Option<Note>> {
        let mut state = self.state.lock()?;
        if !state.notes.contains_key(&id) {
            return Ok(None);
        }
        self.change(&mut state, Line { id, text: Some(text.clone()) })?;
        Ok(Some(Note { id, text }))
    }

    /// Whether there was such a note.
    pub(crate) fn remove(&self, id: u64) -> io::Result<bool> {
        let mut state = self.state.lock()?;
        if !state.notes.contains_key(&id) {
            return Ok(false);
        }
        self.change(&mut state, Line { id, text: None })?;
        Ok(true)
    }

    /// What has begun is finished: a write that nobody waits for could still come, over a later one.
    fn change(&self, state: &mut State, line: Line) -> io::Result<()> {
        if let Some(log) = &mut state.log {
            shield(|| log.append(&line, self.bug))?;
        }
        state.apply(line);
        Ok(())
    }
}

impl State {
    fn apply(&mut self, line: Line) {
        self.last = self.last.max(line.id);
        match line.text {
            Some(text) => self.notes.insert(line.id, text),
            None => self.notes.remove(&line.id),
        };
    }

    fn load(&mut self, path: &Path) -> io::Result<()> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        let whole = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let lines = whole.map_while(|line| serde_json::from_slice(line).ok());
        lines.for_each(|line| self.apply(line));
        Ok(())
    }

    /// A whole new file takes the place of the old one. The highest number stays, for what was removed must not come again.
    fn write_anew(&self, path: &Path) -> io::Result<Log> {
        let mut bytes = Vec::new();
        if !self.notes.contains_key(&self.last) {
            bytes.extend(Line { id: self.last, text: None }.bytes()?);
        }
        for (id, text) in &self.notes {
            bytes.extend(Line { id: *id, text: Some(text.clone()) }.bytes()?);
        }
        let new = PathBuf::from(format!("{}.new", path.display()));
        let file = File::create(&new)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        file::rename(&new, path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        file::sync_directory(parent.unwrap_or(Path::new(".")))?;
        Ok(Log { file, length: bytes.len() as u64 })
    }
}

impl Line {
    fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl Log {
    fn append(&mut self, line: &Line, bug: Option<Bug>) -> io::Result<()> {
        let bytes = line.bytes()?;
        // What a change has left that failed.
        self.file.set_len(self.length)?;
        self.file.write_all_at(&bytes, self.length)?;
        if bug != Some(Bug::EarlyAnswer) {
            self.file.sync_data()?;
        }
        self.length += bytes.len() as u64;
        Ok(())
    }
}

//! A file that is not whole yet: its bytes in `NAME.part`, and in `NAME.part.json` what is known of them: their URL, their version, and how
//! many of them the disk has for certain.
//!
//! | on the disk | means |
//! |---|---|
//! | no state | bytes, if there are any, are of unknown version: nobody goes on from them |
//! | state | the first `length` bytes are this version's; what is behind them is not to be relied on |
//! | `NAME` | the whole file, of one version; its bytes were on the disk before it had this name |
//!
//! That holds whenever the process is killed or the power fails, by the order of what is done: bytes are synced before a state counts
//! them, and before bytes of another version are written, the old state is gone for good. What has begun is waited for, whoever is
//! cancelled meanwhile: a write, a rename, and above all a cut that nobody waits for could still come when the file is another. Two
//! processes that download into one directory at once are not kept apart.

use std::io;
use std::path::{Path, PathBuf};

use machinarium::file::{self, File};
use machinarium::{Instant, now, shield};
use serde::{Deserialize, Serialize};

use crate::name::{NEXT_STATE, PART, STATE};
use crate::version::Version;

/// See the head of the file.
pub(crate) struct Partial {
    directory: PathBuf,
    name: String,
    file: File,
    /// What is known, also of bytes that the disk may not have yet.
    state: State,
    /// When the disk last had everything.
    safe_since: Instant,
    /// Whether a state, of other bytes, may be on the disk, or come back there when the power fails.
    stale: bool,
    /// Whether a sync has failed: nobody knows what the disk has since the last state, and another sync does not tell.
    broken: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    url: String,
    version: Version,
    length: u64,
    /// How the server called the file.
    called: Option<String>,
}

impl Partial {
    /// What an earlier run has left of this URL under this name, or nothing yet.
    pub(crate) fn open(directory: &Path, name: &str, url: &str) -> io::Result<Partial> {
        shield(|| {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .open(directory.join(format!("{name}{PART}")))?;
            let (length, found) = (file.len()?, read(&directory.join(format!("{name}{STATE}")))?);
            let mut partial = Partial {
                directory: directory.to_owned(),
                name: name.to_owned(),
                file,
                state: State { url: url.to_owned(), version: Version::default(), length: 0, called: None },
                safe_since: now(),
                stale: length > 0 || found.is_some(),
                broken: false,
            };
            let state = found.and_then(|bytes| serde_json::from_slice::<State>(&bytes).ok());
            match state.filter(|state| state.url == url && state.length <= length) {
                Some(state) => {
                    partial.file.set_len(state.length)?;
                    partial.state = state;
                }
                None => partial.begin(Version::default(), None)?,
            }
            Ok(partial)
        })
    }

    /// How many bytes there are.
    pub(crate) fn length(&self) -> u64 {
        self.state.length
    }

    pub(crate) fn version(&self) -> &Version {
        &self.state.version
    }

    /// How the server called the file, if it did.
    pub(crate) fn called(&self) -> Option<&str> {
        self.state.called.as_deref()
    }

    /// Forgets all bytes: what comes now is this version.
    pub(crate) fn begin(&mut self, version: Version, called: Option<String>) -> io::Result<()> {
        shield(|| {
            if self.stale {
                remove(&self.path(STATE))?;
                file::sync_directory(&self.directory)?;
                self.stale = false;
            }
            let url = std::mem::take(&mut self.state.url);
            self.state = State { url, version: Version::default(), length: 0, called };
            self.file.set_len(0)?;
            self.state.version = version;
            Ok(())
        })
    }

    /// How long the whole file is, which a later answer may be the first to tell.
    pub(crate) fn learn_total(&mut self, total: u64) {
        self.state.version.total = Some(total);
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        shield(|| {
            self.file.write_all_at(bytes, self.state.length)?;
            self.state.length += bytes.len() as u64;
            Ok(())
        })
    }

    /// When everything was last safe.
    pub(crate) fn safe_since(&self) -> Instant {
        self.safe_since
    }

    /// Makes everything safe, so that another run can go on from here: if the version is one that a server can be asked about.
    pub(crate) fn checkpoint(&mut self) -> io::Result<()> {
        shield(|| {
            self.safe_since = now();
            if self.broken || self.state.version.validator().is_none() {
                return Ok(());
            }
            self.broken = true;
            self.file.sync_data()?;
            self.broken = false;
            let next = self.path(NEXT_STATE);
            let file = File::create(&next)?;
            file.write_all_at(&serde_json::to_vec(&self.state)?, 0)?;
            file.sync_all()?;
            self.stale = true;
            file::rename(&next, self.path(STATE))
        })
    }

    /// All bytes as they are in the file, piece by piece.
    pub(crate) fn read(&self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let (mut buf, mut at) = (vec![0; 1 << 18], 0);
        while at < self.length() {
            let count = self.file.read_at(&mut buf, at)?;
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "somebody has cut it"));
            }
            each(&buf[..count]);
            at += count as u64;
        }
        Ok(())
    }

    /// Gives the whole file its name.
    pub(crate) fn finish(&mut self, name: &str) -> io::Result<()> {
        shield(|| {
            self.file.sync_all()?;
            remove(&self.path(STATE))?;
            file::rename(self.path(PART), self.directory.join(name))?;
            file::sync_directory(&self.directory)
        })
    }

    /// Leaves nothing.
    pub(crate) fn remove(mut self) -> io::Result<()> {
        shield(|| {
            self.begin(Version::default(), None)?;
            remove(&self.path(PART))
        })
    }

    fn path(&self, end: &str) -> PathBuf {
        self.directory.join(format!("{}{end}", self.name))
    }
}

/// Whether there is a whole file of this name.
pub(crate) fn is_there(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is in a state's file, if there is one. Ours are far shorter than what is read at most.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = vec![0; file.len()?.min(1 << 16) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

fn remove(path: &Path) -> io::Result<()> {
    match file::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

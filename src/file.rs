//! Files: opened, read and written at offsets, synced; every call on a thread of the pool for blocking calls, so that only its
//! coroutine waits for the disk.
//!
//! A [`File`] owns its descriptor together with the calls that are under way: it is closed when the last of them has ended, so none
//! ever meets a stranger under its number. There is no file position, and so nothing that two users of a file could take from each
//! other. Bytes are copied to and from the pool's thread, `Tuning::file_chunk` of them a call, since a call that nobody waits for
//! any more must not touch its caller's buffer. Interruptions and short counts are dealt with here, on that thread.
//!
//! What this does not do: read ahead, gather writes, lock, list directories. std's files block the machine instead, and know
//! nothing of a simulated disk.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Misuse;
use crate::kernel::{self, Access, Errno, Fd, FileKind, Kernel, OpenFlags, Stat, Wake};
use crate::machine::{Machine, current};
use crate::net::WriteError;
use crate::pool::blocking;

/// An open file. Any machine of its process may use it, also several at once; clones are the same open file.
///
/// Every call waits for a thread of the pool and for the disk. When its caller is cancelled, or a deadline passes, the wait is over and
/// the call is not: one that had begun goes on, and a write may be written, or not, or in part, at any later time until the process
/// ends. One that had not begun is not made. Dropping the last clone closes the file.
///
/// ```
/// use machinarium::file::File;
///
/// let path = std::env::temp_dir().join(format!("machinarium-file-{}", std::process::id()));
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
///     file.write_all_at(b"hello, disk", 0)?;
///     file.sync_all()?;
///     let mut word = [0; 4];
///     file.read_exact_at(&mut word, 7)?;
///     assert_eq!(&word, b"disk");
///     assert_eq!(file.len()?, 11);
///     machinarium::file::remove_file(&path)
/// });
/// result.unwrap();
/// ```
#[derive(Clone)]
pub struct File {
    descriptor: Arc<dyn Wake>,
}

/// How a file is opened, as std's type of this name; by default for nothing. See [`File::options`].
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    flags: OpenFlags,
}

/// What is known of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metadata {
    stat: Stat,
}

impl File {
    /// Opens a file that is there, for reading.
    ///
    /// # Errors
    /// The system's: `NotFound`, `PermissionDenied`, ...; `InvalidInput` for a path with a zero byte; cancellation and deadlines.
    pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
        File::options().read(true).open(path)
    }

    /// Opens a file for writing: makes it, or makes it empty.
    ///
    /// # Errors
    /// As for [`OpenOptions::open`].
    pub fn create(path: impl AsRef<Path>) -> io::Result<File> {
        File::options().write(true).create(true).truncate(true).open(path)
    }

    /// For all other ways to open a file.
    pub fn options() -> OpenOptions {
        OpenOptions::default()
    }

    /// Reads at `offset`, in bytes from the file's begin: how much was read, which may be less than there is; 0 is the end, or an
    /// empty `buf`.
    ///
    /// # Errors
    /// The system's; cancellation and deadlines.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = chunk(buf.len())?;
        let bytes = self.call(move |kernel, fd| {
            let mut bytes = vec![0; len];
            let count = again(|| kernel.pread(fd, &mut bytes, offset))?;
            bytes.truncate(count);
            Ok(bytes)
        })?;
        buf[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    /// Reads all of `buf` at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before; as [`read_at`](Self::read_at). What is in `buf` then is unspecified.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_at(&mut buf[done..], offset.saturating_add(done as u64))? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    /// Writes at `offset`, behind the end too: how much of `buf` was written, which may be less than all.
    ///
    /// # Errors
    /// The system's; cancellation and deadlines, after which it may be written all the same (see [`File`]).
    pub fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let bytes = buf[..chunk(buf.len())?].to_vec();
        self.call(move |kernel, fd| again(|| kernel.pwrite(fd, &bytes, offset)))
    }

    /// Writes all of `buf` at `offset`.
    ///
    /// # Errors
    /// [`WriteError`] says how many bytes had been written for certain when it failed; after a cancellation or a deadline, up to
    /// `Tuning::file_chunk` more may be.
    pub fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), WriteError> {
        let mut written = 0;
        while written < buf.len() {
            match self.write_at(&buf[written..], offset.saturating_add(written as u64)) {
                // Linux does not, of bytes that are there; going on would be for ever.
                Ok(0) => return Err(WriteError { written, source: io::ErrorKind::WriteZero.into() }),
                Ok(count) => written += count,
                Err(source) => return Err(WriteError { written, source }),
            }
        }
        Ok(())
    }

    /// Has everything written to the disk: contents, size and times, of all that was written through whichever handle. The file's name
    /// is its directory's: see [`sync_directory`].
    ///
    /// # Errors
    /// The system's: after one, it is unknown what is on the disk, and a second call does not try again. Cancellation and deadlines:
    /// the sync goes on.
    pub fn sync_all(&self) -> io::Result<()> {
        self.call(|kernel, fd| again(|| kernel.fsync(fd)))
    }

    /// As [`sync_all`](Self::sync_all), without the times.
    ///
    /// # Errors
    /// As `sync_all`.
    pub fn sync_data(&self) -> io::Result<()> {
        self.call(|kernel, fd| again(|| kernel.fdatasync(fd)))
    }

    /// Makes the file `len` bytes long: cuts its end off, or adds zeros.
    ///
    /// # Errors
    /// The system's; cancellation and deadlines, after which it may happen all the same.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.call(move |kernel, fd| again(|| kernel.ftruncate(fd, len)))
    }

    /// What is known of the file.
    ///
    /// # Errors
    /// The system's; cancellation and deadlines.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.call(|kernel, fd| again(|| kernel.fstat(fd))).map(|stat| Metadata { stat })
    }

    /// How many bytes long the file is.
    ///
    /// # Errors
    /// As for [`metadata`](Self::metadata).
    #[allow(clippy::len_without_is_empty, reason = "it asks the system, and can fail")]
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    /// Makes one call on the pool.
    fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Kernel, Fd) -> kernel::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let machine = here()?;
        if self.descriptor.process() != machine.kernel.process() {
            return Err(Misuse::OtherProcess.into());
        }
        let descriptor = self.descriptor.clone();
        Ok(blocking(move || call(&*current::kernel(), descriptor.fd()))??)
    }
}

impl OpenOptions {
    /// For reading.
    pub fn read(mut self, on: bool) -> OpenOptions {
        self.read = on;
        self
    }

    /// For writing.
    pub fn write(mut self, on: bool) -> OpenOptions {
        self.write = on;
        self
    }

    /// Makes the file if it is not there, with the mode 0666 less the process's umask. Needs [`write`](Self::write).
    pub fn create(mut self, on: bool) -> OpenOptions {
        self.flags.create = on;
        self
    }

    /// Makes the file, and fails with `AlreadyExists` if it is there. Needs [`write`](Self::write).
    pub fn create_new(mut self, on: bool) -> OpenOptions {
        self.flags.exclusive = on;
        self
    }

    /// Makes the file empty. Needs [`write`](Self::write).
    pub fn truncate(mut self, on: bool) -> OpenOptions {
        self.flags.truncate = on;
        self
    }

    /// Opens the file, or directory, at `path`.
    ///
    /// # Errors
    /// `InvalidInput` for options that make no sense together, and for a path with a zero byte; the system's: `NotFound`,
    /// `PermissionDenied`, `AlreadyExists`, ...; cancellation and deadlines, after which the file may be made all the same.
    pub fn open(self, path: impl AsRef<Path>) -> io::Result<File> {
        let (flags, path) = (self.flags()?, text(path.as_ref())?);
        let open = move |kernel: &dyn Kernel| Ok(kernel.share(again(|| kernel.openat(&path, flags))?));
        // If nobody takes it, the pool's thread drops it, and that closes the file.
        Ok(File { descriptor: on_pool(open)? })
    }

    fn flags(self) -> io::Result<OpenFlags> {
        let access = match (self.read, self.write) {
            (true, false) => Access::Read,
            (false, true) => Access::Write,
            (true, true) => Access::ReadWrite,
            (false, false) => return Err(invalid("a file is opened for reading, writing or both")),
        };
        let OpenFlags { create, exclusive, truncate, .. } = self.flags;
        if !self.write && (create || exclusive || truncate) {
            return Err(invalid("a file that is made, or made empty, is opened for writing"));
        }
        Ok(OpenFlags { access, create: create || exclusive, ..self.flags })
    }
}

impl Metadata {
    /// Bytes; of what is no regular file, whatever the system says.
    pub fn len(&self) -> u64 {
        self.stat.size
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.stat.kind == FileKind::File
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.stat.kind == FileKind::Directory
    }

    /// When the contents last changed: the time since the begin of 1970, by the clock of the system.
    pub fn modified(&self) -> Duration {
        Duration::from_nanos(self.stat.modified.as_nanos())
    }
}

/// Renames a file; one that has the new name is replaced. Whoever looks sees the old file or the new one.
///
/// To replace a file so that a power failure leaves the old contents or the new: write another, [`sync_all`](File::sync_all), rename it,
/// and then [`sync_directory`].
///
/// # Errors
/// The system's; `InvalidInput` for a path with a zero byte; cancellation and deadlines, after which it may happen all the same.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (text(from.as_ref())?, text(to.as_ref())?);
    on_pool(move |kernel| again(|| kernel.rename(&from, &to)))
}

/// Removes the name of a file, and with its last name and its last user the file.
///
/// # Errors
/// As for [`rename`].
pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let path = text(path.as_ref())?;
    on_pool(move |kernel| again(|| kernel.unlink(&path)))
}

/// Has the names in a directory written to the disk: of files that were made, renamed and removed there.
///
/// # Errors
/// As for [`File::open`] and [`File::sync_all`].
pub fn sync_directory(path: impl AsRef<Path>) -> io::Result<()> {
    let mut options = File::options().read(true);
    options.flags.directory = true;
    options.open(path)?.sync_all()
}

fn here<'a>() -> Result<&'a Machine, Misuse> {
    current::machine().ok_or(Misuse::NoMachine)
}

/// How many of `len` bytes one call moves.
fn chunk(len: usize) -> Result<usize, Misuse> {
    Ok(len.min(here()?.tuning.file_chunk.max(1)))
}

/// Makes a call of no file yet.
fn on_pool<T: Send + 'static>(
    call: impl FnOnce(&dyn Kernel) -> kernel::Result<T> + Send + 'static,
) -> io::Result<T> {
    Ok(blocking(move || call(&*current::kernel()))??)
}

/// Makes a call until it is not interrupted. On a thread where nothing else waits.
fn again<T>(mut call: impl FnMut() -> kernel::Result<T>) -> kernel::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| invalid("a path with a zero byte"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("fd", &self.descriptor.fd()).finish()
    }
}

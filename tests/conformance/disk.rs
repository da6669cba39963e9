//! Calls about files and processors: a scene's own directory, and what it finds there when it begins.
//!
//! A path is relative to that directory and shown so; one that begins with a slash is as it is.

use std::ffi::CString;

use machinarium::kernel::{Call, CpuSet, Errno, Fd, FileKind, OpenFlags, Result};

use crate::scene::{Name, Scene};

/// Directories that are there when a scene begins.
pub(crate) const DIRECTORIES: [&str; 3] = ["", "empty", "full"];
/// Files that are there, in the same manner, with these bytes.
pub(crate) const FILES: [(&str, &[u8]); 2] = [("full/file", b"inner"), ("ten", b"0123456789")];

/// The calls. Each is the kernel's, by names.
impl Scene {
    fn path(&self, path: &str) -> CString {
        let whole = if path.starts_with('/') || path.is_empty() {
            path.to_owned()
        } else {
            format!("{}/{path}", self.directory())
        };
        CString::new(whole).expect("a path without a zero")
    }

    pub(crate) fn openat(&mut self, path: &str, flags: OpenFlags) -> Name {
        let answer = self.kernel.openat(&self.path(path), flags);
        let OpenFlags { access, create, exclusive, truncate, directory } = flags;
        let names =
            [(create, ", CREAT"), (exclusive, ", EXCL"), (truncate, ", TRUNC"), (directory, ", DIRECTORY")];
        let names = names.map(|(on, text)| if on { text } else { "" }).concat();
        // A path that is only long is shown by its beginning.
        self.made(Call::Openat, format_args!("openat({path:.40}, {access:?}{names})"), answer)
    }

    pub(crate) fn pread(&mut self, name: Name, len: usize, offset: u64) {
        let mut buf = vec![0; len];
        let answer = self.kernel.pread(self.fd(name), &mut buf, offset);
        self.received(Call::Pread, format_args!("pread({name}, {len}, {offset})"), answer, &buf)
    }

    /// Writes the next `len` numbered bytes.
    pub(crate) fn pwrite(&mut self, name: Name, len: usize, offset: u64) {
        let bytes = self.numbered(len);
        let answer = self.kernel.pwrite(self.fd(name), &bytes, offset);
        self.count_of(Call::Pwrite, format_args!("pwrite({name}, {len}, {offset})"), answer)
    }

    pub(crate) fn fsync(&mut self, name: Name) {
        let answer = self.kernel.fsync(self.fd(name));
        self.plain(Call::Fsync, format_args!("fsync({name})"), answer)
    }

    pub(crate) fn fdatasync(&mut self, name: Name) {
        let answer = self.kernel.fdatasync(self.fd(name));
        self.plain(Call::Fdatasync, format_args!("fdatasync({name})"), answer)
    }

    pub(crate) fn ftruncate(&mut self, name: Name, len: u64) {
        let answer = self.kernel.ftruncate(self.fd(name), len);
        self.plain(Call::Ftruncate, format_args!("ftruncate({name}, {len})"), answer)
    }

    /// The size of a directory is nobody's promise.
    pub(crate) fn fstat(&mut self, name: Name) {
        let answer = self.kernel.fstat(self.fd(name));
        self.answer(Call::Fstat, format_args!("fstat({name})"), answer, |_, stat| match stat.kind {
            FileKind::Directory => "a directory".to_owned(),
            kind => format!("{kind:?} of {}", stat.size),
        });
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let answer = self.kernel.rename(&self.path(from), &self.path(to));
        self.plain(Call::Rename, format_args!("rename({from}, {to:.40})"), answer)
    }

    pub(crate) fn unlink_file(&mut self, path: &str) {
        let answer = self.kernel.unlink(&self.path(path));
        self.plain(Call::Unlink, format_args!("unlink({path:.40})"), answer)
    }

    /// How many processors there are differs.
    pub(crate) fn bind_thread(&mut self, cpus: &CpuSet) {
        let answer = self.kernel.sched_setaffinity(cpus);
        let some = !cpus.is_empty();
        self.plain(Call::SchedSetaffinity, format_args!("sched_setaffinity(some: {some})"), answer)
    }

    /// A descriptor of this file for the body's own calls, which are not told.
    pub(crate) fn quietly(&self, path: &str, flags: OpenFlags) -> Result<Fd, Errno> {
        self.kernel.openat(&self.path(path), flags)
    }
}

//! Files: paths and flags to the kernel, `stat` back.
//!
//! Owns nothing. Offsets are unsigned here and signed there: one above 2^63 is negative to the kernel, which answers EINVAL.

use std::ffi::CStr;
use std::mem::MaybeUninit;

use libc::{c_int, off_t};

use super::{count, failed, flag};
use crate::kernel::{Access, Call, Fd, FileKind, Instant, OpenFlags, Result, Stat};

/// Mode of a new file, from which the process's umask is taken.
const MODE: libc::c_uint = 0o666;

pub(super) fn open(path: &CStr, flags: OpenFlags) -> Result<Fd> {
    let access = match flags.access {
        Access::Read => libc::O_RDONLY,
        Access::Write => libc::O_WRONLY,
        Access::ReadWrite => libc::O_RDWR,
    };
    let bits = flag(flags.create, libc::O_CREAT)
        | flag(flags.exclusive, libc::O_EXCL)
        | flag(flags.truncate, libc::O_TRUNC)
        | flag(flags.directory, libc::O_DIRECTORY);
    let bits: c_int = access | bits | libc::O_CLOEXEC;
    // SAFETY: a CStr ends with a zero.
    unsafe { syscall!(Openat: openat(libc::AT_FDCWD, path.as_ptr(), bits, MODE)) }.map(Fd::from_raw)
}

pub(super) fn read_at(fd: Fd, buf: &mut [u8], offset: u64) -> Result<usize> {
    let (pointer, len) = (buf.as_mut_ptr().cast(), buf.len());
    // SAFETY: the kernel writes at most `len` bytes to `buf`.
    unsafe { syscall!(Pread: pread(fd.raw(), pointer, len, offset as off_t)) }.map(count)
}

pub(super) fn write_at(fd: Fd, buf: &[u8], offset: u64) -> Result<usize> {
    // SAFETY: the kernel reads at most `buf.len()` bytes from `buf`.
    unsafe { syscall!(Pwrite: pwrite(fd.raw(), buf.as_ptr().cast(), buf.len(), offset as off_t)) }.map(count)
}

pub(super) fn sync(fd: Fd) -> Result<()> {
    // SAFETY: takes no pointer.
    unsafe { syscall!(Fsync: fsync(fd.raw())) }.map(drop)
}

pub(super) fn sync_data(fd: Fd) -> Result<()> {
    // SAFETY: takes no pointer.
    unsafe { syscall!(Fdatasync: fdatasync(fd.raw())) }.map(drop)
}

pub(super) fn truncate(fd: Fd, len: u64) -> Result<()> {
    // SAFETY: takes no pointer.
    unsafe { syscall!(Ftruncate: ftruncate(fd.raw(), len as off_t)) }.map(drop)
}

pub(super) fn status(fd: Fd) -> Result<Stat> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: `status` has room for a stat.
    unsafe { syscall!(Fstat: fstat(fd.raw(), status.as_mut_ptr())) }?;
    // SAFETY: all zero is a valid stat, and the kernel wrote over it.
    let status = unsafe { status.assume_init() };
    let kind = match status.st_mode & libc::S_IFMT {
        libc::S_IFREG => FileKind::File,
        libc::S_IFDIR => FileKind::Directory,
        _ => FileKind::Other,
    };
    // Before 1970 it is 1970.
    let seconds = u64::try_from(status.st_mtime).unwrap_or(0);
    let modified = Instant::from_nanos(seconds.saturating_mul(1_000_000_000) + status.st_mtime_nsec as u64);
    Ok(Stat { size: status.st_size as u64, kind, modified })
}

pub(super) fn rename(from: &CStr, to: &CStr) -> Result<()> {
    // SAFETY: a CStr ends with a zero.
    unsafe { syscall!(Rename: rename(from.as_ptr(), to.as_ptr())) }.map(drop)
}

pub(super) fn unlink(path: &CStr) -> Result<()> {
    // SAFETY: a CStr ends with a zero.
    unsafe { syscall!(Unlink: unlink(path.as_ptr())) }.map(drop)
}

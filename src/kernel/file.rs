//! What the file calls take and give: how a file is opened, and what `fstat` says of it.
//!
//! Values only. File calls may put their thread to sleep for as long as the disk likes, so a machine's own thread makes
//! none of them: the pool's threads do.

use super::Instant;

/// The flags of `openat(2)`, with `O_CLOEXEC` always.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenFlags {
    /// What may be done with the descriptor.
    pub access: Access,
    /// `O_CREAT`: make the file if it is not there, with the mode 0666 less the process's umask.
    pub create: bool,
    /// `O_EXCL`: with [`create`](OpenFlags::create), it must not be there.
    pub exclusive: bool,
    /// `O_TRUNC`: make it empty.
    pub truncate: bool,
    /// `O_DIRECTORY`: it must be a directory. One that was opened can be synced, which keeps the names in it.
    pub directory: bool,
}

/// The access mode of an open file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Access {
    /// `O_RDONLY`.
    #[default]
    Read,
    /// `O_WRONLY`.
    Write,
    /// `O_RDWR`.
    ReadWrite,
}

impl Access {
    /// Whether it may be read.
    pub const fn reads(self) -> bool {
        matches!(self, Access::Read | Access::ReadWrite)
    }

    /// Whether it may be written.
    pub const fn writes(self) -> bool {
        matches!(self, Access::Write | Access::ReadWrite)
    }
}

/// What `fstat(2)` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Bytes; of a directory, and of what is no file, whatever the system says.
    pub size: u64,
    /// What it is.
    pub kind: FileKind,
    /// When its contents last changed, by the real-time clock (in the steps of the system's timer).
    pub modified: Instant,
}

/// What a descriptor or a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: a socket, a pipe, a device.
    Other,
}

//! The system calls about files, as [`Net`] serves them: each one attempt, without time and without faults.
//!
//! The order in which a call looks at its arguments is Linux's, so that it answers the same error where two would do.

use std::ffi::CStr;
use std::io::IoSliceMut;

use machinarium::kernel::{Access, Errno, Fd, FileKind, Instant, OpenFlags, Result, Stat};

use super::path::Place;
use super::{Disk, Kind, Node, OpenFile, What, path};
use crate::choice::{Stream, Subsystem};
use crate::env::{Env, Fault, HostIndex, ProcessIndex};
use crate::files::File;
use crate::net::Net;
use crate::slab::Key;

/// The size of the largest file (of ext4 with blocks of 4 KiB).
const LARGEST: u64 = (1 << 44) - 4_096;
/// Offsets are signed there.
const OFFSETS: u64 = 1 << 63;

impl Net {
    /// `openat(2)`. Here as below, times are the world's.
    pub(crate) fn openat(
        &mut self,
        process: ProcessIndex,
        path: &CStr,
        flags: OpenFlags,
        now: u64,
    ) -> Result<Fd> {
        if flags.create && flags.directory {
            return Err(Errno::INVAL);
        }
        path::check(path)?;
        self.table(process).check_room()?;
        let disk = self.processes[process.0 as usize].host.0 as usize;
        let node = self.disks[disk].open(path, flags, now)?;
        self.disks[disk].node_mut(node).open += 1;
        let key = self.open_files.insert(OpenFile { disk, node, access: flags.access, position: 0 });
        self.table_mut(process).insert(File::Disk(key))
    }

    /// `pread(2)`.
    pub(crate) fn pread(&self, process: ProcessIndex, fd: Fd, buf: &mut [u8], offset: u64) -> Result<usize> {
        if offset >= OFFSETS {
            return Err(Errno::INVAL);
        }
        let key = self.seekable(process, fd)?;
        self.read_file(key, buf, offset)
    }

    /// `pwrite(2)`.
    pub(crate) fn pwrite(
        &mut self,
        process: ProcessIndex,
        fd: Fd,
        buf: &[u8],
        offset: u64,
        now: u64,
    ) -> Result<usize> {
        if offset >= OFFSETS {
            return Err(Errno::INVAL);
        }
        let key = self.seekable(process, fd)?;
        self.write_file(key, buf, offset, now)
    }

    /// `fsync(2)` and `fdatasync(2)`. With `fails`, the disk does not take what there is, and the answer is EIO.
    pub(crate) fn fsync(&mut self, process: ProcessIndex, fd: Fd, fails: bool) -> Result<()> {
        let File::Disk(key) = self.table(process).get(fd)? else { return Err(Errno::INVAL) };
        let OpenFile { disk, node, .. } = self.open_files[key];
        let disk = &mut self.disks[disk];
        match &mut disk.node_mut(node).kind {
            Kind::Directory | Kind::Socket(_) if fails => {}
            Kind::Directory => disk.sync_directory(node),
            Kind::File(contents) if fails => contents.fail_to_sync(),
            Kind::File(contents) => contents.sync(),
            Kind::Socket(_) => {}
        }
        if fails { Err(Errno::IO) } else { Ok(()) }
    }

    /// `ftruncate(2)`.
    pub(crate) fn ftruncate(&mut self, process: ProcessIndex, fd: Fd, len: u64, now: u64) -> Result<()> {
        if len >= OFFSETS {
            return Err(Errno::INVAL);
        }
        let File::Disk(key) = self.table(process).get(fd)? else { return Err(Errno::INVAL) };
        let OpenFile { disk, node, access, .. } = self.open_files[key];
        let disk = &mut self.disks[disk];
        if disk.is_directory(node) || !access.writes() {
            return Err(Errno::INVAL);
        }
        if len > LARGEST {
            return Err(Errno::FBIG);
        }
        disk.contents(node).truncate(len);
        disk.node_mut(node).modified = now;
        Ok(())
    }

    /// `fstat(2)`.
    pub(crate) fn fstat(&self, process: ProcessIndex, fd: Fd) -> Result<Stat> {
        let File::Disk(key) = self.table(process).get(fd)? else {
            return Ok(Stat { size: 0, kind: FileKind::Other, modified: Instant::default() });
        };
        let OpenFile { disk, node, .. } = self.open_files[key];
        let node = self.disks[disk].node(node);
        let (size, kind) = match &node.kind {
            Kind::Directory => (4_096, FileKind::Directory),
            Kind::File(contents) => (contents.size(), FileKind::File),
            Kind::Socket(_) => (0, FileKind::Other),
        };
        Ok(Stat { size, kind, modified: Instant::from_nanos(node.modified) })
    }

    /// `rename(2)`.
    pub(crate) fn rename(&mut self, process: ProcessIndex, from: &CStr, to: &CStr) -> Result<()> {
        let host = self.processes[process.0 as usize].host;
        self.disks[host.0 as usize].rename(from, to)
    }

    /// `unlink(2)`.
    pub(crate) fn unlink(&mut self, process: ProcessIndex, path: &CStr) -> Result<()> {
        let host = self.processes[process.0 as usize].host;
        self.disks[host.0 as usize].unlink(path)
    }

    /// The host's power fails. What has lost something is told as a fault.
    pub(crate) fn lose_power(&mut self, env: &mut dyn Env, host: HostIndex) {
        let stream = Stream::new(Subsystem::Disk, 1 << 63 | u64::from(host.0));
        let (names, files) = self.disks[host.0 as usize].lose_power(&mut |site, n| env.draw(stream, site, n));
        if names + files > 0 {
            let text =
                format_args!("{names} changes of names and something of {files} files were not on the disk");
            env.inject(host, Fault::LostWrite, text);
        }
    }

    /// `read(2)` from where the last one ended.
    pub(crate) fn read_on(&mut self, key: Key, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        let mut done = 0;
        for buf in bufs {
            let count = self.read_file(key, buf, self.open_files[key].position)?;
            self.open_files[key].position += count as u64;
            done += count;
        }
        Ok(done)
    }

    /// `write(2)` to where the last one ended.
    pub(crate) fn write_on(&mut self, key: Key, buf: &[u8], now: u64) -> Result<usize> {
        let count = self.write_file(key, buf, self.open_files[key].position, now)?;
        self.open_files[key].position += count as u64;
        Ok(count)
    }

    /// `ioctl(2)` with FIONREAD: what is from the position to the end, an int, which is negative beyond it.
    pub(crate) fn unread(&self, key: Key) -> Result<usize> {
        let OpenFile { disk, node, position, .. } = self.open_files[key];
        match &self.disks[disk].node(node).kind {
            Kind::File(contents) => Ok(contents.size().wrapping_sub(position) as i32 as usize),
            _ => Err(Errno::NOTTY),
        }
    }

    /// A descriptor is gone.
    pub(crate) fn close_open_file(&mut self, key: Key) {
        let OpenFile { disk, node, .. } = self.open_files.remove(key);
        self.disks[disk].node_mut(node).open -= 1;
    }

    /// EBADF, and ESPIPE for what is no file.
    fn seekable(&self, process: ProcessIndex, fd: Fd) -> Result<Key> {
        match self.table(process).get(fd)? {
            File::Disk(key) => Ok(key),
            _ => Err(Errno::SPIPE),
        }
    }

    fn read_file(&self, key: Key, buf: &mut [u8], offset: u64) -> Result<usize> {
        let OpenFile { disk, node, access, .. } = self.open_files[key];
        if !access.reads() {
            return Err(Errno::BADF);
        }
        match &self.disks[disk].node(node).kind {
            Kind::Directory => Err(Errno::ISDIR),
            Kind::File(_) if offset + buf.len() as u64 >= OFFSETS => Err(Errno::INVAL),
            Kind::File(contents) => Ok(contents.read(offset, buf)),
            Kind::Socket(_) => Err(Errno::BADF),
        }
    }

    fn write_file(&mut self, key: Key, buf: &[u8], offset: u64, now: u64) -> Result<usize> {
        let OpenFile { disk, node, access, .. } = self.open_files[key];
        if !access.writes() {
            return Err(Errno::BADF);
        }
        if offset + buf.len() as u64 >= OFFSETS {
            return Err(Errno::INVAL);
        }
        if buf.is_empty() {
            return Ok(0);
        }
        if offset >= LARGEST {
            return Err(Errno::FBIG);
        }
        let disk = &mut self.disks[disk];
        let count = (buf.len() as u64).min(LARGEST - offset) as usize;
        let count = disk.fitting(node, offset, count)?;
        disk.contents(node).write(offset, &buf[..count]);
        disk.node_mut(node).modified = now;
        Ok(count)
    }
}

impl Disk {
    /// The node that `openat` opens, made if it may be.
    fn open(&mut self, path: &CStr, flags: OpenFlags, now: u64) -> Result<Key> {
        let place = self.find(path)?;
        // What is to be made must have the name of a file, also if it is there.
        if flags.create && place.slash && !place.special {
            return Err(Errno::ISDIR);
        }
        let Some(node) = place.node else { return self.create(place, flags, now) };
        if flags.create && flags.exclusive {
            return Err(Errno::EXIST);
        }
        if self.is_directory(node) {
            let refused = flags.access != Access::Read || flags.create || flags.truncate;
            return if refused { Err(Errno::ISDIR) } else { Ok(node) };
        }
        if flags.directory || place.slash {
            return Err(Errno::NOTDIR);
        }
        if !self.is_file(node) {
            return Err(Errno::NXIO);
        }
        if flags.truncate {
            self.contents(node).truncate(0);
            self.node_mut(node).modified = now;
        }
        Ok(node)
    }

    fn create(&mut self, place: Place, flags: OpenFlags, now: u64) -> Result<Key> {
        if !flags.create {
            return Err(Errno::NOENT);
        }
        let key = self.nodes.insert(Node { kind: Kind::File(Default::default()), open: 0, modified: now });
        self.change([place.parent; 2], What::Link(place.path, key));
        Ok(key)
    }

    fn rename(&mut self, from: &CStr, to: &CStr) -> Result<()> {
        let (from, to) = (self.find(from)?, self.find(to)?);
        if from.special || to.special {
            return Err(Errno::BUSY);
        }
        let node = from.node.ok_or(Errno::NOENT)?;
        let directory = self.is_directory(node);
        if !directory && (from.slash || to.slash) {
            return Err(Errno::NOTDIR);
        }
        if from.path != to.path && to.path.starts_with(&from.path) {
            return Err(Errno::INVAL);
        }
        if from.path != to.path && from.path.starts_with(&to.path) {
            return Err(Errno::NOTEMPTY);
        }
        if let Some(other) = to.node {
            match (directory, self.is_directory(other)) {
                _ if other == node => return Ok(()),
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if !self.is_empty(&to.path) => return Err(Errno::NOTEMPTY),
                _ => {}
            }
        }
        self.change([from.parent, to.parent], What::Rename(from.path, to.path));
        Ok(())
    }

    fn unlink(&mut self, path: &CStr) -> Result<()> {
        let place = self.find(path)?;
        if place.special {
            return Err(Errno::ISDIR);
        }
        let node = place.node.ok_or(Errno::NOENT)?;
        if self.is_directory(node) {
            return Err(Errno::ISDIR);
        }
        if place.slash {
            return Err(Errno::NOTDIR);
        }
        self.change([place.parent; 2], What::Unlink(place.path));
        Ok(())
    }

    /// Whether `bind` of a Unix socket may make this file.
    pub(crate) fn check_vacant(&self, path: &[u8]) -> Result<()> {
        let place = self.find_bytes(path)?;
        match place.node {
            Some(_) => Err(Errno::ADDRINUSE),
            None if place.slash => Err(Errno::NOENT),
            None => Ok(()),
        }
    }

    /// Makes it.
    pub(crate) fn make_socket(&mut self, path: &[u8], socket: Key) -> Result<()> {
        let place = self.find_bytes(path)?;
        let key = self.nodes.insert(Node { kind: Kind::Socket(socket), open: 0, modified: 0 });
        self.change([place.parent; 2], What::Link(place.path, key));
        Ok(())
    }

    /// The socket that `connect` finds there, which may be gone.
    pub(crate) fn socket(&self, path: &[u8]) -> Result<Key> {
        let place = self.find_bytes(path)?;
        match self.node(place.node.ok_or(Errno::NOENT)?).kind {
            Kind::Socket(_) if place.slash => Err(Errno::NOTDIR),
            Kind::Socket(key) => Ok(key),
            _ => Err(Errno::CONNREFUSED),
        }
    }

    pub(super) fn is_file(&self, key: Key) -> bool {
        matches!(self.node(key).kind, Kind::File(_))
    }
}

//! Descriptor tables, and the calls that any descriptor answers: read, write, close.
//!
//! A table maps numbers to objects of [`Net`]; a new descriptor gets the lowest free number from 3 on (0 to 2 are
//! the standard streams, which are not simulated). There is no `dup`: an object has one descriptor, and goes
//! when it is closed; a socket's connection may outlive it, as on Linux.

use std::io::IoSliceMut;

use machinarium::kernel::{Errno, Events, Fd, RecvFlags, Result, SendFlags};

use crate::env::{Env, ProcessIndex};
use crate::eventfd::EventFd;
use crate::net::Net;
use crate::slab::Key;

/// What a descriptor stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum File {
    Socket(Key),
    Udp(Key),
    Unix(Key),
    Epoll(Key),
    Eventfd(Key),
    /// A file or a directory of the host's disk.
    Disk(Key),
}

/// The first number given out.
const FIRST: usize = 3;

/// The descriptors of a process.
pub(crate) struct Table {
    entries: Vec<Option<File>>,
    /// No number below this one is free.
    lowest: usize,
    limit: usize,
}

impl Table {
    /// A table that lets numbers below `limit` be used (RLIMIT_NOFILE).
    pub(crate) fn new(limit: usize) -> Table {
        Table { entries: vec![None; FIRST], lowest: FIRST, limit }
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// EMFILE if [`insert`](Table::insert) would fail.
    pub(crate) fn check_room(&self) -> Result<()> {
        if self.free() < self.limit { Ok(()) } else { Err(Errno::MFILE) }
    }

    fn free(&self) -> usize {
        let taken = self.entries[self.lowest..].iter().take_while(|entry| entry.is_some()).count();
        self.lowest + taken
    }

    pub(crate) fn insert(&mut self, file: File) -> Result<Fd> {
        let number = self.free();
        if number >= self.limit {
            return Err(Errno::MFILE);
        }
        if number == self.entries.len() {
            self.entries.push(None);
        }
        assert!(self.entries[number].is_none());
        self.entries[number] = Some(file);
        self.lowest = number + 1;
        Ok(Fd::from_raw(i32::try_from(number).expect("a limit below 2^31")))
    }

    pub(crate) fn get(&self, fd: Fd) -> Result<File> {
        let number = usize::try_from(fd.raw()).map_err(|_| Errno::BADF)?;
        self.entries.get(number).copied().flatten().ok_or(Errno::BADF)
    }

    pub(crate) fn remove(&mut self, fd: Fd) -> Result<File> {
        let file = self.get(fd)?;
        let number = fd.raw() as usize;
        self.entries[number] = None;
        self.lowest = self.lowest.min(number);
        Ok(file)
    }

    /// The object was given a new key.
    pub(crate) fn replace(&mut self, fd: Fd, file: File) {
        let entry = &mut self.entries[fd.raw() as usize];
        assert!(entry.is_some());
        *entry = Some(file);
    }

    /// What was open, by number.
    pub(crate) fn into_files(self) -> impl Iterator<Item = File> {
        self.entries.into_iter().flatten()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Fd, File)> {
        let open =
            |(number, entry): (usize, &Option<File>)| entry.map(|file| (Fd::from_raw(number as i32), file));
        self.entries.iter().enumerate().filter_map(open)
    }
}

impl Net {
    pub(crate) fn table(&self, process: ProcessIndex) -> &Table {
        &self.processes[process.0 as usize].table
    }

    pub(crate) fn table_mut(&mut self, process: ProcessIndex) -> &mut Table {
        &mut self.processes[process.0 as usize].table
    }

    /// `eventfd(2)`.
    pub(crate) fn eventfd(&mut self, _env: &mut dyn Env, process: ProcessIndex, initial: u32) -> Result<Fd> {
        self.table(process).check_room()?;
        let key = self.eventfds.insert(EventFd::new(initial));
        self.table_mut(process).insert(File::Eventfd(key))
    }

    /// `read(2)`.
    pub(crate) fn read(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
        buf: &mut [u8],
    ) -> Result<usize> {
        self.readv(env, process, fd, &mut [IoSliceMut::new(buf)])
    }

    /// `readv(2)`.
    pub(crate) fn readv(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Result<usize> {
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        match self.table(process).get(fd)? {
            // Reading nothing from a socket never looks at the socket; recv(2) does.
            File::Socket(_) | File::Udp(_) | File::Unix(_) if length == 0 => Ok(0),
            File::Socket(_) | File::Udp(_) | File::Unix(_) => {
                let received = self.recvmsg(env, process, fd, bufs, RecvFlags::default())?;
                Ok(received.count)
            }
            File::Epoll(_) => Err(Errno::INVAL),
            File::Eventfd(_) if length < 8 => Err(Errno::INVAL),
            File::Eventfd(key) => {
                let count = self.eventfds[key].take()?;
                scatter(&count.to_ne_bytes(), bufs);
                self.notify(env, File::Eventfd(key), Events::OUT);
                Ok(8)
            }
            File::Disk(key) => self.read_on(key, bufs),
        }
    }

    /// `write(2)`.
    pub(crate) fn write(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        fd: Fd,
        buf: &[u8],
    ) -> Result<usize> {
        match self.table(process).get(fd)? {
            File::Socket(_) | File::Udp(_) | File::Unix(_) => {
                self.send(env, process, fd, buf, SendFlags::default())
            }
            File::Epoll(_) => Err(Errno::INVAL),
            File::Eventfd(key) => {
                let value: [u8; 8] = buf.try_into().map_err(|_| Errno::INVAL)?;
                self.eventfds[key].add(u64::from_ne_bytes(value))?;
                self.notify(env, File::Eventfd(key), Events::IN);
                Ok(8)
            }
            File::Disk(key) => self.write_on(key, buf, env.now()),
        }
    }

    /// `close(2)`.
    pub(crate) fn close(&mut self, env: &mut dyn Env, process: ProcessIndex, fd: Fd) -> Result<()> {
        let file = self.table_mut(process).remove(fd)?;
        self.close_file(env, file);
        Ok(())
    }

    /// The descriptor of `file` is gone.
    pub(crate) fn close_file(&mut self, env: &mut dyn Env, file: File) {
        if let File::Disk(key) = file {
            return self.close_open_file(key); // nobody can watch it
        }
        self.forget_watchers(file);
        match file {
            File::Disk(_) => unreachable!("closed above"),
            File::Socket(key) => self.close_socket(env, key),
            File::Udp(key) => self.close_udp(key),
            File::Unix(key) => self.close_unix(env, key),
            File::Epoll(key) => self.close_epoll(key),
            File::Eventfd(key) => drop(self.eventfds.remove(key)),
        }
    }
}

/// Spreads `bytes` over `bufs`, which have room for them.
pub(crate) fn scatter(mut bytes: &[u8], bufs: &mut [IoSliceMut<'_>]) {
    for buf in bufs {
        let count = bytes.len().min(buf.len());
        buf[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
    }
    assert!(bytes.is_empty());
}

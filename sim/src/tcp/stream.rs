//! Bytes of a connection between a program and its socket: `send` and `recv` as `tcp_sendmsg` and `tcp_recvmsg` do them.
//!
//! Both look at things in Linux's order, because a pending error goes to whoever meets it first. An urgent byte stays in
//! the stream: reading stops before it, and then skips it; only MSG_OOB reads it.

use std::io::{IoSlice, IoSliceMut};

use machinarium::kernel::{Errno, Fd, RecvFlags, Result, SendFlags};

use super::{Receiving, Socket, State, Urgent};
use crate::env::{Env, ProcessIndex};
use crate::files::File;
use crate::net::Net;
use crate::slab::Key;

impl Net {
    /// `tcp_sendmsg`.
    pub(crate) fn transfer(
        &mut self,
        env: &mut dyn Env,
        key: Key,
        bufs: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> Result<usize> {
        self.take_acks(env, key);
        let socket = &mut self.sockets[key];
        match socket.state {
            State::Established | State::CloseWait => {}
            State::SynSent | State::SynReceived if socket.error.is_none() => return Err(Errno::AGAIN),
            _ => return Err(socket.error.take().unwrap_or(Errno::PIPE)),
        }
        if socket.error.is_some() || socket.shut.send {
            return Err(socket.error.take().unwrap_or(Errno::PIPE));
        }
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        let room = (socket.send_capacity() as usize).saturating_sub(socket.sending.queue.len());
        let taken = length.min(room).min(socket.sending.squeezed.take().unwrap_or(usize::MAX));
        if taken < length {
            socket.sending.wants_room = true;
            self.expect_ack(env, key);
        }
        if taken == 0 {
            return if length == 0 { Ok(0) } else { Err(Errno::AGAIN) };
        }
        let socket = &mut self.sockets[key];
        socket.append(env.now(), bufs, taken);
        if flags.oob {
            socket.sending.urgent.push(socket.sending.end - 1);
        }
        self.books.sent += taken as u64;
        self.push(env, key);
        Ok(taken)
    }

    /// `tcp_recvmsg`.
    pub(crate) fn receive(
        &mut self,
        env: &mut dyn Env,
        key: Key,
        bufs: &mut [IoSliceMut<'_>],
        flags: RecvFlags,
    ) -> Result<usize> {
        let socket = &mut self.sockets[key];
        if socket.state == State::Listen {
            return Err(Errno::NOTCONN);
        }
        if flags.oob {
            return socket.receive_urgent(bufs, flags.peek);
        }
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        let (skipped, taken) = socket.receiving.portion(length);
        let had_data = !socket.receiving.queue.is_empty();
        socket.receiving.copy(skipped, taken, bufs);
        if !flags.peek {
            socket.receiving.consume(skipped + taken);
            self.books.received += (skipped + taken) as u64;
        }
        if skipped + taken > 0 && !flags.peek {
            self.update_window(env, key);
        }
        if taken > 0 || (length == 0 && had_data) {
            return Ok(taken);
        }
        self.sockets[key].nothing_to_read()
    }
}

impl Net {
    /// The next transfer of a TCP socket takes at most so many bytes, at least one: there is little memory.
    pub(crate) fn squeeze(&mut self, process: ProcessIndex, fd: Fd, most: usize) {
        if let Ok(File::Socket(key)) = self.table(process).get(fd) {
            self.sockets[key].sending.squeezed = Some(most);
        }
    }
}

impl Socket {
    /// `tcp_inq`, for FIONREAD: what there is before an urgent byte.
    pub(crate) fn pending(&self) -> Result<usize> {
        if self.state == State::Listen {
            return Err(Errno::INVAL);
        }
        let receiving = &self.receiving;
        let urgent = receiving.urgent.map(|urgent| (urgent.at - receiving.copied) as usize);
        Ok(urgent.unwrap_or(receiving.queue.len()))
    }

    fn append(&mut self, now: u64, bufs: &[IoSlice<'_>], mut taken: usize) {
        let sending = &mut self.sending;
        if sending.queue.is_empty() {
            self.timer.progress(now);
        }
        sending.end += taken as u64;
        for buf in bufs {
            let count = taken.min(buf.len());
            sending.queue.extend(&buf[..count]);
            taken -= count;
        }
    }

    /// What a read answers that finds no byte.
    fn nothing_to_read(&mut self) -> Result<usize> {
        if self.done {
            return Ok(0);
        }
        if let Some(errno) = self.error.take() {
            return Err(errno);
        }
        match self.state {
            _ if self.shut.receive => Ok(0),
            State::Closed => Err(Errno::NOTCONN),
            _ => Err(Errno::AGAIN),
        }
    }

    /// `tcp_recv_urg`.
    fn receive_urgent(&mut self, bufs: &mut [IoSliceMut<'_>], peek: bool) -> Result<usize> {
        let receiving = &mut self.receiving;
        let Some(Urgent { at, taken: false }) = receiving.urgent else { return Err(Errno::INVAL) };
        if self.state == State::Closed && !self.done {
            return Err(Errno::NOTCONN);
        }
        let byte = receiving.queue[(at - receiving.copied) as usize];
        if !peek {
            receiving.urgent = Some(Urgent { at, taken: true });
        }
        let Some(buf) = bufs.iter_mut().find(|buf| !buf.is_empty()) else { return Ok(0) };
        buf[0] = byte;
        Ok(1)
    }
}

impl Receiving {
    /// How many bytes a read of `length` skips, and then takes.
    fn portion(&self, length: usize) -> (usize, usize) {
        let available = self.queue.len();
        let urgent = self.urgent.map(|urgent| (urgent.at - self.copied) as usize);
        match urgent {
            Some(0) if length > 0 && available > 0 => (1, length.min(available - 1)),
            Some(before) if before > 0 => (0, length.min(available).min(before)),
            _ => (0, length.min(available)),
        }
    }

    fn copy(&self, skipped: usize, taken: usize, bufs: &mut [IoSliceMut<'_>]) {
        let mut from = skipped;
        let end = skipped + taken;
        for buf in bufs {
            let count = buf.len().min(end - from);
            let (front, back) = self.queue.as_slices();
            let in_front = front.len().saturating_sub(from).min(count);
            if in_front > 0 {
                buf[..in_front].copy_from_slice(&front[from..from + in_front]);
            }
            if count > in_front {
                let start = from + in_front - front.len();
                buf[in_front..count].copy_from_slice(&back[start..start + count - in_front]);
            }
            from += count;
        }
        assert_eq!(from, end, "a portion fits the buffers");
    }

    pub(super) fn consume(&mut self, count: usize) {
        if count == self.queue.len() {
            self.queue.clear();
        } else {
            self.queue.drain(..count);
        }
        self.copied += count as u64;
        if self.urgent.is_some_and(|urgent| urgent.at < self.copied) {
            self.urgent = None;
        }
    }
}

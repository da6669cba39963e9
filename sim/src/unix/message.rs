//! Bytes and datagrams between Unix sockets: `unix_stream_sendmsg`, `unix_dgram_sendmsg`, and both ways to read.
//!
//! All look at things in Linux's order, because a pending error goes to whoever meets it first. What is in the queue of a
//! stream is read before its end and before its error; of a datagram socket the error comes first.

use std::io::{IoSlice, IoSliceMut};

use machinarium::kernel::{Address, Errno, Events, Received, RecvFlags, Result, SendFlags, SocketKind};

use super::{Message, State, Unix};
use crate::env::Env;
use crate::files::{File, scatter};
use crate::net::Net;
use crate::slab::Key;

/// What a message takes of its sender's buffer besides its bytes (`truesize`).
const OVERHEAD: u64 = 768;
/// The most bytes of a stream that go into one message.
const MOST: usize = 36_544;
/// net.unix.max_dgram_qlen: one more than this may wait, of those who are not the reader's peer.
const DATAGRAMS: usize = 10;

impl Net {
    pub(crate) fn send_unix(
        &mut self,
        env: &mut dyn Env,
        key: Key,
        bufs: &[IoSlice<'_>],
        flags: SendFlags,
        to: Option<&Address>,
    ) -> Result<usize> {
        if flags.oob {
            return Err(Errno::OPNOTSUPP);
        }
        let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        match self.unixes[key].kind {
            SocketKind::Stream => self.send_unix_stream(env, key, &bytes, to),
            SocketKind::Datagram => self.send_unix_datagram(env, key, bytes, to),
        }
    }

    fn send_unix_stream(
        &mut self,
        env: &mut dyn Env,
        key: Key,
        mut bytes: &[u8],
        to: Option<&Address>,
    ) -> Result<usize> {
        let socket = &self.unixes[key];
        if to.is_some() {
            return Err(if socket.state == State::Connected { Errno::ISCONN } else { Errno::OPNOTSUPP });
        }
        let peer = socket.peer.ok_or(Errno::NOTCONN)?;
        if socket.shut.send {
            return Err(Errno::PIPE);
        }
        let mut sent = 0;
        while !bytes.is_empty() {
            let socket = &mut self.unixes[key];
            let most = MOST.min(socket.options.send_buffer() as usize / 2 - 64);
            if let Err(errno) = socket.allocate() {
                return if sent > 0 { Ok(sent) } else { Err(errno) };
            }
            if self.unixes[peer].dead || self.unixes[peer].shut.receive {
                // The message was made, and goes: an edge.
                self.unix_write_space(env, key);
                return if sent > 0 { Ok(sent) } else { Err(Errno::PIPE) };
            }
            let (now, later) = bytes.split_at(most.min(bytes.len()));
            self.enqueue(env, key, peer, now.to_vec());
            sent += now.len();
            bytes = later;
        }
        Ok(sent)
    }

    fn send_unix_datagram(
        &mut self,
        env: &mut dyn Env,
        key: Key,
        bytes: Vec<u8>,
        to: Option<&Address>,
    ) -> Result<usize> {
        // An address that is none is found out first; who has it, last.
        if to.is_some_and(|to| !matches!(to, Address::Unix(name) if !name.is_unnamed())) {
            return Err(Errno::INVAL);
        }
        let socket = &mut self.unixes[key];
        if bytes.len() as u64 > socket.options.send_buffer() - 32 {
            return Err(Errno::MSGSIZE);
        }
        socket.allocate()?;
        let length = bytes.len();
        match self.find_receiver(env, key, to) {
            Ok(other) => {
                self.enqueue(env, key, other, bytes);
                Ok(length)
            }
            Err(errno) => {
                // The message was made, and goes: an edge.
                self.unix_write_space(env, key);
                Err(errno)
            }
        }
    }

    /// Who gets a datagram, if anybody does.
    fn find_receiver(&mut self, env: &mut dyn Env, key: Key, to: Option<&Address>) -> Result<Key> {
        let (host, peer) = (self.unixes[key].host, self.unixes[key].peer);
        let other = match to {
            Some(to) => self.find_unix(host, SocketKind::Datagram, to)?,
            None => peer.ok_or(Errno::NOTCONN)?,
        };
        if !self.may_send(key, other) {
            return Err(Errno::PERM);
        }
        if self.unixes[other].dead {
            self.unixes[key].peer = None;
            self.unixes[key].state = State::Closed;
            self.notify(env, File::Unix(key), Events::OUT);
            self.leave_peer(env, key, other);
            return Err(Errno::CONNREFUSED);
        }
        if self.unixes[other].shut.receive {
            return Err(Errno::PIPE);
        }
        if other != key && self.unixes[other].peer != Some(key) && self.unixes[other].is_full() {
            // Who is connected is told when there is room; who names the receiver each time is not.
            if peer == Some(other) {
                self.stall(key, other);
            }
            return Err(Errno::AGAIN);
        }
        Ok(other)
    }

    fn enqueue(&mut self, env: &mut dyn Env, from: Key, to: Key, bytes: Vec<u8>) {
        self.books.sent += bytes.len() as u64;
        let sender = &mut self.unixes[from];
        sender.waiting += 1;
        sender.used += bytes.len() as u64 + OVERHEAD;
        self.unixes[to].queue.push_back(Message { from, bytes, read: 0 });
        self.notify(env, File::Unix(to), Events::IN.with(Events::PRI));
    }

    /// The message is read, or thrown away: its sender has room again.
    pub(super) fn free_message(&mut self, env: &mut dyn Env, message: Message) {
        let Message { from, bytes, read } = message;
        self.refuse((bytes.len() - read) as u64);
        let sender = &mut self.unixes[from];
        sender.waiting -= 1;
        sender.used -= bytes.len() as u64 + OVERHEAD;
        self.unix_write_space(env, from);
        self.free_unix_if_over(from);
    }

    pub(crate) fn receive_unix(
        &mut self,
        env: &mut dyn Env,
        key: Key,
        bufs: &mut [IoSliceMut<'_>],
        flags: RecvFlags,
    ) -> Result<Received> {
        match self.unixes[key].kind {
            SocketKind::Stream => self.receive_unix_stream(env, key, bufs, flags),
            SocketKind::Datagram => self.receive_unix_datagram(env, key, bufs, flags),
        }
    }

    fn receive_unix_stream(
        &mut self,
        env: &mut dyn Env,
        key: Key,
        bufs: &mut [IoSliceMut<'_>],
        flags: RecvFlags,
    ) -> Result<Received> {
        let socket = &mut self.unixes[key];
        if socket.state != State::Connected {
            return Err(Errno::INVAL);
        }
        if flags.oob {
            return Err(Errno::OPNOTSUPP);
        }
        let Some(from) = socket.queue.front().map(|first| first.from) else {
            return match socket.error.take() {
                Some(errno) => Err(errno),
                None if socket.shut.receive => Ok(Received { count: 0, from: None, truncated: false }),
                None => Err(Errno::AGAIN),
            };
        };
        let from = self.sender_of_unix(from);
        let room: usize = bufs.iter().map(|buf| buf.len()).sum();
        let bytes = self.unixes[key].front(room);
        scatter(&bytes, bufs);
        if !flags.peek {
            self.consume_unix(env, key, bytes.len());
        }
        Ok(Received { count: bytes.len(), from, truncated: false })
    }

    /// Who sent a message, if it has a name by now.
    fn sender_of_unix(&self, key: Key) -> Option<Address> {
        let name = self.unixes[key].name;
        (!name.is_unnamed()).then_some(Address::Unix(name))
    }

    fn consume_unix(&mut self, env: &mut dyn Env, key: Key, mut count: usize) {
        self.books.received += count as u64;
        while count > 0 {
            let queue = &mut self.unixes[key].queue;
            let message = queue.front_mut().expect("as many bytes as were read");
            let taken = count.min(message.bytes.len() - message.read);
            message.read += taken;
            count -= taken;
            if message.read == message.bytes.len() {
                let message = queue.pop_front().expect("the first");
                self.free_message(env, message);
            }
        }
    }

    fn receive_unix_datagram(
        &mut self,
        env: &mut dyn Env,
        key: Key,
        bufs: &mut [IoSliceMut<'_>],
        flags: RecvFlags,
    ) -> Result<Received> {
        if flags.oob {
            return Err(Errno::OPNOTSUPP);
        }
        let socket = &mut self.unixes[key];
        if let Some(errno) = socket.error.take() {
            return Err(errno);
        }
        let message = socket.queue.front().ok_or(Errno::AGAIN)?;
        let room: usize = bufs.iter().map(|buf| buf.len()).sum();
        let (count, truncated) = (message.bytes.len().min(room), message.bytes.len() > room);
        scatter(&message.bytes[..count], bufs);
        let from = message.from;
        let from = self.sender_of_unix(from);
        let mut read = None;
        if !flags.peek {
            let mut message = self.unixes[key].queue.pop_front().expect("the first");
            message.read = count;
            self.books.received += count as u64;
            read = Some(message);
        }
        for waiting in std::mem::take(&mut self.unixes[key].stalled) {
            self.notify(env, File::Unix(waiting), Events::OUT);
        }
        if let Some(message) = read {
            self.free_message(env, message);
        }
        Ok(Received { count, from, truncated })
    }
}

impl Unix {
    /// `sock_alloc_send_pskb`: what is wrong with the socket is told before anything about the other one.
    fn allocate(&mut self) -> Result<()> {
        if let Some(errno) = self.error.take() {
            return Err(errno);
        }
        match () {
            () if self.shut.send => Err(Errno::PIPE),
            () if self.used >= self.options.send_buffer() => Err(Errno::AGAIN),
            () => Ok(()),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() > DATAGRAMS
    }

    /// The next `most` bytes of a stream.
    fn front(&self, most: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(most.min(self.held() as usize));
        for message in &self.queue {
            let rest = &message.bytes[message.read..];
            bytes.extend_from_slice(&rest[..rest.len().min(most - bytes.len())]);
            if bytes.len() == most {
                break;
            }
        }
        bytes
    }
}

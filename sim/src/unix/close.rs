//! The ends of Unix sockets: `shutdown`, `close`, and the freeing of what nobody looks at any more.
//!
//! A close with unread messages resets the other end of a stream: it reads what it has, then ECONNRESET once, then the end.
//! Without them it reads the end. Writing is EPIPE in both cases. A datagram socket learns of its peer's end only by sending.

use std::net::Shutdown;

use machinarium::kernel::{Errno, Events, SocketKind};

use super::State;
use crate::env::Env;
use crate::files::File;
use crate::net::Net;
use crate::slab::Key;
use crate::tcp::Shut;

impl Net {
    /// `unix_shutdown`: of a stream the other end's halves as well.
    pub(crate) fn shutdown_unix(&mut self, env: &mut dyn Env, key: Key, how: Shutdown) {
        let socket = &mut self.unixes[key];
        socket.shut = socket.shut.and(how);
        let peer = socket.peer.filter(|_| socket.kind == SocketKind::Stream);
        self.notify(env, File::Unix(key), Events::NONE);
        if let Some(peer) = peer.filter(|peer| !self.unixes[*peer].dead) {
            let opposite = match how {
                Shutdown::Read => Shutdown::Write,
                Shutdown::Write => Shutdown::Read,
                Shutdown::Both => Shutdown::Both,
            };
            let other = &mut self.unixes[peer];
            other.shut = other.shut.and(opposite);
            self.notify(env, File::Unix(peer), Events::NONE);
        }
    }

    /// The descriptor is gone: `unix_release_sock`.
    pub(crate) fn close_unix(&mut self, env: &mut dyn Env, key: Key) {
        self.release_unix(env, key, false);
    }

    /// The same; `unaccepted` for a connection that its listener takes along.
    fn release_unix(&mut self, env: &mut dyn Env, key: Key, unaccepted: bool) {
        let socket = &mut self.unixes[key];
        socket.dead = true;
        socket.shut = Shut::BOTH;
        socket.state = State::Closed;
        let (host, kind, name, bound) = (socket.host, socket.kind, socket.name, socket.bound);
        let unread = unaccepted || !socket.queue.is_empty();
        let peer = socket.peer.take();
        let stalled = std::mem::take(&mut socket.stalled);
        if bound {
            self.host_mut(host).unix.forget(kind == SocketKind::Datagram, &name);
        }
        for waiting in stalled {
            self.notify(env, File::Unix(waiting), Events::NONE);
        }
        if let Some(peer) = peer {
            let other = &mut self.unixes[peer];
            other.referrers -= 1;
            other.stalled.retain(|waiting| *waiting != key);
            if kind == SocketKind::Stream && !other.dead {
                other.shut = Shut::BOTH;
                if unread {
                    other.error = Some(Errno::CONNRESET);
                }
                self.notify(env, File::Unix(peer), Events::NONE);
            }
        }
        for child in std::mem::take(&mut self.unixes[key].backlog) {
            self.release_unix(env, child, true);
        }
        self.purge_unix(env, key);
        for over in peer.into_iter().chain([key]) {
            self.free_unix_if_over(over);
        }
    }

    /// `unix_dgram_disconnected`: what the old peer had sent is lost, and it is told if it thought itself connected.
    pub(super) fn leave_peer(&mut self, env: &mut dyn Env, key: Key, old: Key) {
        self.unixes[old].stalled.retain(|waiting| *waiting != key);
        if !self.unixes[key].queue.is_empty() {
            self.purge_unix(env, key);
            for waiting in std::mem::take(&mut self.unixes[key].stalled) {
                self.notify(env, File::Unix(waiting), Events::NONE);
            }
            let other = &mut self.unixes[old];
            if !other.dead && other.peer == Some(key) {
                other.error = Some(Errno::CONNRESET);
                self.notify(env, File::Unix(old), Events::ERR);
            }
        }
        // Only now: it may be all that keeps a dead one.
        self.unixes[old].referrers -= 1;
        self.free_unix_if_over(old);
    }

    fn purge_unix(&mut self, env: &mut dyn Env, key: Key) {
        // A socket that wrote to itself goes with its last message.
        while let Some(message) = self.unixes.get_mut(key).and_then(|socket| socket.queue.pop_front()) {
            self.free_message(env, message);
        }
    }

    /// Frees the socket if it is dead, nobody's peer, and nothing of it waits.
    pub(super) fn free_unix_if_over(&mut self, key: Key) {
        let over = |socket: &super::Unix| {
            socket.dead && socket.referrers == 0 && socket.waiting == 0 && socket.queue.is_empty()
        };
        if self.unixes.get(key).is_some_and(over) {
            let socket = self.unixes.remove(key);
            assert!(socket.watchers.is_empty(), "only a descriptor can be watched");
            assert!(socket.backlog.is_empty() && socket.peer.is_none(), "closed before it is freed");
        }
    }
}

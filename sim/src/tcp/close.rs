//! Every way to the end: `shutdown`, `close`, the end of a listener, and the freeing of what nobody needs any more.
//!
//! A socket whose descriptor is gone is an orphan: the kernel finishes its connection. Its place is freed when it is Closed
//! and its last packet has landed, for packets in flight are ranges of its queue. Bytes that nobody will read are *refused*, or
//! *lost* if a crash threw them away: the books say so.

use std::net::Shutdown;

use machinarium::kernel::{Errno, Events, Result};

use super::{Phase, Shut, Socket, State};
use crate::env::{Env, Packet};
use crate::files::File;
use crate::net::Net;
use crate::slab::Key;

impl Net {
    /// `shutdown(2)`.
    pub(crate) fn shutdown_tcp(&mut self, env: &mut dyn Env, key: Key, how: Shutdown) -> Result<()> {
        self.take_acks(env, key);
        let socket = &mut self.sockets[key];
        if socket.phase == Phase::Connecting {
            socket.phase = match socket.state {
                State::SynSent | State::Closed => Phase::Disconnecting,
                _ => Phase::Connected,
            };
        }
        let answer = match socket.state {
            State::Listen if how == Shutdown::Write => Ok(()),
            State::Listen => {
                self.stop_listening(env, key);
                self.disconnect(env, key);
                Ok(())
            }
            State::SynSent => {
                self.abandon(env, key);
                return Ok(());
            }
            // The halves are shut all the same, and epoll is told.
            State::Closed => {
                socket.shut = socket.shut.and(how);
                Err(Errno::NOTCONN)
            }
            _ => {
                socket.shut = socket.shut.and(how);
                if how != Shutdown::Read {
                    self.send_fin(env, key);
                }
                Ok(())
            }
        };
        self.notify(env, File::Socket(key), Events::NONE);
        answer
    }

    /// `shutdown` of a connection that is not there yet.
    fn abandon(&mut self, env: &mut dyn Env, key: Key) {
        self.fail(env, key, Errno::CONNRESET);
        self.sockets[key].phase = Phase::Unconnected;
        self.disconnect(env, key);
        self.notify(env, File::Socket(key), Events::NONE);
    }

    /// `tcp_close_state` and `tcp_send_fin`.
    pub(super) fn send_fin(&mut self, env: &mut dyn Env, key: Key) {
        let socket = &mut self.sockets[key];
        socket.state = match socket.state {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            _ => return,
        };
        if socket.sending.queue.is_empty() {
            socket.timer.progress(env.now());
        }
        socket.sending.fin = true;
        self.push(env, key);
        self.expect_ack(env, key);
    }

    /// The descriptor of the socket is gone: `__tcp_close`.
    pub(crate) fn close_socket(&mut self, env: &mut dyn Env, key: Key) {
        self.take_acks(env, key);
        let socket = &mut self.sockets[key];
        socket.owned = false;
        socket.shut = Shut::BOTH;
        let unread = socket.discard_unread();
        self.refuse(unread);
        let socket = &mut self.sockets[key];
        match socket.state {
            State::Listen => self.stop_listening(env, key),
            State::Closed => {}
            State::SynSent => return self.done(env, key),
            _ if unread > 0 || socket.options.linger.is_some_and(|time| time.is_zero()) => {
                return self.abort(env, key);
            }
            State::FinWait2 => {
                socket.timer.orphaned(env.now());
                self.arm(env, key);
            }
            _ => {
                self.send_fin(env, key);
                // An orphan acts on acknowledgements by itself.
                self.expect_ack(env, key);
            }
        }
        self.free_if_over(key);
    }

    /// Ends the connection with RST.
    fn abort(&mut self, env: &mut dyn Env, key: Key) {
        self.transmit(env, key, Packet::Rst);
        self.done(env, key);
    }

    /// `inet_csk_listen_stop`: connections that nobody accepted are reset, unfinished ones forgotten.
    fn stop_listening(&mut self, env: &mut dyn Env, key: Key) {
        let Some(backlog) = self.sockets[key].backlog.take() else { return };
        let socket = &mut self.sockets[key];
        socket.state = State::Closed;
        if !socket.bound_port {
            self.give_up_port(key);
        }
        for child in backlog.incoming {
            // The listener does not know it any more.
            self.sockets[child].listener = None;
            self.done(env, child);
        }
        for child in backlog.queue {
            self.sockets[child].listener = None;
            let unread = self.sockets[child].discard_unread();
            self.refuse(unread);
            match self.sockets[child].state {
                State::Closed => self.free_if_over(child),
                _ => self.abort(env, child),
            }
        }
    }

    /// Frees the socket if it is nobody's, closed, and none of its packets is under way.
    pub(super) fn free_if_over(&mut self, key: Key) {
        let Some(socket) = self.sockets.get_mut(key).filter(|socket| socket.is_silent()) else { return };
        let unsent = socket.sending.discard();
        self.refuse(unsent);
        let socket = &self.sockets[key];
        if !socket.owned && socket.listener.is_none() {
            let unread = self.sockets[key].discard_unread();
            self.refuse(unread);
            assert!(self.sockets[key].watchers.is_empty(), "only a descriptor can be watched");
            self.give_up_port(key);
            self.sockets.remove(key);
        }
    }

    /// Payload bytes that will never be read.
    pub(crate) fn refuse(&mut self, bytes: u64) {
        if self.crashing {
            self.books.lost += bytes;
        } else {
            self.books.refused += bytes;
        }
    }
}

impl Shut {
    pub(crate) fn and(self, how: Shutdown) -> Shut {
        Shut { receive: self.receive || how != Shutdown::Write, send: self.send || how != Shutdown::Read }
    }
}

impl Socket {
    fn is_silent(&self) -> bool {
        self.state == State::Closed && self.sending.flying == 0
    }

    /// Payload that was written and has not reached the other end's queue.
    pub(crate) fn undelivered(&self) -> u64 {
        self.sending.end - self.sending.delivered
    }

    pub(crate) fn discard_unread(&mut self) -> u64 {
        let unread = self.receiving.queue.len() as u64;
        self.receiving.queue.clear();
        self.receiving.copied += unread;
        self.receiving.urgent = None;
        unread
    }
}

impl super::Sending {
    /// Empties the queue, and answers how much never arrived.
    fn discard(&mut self) -> u64 {
        let undelivered = self.end - self.delivered;
        self.queue.clear();
        self.delivered = self.end;
        undelivered
    }
}

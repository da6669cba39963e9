//! Packets that leave: segments, the window, and acknowledgements.
//!
//! A connection's packets arrive in the order in which they were sent: each arrives later than the one before. A
//! lost packet never becomes an event; the sender's timer finds out. Acknowledgements cost nothing unless the sender waits for
//! one: they are put down at the sender with the time of their arrival, and an event is asked for only if it wants room,
//! has more to send than fits the window, waits for its FIN, or is an orphan.

use machinarium::kernel::Events;

use super::{Ack, Sending, Socket, State};
use crate::env::{Env, Fault, HostIndex, NetEvent, Packet, Subsystem};
use crate::files::File;
use crate::film::{self, Carried, Carrying};
use crate::net::Net;
use crate::slab::Key;

/// Payload of the largest packet: loopback's, and ten Ethernet frames that arrive as one.
const SEGMENT_LOOPBACK: u64 = 65_483;
const SEGMENT: u64 = 14_480;
/// How long the acknowledgement of a FIN waits for company: `TCP_DELACK_MIN`, or a tick if there was no data.
pub(super) const DELAYED: u64 = 40_000_000;
pub(super) const TICK: u64 = 1_000_000;

impl Net {
    /// Sends one packet of the socket.
    pub(super) fn transmit(&mut self, env: &mut dyn Env, key: Key, packet: Packet) {
        let socket = &mut self.sockets[key];
        if env.tracing() {
            let (local, remote) = (socket.local, socket.remote);
            env.note(socket.host, format_args!("{local} sends {packet:?} to {remote:?}"));
        }
        let stream = socket.choices(Subsystem::Link);
        let way = (socket.host, socket.peer_host);
        let Some(delay) = self.links.carry(env, stream, way, packet.size()) else { return };
        if self.links.options(way.0, way.1).reset.draw(env, stream, "reset") {
            return self.cut_off(env, key, delay);
        }
        let now = env.now();
        let at = (now + delay).max(socket.sending.last_arrival + 1);
        socket.sending.last_arrival = at;
        socket.sending.flying += 1;
        if env.filming() {
            let socket = &self.sockets[key];
            let (flags, seq, ack, bytes) = socket.on_the_wire(packet);
            let remote = socket.remote.unwrap_or(socket.local);
            let what = Carrying::Tcp { flags, seq, ack, bytes };
            let (source, target) = (socket.local, remote);
            env.film(Carried { from: way.0, to: way.1, source, target, delay: at - now, what });
        }
        env.after(at - now, NetEvent::Packet { from: key, packet });
    }

    /// Something on the way answers the socket's packet with RST, and tells its peer the same.
    fn cut_off(&mut self, env: &mut dyn Env, key: Key, delay: u64) {
        let Socket { host, local, remote, peer, .. } = self.sockets[key];
        env.inject(
            host,
            Fault::Reset,
            format_args!("the connection of {local} and {remote:?} is reset on its way"),
        );
        for to in [Some(key), peer].into_iter().flatten() {
            env.after(delay, NetEvent::Reset { to });
        }
    }

    /// Sends all that the window lets through.
    pub(super) fn push(&mut self, env: &mut dyn Env, key: Key) {
        loop {
            let socket = &mut self.sockets[key];
            let Some((seq, most)) = socket.next_segment() else { break };
            let split = self.links.options(socket.host, socket.peer_host).split;
            let stream = socket.choices(Subsystem::Socket);
            let len = if most > 1 && split.draw(env, stream, "split") {
                1 + env.draw(stream, "split at", most - 1)
            } else {
                most
            };
            let sending = &mut socket.sending;
            let fin = sending.fin && seq + len == sending.end;
            if sending.acknowledged == sending.next {
                socket.timer.progress(env.now());
            }
            sending.next = seq + len + u64::from(fin);
            self.transmit(env, key, Packet::Data { seq, len: len as u32, fin });
        }
        self.arm(env, key);
    }

    /// `from`'s packet has come to `key`: says how far it got, and how much room there is.
    pub(super) fn acknowledge(&mut self, env: &mut dyn Env, key: Key, from: Key, delay: u64) {
        let socket = &mut self.sockets[key];
        let (next, edge) = socket.receiving.advertise(socket.options.window());
        let (host, peer_host) = (socket.host, socket.peer_host);
        self.send_ack(env, (host, peer_host), from, (next, edge), delay);
    }

    /// An acknowledgement on its way over a link, for the socket `to`.
    pub(super) fn send_ack(
        &mut self,
        env: &mut dyn Env,
        (host, peer_host): (HostIndex, HostIndex),
        to: Key,
        (next, edge): (u64, u64),
        delay: u64,
    ) {
        if self.links.is_cut(host, peer_host) {
            return;
        }
        let soonest = env.now() + self.links.least(host, peer_host);
        // What is over hears of nothing: its queue is empty, whatever of it still arrives.
        let Some(peer) = self.sockets.get_mut(to).filter(|peer| peer.state != State::Closed) else { return };
        peer.sending.add_ack(Ack { at: soonest + delay, soonest, next, edge });
        if peer.wants_ack() {
            self.expect_ack(env, to);
        }
    }

    /// The socket waits for its next acknowledgement, if any is under way.
    pub(super) fn expect_ack(&mut self, env: &mut dyn Env, key: Key) {
        let now = env.now();
        let sending = &mut self.sockets[key].sending;
        if sending.ack_event > now {
            return;
        }
        if let Some(first) = sending.acks.front() {
            sending.ack_event = first.at.max(now + 1);
            env.after(sending.ack_event - now, NetEvent::Acknowledged(key));
        }
    }

    /// Acts on the acknowledgements that have arrived by now.
    pub(super) fn take_acks(&mut self, env: &mut dyn Env, key: Key) {
        let now = env.now();
        let socket = &mut self.sockets[key];
        if socket.sending.acks.front().is_none_or(|ack| ack.at > now) {
            return;
        }
        let heard_at = socket.sending.take_acks(now, &mut socket.timer);
        socket.timer.heard(heard_at);
        if !socket.is_synchronized() {
            return;
        }
        self.write_space(env, key);
        self.push(env, key);
        let socket = &self.sockets[key];
        if socket.sending.fin && socket.sending.acknowledged == socket.sending.end + 1 {
            self.fin_acknowledged(env, key);
        }
    }

    /// The acknowledgement that an event was for.
    pub(super) fn acknowledged(&mut self, env: &mut dyn Env, key: Key) {
        if self.sockets.get(key).is_none() {
            return;
        }
        self.take_acks(env, key);
        if self.sockets.get(key).is_some_and(Socket::wants_ack) {
            self.expect_ack(env, key);
        }
    }

    /// Reading has made room: says so if the window doubles by it, as `tcp_cleanup_rbuf` does.
    pub(super) fn update_window(&mut self, env: &mut dyn Env, key: Key) {
        let socket = &self.sockets[key];
        let receiving = &socket.receiving;
        let whole = socket.options.window();
        let told = receiving.advertised.saturating_sub(receiving.next);
        let free = whole.saturating_sub(receiving.queue.len() as u64);
        let worth = free >= 2 * told && free >= (whole / 2).min(SEGMENT);
        let Some(peer) = socket.peer else { return };
        if socket.is_synchronized() && !receiving.fin && 2 * told <= whole && worth {
            self.acknowledge(env, key, peer, 0);
        }
    }

    /// The own FIN has arrived.
    fn fin_acknowledged(&mut self, env: &mut dyn Env, key: Key) {
        let socket = &mut self.sockets[key];
        match socket.state {
            State::FinWait1 => {
                socket.state = State::FinWait2;
                if socket.owned {
                    self.notify(env, File::Socket(key), Events::NONE);
                } else {
                    socket.timer.orphaned(env.now());
                    self.arm(env, key);
                }
            }
            State::Closing => self.time_wait(env, key),
            State::LastAck => self.done(env, key),
            _ => {}
        }
    }
}

impl Socket {
    /// What may be sent next: where it starts, and how long it is at most. Length 0 is a FIN alone.
    fn next_segment(&self) -> Option<(u64, u64)> {
        let sending = &self.sending;
        if !self.is_synchronized() {
            return None;
        }
        let limit = sending.end.min(sending.edge);
        let most = if self.host == self.peer_host { SEGMENT_LOOPBACK } else { SEGMENT };
        if sending.next < limit {
            return Some((sending.next, most.min(limit - sending.next)));
        }
        (sending.fin && sending.next == sending.end).then_some((sending.end, 0))
    }

    /// Whether something depends on the next acknowledgement.
    pub(super) fn wants_ack(&self) -> bool {
        let sending = &self.sending;
        let waits = sending.wants_room || sending.fin || !self.owned || sending.next < sending.end;
        self.is_synchronized() && waits
    }
}

impl Sending {
    /// Acknowledgements are cumulative, and none overtakes another; a delayed one goes with the next.
    fn add_ack(&mut self, ack: Ack) {
        match self.acks.back_mut() {
            Some(last) if last.soonest < last.at => *last = ack,
            Some(last) if last.at >= ack.at => *last = Ack { at: last.at, ..ack },
            _ => self.acks.push_back(ack),
        }
    }

    /// A packet of the other end has come: it carries the acknowledgement that was delayed.
    pub(super) fn hurry_acks(&mut self, now: u64) {
        if let Some(last) = self.acks.back_mut().filter(|last| last.soonest <= now) {
            last.at = last.at.min(now.max(last.soonest));
        }
    }

    /// Takes what has arrived until `now` off the queue, and answers when the last of it came.
    fn take_acks(&mut self, now: u64, timer: &mut super::Timer) -> u64 {
        let (before, edge_before) = (self.acknowledged, self.edge);
        let mut heard_at = 0;
        while let Some(ack) = self.acks.front().copied().filter(|ack| ack.at <= now) {
            self.acks.pop_front();
            self.acknowledged = self.acknowledged.max(ack.next);
            self.edge = self.edge.max(ack.edge);
            heard_at = ack.at;
        }
        assert!(self.acknowledged <= self.end + u64::from(self.fin), "acknowledged what was never sent");
        let bytes = (self.acknowledged.min(self.end) - before.min(self.end)) as usize;
        if bytes == self.queue.len() {
            self.queue.clear();
        } else {
            self.queue.drain(..bytes);
        }
        self.next = self.next.max(self.acknowledged);
        if !self.urgent.is_empty() {
            self.urgent.retain(|at| *at >= self.acknowledged);
        }
        if (self.acknowledged, self.edge) != (before, edge_before) {
            timer.progress(now);
        }
        heard_at
    }
}

impl Socket {
    /// A packet as a capture has it: flags, number, acknowledgement, payload. SYN takes the number 0.
    fn on_the_wire(&self, packet: Packet) -> (u8, u64, u64, Vec<u8>) {
        let (next, ack) = (self.sending.next + 1, self.receiving.next + 1);
        match packet {
            Packet::Syn => (film::SYN, 0, 0, Vec::new()),
            Packet::SynAck => (film::SYN | film::ACK, 0, ack, Vec::new()),
            Packet::Ack => (film::ACK, next, ack, Vec::new()),
            Packet::Rst => (film::RST | film::ACK, next, ack, Vec::new()),
            Packet::Data { seq, len, fin } => {
                let from = seq.saturating_sub(self.sending.acknowledged) as usize;
                let bytes: Vec<u8> =
                    self.sending.queue.iter().skip(from).take(len as usize).copied().collect();
                let push = if bytes.is_empty() { 0 } else { film::PSH };
                let end = if fin { film::FIN } else { 0 };
                (film::ACK | push | end, seq + 1, ack, bytes)
            }
        }
    }
}

impl super::Receiving {
    /// The next byte expected and the end of the window, which never moves back.
    fn advertise(&mut self, window: u64) -> (u64, u64) {
        let free = window.saturating_sub(self.queue.len() as u64);
        self.advertised = self.advertised.max(self.next + free);
        (self.next, self.advertised)
    }
}

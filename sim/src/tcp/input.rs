//! Packets that arrive, and what they do to the socket they are for: `tcp_rcv_state_process`.
//!
//! | packet | no socket | Listen | SynSent | SynReceived | synchronized |
//! |---|---|---|---|---|---|
//! | SYN | RST | a child in SynReceived; dropped if the queue is full | dropped | SYN+ACK again | dropped |
//! | SYN+ACK | RST | | Established, ACK | | ACK again |
//! | ACK | RST | | | Established, queued; dropped if the queue is full | |
//! | data, FIN | RST; TIME_WAIT acknowledges | | dropped | as ACK, then as data | queued, if it is the next |
//! | RST | | | Closed, ECONNREFUSED | gone | Closed, ECONNRESET or EPIPE |
//!
//! Each segment with data is an edge of its own, also when there was data before.

use machinarium::kernel::{Domain, Errno, Events};

use super::output::{DELAYED, TICK};
use super::{Flow, Phase, Shut, Socket, State, Urgent};
use crate::env::{Env, HostIndex, NetEvent, Packet, Subsystem};
use crate::files::File;
use crate::film::{self, Carried, Carrying};
use crate::net::Net;
use crate::slab::Key;

/// A packet that was taken off its link.
#[derive(Clone, Copy)]
struct Arrival {
    from: Key,
    host: HostIndex,
    /// The connection, as this host knows it.
    flow: Flow,
}

impl Net {
    /// Something that was on its way is there.
    pub(crate) fn deliver(&mut self, env: &mut dyn Env, event: NetEvent) {
        match event {
            NetEvent::Packet { from, packet } => self.arrive(env, from, packet),
            NetEvent::Reset { to } if self.sockets.get(to).is_some() => self.reset(env, to),
            NetEvent::Reset { .. } => {}
            NetEvent::Acknowledged(key) => self.acknowledged(env, key),
            NetEvent::Timer(key) => self.timer(env, key),
            NetEvent::TimeWait(host) => self.end_time_waits(env, host),
            NetEvent::Datagram(flight) => self.arrive_udp(env, flight),
        }
    }

    fn arrive(&mut self, env: &mut dyn Env, from: Key, packet: Packet) {
        let Some(sender) = self.sockets.get_mut(from) else { return };
        sender.sending.flying -= 1;
        let (host, source, hint) = (sender.peer_host, sender.host, sender.peer);
        let flow = sender.flow().map(Flow::reversed);
        let reaches = self.host(host).up && !self.links.is_cut(source, host);
        if let Some(flow) = flow.filter(|_| reaches) {
            let arrival = Arrival { from, host, flow };
            let known = hint.filter(|key| self.sockets.get(*key).is_some_and(Socket::is_synchronized));
            match known.or_else(|| self.host(host).flows.get(&flow).copied()) {
                Some(key) => self.arrive_at(env, key, arrival, packet),
                None => self.arrive_nowhere(env, arrival, packet),
            }
        }
        self.free_if_over(from);
    }

    fn arrive_nowhere(&mut self, env: &mut dyn Env, arrival: Arrival, packet: Packet) {
        let Arrival { from, host, flow } = arrival;
        let waits = self.host(host).time_wait.contains_key(&flow);
        match packet {
            Packet::Rst => {}
            Packet::Syn => {
                self.host_mut(host).time_wait.remove(&flow);
                match self.find_listener(env, host, flow.local()) {
                    Some(listener) => self.arrive_at_listener(env, listener, arrival),
                    None => self.answer_reset(env, arrival),
                }
            }
            Packet::Data { .. } if waits => {
                let Socket { host: source, ref sending, .. } = self.sockets[from];
                let (next, edge) = (sending.next, sending.edge);
                self.send_ack(env, (host, source), from, (next, edge), 0);
            }
            _ => self.answer_reset(env, arrival),
        }
    }

    /// RST from a host that has no such connection.
    fn answer_reset(&mut self, env: &mut dyn Env, Arrival { from, host, .. }: Arrival) {
        let sender = &self.sockets[from];
        let stream = sender.choices(Subsystem::Link);
        let to = sender.host;
        let (flow, seq) =
            (Flow::new(sender.remote.unwrap_or(sender.local), sender.local), sender.sending.next + 1);
        if let Some(delay) = self.links.carry(env, stream, (host, to), 0) {
            if env.filming() {
                let what =
                    Carrying::Tcp { flags: film::RST | film::ACK, seq: 0, ack: seq, bytes: Vec::new() };
                let (source, target) = (flow.local(), flow.remote());
                env.film(Carried { from: host, to, source, target, delay, what });
            }
            env.after(delay, NetEvent::Reset { to: from });
        }
    }

    fn arrive_at_listener(&mut self, env: &mut dyn Env, key: Key, Arrival { from, host, flow }: Arrival) {
        let listener = &self.sockets[key];
        if listener.is_full() {
            return;
        }
        let (domain, mut options, shut) = (listener.domain, listener.options, listener.shut);
        // An IPv4 connection of an IPv6 listener stays one that shows IPv6 addresses.
        options.v6_only &= domain == Domain::Inet6;
        let identity = self.next_identity(host);
        let source = self.sockets[from].host;
        let mut child = Socket::new(host, domain, identity, options);
        child.state = State::SynReceived;
        child.phase = Phase::Connected;
        child.used = true;
        child.shut = shut;
        child.local = flow.local();
        child.remote = Some(flow.remote());
        child.peer_host = source;
        child.peer = Some(from);
        child.listener = Some(key);
        child.timer.start(env.now(), self.links.round_trip(host, source));
        child.timer.expect_handshake();
        child.sending.edge = self.sockets[from].options.window();
        let child = self.sockets.insert(child);
        self.host_mut(host).flows.insert(flow, child);
        self.backlog(key).incoming.push(child);
        self.transmit(env, child, Packet::SynAck);
        self.arm(env, child);
    }

    fn backlog(&mut self, listener: Key) -> &mut super::Backlog {
        self.sockets[listener].backlog.as_mut().expect("a listener has a backlog")
    }

    fn arrive_at(&mut self, env: &mut dyn Env, key: Key, arrival: Arrival, packet: Packet) {
        let from = arrival.from;
        match (packet, self.sockets[key].state) {
            (Packet::Rst, _) => self.reset(env, key),
            (Packet::Syn, State::SynReceived) => self.transmit(env, key, Packet::SynAck),
            (Packet::Syn, State::SynSent) if from == key => self.meet_itself(env, key),
            (Packet::SynAck, State::SynSent) => self.established(env, key, from),
            (Packet::SynAck, State::Established) => self.transmit(env, key, Packet::Ack),
            (Packet::Ack, State::SynReceived) => self.complete(env, key),
            (Packet::Data { seq, len, fin }, state) if state != State::SynSent => {
                // Data acknowledges the handshake, if its ACK did not. Without room it is dropped.
                if state == State::SynReceived {
                    self.complete(env, key);
                }
                self.data(env, key, from, seq, len, fin);
            }
            _ => {}
        }
    }

    /// SYN+ACK: the connection is there for the one who asked for it.
    fn established(&mut self, env: &mut dyn Env, key: Key, from: Key) {
        let edge = self.sockets[from].options.window();
        let now = env.now();
        let socket = &mut self.sockets[key];
        socket.state = State::Established;
        socket.peer = Some(from);
        socket.sending.edge = edge;
        socket.receiving.advertised = socket.options.window();
        socket.timer.established(now);
        self.transmit(env, key, Packet::Ack);
        self.arm(env, key);
        self.notify(env, File::Socket(key), Events::NONE);
    }

    /// A socket that was bound to the port it connects to is its own peer.
    fn meet_itself(&mut self, env: &mut dyn Env, key: Key) {
        self.established(env, key, key);
        if self.sockets[key].shut.send {
            self.send_fin(env, key);
        }
    }

    /// The handshake's end at the listener's side: into the accept queue, if there is room.
    fn complete(&mut self, env: &mut dyn Env, key: Key) {
        let listener = self.sockets[key].listener.expect("a handshake belongs to a listener");
        if self.sockets[listener].is_full() {
            return;
        }
        let backlog = self.backlog(listener);
        backlog.incoming.retain(|other| *other != key);
        backlog.queue.push_back(key);
        let socket = &mut self.sockets[key];
        socket.state = State::Established;
        socket.receiving.advertised = socket.options.window();
        socket.timer.established(env.now());
        self.arm(env, key);
        self.notify(env, File::Socket(listener), Events::IN);
        // `shutdown` before `listen` shuts a half of every connection to come.
        if self.sockets[key].shut.send {
            self.send_fin(env, key);
        }
    }

    /// A segment with data, FIN or neither (a probe).
    fn data(&mut self, env: &mut dyn Env, key: Key, from: Key, seq: u64, len: u32, fin: bool) {
        self.sockets[key].sending.hurry_acks(env.now());
        self.take_acks(env, key);
        let Some(socket) = self.sockets.get_mut(key).filter(|socket| socket.is_synchronized()) else {
            return;
        };
        socket.timer.heard(env.now());
        let end = seq + u64::from(len);
        let fresh = len > 0 && end > socket.receiving.next && !socket.receiving.fin;
        let closing = matches!(socket.state, State::FinWait1 | State::FinWait2);
        if fresh && seq <= socket.receiving.next {
            self.check_urgent(key, from, end);
        }
        let socket = &mut self.sockets[key];
        if fresh && closing && socket.shut.receive {
            // Nobody will ever read this, and the sender is to know.
            self.transmit(env, key, Packet::Rst);
            self.reset(env, key);
            return;
        }
        let open = socket.state == State::Established;
        if seq > socket.receiving.next {
            self.acknowledge(env, key, from, 0);
            return;
        }
        if fresh {
            self.take_segment(key, from, end);
        }
        let receiving = &mut self.sockets[key].receiving;
        let ends = fin && receiving.next == end && !receiving.fin;
        if ends {
            receiving.fin = true;
            receiving.next += 1;
        }
        let delay = match ends && open {
            true if end > 0 => DELAYED,
            true => TICK,
            false => 0,
        };
        self.acknowledge(env, key, from, delay);
        if fresh {
            self.notify(env, File::Socket(key), Events::IN.with(Events::PRI));
        }
        if ends {
            self.fin(env, key);
        }
    }

    /// `tcp_check_urg`, which comes before anything else is done with the bytes: the last urgent byte of a segment is the one
    /// that counts. An earlier one that is next in line, and would be skipped, is skipped now.
    fn check_urgent(&mut self, key: Key, from: Key, end: u64) {
        let coming = self.sockets[key].receiving.next..end;
        let urgent = self.sockets[from].sending.urgent.iter().copied().rfind(|at| coming.contains(at));
        let Some(at) = urgent else { return };
        let receiving = &mut self.sockets[key].receiving;
        let is_next = receiving.urgent.is_some_and(|urgent| urgent.at == receiving.copied);
        if is_next && !receiving.queue.is_empty() {
            receiving.consume(1);
            self.books.received += 1;
        }
        receiving.urgent = Some(Urgent { at, taken: false });
    }

    /// Moves bytes up to `end` from the sender's queue to the receiver's.
    fn take_segment(&mut self, key: Key, from: Key, end: u64) {
        let mut queue = std::mem::take(&mut self.sockets[key].receiving.queue);
        let start = self.sockets[key].receiving.next;
        let sending = &mut self.sockets[from].sending;
        let first = (start - sending.acknowledged.min(sending.end)) as usize;
        let last = first + (end - start) as usize;
        let (front, back) = sending.queue.as_slices();
        let middle = front.len();
        queue.extend(&front[first.min(middle)..last.min(middle)]);
        queue.extend(&back[first.max(middle) - middle..last.max(middle) - middle]);
        sending.delivered = sending.delivered.max(end);
        let receiving = &mut self.sockets[key].receiving;
        receiving.queue = queue;
        receiving.next = end;
    }

    /// `tcp_fin`.
    fn fin(&mut self, env: &mut dyn Env, key: Key) {
        let socket = &mut self.sockets[key];
        socket.shut.receive = true;
        socket.done = true;
        match socket.state {
            State::Established => socket.state = State::CloseWait,
            State::FinWait1 => socket.state = State::Closing,
            State::FinWait2 => return self.time_wait(env, key),
            _ => {}
        }
        self.notify(env, File::Socket(key), Events::NONE);
    }

    /// `tcp_reset`: the other end says that there is no connection.
    pub(super) fn reset(&mut self, env: &mut dyn Env, key: Key) {
        let socket = &mut self.sockets[key];
        let errno = match socket.state {
            State::Closed | State::Listen => return,
            State::SynReceived => return self.done(env, key),
            State::SynSent => Errno::CONNREFUSED,
            State::CloseWait => Errno::PIPE,
            _ => Errno::CONNRESET,
        };
        self.fail(env, key, errno);
    }

    /// Ends the connection with a pending error.
    pub(super) fn fail(&mut self, env: &mut dyn Env, key: Key, errno: Errno) {
        let socket = &mut self.sockets[key];
        if env.tracing() {
            env.note(socket.host, format_args!("{} fails: {errno:?}", socket.local));
        }
        socket.error = Some(errno);
        self.done(env, key);
        if self.sockets.get(key).is_some() {
            self.notify(env, File::Socket(key), Events::ERR);
        }
    }

    /// The connection is over, and its sender may still send it FIN again.
    pub(super) fn time_wait(&mut self, env: &mut dyn Env, key: Key) {
        self.note_time_wait(env, key);
        self.done(env, key);
    }

    /// `tcp_done`.
    pub(super) fn done(&mut self, env: &mut dyn Env, key: Key) {
        let socket = &mut self.sockets[key];
        let unfinished = socket.state == State::SynReceived;
        socket.state = State::Closed;
        socket.shut = Shut::BOTH;
        socket.sending.acks.clear();
        let (host, flow, listener) = (socket.host, socket.flow(), socket.listener);
        if let Some(flow) = flow
            && self.host(host).flows.get(&flow) == Some(&key)
        {
            self.host_mut(host).flows.remove(&flow);
        }
        if !self.sockets[key].bound_port {
            self.give_up_port(key);
        }
        if unfinished && let Some(listener) = listener {
            self.sockets[key].listener = None;
            self.backlog(listener).incoming.retain(|other| *other != key);
        }
        self.notify(env, File::Socket(key), Events::NONE);
        self.free_if_over(key);
    }
}

impl Socket {
    /// `sk_acceptq_is_full`: one more than the backlog may wait.
    fn is_full(&self) -> bool {
        self.backlog.as_ref().is_none_or(|backlog| backlog.queue.len() > backlog.limit as usize)
    }
}

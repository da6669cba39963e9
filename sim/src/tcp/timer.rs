//! What is sent again, asked again or given up: one timer for each socket.
//!
//! | state | fires | then | gives up after |
//! |---|---|---|---|
//! | SynSent | 1 s, doubling | SYN again | 6 retries (127 s): ETIMEDOUT |
//! | SynReceived | 1 s, doubling | SYN+ACK again | 5 retries: forgotten |
//! | unacknowledged bytes or FIN | 200 ms and the round trip, doubling to 120 s | all of it again | 15 retries, 8 for an orphan: ETIMEDOUT |
//! | the window is shut | the same | a probe, which is answered with the window | the same, if nothing answers |
//! | keepalive | idle, then interval | a probe | its count: ETIMEDOUT |
//! | orphan in FinWait2 | 60 s | | at once: forgotten |
//!
//! TCP_USER_TIMEOUT replaces the counts. The timer is lazy: a deadline that moves back leaves its event alone, and the
//! event asks again when it finds that it came too early. So a busy connection costs no event for each segment.

use machinarium::kernel::Errno;

use super::{Socket, State};
use crate::env::{Env, NetEvent, Packet};
use crate::net::Net;
use crate::slab::Key;

const SECOND: u64 = 1_000_000_000;
const RETRY_LEAST: u64 = SECOND / 5;
const RETRY_MOST: u64 = 120 * SECOND;
const SYN_RETRIES: u32 = 6;
const SYN_ACK_RETRIES: u32 = 5;
const RETRIES: u32 = 15;
const ORPHAN_RETRIES: u32 = 8;
const ORPHAN_LIFE: u64 = 60 * SECOND;

/// What a socket's timer goes by.
#[derive(Clone, Copy)]
pub(crate) struct Timer {
    /// Retransmission time-out when all goes well, and now.
    base: u64,
    wait: u64,
    retries: u32,
    /// From when `wait` counts.
    since: u64,
    /// Since when nothing was acknowledged.
    stalled_at: u64,
    /// When the other end was heard of, and probes since.
    pub(crate) heard_at: u64,
    probes: u32,
    orphaned_at: u64,
    /// When the event under way comes; 0 if there is none.
    event: u64,
}

impl Timer {
    pub(super) fn new() -> Timer {
        Timer {
            base: RETRY_LEAST,
            wait: RETRY_LEAST,
            retries: 0,
            since: 0,
            stalled_at: 0,
            heard_at: 0,
            probes: 0,
            orphaned_at: 0,
            event: 0,
        }
    }

    /// A connection begins over a link with this round trip.
    pub(super) fn start(&mut self, now: u64, round_trip: u64) {
        self.base = RETRY_LEAST + round_trip;
        self.progress(now);
        self.heard(now);
    }

    /// The wait of SYN and SYN+ACK.
    pub(super) fn expect_handshake(&mut self) {
        self.wait = SECOND;
    }

    pub(super) fn established(&mut self, now: u64) {
        self.progress(now);
        self.heard(now);
    }

    /// Something new was sent or acknowledged: the wait begins anew.
    pub(super) fn progress(&mut self, now: u64) {
        self.wait = self.base;
        self.retries = 0;
        self.since = now;
        self.stalled_at = now;
    }

    /// The other end gave a sign of life.
    pub(super) fn heard(&mut self, at: u64) {
        self.heard_at = self.heard_at.max(at);
        self.retries = 0;
        self.probes = 0;
    }

    pub(super) fn orphaned(&mut self, now: u64) {
        self.orphaned_at = now;
    }

    fn retry(&mut self, now: u64) {
        self.retries += 1;
        self.wait = (self.wait * 2).min(RETRY_MOST);
        self.since = now;
    }
}

impl Net {
    /// Sees to it that an event comes at the socket's next deadline.
    pub(crate) fn arm(&mut self, env: &mut dyn Env, key: Key) {
        let socket = &mut self.sockets[key];
        let Some(deadline) = socket.deadline() else { return };
        let now = env.now();
        let at = deadline.max(now + 1);
        if socket.timer.event <= now || at < socket.timer.event {
            socket.timer.event = at;
            env.after(at - now, NetEvent::Timer(key));
        }
    }

    pub(super) fn timer(&mut self, env: &mut dyn Env, key: Key) {
        let now = env.now();
        // Else it is an event that a nearer deadline has replaced, or the socket is gone. One that counts may be overdue: a
        // thread's glances at the clock let time pass.
        let expected = |socket: &Socket| (1..=now).contains(&socket.timer.event);
        if !self.sockets.get(key).is_some_and(expected) {
            return;
        }
        self.sockets[key].timer.event = 0;
        self.take_acks(env, key);
        let due = |socket: &Socket| socket.deadline().is_some_and(|deadline| deadline <= now);
        if self.sockets.get(key).is_some_and(due) {
            self.act(env, key);
        }
        if self.sockets.get(key).is_some() {
            self.arm(env, key);
        }
    }

    /// The deadline is here.
    fn act(&mut self, env: &mut dyn Env, key: Key) {
        let now = env.now();
        let socket = &mut self.sockets[key];
        match socket.state {
            State::SynSent if socket.is_given_up(now, SYN_RETRIES) => self.fail(env, key, Errno::TIMEDOUT),
            State::SynSent => self.repeat(env, key, Packet::Syn),
            State::SynReceived if socket.timer.retries >= SYN_ACK_RETRIES => self.done(env, key),
            State::SynReceived => self.repeat(env, key, Packet::SynAck),
            State::FinWait2 if !socket.owned => self.done(env, key),
            _ if socket.retry_deadline().is_some_and(|deadline| deadline <= now) => self.resend(env, key),
            _ => self.keep_alive(env, key),
        }
    }

    fn repeat(&mut self, env: &mut dyn Env, key: Key, packet: Packet) {
        self.sockets[key].timer.retry(env.now());
        self.transmit(env, key, packet);
    }

    fn resend(&mut self, env: &mut dyn Env, key: Key) {
        let now = env.now();
        let socket = &mut self.sockets[key];
        if socket.is_given_up(now, if socket.owned { RETRIES } else { ORPHAN_RETRIES }) {
            return self.fail(env, key, Errno::TIMEDOUT);
        }
        if socket.sending.flying > 0 && self.links.is_slow(socket.host, socket.peer_host) {
            // Linux measures the round trip, and does not send again what waits behind other packets.
            socket.timer.since = now;
            return;
        }
        socket.timer.retry(now);
        if socket.sending.acknowledged == socket.sending.next {
            return self.probe(env, key);
        }
        socket.sending.next = socket.sending.acknowledged;
        // What goes again is no progress: `push` must not take it for a new beginning.
        let timer = socket.timer;
        self.push(env, key);
        let event = self.sockets[key].timer.event;
        self.sockets[key].timer = Timer { event, ..timer };
    }

    fn keep_alive(&mut self, env: &mut dyn Env, key: Key) {
        let now = env.now();
        let Socket { options, timer, .. } = &self.sockets[key];
        let patience = options.user_timeout.as_nanos() as u64;
        let over = match patience {
            0 => timer.probes >= options.keep_count,
            _ => timer.probes > 0 && now - timer.heard_at >= patience,
        };
        if over {
            self.transmit(env, key, Packet::Rst);
            return self.fail(env, key, Errno::TIMEDOUT);
        }
        self.sockets[key].timer.probes += 1;
        self.probe(env, key);
    }

    fn probe(&mut self, env: &mut dyn Env, key: Key) {
        let seq = self.sockets[key].sending.acknowledged;
        self.transmit(env, key, Packet::Data { seq, len: 0, fin: false });
    }
}

impl Socket {
    /// When something is to be done, if nothing arrives before.
    fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Closed | State::Listen => None,
            State::SynSent | State::SynReceived => Some(self.retry_at()),
            State::FinWait2 if !self.owned => Some(self.timer.orphaned_at + ORPHAN_LIFE),
            _ => [self.retry_deadline(), self.keep_alive_deadline()].into_iter().flatten().min(),
        }
    }

    fn retry_deadline(&self) -> Option<u64> {
        let sending = &self.sending;
        let all = sending.end + u64::from(sending.fin);
        (sending.acknowledged < all).then(|| self.retry_at())
    }

    /// The end of the wait, or of the user's patience.
    fn retry_at(&self) -> u64 {
        let patience = self.options.user_timeout.as_nanos() as u64;
        let regular = self.timer.since + self.timer.wait;
        if patience == 0 { regular } else { regular.min(self.timer.stalled_at + patience) }
    }

    fn is_given_up(&self, now: u64, retries: u32) -> bool {
        let patience = self.options.user_timeout.as_nanos() as u64;
        match patience {
            0 => self.timer.retries >= retries,
            _ => now - self.timer.stalled_at >= patience,
        }
    }

    fn keep_alive_deadline(&self) -> Option<u64> {
        let options = &self.options;
        let idle = options.keep_idle.as_nanos() as u64;
        let interval = options.keep_interval.as_nanos() as u64;
        let probes = u64::from(self.timer.probes);
        let idle_only = self.sending.acknowledged == self.sending.end + u64::from(self.sending.fin);
        (options.keep_alive && idle_only).then(|| self.timer.heard_at + idle + probes * interval)
    }
}

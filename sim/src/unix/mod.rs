//! The Unix sockets of the simulated kernels: streams, datagrams and pairs within one host.
//!
//! | state | of | entered by | left by |
//! |---|---|---|---|
//! | Closed | all | `socket` | `listen`, `connect`, `accept4` |
//! | Listen | streams | `listen` of a bound one | `close` |
//! | Connected | both | `connect`, `accept4`, `socketpair` | `close`; of datagrams also a send to a peer that is gone |
//!
//! Nothing is ever under way: what `send` has taken is in the other's queue, and what happens to one end is seen at once at the
//! other, as in Linux. A message counts against its *sender's* buffer until it is read whole. A socket whose descriptor is
//! gone is `dead`; it goes when no peer looks at it and no message of it waits, for both can still ask its name.
//!
//! A path is a file of the host: it stays when its socket is gone, and then refuses; it is taken away by `unlink`, and
//! survives the process and the host's power. Every directory is there. An abstract name goes with its socket, and streams and
//! datagrams do not share them.
//!
//! Not modelled: urgent bytes (EOPNOTSUPP, as without CONFIG_AF_UNIX_OOB), descriptors in messages, permissions.
//!
//! `setup` has names and roles; `message` both ways of sending and receiving; `close` the ends.

mod close;
mod message;
mod setup;

use std::collections::{BTreeMap, VecDeque};

use machinarium::kernel::{
    Credentials, Domain, Errno, Events, OptionName, Result, SocketKind, SocketOption, UnixName,
};

use crate::env::{Env, HostIndex, ProcessIndex};
use crate::files::File;
use crate::net::Net;
use crate::options::Options;
use crate::slab::Key;
use crate::tcp::Shut;

/// The states; the table is at the top of this file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Closed,
    Listen,
    Connected,
}

/// A Unix socket.
pub(crate) struct Unix {
    pub(crate) host: HostIndex,
    kind: SocketKind,
    state: State,
    /// Its name; an accepted one has its listener's.
    name: UnixName,
    /// Whether others find it by its name.
    bound: bool,
    /// Whom it talks to, also when that one is dead.
    peer: Option<Key>,
    /// How many have it for their peer.
    referrers: u32,
    /// Closed: nobody finds it any more.
    dead: bool,
    shut: Shut,
    /// The pending error.
    error: Option<Errno>,
    options: Options,
    queue: VecDeque<Message>,
    /// Messages of it that wait in others' queues, and what they take of its buffer.
    waiting: u32,
    used: u64,
    /// A listener's connections that nobody accepted, of which there may be one more than `limit`.
    backlog: VecDeque<Key>,
    limit: usize,
    /// Connected datagram sockets that found this one's queue full.
    stalled: Vec<Key>,
    /// Whose process it was that connected, listened or made the pair at the other end.
    credentials: Option<Credentials>,
    pub(crate) watchers: Vec<Key>,
}

/// What one send has put into a queue.
struct Message {
    from: Key,
    bytes: Vec<u8>,
    /// How many of them were read, of a stream.
    read: usize,
}

/// The names of a host.
#[derive(Default)]
pub(crate) struct UnixNames {
    /// Abstract names, with whether they are of datagram sockets.
    names: BTreeMap<(bool, Vec<u8>), Key>,
    /// The last name that was chosen.
    chosen: u32,
}

impl Net {
    pub(crate) fn new_unix(&mut self, host: HostIndex, kind: SocketKind) -> Key {
        self.unixes.insert(Unix {
            host,
            kind,
            state: State::Closed,
            name: UnixName::UNNAMED,
            bound: false,
            peer: None,
            referrers: 0,
            dead: false,
            shut: Shut::default(),
            error: None,
            options: Options::datagram(),
            queue: VecDeque::new(),
            waiting: 0,
            used: 0,
            backlog: VecDeque::new(),
            limit: 0,
            stalled: Vec::new(),
            credentials: None,
            watchers: Vec::new(),
        })
    }

    /// `unix_poll` and `unix_dgram_poll`: a datagram socket whose peer has no room will be told when it has.
    pub(crate) fn poll_unix(&mut self, key: Key) -> Events {
        if let Some(peer) = self.blocking_peer(key) {
            self.stall(key, peer);
        }
        self.peek_unix(key)
    }

    /// The same without leaving a wish behind.
    pub(crate) fn peek_unix(&self, key: Key) -> Events {
        let socket = &self.unixes[key];
        let mut events = Events::NONE;
        let mut add = |condition: bool, event: Events| {
            if condition {
                events = events.with(event);
            }
        };
        add(socket.error.is_some(), Events::ERR);
        add(socket.shut.receive, Events::RDHUP.with(Events::IN));
        add(socket.shut == Shut::BOTH, Events::HUP);
        add(!socket.queue.is_empty() || !socket.backlog.is_empty(), Events::IN);
        add(socket.kind == SocketKind::Stream && socket.state == State::Closed, Events::HUP);
        add(socket.is_writable() && self.blocking_peer(key).is_none(), Events::OUT);
        events
    }

    /// The peer of a datagram socket, if it is not its peer's peer and that one's queue is full.
    fn blocking_peer(&self, key: Key) -> Option<Key> {
        let socket = &self.unixes[key];
        let peer = socket.peer.filter(|_| socket.kind == SocketKind::Datagram && socket.is_writable())?;
        let other = &self.unixes[peer];
        (other.peer != Some(key) && other.is_full() && !other.dead).then_some(peer)
    }

    fn stall(&mut self, key: Key, peer: Key) {
        let stalled = &mut self.unixes[peer].stalled;
        if !stalled.contains(&key) {
            stalled.push(key);
        }
    }

    /// `unix_write_space`: each message that is gone is an edge for its sender, as long as that one is not nearly full.
    fn unix_write_space(&mut self, env: &mut dyn Env, key: Key) {
        if self.unixes[key].is_writable() && !self.unixes[key].dead {
            self.notify(env, File::Unix(key), Events::OUT);
        }
    }

    pub(crate) fn set_unix_option(
        &mut self,
        env: &mut dyn Env,
        key: Key,
        option: SocketOption,
    ) -> Result<()> {
        self.unixes[key].set_option(option)?;
        if matches!(option, SocketOption::SendBuffer(_)) {
            self.unix_write_space(env, key);
        }
        Ok(())
    }
}

impl Unix {
    /// A quarter of the buffer is used at most.
    fn is_writable(&self) -> bool {
        self.state != State::Listen && self.used * 4 <= self.options.send_buffer()
    }

    /// Payload bytes that wait for the reader.
    pub(crate) fn held(&self) -> u64 {
        self.queue.iter().map(|message| (message.bytes.len() - message.read) as u64).sum()
    }

    /// FIONREAD, `unix_inq_len`.
    pub(crate) fn pending(&self) -> Result<usize> {
        match (self.state, self.kind) {
            (State::Listen, _) => Err(Errno::INVAL),
            (_, SocketKind::Stream) => Ok(self.held() as usize),
            (_, SocketKind::Datagram) => Ok(self.queue.front().map_or(0, |message| message.bytes.len())),
        }
    }

    pub(crate) fn option(&mut self, name: OptionName) -> Result<SocketOption> {
        match name {
            OptionName::Error => Ok(SocketOption::Error(self.error.take())),
            OptionName::Type => Ok(SocketOption::Type(self.kind)),
            OptionName::Domain => Ok(SocketOption::Domain(Domain::Unix)),
            OptionName::AcceptConn => Ok(SocketOption::AcceptConn(self.state == State::Listen)),
            OptionName::PeerCredentials => Ok(SocketOption::PeerCredentials(self.credentials)),
            // The levels of IPv6 and TCP are none of this family.
            name => self.options.get(name).map_err(|_| Errno::OPNOTSUPP),
        }
    }

    fn set_option(&mut self, option: SocketOption) -> Result<()> {
        match option {
            SocketOption::ReusePort(true) => Err(Errno::OPNOTSUPP),
            SocketOption::Error(_)
            | SocketOption::Type(_)
            | SocketOption::Domain(_)
            | SocketOption::AcceptConn(_)
            | SocketOption::PeerCredentials(_) => Err(Errno::NOPROTOOPT),
            option => self.options.set(option).map_err(|_| Errno::OPNOTSUPP),
        }
    }

    pub(crate) fn name(&self) -> UnixName {
        self.name
    }

    pub(crate) fn kind(&self) -> SocketKind {
        self.kind
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Whom it is connected to.
    pub(crate) fn other_end(&self) -> Option<Key> {
        self.peer
    }

    /// For netstat and the report of leaks.
    pub(crate) fn describe(&self) -> String {
        format!("unix {:?} {} {:?}", self.kind, self.name, self.state)
    }
}

/// Who the process is, to the other end.
fn credentials(process: ProcessIndex) -> Credentials {
    Credentials { pid: process.0 + 1, uid: 1_000, gid: 1_000 }
}

//! Random sequences of calls: 30 of them on sockets, eventfds and epoll instances of one process, after a few that
//! make something to call.
//!
//! A step names descriptors by a number that is taken modulo how many there are, so a sequence without some of its steps is
//! a sequence too: one that differs is made shorter, step by step, until nothing can go.

use std::net::Shutdown;
use std::time::Duration;

use machinarium::kernel::{Domain, Events, OptionName, RecvFlags, SendFlags, SocketKind, SocketOption};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::place::To;
use crate::scene::{Name, Scene, Tally};
use crate::stage::{self, Difference};

/// How many calls are drawn for one sequence.
const LENGTH: usize = 30;

/// One call. Descriptors are numbers modulo how many there are.
#[derive(Clone, Copy, Debug)]
enum Step {
    Socket,
    Open { domain: Domain, kind: SocketKind },
    Pair { kind: SocketKind },
    Eventfd,
    Epoll,
    BindAt { fd: usize, to: To },
    ConnectAt { fd: usize, to: To },
    SendTo { fd: usize, len: usize, to: Target, flags: SendFlags },
    Recvmsg { fd: usize, len: usize, peek: bool },
    Pending { fd: usize },
    Unlink { path: u8 },
    Bind { fd: usize, any: bool },
    BindTo { fd: usize, like: usize },
    Listen { fd: usize, backlog: u32 },
    Connect { fd: usize, to: usize },
    Accept { fd: usize },
    Send { fd: usize, len: usize, oob: bool },
    Sendmsg { fd: usize, len: usize },
    Recv { fd: usize, len: usize, flags: RecvFlags },
    Read { fd: usize, len: usize },
    Readv { fd: usize, len: usize },
    Write { fd: usize, len: usize },
    Shutdown { fd: usize, how: Shutdown },
    Close { fd: usize },
    Name { fd: usize },
    Peer { fd: usize },
    Get { fd: usize, name: OptionName },
    Set { fd: usize, option: SocketOption },
    Add { epoll: usize, fd: usize, events: Events },
    Modify { epoll: usize, fd: usize, events: Events },
    Delete { epoll: usize, fd: usize },
    Wait { epoll: usize },
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug)]
enum Target {
    Peer,
    At(To),
    Of(usize),
}

/// Everything, by edges.
const EDGES: Events = Events::IN.with(Events::OUT).with(Events::RDHUP).with(Events::PRI).with(Events::ET);

/// Plays the sequence of that seed; a difference is answered as a text with the shortest sequence that has one.
pub(crate) fn check(seed: u64) -> Result<Tally, String> {
    let steps = sequence(seed);
    play(&steps).map_err(|difference| {
        let (steps, difference) = shorten(steps, difference, play);
        format!("sequence {seed}, shortened to {} steps:\n{}", steps.len(), difference.report())
    })
}

fn play(steps: &[Step]) -> Result<Tally, Difference> {
    let steps = steps.to_vec();
    stage::play(move |scene| {
        for step in &steps {
            run(scene, *step);
        }
        scene.inventory();
    })
}

/// Leaves out ever smaller parts as long as there is a difference.
pub(crate) fn shorten<S: Clone>(
    mut steps: Vec<S>,
    mut difference: Difference,
    play: impl Fn(&[S]) -> Result<Tally, Difference>,
) -> (Vec<S>, Difference) {
    let mut part = steps.len() / 2;
    while part > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + part).min(steps.len()));
            match play(&fewer) {
                Err(smaller) => (steps, difference) = (fewer, smaller),
                Ok(_) => at += part,
            }
        }
        part /= 2;
    }
    (steps, difference)
}

fn run(scene: &mut Scene, step: Step) {
    let count = scene.count();
    let at = |number: usize| Name(number % count.max(1));
    match step {
        Step::Socket => _ = scene.socket(),
        Step::Open { domain, kind } => _ = scene.open(domain, kind),
        Step::Pair { kind } => _ = scene.socketpair(kind),
        Step::BindAt { fd, to } => scene.bind(at(fd), to),
        Step::ConnectAt { fd, to } => scene.connect(at(fd), to),
        Step::SendTo { fd, len, to, flags } => {
            let to = match to {
                Target::Peer => None,
                Target::At(to) => Some(to),
                Target::Of(other) => Some(To::Of(at(other))),
            };
            scene.send_to(at(fd), &[len], to, flags);
        }
        Step::Recvmsg { fd, len, peek } => scene.recvmsg(at(fd), &[len, 1], RecvFlags { peek, oob: false }),
        Step::Pending { fd } => scene.fionread(at(fd)),
        Step::Unlink { path } => scene.unlink(path),
        Step::Eventfd => _ = scene.eventfd(0),
        Step::Epoll => _ = scene.epoll(),
        Step::Accept { fd } => _ = scene.accept4(at(fd)),
        Step::Wait { epoll } => scene.wait(at(epoll)),
        Step::Bind { fd, any } => scene.bind(at(fd), if any { To::Any } else { To::Own }),
        Step::BindTo { fd, like } => scene.bind(at(fd), To::Near(at(like))),
        Step::Listen { fd, backlog } => scene.listen(at(fd), backlog),
        Step::Connect { fd, to } => scene.connect(at(fd), To::Of(at(to))),
        Step::Send { fd, len, oob } => scene.send(at(fd), len, SendFlags { oob, more: false }),
        Step::Sendmsg { fd, len } => scene.sendmsg(at(fd), &[len, 0, 3]),
        Step::Recv { fd, len, flags } => scene.recv(at(fd), len, flags),
        Step::Read { fd, len } => scene.read(at(fd), len),
        Step::Readv { fd, len } => scene.readv(at(fd), &[len, 2]),
        Step::Write { fd, len } => scene.write(at(fd), &1u64.to_ne_bytes()[..len]),
        Step::Shutdown { fd, how } => scene.shutdown(at(fd), how),
        Step::Close { fd } => scene.close(at(fd)),
        Step::Name { fd } => scene.getsockname(at(fd)),
        Step::Peer { fd } => scene.getpeername(at(fd)),
        Step::Get { fd, name } => scene.getsockopt(at(fd), name),
        Step::Set { fd, option } => scene.setsockopt(at(fd), option),
        Step::Add { epoll, fd, events } => scene.add(at(epoll), at(fd), events),
        Step::Modify { epoll, fd, events } => scene.modify(at(epoll), at(fd), events),
        Step::Delete { epoll, fd } => scene.delete(at(epoll), at(fd)),
    }
}

/// The sequence of a seed. Half of them are about TCP: of four, one begins with bare sockets and three with a connection.
/// The others begin with what their kind has, half of them watched.
fn sequence(seed: u64) -> Vec<Step> {
    let kind = [
        Kind::Tcp,
        Kind::Udp,
        Kind::Tcp,
        Kind::UnixStream,
        Kind::Tcp,
        Kind::UnixDatagram,
        Kind::Tcp,
        Kind::Pair,
    ][(seed / 4 % 8) as usize];
    let mut chance = Chance { draws: ChaCha8Rng::seed_from_u64(seed), kind };
    let (client, epoll, server) = (0, 1, 3);
    let levels = EDGES.without(Events::ET);
    let watched = |events| [client, server].map(|fd| Step::Add { epoll, fd, events }).to_vec();
    let mut steps = kind.bare();
    steps.extend(match seed % 4 {
        0 => Vec::new(),
        1 => kind.connected(),
        2 => [kind.connected(), watched(levels)].concat(),
        _ => [kind.connected(), watched(EDGES)].concat(),
    });
    steps.extend((0..LENGTH).map(|_| chance.step()));
    steps
}

/// What a sequence is mostly about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Tcp,
    Udp,
    UnixStream,
    UnixDatagram,
    Pair,
}

impl Kind {
    /// The socket that it opens.
    fn open(self) -> Step {
        match self {
            Kind::Tcp => Step::Socket,
            Kind::Udp => Step::Open { domain: Domain::Inet, kind: SocketKind::Datagram },
            Kind::UnixStream | Kind::Pair => Step::Open { domain: Domain::Unix, kind: SocketKind::Stream },
            Kind::UnixDatagram => Step::Open { domain: Domain::Unix, kind: SocketKind::Datagram },
        }
    }

    /// Descriptor 0 is a socket, 1 an epoll instance, 2 another socket.
    fn bare(self) -> Vec<Step> {
        vec![self.open(), Step::Epoll, self.open()]
    }

    /// Descriptors 0 and 3 talk to each other.
    fn connected(self) -> Vec<Step> {
        let (client, listener) = (0, 2);
        match self {
            Kind::Tcp => vec![
                Step::Bind { fd: listener, any: false },
                Step::Listen { fd: listener, backlog: 1 },
                Step::Connect { fd: client, to: listener },
                Step::Accept { fd: listener },
            ],
            Kind::UnixStream => vec![
                Step::BindAt { fd: listener, to: To::Path(0) },
                Step::Listen { fd: listener, backlog: 1 },
                Step::ConnectAt { fd: client, to: To::Path(0) },
                Step::Accept { fd: listener },
            ],
            Kind::Udp => vec![
                Step::Bind { fd: client, any: false },
                self.open(),
                Step::Bind { fd: 3, any: false },
                Step::Connect { fd: client, to: 3 },
                Step::Connect { fd: 3, to: client },
            ],
            Kind::UnixDatagram => vec![
                Step::BindAt { fd: client, to: To::Path(0) },
                self.open(),
                Step::BindAt { fd: 3, to: To::Named(1) },
                Step::ConnectAt { fd: client, to: To::Named(1) },
                Step::ConnectAt { fd: 3, to: To::Path(0) },
            ],
            // The last pair is of datagrams.
            Kind::Pair => {
                vec![Step::Pair { kind: SocketKind::Stream }, Step::Pair { kind: SocketKind::Datagram }]
            }
        }
    }
}

struct Chance {
    draws: ChaCha8Rng,
    kind: Kind,
}

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.draws.next_u32() as usize % n
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn seldom(&mut self) -> bool {
        self.below(5) == 0
    }

    fn fd(&mut self) -> usize {
        // Mostly one of the first, which are something.
        if self.below(4) > 0 { self.below(5) } else { self.below(60) }
    }

    fn step(&mut self) -> Step {
        match self.below(10) {
            0 => self.making(),
            1 | 2 => self.naming(),
            3..6 => self.bytes(),
            6 => self.ending(),
            7 => self.options(),
            _ => self.watching(),
        }
    }

    fn making(&mut self) -> Step {
        if self.kind == Kind::Tcp {
            return self.one(&[Step::Socket, Step::Socket, Step::Eventfd, Step::Epoll]);
        }
        let open = self.kind.open();
        let domain = self.one(&[Domain::Inet, Domain::Inet6, Domain::Unix]);
        let kind = self.one(&[SocketKind::Stream, SocketKind::Datagram]);
        self.one(&[open, open, open, Step::Epoll, Step::Open { domain, kind }, Step::Pair { kind }])
    }

    fn naming(&mut self) -> Step {
        let (fd, other) = (self.fd(), self.fd());
        if self.kind != Kind::Tcp && self.below(2) == 0 {
            let to = self.place();
            return match self.below(5) {
                0 | 1 => Step::BindAt { fd, to },
                2 | 3 => Step::ConnectAt { fd, to },
                _ => Step::Unlink { path: self.below(3) as u8 },
            };
        }
        match self.below(10) {
            0 => Step::Bind { fd, any: self.seldom() },
            1 => Step::BindTo { fd, like: other },
            2 | 3 => Step::Listen { fd, backlog: self.one(&[0, 8]) },
            4..7 => Step::Connect { fd, to: other },
            7 => Step::Accept { fd },
            8 => Step::Name { fd },
            _ => Step::Peer { fd },
        }
    }

    /// Where something might be.
    fn place(&mut self) -> To {
        let number = self.below(3) as u8;
        match self.kind {
            Kind::Udp => self.one(&[To::Own, To::Any, To::Nobody, To::Own6, To::Any6]),
            _ => self.one(&[To::Path(number), To::Path(number), To::Named(number), To::Unnamed, To::Own]),
        }
    }

    fn message(&mut self) -> Step {
        let (fd, other, place) = (self.fd(), self.fd(), self.place());
        let len = self.one(&[0, 1, 8, 100]);
        let plain = SendFlags::default();
        // With an address of its own Linux would send what follows there too, connected or not.
        let more = SendFlags { oob: false, more: self.kind == Kind::Udp && self.seldom() };
        match self.below(9) {
            0..3 => Step::SendTo { fd, len, to: Target::Of(other), flags: plain },
            3 => Step::SendTo { fd, len, to: Target::At(place), flags: plain },
            4 => Step::SendTo { fd, len, to: Target::Peer, flags: more },
            5..8 => Step::Recvmsg { fd, len, peek: self.seldom() },
            _ => Step::Pending { fd },
        }
    }

    fn bytes(&mut self) -> Step {
        if self.kind != Kind::Tcp && self.below(2) == 0 {
            return self.message();
        }
        let fd = self.fd();
        let len = self.one(&[0, 1, 8, 100]);
        // Only TCP has urgent bytes in every kernel.
        let oob = self.kind == Kind::Tcp && self.seldom();
        match self.below(12) {
            0..4 => Step::Send { fd, len, oob },
            4 => Step::Sendmsg { fd, len },
            5..9 => Step::Recv { fd, len, flags: RecvFlags { peek: self.seldom(), oob } },
            9 => Step::Read { fd, len },
            10 => Step::Readv { fd, len },
            _ => Step::Write { fd, len: self.one(&[1, 8]) },
        }
    }

    fn ending(&mut self) -> Step {
        let fd = self.fd();
        if self.below(3) == 0 {
            return Step::Close { fd };
        }
        Step::Shutdown {
            fd,
            how: self.one(&[Shutdown::Read, Shutdown::Write, Shutdown::Write, Shutdown::Both]),
        }
    }

    fn options(&mut self) -> Step {
        let fd = self.fd();
        let names = [
            OptionName::Error,
            OptionName::Error,
            OptionName::ReuseAddr,
            OptionName::ReusePort,
            OptionName::KeepAlive,
            OptionName::KeepIdle,
            OptionName::KeepInterval,
            OptionName::KeepCount,
            OptionName::UserTimeout,
            OptionName::Linger,
            OptionName::V6Only,
            OptionName::ReceiveBuffer,
            OptionName::NoDelay,
            OptionName::Type,
            OptionName::AcceptConn,
            OptionName::PeerCredentials,
        ];
        let options = [
            SocketOption::ReuseAddr(true),
            SocketOption::ReusePort(true),
            SocketOption::Linger(Some(Duration::ZERO)),
            SocketOption::KeepAlive(true),
            SocketOption::V6Only(true),
            SocketOption::KeepIdle(Duration::from_secs(9)),
            SocketOption::KeepCount(200),
            SocketOption::KeepInterval(Duration::ZERO),
            SocketOption::UserTimeout(Duration::from_millis(9_999)),
        ];
        if self.below(2) == 0 {
            Step::Get { fd, name: self.one(&names) }
        } else {
            Step::Set { fd, option: self.one(&options) }
        }
    }

    fn watching(&mut self) -> Step {
        let fd = self.fd();
        let epoll = if self.seldom() { self.fd() } else { 1 };
        let bits = self.below(16);
        let all = [Events::IN, Events::OUT, Events::RDHUP, Events::PRI];
        let chosen = all.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
        let how = self.one(&[Events::ET, Events::ET, Events::NONE, Events::ONESHOT, Events::EXCLUSIVE]);
        let events = chosen.fold(how, |set, (_, event)| set.with(*event));
        match self.below(8) {
            0 | 1 => Step::Add { epoll, fd, events },
            2 => Step::Modify { epoll, fd, events },
            3 => Step::Delete { epoll, fd },
            _ => Step::Wait { epoll },
        }
    }
}

//! The same random calls on real Linux and on the simulated objects, answer by answer.
//!
//! Descriptors are named by their ordinal, ports by their socket, so both transcripts read the same. After each call both
//! sides settle: what is compared is what Linux answers when nothing is under way. Sizes stay small, for how much a
//! buffer takes is nobody's promise.

use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::time::Duration;

use machinarium::kernel::{
    Domain, EpollEvent, EpollOp, Errno, Events, Fd, Kernel, Linux, OptionName, RecvFlags, Result, SendFlags,
    SocketKind, SocketOption,
};

use super::{Lab, SECOND, address};
use crate::env::{Env, Stream, Subsystem};

#[derive(Clone, Copy, Debug)]
enum Call {
    Socket,
    Eventfd,
    Epoll,
    Bind { fd: usize },
    BindTo { fd: usize, like: usize },
    Listen { fd: usize, backlog: u32 },
    Connect { fd: usize, to: usize },
    Accept { fd: usize },
    Send { fd: usize, len: usize, oob: bool },
    Recv { fd: usize, len: usize, oob: bool, peek: bool },
    Read { fd: usize, len: usize },
    Write { fd: usize, len: usize },
    Shutdown { fd: usize, how: Shutdown },
    Close { fd: usize },
    Error { fd: usize },
    Peer { fd: usize },
    Get { fd: usize, name: OptionName },
    Set { fd: usize, option: SocketOption },
    Control { epoll: usize, fd: usize, how: u8, events: Events },
    Wait { epoll: usize, most: usize },
}

/// One side: its descriptors by ordinal. A closed one keeps a number that is nobody's.
struct Side<'a> {
    kernel: &'a mut dyn FnMut(Call, &[Fd]) -> Result<Answer>,
    fds: Vec<Fd>,
    /// Those that were shut down: the acknowledgement of a FIN is an edge, and may come any time.
    shut: Vec<usize>,
}

enum Answer {
    Fd(Fd),
    Text(String),
    Events(Vec<(usize, Events)>),
}

impl Side<'_> {
    fn run(&mut self, call: Call) -> String {
        let answer = (self.kernel)(call, &self.fds);
        if let Call::Close { fd } = call {
            self.fds[fd] = Fd::from_raw(1_000_000);
        }
        if let Call::Shutdown { fd, .. } = call {
            self.shut.push(fd);
        }
        match answer {
            // Real loopback delivers within the call and the simulated one after it, which shows in the order.
            Ok(Answer::Events(mut events)) => {
                events.retain(|(fd, _)| !self.shut.contains(fd));
                events.sort_by_key(|(fd, _)| *fd);
                format!("{events:?}")
            }
            Ok(Answer::Fd(fd)) => {
                self.fds.push(fd);
                format!("#{}", self.fds.len() - 1)
            }
            Ok(Answer::Text(text)) => text,
            Err(errno) => format!("{errno:?}"),
        }
    }
}

fn text(value: impl std::fmt::Debug) -> Answer {
    Answer::Text(format!("{value:?}"))
}

fn any() -> SocketAddr {
    address("127.0.0.1:0")
}

/// Where the socket `to` is, or a port of nobody.
fn target(found: Result<SocketAddr>) -> SocketAddr {
    let port = found.map_or(1, |address| address.port().max(1));
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn told(events: &[EpollEvent]) -> Answer {
    Answer::Events(events.iter().map(|event| (event.data as usize, { event.events })).collect())
}

fn operation(how: u8, events: Events, fd: usize) -> EpollOp {
    let event = EpollEvent { events, data: fd as u64 };
    match how {
        0 => EpollOp::Add(event),
        1 => EpollOp::Modify(event),
        _ => EpollOp::Delete,
    }
}

macro_rules! serve {
    ($call:expr, $fds:expr, $method:ident, $wait:expr) => {{
        let fds: &[Fd] = $fds;
        let mut buf = [7u8; 4_096];
        match $call {
            // Without it Nagle keeps small segments back until the 40 ms of a delayed acknowledgement are over.
            Call::Socket => $method!(socket, Domain::Inet, SocketKind::Stream).map(|fd| {
                $method!(setsockopt, fd, SocketOption::NoDelay(true)).expect("a socket");
                Answer::Fd(fd)
            }),
            Call::Eventfd => $method!(eventfd, 0).map(Answer::Fd),
            Call::Epoll => $method!(epoll_create1,).map(Answer::Fd),
            Call::Bind { fd } => $method!(bind, fds[fd], &any()).map(text),
            Call::BindTo { fd, like } => {
                let to = target($method!(getsockname, fds[like]));
                // Port 1 would need a privilege that the test may lack.
                if to.port() == 1 { Ok(text("skipped")) } else { $method!(bind, fds[fd], &to).map(text) }
            }
            Call::Listen { fd, backlog } => $method!(listen, fds[fd], backlog).map(text),
            Call::Connect { fd, to } => {
                let to = target($method!(getsockname, fds[to]));
                $method!(connect, fds[fd], &to).map(text)
            }
            Call::Accept { fd } => $method!(accept4, fds[fd]).map(|(fd, _)| Answer::Fd(fd)),
            Call::Send { fd, len, oob } => {
                $method!(send, fds[fd], &buf[..len], SendFlags { oob, more: false }).map(text)
            }
            Call::Recv { fd, len, oob, peek } => {
                $method!(recv, fds[fd], &mut buf[..len], RecvFlags { peek, oob }).map(text)
            }
            Call::Read { fd, len } => $method!(read, fds[fd], &mut buf[..len]).map(text),
            Call::Write { fd, len } => {
                buf[..8].copy_from_slice(&1u64.to_ne_bytes());
                $method!(write, fds[fd], &buf[..len]).map(text)
            }
            Call::Shutdown { fd, how } => $method!(shutdown, fds[fd], how).map(text),
            Call::Close { fd } => $method!(close, fds[fd]).map(text),
            Call::Error { fd } => $method!(getsockopt, fds[fd], OptionName::Error).map(text),
            Call::Peer { fd } => $method!(getpeername, fds[fd]).map(|_| text("a peer")),
            Call::Get { fd, name } => $method!(getsockopt, fds[fd], name).map(text),
            Call::Set { fd, option } => $method!(setsockopt, fds[fd], option).map(text),
            Call::Control { epoll, fd, how, events } => {
                $method!(epoll_ctl, fds[epoll], operation(how, events, fd), fds[fd]).map(text)
            }
            Call::Wait { epoll, most } => {
                let mut events = vec![EpollEvent::default(); most];
                $wait(fds[epoll], &mut events).map(|count: usize| told(&events[..count]))
            }
        }
    }};
}

fn on_linux(kernel: &Linux, call: Call, fds: &[Fd]) -> Result<Answer> {
    macro_rules! method {
        ($name:ident, $($argument:expr),*) => { kernel.$name($($argument),*) };
    }
    let wait = |epoll, events: &mut [EpollEvent]| kernel.epoll_wait(epoll, events, Some(Duration::ZERO));
    let answer = serve!(call, fds, method, wait);
    #[allow(clippy::disallowed_methods)] // the real kernel's softirq may need a moment
    std::thread::sleep(Duration::from_micros(50));
    answer
}

fn on_simulation(lab: &mut Lab, call: Call, fds: &[Fd]) -> Result<Answer> {
    let process = lab.a;
    let answer = {
        let (net, env) = (&mut lab.net, &mut lab.env);
        macro_rules! method {
            ($name:ident, $($argument:expr),*) => { net.$name(env, process, $($argument),*) };
        }
        match call {
            Call::Wait { epoll, most } => {
                let mut events = vec![EpollEvent::default(); most];
                net.epoll_poll(env, process, fds[epoll], &mut events).map(|count| told(&events[..count]))
            }
            _ => serve!(call, fds, method, |_, _: &mut [EpollEvent]| Err(Errno::NOSYS)),
        }
    };
    lab.run(SECOND / 1_000);
    lab.net.check_conservation();
    answer
}

struct Chance<'a>(&'a mut Lab);

impl Chance<'_> {
    fn below(&mut self, n: usize) -> usize {
        self.0.env.draw(Stream::new(Subsystem::Script, 0), "test", n as u64) as usize
    }

    /// Half of the sequences begin with a connection, or they would seldom have one.
    fn call(&mut self, seed: u64, step: usize, count: usize) -> Call {
        let (client, epoll, listener, server) = (0, 1, 2, 3);
        let all = Events::IN.with(Events::OUT).with(Events::RDHUP).with(Events::PRI).with(Events::ET);
        let prologue = [
            Call::Socket,
            Call::Epoll,
            Call::Socket,
            Call::Listen { fd: listener, backlog: 1 },
            Call::Connect { fd: client, to: listener },
            Call::Accept { fd: listener },
            Call::Control { epoll, fd: client, how: 0, events: all },
            Call::Control { epoll, fd: server, how: 0, events: all },
        ];
        if step < if seed.is_multiple_of(2) { prologue.len() } else { 3 } {
            return prologue[step];
        }
        let fd = self.below(count);
        let other = self.below(count);
        let len = [0, 1, 8, 100][self.below(4)];
        let event = |bits: usize| {
            let all = [Events::IN, Events::OUT, Events::RDHUP, Events::PRI];
            let chosen = all.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
            chosen.fold(Events::NONE, |set, (_, event)| set.with(*event))
        };
        match self.below(40) {
            0..4 => Call::Socket,
            4 => Call::Eventfd,
            5 => Call::Epoll,
            6 | 7 => Call::Bind { fd },
            8 => Call::BindTo { fd, like: other },
            9..12 => Call::Listen { fd, backlog: self.below(2) as u32 * 8 },
            12..17 => Call::Connect { fd, to: other },
            17..19 => Call::Accept { fd },
            19..22 => Call::Send { fd, len, oob: self.below(5) == 0 },
            22..25 => Call::Recv { fd, len, oob: self.below(5) == 0, peek: self.below(5) == 0 },
            25 => Call::Read { fd, len },
            26 => Call::Write { fd, len: len.max(1) },
            27 | 28 => {
                let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][self.below(3)];
                Call::Shutdown { fd, how }
            }
            29 => Call::Close { fd },
            30 => Call::Error { fd },
            31 => Call::Peer { fd },
            32 if self.below(2) == 0 => {
                let names = [
                    OptionName::ReuseAddr,
                    OptionName::KeepIdle,
                    OptionName::KeepInterval,
                    OptionName::KeepCount,
                    OptionName::UserTimeout,
                    OptionName::Linger,
                    OptionName::V6Only,
                    OptionName::ReceiveBuffer,
                    OptionName::NoDelay,
                ];
                Call::Get { fd, name: names[self.below(9)] }
            }
            32 => {
                let zero = Some(Duration::ZERO);
                let options = [
                    SocketOption::ReuseAddr(true),
                    SocketOption::ReusePort(true),
                    SocketOption::Linger(zero),
                    SocketOption::KeepAlive(true),
                    SocketOption::V6Only(true),
                    SocketOption::KeepIdle(Duration::from_secs(9)),
                    SocketOption::KeepCount(200),
                    SocketOption::KeepInterval(Duration::ZERO),
                    SocketOption::UserTimeout(Duration::from_millis(9_999)),
                    SocketOption::NoDelay(true),
                ];
                Call::Set { fd, option: options[self.below(10)] }
            }
            33..37 => {
                let hows = [Events::ET, Events::ET, Events::NONE, Events::ONESHOT, Events::EXCLUSIVE];
                let how = hows[self.below(5)];
                let events = event(self.below(16)).with(how);
                Call::Control { epoll: 1, fd, how: self.below(4).saturating_sub(1) as u8, events }
            }
            _ => Call::Wait { epoll: 1, most: 64 },
        }
    }
}

/// Runs one sequence; the difference, if there is one.
fn compare(seed: u64, length: usize) -> std::result::Result<(), String> {
    let mut chance = Lab::seeded(seed);
    let mut lab = Lab::new();
    let kernel = Linux::new();
    let mut on_real = |call: Call, fds: &[Fd]| on_linux(&kernel, call, fds);
    let mut on_sim = |call: Call, fds: &[Fd]| on_simulation(&mut lab, call, fds);
    let mut real = Side { kernel: &mut on_real, fds: Vec::new(), shut: Vec::new() };
    let mut sim = Side { kernel: &mut on_sim, fds: Vec::new(), shut: Vec::new() };
    let mut transcript = format!("seed {seed}\n");
    let mut outcome = Ok(());
    for step in 0..length {
        let call = Chance(&mut chance).call(seed, step, real.fds.len());
        let (theirs, ours) = (real.run(call), sim.run(call));
        transcript += &format!("{call:?} = {theirs}\n");
        // The port may be a stranger's by now, or in TIME_WAIT since an earlier sequence.
        if matches!(call, Call::BindTo { .. }) && (&*theirs, &*ours) == ("EADDRINUSE", "()") {
            break;
        }
        if theirs != ours {
            outcome = Err(format!("{transcript}^ Linux; simulated: {ours}"));
            break;
        }
    }
    for fd in real.fds {
        let _ = kernel.close(fd);
    }
    outcome
}

#[test]
fn random_calls_answer_as_on_linux() {
    let count = std::env::var("MACHINARIUM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let mut differences = Vec::new();
    for seed in 1..=count {
        // A real kernel under load may be late: only what differs again is a difference.
        if compare(seed, 60).is_err()
            && let Err(difference) = compare(seed, 60)
        {
            differences.push(difference);
        }
    }
    if let Some(shortest) = differences.iter().min_by_key(|text| text.len()) {
        panic!("{} of {count} differ; the shortest:\n{shortest}", differences.len());
    }
}

//! Tests of the objects of the simulated kernels, in a world of a few lines.

mod epoll;
mod life;
mod random;
mod stream;
mod udp;
mod unix;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use machinarium::kernel::{
    Domain, EpollEvent, EpollOp, Errno, Events, Fd, OptionName, RecvFlags, Result, SendFlags, SocketKind,
    SocketOption,
};

use crate::env::{Env, EpollKey, Fault, HostIndex, NetEvent, ProcessIndex, Stream};
use crate::net::Net;

/// Time, a queue and chance: a small generator, or only boring answers.
pub(super) struct Fake {
    now: u64,
    queue: BTreeMap<(u64, u64), NetEvent>,
    sequence: u64,
    chance: Option<u64>,
    pub(super) woken: Vec<EpollKey>,
    pub(super) delivered: u64,
    /// How much later than asked for events come.
    pub(super) late: u64,
    tracing: bool,
}

impl Env for Fake {
    fn now(&self) -> u64 {
        self.now
    }

    fn draw(&mut self, _stream: Stream, _site: &'static str, n: u64) -> u64 {
        let Some(state) = &mut self.chance else { return 0 };
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        let mixed = state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(mixed) * u128::from(n)) >> 64) as u64
    }

    fn after(&mut self, delay: u64, event: NetEvent) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), event);
    }

    fn wake(&mut self, epoll: EpollKey) {
        self.woken.push(epoll);
    }

    fn inject(&mut self, _host: HostIndex, _fault: Fault, _text: fmt::Arguments<'_>) {}

    fn note(&mut self, host: HostIndex, text: fmt::Arguments<'_>) {
        println!("{:>16} {host:?} {text}", self.now);
    }

    fn tracing(&self) -> bool {
        self.tracing
    }
}

/// Two hosts, `198.18.0.1` and `198.18.0.2`, with a process each.
pub(super) struct Lab {
    pub(super) net: Net,
    pub(super) env: Fake,
    pub(super) hosts: [HostIndex; 2],
    pub(super) a: ProcessIndex,
    pub(super) b: ProcessIndex,
}

pub(super) const SECOND: u64 = 1_000_000_000;

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

impl Lab {
    pub(super) fn new() -> Lab {
        let mut net = Net::new();
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let hosts = [
            net.add_host("a", &[ip("198.18.0.1"), ip("fd00::1")]),
            net.add_host("b", &[ip("198.18.0.2"), ip("fd00::2")]),
        ];
        let (a, b) = (net.add_process(hosts[0]), net.add_process(hosts[1]));
        let env = Fake {
            now: 1,
            queue: BTreeMap::new(),
            sequence: 0,
            chance: None,
            woken: Vec::new(),
            delivered: 0,
            late: 0,
            tracing: std::env::var_os("MACHINARIUM_TRACE").is_some(),
        };
        Lab { net, env, hosts, a, b }
    }

    pub(super) fn seeded(seed: u64) -> Lab {
        let mut lab = Lab::new();
        lab.env.chance = Some(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        lab
    }

    /// Lets that much time pass.
    pub(super) fn run(&mut self, nanos: u64) {
        let end = self.env.now + nanos;
        while let Some(entry) = self.env.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            self.env.now = self.env.now.max(entry.key().0 + self.env.late);
            let event = entry.remove();
            self.env.delivered += 1;
            self.net.deliver(&mut self.env, event);
            self.net.check_conservation();
        }
        self.env.now = self.env.now.max(end);
    }

    /// Lets what is under way arrive.
    pub(super) fn settle(&mut self) {
        self.run(20_000_000);
    }

    pub(super) fn now(&self) -> u64 {
        self.env.now
    }

    pub(super) fn socket(&mut self, p: ProcessIndex) -> Fd {
        self.net.socket(&mut self.env, p, Domain::Inet, SocketKind::Stream).expect("a socket")
    }

    pub(super) fn bind(&mut self, p: ProcessIndex, fd: Fd, to: &str) -> Result<()> {
        self.net.bind(&mut self.env, p, fd, &address(to).into())
    }

    pub(super) fn listen(&mut self, p: ProcessIndex, fd: Fd, backlog: u32) -> Result<()> {
        self.net.listen(&mut self.env, p, fd, backlog)
    }

    pub(super) fn connect(&mut self, p: ProcessIndex, fd: Fd, to: &str) -> Result<()> {
        self.net.connect(&mut self.env, p, fd, &address(to).into())
    }

    pub(super) fn accept(&mut self, p: ProcessIndex, fd: Fd) -> Result<Fd> {
        self.net.accept4(&mut self.env, p, fd).map(|(fd, _)| fd)
    }

    pub(super) fn send(&mut self, p: ProcessIndex, fd: Fd, bytes: &[u8]) -> Result<usize> {
        self.net.send(&mut self.env, p, fd, bytes, SendFlags::default())
    }

    pub(super) fn urgent(&mut self, p: ProcessIndex, fd: Fd, bytes: &[u8]) -> Result<usize> {
        self.net.send(&mut self.env, p, fd, bytes, SendFlags { oob: true, more: false })
    }

    pub(super) fn recv(&mut self, p: ProcessIndex, fd: Fd) -> Result<Vec<u8>> {
        let mut buf = vec![0; 4_096];
        let count = self.net.recv(&mut self.env, p, fd, &mut buf, RecvFlags::default())?;
        buf.truncate(count);
        Ok(buf)
    }

    pub(super) fn close(&mut self, p: ProcessIndex, fd: Fd) {
        self.net.close(&mut self.env, p, fd).expect("an open descriptor");
        self.net.check_conservation();
    }

    pub(super) fn so_error(&mut self, p: ProcessIndex, fd: Fd) -> Option<Errno> {
        match self.net.getsockopt(&mut self.env, p, fd, OptionName::Error) {
            Ok(SocketOption::Error(errno)) => errno,
            other => panic!("SO_ERROR answered {other:?}"),
        }
    }

    pub(super) fn set(&mut self, p: ProcessIndex, fd: Fd, option: SocketOption) -> Result<()> {
        self.net.setsockopt(&mut self.env, p, fd, option)
    }

    pub(super) fn events(&self, p: ProcessIndex, fd: Fd) -> String {
        format!("{:?}", self.net.readiness(p, fd).expect("an open descriptor"))
    }

    pub(super) fn epoll(&mut self, p: ProcessIndex) -> Fd {
        self.net.epoll_create1(&mut self.env, p).expect("an epoll instance")
    }

    pub(super) fn add(&mut self, p: ProcessIndex, epoll: Fd, fd: Fd, events: Events) -> Result<()> {
        let event = EpollEvent { events, data: fd.raw() as u64 };
        self.net.epoll_ctl(&mut self.env, p, epoll, EpollOp::Add(event), fd)
    }

    /// What `epoll_wait` tells, as `fd:events`.
    pub(super) fn wait(&mut self, p: ProcessIndex, epoll: Fd, most: usize) -> String {
        let mut events = vec![EpollEvent::default(); most];
        let count = self.net.epoll_poll(&mut self.env, p, epoll, &mut events).expect("an epoll instance");
        let show = |event: &EpollEvent| format!("{}:{:?}", { event.data }, { event.events });
        events[..count].iter().map(show).collect::<Vec<_>>().join(" ")
    }

    /// A connection from `a`'s host to `b`'s: both descriptors and the listener's.
    pub(super) fn pair(&mut self) -> (Fd, Fd, Fd) {
        let listener = self.socket(self.b);
        self.bind(self.b, listener, "0.0.0.0:80").expect("a free port");
        self.listen(self.b, listener, 8).expect("a bound socket");
        let client = self.socket(self.a);
        assert_eq!(self.connect(self.a, client, "198.18.0.2:80"), Err(Errno::INPROGRESS));
        self.settle();
        let server = self.accept(self.b, listener).expect("a connection");
        (client, server, listener)
    }
}

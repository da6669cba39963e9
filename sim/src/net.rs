//! All objects of all simulated kernels of a world: sockets, eventfds, epoll instances, descriptor tables, links.
//!
//! One method for each system call that touches a descriptor (beside the object it is about: `files`, `epoll`,
//! `options`, `tcp`), [`deliver`](Net::deliver) for what comes later, and here what only a world can do: add hosts and processes, crash
//! them, cut links, and look. No method sleeps, and none has a clock: see [`Env`].
//!
//! The books hold at every moment: bytes sent = received + queued + refused + lost with a crash.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use machinarium::kernel::{Events, Fd, Result};

use crate::disk::{Disk, OpenFile};
use crate::env::{Env, HostIndex, ProcessIndex};
use crate::epoll::{Epoll, Item};
use crate::eventfd::EventFd;
use crate::files::{File, Table};
use crate::link::{LinkOptions, Links};
use crate::slab::{Key, Slab};
use crate::tcp::{Host, Socket, State};
use crate::udp::{Flight, Udp};
use crate::unix::Unix;

/// RLIMIT_NOFILE of a new process.
const DESCRIPTORS: usize = 1 << 20;

/// Everything that simulated kernels own.
pub(crate) struct Net {
    pub(crate) hosts: Vec<Host>,
    pub(crate) processes: Vec<Process>,
    pub(crate) sockets: Slab<Socket>,
    pub(crate) udps: Slab<Udp>,
    /// Datagrams under way.
    pub(crate) flights: Slab<Flight>,
    pub(crate) unixes: Slab<Unix>,
    pub(crate) eventfds: Slab<EventFd>,
    pub(crate) epolls: Slab<Epoll>,
    pub(crate) items: Slab<Item>,
    /// By the index of the host.
    pub(crate) disks: Vec<Disk>,
    pub(crate) open_files: Slab<OpenFile>,
    pub(crate) links: Links,
    /// Whose address it is. Loopback is everybody's own.
    pub(crate) addresses: BTreeMap<IpAddr, HostIndex>,
    pub(crate) books: Books,
    /// What is thrown away now is lost with a crash.
    pub(crate) crashing: bool,
}

/// A process, as far as descriptors go.
pub(crate) struct Process {
    pub(crate) host: HostIndex,
    pub(crate) table: Table,
}

/// Where the payload bytes of a world went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Books {
    /// Taken by `send`.
    pub(crate) sent: u64,
    /// Given by `recv`, or skipped because urgent.
    pub(crate) received: u64,
    /// Thrown away by a close or a reset.
    pub(crate) refused: u64,
    /// Thrown away with a crashed process or a host without power.
    pub(crate) lost: u64,
}

impl Net {
    pub(crate) fn new() -> Net {
        Net {
            hosts: Vec::new(),
            processes: Vec::new(),
            sockets: Slab::new(),
            udps: Slab::new(),
            flights: Slab::new(),
            unixes: Slab::new(),
            eventfds: Slab::new(),
            epolls: Slab::new(),
            items: Slab::new(),
            disks: Vec::new(),
            open_files: Slab::new(),
            links: Links::new(LinkOptions::default()),
            addresses: BTreeMap::new(),
            books: Books::default(),
            crashing: false,
        }
    }

    /// A host with these addresses besides loopback.
    ///
    /// # Panics
    /// If another host has one of them.
    pub(crate) fn add_host(&mut self, name: &str, addresses: &[IpAddr]) -> HostIndex {
        let index = HostIndex(u32::try_from(self.hosts.len()).expect("fewer than 2^32 hosts"));
        for address in addresses {
            let other = self.addresses.insert(address.to_canonical(), index);
            assert!(other.is_none(), "{address} is the address of two hosts");
        }
        self.hosts.push(Host::new(name, addresses));
        self.disks.push(Disk::new());
        index
    }

    /// A process without descriptors.
    pub(crate) fn add_process(&mut self, host: HostIndex) -> ProcessIndex {
        let index = ProcessIndex(u32::try_from(self.processes.len()).expect("fewer than 2^32 processes"));
        self.processes.push(Process { host, table: Table::new(DESCRIPTORS) });
        index
    }

    /// Sets RLIMIT_NOFILE: descriptors have numbers below it.
    pub(crate) fn set_descriptor_limit(&mut self, process: ProcessIndex, limit: usize) {
        self.table_mut(process).set_limit(limit);
    }

    /// `kill -9`: the kernel closes what the process had open, and the peers see what that looks like.
    pub(crate) fn crash_process(&mut self, env: &mut dyn Env, process: ProcessIndex) {
        self.crashing = true;
        let open: Vec<(Fd, File)> = self.table(process).iter().collect();
        for (fd, file) in open {
            self.table_mut(process).remove(fd).expect("an open descriptor");
            self.close_file(env, file);
        }
        self.crashing = false;
    }

    /// The host goes dark: nothing leaves it, nothing is remembered, and its processes have no descriptors any more.
    pub(crate) fn power_off(&mut self, env: &mut dyn Env, host: HostIndex) {
        self.crashing = true;
        if env.tracing() {
            env.note(host, format_args!("power off"));
        }
        self.hosts[host.0 as usize].up = false;
        let owners = self.processes.iter_mut().filter(|process| process.host == host);
        let files: Vec<File> = owners
            .flat_map(|process| std::mem::replace(&mut process.table, Table::new(DESCRIPTORS)).into_files())
            .collect();
        // Nobody is left to be told of what follows.
        files.iter().for_each(|file| self.forget_watchers(*file));
        for file in files {
            match file {
                File::Disk(key) => drop(self.open_files.remove(key)),
                File::Socket(_) => {}
                File::Udp(key) => self.close_udp(key),
                File::Unix(key) => self.close_unix(env, key),
                File::Epoll(key) => self.close_epoll(key),
                File::Eventfd(key) => drop(self.eventfds.remove(key)),
            }
        }
        self.hosts[host.0 as usize].forget();
        self.lose_power(env, host);
        let sockets: Vec<Key> =
            self.sockets.iter().filter(|(_, socket)| socket.host == host).map(|(key, _)| key).collect();
        for key in sockets {
            let mut socket = self.sockets.remove(key);
            self.books.lost += socket.undelivered() + socket.discard_unread();
        }
        self.crashing = false;
    }

    /// The host is there again, with a fresh network stack: old connections are answered with RST.
    pub(crate) fn power_on(&mut self, _env: &mut dyn Env, host: HostIndex) {
        self.hosts[host.0 as usize].up = true;
    }

    /// Swallows all packets between two hosts.
    pub(crate) fn partition(&mut self, a: HostIndex, b: HostIndex) {
        self.links.cut(a, b, true);
        self.links.cut(b, a, true);
    }

    /// Swallows packets of one direction.
    pub(crate) fn partition_one_way(&mut self, from: HostIndex, to: HostIndex) {
        self.links.cut(from, to, true);
    }

    /// Ends both.
    pub(crate) fn heal(&mut self, a: HostIndex, b: HostIndex) {
        self.links.cut(a, b, false);
        self.links.cut(b, a, false);
    }

    /// What the link between two hosts is like, both ways; a host and itself: every loopback.
    pub(crate) fn set_link(&mut self, a: HostIndex, b: HostIndex, options: LinkOptions) {
        self.links.set(a, b, options);
        self.links.set(b, a, options);
    }

    /// What links are like that nobody set.
    pub(crate) fn set_default_link(&mut self, options: LinkOptions) {
        self.links.set_default(options);
    }

    /// What epoll would tell of the descriptor now, for oracles: asking changes nothing.
    pub(crate) fn readiness(&self, process: ProcessIndex, fd: Fd) -> Result<Events> {
        Ok(self.peek_file(self.table(process).get(fd)?))
    }

    /// Open descriptors, each with what it is, for the report of leaks.
    pub(crate) fn descriptors(&self, process: ProcessIndex) -> Vec<(Fd, String)> {
        let describe = |file| match file {
            File::Socket(key) => self.sockets[key].describe(),
            File::Udp(key) => self.udps[key].describe(),
            File::Unix(key) => self.unixes[key].describe(),
            File::Epoll(_) => "epoll".to_owned(),
            File::Eventfd(_) => "eventfd".to_owned(),
            File::Disk(_) => "file".to_owned(),
        };
        self.table(process).iter().map(|(fd, file)| (fd, describe(file))).collect()
    }

    /// The sockets of a host in netstat's columns, orphans and TIME_WAIT as well.
    pub(crate) fn netstat(&self, host: HostIndex) -> String {
        let mut text = format!(
            "{:<6}{:>6} {:>6} {:<23} {:<23} State\n",
            "Proto", "Recv-Q", "Send-Q", "Local", "Foreign"
        );
        let stack = &self.hosts[host.0 as usize];
        let sockets = self.sockets.iter().map(|(_, socket)| socket);
        for socket in sockets.filter(|socket| socket.host == host) {
            let (received, sent) = socket.queued();
            let remote = socket.remote.map_or_else(|| "*".to_owned(), |remote| remote.to_string());
            let (local, state) = (socket.local.to_string(), socket.state.name());
            let _ = writeln!(text, "{:<6}{received:>6} {sent:>6} {local:<23} {remote:<23} {state}", "tcp");
        }
        for (_, socket) in self.udps.iter().filter(|(_, socket)| socket.host == host) {
            let remote = socket.remote.map_or_else(|| "*".to_owned(), |remote| remote.to_string());
            let (local, received) = (socket.local.to_string(), socket.waiting());
            let _ = writeln!(text, "{:<6}{received:>6} {:>6} {local:<23} {remote:<23}", "udp", 0);
        }
        let unixes = self.unixes.iter().map(|(_, socket)| socket);
        for socket in unixes.filter(|socket| socket.host == host && !socket.is_dead()) {
            let _ = writeln!(text, "{:<6}{:>6} {:>6} {}", "unix", socket.held(), 0, socket.describe());
        }
        for flow in stack.time_wait.keys() {
            let (local, remote) = (flow.local().to_string(), flow.remote().to_string());
            let _ = writeln!(text, "{:<6}{:>6} {:>6} {local:<23} {remote:<23} TIME_WAIT", "tcp", 0, 0);
        }
        text
    }

    /// Where the bytes went until now.
    pub(crate) fn books(&self) -> Books {
        self.books
    }

    /// # Panics
    /// If payload bytes came or went that nobody accounts for.
    pub(crate) fn check_conservation(&self) {
        let queued: u64 = self
            .sockets
            .iter()
            .map(|(_, socket)| socket.undelivered() + socket.receiving.queue.len() as u64)
            .sum();
        let datagrams: u64 = self.udps.iter().map(|(_, socket)| socket.held()).sum();
        let flying: u64 = self.flights.iter().map(|(_, flight)| flight.len()).sum();
        let local: u64 = self.unixes.iter().map(|(_, socket)| socket.held()).sum();
        let queued = queued + datagrams + flying + local;
        let Books { sent, received, refused, lost } = self.books;
        assert_eq!(
            sent,
            received + queued + refused + lost,
            "bytes sent = {received} received + {queued} queued + {refused} refused + {lost} lost"
        );
    }
}

impl Socket {
    /// Bytes that wait for the reader (a listener: connections), and for acknowledgement.
    fn queued(&self) -> (usize, usize) {
        let waiting = self.backlog.as_ref().map(|backlog| backlog.queue.len());
        (waiting.unwrap_or(self.receiving.queue.len()), self.sending.queue.len())
    }

    fn describe(&self) -> String {
        match self.remote {
            Some(remote) => format!("socket {} - {remote} {}", self.local, self.state.name()),
            None => format!("socket {} {}", self.local, self.state.name()),
        }
    }
}

impl State {
    /// As netstat calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Closed => "CLOSE",
            State::Listen => "LISTEN",
            State::SynSent => "SYN_SENT",
            State::SynReceived => "SYN_RECV",
            State::Established => "ESTABLISHED",
            State::FinWait1 => "FIN_WAIT1",
            State::FinWait2 => "FIN_WAIT2",
            State::Closing => "CLOSING",
            State::CloseWait => "CLOSE_WAIT",
            State::LastAck => "LAST_ACK",
        }
    }
}

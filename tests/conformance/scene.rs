//! A thread that makes calls and writes down what they answer, in words that are the same on every kernel.
//!
//! Descriptors are named by their ordinal (`#3`) and by their slot among the numbers that were free when the scene
//! began; ports by the socket that has them; the scene's own loopback address is `own`. Bytes are numbered as they are sent,
//! so that a line shows which of them arrived.
//!
//! Each call that may set something going is followed by a pause, so that a line shows what the kernel answers when
//! nothing is under way. One event is left out: a kernel may tell an edge of a socket that was shut down once more
//! with nothing new in its mask, when the acknowledgement of its FIN comes in, and that may take 40 ms. For the same
//! reason nothing is told of an epoll instance that watches such a socket.
//!
//! An answer that `errno::of` does not list fails the test, on Linux too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Shutdown};
use std::rc::Rc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use machinarium::kernel::{
    Address, Call, Domain, EpollEvent, EpollOp, Errno, Events, Fd, Kernel, OptionName, RecvFlags, Result,
    SendFlags, SocketKind, SocketOption, errno,
};

use crate::place::{Places, To};

/// How many numbers of descriptors a scene learns when it begins.
const SLOTS: usize = 64;
/// No descriptor has this number.
const NOBODY: Fd = Fd::from_raw(1_000_000);

/// A descriptor, by its ordinal in the scene. It stays when the descriptor is closed, or if it was never had.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(pub(crate) usize);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What was answered how often: a call, and its error or success.
pub(crate) type Tally = BTreeMap<(Call, Option<Errno>), u64>;

/// How a stage sets RLIMIT_NOFILE, which is no call of the kernel trait.
pub(crate) type Limit = Box<dyn Fn(&dyn Kernel, usize)>;

/// See the file's head.
pub(crate) struct Scene {
    pub(crate) kernel: Rc<dyn Kernel>,
    pub(crate) lines: Vec<String>,
    pub(crate) tally: Tally,
    pub(crate) places: Places,
    settle: Duration,
    limit: Limit,
    slots: Vec<Fd>,
    fds: Vec<Fd>,
    datagrams: BTreeSet<Name>,
    shut: BTreeSet<Name>,
    watched: BTreeSet<(Name, Name)>,
    told: BTreeMap<(Name, Name), Events>,
    sent: u8,
}

impl Scene {
    /// A scene at `own`, which lets `settle` pass after each call that may set something going.
    pub(crate) fn new(kernel: Rc<dyn Kernel>, own: Ipv4Addr, settle: Duration, limit: Limit) -> Scene {
        let slots: Vec<Fd> = (0..SLOTS).map(|_| kernel.eventfd(0).expect("a free number")).collect();
        for slot in &slots {
            kernel.close(*slot).expect("just made");
        }
        Scene {
            kernel,
            lines: Vec::new(),
            tally: Tally::new(),
            places: Places::new(own),
            settle,
            limit,
            slots,
            fds: Vec::new(),
            datagrams: BTreeSet::new(),
            shut: BTreeSet::new(),
            watched: BTreeSet::new(),
            told: BTreeMap::new(),
            sent: 0,
        }
    }

    /// How many descriptors were ever named.
    pub(crate) fn count(&self) -> usize {
        self.fds.len()
    }

    /// The number behind a name.
    pub(crate) fn fd(&self, name: Name) -> Fd {
        self.fds.get(name.0).copied().unwrap_or(NOBODY)
    }

    /// The descriptor is closed by somebody else.
    pub(crate) fn forget(&mut self, name: Name) {
        self.fds[name.0] = NOBODY;
    }

    /// Where the scene has its files.
    pub(crate) fn directory(&self) -> String {
        self.places.directory()
    }

    /// Whether the socket is one of datagrams.
    pub(crate) fn is_datagram(&self, name: Name) -> bool {
        self.datagrams.contains(&name)
    }

    fn shown(&self, name: Name, address: Address) -> String {
        self.places.shown(self.is_datagram(name), address)
    }

    /// A line of the body's own.
    pub(crate) fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// Lets what is under way arrive.
    pub(crate) fn pause(&self) {
        self.sleep(self.settle);
    }

    /// Lets time pass.
    pub(crate) fn sleep(&self, time: Duration) {
        if !time.is_zero() {
            let _ = self.kernel.futex_wait(&AtomicU32::new(0), 0, Some(time));
        }
    }

    /// Lets no more than `count` slots be used.
    pub(crate) fn limit_descriptors(&mut self, count: usize) {
        (self.limit)(&*self.kernel, self.slots[count].raw() as usize);
    }

    /// Closes what is open, connections by RST, so that their ports are free at once.
    pub(crate) fn clear(&mut self) {
        for fd in std::mem::take(&mut self.fds).into_iter().filter(|fd| *fd != NOBODY) {
            let _ = self.kernel.setsockopt(fd, SocketOption::Linger(Some(Duration::ZERO)));
            let _ = self.kernel.close(fd);
        }
    }

    pub(crate) fn answer<T>(
        &mut self,
        call: Call,
        shown: fmt::Arguments<'_>,
        answer: Result<T>,
        tell: impl FnOnce(&mut Scene, &T) -> String,
    ) -> Option<T> {
        let error = answer.as_ref().err().copied();
        *self.tally.entry((call, error)).or_default() += 1;
        if let Some(errno) = error {
            assert!(errno::of(call).contains(&errno), "{call:?} answered {errno:?}: {:#?}", self.lines);
        }
        let text = match &answer {
            Ok(value) => tell(self, value),
            Err(errno) => format!("{errno:?}"),
        };
        self.lines.push(format!("{shown} = {text}"));
        self.pause();
        answer.ok()
    }

    pub(crate) fn plain(&mut self, call: Call, shown: fmt::Arguments<'_>, answer: Result<()>) {
        self.answer(call, shown, answer, |_, ()| "ok".to_owned());
    }

    /// A new descriptor gets the next name; if it was not had, a name of nobody.
    pub(crate) fn made(&mut self, call: Call, shown: fmt::Arguments<'_>, answer: Result<Fd>) -> Name {
        let name = Name(self.fds.len());
        let made = self.answer(call, shown, answer, |scene, fd| {
            let slot = scene.slots.iter().position(|slot| slot == fd);
            slot.map_or_else(|| "beyond the slots".to_owned(), |slot| format!("{name} in slot {slot}"))
        });
        self.fds.push(made.unwrap_or(NOBODY));
        name
    }

    pub(crate) fn numbered(&mut self, len: usize) -> Vec<u8> {
        let bytes = (0..len).map(|i| self.sent.wrapping_add(i as u8)).collect();
        self.sent = self.sent.wrapping_add(len as u8);
        bytes
    }
}

/// Which bytes arrived: their count, the first and the last, and a sum of all.
fn told(bytes: &[u8]) -> String {
    match bytes {
        [] => "0 bytes".to_owned(),
        [one] => format!("1 byte, {one}"),
        [first, .., last] => {
            let sum =
                bytes.iter().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
            format!("{} bytes, {first} to {last} ({sum:08x})", bytes.len())
        }
    }
}

/// The calls. Each is the kernel's, by names.
impl Scene {
    /// A stream socket with `TCP_NODELAY`: without it Nagle keeps small segments back until the 40 ms of a delayed
    /// acknowledgement are over.
    pub(crate) fn socket(&mut self) -> Name {
        self.socket_of(Domain::Inet)
    }

    pub(crate) fn socket_of(&mut self, domain: Domain) -> Name {
        let answer = self.kernel.socket(domain, SocketKind::Stream);
        if let Ok(fd) = answer {
            self.kernel.setsockopt(fd, SocketOption::NoDelay(true)).expect("a stream socket");
        }
        self.made(Call::Socket, format_args!("socket({domain:?})"), answer)
    }

    /// A socket of any kind as it comes.
    pub(crate) fn open(&mut self, domain: Domain, kind: SocketKind) -> Name {
        if domain != Domain::Unix && kind == SocketKind::Stream {
            return self.socket_of(domain);
        }
        let answer = self.kernel.socket(domain, kind);
        let name = self.made(Call::Socket, format_args!("socket({domain:?}, {kind:?})"), answer);
        if kind == SocketKind::Datagram {
            self.datagrams.insert(name);
        }
        name
    }

    pub(crate) fn udp(&mut self) -> Name {
        self.open(Domain::Inet, SocketKind::Datagram)
    }

    pub(crate) fn unix(&mut self, kind: SocketKind) -> Name {
        self.open(Domain::Unix, kind)
    }

    pub(crate) fn socketpair(&mut self, kind: SocketKind) -> (Name, Name) {
        let answer = self.kernel.socketpair(kind);
        let second = answer.map(|pair| pair.1);
        let first =
            self.made(Call::Socketpair, format_args!("socketpair({kind:?})"), answer.map(|pair| pair.0));
        let second = self.made(Call::Socketpair, format_args!("  and"), second);
        if kind == SocketKind::Datagram {
            self.datagrams.extend([first, second]);
        }
        (first, second)
    }

    pub(crate) fn eventfd(&mut self, initial: u32) -> Name {
        let answer = self.kernel.eventfd(initial);
        self.made(Call::Eventfd, format_args!("eventfd({initial})"), answer)
    }

    pub(crate) fn epoll(&mut self) -> Name {
        let answer = self.kernel.epoll_create1();
        self.made(Call::EpollCreate1, format_args!("epoll_create1()"), answer)
    }

    pub(crate) fn bind(&mut self, name: Name, to: To) {
        let answer = self.kernel.bind(self.fd(name), &self.resolve(to));
        self.learn(name);
        self.plain(Call::Bind, format_args!("bind({name}, {to:?})"), answer)
    }

    pub(crate) fn listen(&mut self, name: Name, backlog: u32) {
        let answer = self.kernel.listen(self.fd(name), backlog);
        self.learn(name);
        self.plain(Call::Listen, format_args!("listen({name}, {backlog})"), answer)
    }

    pub(crate) fn connect(&mut self, name: Name, to: To) {
        let answer = self.kernel.connect(self.fd(name), &self.resolve(to));
        self.learn(name);
        self.plain(Call::Connect, format_args!("connect({name}, {to:?})"), answer)
    }

    pub(crate) fn accept4(&mut self, name: Name) -> Name {
        let answer = self.kernel.accept4(self.fd(name));
        let peer = answer.as_ref().map_or(String::new(), |(_, peer)| self.shown(name, *peer));
        let accepted = answer.map(|(fd, _)| fd);
        let accepted = self.made(Call::Accept4, format_args!("accept4({name})"), accepted);
        if !peer.is_empty() {
            self.say(format!("  from {peer}"));
        }
        accepted
    }

    pub(crate) fn shutdown(&mut self, name: Name, how: Shutdown) {
        let answer = self.kernel.shutdown(self.fd(name), how);
        self.shut.insert(name);
        self.plain(Call::Shutdown, format_args!("shutdown({name}, {how:?})"), answer)
    }

    pub(crate) fn close(&mut self, name: Name) {
        let answer = self.kernel.close(self.fd(name));
        if let Some(fd) = self.fds.get_mut(name.0) {
            *fd = NOBODY;
        }
        self.plain(Call::Close, format_args!("close({name})"), answer)
    }

    pub(crate) fn getsockname(&mut self, name: Name) {
        let answer = self.kernel.getsockname(self.fd(name));
        self.answer(Call::Getsockname, format_args!("getsockname({name})"), answer, |scene, address| {
            scene.shown(name, *address)
        });
    }

    pub(crate) fn getpeername(&mut self, name: Name) {
        let answer = self.kernel.getpeername(self.fd(name));
        self.answer(Call::Getpeername, format_args!("getpeername({name})"), answer, |scene, address| {
            scene.shown(name, *address)
        });
    }

    pub(crate) fn getsockopt(&mut self, name: Name, option: OptionName) {
        let answer = self.kernel.getsockopt(self.fd(name), option);
        self.answer(
            Call::Getsockopt,
            format_args!("getsockopt({name}, {option:?})"),
            answer,
            |scene, value| match value {
                SocketOption::PeerCredentials(Some(who)) => {
                    let own = u64::from(who.pid) == scene.kernel.process().0;
                    format!("PeerCredentials, {}", if own { "this process" } else { "another process" })
                }
                value => format!("{value:?}"),
            },
        );
    }

    /// `SO_ERROR`.
    pub(crate) fn error(&mut self, name: Name) {
        self.getsockopt(name, OptionName::Error);
    }

    pub(crate) fn setsockopt(&mut self, name: Name, option: SocketOption) {
        let answer = self.kernel.setsockopt(self.fd(name), option);
        self.plain(Call::Setsockopt, format_args!("setsockopt({name}, {option:?})"), answer)
    }

    pub(crate) fn read(&mut self, name: Name, len: usize) {
        let mut buf = vec![0; len];
        let answer = self.kernel.read(self.fd(name), &mut buf);
        self.received(Call::Read, format_args!("read({name}, {len})"), answer, &buf)
    }

    pub(crate) fn readv(&mut self, name: Name, lens: &[usize]) {
        let mut buf = vec![0; lens.iter().sum()];
        let mut rest = &mut buf[..];
        let mut slices = Vec::new();
        for len in lens {
            let (slice, others) = rest.split_at_mut(*len);
            slices.push(IoSliceMut::new(slice));
            rest = others;
        }
        let answer = self.kernel.readv(self.fd(name), &mut slices);
        self.received(Call::Readv, format_args!("readv({name}, {lens:?})"), answer, &buf)
    }

    pub(crate) fn recv(&mut self, name: Name, len: usize, flags: RecvFlags) {
        let mut buf = vec![0; len];
        let answer = self.kernel.recv(self.fd(name), &mut buf, flags);
        let RecvFlags { peek, oob } = flags;
        let flags = [(peek, ", PEEK"), (oob, ", OOB")].map(|(on, text)| if on { text } else { "" }).concat();
        self.received(Call::Recv, format_args!("recv({name}, {len}{flags})"), answer, &buf)
    }

    /// Tells the sender and the truncation as well.
    pub(crate) fn recvmsg(&mut self, name: Name, lens: &[usize], flags: RecvFlags) {
        let mut parts: Vec<Vec<u8>> = lens.iter().map(|len| vec![0; *len]).collect();
        let mut slices: Vec<IoSliceMut<'_>> = parts.iter_mut().map(|part| IoSliceMut::new(part)).collect();
        let answer = self.kernel.recvmsg(self.fd(name), &mut slices, flags);
        let buf = parts.concat();
        let peek = if flags.peek { ", PEEK" } else { "" };
        self.answer(
            Call::Recvmsg,
            format_args!("recvmsg({name}, {lens:?}{peek})"),
            answer,
            |scene, received| {
                let from = received.from.map_or("nobody".to_owned(), |from| scene.shown(name, from));
                let end = if received.truncated { ", cut off" } else { "" };
                format!("{} from {from}{end}", told(&buf[..received.count]))
            },
        );
    }

    pub(crate) fn fionread(&mut self, name: Name) {
        let answer = self.kernel.ioctl_fionread(self.fd(name));
        self.count_of(Call::IoctlFionread, format_args!("ioctl_fionread({name})"), answer)
    }

    pub(crate) fn unlink(&mut self, path: u8) {
        let text = std::ffi::CString::new(self.places.path(path)).expect("a path without zeros");
        let answer = self.kernel.unlink(&text);
        self.plain(Call::Unlink, format_args!("unlink(path {path})"), answer)
    }

    pub(crate) fn received(
        &mut self,
        call: Call,
        shown: fmt::Arguments<'_>,
        answer: Result<usize>,
        buf: &[u8],
    ) {
        self.answer(call, shown, answer, |_, count| told(&buf[..*count]));
    }

    pub(crate) fn write(&mut self, name: Name, bytes: &[u8]) {
        let answer = self.kernel.write(self.fd(name), bytes);
        self.count_of(Call::Write, format_args!("write({name}, {})", told(bytes)), answer)
    }

    /// Sends the next `len` numbered bytes.
    pub(crate) fn send(&mut self, name: Name, len: usize, flags: SendFlags) {
        let bytes = self.numbered(len);
        let answer = self.kernel.send(self.fd(name), &bytes, flags);
        self.learn(name);
        let SendFlags { oob, more } = flags;
        let flags = [(oob, ", OOB"), (more, ", MORE")].map(|(on, text)| if on { text } else { "" }).concat();
        self.count_of(Call::Send, format_args!("send({name}, {}{flags})", told(&bytes)), answer)
    }

    pub(crate) fn sendmsg(&mut self, name: Name, lens: &[usize]) {
        self.send_to(name, lens, None, SendFlags::default());
    }

    pub(crate) fn send_to(&mut self, name: Name, lens: &[usize], to: Option<To>, flags: SendFlags) {
        let parts: Vec<Vec<u8>> = lens.iter().map(|len| self.numbered(*len)).collect();
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let address = to.map(|to| self.resolve(to));
        let answer = self.kernel.sendmsg(self.fd(name), &slices, flags, address.as_ref());
        self.learn(name);
        let to = to.map_or(String::new(), |to| format!(", to {to:?}"));
        let flags =
            [(flags.oob, ", OOB"), (flags.more, ", MORE")].map(|(on, text)| if on { text } else { "" });
        self.count_of(Call::Sendmsg, format_args!("sendmsg({name}, {lens:?}{to}{})", flags.concat()), answer)
    }

    pub(crate) fn count_of(&mut self, call: Call, shown: fmt::Arguments<'_>, answer: Result<usize>) {
        self.answer(call, shown, answer, |_, count| count.to_string());
    }

    /// Registers `name`, whose ordinal is the event's data.
    pub(crate) fn add(&mut self, epoll: Name, name: Name, events: Events) {
        self.watched.insert((epoll, name));
        self.control(epoll, name, EpollOp::Add(EpollEvent { events, data: name.0 as u64 }))
    }

    pub(crate) fn modify(&mut self, epoll: Name, name: Name, events: Events) {
        self.control(epoll, name, EpollOp::Modify(EpollEvent { events, data: name.0 as u64 }))
    }

    pub(crate) fn delete(&mut self, epoll: Name, name: Name) {
        self.control(epoll, name, EpollOp::Delete);
    }

    fn control(&mut self, epoll: Name, name: Name, op: EpollOp) {
        let answer = self.kernel.epoll_ctl(self.fd(epoll), op, self.fd(name));
        let op = match op {
            EpollOp::Add(event) => format!("ADD {:?}", { event.events }),
            EpollOp::Modify(event) => format!("MOD {:?}", { event.events }),
            EpollOp::Delete => "DEL".to_owned(),
        };
        self.plain(Call::EpollCtl, format_args!("epoll_ctl({epoll}, {name}, {op})"), answer)
    }

    /// What is told at once. The order within one answer is nobody's promise.
    pub(crate) fn wait(&mut self, epoll: Name) {
        self.wait_for(epoll, 64, Duration::ZERO);
    }

    pub(crate) fn wait_for(&mut self, epoll: Name, most: usize, timeout: Duration) {
        let mut events = vec![EpollEvent::default(); most];
        let answer = self.kernel.epoll_wait(self.fd(epoll), &mut events, Some(timeout));
        events.truncate(answer.unwrap_or(0));
        let mut told: Vec<_> = events.iter().map(|e| (Name(e.data as usize), { e.events })).collect();
        told.sort_by_key(|(name, _)| *name);
        told.retain(|(name, events)| {
            let before = self.told.insert((epoll, *name), *events);
            let again = before.is_some_and(|before| events.without(before).is_empty());
            let again = again && self.shut.contains(name);
            let restless = self.shut.iter().any(|shut| self.watched.contains(&(*name, *shut)));
            !again && !restless
        });
        let shown = format_args!("epoll_wait({epoll}, {most}, {timeout:?})");
        self.answer(Call::EpollWait, shown, answer, |_, _| format!("{told:?}"));
    }

    /// How everything is at the end: what is ready, which error is pending, what can still be read.
    pub(crate) fn inventory(&mut self) {
        let watch = self.epoll();
        let all = Events::IN.with(Events::OUT).with(Events::RDHUP).with(Events::PRI);
        self.told.clear();
        for name in (0..watch.0).map(Name).filter(|name| self.fd(*name) != NOBODY).collect::<Vec<_>>() {
            self.add(watch, name, all);
        }
        self.wait(watch);
        let mut rest = vec![0; 1 << 16];
        for name in (0..watch.0).map(Name).filter(|name| self.fd(*name) != NOBODY).collect::<Vec<_>>() {
            self.error(name);
            let answer = self.kernel.recv(self.fd(name), &mut rest, RecvFlags::default());
            self.received(Call::Recv, format_args!("recv({name}, rest)"), answer, &rest);
        }
    }
}

//! The simulated kernel: one thread's view of its operating system, [`Kernel`] served by the world.
//!
//! Each call is a few lines: what the trace shows of it, which call it is for the fault injector, and the method of
//! [`Net`](crate::net::Net) or of the scheduler that serves it on the world's stack. Calls that cannot wait and tell
//! only what the caller might know already (clocks, random bytes, getters) are answered on the caller's stack: nobody
//! else runs meanwhile.
//!
//! | who asks | gets |
//! |---|---|
//! | the thread that this kernel was made for, while its world runs | the answer |
//! | the same thread while it panics | the answer at once: no other thread runs in between, and no sleep |
//! | any thread while the world ends | `ECANCELED` |
//! | another thread (the object was parked in a thread-local) | `ECANCELED` |

mod call;

use std::any::Any;
use std::ffi::CStr;
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use machinarium::kernel::{
    Address, Call, Clock, Domain, EpollEvent, EpollOp, Errno, Fd, Instant, Kernel, OptionName, ProcessId,
    Received, RecvFlags, Result, SendFlags, SocketKind, SocketOption, Thread, ThreadEnd, ThreadMain,
    ThreadOptions, Wake, sealed,
};
use machinarium::kernel::{Caught, CpuSet, OpenFlags, Query, ResolveError, SigAction, Signal, Stat};

use crate::choice::Subsystem;
use crate::env::{HostIndex, ProcessIndex};
use crate::fault::Fault;
use crate::scheduler::{GLANCE, Sleep, ThreadIndex, WaitsFor};
use crate::wake::SimWake;
use crate::world::{Asking, Served, Shared};

mod service;

/// See the head of the file.
pub(crate) struct SimKernel {
    pub(crate) shared: Rc<Shared>,
    pub(crate) thread: ThreadIndex,
    pub(crate) process: ProcessIndex,
    pub(crate) host: HostIndex,
}

/// After so many glances at the clock in a row, others get a chance.
const GLANCES: u32 = 128;

impl sealed::Sealed for SimKernel {}

impl fmt::Debug for SimKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimKernel({:?} of {:?} on {:?})", self.thread, self.process, self.host)
    }
}

impl Kernel for SimKernel {
    fn clock_gettime(&self, clock: Clock) -> Instant {
        if clock == Clock::Realtime {
            self.perhaps_jump();
        }
        // A loop around the clock must not keep everybody else from running.
        let glances = self.shared.glance(self.thread, |state| {
            state.sched.now += GLANCE;
            let record = state.sched.thread(self.thread);
            record.glances += 1;
            record.glances
        });
        if glances > GLANCES {
            self.sched_yield();
        }
        self.shared.glance(self.thread, |state| {
            state.sched.hosts[self.host.0 as usize].clocks.read(clock, state.sched.now)
        })
    }

    fn getrandom(&self, buf: &mut [u8]) {
        assert!(buf.len() <= 256, "getrandom of more than 256 bytes may be short");
        self.shared.glance(self.thread, |state| {
            let stream = self.stream(state, Subsystem::Random);
            state.sched.choices.fill(stream, buf);
        });
    }

    fn sched_yield(&self) {
        self.shared.asking.set(None);
        let _ = self.shared.ask(self.thread, Asking::Call, |state, thread| {
            // With turns, this is a place where another thread may go on anyway.
            if state.sched.turns.is_none() && self.hit(state, Fault::Preempt) {
                state.sched.hold_up(thread);
            }
            Served::Done(())
        });
    }

    fn sched_getaffinity(&self) -> CpuSet {
        self.shared.glance(self.thread, |state| state.sched.thread(self.thread).cpus)
    }

    fn sched_setaffinity(&self, cpus: &CpuSet) -> Result<()> {
        self.call(Call::SchedSetaffinity, format_args!("{cpus:?}"), |state, _| {
            state.sched.bind(self.thread, cpus)
        })
    }

    fn socket(&self, domain: Domain, kind: SocketKind) -> Result<Fd> {
        self.call(Call::Socket, format_args!("{domain:?}, {kind:?}"), |state, process| {
            let fd = state.net.socket(&mut state.sched, process, domain, kind)?;
            self.shrink_buffers(state, fd);
            Ok(fd)
        })
    }

    fn socketpair(&self, kind: SocketKind) -> Result<(Fd, Fd)> {
        self.call(Call::Socketpair, format_args!("{kind:?}"), |state, process| {
            let pair = state.net.socketpair(&mut state.sched, process, kind)?;
            self.shrink_buffers(state, pair.0);
            Ok(pair)
        })
    }

    fn bind(&self, fd: Fd, address: &Address) -> Result<()> {
        let chosen = matches!(address, Address::Ip(ip) if ip.port() == 0);
        self.call_with(Call::Bind, chosen, format_args!("{fd}, {address}"), |state, process| {
            state.net.bind(&mut state.sched, process, fd, address)
        })
    }

    fn listen(&self, fd: Fd, backlog: u32) -> Result<()> {
        self.call(Call::Listen, format_args!("{fd}, {backlog}"), |state, process| {
            let backlog = self.shortened_backlog(state, fd, backlog);
            state.net.listen(&mut state.sched, process, fd, backlog)
        })
    }

    fn accept4(&self, fd: Fd) -> Result<(Fd, Address)> {
        self.call(Call::Accept4, format_args!("{fd}"), |state, process| {
            let (accepted, peer) = state.net.accept4(&mut state.sched, process, fd)?;
            self.shrink_buffers(state, accepted);
            Ok((accepted, peer))
        })
    }

    fn connect(&self, fd: Fd, address: &Address) -> Result<()> {
        let away = matches!(address, Address::Ip(ip) if !ip.ip().to_canonical().is_loopback());
        self.call_with(Call::Connect, away, format_args!("{fd}, {address}"), |state, process| {
            state.net.connect(&mut state.sched, process, fd, address)
        })
    }

    fn shutdown(&self, fd: Fd, how: Shutdown) -> Result<()> {
        self.call(Call::Shutdown, format_args!("{fd}, {how:?}"), |state, process| {
            state.net.shutdown(&mut state.sched, process, fd, how)
        })
    }

    fn getsockname(&self, fd: Fd) -> Result<Address> {
        self.getter(|state| state.net.getsockname(&mut state.sched, self.process, fd))
    }

    fn getpeername(&self, fd: Fd) -> Result<Address> {
        self.getter(|state| state.net.getpeername(&mut state.sched, self.process, fd))
    }

    fn getsockopt(&self, fd: Fd, name: OptionName) -> Result<SocketOption> {
        // Reading SO_ERROR changes the socket, so this one is a call like the others.
        self.call(Call::Getsockopt, format_args!("{fd}, {name:?}"), |state, process| {
            state.net.getsockopt(&mut state.sched, process, fd, name)
        })
    }

    fn setsockopt(&self, fd: Fd, option: SocketOption) -> Result<()> {
        self.call(Call::Setsockopt, format_args!("{fd}, {option:?}"), |state, process| {
            state.net.setsockopt(&mut state.sched, process, fd, option)
        })
    }

    fn ioctl_fionread(&self, fd: Fd) -> Result<usize> {
        self.getter(|state| state.net.ioctl_fionread(&mut state.sched, self.process, fd))
    }

    fn read(&self, fd: Fd, buf: &mut [u8]) -> Result<usize> {
        let count = self.call(Call::Read, format_args!("{fd}, {}", buf.len()), |state, process| {
            state.net.read(&mut state.sched, process, fd, buf)
        });
        self.received(count, buf)
    }

    fn readv(&self, fd: Fd, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        self.call(Call::Readv, format_args!("{fd}, {} buffers", bufs.len()), |state, process| {
            state.net.readv(&mut state.sched, process, fd, bufs)
        })
    }

    fn write(&self, fd: Fd, buf: &[u8]) -> Result<usize> {
        self.call(Call::Write, format_args!("{fd}, {}", buf.len()), |state, process| {
            state.net.write(&mut state.sched, process, fd, buf)
        })
    }

    fn recv(&self, fd: Fd, buf: &mut [u8], flags: RecvFlags) -> Result<usize> {
        let count = self.call(Call::Recv, format_args!("{fd}, {}", buf.len()), |state, process| {
            state.net.recv(&mut state.sched, process, fd, buf, flags)
        });
        self.received(count, buf)
    }

    fn send(&self, fd: Fd, buf: &[u8], flags: SendFlags) -> Result<usize> {
        self.call(Call::Send, format_args!("{fd}, {}", buf.len()), |state, process| {
            self.squeeze(state, fd, buf.len());
            state.net.send(&mut state.sched, process, fd, buf, flags)
        })
    }

    fn recvmsg(&self, fd: Fd, bufs: &mut [IoSliceMut<'_>], flags: RecvFlags) -> Result<Received> {
        let answer =
            self.call(Call::Recvmsg, format_args!("{fd}, {} buffers", bufs.len()), |state, process| {
                state.net.recvmsg(&mut state.sched, process, fd, bufs, flags)
            });
        if let (Ok(received), Some(first)) = (&answer, bufs.first()) {
            let _ = self.received(Ok(received.count.min(first.len())), first);
        }
        answer
    }

    fn sendmsg(&self, fd: Fd, bufs: &[IoSlice<'_>], flags: SendFlags, to: Option<&Address>) -> Result<usize> {
        self.call(Call::Sendmsg, format_args!("{fd}, {} buffers, {to:?}", bufs.len()), |state, process| {
            self.squeeze(state, fd, bufs.iter().map(|buf| buf.len()).sum());
            state.net.sendmsg(&mut state.sched, process, fd, bufs, flags, to)
        })
    }

    fn close(&self, fd: Fd) -> Result<()> {
        self.call(Call::Close, format_args!("{fd}"), |state, process| {
            state.net.close(&mut state.sched, process, fd)
        })
    }

    fn epoll_create1(&self) -> Result<Fd> {
        self.call(Call::EpollCreate1, format_args!(""), |state, process| {
            state.net.epoll_create1(&mut state.sched, process)
        })
    }

    fn epoll_ctl(&self, epoll: Fd, op: EpollOp, fd: Fd) -> Result<()> {
        // Linux needs memory to add a descriptor, and none to change or to remove one.
        let adds = matches!(op, EpollOp::Add(_));
        self.call_with(Call::EpollCtl, adds, format_args!("{epoll}, {op:?}, {fd}"), |state, process| {
            state.net.epoll_ctl(&mut state.sched, process, epoll, op, fd)
        })
    }

    fn epoll_wait(&self, epoll: Fd, events: &mut [EpollEvent], timeout: Option<Duration>) -> Result<usize> {
        let mut until = 0;
        let room = events.len();
        let answer =
            self.wait(Call::EpollWait, format_args!("{epoll}, {room}, {timeout:?}"), |state, again| {
                if !again {
                    until = self.deadline(state, timeout);
                } else if self.interrupted(state) {
                    return Served::Done(Err(Errno::INTR));
                }
                match self.poll(state, epoll, events, !again) {
                    Ok(0) if state.sched.now < until => match state.net.epoll_key(self.process, epoll) {
                        Ok(key) => Served::Wait(Sleep { on: WaitsFor::Epoll(key), until }),
                        Err(errno) => Served::Done(Err(errno)),
                    },
                    answer => Served::Done(answer),
                }
            });
        self.sleep_while_canceled(&answer, timeout);
        answer
    }

    fn eventfd(&self, initial: u32) -> Result<Fd> {
        self.call(Call::Eventfd, format_args!("{initial}"), |state, process| {
            state.net.eventfd(&mut state.sched, process, initial)
        })
    }

    fn spawn(&self, options: &ThreadOptions, main: ThreadMain) -> Result<Thread> {
        let mut main = Some(main);
        self.call(Call::Spawn, format_args!("{}", options.name), |state, process| {
            let main = main.take().expect("a thread is made once");
            let thread = self.shared.add_thread(state, process, &options.name, main);
            state.sched.thread(thread).cpus = state.sched.thread(self.thread).cpus;
            if let Some(cpu) = options.cpu {
                // One that is not there leaves it unbound.
                let _ = state.sched.bind(thread, &CpuSet::EMPTY.with(cpu));
            }
            Ok(Thread(u64::from(thread.0)))
        })
    }

    fn join(&self, thread: Thread) -> ThreadEnd {
        let other = ThreadIndex(u32::try_from(thread.0).expect("a thread of this process"));
        let end = self.shared.ask(self.thread, Asking::Join, |state, _| {
            assert_eq!(
                state.sched.thread(other).process,
                Some(self.process),
                "no such thread in this process"
            );
            if state.sched.thread(other).end.is_none() {
                return Served::Wait(Sleep { on: WaitsFor::Join(other), until: u64::MAX });
            }
            let record = state.sched.thread(other);
            assert!(!std::mem::replace(&mut record.joined, true), "a thread is joined once");
            Served::Done(record.end.take().expect("it has ended"))
        });
        let canceled = || Err(Box::new("the join was canceled: the simulation ends") as Box<dyn Any + Send>);
        end.unwrap_or_else(canceled)
    }

    fn detach(&self, thread: Thread) {
        // Its strand is the world's, which keeps every end, to tell of a panic that nobody has seen.
        let _ = thread;
    }

    fn futex_wait(&self, word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Result<()> {
        let mut until = 0;
        let address = word.as_ptr().addr();
        let answer = self.wait(Call::FutexWait, format_args!("{expected}, {timeout:?}"), |state, again| {
            if !again {
                until = self.deadline(state, timeout);
                state.sched.futex_begin(self.thread);
                // The world runs all threads on one OS thread, so any ordering would do.
                if word.load(std::sync::atomic::Ordering::SeqCst) != expected {
                    return Served::Done(Err(Errno::AGAIN));
                }
                if self.hit(state, Fault::SpuriousWake) {
                    state.sched.injected.count(Fault::SpuriousWake);
                    return Served::Done(Ok(()));
                }
            } else if self.interrupted(state) {
                return Served::Done(Err(Errno::INTR));
            }
            state.sched.futex_sleep(self.thread, address, until)
        });
        self.sleep_while_canceled(&answer, timeout);
        answer
    }

    fn futex_wake(&self, word: &AtomicU32, count: u32) -> usize {
        let address = word.as_ptr().addr();
        let woken = self
            .shared
            .ask(self.thread, Asking::Call, |state, _| Served::Done(state.sched.futex_wake(address, count)));
        woken.unwrap_or(0)
    }

    fn getaddrinfo(&self, query: &Query<'_>) -> Result<Vec<SocketAddr>, ResolveError> {
        self.resolve(query)
    }

    fn sigaction(&self, signal: Signal, action: SigAction, caught: &Arc<Caught>) -> Result<()> {
        self.act(signal, action, caught)
    }

    fn kill(&self, signal: Signal) -> Result<()> {
        self.send_signal(signal)
    }

    fn openat(&self, path: &CStr, flags: OpenFlags) -> Result<Fd> {
        self.open_file(path, flags)
    }

    fn pread(&self, fd: Fd, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.read_at(fd, buf, offset)
    }

    fn pwrite(&self, fd: Fd, buf: &[u8], offset: u64) -> Result<usize> {
        self.write_at(fd, buf, offset)
    }

    fn fsync(&self, fd: Fd) -> Result<()> {
        self.sync_file(Call::Fsync, fd)
    }

    fn fdatasync(&self, fd: Fd) -> Result<()> {
        self.sync_file(Call::Fdatasync, fd)
    }

    fn ftruncate(&self, fd: Fd, len: u64) -> Result<()> {
        self.truncate(fd, len)
    }

    fn fstat(&self, fd: Fd) -> Result<Stat> {
        self.status(fd)
    }

    fn rename(&self, from: &CStr, to: &CStr) -> Result<()> {
        self.rename_file(from, to)
    }

    fn unlink(&self, path: &CStr) -> Result<()> {
        self.unlink_file(path)
    }

    fn process(&self) -> ProcessId {
        ProcessId(u64::from(self.process.0) + 1)
    }

    fn share(&self, fd: Fd) -> Arc<dyn Wake> {
        Arc::new(SimWake::new(&self.shared, self.process, fd))
    }
}

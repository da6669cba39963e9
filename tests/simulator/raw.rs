//! Programs on the bare kernel, for tests of the simulator that want no runtime above it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use machinarium::kernel::{
    Clock, Domain, EpollEvent, EpollOp, Errno, Events, Fd, Kernel, OptionName, RecvFlags, Result, SendFlags,
    SocketKind, SocketOption,
};

pub(crate) const PORT: u16 = 7000;

/// The address of the n-th host that a script makes, from 1.
pub(crate) fn server(n: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, n)), PORT)
}

/// Descriptors of one thread with the epoll instance that watches them.
pub(crate) struct Program {
    pub(crate) kernel: Rc<dyn Kernel>,
    pub(crate) epoll: Fd,
}

impl Program {
    pub(crate) fn new(kernel: Rc<dyn Kernel>) -> Program {
        let epoll = kernel.epoll_create1().unwrap();
        Program { kernel, epoll }
    }

    pub(crate) fn watch(&self, fd: Fd) {
        let events = Events::IN.with(Events::OUT).with(Events::RDHUP).with(Events::ET);
        self.kernel
            .epoll_ctl(self.epoll, EpollOp::Add(EpollEvent { events, data: fd.raw() as u64 }), fd)
            .unwrap();
    }

    pub(crate) fn listen(&self) -> Fd {
        let fd = self.kernel.socket(Domain::Inet, SocketKind::Stream).unwrap();
        self.kernel.setsockopt(fd, SocketOption::ReuseAddr(true)).unwrap();
        self.kernel.bind(fd, &SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT).into()).unwrap();
        self.kernel.listen(fd, 16).unwrap();
        self.watch(fd);
        fd
    }

    /// Waits for any event; 0 when `timeout` is over.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> usize {
        loop {
            match self.kernel.epoll_wait(self.epoll, &mut [EpollEvent::default(); 8], timeout) {
                Err(Errno::INTR) => {}
                answer => return answer.unwrap(),
            }
        }
    }

    /// Repeats a call until it would not have to wait.
    pub(crate) fn finish<T>(&self, call: impl Fn() -> Result<T>) -> Result<T> {
        loop {
            match call() {
                Err(Errno::AGAIN) => drop(self.wait(None)),
                Err(Errno::INTR) => {}
                answer => return answer,
            }
        }
    }

    pub(crate) fn accept(&self, listener: Fd) -> Result<Fd> {
        let (fd, _) = self.finish(|| self.kernel.accept4(listener))?;
        self.watch(fd);
        Ok(fd)
    }

    pub(crate) fn connect(&self, address: SocketAddr) -> Result<Fd> {
        let fd = self.kernel.socket(Domain::Inet, SocketKind::Stream).unwrap();
        self.watch(fd);
        let connected = self.finish_connect(fd, address);
        if connected.is_err() {
            self.close(fd);
        }
        connected.map(|()| fd)
    }

    fn finish_connect(&self, fd: Fd, address: SocketAddr) -> Result<()> {
        if let Err(errno) = self.kernel.connect(fd, &address.into())
            && errno != Errno::INPROGRESS
        {
            return Err(errno);
        }
        loop {
            match self.kernel.getsockopt(fd, OptionName::Error)? {
                SocketOption::Error(Some(errno)) => return Err(errno),
                _ if self.kernel.getpeername(fd).is_ok() => return Ok(()),
                _ => self.wait(None),
            };
        }
    }

    pub(crate) fn recv(&self, fd: Fd, len: usize) -> Result<Vec<u8>> {
        let mut buf = vec![0; len];
        let count = loop {
            match self.kernel.recv(fd, &mut buf, RecvFlags::default()) {
                Err(Errno::AGAIN) => drop(self.wait(None)),
                Err(Errno::INTR) => {}
                answer => break answer?,
            }
        };
        buf.truncate(count);
        Ok(buf)
    }

    pub(crate) fn send_all(&self, fd: Fd, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let count = self.finish(|| self.kernel.send(fd, bytes, SendFlags::default()))?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.kernel.clock_gettime(Clock::Monotonic).as_nanos())
    }

    pub(crate) fn close(&self, fd: Fd) {
        self.kernel.close(fd).unwrap();
    }
}

/// Serves `connections` connections one after the other, and echoes.
pub(crate) fn echo_server(kernel: Rc<dyn Kernel>, connections: usize) -> Result<()> {
    let program = Program::new(kernel);
    let listener = program.listen();
    for _ in 0..connections {
        let fd = program.accept(listener)?;
        loop {
            let bytes = program.recv(fd, 4096)?;
            if bytes.is_empty() {
                break;
            }
            program.send_all(fd, &bytes)?;
        }
        program.close(fd);
    }
    program.close(listener);
    program.close(program.epoll);
    Ok(())
}

/// Connects to `address`, retrying while it is refused.
pub(crate) fn connect_patiently(program: &Program, address: SocketAddr) -> Result<Fd> {
    loop {
        match program.connect(address) {
            Err(Errno::CONNREFUSED) => {
                program.wait(Some(Duration::from_millis(10)));
            }
            answer => return answer,
        }
    }
}

/// Sends `rounds` messages and wants each back.
pub(crate) fn echo_client(kernel: Rc<dyn Kernel>, address: SocketAddr, rounds: usize) -> Result<()> {
    let program = Program::new(kernel);
    let fd = connect_patiently(&program, address)?;
    let message = [7; 64];
    for _ in 0..rounds {
        program.send_all(fd, &message)?;
        let mut left = message.len();
        while left > 0 {
            let count = program.recv(fd, left)?.len();
            if count == 0 {
                return Err(Errno::CONNRESET);
            }
            left -= count;
        }
    }
    program.close(fd);
    program.close(program.epoll);
    Ok(())
}

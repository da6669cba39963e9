//! Socket options: a value of this library to the number or structure the kernel keeps, and back.
//!
//! Owns nothing and decides nothing, but for one thing: a duration is rounded up to the unit of its option, because
//! a linger or a user timeout that becomes zero means something else. What is too large stays too large.

use std::mem::MaybeUninit;
use std::time::Duration;

use libc::{c_int, c_void, socklen_t};

use super::{clamp, failed};
use crate::kernel::{Call, Credentials, Domain, Errno, Fd, OptionName, Result, SocketKind, SocketOption};

pub(super) fn get_option(fd: Fd, name: OptionName) -> Result<SocketOption> {
    use OptionName as N;
    use SocketOption as O;
    let number = |level, option| get::<c_int>(fd, level, option);
    let truth = |level, option| number(level, option).map(|value| value != 0);
    let seconds = |option| number(libc::IPPROTO_TCP, option).map(|value| Duration::from_secs(value as u64));
    Ok(match name {
        N::ReuseAddr => O::ReuseAddr(truth(libc::SOL_SOCKET, libc::SO_REUSEADDR)?),
        N::ReusePort => O::ReusePort(truth(libc::SOL_SOCKET, libc::SO_REUSEPORT)?),
        N::NoDelay => O::NoDelay(truth(libc::IPPROTO_TCP, libc::TCP_NODELAY)?),
        N::KeepAlive => O::KeepAlive(truth(libc::SOL_SOCKET, libc::SO_KEEPALIVE)?),
        N::KeepIdle => O::KeepIdle(seconds(libc::TCP_KEEPIDLE)?),
        N::KeepInterval => O::KeepInterval(seconds(libc::TCP_KEEPINTVL)?),
        N::KeepCount => O::KeepCount(number(libc::IPPROTO_TCP, libc::TCP_KEEPCNT)? as u32),
        N::UserTimeout => {
            let millis = number(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT)?;
            O::UserTimeout(Duration::from_millis(millis as u64))
        }
        N::Linger => {
            let linger: libc::linger = get(fd, libc::SOL_SOCKET, libc::SO_LINGER)?;
            O::Linger((linger.l_onoff != 0).then(|| Duration::from_secs(linger.l_linger as u64)))
        }
        N::SendBuffer => O::SendBuffer(number(libc::SOL_SOCKET, libc::SO_SNDBUF)? as u32),
        N::ReceiveBuffer => O::ReceiveBuffer(number(libc::SOL_SOCKET, libc::SO_RCVBUF)? as u32),
        N::V6Only => O::V6Only(truth(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)?),
        N::Error => {
            let errno = number(libc::SOL_SOCKET, libc::SO_ERROR)?;
            O::Error((errno != 0).then_some(Errno::from_raw(errno)))
        }
        N::Broadcast => O::Broadcast(truth(libc::SOL_SOCKET, libc::SO_BROADCAST)?),
        N::Type => match number(libc::SOL_SOCKET, libc::SO_TYPE)? {
            libc::SOCK_STREAM => O::Type(SocketKind::Stream),
            libc::SOCK_DGRAM => O::Type(SocketKind::Datagram),
            _ => return Err(Errno::NOPROTOOPT), // a stranger's socket, of a kind that this library has not
        },
        N::Domain => match number(libc::SOL_SOCKET, libc::SO_DOMAIN)? {
            libc::AF_INET => O::Domain(Domain::Inet),
            libc::AF_INET6 => O::Domain(Domain::Inet6),
            libc::AF_UNIX => O::Domain(Domain::Unix),
            _ => return Err(Errno::NOPROTOOPT),
        },
        N::AcceptConn => O::AcceptConn(truth(libc::SOL_SOCKET, libc::SO_ACCEPTCONN)?),
        N::PeerCredentials => {
            let libc::ucred { pid, uid, gid } = get(fd, libc::SOL_SOCKET, libc::SO_PEERCRED)?;
            O::PeerCredentials((pid != 0).then_some(Credentials { pid: pid as u32, uid, gid }))
        }
    })
}

pub(super) fn set_option(fd: Fd, option: SocketOption) -> Result<()> {
    use SocketOption as O;
    let number = |level, name, value: c_int| set(fd, level, name, value);
    let truth = |level, name, value: bool| set(fd, level, name, c_int::from(value));
    let seconds = |value: Duration| clamp(value.as_nanos().div_ceil(1_000_000_000));
    match option {
        O::ReuseAddr(on) => truth(libc::SOL_SOCKET, libc::SO_REUSEADDR, on),
        O::ReusePort(on) => truth(libc::SOL_SOCKET, libc::SO_REUSEPORT, on),
        O::NoDelay(on) => truth(libc::IPPROTO_TCP, libc::TCP_NODELAY, on),
        O::KeepAlive(on) => truth(libc::SOL_SOCKET, libc::SO_KEEPALIVE, on),
        O::KeepIdle(time) => number(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, seconds(time)),
        O::KeepInterval(time) => number(libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, seconds(time)),
        O::KeepCount(count) => number(libc::IPPROTO_TCP, libc::TCP_KEEPCNT, clamp(count)),
        O::UserTimeout(time) => {
            number(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, clamp(time.as_nanos().div_ceil(1_000_000)))
        }
        O::Linger(time) => {
            let l_linger = time.map_or(0, seconds);
            set(
                fd,
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                libc::linger { l_onoff: time.is_some().into(), l_linger },
            )
        }
        O::SendBuffer(bytes) => number(libc::SOL_SOCKET, libc::SO_SNDBUF, clamp(bytes)),
        O::ReceiveBuffer(bytes) => number(libc::SOL_SOCKET, libc::SO_RCVBUF, clamp(bytes)),
        O::V6Only(on) => truth(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, on),
        O::Error(errno) => number(libc::SOL_SOCKET, libc::SO_ERROR, errno.map_or(0, Errno::raw)),
        O::Broadcast(on) => truth(libc::SOL_SOCKET, libc::SO_BROADCAST, on),
        // Read only: Linux says so, whatever the value.
        O::Type(_) => number(libc::SOL_SOCKET, libc::SO_TYPE, 0),
        O::Domain(_) => number(libc::SOL_SOCKET, libc::SO_DOMAIN, 0),
        O::AcceptConn(on) => truth(libc::SOL_SOCKET, libc::SO_ACCEPTCONN, on),
        O::PeerCredentials(_) => number(libc::SOL_SOCKET, libc::SO_PEERCRED, 0),
    }
}

/// What options are made of: any bytes are a value, and there is no padding.
trait Plain: Copy {}
impl Plain for c_int {}
impl Plain for libc::linger {}
impl Plain for libc::ucred {}

fn get<T: Plain>(fd: Fd, level: c_int, name: c_int) -> Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as socklen_t;
    let pointer = value.as_mut_ptr().cast::<c_void>();
    // SAFETY: `value` has room for `len` bytes.
    unsafe { syscall!(Getsockopt: getsockopt(fd.raw(), level, name, pointer, &mut len)) }?;
    // SAFETY: any bytes are a Plain value: those the kernel wrote, and zeros where it wrote less.
    Ok(unsafe { value.assume_init() })
}

fn set<T: Plain>(fd: Fd, level: c_int, name: c_int, value: T) -> Result<()> {
    let pointer = (&raw const value).cast::<c_void>();
    // SAFETY: `value` lives through the call and has the length given.
    unsafe { syscall!(Setsockopt: setsockopt(fd.raw(), level, name, pointer, size_of::<T>() as socklen_t)) }
        .map(drop)
}

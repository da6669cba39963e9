//! Addresses of a scene: how a body names them, what a kernel is given, and how a line shows what it answered.
//!
//! Ports are named by the socket that has them, for the kernel chooses them; the scene's own loopback address is `own`.
//! Paths and abstract names of Unix sockets are numbered; the scene has a directory and a prefix of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use machinarium::kernel::{Address, UnixName};

use crate::scene::{Name, Scene};

/// An address as an argument. All are of this host, or cannot be bound.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    /// The scene's own address; the kernel chooses the port.
    Own,
    /// Every address; the kernel chooses the port.
    Any,
    /// Where that socket is; `Nobody` if it is nowhere.
    Of(Name),
    /// Its port on the scene's address, or one that the kernel chooses. Other programs leave ports of 127.0.0.1 in
    /// TIME_WAIT.
    Near(Name),
    /// The scene's address, with the port that the socket had when it was open.
    Left(Name),
    /// The same port on 127.0.0.1.
    Beside(Name),
    /// Port 1 of the scene's address, where nobody listens.
    Nobody,
    /// An address of another host, which is never sent anything: only for `bind`.
    Foreign,
    /// `[::1]`; the kernel chooses the port.
    Own6,
    /// Every address of both families; the kernel chooses the port.
    Any6,
    /// Where that IPv4 socket is, as IPv6 writes it.
    Mapped(Name),
    /// Port 0 of the scene's address, as a destination.
    NoPort,
    /// Everybody on loopback.
    LocalBroadcast,
    /// A path of the scene's directory.
    Path(u8),
    /// An abstract name.
    Named(u8),
    /// No name at all: to bind it has the kernel choose an abstract one.
    Unnamed,
}

/// What a scene knows of addresses.
pub(crate) struct Places {
    pub(crate) own: Ipv4Addr,
    /// Who has a port, of datagram sockets and of others.
    ports: BTreeMap<(bool, u16), Name>,
}

impl Places {
    pub(crate) fn new(own: Ipv4Addr) -> Places {
        Places { own, ports: BTreeMap::new() }
    }

    /// The directory of the scene, which is there while the scene is played.
    pub(crate) fn directory(&self) -> String {
        format!("/tmp/machinarium-{}-{}", std::process::id(), self.own)
    }

    pub(crate) fn path(&self, number: u8) -> String {
        format!("{}/{number}", self.directory())
    }

    fn prefix(&self) -> String {
        format!("machinarium {} {} ", std::process::id(), self.own)
    }

    /// A Unix name by the number that it was given.
    fn unix(&self, name: &UnixName) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match (name.as_path().map(text), name.as_abstract().map(text)) {
            (Some(path), _) => match path.strip_prefix(&format!("{}/", self.directory())) {
                Some(number) => format!("path {number}"),
                None => path,
            },
            (_, Some(name)) => match name.strip_prefix(&self.prefix()) {
                Some(number) => format!("name {number}"),
                // Five digits that are drawn.
                None => format!("a chosen name of {} bytes", name.len()),
            },
            _ => "unnamed".to_owned(),
        }
    }

    /// An address that a socket of that kind has answered.
    pub(crate) fn shown(&self, datagram: bool, address: Address) -> String {
        let address = match address {
            Address::Ip(address) => address,
            Address::Unix(name) => return self.unix(&name),
        };
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip == self.own => "own".to_owned(),
            IpAddr::V6(ip) if ip.to_ipv4_mapped() == Some(self.own) => "own, mapped".to_owned(),
            ip => ip.to_string(),
        };
        match (address.port(), self.ports.get(&(datagram, address.port()))) {
            (0, _) => format!("{ip}, no port"),
            (_, Some(name)) => format!("{ip}, port of {name}"),
            (_, None) => format!("{ip}, some port"),
        }
    }
}

impl Scene {
    pub(crate) fn resolve(&self, to: To) -> Address {
        let at = |ip: Ipv4Addr, port: u16| SocketAddr::new(IpAddr::V4(ip), port);
        let own = self.places.own;
        Address::Ip(match to {
            To::Own | To::NoPort => at(own, 0),
            To::Any => at(Ipv4Addr::UNSPECIFIED, 0),
            To::Of(name) => match self.kernel.getsockname(self.fd(name)) {
                Ok(unix @ Address::Unix(_)) => return unix,
                _ => self.place(name),
            },
            To::Near(name) => at(own, self.found(name).map_or(0, |found| found.port())),
            To::Left(name) => at(own, self.port_of(name)),
            To::Beside(name) => at(Ipv4Addr::new(127, 0, 0, 1), self.place(name).port()),
            To::Nobody => at(own, 1),
            To::Foreign => at(Ipv4Addr::new(198, 18, 77, 1), 0),
            To::Own6 => SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0),
            To::Any6 => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
            To::Mapped(name) => match self.place(name) {
                SocketAddr::V4(found) => SocketAddr::new(found.ip().to_ipv6_mapped().into(), found.port()),
                found => found,
            },
            To::LocalBroadcast => at(Ipv4Addr::new(127, 255, 255, 255), 9),
            To::Path(number) => {
                return UnixName::path(self.places.path(number).as_bytes()).expect("a short path").into();
            }
            To::Named(number) => {
                let name = format!("{}{number}", self.places.prefix());
                return UnixName::abstract_name(name.as_bytes()).expect("a short name").into();
            }
            To::Unnamed => return UnixName::UNNAMED.into(),
        })
    }

    fn found(&self, name: Name) -> Option<SocketAddr> {
        let found = self.kernel.getsockname(self.fd(name)).ok()?.ip().ok()?;
        Some(found).filter(|found| found.port() != 0)
    }

    fn place(&self, name: Name) -> SocketAddr {
        self.found(name).unwrap_or(SocketAddr::new(self.places.own.into(), 1))
    }

    fn port_of(&self, name: Name) -> u16 {
        self.places.ports.iter().find(|(_, owner)| **owner == name).map_or(0, |((_, port), _)| *port)
    }

    /// The port of a socket that has just got one is known by its name.
    pub(crate) fn learn(&mut self, name: Name) {
        if let Ok(Address::Ip(address)) = self.kernel.getsockname(self.fd(name)) {
            let datagram = self.is_datagram(name);
            self.places.ports.insert((datagram, address.port()), name);
        }
    }
}

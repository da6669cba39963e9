//! Names and roles of Unix sockets: bind, listen, accept, connect, pairs, unlink.
//!
//! `connect` of a stream is done at once: the new connection is in the listener's queue, and can be written to before
//! anybody accepts it. It looks at the other end before it looks at its own socket, as Linux does: a connected socket
//! that connects to nobody is told of nobody.

use machinarium::kernel::{Address, Errno, Events, Fd, Result, SocketKind, UnixName};

use super::{State, credentials};
use crate::env::{Env, HostIndex, ProcessIndex};
use crate::files::File;
use crate::net::Net;
use crate::slab::Key;

/// net.core.somaxconn.
const BACKLOG_MOST: u32 = 4_096;

impl Net {
    /// `unix_bind`.
    pub(crate) fn bind_unix(&mut self, key: Key, address: &Address) -> Result<()> {
        let Address::Unix(name) = address else { return Err(Errno::INVAL) };
        let socket = &self.unixes[key];
        let (host, datagram) = (socket.host, socket.kind == SocketKind::Datagram);
        let named = !socket.name.is_unnamed();
        let disk = &mut self.disks[host.0 as usize];
        if let Some(path) = name.as_path() {
            // The file is made first, and a socket that has a name is found out afterwards.
            disk.check_vacant(path)?;
        }
        if named {
            return if name.is_unnamed() { Ok(()) } else { Err(Errno::INVAL) };
        }
        let names = &mut self.hosts[host.0 as usize].unix;
        let name = match (name.as_path(), name.as_abstract()) {
            (Some(path), _) => {
                disk.make_socket(path, key)?;
                *name
            }
            (_, Some(bytes)) if names.names.contains_key(&(datagram, bytes.to_vec())) => {
                return Err(Errno::ADDRINUSE);
            }
            (_, Some(bytes)) => {
                names.names.insert((datagram, bytes.to_vec()), key);
                *name
            }
            _ => names.choose(datagram, key),
        };
        let socket = &mut self.unixes[key];
        socket.name = name;
        socket.bound = true;
        Ok(())
    }

    /// `unix_find_other`.
    pub(super) fn find_unix(&self, host: HostIndex, kind: SocketKind, to: &Address) -> Result<Key> {
        let Address::Unix(name) = to else { return Err(Errno::INVAL) };
        let names = &self.host(host).unix;
        match (name.as_path(), name.as_abstract()) {
            (Some(path), _) => {
                let key = self.disks[host.0 as usize].socket(path)?;
                let socket = self.unixes.get(key).filter(|socket| !socket.dead).ok_or(Errno::CONNREFUSED)?;
                if socket.kind == kind { Ok(key) } else { Err(Errno::PROTOTYPE) }
            }
            (_, Some(bytes)) => {
                let entry = (kind == SocketKind::Datagram, bytes.to_vec());
                names.names.get(&entry).copied().ok_or(Errno::CONNREFUSED)
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// `unix_listen`; again on a listener, it changes the backlog.
    pub(crate) fn listen_unix(&mut self, process: ProcessIndex, key: Key, backlog: u32) -> Result<()> {
        let socket = &mut self.unixes[key];
        if socket.kind != SocketKind::Stream {
            return Err(Errno::OPNOTSUPP);
        }
        if socket.name.is_unnamed() || socket.state == State::Connected {
            return Err(Errno::INVAL);
        }
        socket.state = State::Listen;
        socket.limit = backlog.min(BACKLOG_MOST) as usize;
        socket.credentials = Some(credentials(process));
        Ok(())
    }

    /// `unix_accept`.
    pub(crate) fn accept_unix(&mut self, process: ProcessIndex, key: Key) -> Result<(Fd, UnixName)> {
        let socket = &mut self.unixes[key];
        if socket.kind != SocketKind::Stream {
            return Err(Errno::OPNOTSUPP);
        }
        if socket.state != State::Listen {
            return Err(Errno::INVAL);
        }
        let child = socket.backlog.pop_front().ok_or(Errno::AGAIN)?;
        let fd = self.table_mut(process).insert(File::Unix(child)).expect("room was checked");
        let peer = self.unixes[child].peer.expect("who has connected is the peer, dead or not");
        Ok((fd, self.unixes[peer].name))
    }

    /// `unix_stream_connect` and `unix_dgram_connect`.
    pub(crate) fn connect_unix(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        key: Key,
        address: &Address,
    ) -> Result<()> {
        let socket = &self.unixes[key];
        let other = self.find_unix(socket.host, socket.kind, address)?;
        match socket.kind {
            SocketKind::Stream => self.connect_unix_stream(env, process, key, other),
            SocketKind::Datagram => self.connect_unix_datagram(env, key, other),
        }
    }

    fn connect_unix_stream(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        key: Key,
        listener: Key,
    ) -> Result<()> {
        let other = &self.unixes[listener];
        if other.state != State::Listen || other.shut.receive {
            return Err(Errno::CONNREFUSED);
        }
        if other.backlog.len() > other.limit {
            return Err(Errno::AGAIN);
        }
        match self.unixes[key].state {
            State::Closed => {}
            State::Connected => return Err(Errno::ISCONN),
            State::Listen => return Err(Errno::INVAL),
        }
        let (host, name, served) = (other.host, other.name, other.credentials);
        let child = self.new_unix(host, SocketKind::Stream);
        self.pair(key, child);
        self.unixes[key].credentials = served;
        let new = &mut self.unixes[child];
        new.name = name;
        new.credentials = Some(credentials(process));
        self.unixes[listener].backlog.push_back(child);
        self.notify(env, File::Unix(listener), Events::IN.with(Events::PRI));
        Ok(())
    }

    fn connect_unix_datagram(&mut self, env: &mut dyn Env, key: Key, other: Key) -> Result<()> {
        if !self.may_send(key, other) {
            return Err(Errno::PERM);
        }
        let old = self.unixes[key].peer;
        if old.is_some() {
            // Nobody waits for the old peer's room any more.
            self.notify(env, File::Unix(key), Events::OUT);
        }
        if old == Some(other) {
            return Ok(());
        }
        self.unixes[key].state = State::Connected;
        self.unixes[other].referrers += 1;
        if let Some(old) = old {
            self.leave_peer(env, key, old);
        }
        self.unixes[key].peer = Some(other);
        Ok(())
    }

    /// Whether a datagram from the one to the other is let through: not to who is connected to somebody else.
    pub(super) fn may_send(&self, key: Key, other: Key) -> bool {
        self.unixes[other].peer.is_none_or(|peer| peer == key)
    }

    /// Makes each the other's peer.
    fn pair(&mut self, one: Key, two: Key) {
        for (key, peer) in [(one, two), (two, one)] {
            let socket = &mut self.unixes[key];
            socket.state = State::Connected;
            socket.peer = Some(peer);
            socket.referrers += 1;
        }
    }

    /// `socketpair(2)`.
    pub(crate) fn socketpair(
        &mut self,
        _env: &mut dyn Env,
        process: ProcessIndex,
        kind: SocketKind,
    ) -> Result<(Fd, Fd)> {
        self.table(process).check_room()?;
        let host = self.processes[process.0 as usize].host;
        let pair = [self.new_unix(host, kind), self.new_unix(host, kind)];
        let first = self.table_mut(process).insert(File::Unix(pair[0])).expect("room was checked");
        let Ok(second) = self.table_mut(process).insert(File::Unix(pair[1])) else {
            self.table_mut(process).remove(first).expect("just made");
            for key in pair {
                self.unixes.remove(key);
            }
            return Err(Errno::MFILE);
        };
        self.pair(pair[0], pair[1]);
        for key in pair {
            self.unixes[key].credentials = Some(credentials(process));
        }
        Ok((first, second))
    }

    /// `getpeername`: the peer's name, also of one that is gone.
    pub(crate) fn peer_of_unix(&self, key: Key) -> Result<UnixName> {
        let peer = self.unixes[key].peer.ok_or(Errno::NOTCONN)?;
        Ok(self.unixes[peer].name)
    }
}

impl super::UnixNames {
    /// `unix_autobind`: five digits that nobody has.
    fn choose(&mut self, datagram: bool, key: Key) -> UnixName {
        loop {
            self.chosen = (self.chosen + 1) & 0xf_ffff;
            let bytes = format!("{:05x}", self.chosen).into_bytes();
            let name = UnixName::abstract_name(&bytes).expect("five bytes");
            let entry = self.names.entry((datagram, bytes));
            if let std::collections::btree_map::Entry::Vacant(entry) = entry {
                entry.insert(key);
                return name;
            }
        }
    }

    /// The socket of that abstract name is gone.
    pub(super) fn forget(&mut self, datagram: bool, name: &UnixName) {
        if let Some(bytes) = name.as_abstract() {
            self.names.remove(&(datagram, bytes.to_vec()));
        }
    }
}

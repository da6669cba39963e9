//! Unix sockets and what outlives them: names after a crash and without power, dead peers, the books.

use machinarium::kernel::{Address, Domain, Errno, Fd, Result, SocketKind, UnixName};

use super::Lab;
use crate::env::ProcessIndex;

fn path(text: &str) -> Address {
    UnixName::path(text.as_bytes()).expect("a short path").into()
}

fn abstract_name(text: &str) -> Address {
    UnixName::abstract_name(text.as_bytes()).expect("a short name").into()
}

impl Lab {
    fn unix(&mut self, p: ProcessIndex) -> Fd {
        self.net.socket(&mut self.env, p, Domain::Unix, SocketKind::Stream).expect("a socket")
    }

    fn listen_at(&mut self, p: ProcessIndex, at: &Address) -> Result<Fd> {
        let fd = self.unix(p);
        self.net.bind(&mut self.env, p, fd, at)?;
        self.listen(p, fd, 4)?;
        Ok(fd)
    }

    fn connect_to(&mut self, p: ProcessIndex, at: &Address) -> Result<Fd> {
        let fd = self.unix(p);
        self.net.connect(&mut self.env, p, fd, at).map(|()| fd)
    }
}

#[test]
fn a_crash_leaves_the_path_and_takes_the_abstract_name() {
    let mut lab = Lab::new();
    let host = lab.hosts[0];
    let (file, name) = (path("/run/x.sock"), abstract_name("x"));
    let server = lab.a;
    lab.listen_at(server, &file).expect("a free path");
    lab.listen_at(server, &name).expect("a free name");
    let client = lab.net.add_process(host);
    lab.connect_to(client, &file).expect("it listens");
    // Another host has names of its own.
    assert_eq!(lab.connect_to(lab.b, &file), Err(Errno::NOENT));
    assert_eq!(lab.connect_to(lab.b, &name), Err(Errno::CONNREFUSED));
    lab.net.crash_process(&mut lab.env, server);
    assert_eq!(lab.connect_to(client, &file), Err(Errno::CONNREFUSED));
    assert_eq!(lab.connect_to(client, &name), Err(Errno::CONNREFUSED));
    let again = lab.net.add_process(host);
    assert_eq!(lab.listen_at(again, &file), Err(Errno::ADDRINUSE));
    lab.listen_at(again, &name).expect("the name is free");
    // The file survives a power cut too.
    lab.net.power_off(&mut lab.env, host);
    lab.net.power_on(&mut lab.env, host);
    let late = lab.net.add_process(host);
    assert_eq!(lab.listen_at(late, &file), Err(Errno::ADDRINUSE));
    lab.net.unlink(late, c"/run/x.sock").expect("the file is there");
    lab.listen_at(late, &file).expect("the path is free");
    lab.connect_to(late, &file).expect("it listens");
}

#[test]
fn a_crash_of_the_peer_is_seen_at_once() {
    let mut lab = Lab::new();
    let (a, name) = (lab.a, abstract_name("x"));
    let listener = lab.listen_at(a, &name).expect("a free name");
    let other = lab.net.add_process(lab.hosts[0]);
    let [clean, unread] = [(); 2].map(|()| lab.connect_to(other, &name).expect("room"));
    let servers = [(); 2].map(|()| lab.accept(a, listener).expect("a connection"));
    lab.send(other, unread, b"never read").expect("room");
    lab.send(a, servers[0], b"last words").expect("room");
    lab.net.crash_process(&mut lab.env, a);
    lab.net.check_conservation();
    assert_eq!(lab.net.books().lost, 10);
    assert_eq!(lab.recv(other, clean).as_deref(), Ok(&b"last words"[..]));
    assert_eq!(lab.recv(other, clean).as_deref(), Ok(&b""[..]));
    assert_eq!(lab.events(other, unread), "IN|OUT|ERR|HUP|RDHUP");
    assert_eq!(lab.recv(other, unread), Err(Errno::CONNRESET));
    assert_eq!(lab.recv(other, unread).as_deref(), Ok(&b""[..]));
    assert_eq!(lab.send(other, unread, b"x"), Err(Errno::PIPE));
    lab.net.crash_process(&mut lab.env, other);
    assert_eq!(lab.net.unixes.iter().count(), 0, "{}", lab.net.netstat(lab.hosts[0]));
}

#[test]
fn a_host_without_power_forgets_its_sockets() {
    let mut lab = Lab::new();
    let a = lab.a;
    for kind in [SocketKind::Stream, SocketKind::Datagram] {
        let (one, two) = lab.net.socketpair(&mut lab.env, a, kind).expect("a pair");
        lab.send(a, one, b"to two").expect("room");
        lab.send(a, two, b"to one").expect("room");
        let epoll = lab.epoll(a);
        lab.add(a, epoll, one, machinarium::kernel::Events::IN).expect("an instance");
    }
    lab.net.power_off(&mut lab.env, lab.hosts[0]);
    lab.net.check_conservation();
    assert_eq!(lab.net.books().lost, 24);
    assert_eq!(lab.net.unixes.iter().count() + lab.net.items.iter().count(), 0);
}

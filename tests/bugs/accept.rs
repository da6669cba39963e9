//! M17. `accept4` tells of errors that the connection has had, which are no errors of the listener. The wrong server ends by them.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use machinarium::kernel::{Domain, EpollEvent, EpollOp, Errno, Events, Fd, Kernel, SocketKind, SocketOption};
use machinarium::net::TcpStream;
use machinarium::{sleep, timeout};
use machinarium_sim::World;

use crate::place::{events, send};
use crate::table::Twin;

const CLIENTS: usize = 8;

pub(crate) fn script(world: &World, twin: Twin) {
    let server = world.host("server").run_on_kernel(move |kernel| serve(&*kernel, twin));
    let client = world.host("client").run(|| machinarium::run(client));
    world.join(&client);
    server.crash();
}

/// Greets whoever comes.
fn serve(kernel: &dyn Kernel, twin: Twin) {
    let listener = kernel.socket(Domain::Inet, SocketKind::Stream).unwrap();
    kernel.setsockopt(listener, SocketOption::ReuseAddr(true)).unwrap();
    kernel.bind(listener, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7000)).into()).unwrap();
    kernel.listen(listener, 16).unwrap();
    let epoll = kernel.epoll_create1().unwrap();
    let event = EpollEvent { events: Events::IN, data: 0 };
    kernel.epoll_ctl(epoll, EpollOp::Add(event), listener).unwrap();
    loop {
        match kernel.accept4(listener) {
            Ok((fd, _)) => greet(kernel, fd),
            Err(Errno::AGAIN) => drop(events(kernel, epoll)),
            Err(Errno::INTR) => {}
            Err(_) if twin.is_wrong() => break,
            Err(_) => {}
        }
    }
    [listener, epoll].into_iter().for_each(|fd| kernel.close(fd).unwrap());
}

fn greet(kernel: &dyn Kernel, fd: Fd) {
    send(kernel, fd, b"hello").unwrap();
    kernel.close(fd).unwrap();
}

/// Wants to be greeted again and again; a connection that breaks is made again.
fn client() -> io::Result<()> {
    sleep(Duration::from_millis(10))?;
    let mut failures = 0;
    let mut greeted = 0;
    while greeted < CLIENTS {
        match greeting() {
            Ok(text) if text == "hello" => greeted += 1,
            _ => failures += 1,
        }
        assert!(failures < 100, "the server is gone");
    }
    Ok(())
}

fn greeting() -> io::Result<String> {
    timeout(Duration::from_secs(3), || {
        let mut text = String::new();
        TcpStream::connect("server:7000")?.read_to_string(&mut text)?;
        Ok(text)
    })
}

//! Every call that parks, left in both ways: by a cancellation, which it returns, and by the end of its machine, which unwinds it where it
//! waits. In both, what lies on the stack above the call is dropped, once; after the second the code behind the call is never reached.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::on_some;
use crate::tcp::{loopback, pair};
use crate::tls::{client, server, tls_pair};
use machinarium::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream, relay};
use machinarium::sync::{
    Barrier, Condvar, Event, Mutex, OnceCell, RwLock, Semaphore, WaitGroup, WaitList, channel,
};
use machinarium::{
    Builder, blocking, cancelled, machine, now, on_big_stack, run, scope, select, shield, sleep, spawn,
};

const LONG: Duration = Duration::from_secs(600);
/// Enough for a call to come to where it waits. Where the world is slower, it is left on its way there.
const SOON: Duration = Duration::from_millis(10);

/// Makes what it needs and then waits for what never comes.
type Site = (&'static str, fn() -> io::Result<()>);

const WAITS: [Site; 9] = [
    ("sleep", || Ok(sleep(LONG)?)),
    ("sleep_until", || Ok(machinarium::sleep_until(now() + LONG)?)),
    ("join", || Ok(spawn(|| drop(shield(|| sleep(LONG)))).join()?)),
    ("join_deadline", || Ok(spawn(|| drop(shield(|| sleep(LONG)))).join_deadline(now() + LONG)?)),
    ("join of a letter", || Ok(machine::current()?.spawn(|| drop(shield(|| sleep(LONG))))?.join()?)),
    ("join of a machine", || {
        let end = SetOnDrop(Event::new());
        let event = end.0.clone();
        Ok(machine::spawn("other", move || drop(event.wait()))?.join()?)
    }),
    ("a big stack", || Ok(on_big_stack(|| sleep(LONG))?)),
    ("blocking", || {
        let end = SetOnDrop(Event::new());
        let event = end.0.clone();
        Ok(blocking(move || drop(event.wait()))?)
    }),
    ("select", || {
        let (sender, receiver) = channel::bounded::<u8>(1);
        let event = Event::new();
        let result = select! {
            recv(receiver) -> _item => (),
            wait(event) => (),
            after(LONG) => (),
        };
        drop(sender);
        Ok(result?)
    }),
];

/// Children are unwound before their parent, which may see that and go on, to its next wait at most.
const FAMILIES: [Site; 2] = [
    ("scope", || scope(|scope| scope.spawn(|| Ok(sleep(LONG)?)).join()?)),
    ("the end of a scope", || {
        let mut result = Ok(());
        scope(|scope| drop(scope.spawn(|| result = sleep(LONG))));
        Ok(result?)
    }),
];

const MEETINGS: [Site; 15] = [
    ("recv", || {
        let (_sender, receiver) = channel::unbounded::<u8>();
        Ok(receiver.recv().map(drop)?)
    }),
    ("send", || {
        let (sender, _receiver) = channel::bounded(0);
        Ok(sender.send(1)?)
    }),
    ("recv of a local channel", || {
        let (_sender, receiver) = channel::local::unbounded::<u8>();
        Ok(receiver.recv().map(drop)?)
    }),
    ("send of a local channel", || {
        let (sender, _receiver) = channel::local::bounded(0);
        Ok(sender.send(1)?)
    }),
    ("mutex", || {
        let mutex = Mutex::new(());
        let _held = mutex.lock()?;
        mutex.lock().map(drop).map_err(io::Error::from)
    }),
    ("read lock", || {
        let lock = RwLock::new(());
        let _held = lock.write()?;
        lock.read().map(drop).map_err(io::Error::from)
    }),
    ("write lock", || {
        let lock = RwLock::new(());
        let _held = lock.read()?;
        lock.write().map(drop).map_err(io::Error::from)
    }),
    ("condition", || {
        let (mutex, condition) = (Mutex::new(()), Condvar::new());
        let held = mutex.lock()?;
        condition.wait(held).map(drop).map_err(io::Error::from)
    }),
    ("semaphore", || Semaphore::new(1).acquire_many(2).map(drop).map_err(io::Error::from)),
    ("event", || Ok(Event::new().wait()?)),
    ("barrier", || Ok(Barrier::new(2).wait().map(drop)?)),
    ("wait group", || {
        let group = WaitGroup::new();
        let _part = group.clone();
        Ok(group.wait()?)
    }),
    ("wait list", || Ok(WaitList::new(0).wait(0)?)),
    ("who makes the value of a cell", || {
        OnceCell::new().get_or_try_init(|| -> io::Result<()> { Ok(sleep(LONG)?) }).map(drop)
    }),
    ("who waits for the value of a cell", || {
        let cell = Arc::new(OnceCell::new());
        let theirs = cell.clone();
        let maker = spawn(move || drop(theirs.get_or_init(|| drop(shield(|| sleep(LONG))))));
        machinarium::yield_now();
        let result = cell.get_or_init(|| ()).map(drop).map_err(io::Error::from);
        drop(maker);
        result
    }),
];

const SOCKETS: [Site; 17] = [
    ("accept", || TcpListener::bind(loopback())?.accept().map(drop)),
    ("connect", || {
        // Its queue is soon full, and then there is no answer.
        let listener = TcpListener::builder().backlog(1).bind(loopback())?;
        let address = listener.local_addr()?;
        let mut queued = Vec::new();
        loop {
            queued.push(TcpStream::connect(address)?);
        }
    }),
    ("read", || with_silence(|mut stream| stream.read(&mut [0; 1]).map(drop))),
    ("read without readahead", || {
        with_silence(|mut stream| {
            stream.set_readahead(0);
            stream.read(&mut [0; 1]).map(drop)
        })
    }),
    ("read_exact", || with_silence(|stream| stream.read_exact(&mut [0; 1]))),
    ("read_until", || with_silence(|stream| stream.read_until(b'\n', &mut Vec::new()).map(drop))),
    ("peek", || with_silence(|stream| stream.peek(&mut [0; 1]).map(drop))),
    ("readable", || with_silence(|stream| Ok(select! { readable(stream) => (), }?))),
    ("write", || {
        with_silence(|stream| {
            loop {
                stream.write_all(&[0; 64 << 10])?;
            }
        })
    }),
    ("the turn of another reader", || {
        let (stream, _silent) = pair()?;
        let (stream, other) = {
            let stream = Rc::new(stream);
            (stream.clone(), stream)
        };
        spawn(move || drop(shield(|| other.read_exact(&mut [0; 1]))));
        machinarium::yield_now();
        stream.read_exact(&mut [0; 1])
    }),
    ("relay", || {
        let ((one, _silent), (other, _too)) = (pair()?, pair()?);
        Ok(relay(&one, &other).map(drop)?)
    }),
    ("a handshake", || {
        let (stream, _silent) = pair()?;
        client().build()?.connect(stream, "localhost").map(drop)
    }),
    ("read of TLS", || {
        let (stream, _silent) = tls_pair(&client().build()?, &server().build()?)?;
        (&stream).read(&mut [0; 1]).map(drop)
    }),
    ("accept of a Unix socket", || {
        let name = std::process::id();
        let name = format!("machinarium-{name}-unwinding");
        let name = machinarium::kernel::UnixName::abstract_name(name.as_bytes()).unwrap();
        UnixListener::bind_addr(&name)?.accept().map(drop)
    }),
    ("read of a Unix socket", || {
        let (stream, _silent) = UnixStream::pair()?;
        (&stream).read(&mut [0; 1]).map(drop)
    }),
    ("recv of datagrams", || UdpSocket::bind(loopback())?.recv(&mut [0; 1]).map(drop)),
    ("send of datagrams", || {
        let (socket, _silent) = UnixDatagram::pair()?;
        loop {
            socket.send(&[0; 1024])?;
        }
    }),
];

fn with_silence(body: impl FnOnce(TcpStream) -> io::Result<()>) -> io::Result<()> {
    let (stream, _silent) = pair()?;
    body(stream)
}

/// Lets go who waits elsewhere, when this call ends.
struct SetOnDrop(Event);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Counts how often it was dropped.
struct Guard(Rc<Cell<u32>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

fn cancel(what: &str, site: fn() -> io::Result<()>) -> io::Result<()> {
    let drops = Rc::new(Cell::new(0));
    let guard = Guard(drops.clone());
    let waiting = spawn(move || {
        let _guard = guard;
        site()
    });
    sleep(SOON)?;
    assert!(!waiting.is_finished(), "{what} does not wait");
    assert_eq!(drops.get(), 0, "{what}");
    waiting.cancel("not wanted").unwrap();
    let error = waiting.join()?.expect_err(what);
    let cause = cancelled(&error).unwrap_or_else(|| panic!("{what}: {error:?} is no cancellation"));
    assert_eq!(cause.cause(), "not wanted", "{what}");
    assert_eq!(drops.get(), 1, "{what}");
    Ok(())
}

fn unwind(what: &str, site: fn() -> io::Result<()>) -> bool {
    let (drops, reached) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let (guard, behind) = (Guard(drops.clone()), reached.clone());
    let result: io::Result<()> = Builder::new().grace(Duration::ZERO).run(move || {
        let waiting = spawn(move || {
            let _guard = guard;
            // A cancellation does not reach it.
            let _ = shield(site);
            behind.set(true);
        });
        sleep(SOON)?;
        assert!(!waiting.is_finished(), "{what} does not wait");
        Ok(())
    });
    result.unwrap();
    assert_eq!(drops.get(), 1, "{what}");
    !reached.get()
}

fn leave_each(sites: &'static [Site], may_return: bool) {
    on_some(50, 10, move |_| {
        for (what, site) in sites {
            run(|| cancel(what, *site)).unwrap();
            assert!(unwind(what, *site) || may_return, "{what} has returned");
        }
    });
}

#[test]
fn every_wait_is_left() {
    leave_each(&WAITS, false);
    leave_each(&FAMILIES, true);
}

#[test]
fn every_wait_for_another_coroutine_is_left() {
    leave_each(&MEETINGS, false);
}

#[test]
fn every_wait_for_a_socket_is_left() {
    leave_each(&SOCKETS, false);
}

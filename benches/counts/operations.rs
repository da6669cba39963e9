//! The operations that are counted: what they need is made first, then some are done to warm up, then the counted ones.

use std::cell::Cell;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use machinarium::net::{TcpListener, TcpStream};
use machinarium::sync::{Mutex, channel};
use machinarium::{Message, machine, select, spawn, timeout, yield_now};

use crate::mark::mark;

/// How many rounds are counted.
pub(crate) const ROUNDS: u32 = 500;
const WARM_UP: u32 = 50;
/// Messages of a stream between two moments at which the receiver has its turn.
const BURST: u32 = 64;
const HOUR: Duration = Duration::from_secs(3600);

/// Something of which so many are done in a round.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) each_round: u32,
    /// Whether threads race in it, so that its system calls on Linux vary.
    pub(crate) races: bool,
    /// Runs on a machine, and calls [`mark`] twice.
    pub(crate) run: fn() -> io::Result<()>,
}

/// All, in the order of the table.
pub(crate) const OPERATIONS: &[Operation] = &[
    operation("yield, 2 coroutines", 2, || yields(2)),
    operation("yield, 256 coroutines", 256, || yields(256)),
    operation("spawn and join", 1, spawn_and_join),
    operation("channel, round trip", 1, ping_pong),
    operation("channel, message of a stream", BURST, stream),
    operation("local channel, round trip", 1, local_ping_pong),
    operation("local channel, message of a stream", BURST, local_stream),
    operation("channel, round trip with a timeout", 1, || ping_pong_with_timeout(0)),
    operation("the same, 10,000 timers pending", 1, || ping_pong_with_timeout(10_000)),
    operation("timeout around what does not wait", 1, empty_timeout),
    operation("mutex, lock and unlock", 1, lock),
    operation("mutex, handed over", 2, contend),
    operation("select of two, round trip", 1, select_of_two),
    operation("message of 64 bytes, made, sent and dropped", 1, message),
    operation("TCP echo, 64 bytes, both sides", 1, echo),
    race("channel between machines, round trip", 1, cross_ping_pong),
    race("channel between machines, message of a stream", BURST, cross_stream),
];

const fn operation(name: &'static str, each_round: u32, run: fn() -> io::Result<()>) -> Operation {
    Operation { name, each_round, races: false, run }
}

const fn race(name: &'static str, each_round: u32, run: fn() -> io::Result<()>) -> Operation {
    Operation { name, each_round, races: true, run }
}

fn counted(mut round: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    (0..WARM_UP).try_for_each(|_| round())?;
    mark();
    (0..ROUNDS).try_for_each(|_| round())?;
    mark();
    Ok(())
}

fn yields(count: u32) -> io::Result<()> {
    let stop = Rc::new(Cell::new(false));
    for _ in 1..count {
        let stop = stop.clone();
        spawn(move || {
            while !stop.get() {
                yield_now();
            }
        });
    }
    counted(|| {
        yield_now();
        Ok(())
    })?;
    stop.set(true);
    Ok(())
}

fn spawn_and_join() -> io::Result<()> {
    counted(|| {
        spawn(|| ()).join()?;
        Ok(())
    })
}

fn ping_pong() -> io::Result<()> {
    let (there, requests) = channel::unbounded::<u64>();
    let (answers, here) = channel::unbounded();
    spawn(move || requests.iter().try_for_each(|request| answers.send(request)));
    counted(|| {
        there.send(1)?;
        here.recv()?;
        Ok(())
    })
}

fn stream() -> io::Result<()> {
    let (sender, receiver) = channel::unbounded::<u64>();
    spawn(move || receiver.iter().sum::<u64>());
    counted(|| {
        (0..BURST).try_for_each(|_| sender.send(1))?;
        yield_now();
        Ok(())
    })
}

fn local_ping_pong() -> io::Result<()> {
    let (there, requests) = channel::local::unbounded::<u64>();
    let (answers, here) = channel::local::unbounded();
    spawn(move || requests.iter().try_for_each(|request| answers.send(request)));
    counted(|| {
        there.send(1)?;
        here.recv()?;
        Ok(())
    })
}

fn local_stream() -> io::Result<()> {
    let (sender, receiver) = channel::local::unbounded::<u64>();
    spawn(move || receiver.iter().sum::<u64>());
    counted(|| {
        (0..BURST).try_for_each(|_| sender.send(1))?;
        yield_now();
        Ok(())
    })
}

fn ping_pong_with_timeout(pending: u32) -> io::Result<()> {
    for number in 0..pending {
        spawn(move || machinarium::sleep(HOUR + Duration::from_millis(number.into())));
    }
    let (there, requests) = channel::unbounded::<u64>();
    let (answers, here) = channel::unbounded();
    spawn(move || requests.iter().try_for_each(|request| answers.send(request)));
    counted(|| {
        there.send(1)?;
        timeout(HOUR, || here.recv())?;
        Ok(())
    })
}

fn empty_timeout() -> io::Result<()> {
    counted(|| {
        timeout(HOUR, || ());
        Ok(())
    })
}

fn lock() -> io::Result<()> {
    let mutex = Mutex::new(0);
    counted(|| {
        *mutex.lock()? += 1;
        Ok(())
    })
}

/// Two that hold the lock while the other one wants it.
fn contend() -> io::Result<()> {
    let mutex = Rc::new(Mutex::new(false));
    let theirs = mutex.clone();
    spawn(move || -> io::Result<()> {
        loop {
            let stop = theirs.lock()?;
            if *stop {
                return Ok(());
            }
            yield_now();
        }
    });
    counted(|| {
        let _stop = mutex.lock()?;
        yield_now();
        Ok(())
    })?;
    *mutex.lock()? = true;
    Ok(())
}

fn select_of_two() -> io::Result<()> {
    let (there, requests) = channel::unbounded::<u64>();
    let (odd, first) = channel::unbounded();
    let (even, second) = channel::unbounded();
    spawn(move || {
        requests.iter().try_for_each(|request| if request % 2 == 1 { &odd } else { &even }.send(request))
    });
    let mut number = 0;
    counted(|| {
        number += 1;
        there.send(number)?;
        select! {
            recv(first) -> answer => assert!(answer.is_ok()),
            recv(second) -> answer => assert!(answer.is_ok()),
        }?;
        Ok(())
    })
}

fn message() -> io::Result<()> {
    let (sender, receiver) = channel::unbounded();
    counted(|| {
        sender.send(Message::copy(1_u32, &[7; 64]))?;
        drop(receiver.recv()?);
        Ok(())
    })
}

fn echo() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    spawn(move || -> io::Result<()> {
        let (stream, _) = listener.accept()?;
        let mut buffer = [0; 1024];
        loop {
            match Read::read(&mut &stream, &mut buffer)? {
                0 => return Ok(()),
                count => stream.write_all(&buffer[..count])?,
            }
        }
    });
    let stream = TcpStream::connect(address)?;
    counted(|| {
        stream.write_all(&[7; 64])?;
        stream.read_exact(&mut [0; 64])?;
        Ok(())
    })
}

fn cross_ping_pong() -> io::Result<()> {
    let (there, requests) = channel::unbounded::<u64>();
    let (answers, here) = channel::unbounded();
    let other =
        machine::spawn("other", move || requests.iter().try_for_each(|request| answers.send(request)))?;
    counted(|| {
        there.send(1)?;
        here.recv()?;
        Ok(())
    })?;
    drop(there);
    other.join()??;
    Ok(())
}

/// The other machine says so when it has had a burst.
fn cross_stream() -> io::Result<()> {
    let (there, numbers) = channel::unbounded::<u32>();
    let (acknowledge, here) = channel::unbounded();
    let other = machine::spawn("other", move || {
        numbers.iter().filter(|number| number + 1 == BURST).try_for_each(|number| acknowledge.send(number))
    })?;
    counted(|| {
        (0..BURST).try_for_each(|number| there.send(number))?;
        here.recv()?;
        Ok(())
    })?;
    drop(there);
    other.join()??;
    Ok(())
}

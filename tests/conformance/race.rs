//! Random races: threads of one process make a few calls each, on the same descriptors, at the same time.
//!
//! A call of the simulated kernel is one step: what a thread is answered while another one calls is what some order of the steps gives.
//! Here that is asked of Linux. What the threads were answered there, and what is left in the sockets when they have ended, must be what
//! the simulation answers to one thread that makes all the calls in some order, each thread's in its own.
//!
//! That holds for sending and receiving, and for eventfds. It does not for the rest, as was found here. `shutdown` is no single step: of a Unix socket it
//! ends its own end first and then the other, and a `send` that has looked before it may put its bytes down after it. And readiness and FIONREAD
//! are looked at without a lock: they may be of a moment that no order of the calls has.
//!
//! On a busy machine Linux delivers on loopback after a call has returned. So when no order will do with each call's effect
//! delivered before the next call, orders are drawn, with pauses for delivery between some of the calls only.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use machinarium::kernel::{
    Domain, Fd, Kernel, OptionName, RecvFlags, Result, SendFlags, SocketKind, ThreadOptions,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::place::To;
use crate::scene::{Name, Scene, Tally};
use crate::sequence::shorten;
use crate::stage::{self, Difference};

/// How many calls there are, of all threads.
const CALLS: usize = 6;
const MOST_THREADS: usize = 3;
/// How many orders with pauses are drawn when none without will do.
const DRAWN: u64 = 2_000;
/// Time for the simulated loopback to deliver.
const DELIVERY: Duration = Duration::from_micros(200);
/// How often a race that was answered strangely is run again without some of its calls, before they count as innocent.
const AGAIN: usize = 20;

/// One call of a thread. `end` is one of the two ends of a connection.
#[derive(Clone, Copy, Debug)]
enum Act {
    Send { end: usize, len: usize },
    Recv { end: usize, len: usize, peek: bool },
    Error { end: usize },
    Add,
    Take,
}

/// A call, and which thread makes it.
#[derive(Clone, Copy, Debug)]
struct Part {
    thread: usize,
    act: Act,
}

/// What the threads call on: the ends of a connection, and an eventfd.
#[derive(Clone, Copy)]
struct Props {
    ends: [Fd; 2],
    event: Fd,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Tcp,
    Stream,
    Datagram,
}

/// Runs the race of that seed; one that no order explains is answered as a text, with as few calls as still show it.
pub(crate) fn check(seed: u64) -> std::result::Result<Tally, String> {
    let mut chance = Chance(ChaCha8Rng::seed_from_u64(seed));
    let kind = chance.one(&[Kind::Tcp, Kind::Stream, Kind::Datagram]);
    let threads = 2 + chance.below(MOST_THREADS - 1);
    let parts: Vec<Part> =
        (0..CALLS).map(|_| Part { thread: chance.below(threads), act: chance.act() }).collect();
    play(kind, &parts).map_err(|difference| {
        let often = |parts: &[Part]| (0..AGAIN).try_fold(Tally::new(), |_, _| play(kind, parts));
        let (parts, difference) = shorten(parts, difference, often);
        format!("race {seed}, {kind:?}, shortened to {parts:#?}:\n{}", difference.report())
    })
}

fn play(kind: Kind, parts: &[Part]) -> std::result::Result<Tally, Difference> {
    let own = stage::address();
    let all = parts.to_vec();
    let (linux, tally) = stage::on_linux(own, Duration::ZERO, &|scene: &mut Scene| {
        let props = Props::new(scene, kind, Duration::ZERO);
        let answers = at_once(&scene.kernel, props, &all);
        scene.lines = told(&*scene.kernel, props, &answers);
    });
    let (all, wanted) = (parts.to_vec(), Arc::new(linux.clone()));
    let simulated = stage::simulated(0, own, Duration::ZERO, move |scene: &mut Scene| {
        scene.lines = explain(scene, kind, &all, &wanted);
    });
    if simulated == linux { Ok(tally) } else { Err(Difference { linux, simulated }) }
}

/// The threads of a race, each with a kernel of its own. What each was answered.
fn at_once(kernel: &Rc<dyn Kernel>, props: Props, parts: &[Part]) -> Vec<Vec<String>> {
    let count = 1 + parts.iter().map(|part| part.thread).max().unwrap_or(0);
    let waiting = Arc::new(AtomicU32::new(count as u32));
    let threads: Vec<_> = (0..count)
        .map(|thread| {
            let acts: Vec<Act> =
                parts.iter().filter(|part| part.thread == thread).map(|part| part.act).collect();
            let (waiting, answers) = (waiting.clone(), Arc::new(std::sync::OnceLock::new()));
            let told = answers.clone();
            let main = move |kernel: Rc<dyn Kernel>| {
                waiting.fetch_sub(1, SeqCst);
                while waiting.load(SeqCst) > 0 {
                    std::hint::spin_loop();
                }
                let mut player = Player { thread, sent: 0 };
                let answers: Vec<String> = acts.iter().map(|act| player.act(&*kernel, props, *act)).collect();
                told.set(answers).expect("told once");
            };
            (kernel.spawn(&ThreadOptions::default(), Box::new(main)).expect("a thread"), answers)
        })
        .collect();
    let join = |(thread, answers): (_, Arc<std::sync::OnceLock<Vec<String>>>)| {
        kernel.join(thread).expect("it does not panic");
        answers.get().cloned().expect("it has ended")
    };
    threads.into_iter().map(join).collect()
}

/// The transcript that is wanted, if some order of the calls gives it; else the one that is most like it.
fn explain(scene: &mut Scene, kind: Kind, parts: &[Part], wanted: &[String]) -> Vec<String> {
    let mut nearest = Vec::new();
    let mut chance = Chance(ChaCha8Rng::seed_from_u64(0));
    let orders = orders(parts);
    let drawn = (0..DRAWN).map(|_| (chance.below(orders.len()), chance.0.next_u32()));
    let drawn: Vec<(usize, u32)> = drawn.collect();
    // A bit for each call: whether it is delivered before the next.
    let settled = (0..orders.len()).map(|order| (order, u32::MAX));
    for (order, pauses) in settled.chain(drawn) {
        let lines = one_by_one(scene, kind, parts, &orders[order], pauses);
        if lines == wanted {
            return lines;
        }
        let like = |lines: &[String]| lines.iter().zip(wanted).filter(|(a, b)| a == b).count();
        if nearest.is_empty() || like(&lines) > like(&nearest) {
            nearest = lines;
        }
    }
    nearest
}

/// One thread makes all the calls in that order of the threads.
fn one_by_one(scene: &mut Scene, kind: Kind, parts: &[Part], order: &[usize], pauses: u32) -> Vec<String> {
    let props = Props::new(scene, kind, DELIVERY);
    let kernel = scene.kernel.clone();
    let mut acts: Vec<std::vec::IntoIter<Act>> = Vec::new();
    for thread in 0..=parts.iter().map(|part| part.thread).max().unwrap_or(0) {
        let own = parts.iter().filter(|part| part.thread == thread);
        acts.push(own.map(|part| part.act).collect::<Vec<_>>().into_iter());
    }
    let mut players: Vec<Player> = (0..acts.len()).map(|thread| Player { thread, sent: 0 }).collect();
    let mut answers = vec![Vec::new(); acts.len()];
    for (place, thread) in order.iter().enumerate() {
        let act = acts[*thread].next().expect("an order of these calls");
        answers[*thread].push(players[*thread].act(&*kernel, props, act));
        if pauses >> (place % 32) & 1 == 1 {
            scene.sleep(DELIVERY);
        }
    }
    scene.sleep(DELIVERY);
    let lines = told(&*kernel, props, &answers);
    scene.clear();
    lines
}

/// All orders in which the calls can be made, each thread's in its own: whose turn it is.
fn orders(parts: &[Part]) -> Vec<Vec<usize>> {
    fn extend(left: &mut [usize], order: &mut Vec<usize>, orders: &mut Vec<Vec<usize>>) {
        if left.iter().all(|count| *count == 0) {
            orders.push(order.clone());
        }
        for thread in 0..left.len() {
            if left[thread] > 0 {
                left[thread] -= 1;
                order.push(thread);
                extend(left, order, orders);
                order.pop();
                left[thread] += 1;
            }
        }
    }
    let mut left = [0; MOST_THREADS];
    parts.iter().for_each(|part| left[part.thread] += 1);
    let mut orders = Vec::new();
    extend(&mut left, &mut Vec::new(), &mut orders);
    orders
}

/// What each thread was answered, and what is left.
fn told(kernel: &dyn Kernel, props: Props, answers: &[Vec<String>]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (thread, answers) in answers.iter().enumerate() {
        lines.extend(answers.iter().map(|answer| format!("{thread}: {answer}")));
    }
    let mut buffer = [0; 4096];
    for (end, fd) in props.ends.iter().enumerate() {
        loop {
            let answer = kernel.recv(*fd, &mut buffer, RecvFlags::default());
            lines.push(format!("left in {end}: {}", bytes(answer, &buffer)));
            if answer.is_err() || answer == Ok(0) {
                break;
            }
        }
    }
    lines
}

impl Props {
    fn new(scene: &mut Scene, kind: Kind, delivery: Duration) -> Props {
        let ends = match kind {
            Kind::Tcp => connected(scene, delivery),
            Kind::Stream => scene.socketpair(SocketKind::Stream).into(),
            Kind::Datagram => scene.socketpair(SocketKind::Datagram).into(),
        };
        let event = scene.eventfd(0);
        Props { ends: ends.map(|name| scene.fd(name)), event: scene.fd(event) }
    }
}

fn connected(scene: &mut Scene, delivery: Duration) -> [Name; 2] {
    let (client, listener) = (scene.socket_of(Domain::Inet), scene.socket_of(Domain::Inet));
    scene.bind(listener, To::Own);
    scene.listen(listener, 8);
    scene.connect(client, To::Of(listener));
    scene.sleep(delivery);
    let server = scene.accept4(listener);
    scene.close(listener);
    [client, server]
}

/// A thread as it acts. What it sends says whose it is, and in which order.
struct Player {
    thread: usize,
    sent: u8,
}

impl Player {
    fn act(&mut self, kernel: &dyn Kernel, props: Props, act: Act) -> String {
        let mut buffer = [0; 4096];
        match act {
            Act::Send { end, len } => {
                let first = self.thread as u8 * 80 + self.sent;
                let bytes: Vec<u8> = (0..len as u8).map(|i| first + i).collect();
                self.sent += len as u8;
                let answer = kernel.send(props.ends[end], &bytes, SendFlags::default());
                format!("send({end}, {bytes:?}) = {answer:?}")
            }
            Act::Recv { end, len, peek } => {
                let flags = RecvFlags { peek, oob: false };
                let answer = kernel.recv(props.ends[end], &mut buffer[..len], flags);
                format!("recv({end}, {len}, {peek}) = {}", bytes(answer, &buffer))
            }
            Act::Error { end } => {
                format!("error({end}) = {:?}", kernel.getsockopt(props.ends[end], OptionName::Error))
            }
            Act::Add => {
                let number = 1 + 9 * self.thread as u64;
                format!("write(event, {number}) = {:?}", kernel.write(props.event, &number.to_ne_bytes()))
            }
            Act::Take => {
                let answer = kernel.read(props.event, &mut buffer[..8]);
                format!("read(event) = {}", bytes(answer, &buffer))
            }
        }
    }
}

fn bytes(answer: Result<usize>, buffer: &[u8]) -> String {
    answer.map_or_else(|errno| format!("{errno:?}"), |count| format!("{:?}", &buffer[..count]))
}

struct Chance(ChaCha8Rng);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0.next_u32() as usize % n
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn act(&mut self) -> Act {
        let end = self.below(2);
        match self.below(11) {
            0..4 => Act::Send { end, len: self.one(&[1, 2, 7]) },
            4..8 => Act::Recv { end, len: self.one(&[1, 3, 100]), peek: self.below(4) == 0 },
            8 => Act::Error { end },
            9 => Act::Add,
            _ => Act::Take,
        }
    }
}

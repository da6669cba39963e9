//! Histories of the library's own channels and locks, in worlds where machines lose the processor between any two operations: one order of
//! the calls explains all answers. And histories of objects with a mistake, which none does.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use machinarium::machine::spawn as spawn_machine;
use machinarium::shared::primitive::point;
use machinarium::sync::{Mutex, channel};
use machinarium::{JoinHandle, sleep, spawn};
use machinarium_sim::history::{
    Client, History, Lock, LockCall, Queue, QueueAnswer, QueueCall, Register, RegisterAnswer, RegisterCall,
    Verdict,
};
use machinarium_sim::{Check, Cpu, Durations, Fault, Faults, Simulation, World};

fn preempted() -> Faults {
    Faults::default().rate(Fault::Preempt, 20).with(Fault::Limits)
}

/// Runs `part` on three machines, in two coroutines of each, which get numbers from 0 to 5.
fn everywhere(part: impl Fn(u64) + Clone + Send + 'static) -> io::Result<()> {
    machinarium::run(|| {
        let two = move |first: u64| {
            let spawn_one = |number| {
                let part = part.clone();
                spawn(move || part(number))
            };
            let both: Vec<JoinHandle<()>> = (first..first + 2).map(spawn_one).collect();
            both.into_iter().for_each(|one| one.join().unwrap());
        };
        let others: Vec<_> = (1..3)
            .map(|machine| {
                let two = two.clone();
                spawn_machine("other", move || two(machine * 2))
            })
            .collect::<Result<_, _>>()?;
        two(0);
        others.into_iter().try_for_each(|machine| Ok(machine.join()?))
    })
}

/// A few pushes and pops of each kind; `pick` says which, as the seed has it.
fn push_and_pop(
    client: &Client<Queue<u64>>,
    sender: &channel::Sender<u64>,
    receiver: &channel::Receiver<u64>,
    number: u64,
    seed: u64,
) {
    for round in 0..6 {
        let pick = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left((number * 6 + round) as u32);
        let wait = Duration::from_micros(pick % 40);
        let item = number * 100 + round;
        if pick >> 8 & 1 == 0 {
            let push = client.begin(QueueCall::Push(item));
            match pick >> 9 & 1 {
                0 => match sender.try_send(item) {
                    Ok(()) => push.answered(QueueAnswer::Pushed),
                    Err(channel::TrySendError::Full(_)) => push.answered(QueueAnswer::Full),
                    Err(error) => panic!("{error}"),
                },
                // A timeout gives the item back: it is not in.
                _ => match sender.send_timeout(item, wait) {
                    Ok(()) => push.answered(QueueAnswer::Pushed),
                    Err(_) => push.refused(),
                },
            }
        } else {
            let pop = client.begin(QueueCall::Pop);
            match pick >> 9 & 1 {
                0 => match receiver.try_recv() {
                    Ok(item) => pop.answered(QueueAnswer::Popped(item)),
                    Err(channel::TryRecvError::Empty) => pop.answered(QueueAnswer::Empty),
                    Err(error) => panic!("{error}"),
                },
                // One that waited in vain has taken nothing.
                _ => match receiver.recv_timeout(wait) {
                    Ok(item) => pop.answered(QueueAnswer::Popped(item)),
                    Err(_) => pop.refused(),
                },
            }
        }
        sleep(Duration::from_micros(pick >> 20 & 7)).unwrap();
    }
}

fn queue_of_a_channel(world: &World, bound: usize) {
    let history = History::new(if bound == 0 { Queue::unbounded() } else { Queue::bounded(bound) });
    let (seed, book) = (world.random(u64::MAX), history.clone());
    let host = world.host("host").run(move || {
        let (sender, receiver) = if bound == 0 { channel::unbounded() } else { channel::bounded(bound) };
        let book = book.clone();
        everywhere(move |number| {
            let client = book.client(&format!("coroutine {number}"));
            push_and_pop(&client, &sender, &receiver, number, seed);
        })
    });
    world.join(&host);
    history.assert_linearizable();
}

#[test]
fn a_bounded_channel_is_a_queue() {
    for bound in [1, 3] {
        Check::new().seeds(150).faults(preempted()).run(move |world| queue_of_a_channel(world, bound));
    }
}

#[test]
fn an_unbounded_channel_is_a_queue_also_where_processors_are_loaded() {
    Check::new().seeds(150).faults(preempted()).cpu(Cpu::Loaded).run(|world| queue_of_a_channel(world, 0));
}

#[test]
fn a_mutex_is_a_lock_and_what_it_holds_a_register() {
    Check::new().seeds(200).faults(preempted()).run(|world| {
        let (lock, register) = (History::new(Lock), History::new(Register::new(0)));
        let (locks, values) = (lock.clone(), register.clone());
        let host = world.host("host").run(move || {
            let mutex = Arc::new(Mutex::new(0));
            let (locks, values) = (locks.clone(), values.clone());
            everywhere(move |number| {
                let name = format!("coroutine {number}");
                hold(&locks.client(&name), &values.client(&name), &mutex, number);
            })
        });
        world.join(&host);
        lock.assert_linearizable();
        register.assert_linearizable();
    });
}

/// Takes the lock in every way there is, and leaves its number in it.
fn hold(lock: &Client<Lock>, value: &Client<Register<u64>>, mutex: &Mutex<u64>, number: u64) {
    for round in 0..4 {
        let patient = round % 2 == 0;
        let call = if patient { LockCall::Lock(number) } else { LockCall::TryLock(number) };
        let taking = lock.begin(call);
        let guard = match (patient, number % 3) {
            (true, 0) => mutex.lock_timeout(Duration::from_micros(3 + number)).ok(),
            (true, _) => Some(mutex.lock().unwrap()),
            (false, _) => mutex.try_lock(),
        };
        taking.answered(guard.is_some());
        if let Some(mut guard) = guard {
            let before = *guard;
            value.call(RegisterCall::Read, || RegisterAnswer::Value(before));
            sleep(Duration::from_micros(round)).unwrap();
            let now = number * 10 + round;
            value.call(RegisterCall::Write(now), || {
                *guard = now;
                RegisterAnswer::Done
            });
            let giving_back = lock.begin(LockCall::Unlock(number));
            drop(guard);
            giving_back.answered(true);
        }
        sleep(Duration::from_micros(number)).unwrap();
    }
}

/// A queue of which the first item is looked at in one step and taken in another.
#[derive(Default)]
#[allow(clippy::disallowed_types, reason = "never held across a call of the kernel")]
struct Hasty(std::sync::Mutex<VecDeque<u64>>);

impl Hasty {
    fn push(&self, item: u64) {
        point();
        self.0.lock().unwrap().push_back(item);
    }

    fn pop(&self) -> Option<u64> {
        point();
        let first = self.0.lock().unwrap().front().copied();
        point();
        self.0.lock().unwrap().pop_front();
        first
    }
}

fn hasty(world: &World) -> History<Queue<u64>> {
    let history = History::new(Queue::unbounded());
    let book = history.clone();
    let host = world.host("host").run(move || {
        let (queue, book) = (Arc::new(Hasty::default()), book.clone());
        everywhere(move |number| {
            let client = book.client(&format!("coroutine {number}"));
            for round in 0..3 {
                let item = number * 10 + round;
                client.call(QueueCall::Push(item), || {
                    queue.push(item);
                    QueueAnswer::Pushed
                });
                client.call(QueueCall::Pop, || queue.pop().map_or(QueueAnswer::Empty, QueueAnswer::Popped));
            }
        })
    });
    world.join(&host);
    history
}

#[test]
fn a_queue_that_looks_first_and_takes_later_is_found_and_drawn() {
    let outcome = (1..200)
        .map(|seed| {
            let simulation = Simulation::new(seed).faults(Faults::none().rate(Fault::Preempt, 20));
            simulation.run(|world| hasty(world).assert_linearizable())
        })
        .find(|outcome| !outcome.passed())
        .expect("no seed takes what another has taken");
    let report = outcome.report("");
    for wanted in ["no order of the calls explains", "   X  coroutine", "Pop -> Popped(", "Push("] {
        assert!(report.contains(wanted), "{wanted} is missing in\n{report}");
    }
    // Without preemption, nobody comes between the two steps.
    for seed in 1..50 {
        let outcome = Simulation::new(seed).run(|world| hasty(world).assert_linearizable());
        assert!(outcome.passed(), "{}", outcome.report(""));
    }
}

/// A host that is killed leaves the calls open that it was in, each with the time at which it began.
#[test]
fn the_calls_of_a_host_that_was_killed_stay_open() {
    let outcome = Simulation::new(1).run(|world| {
        let history = History::new(Register::new(0));
        let (killed, other) = (history.client("killed"), history.client("other"));
        let host = world.host("host").run(move || {
            machinarium::run(|| {
                sleep(3.millis())?;
                let _open = killed.begin(RegisterCall::Write(1));
                sleep(3600.secs())?;
                io::Result::Ok(())
            })
        });
        world.sleep(5.millis());
        host.crash();
        // It may have been done, and stays so.
        for value in [0, 1, 1] {
            other.call(RegisterCall::Read, || RegisterAnswer::Value(value));
            world.sleep(1.millis());
        }
        history.assert_linearizable();
        let operations = history.operations();
        let open = operations.iter().find(|operation| operation.end.is_none()).expect("an open call");
        assert!((3.millis()..4.millis()).contains(&open.began.at), "{open:?}");
        assert!(operations[3].began.at >= 7.millis(), "{operations:?}");
        other.call(RegisterCall::Read, || RegisterAnswer::Value(0));
        assert!(matches!(history.check(), Verdict::Violated(_)));
    });
    assert!(outcome.passed(), "{}", outcome.report(""));
}

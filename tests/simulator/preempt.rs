//! Points: with preemption, threads take turns between any two operations on what they share.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use machinarium::kernel::{Kernel, Linux, ThreadOptions, Traced};
use machinarium::machine::current::{self, Starter, Tuning};
use machinarium::shared::park::{Cell, Claim, Meeting, Side, Ticket, meet};
use machinarium::shared::primitive::point;
use machinarium_sim::{Check, Cpu, Durations, FailureKind, Fault, Faults, Outcome, Simulation, World};

fn preempted() -> Faults {
    Faults::none().rate(Fault::Preempt, 20)
}

/// The first of `seeds` that fails, with what its report says.
fn first_failure(seeds: u64, faults: Faults, script: fn(&World)) -> Option<Outcome> {
    (1..=seeds).map(|seed| Simulation::new(seed).faults(faults).run(script)).find(|outcome| !outcome.passed())
}

/// Adds as one must not: another thread's addition between the two halves is lost.
fn add_badly(counter: &AtomicU64) {
    for _ in 0..20 {
        point();
        let value = counter.load(SeqCst);
        point();
        counter.store(value + 1, SeqCst);
    }
}

/// Two machines add to one counter.
fn lost_update(world: &World) {
    let host = world.host("host").run(|| {
        machinarium::run(|| {
            let counter = Arc::new(AtomicU64::new(0));
            let other = counter.clone();
            let worker = machinarium::machine::spawn("worker", move || add_badly(&other))?;
            machinarium::sleep(0.secs())?;
            add_badly(&counter);
            worker.join()?;
            assert_eq!(counter.load(SeqCst), 40, "an update is lost");
            std::io::Result::Ok(())
        })
    });
    world.join(&host);
}

#[test]
fn two_machines_take_turns_between_operations_on_what_they_share() {
    let found = first_failure(200, preempted(), lost_update).expect("no seed loses an update");
    assert!(found.report("").contains("an update is lost"), "{}", found.report(""));
    let without = first_failure(200, Faults::default(), lost_update);
    assert!(without.is_none(), "without points there is no turn: {}", without.unwrap().report(""));
}

/// A mailbox that asks for no letters and then says that it sleeps, in two steps: a letter between them wakes nobody.
#[derive(Default)]
struct Hasty {
    letters: AtomicU64,
    asleep: AtomicU32,
}

impl Hasty {
    fn receive(&self, kernel: &dyn Kernel) {
        loop {
            point();
            let letters = self.letters.load(SeqCst);
            if letters > 0 {
                self.letters.store(letters - 1, SeqCst);
                return;
            }
            point();
            self.asleep.store(1, SeqCst);
            let _ = kernel.futex_wait(&self.asleep, 1, None);
        }
    }

    fn send(&self, kernel: &dyn Kernel) {
        point();
        self.letters.fetch_add(1, SeqCst);
        point();
        if self.asleep.swap(0, SeqCst) == 1 {
            kernel.futex_wake(&self.asleep, 1);
        }
    }
}

/// One letter from one thread to another.
fn lost_wake_up(world: &World) {
    let host = world.host("host").run_on_kernel(|kernel: Rc<dyn Kernel>| {
        let mailbox = Arc::new(Hasty::default());
        let theirs = mailbox.clone();
        let receiver = move |kernel: Rc<dyn Kernel>| theirs.receive(&*kernel);
        let thread = kernel.spawn(&ThreadOptions::default(), Box::new(receiver)).unwrap();
        mailbox.send(&*kernel);
        kernel.join(thread).unwrap();
    });
    world.join(&host);
}

#[test]
fn a_lost_wake_up_between_two_operations_is_found() {
    let found = first_failure(1000, preempted(), lost_wake_up).expect("no seed loses the wake-up");
    assert_eq!(found.failure.as_ref().unwrap().kind, FailureKind::Stuck, "{}", found.report(""));
    assert!(first_failure(1000, Faults::default(), lost_wake_up).is_none());
}

/// Letters there and back, each to a machine that is just going to sleep.
#[test]
fn letters_meet_machines_that_go_to_sleep() {
    Check::new().seeds(200).faults(preempted().with(Fault::Latency)).run(|world| {
        let host = world.host("host").run(|| {
            machinarium::run(|| {
                let worker = machinarium::machine::spawn("worker", || machinarium::sleep(3600.secs()))?;
                let here = machinarium::machine::current()?;
                for round in 0..30 {
                    let home = here.clone();
                    let there =
                        worker.remote().spawn(move || home.spawn(move || round).unwrap().join().unwrap())?;
                    let answer = there.join()?;
                    assert_eq!(answer, round);
                }
                worker.stop("enough");
                let _ = worker.join();
                std::io::Result::Ok(())
            })
        });
        world.join(&host);
    });
}

/// Starts a thread whose machines are as they want to be.
struct Plain;

impl Starter for Plain {
    fn retune(&self, _tuning: &mut Tuning) {}

    fn panic_lost(&self, coroutine: u64, _name: &str) {
        panic!("coroutine {coroutine} panicked");
    }

    fn abort(&self, why: &str) -> ! {
        panic!("a machine aborts: {why}");
    }
}

/// How often two machines on the real kernel that send each other a few letters give their processor away.
fn yields_on_linux(preempt: bool) -> u64 {
    let yields = Arc::new(AtomicU64::new(0));
    let count = yields.clone();
    let sink = move |line: std::fmt::Arguments<'_>| {
        count.fetch_add(u64::from(line.to_string().starts_with("sched_yield")), SeqCst);
    };
    let kernel = Rc::new(Traced::new(Rc::new(Linux::new()), Arc::new(sink)));
    let sum = current::with_kernel(kernel, Rc::new(Plain), || {
        machinarium::Builder::new().preempt(preempt).run(|| {
            let worker = machinarium::machine::spawn("worker", || machinarium::sleep(3600.secs()))?;
            let mut sum = 0;
            for number in 0..10 {
                sum += worker.remote().spawn(move || number)?.join()?;
            }
            worker.stop("enough");
            let _ = worker.join();
            std::io::Result::Ok(sum)
        })
    });
    assert_eq!(sum.unwrap(), 45);
    yields.load(SeqCst)
}

#[test]
fn on_linux_a_point_is_a_sched_yield_where_a_machine_wants_it() {
    assert_eq!(yields_on_linux(false), 0);
    let yields = yields_on_linux(true);
    assert!(yields > 50, "{yields}");
    assert_eq!(yields_on_linux(false), 0, "also when another machine of the program has wanted it");
}

/// Two threads meet, again and again, while a third tries to claim the first one's wait, and the process is killed at any
/// moment. Nobody ever finds the lock that a meeting is, and nobody is left behind in one.
#[test]
fn no_turn_falls_inside_a_lock() {
    let seen = Arc::new(Seen::default());
    let place = seen.clone();
    Check::new().seeds(100).faults(preempted()).run(move |world| {
        let place = place.clone();
        let host = world.host("host").run_on_kernel(move |kernel: Rc<dyn Kernel>| meetings(&kernel, &place));
        world.sleep(world.random(300).micros());
        host.crash();
    });
    let (met, lost, busy) = (seen.met.load(SeqCst), seen.lost.load(SeqCst), seen.busy.load(SeqCst));
    assert!(met > 100 && lost > 100, "{met} meetings, {lost} of them lost to the rival");
    assert_eq!(busy, 0, "a point stands inside a lock");
}

#[allow(clippy::disallowed_types, reason = "never held across a call of the kernel")]
type Mutex<T> = std::sync::Mutex<T>;

/// How often which end of a meeting was seen.
#[derive(Default)]
struct Seen {
    met: AtomicU64,
    lost: AtomicU64,
    busy: AtomicU64,
}

/// For ever, or until it is killed.
fn meetings(kernel: &Rc<dyn Kernel>, seen: &Arc<Seen>) {
    let shared: Arc<([Cell; 2], Mutex<[Ticket; 2]>)> = Arc::default();
    let (theirs, count) = (shared.clone(), seen.clone());
    let rival = move |_: Rc<dyn Kernel>| {
        loop {
            point();
            let tickets = *theirs.1.lock().unwrap();
            for (cell, ticket) in theirs.0.iter().zip(tickets) {
                count.busy.fetch_add(u64::from(cell.try_claim(ticket) == Claim::Busy), SeqCst);
            }
        }
    };
    kernel.spawn(&ThreadOptions::default(), Box::new(rival)).unwrap();
    loop {
        let cells = &shared.0;
        let tickets = [cells[0].open(), cells[1].open()];
        *shared.1.lock().unwrap() = tickets;
        let [mine, theirs] =
            [0, 1].map(|place| Side { cell: &cells[place], ticket: tickets[place], rank: place as u64 });
        // As before the lock inside of which a select meets: the last turn that the rival gets.
        point();
        let end = if meet(mine, theirs) == Meeting::Met { &seen.met } else { &seen.lost };
        end.fetch_add(1, SeqCst);
        for side in [mine, theirs] {
            // What neither the meeting nor the rival has claimed is still open.
            side.cell.close(side.ticket);
            side.cell.finish(side.ticket);
        }
    }
}

/// Machines whose coroutines wait for another machine's letters end at once, again and again: some of these letters are
/// owed, since the wait is claimed already, and are then waited for.
fn owed_letters(pause: Duration) -> std::io::Result<()> {
    machinarium::Builder::new().grace(0.secs()).run(|| {
        for _ in 0..10 {
            let home = machinarium::machine::current()?;
            let worker = machinarium::machine::spawn("worker", move || {
                for _ in 0..10 {
                    let home = home.clone();
                    machinarium::spawn(move || home.spawn(|| ()).map(|remote| remote.join()));
                }
                machinarium::sleep(pause)
            })?;
            let _ = worker.join();
        }
        Ok(())
    })
}

#[test]
fn a_machine_that_ends_awaits_the_letters_that_it_is_owed() {
    // Long stalls, since whoever ends gives up after a hundred looks.
    let faults = Faults::none().rate(Fault::Preempt, 1000);
    Check::new().seeds(100).faults(faults).cpu(Cpu::Loaded).run(|world| {
        let host = world.host("host").run(|| owed_letters(1.millis()));
        world.join(&host);
    });
}

/// The world's end, or a crash, finds a thread that has claimed a wait and not written yet: it writes when it is reclaimed,
/// and nobody is left.
#[test]
fn a_world_that_ends_lets_owed_letters_be_written() {
    for seed in 1..400 {
        let outcome = Simulation::new(seed).faults(Faults::none().rate(Fault::Preempt, 5)).run(|world| {
            let host = world.host("host").run(|| owed_letters(4.micros()));
            world.sleep(world.random(300).micros());
            if world.random(2) == 0 {
                host.crash();
            }
        });
        assert!(outcome.passed(), "{}", outcome.report(""));
        assert_eq!(outcome.leaked, [""; 0], "seed {seed}");
    }
}

//! What a deadline costs: around a wait that ends well, so that it is armed and disarmed, while none or 100,000 others are pending; and around
//! what does not wait at all.
//!
//! `timer/N`: rounds of two that send each other a message, with a timeout around each receive and without, in turn; the difference of
//! both is the timer's, including the look at the clock that says when it ends.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::case::{Case, Metric, metric};
use crate::table::median;
use crate::window::{Stopwatch, on_machine, on_monoio, on_smol, on_tokio, timed, timed_async};

const HOUR: Duration = Duration::from_secs(3600);
const TRIPS: u32 = 1000;
const ROUNDS: u32 = 200;

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("timeout", "machinarium", machinarium_around_nothing),
        Case::new("timeout", "reading the clock", the_clock),
        Case::new("timeout", "tokio", tokio_around_nothing),
        Case::new("timeout", "monoio", monoio_around_nothing),
    ];
    for pending in [0, 100_000] {
        let group = format!("timer/{pending}");
        cases.push(Case::new(&group, "machinarium", move || machinarium(pending)));
        cases.push(Case::new(&group, "tokio", move || tokio(pending)));
        cases.push(Case::new(&group, "smol", move || smol(pending)));
    }
    cases
}

fn machinarium_around_nothing() -> Vec<Metric> {
    on_machine(|| timed(TRIPS, || (0..TRIPS).for_each(|_| machinarium::timeout(HOUR, || ()))))
}

/// Which every timeout does.
fn the_clock() -> Vec<Metric> {
    on_machine(|| {
        timed(TRIPS, || {
            for _ in 0..TRIPS {
                black_box(Instant::now());
            }
        })
    })
}

fn tokio_around_nothing() -> Vec<Metric> {
    on_tokio(timed_async(TRIPS, async || {
        for _ in 0..TRIPS {
            tokio::time::timeout(HOUR, async {}).await.expect("no time has passed");
        }
    }))
}

fn monoio_around_nothing() -> Vec<Metric> {
    on_monoio(timed_async(TRIPS, async || {
        for _ in 0..TRIPS {
            monoio::time::timeout(HOUR, async {}).await.expect("no time has passed");
        }
    }))
}

/// What rounds without and with a timeout have taken.
#[derive(Default)]
struct Spent([Vec<f64>; 2]);

impl Spent {
    fn add(&mut self, with: bool, start: Stopwatch) {
        self.0[usize::from(with)].push(start.elapsed().as_nanos() as f64 / f64::from(TRIPS));
    }

    /// The difference of the medians, since some rounds are interrupted.
    fn result(self) -> Vec<Metric> {
        let [without, with] = self.0.map(median);
        vec![metric("ns", with - without), metric("ns with the round trip", with)]
    }
}

fn later(number: u32) -> Duration {
    HOUR + Duration::from_millis(number.into())
}

fn machinarium(pending: u32) -> Vec<Metric> {
    on_machine(|| {
        for number in 0..pending {
            machinarium::spawn(move || machinarium::sleep(later(number)));
        }
        let (there, requests) = machinarium::sync::channel::local::unbounded::<u64>();
        let (answers, here) = machinarium::sync::channel::local::unbounded();
        machinarium::spawn(move || requests.iter().try_for_each(|request| answers.send(request)));
        let mut spent = Spent::default();
        for round in 0..ROUNDS {
            let start = Stopwatch::start();
            for _ in 0..TRIPS {
                there.send(1).expect("somebody receives");
                let answer =
                    if round % 2 == 0 { here.recv() } else { machinarium::timeout(HOUR, || here.recv()) };
                answer.expect("an answer");
            }
            spent.add(round % 2 == 1, start);
        }
        spent.result()
    })
}

fn tokio(pending: u32) -> Vec<Metric> {
    on_tokio(async move {
        for number in 0..pending {
            tokio::task::spawn_local(tokio::time::sleep(later(number)));
        }
        let (there, mut requests) = tokio::sync::mpsc::unbounded_channel::<u64>();
        let (answers, mut here) = tokio::sync::mpsc::unbounded_channel();
        tokio::task::spawn_local(async move {
            while let Some(request) = requests.recv().await {
                let _ = answers.send(request);
            }
        });
        let timing = async move {
            let mut spent = Spent::default();
            for round in 0..ROUNDS {
                let start = Stopwatch::start();
                for _ in 0..TRIPS {
                    there.send(1).expect("somebody receives");
                    let answer = if round % 2 == 0 {
                        here.recv().await
                    } else {
                        tokio::time::timeout(HOUR, here.recv()).await.expect("an hour has not passed")
                    };
                    answer.expect("an answer");
                }
                spent.add(round % 2 == 1, start);
            }
            spent.result()
        };
        tokio::task::spawn_local(timing).await.expect("no panic")
    })
}

fn smol(pending: u32) -> Vec<Metric> {
    on_smol(async move |executor| {
        for number in 0..pending {
            executor.spawn(async move { smol::Timer::after(later(number)).await }).detach();
        }
        let (there, requests) = smol::channel::unbounded::<u64>();
        let (answers, here) = smol::channel::unbounded();
        let answering = async move {
            while let Ok(request) = requests.recv().await {
                let _ = answers.send(request).await;
            }
        };
        executor.spawn(answering).detach();
        let timing = async move {
            let mut spent = Spent::default();
            for round in 0..ROUNDS {
                let start = Stopwatch::start();
                for _ in 0..TRIPS {
                    there.send(1).await.expect("somebody receives");
                    let answer = if round % 2 == 0 {
                        here.recv().await.ok()
                    } else {
                        let late = async {
                            smol::Timer::after(HOUR).await;
                            None
                        };
                        smol::future::or(async { here.recv().await.ok() }, late).await
                    };
                    answer.expect("an answer");
                }
                spent.add(round % 2 == 1, start);
            }
            spent.result()
        };
        executor.spawn(timing).await
    })
}

//! A client of the hunt: sessions of a few steps each, drawn from its seed. Under faults any session may end at any moment; in the end, when
//! all is well, it must have one session of each pool that goes well from the login to the goodbye, however long it waits for that.

use std::io;
use std::time::Duration;

use machinarium::{WaitError, sleep, spawn, timeout};

use super::steps::Steps;
use super::talk::{Door, Talk};
use crate::common::init::keep_starting;
use crate::common::random::Random;

/// What a client is to do.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) door: Door,
    pub(crate) number: usize,
    pub(crate) seed: u64,
    pub(crate) sessions: usize,
}

/// The main function of a client's host.
pub(crate) fn client(task: &Task) -> io::Result<()> {
    keep_starting(|begun| {
        machinarium::run(|| {
            begun.set(true);
            Ok(work(task)?)
        })
    })
}

fn work(task: &Task) -> Result<(), WaitError> {
    let mut random = Random(task.seed);
    for number in 0..task.sessions {
        let (seed, session) = (random.next(), task.clone());
        let patience = Duration::from_millis(50 << random.below(7));
        // How it ended is of no interest here.
        let visit = spawn(move || timeout(patience, || some_session(&session, number, seed)));
        // Some come together.
        if !random.once_in(3) {
            let _ = visit.join();
        }
        sleep(Duration::from_millis(random.below(100) as u64))?;
    }
    for database in ["transaction", "session"] {
        while good_session(task, database).is_err() {
            sleep(Duration::from_millis(10 + random.below(200) as u64))?;
        }
    }
    Ok(())
}

/// Of no other session, also of an earlier life.
fn name(task: &Task, what: &str) -> String {
    format!("c{}{what}@{}", task.number, machinarium::now().as_nanos())
}

fn some_session(task: &Task, number: usize, seed: u64) -> io::Result<()> {
    let mut random = Random(seed);
    let is_shared = random.below(3) > 0;
    let database = if is_shared { "transaction" } else { "session" };
    let memory = ["4MB", "1MB", "2MB"][random.below(3)].to_owned();
    let options = if memory == "4MB" { Vec::new() } else { vec![("work_mem", memory.clone())] };
    let talk = Talk::open(&task.door, database, name(task, &format!(".{number}")), &options)?;
    let mut steps = Steps::new(talk, random, is_shared, memory);
    let count = steps.random.below(8);
    (0..count).try_for_each(|_| steps.step())?;
    steps.end()
}

/// What nothing may keep from going well.
fn good_session(task: &Task, database: &str) -> io::Result<()> {
    let mut talk = Talk::open(&task.door, database, name(task, "!"), &[])?;
    for (statement, rows) in [("BEGIN", 0), ("SELECT rows 3", 3), ("COMMIT", 0), ("SELECT rows 1", 1)] {
        let answer = talk.ask(statement)?;
        assert_eq!((answer.error.as_deref(), answer.rows.len()), (None, rows), "{statement}");
    }
    talk.end()
}

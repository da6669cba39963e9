//! The operator of the hunt, at the console: looks at tables, pauses, resumes, reloads and ends sessions, and in the end, when the clients have
//! gone, sees that the pooler has nothing left of them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use machinarium::{WaitError, sleep, timeout};

use super::backend::Census;
use super::console::{Console, Table};
use super::talk::Door;
use crate::common::init::keep_starting;
use crate::common::random::Random;

/// What an operator is to do.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) door: Door,
    pub(crate) seed: u64,
    pub(crate) commands: usize,
    /// The clients have done.
    pub(crate) quiet: Arc<AtomicBool>,
    pub(crate) census: Census,
}

/// The main function of the operator's host.
pub(crate) fn operate(task: &Task) -> io::Result<()> {
    keep_starting(|begun| {
        machinarium::run(|| {
            begun.set(true);
            Ok(work(task)?)
        })
    })
}

fn work(task: &Task) -> Result<(), WaitError> {
    let mut random = Random(task.seed);
    for _ in 0..task.commands {
        let patience = Duration::from_millis(100 << random.below(5));
        // How it ended is of no interest here.
        let _ = timeout(patience, || command(&task.door, &mut random));
        sleep(Duration::from_millis(random.below(300) as u64))?;
    }
    // A PAUSE that was given up may come later than what follows it.
    while !task.quiet.load(Relaxed) {
        let _ = timeout(Duration::from_secs(1), || Console::open(&task.door)?.run("RESUME"));
        sleep(Duration::from_millis(200))?;
    }
    while !timeout(Duration::from_secs(1), || is_quiet(task)).unwrap_or(false) {
        sleep(Duration::from_millis(200))?;
    }
    Ok(())
}

fn command(door: &Door, random: &mut Random) -> io::Result<()> {
    let mut console = Console::open(door)?;
    let database = ["", " transaction", " session"][random.below(3)];
    match random.below(8) {
        0 | 1 => {
            let _ = console.run(&format!("PAUSE{database}"))?;
            sleep(Duration::from_millis(random.below(300) as u64))?;
            console.run(&format!("RESUME{database}"))?;
        }
        2 => drop(console.run("RELOAD")?),
        3 | 4 => {
            let clients = console.show("CLIENTS")?;
            if let Some(id) = clients.column("id").nth(random.below(4)) {
                console.run(&format!("KILL {id}"))?;
            }
        }
        _ => {
            check_sizes(&console.show("POOLS")?);
            for name in ["SERVERS", "CLIENTS", "STATS", "CONFIG"] {
                console.show(name)?;
            }
        }
    }
    console.end()
}

/// No pool has more connections than it may have, or than it had before it was to have fewer.
fn check_sizes(pools: &Table) {
    for row in pools.rows() {
        let count = |name: &str| row.number(name);
        let all = count("servers_active") + count("servers_idle") + count("servers_opening");
        assert!(all <= super::LARGEST, "{all} connections: {row:?}");
    }
}

/// Whether nobody has or waits for anything, and all tables say the same as the backend.
fn is_quiet(task: &Task) -> io::Result<bool> {
    let mut console = Console::open(&task.door)?;
    let (pools, servers, clients) =
        (console.show("POOLS")?, console.show("SERVERS")?, console.show("CLIENTS")?);
    let sum = |name: &str| pools.rows().map(|row| row.number(name)).sum::<usize>();
    let (active, idle) = (sum("servers_active"), sum("servers_idle"));
    let quiet = active + sum("servers_opening") + sum("clients_waiting") + sum("clients_active") == 0;
    console.end()?;
    // The operator is one of the clients.
    Ok(quiet && idle == servers.rows().count() && idle == task.census.count() && clients.rows().count() == 1)
}

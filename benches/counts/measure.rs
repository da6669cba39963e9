//! How it is counted: instructions by callgrind, in a child process whose machines run on the simulated kernel; system calls
//! here, on Linux; those of two threads that race, also on the simulated kernel.

use std::io;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use machinarium::kernel::{Kernel, Linux, Traced};
use machinarium::machine::current::{self, Starter, Tuning};
use machinarium_sim::{Faults, Simulation};

use crate::mark::{self, PATTERN};
use crate::operations::{OPERATIONS, Operation, ROUNDS};
use crate::table::Row;

/// Says to the child what it is.
pub(crate) const SIMULATED: &str = "--simulated";

/// A row for each operation.
pub(crate) fn measure() -> io::Result<Vec<Row>> {
    let folder = std::env::temp_dir().join(format!("counts-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let instructions = callgrind(&folder);
    std::fs::remove_dir_all(&folder)?;
    OPERATIONS
        .iter()
        .zip(instructions?)
        .map(|(operation, instructions)| {
            let each = |count: u64| count as f64 / f64::from(ROUNDS * operation.each_round);
            let name = operation.name.to_owned();
            Ok(Row { name, instructions: each(instructions), calls: each(system_calls(operation)?) })
        })
        .collect()
}

/// Instructions between the marks of each operation.
fn callgrind(folder: &Path) -> io::Result<Vec<u64>> {
    let output = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--dump-before={PATTERN}"))
        .arg(format!("--callgrind-out-file={}", folder.join("out").display()))
        .arg(std::env::current_exe()?)
        .arg(SIMULATED)
        .output()
        .map_err(|error| io::Error::other(format!("valgrind: {error}")))?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr)));
    }
    // The files are numbered from 1. What came before an operation's first mark is in one, the operation itself in the next.
    (1..=OPERATIONS.len()).map(|number| total(&folder.join(format!("out.{}", 2 * number)))).collect()
}

fn total(file: &Path) -> io::Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.ok_or_else(|| io::Error::other(format!("{} has no total", file.display())))
}

/// All operations: what runs in the child.
pub(crate) fn simulated() {
    OPERATIONS.iter().for_each(|operation| in_world(operation.name, || machinarium::run(operation.run)));
}

/// Runs `main` in a world where nothing goes wrong.
fn in_world(name: &str, main: impl Fn() -> io::Result<()> + Clone + Send + Sync + 'static) {
    let outcome = Simulation::new(1).faults(Faults::none()).run(move |world| {
        let host = world.host("host").run(main.clone());
        while !host.finished() {
            world.sleep(Duration::from_secs(1));
        }
    });
    assert!(outcome.passed(), "{name}: {}", outcome.report("counts"));
}

fn system_calls(operation: &'static Operation) -> io::Result<u64> {
    if operation.races {
        in_world(operation.name, || traced(current::kernel(), operation.run));
    } else {
        traced(Rc::new(Linux::new()), operation.run)?;
    }
    Ok(mark::calls())
}

fn traced(kernel: Rc<dyn Kernel>, run: fn() -> io::Result<()>) -> io::Result<()> {
    let kernel = Rc::new(Traced::new(kernel, Arc::new(mark::count)));
    current::with_kernel(kernel, Rc::new(Plain), || machinarium::run(run))
}

/// Leaves machines as they want to be.
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

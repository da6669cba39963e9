//! Several machines as one: work goes to the one that has least of it.
//!
//! The load of a machine is how many coroutines it was given here that have not ended: a number that is raised before the work is sent,
//! so that many who come at once are spread too. Nobody takes work from another: a coroutine stays where it was started.
//!
//! How a group accepts connections is in `listen`.

mod listen;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Cause, Misuse};
use crate::kernel::Instant;
use crate::machine::builder::Builder;
use crate::machine::{self, Handle, Remote, RemoteJoin, Tuning, current, shield};
use crate::time::sleep_until;
use listen::Accepting;

pub use listen::{ListenError, Listening};

/// This machine and some that it has started, for work that any of them can do. Dropping it asks the others to end.
///
/// ```
/// use machinarium::Group;
///
/// let result: std::io::Result<u64> = machinarium::run(|| {
///     let group = Group::start("worker", 3)?;
///     let parts: Vec<_> = (0..9_u64).map(|n| group.spawn(move || n * n)).collect::<Result<_, _>>()?;
///     let squares: Result<Vec<u64>, _> = parts.into_iter().map(|part| part.join()).collect();
///     group.end("all is done")?;
///     Ok(squares?.iter().sum())
/// });
/// assert_eq!(result.unwrap(), 204);
/// ```
pub struct Group {
    members: Arc<Members>,
    others: Vec<Handle<()>>,
    /// What accepts for it.
    listening: RefCell<Vec<Arc<Accepting>>>,
}

/// The machines, this one first.
struct Members {
    list: Vec<Member>,
    /// Whose turn it is, of those that have equal loads.
    turn: AtomicUsize,
}

#[derive(Clone)]
struct Member {
    remote: Remote,
    load: Arc<AtomicUsize>,
}

/// A coroutine's part of its machine's load.
struct Part(Arc<AtomicUsize>);

impl Part {
    fn of(load: &Arc<AtomicUsize>) -> Part {
        // Relaxed: a number of its own, by which nothing is ordered.
        load.fetch_add(1, Ordering::Relaxed);
        Part(load.clone())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Group {
    /// This machine and `count - 1` others, `name-1` and so on, with its configuration. Waits until all of them serve.
    ///
    /// # Errors
    /// As for [`machine::spawn`](crate::machine::spawn()), of the first machine that cannot start; those before it are asked to end.
    pub fn start(name: &str, count: usize) -> io::Result<Group> {
        let tuning: Tuning = current::machine().ok_or(Misuse::NoMachine)?.tuning.clone();
        Group::start_with(count, |number| {
            Builder::new().tuning(tuning.clone()).name(&format!("{name}-{number}"))
        })
    }

    /// The same with a configuration for each of the others, which are numbered from 1: to give each a processor of its own, for
    /// example.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_with(count: usize, configure: impl Fn(usize) -> Builder) -> io::Result<Group> {
        let mut starting = Starting(Vec::new());
        let mut list = vec![Member::new(machine::current()?)];
        for number in 1..count {
            let other = configure(number).spawn(wait_for_stop)?;
            list.push(Member::new(other.remote()));
            starting.0.push(other);
        }
        let members = Arc::new(Members { list, turn: AtomicUsize::new(0) });
        Ok(Group { members, others: std::mem::take(&mut starting.0), listening: RefCell::default() })
    }

    /// Starts a coroutine on the machine that has fewest of those that were started so; of several that have equally few, on the next
    /// in turn. One that has ended, though the group has not, gets none.
    ///
    /// # Errors
    /// As for [`Remote::spawn`](crate::machine::Remote::spawn).
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<RemoteJoin<T>, Misuse> {
        let member = self.members.least_loaded().ok_or(Misuse::MachineEnded)?;
        let part = Part::of(&member.load);
        member.remote.spawn(move || {
            let _part = part;
            f()
        })
    }

    /// The machines, this one first.
    pub fn machines(&self) -> impl Iterator<Item = &Remote> {
        self.members.list.iter().map(|member| &member.remote)
    }

    /// How many coroutines each has that were started by [`spawn`](Self::spawn), or for a connection, and have not ended.
    pub fn loads(&self) -> Vec<usize> {
        self.members.list.iter().map(|member| member.load.load(Ordering::Relaxed)).collect()
    }

    /// Ends the other machines, once nobody accepts for the group any more: what still runs there may go on for as long as [`Builder::drain`](crate::Builder::drain) says, and is
    /// cancelled then. Waits for them, out of reach of deadlines and cancellation.
    ///
    /// # Errors
    /// If the end of one of them has failed; all have ended then, too.
    pub fn end(mut self, cause: impl Into<Cause>) -> io::Result<()> {
        let (cause, others) = (cause.into(), std::mem::take(&mut self.others));
        for accepting in self.listen_no_more(&cause) {
            // It fails only where nothing can be waited for, as the joins will say.
            let _ = accepting.wait_for_end();
        }
        others.iter().for_each(|other| other.stop(cause.clone()));
        let mut result = Ok(());
        for other in others {
            result = shield(|| other.join()).map_err(io::Error::from).and(result);
        }
        result
    }

    fn listen_no_more(&self, cause: &Cause) -> Vec<Arc<Accepting>> {
        let listening = self.listening.take();
        listening.iter().for_each(|accepting| accepting.end(cause.clone()));
        listening
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.listen_no_more(&Cause::Borrowed("the group was dropped"));
        self.others.iter().for_each(|other| other.stop("the group was dropped"));
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.machines().zip(self.loads())).finish()
    }
}

impl Members {
    /// `None`: all have ended.
    fn least_loaded(&self) -> Option<&Member> {
        // Relaxed: a hint.
        let (count, first) = (self.list.len(), self.turn.load(Ordering::Relaxed));
        let places = (0..count).map(|place| (first + place) % count);
        let serving = places.filter(|place| !self.list[*place].remote.has_ended());
        let least = serving.min_by_key(|place| self.list[*place].load.load(Ordering::Relaxed))?;
        self.turn.store((least + 1) % count, Ordering::Relaxed);
        Some(&self.list[least])
    }
}

impl Member {
    fn new(remote: Remote) -> Member {
        Member { remote, load: Arc::default() }
    }
}

/// Those that have been started for a group that is not there yet.
struct Starting(Vec<Handle<()>>);

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.iter().for_each(|other| other.stop("the group could not start"));
    }
}

/// The main function of the others.
fn wait_for_stop() {
    while sleep_until(Instant::FAR).is_ok() {}
}

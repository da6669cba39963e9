//! Who waits for whom: the coroutines and threads of a world at one moment, what each waits for, and who could end that.
//!
//! | waits for | who could end it |
//! |---|---|
//! | a coroutine or a thread to end | that one |
//! | a descriptor of a connection | whoever in the other end's process waits for that end, and could use it else |
//! | a mutex | who has it |
//! | a channel, a permit, a futex | not known: the backtraces say where it stands |
//!
//! A *circle* is a way along these arrows that comes back. In a world that cannot move any more it is the deadlock; in one that can,
//! only if all of it stands still meanwhile.

use std::fmt::Write as _;
use std::rc::Rc;

use machinarium::kernel::{Fd, Instant};

use crate::env::ProcessIndex;
use crate::files::File;
use crate::process::Life;
use crate::scheduler::{Phase, ThreadIndex, WaitsFor};
use crate::thread::Strand;
use crate::world::{Shared, State};

/// One that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wait {
    pub(crate) thread: ThreadIndex,
    /// 0: the thread itself.
    pub(crate) coroutine: u64,
    /// Host, thread, and coroutine: "server/main, coroutine 3 'reader'".
    pub(crate) name: String,
    pub(crate) what: &'static str,
    pub(crate) number: i64,
    fd: Option<Fd>,
    /// Which of its waits.
    wait: u64,
    deadline: Instant,
    /// Who has it: a thread and a coroutine.
    holder: Option<(ThreadIndex, u64)>,
}

/// All that wait at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits {
    all: Vec<Wait>,
    /// By place in `all`: who could end that wait.
    ends: Vec<Vec<usize>>,
    /// In words, where nobody could.
    hints: Vec<Option<String>>,
}

impl Shared {
    /// Who waits for whom now. On the world's stack.
    pub(crate) fn waits(&self, state: &State) -> Waits {
        let strands = self.strands.borrow();
        let mut all = Vec::new();
        for (index, strand) in strands.iter().enumerate() {
            let thread = ThreadIndex(index as u32);
            if matches!(state.sched.threads[index].phase, Phase::Ended | Phase::Dead) || strand.is_fresh() {
                continue;
            }
            collect(state, thread, strand, &strands, &mut all);
        }
        let mut waits = Waits { ends: Vec::new(), hints: Vec::new(), all };
        for place in 0..waits.all.len() {
            let (ends, hint) = waits.who_ends(state, &waits.all[place]);
            waits.ends.push(ends);
            waits.hints.push(hint);
        }
        waits
    }
}

fn collect(state: &State, thread: ThreadIndex, strand: &Strand, strands: &[Rc<Strand>], all: &mut Vec<Wait>) {
    let thread_of = |machine| {
        let place = strands.iter().position(|strand| strand.machine() == machine);
        place.map(|place| ThreadIndex(place as u32))
    };
    let name = state.full_name(thread);
    let before = all.len();
    strand.for_each_wait(&mut |waits| {
        let quoted = if waits.name.is_empty() { String::new() } else { format!(" '{}'", waits.name) };
        all.push(Wait {
            thread,
            coroutine: waits.id,
            name: format!("{name}, coroutine {}{quoted}", waits.id),
            what: waits.what,
            number: waits.number,
            fd: waits.readiness.map(|(fd, _)| fd),
            wait: waits.wait,
            deadline: waits.deadline,
            holder: waits.holder.and_then(|(machine, id)| Some((thread_of(machine)?, id))),
        });
    });
    let record = &state.sched.threads[thread.0 as usize];
    let (Phase::Asleep, Some(sleep)) = (record.phase, record.sleep) else { return };
    let (what, number) = match sleep.on {
        WaitsFor::Join(other) => ("join thread", i64::from(other.0)),
        WaitsFor::Futex(_) => ("futex", -1),
        // A machine sleeps for its coroutines, which are there.
        WaitsFor::Epoll(_) if all.len() > before => return,
        WaitsFor::Epoll(_) => ("epoll_wait", -1),
        WaitsFor::Call(_) => ("a call", -1),
        WaitsFor::Time => ("sleep", -1),
    };
    let deadline = Instant::from_nanos(sleep.until);
    all.push(Wait { thread, coroutine: 0, name, what, number, fd: None, wait: 0, deadline, holder: None });
}

impl Waits {
    fn who_ends(&self, state: &State, wait: &Wait) -> (Vec<usize>, Option<String>) {
        let of = |wanted: &dyn Fn(&Wait) -> bool| -> Vec<usize> {
            (0..self.all.len()).filter(|place| wanted(&self.all[*place])).collect()
        };
        if wait.what == "join coroutine" {
            let joined = |other: &Wait| other.thread == wait.thread && other.coroutine as i64 == wait.number;
            let ends = of(&joined);
            let hint = ends.is_empty().then(|| format!("coroutine {}, which could run", wait.number));
            return (ends, hint);
        }
        if wait.what == "join thread" {
            return (of(&|other| i64::from(other.thread.0) == wait.number), None);
        }
        if let Some((thread, id)) = wait.holder {
            let ends = of(&|other| (other.thread, other.coroutine) == (thread, id));
            let hint = format!("coroutine {id} of {} has it, and could run", state.full_name(thread));
            let hint = ends.is_empty().then_some(hint);
            return (ends, hint);
        }
        let process = state.sched.threads[wait.thread.0 as usize].process;
        let Some((process, fd)) = process.zip(wait.fd) else { return (Vec::new(), None) };
        match state.other_end(process, fd) {
            OtherEnd::There(other, other_fd) => {
                let process_of = |wait: &Wait| state.sched.threads[wait.thread.0 as usize].process;
                let ends = of(&|wait| process_of(wait) == Some(other) && wait.fd == Some(other_fd));
                let host = state.sched.host_name(Some(state.processes[other.0 as usize].host));
                let hint =
                    format!("the other end is descriptor {other_fd} of {host}, for which nobody waits");
                let hint = ends.is_empty().then_some(hint);
                (ends, hint)
            }
            OtherEnd::Gone => (Vec::new(), Some("the other end is closed, or its host is down".to_owned())),
            OtherEnd::None => (Vec::new(), None),
        }
    }

    /// A circle, as places in `all`, if there is one.
    fn circle(&self) -> Option<Vec<usize>> {
        let mut finished = vec![false; self.all.len()];
        (0..self.all.len()).find_map(|start| {
            let mut way = Vec::new();
            self.walk(start, &mut way, &mut finished)
        })
    }

    fn walk(&self, place: usize, way: &mut Vec<usize>, finished: &mut [bool]) -> Option<Vec<usize>> {
        if let Some(begin) = way.iter().position(|other| *other == place) {
            return Some(way[begin..].to_vec());
        }
        if finished[place] {
            return None;
        }
        way.push(place);
        let circle = self.ends[place].iter().find_map(|next| self.walk(*next, way, finished));
        way.pop();
        finished[place] = true;
        circle
    }

    /// The circle in words, if there is one that nothing but itself can end.
    pub(crate) fn deadlock(&self) -> Option<String> {
        let circle = self.circle()?;
        if circle.iter().any(|place| self.all[*place].deadline < Instant::FAR) {
            return None;
        }
        let mut text = String::new();
        for (step, place) in circle.iter().enumerate() {
            let wait = &self.all[*place];
            let joint = if step == 0 { "" } else { ", which " };
            let who = if step == 0 { format!("{} ", wait.name) } else { String::new() };
            let next = &self.all[circle[(step + 1) % circle.len()]];
            let _ = write!(text, "{joint}{who}waits ({}) for {}", wait.in_words(), next.name);
        }
        Some(text)
    }

    /// The circle in words, if all of it stands as it did before.
    pub(crate) fn lasting_deadlock(&self, before: &Waits) -> Option<String> {
        let circle = self.circle()?;
        circle.iter().all(|place| before.all.contains(&self.all[*place])).then(|| self.deadlock()).flatten()
    }

    /// One that has waited for its turn at something since `before`.
    pub(crate) fn starving(&self, before: &Waits) -> Option<&Wait> {
        let unmoved = |wait: &&Wait| before.all.contains(wait) && TURNS.contains(&wait.what);
        self.all.iter().find(unmoved)
    }

    /// All of it, in lines.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (place, wait) in self.all.iter().enumerate() {
            let names: Vec<&str> = self.ends[place].iter().map(|end| self.all[*end].name.as_str()).collect();
            let who = match &self.hints[place] {
                Some(hint) => format!(" -> {hint}"),
                None if names.is_empty() => String::new(),
                None => format!(" -> {}", names.join(" or ")),
            };
            let _ = writeln!(text, "  {}: {}{who}", wait.name, wait.in_words());
        }
        if let Some(circle) = self.deadlock() {
            let _ = writeln!(text, "  a circle: {circle}");
        }
        text
    }
}

/// What is had by one after the other.
const TURNS: [&str; 5] = ["lock", "read lock", "write lock", "semaphore", "its turn on fd"];

impl Wait {
    pub(crate) fn in_words(&self) -> String {
        if self.number < 0 { self.what.to_owned() } else { format!("{} {}", self.what, self.number) }
    }
}

/// What a descriptor is connected to.
enum OtherEnd {
    There(ProcessIndex, Fd),
    Gone,
    /// It has no other end: a listener, an eventfd.
    None,
}

impl State {
    fn other_end(&self, process: ProcessIndex, fd: Fd) -> OtherEnd {
        let end = match self.net.table(process).get(fd) {
            Ok(File::Socket(key)) if self.net.sockets[key].remote.is_none() => return OtherEnd::None,
            Ok(File::Socket(key)) => self.net.sockets[key].other_end().map(File::Socket),
            Ok(File::Unix(key)) => match self.net.unixes[key].other_end() {
                None => return OtherEnd::None,
                end => end.map(File::Unix),
            },
            _ => return OtherEnd::None,
        };
        let Some(end) = end else { return OtherEnd::Gone };
        let alive = self.processes.iter().enumerate().filter(|(_, process)| process.life == Life::Running);
        for (index, _) in alive {
            let index = ProcessIndex(index as u32);
            let found = self.net.table(index).iter().find(|(_, file)| *file == end);
            if let Some((fd, _)) = found {
                return OtherEnd::There(index, fd);
            }
        }
        OtherEnd::Gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(arrows: &[(usize, usize)]) -> Waits {
        let one = |place: usize| Wait {
            thread: ThreadIndex(0),
            coroutine: place as u64 + 1,
            name: format!("c{}", place + 1),
            what: "join coroutine",
            number: 1,
            fd: None,
            wait: 7,
            deadline: Instant::FAR,
            holder: None,
        };
        let mut ends = vec![Vec::new(); 4];
        arrows.iter().for_each(|(from, to)| ends[*from].push(*to));
        Waits { all: (0..4).map(one).collect(), ends, hints: vec![None; 4] }
    }

    #[test]
    fn circles_are_found_and_named() {
        assert_eq!(waits(&[(0, 1), (1, 2), (0, 3), (3, 2)]).circle(), None);
        let round = waits(&[(0, 1), (1, 2), (2, 1), (0, 3)]);
        assert_eq!(round.circle(), Some(vec![1, 2]));
        let words = "c2 waits (join coroutine 1) for c3, which waits (join coroutine 1) for c2";
        assert_eq!(round.deadlock().as_deref(), Some(words));
    }

    #[test]
    fn what_ends_by_itself_or_moves_is_no_deadlock() {
        let mut round = waits(&[(0, 1), (1, 0)]);
        let before = round.clone();
        assert!(round.lasting_deadlock(&before).is_some());
        round.all[1].wait = 8;
        assert_eq!(round.lasting_deadlock(&before), None);
        round.all[1].deadline = Instant::from_nanos(5);
        assert_eq!(round.deadlock(), None);
    }
}

//! What the viewer shows and how: two snapshots, the order and the filter of the coroutines, and where in the list one is.

use std::cmp::Ordering;
use std::io;
use std::time::Duration;

use crate::keys::Key;
use crate::snapshot::{Coroutine, Machine, Rates, Snapshot};

/// See the head of the file.
pub(crate) struct View {
    /// The socket's.
    pub(crate) name: String,
    pub(crate) now: Snapshot,
    before: Option<Snapshot>,
    /// Why there is nothing newer.
    pub(crate) lost: Option<String>,
    pub(crate) paused: bool,
    pub(crate) sort: Column,
    pub(crate) reversed: bool,
    pub(crate) filter: String,
    /// Whether what is typed is for the filter.
    pub(crate) typing: bool,
    /// The first coroutine that is shown.
    pub(crate) top: usize,
}

/// By which column coroutines are in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Column {
    Machine,
    Name,
    State,
    WaitsFor,
    EndsIn,
}

/// Whether the viewer goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Stay,
    Quit,
}

/// A machine as a row.
pub(crate) struct MachineRow<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) rates: Option<Rates>,
    /// Whether it was there at the last look only.
    pub(crate) ended: bool,
}

/// A coroutine as a row.
pub(crate) struct CoroutineRow<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) coroutine: &'a Coroutine,
    /// When its wait ends by itself.
    pub(crate) ends_in: Option<Duration>,
}

impl Column {
    fn next(self) -> Column {
        match self {
            Column::Machine => Column::Name,
            Column::Name => Column::State,
            Column::State => Column::WaitsFor,
            Column::WaitsFor => Column::EndsIn,
            Column::EndsIn => Column::Machine,
        }
    }
}

impl View {
    pub(crate) fn new(name: String) -> View {
        View {
            name,
            now: Snapshot::default(),
            before: None,
            lost: None,
            paused: false,
            sort: Column::Machine,
            reversed: false,
            filter: String::new(),
            typing: false,
            top: 0,
        }
    }

    /// The next moment, unless time stands still. What another process has counted is no begin of a rate.
    pub(crate) fn see(&mut self, snapshot: Snapshot) {
        self.lost = None;
        if !self.paused {
            let before = std::mem::replace(&mut self.now, snapshot);
            self.before = Some(before).filter(|before| before.process == self.now.process);
        }
    }

    /// There is no next moment: the last one stays.
    pub(crate) fn lose(&mut self, why: &io::Error) {
        self.lost = Some(why.to_string());
    }

    /// Does what a key says, on a screen of so many lines.
    pub(crate) fn press(&mut self, key: Key, height: usize) -> Step {
        if self.typing {
            self.type_filter(key);
            return Step::Stay;
        }
        let page = height.saturating_sub(self.now.machines.len() + 5).max(1);
        match key {
            Key::Char('q') => return Step::Quit,
            Key::Char(' ' | 'p') => self.paused = !self.paused,
            Key::Char('s') => self.sort = self.sort.next(),
            Key::Char('r') => self.reversed = !self.reversed,
            Key::Char('/') => self.typing = true,
            Key::Escape => self.filter.clear(),
            Key::Up => self.top = self.top.saturating_sub(1),
            Key::Down => self.top += 1,
            Key::PageUp => self.top = self.top.saturating_sub(page),
            Key::PageDown => self.top += page,
            Key::Home => self.top = 0,
            Key::End => self.top = usize::MAX,
            _ => {}
        }
        self.top = self.top.min(self.coroutines().len().saturating_sub(page));
        Step::Stay
    }

    fn type_filter(&mut self, key: Key) {
        self.top = 0;
        match key {
            Key::Char(c) => self.filter.push(c),
            Key::Backspace => drop(self.filter.pop()),
            Key::Enter => self.typing = false,
            Key::Escape => {
                self.filter.clear();
                self.typing = false;
            }
            _ => {}
        }
    }

    /// The machines that are there, and then those that were.
    pub(crate) fn machines(&self) -> Vec<MachineRow<'_>> {
        let of = |snapshot: &'_ Snapshot, number: u64| {
            snapshot.machines.iter().position(|machine| machine.machine == number)
        };
        let before = |machine: &Machine| {
            let before = self.before.as_ref()?;
            let between = Duration::from_nanos(self.now.now_ns.saturating_sub(before.now_ns));
            machine.rates(&before.machines[of(before, machine.machine)?], between)
        };
        let here = self.now.machines.iter();
        let here = here.map(|machine| MachineRow { machine, rates: before(machine), ended: false });
        let gone = self.before.iter().flat_map(|before| &before.machines);
        let gone = gone.filter(|machine| of(&self.now, machine.machine).is_none());
        here.chain(gone.map(|machine| MachineRow { machine, rates: None, ended: true })).collect()
    }

    /// Those whose words contain the filter, in order.
    pub(crate) fn coroutines(&self) -> Vec<CoroutineRow<'_>> {
        let of = |machine| move |coroutine| self.row(machine, coroutine);
        let machines = self.now.machines.iter();
        let all = machines.flat_map(|machine| machine.list.iter().flatten().map(of(machine)));
        let mut rows: Vec<_> = all.filter(|row| self.matches(row)).collect();
        rows.sort_by(|one, other| {
            let order = self.compare(one, other);
            if self.reversed { order.reverse() } else { order }
        });
        rows
    }

    fn row<'a>(&self, machine: &'a Machine, coroutine: &'a Coroutine) -> CoroutineRow<'a> {
        let ends_in =
            coroutine.deadline_ns.map(|at| Duration::from_nanos(at.saturating_sub(self.now.now_ns)));
        CoroutineRow { machine, coroutine, ends_in }
    }

    fn matches(&self, row: &CoroutineRow<'_>) -> bool {
        let CoroutineRow { machine, coroutine, .. } = row;
        let words = [&machine.name, &coroutine.name, &coroutine.state, &coroutine.waits_for];
        words.iter().any(|word| word.to_lowercase().contains(&self.filter.to_lowercase()))
    }

    /// By the column; equal ones by their numbers. Who waits for ever comes last.
    fn compare(&self, one: &CoroutineRow<'_>, other: &CoroutineRow<'_>) -> Ordering {
        let (ours, theirs) = (one.coroutine, other.coroutine);
        let first = match self.sort {
            Column::Machine => Ordering::Equal,
            Column::Name => ours.name.cmp(&theirs.name),
            Column::State => ours.state.cmp(&theirs.state),
            Column::WaitsFor => ours.waits_for.cmp(&theirs.waits_for),
            Column::EndsIn => {
                one.ends_in.unwrap_or(Duration::MAX).cmp(&other.ends_in.unwrap_or(Duration::MAX))
            }
        };
        first.then((one.machine.machine, ours.id).cmp(&(other.machine.machine, theirs.id)))
    }
}

//! The epoll instance of a machine, and which source each event belongs to.
//!
//! A source is registered once, edge-triggered, for all it can tell, and stays until it is removed. The data of its events
//! is its slot and the slot's generation, so a late event never reaches the slot's next owner.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::Machine;
use super::wakeup::EVENTFD;
use crate::kernel::{self, EpollEvent, EpollOp, Errno, Events, Fd, Kernel};

/// What has a descriptor in the epoll instance.
pub(crate) trait Source {
    /// An event has come, on the root stack: mark, wake, read ahead; never block.
    fn ready(&self, machine: &Machine, events: Events);
}

/// Everything, at its edges.
const INTEREST: Events = Events::IN.with(Events::OUT).with(Events::RDHUP).with(Events::PRI).with(Events::ET);

/// Where a source stands in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    slot: u32,
    generation: u32,
}

impl Key {
    fn data(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    fn from_data(data: u64) -> Key {
        Key { slot: data as u32, generation: (data >> 32) as u32 }
    }
}

#[derive(Default)]
struct Entry {
    generation: u32,
    source: Option<Rc<dyn Source>>,
}

pub(crate) struct Poller {
    pub(crate) epoll: Fd,
    entries: RefCell<Vec<Entry>>,
    free: RefCell<Vec<u32>>,
    events: RefCell<Vec<EpollEvent>>,
    /// Connections that listeners have found and nobody has accepted: descriptors that are not watched yet.
    pub(crate) aside: Cell<usize>,
    pub(crate) calls: Cell<u64>,
    pub(crate) events_told: Cell<u64>,
}

impl Poller {
    pub(crate) fn new(kernel: &dyn Kernel, batch: usize) -> kernel::Result<Poller> {
        Ok(Poller {
            epoll: kernel.epoll_create1()?,
            entries: RefCell::default(),
            free: RefCell::default(),
            events: RefCell::new(vec![EpollEvent::default(); batch.max(1)]),
            aside: Cell::new(0),
            calls: Cell::new(0),
            events_told: Cell::new(0),
        })
    }

    /// How many sources there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.borrow().len() - self.free.borrow().len()
    }

    /// Registers `fd` for the life of `source`.
    pub(crate) fn add(&self, kernel: &dyn Kernel, fd: Fd, source: Rc<dyn Source>) -> kernel::Result<Key> {
        let key = self.reserve();
        let event = EpollEvent { events: INTEREST, data: key.data() };
        match kernel.epoll_ctl(self.epoll, EpollOp::Add(event), fd) {
            Ok(()) => {
                self.entries.borrow_mut()[key.slot as usize].source = Some(source);
                Ok(key)
            }
            Err(errno) => {
                self.retire(key);
                Err(errno)
            }
        }
    }

    /// Removes a source; its events that are still on their way find nobody.
    pub(crate) fn remove(&self, kernel: &dyn Kernel, fd: Fd, key: Key) {
        // It was registered by `add` and is closed after this, so an error would say nothing new.
        let _ = kernel.epoll_ctl(self.epoll, EpollOp::Delete, fd);
        self.retire(key);
    }

    /// The machine ends: sources that outlive it, in handles that were carried away, no longer keep it.
    pub(crate) fn clear(&self) {
        let sources: Vec<_> =
            self.entries.borrow_mut().iter_mut().filter_map(|entry| entry.source.take()).collect();
        drop(sources);
    }

    fn reserve(&self) -> Key {
        let mut entries = self.entries.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            entries.push(Entry::default());
            entries.len() as u32 - 1
        });
        Key { slot, generation: entries[slot as usize].generation }
    }

    fn retire(&self, key: Key) {
        let source = {
            let mut entries = self.entries.borrow_mut();
            let entry = &mut entries[key.slot as usize];
            debug_assert_eq!(entry.generation, key.generation, "a source is removed once");
            // An event is at most one batch late, and a slot cannot pass through 2^32 owners in one batch.
            entry.generation = entry.generation.wrapping_add(1);
            entry.source.take()
        };
        self.free.borrow_mut().push(key.slot);
        // Outside the borrow: the last reference may close another source.
        drop(source);
    }

    /// Sleeps for at most `timeout` (`None`: until an event) and tells the sources what has come.
    pub(crate) fn poll(&self, machine: &Machine, timeout: Option<Duration>) {
        let mut events = self.events.borrow_mut();
        self.calls.set(self.calls.get() + 1);
        let count = match machine.kernel.epoll_wait(self.epoll, &mut events, timeout) {
            Ok(count) => count,
            // The loop looks at everything again and comes back.
            Err(Errno::INTR) => 0,
            // No event will come any more: the process is being reclaimed.
            Err(kernel::errno::TEARDOWN) => {
                machine.reclaim();
                0
            }
            Err(errno) => panic!("epoll_wait on the machine's own descriptor: {errno}"),
        };
        self.events_told.set(self.events_told.get() + count as u64);
        for event in &events[..count] {
            let EpollEvent { events, data } = *event;
            if data != EVENTFD
                && let Some(source) = self.source(Key::from_data(data))
            {
                source.ready(machine, events);
            }
        }
    }

    fn source(&self, key: Key) -> Option<Rc<dyn Source>> {
        let entries = self.entries.borrow();
        let entry = entries.get(key.slot as usize)?;
        if entry.generation == key.generation { entry.source.clone() } else { None }
    }
}

//! Epoll as Linux does it: not a model of readiness, but the same ready list.
//!
//! An object that changes *calls back* each registration that watches it, with the events that the change is about
//! (none: every event). A registration whose mask fits is linked at the tail of its instance's ready list, once.
//! `epoll_wait` unlinks from the head, asks the object how it is *now*, and tells what the mask lets through:
//!
//! | registration | after it was told | linked again by |
//! |---|---|---|
//! | level | at the tail again, so that all get their turn | nothing: it drops out when asked and found not ready |
//! | edge | out of the list | the next call back |
//! | one-shot | out, and its mask is emptied | `EPOLL_CTL_MOD` |
//!
//! So a segment or an eventfd's write is an edge though the object was readable before, and a partial read is none.
//! Exclusive registrations are all called back: the manual promises that *one or more* of them hear of it.

use std::collections::VecDeque;

use machinarium::kernel::{EpollEvent, EpollOp, Errno, Events, Fd, Result};

use crate::env::{Env, EpollKey, ProcessIndex, Stream};
use crate::files::File;
use crate::net::Net;
use crate::slab::Key;

/// Bits of a registration that say how to tell, not what.
const HOW: Events = Events::ONESHOT.with(Events::ET).with(Events::EXCLUSIVE);
/// All that may stand beside `EPOLLEXCLUSIVE`.
const EXCLUSIVE_MAY: Events =
    Events::IN.with(Events::OUT).with(Events::ERR).with(Events::HUP).with(Events::ET).with(Events::EXCLUSIVE);
/// Told whether asked for or not.
const ALWAYS: Events = Events::ERR.with(Events::HUP);

/// An epoll instance.
pub(crate) struct Epoll {
    /// The ready list: registrations whose `linked` is set, each once.
    ready: VecDeque<Key>,
    /// All registrations, in no order that anybody sees.
    items: Vec<Key>,
    /// The registrations of this instance in other instances.
    pub(crate) watchers: Vec<Key>,
}

/// A registration.
pub(crate) struct Item {
    epoll: Key,
    pub(crate) file: File,
    events: Events,
    data: u64,
    linked: bool,
}

impl Epoll {
    pub(crate) fn new() -> Epoll {
        Epoll { ready: VecDeque::new(), items: Vec::new(), watchers: Vec::new() }
    }
}

impl Net {
    /// `epoll_create1(2)`.
    pub(crate) fn epoll_create1(&mut self, _env: &mut dyn Env, process: ProcessIndex) -> Result<Fd> {
        self.table(process).check_room()?;
        let key = self.epolls.insert(Epoll::new());
        self.table_mut(process).insert(File::Epoll(key))
    }

    /// `epoll_ctl(2)`.
    pub(crate) fn epoll_ctl(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        epoll: Fd,
        op: EpollOp,
        fd: Fd,
    ) -> Result<()> {
        let instance = self.table(process).get(epoll)?;
        let file = self.table(process).get(fd)?;
        if let File::Disk(_) = file {
            return Err(Errno::PERM);
        }
        let File::Epoll(instance_key) = instance else { return Err(Errno::INVAL) };
        if instance == file {
            return Err(Errno::INVAL);
        }
        check_exclusive(op, file)?;
        if let (EpollOp::Add(_), File::Epoll(inner)) = (op, file)
            && self.reaches(inner, instance_key)
        {
            return Err(Errno::LOOP);
        }
        let found = self.find_item(instance_key, file);
        match (op, found) {
            (EpollOp::Add(_), Some(_)) => Err(Errno::EXIST),
            (EpollOp::Modify(_) | EpollOp::Delete, None) => Err(Errno::NOENT),
            (EpollOp::Add(event), None) => {
                self.add_item(env, instance_key, file, event);
                Ok(())
            }
            (EpollOp::Modify(event), Some(item)) => self.modify_item(env, item, event),
            (EpollOp::Delete, Some(item)) => {
                self.remove_item(item);
                Ok(())
            }
        }
    }

    /// `epoll_wait(2)` without sleeping: fills `events` from the ready list.
    pub(crate) fn epoll_poll(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        epoll: Fd,
        events: &mut [EpollEvent],
    ) -> Result<usize> {
        let EpollKey(key) = self.epoll_key(process, epoll)?;
        if events.is_empty() {
            return Err(Errno::INVAL);
        }
        // Level-triggered registrations go back to the tail: not further than what is there now.
        let mut unseen = self.epolls[key].ready.len();
        let mut told = 0;
        while unseen > 0 && told < events.len() {
            unseen -= 1;
            let Some(item) = self.epolls[key].ready.pop_front() else { break };
            self.items[item].linked = false;
            let Item { file, events: mask, data, .. } = self.items[item];
            let now = self.poll_file(env, file).common(mask);
            if now.is_empty() {
                continue;
            }
            events[told] = EpollEvent { events: now, data };
            told += 1;
            if mask.intersects(Events::ONESHOT) {
                self.items[item].events = mask.common(HOW);
            } else if !mask.intersects(Events::ET) {
                self.link(key, item);
            }
        }
        Ok(told)
    }

    /// An event of one of the instance's sockets that says it can be read, though nothing has happened. `None` if no socket
    /// is there of which anybody wants to know.
    pub(crate) fn epoll_stale(
        &mut self,
        env: &mut dyn Env,
        process: ProcessIndex,
        epoll: Fd,
        stream: Stream,
    ) -> Option<EpollEvent> {
        let EpollKey(key) = self.epoll_key(process, epoll).ok()?;
        let wanted = |item: &Key| {
            let Item { file, events, linked, .. } = self.items[*item];
            let socket = matches!(file, File::Socket(_) | File::Udp(_) | File::Unix(_));
            socket && !linked && events.intersects(Events::IN)
        };
        let items: Vec<Key> = self.epolls[key].items.iter().copied().filter(wanted).collect();
        let which =
            items.len().checked_sub(1).map(|_| env.draw(stream, "stale event", items.len() as u64))?;
        let item = &mut self.items[items[which as usize]];
        if item.events.intersects(Events::ONESHOT) {
            item.events = item.events.common(HOW);
        }
        Some(EpollEvent { events: Events::IN, data: item.data })
    }

    /// Which instance `epoll` is: what a thread that goes to sleep waits for.
    pub(crate) fn epoll_key(&self, process: ProcessIndex, epoll: Fd) -> Result<EpollKey> {
        match self.table(process).get(epoll)? {
            File::Epoll(key) => Ok(EpollKey(key)),
            _ => Err(Errno::INVAL),
        }
    }

    /// How a file is now. As on Linux, asking a full socket leaves the wish to be told when there is room.
    fn poll_file(&mut self, env: &mut dyn Env, file: File) -> Events {
        match file {
            File::Socket(key) => self.poll_socket(env, key),
            File::Unix(key) => self.poll_unix(key),
            File::Udp(_) | File::Eventfd(_) | File::Epoll(_) | File::Disk(_) => self.peek_file(file),
        }
    }

    /// The same for oracles and nested instances: asking changes nothing.
    pub(crate) fn peek_file(&self, file: File) -> Events {
        match file {
            File::Socket(key) => self.sockets[key].poll(),
            File::Udp(key) => self.udps[key].poll(),
            File::Unix(key) => self.peek_unix(key),
            File::Eventfd(key) => self.eventfds[key].poll(),
            File::Disk(_) => READY,
            File::Epoll(key) => {
                let ready = self.epolls[key].ready.iter().map(|item| &self.items[*item]);
                let any = { ready }.any(|item| self.peek_file(item.file).intersects(item.events));
                if any { Events::IN } else { Events::NONE }
            }
        }
    }

    /// Something about `file` has changed. `about` is what; nothing means anything.
    pub(crate) fn notify(&mut self, env: &mut dyn Env, file: File, about: Events) {
        let mut next = 0;
        while let Some(item) = self.watchers(file).get(next).copied() {
            next += 1;
            self.call_back(env, item, about);
        }
    }

    fn call_back(&mut self, env: &mut dyn Env, item: Key, about: Events) {
        let Item { epoll, events, .. } = self.items[item];
        let disarmed = events.without(HOW).is_empty();
        if disarmed || !(about.is_empty() || about.intersects(events)) {
            return;
        }
        self.link(epoll, item);
        self.wake(env, epoll);
    }

    fn link(&mut self, epoll: Key, item: Key) {
        if !std::mem::replace(&mut self.items[item].linked, true) {
            self.epolls[epoll].ready.push_back(item);
        }
    }

    fn wake(&mut self, env: &mut dyn Env, epoll: Key) {
        env.wake(EpollKey(epoll));
        if !self.epolls[epoll].watchers.is_empty() {
            self.notify(env, File::Epoll(epoll), Events::IN);
        }
    }

    fn add_item(&mut self, env: &mut dyn Env, epoll: Key, file: File, event: EpollEvent) {
        let EpollEvent { events, data } = event;
        let item = self.items.insert(Item { epoll, file, events: events.with(ALWAYS), data, linked: false });
        self.epolls[epoll].items.push(item);
        self.watchers_mut(file).push(item);
        self.link_if_ready(env, item);
    }

    fn modify_item(&mut self, env: &mut dyn Env, item: Key, event: EpollEvent) -> Result<()> {
        let EpollEvent { events, data } = event;
        let registration = &mut self.items[item];
        if registration.events.intersects(Events::EXCLUSIVE) {
            return Err(Errno::INVAL);
        }
        registration.events = events.with(ALWAYS);
        registration.data = data;
        self.link_if_ready(env, item);
        Ok(())
    }

    fn link_if_ready(&mut self, env: &mut dyn Env, item: Key) {
        let Item { epoll, file, events, linked, .. } = self.items[item];
        if self.poll_file(env, file).intersects(events) && !linked {
            self.link(epoll, item);
            self.wake(env, epoll);
        }
    }

    fn remove_item(&mut self, item: Key) {
        let Item { epoll, file, linked, .. } = self.items.remove(item);
        let instance = &mut self.epolls[epoll];
        instance.items.retain(|other| *other != item);
        if linked {
            instance.ready.retain(|other| *other != item);
        }
        self.watchers_mut(file).retain(|other| *other != item);
    }

    /// The last descriptor of `file` is gone, and with it its registrations.
    pub(crate) fn forget_watchers(&mut self, file: File) {
        while let Some(item) = self.watchers(file).last().copied() {
            self.remove_item(item);
        }
    }

    pub(crate) fn close_epoll(&mut self, key: Key) {
        while let Some(item) = self.epolls[key].items.last().copied() {
            self.remove_item(item);
        }
        self.epolls.remove(key);
    }

    fn find_item(&self, epoll: Key, file: File) -> Option<Key> {
        self.watchers(file).iter().copied().find(|item| self.items[*item].epoll == epoll)
    }

    /// Whether `from` watches `to`, directly or through others.
    fn reaches(&self, from: Key, to: Key) -> bool {
        self.epolls[from].items.iter().any(|item| match self.items[*item].file {
            File::Epoll(inner) => inner == to || self.reaches(inner, to),
            _ => false,
        })
    }

    fn watchers(&self, file: File) -> &[Key] {
        match file {
            File::Socket(key) => &self.sockets[key].watchers,
            File::Udp(key) => &self.udps[key].watchers,
            File::Unix(key) => &self.unixes[key].watchers,
            File::Eventfd(key) => &self.eventfds[key].watchers,
            File::Epoll(key) => &self.epolls[key].watchers,
            File::Disk(_) => &[],
        }
    }

    fn watchers_mut(&mut self, file: File) -> &mut Vec<Key> {
        match file {
            File::Socket(key) => &mut self.sockets[key].watchers,
            File::Udp(key) => &mut self.udps[key].watchers,
            File::Unix(key) => &mut self.unixes[key].watchers,
            File::Eventfd(key) => &mut self.eventfds[key].watchers,
            File::Epoll(key) => &mut self.epolls[key].watchers,
            File::Disk(_) => unreachable!("EPERM: a file of a disk is not watched"),
        }
    }
}

/// What poll(2) says of a file of a disk.
const READY: Events = Events::IN.with(Events::OUT);

fn check_exclusive(op: EpollOp, file: File) -> Result<()> {
    let refused = match op {
        EpollOp::Add(EpollEvent { events, .. }) => {
            let nested = matches!(file, File::Epoll(_));
            events.intersects(Events::EXCLUSIVE) && (nested || !events.without(EXCLUSIVE_MAY).is_empty())
        }
        EpollOp::Modify(EpollEvent { events, .. }) => events.intersects(Events::EXCLUSIVE),
        EpollOp::Delete => false,
    };
    if refused { Err(Errno::INVAL) } else { Ok(()) }
}

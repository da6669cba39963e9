//! The room: one coroutine that hears of everything on one channel, from all machines, and so gives all lines one order.
//!
//! A member has a channel of its own, which bounds what waits for it. The room never waits for a member: one that is that far
//! behind is cut off, by dropping the sending end of its channel.

use std::collections::BTreeMap;
use std::sync::Arc;

use machinarium::sync::channel::{Receiver, Sender, bounded, unbounded};

use crate::config::Bug;

/// What members do.
enum Event {
    Enters { member: u64, lines: Sender<Arc<str>> },
    Says { member: u64, text: String },
    Leaves { member: u64 },
}

/// The way into the room, from any machine.
#[derive(Clone)]
pub(crate) struct Door {
    events: Sender<Event>,
    queue: usize,
}

/// Somebody in the room, who leaves when this is dropped.
pub(crate) struct Member {
    number: u64,
    events: Sender<Event>,
    /// What is said. It ends when the member is cut off.
    pub(crate) lines: Receiver<Arc<str>>,
}

/// Starts the room on this machine. It ends when the last door and member have gone.
pub(crate) fn open(queue: usize, bug: Option<Bug>) -> Door {
    let (events, heard) = unbounded();
    machinarium::spawn_named("room", move || Room { said: 0, members: BTreeMap::new(), bug }.run(&heard));
    Door { events, queue }
}

impl Door {
    /// `None` when the room has closed.
    pub(crate) fn enter(&self, number: u64) -> Option<Member> {
        let (sender, lines) = bounded(self.queue);
        self.events.try_send(Event::Enters { member: number, lines: sender }).ok()?;
        Some(Member { number, events: self.events.clone(), lines })
    }
}

impl Member {
    pub(crate) fn say(&self, text: &str) {
        let said = Event::Says { member: self.number, text: text.to_owned() };
        // A room that has closed has told its members so.
        let _ = self.events.try_send(said);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.events.try_send(Event::Leaves { member: self.number });
    }
}

struct Room {
    said: u64,
    members: BTreeMap<u64, Sender<Arc<str>>>,
    bug: Option<Bug>,
}

impl Room {
    fn run(mut self, heard: &Receiver<Event>) {
        while let Ok(event) = heard.recv() {
            match event {
                Event::Enters { member, lines } => drop(self.members.insert(member, lines)),
                Event::Leaves { member } => drop(self.members.remove(&member)),
                Event::Says { member, text } => self.tell(member, &text),
            }
            // Those of this machine who write to members get to it before more is said.
            machinarium::yield_now();
        }
    }

    /// Every line has a number, so that a gap would show.
    fn tell(&mut self, member: u64, text: &str) {
        self.said += 1;
        let line: Arc<str> = format!("{} {member}: {text}\n", self.said).into();
        let bug = self.bug;
        self.members.retain(|_, lines| lines.try_send(line.clone()).is_ok() || bug == Some(Bug::Gap));
    }
}
